"""Makes the files of NumPy that tests/it/numpy.rs reads, and checks the file that the crate wrote.

    python make_references.py           makes them anew
    python make_references.py --check   checks that NumPy reads written.npz and finds in it what is in savez.npz

Made with NumPy 2.4.6.
"""

import pathlib
import sys

import numpy as np

HERE = pathlib.Path(__file__).parent


def values(dtype: np.dtype) -> np.ndarray:
    """Six values that fill a type to its ends: the test in Rust has the same."""
    if dtype.kind == "b":
        row = [False, True, True, False, False, True]
    elif dtype.kind == "u":
        row = [0, 1, 2, 100, np.iinfo(dtype).max - 1, np.iinfo(dtype).max]
    elif dtype.kind == "i":
        row = [np.iinfo(dtype).min, -1, 0, 1, 100, np.iinfo(dtype).max]
    else:
        row = [0.0, 1.5, -2.25, np.inf, np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal]
    return np.array(row, dtype=dtype).reshape(2, 3)


def arrays() -> dict[str, np.ndarray]:
    """What is in the archives."""
    return {
        "images": np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6),
        "labels": np.array([3, 1, 0, 2], dtype=np.int64),
        "layer/kernel": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4),
        "zeros": np.zeros((40, 40), dtype=np.float32),
        "single": np.float32(7.5),
        "big": np.array([1.5, -2.0], dtype=">f4"),
        "none": np.zeros((0, 3), dtype=np.int16),
    }


def make() -> None:
    for kind in ["b1", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]:
        little = values(np.dtype("<" + kind))
        np.save(HERE / f"{kind}-little.npy", little)
        if little.dtype.itemsize > 1:
            np.save(HERE / f"{kind}-big.npy", little.astype(">" + kind))
    for version in [1, 2, 3]:
        with open(HERE / f"version-{version}.npy", "wb") as file:
            np.lib.format.write_array(file, values(np.dtype("<i4")), version=(version, 0))
    np.save(HERE / "fortran.npy", np.asfortranarray(values(np.dtype("<i4"))))
    np.save(HERE / "vector.npy", np.array([5, 6, 7], dtype="<i4"))
    np.save(HERE / "scalar.npy", np.array(2.5, dtype="<f4"))
    np.save(HERE / "empty.npy", np.zeros((0, 3), dtype="<f4"))
    np.save(HERE / "no-columns.npy", np.zeros((3, 0), dtype="<f4"))
    np.save(HERE / "objects.npy", np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
    np.save(HERE / "records.npy", np.zeros(2, dtype=[("a", "<f4"), ("b", "<i4")]))
    np.save(HERE / "complex.npy", np.zeros(2, dtype="<c8"))
    np.save(HERE / "strings.npy", np.array(["ab", "c"]))
    np.save(HERE / "times.npy", np.zeros(2, dtype="<M8[ns]"))
    np.savez(HERE / "savez.npz", **arrays())
    np.savez_compressed(HERE / "savez_compressed.npz", **arrays())


def check() -> None:
    with np.load(HERE / "written.npz") as written:
        assert sorted(written.files) == sorted(arrays()), written.files
        for name, expected in arrays().items():
            found = written[name]
            assert found.shape == np.shape(expected), name
            assert found.dtype.newbyteorder("=") == np.asarray(expected).dtype.newbyteorder("="), name
            assert np.array_equal(found, expected), name
    print("NumPy", np.__version__, "finds in written.npz what was saved")


if "--check" in sys.argv[1:]:
    check()
else:
    make()
