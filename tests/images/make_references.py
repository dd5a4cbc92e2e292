"""Makes the reference images and expected values of this folder; see README.md.

    python make_references.py [FOLDER]

FOLDER is where the files go, by default the folder of this script.
"""

import sys
import warnings
from pathlib import Path

import torch

from make_inputs import make_inputs
from make_reduced import make_reduced
from make_resize import make_resize
from make_transforms import make_transforms
from store import Store


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    # Sums over several threads may be taken in another order, and a float's last bit depends on it.
    torch.set_num_threads(1)
    # Pillow warns about the broken EXIF block and the palette transparency that are there on purpose.
    warnings.simplefilter("ignore", UserWarning)
    store = Store(folder)
    make_inputs(store)
    make_resize(store)
    make_reduced(store)
    make_transforms(store)


if __name__ == "__main__":
    main()
