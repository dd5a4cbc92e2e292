"""Makes `references.safetensors`: what PyTorch and Keras get when they train small models for 50 steps.

The tests of the trainer start from the same weights, see the same batches, and compare. The file holds the data, the
initial weights, and for each case of each framework the loss of every batch and the weights at the end; `README.md`
describes every tensor. It is made again, to the same bytes on the same machine, by

    pip install -r requirements.txt
    python make_references.py

Before anything is written the results are checked against each other, see `check`.
"""

from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save

import keras_cases
import torch_cases
from common import STEPS, UNDETERMINED_BY_ADAM, difference, make_data, make_initial, worst

TARGET = Path(__file__).with_name("references.safetensors")
SIZE_LIMIT = 150_000

# Cases in which the frameworks mean the same by the same settings. With Adam they do not: their epsilons differ.
EQUAL = ("sgd", "momentum", "nesterov")


def check(results, data, initial):
    """Asserts what must hold if both frameworks ran what was meant."""
    for (framework, case), result in results.items():
        assert result["losses"].shape == (STEPS,), (framework, case)
        for name, array in result.items():
            assert np.isfinite(array).all(), (framework, case, name)
        # Every weight was trained. An average that equals the weights, or them at the start, averaged nothing.
        model = (torch_cases if framework == "torch" else keras_cases).CASES[case].model
        for name, array in initial[model].items():
            assert np.array_equal(result[f"initial/{name}"], array), (framework, case, name)
            if (model, name) == ("norms", "hidden1/bias"):
                continue  # Has no gradient, see `UNDETERMINED_BY_ADAM`.
            assert difference(result[f"final/{name}"], array) > 1e-5, (framework, case, name)
            average = result.get(f"average/{name}")
            if average is not None:
                assert difference(average, result[f"final/{name}"]) > 1e-5, (framework, case, name)
                assert difference(average, array) > 1e-5, (framework, case, name)

    for case in EQUAL:
        apart, name = worst(results["keras", case], results["torch", case])
        print(f"torch and keras, {case}: {apart:.1e} ({name})")
        assert apart < 1e-5, (case, name)

    # Results that rounding does not move are the only ones another program can be held to.
    for name, case in torch_cases.CASES.items():
        uncertain = UNDETERMINED_BY_ADAM if case.model == "norms" and name != "norms_momentum" else ()
        exact = torch_cases.run(case, data, initial, torch.float64)
        apart, tensor = worst(results["torch", name], exact, skip=uncertain)
        print(f"torch in float32 and float64, {name}: {apart:.1e} ({tensor})")
        assert apart < 1e-5, (name, tensor)


def main():
    data, initial = make_data(), make_initial()
    results = {}
    for framework, module in (("torch", torch_cases), ("keras", keras_cases)):
        for name, case in module.CASES.items():
            results[framework, name] = module.run(case, data, initial)
    check(results, data, initial)

    tensors = {f"data/{name}": array for name, array in data.items()}
    for model, weights in initial.items():
        tensors |= {f"initial/{model}/{name}": array for name, array in weights.items()}
    for (framework, case), result in results.items():
        # The initial weights are the model's, the same for every case, as was checked.
        kept = {name: array for name, array in result.items() if not name.startswith("initial/")}
        tensors |= {f"{framework}/{case}/{name}": array for name, array in kept.items()}

    # One entry: with several their order in the file would be left to chance.
    made_with = ", ".join(f"{package} {version(package)}" for package in ("torch", "keras", "jax"))
    file = save(tensors, metadata={"made_with": made_with})
    assert len(file) < SIZE_LIMIT, len(file)
    TARGET.write_bytes(file)
    print(f"{TARGET.name}: {len(tensors)} tensors, {len(file)} bytes")


if __name__ == "__main__":
    main()
