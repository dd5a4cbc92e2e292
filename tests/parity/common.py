"""What both frameworks share: the data, the models' first weights, and how results are compared."""

import numpy as np

SEED = 20240229
STEPS = 50
ROWS = 10
INPUTS = 12
CLASSES = 4

# Which data a loss is taken against.
TARGETS = {"cross_entropy": "labels", "mse": "values", "bce": "bits"}

# A bias in front of batch norm has no effect on the loss: its gradient is zero but for rounding. Adam divides that
# rounding by its own size, so the bias wanders, and the moving mean with it: no two programs agree on them.
UNDETERMINED_BY_ADAM = ("hidden1/bias", "bn/moving_mean")


def make_data():
    """One batch per step; no batch is used twice."""
    rng = np.random.Generator(np.random.PCG64(SEED))
    outputs = (STEPS, ROWS, CLASSES)
    return {
        "x": rng.standard_normal((STEPS, ROWS, INPUTS), dtype=np.float32),
        "labels": rng.integers(0, CLASSES, (STEPS, ROWS)).astype(np.uint32),
        "values": rng.random(outputs, dtype=np.float32),
        "bits": rng.integers(0, 2, outputs).astype(np.float32),
    }


def make_initial():
    """The first weights of each model, `layer/param` to array, kernels as (inputs, outputs)."""
    rng = np.random.Generator(np.random.PCG64(SEED + 1))

    # Nothing starts at zero or one, so that no parameter can be left out unnoticed.
    def noise(*shape, around=0.0, scale=0.3):
        return (around + scale * rng.standard_normal(shape)).astype(np.float32)

    def dense(name, inputs, outputs):
        return {f"{name}/kernel": noise(inputs, outputs), f"{name}/bias": noise(outputs)}

    def norm(name, width):
        return {f"{name}/gamma": noise(width, around=1.0, scale=0.1), f"{name}/beta": noise(width)}

    # Only the moving statistics start where both frameworks start them.
    statistics = {
        "bn/moving_mean": np.zeros(16, np.float32),
        "bn/moving_variance": np.ones(16, np.float32),
    }
    plain = dense("hidden1", INPUTS, 16) | dense("hidden2", 16, 8) | dense("logits", 8, CLASSES)
    norms = (
        dense("hidden1", INPUTS, 16)
        | norm("bn", 16)
        | statistics
        | dense("hidden2", 16, 8)
        | norm("ln", 8)
        | dense("logits", 8, CLASSES)
    )
    return {"plain": plain, "norms": norms}


def difference(found, expected):
    """The largest difference of two tensors, relative to the largest value expected, if that is not zero."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    return np.abs(found - expected).max() / (np.abs(expected).max() or 1.0)


def worst(found, expected, skip=()):
    """The largest `difference` over two results, and whose it is. Names that end in one of `skip` are passed over."""
    assert found.keys() == expected.keys()
    names = (name for name in expected if not name.endswith(tuple(skip)))
    return max((difference(found[name], expected[name]), name) for name in names)
