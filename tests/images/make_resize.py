"""Pillow's resized pictures, for every filter."""

from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from pictures import noisy_picture

FILTERS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
SIZES = ((20, 30), (100, 80), (61, 47), (7, 5), (13, 90))
# Parts that are cut out first: the first reaches the picture's left edge, and the last is a twelfth of the picture.
PART_SIZES = ((20, 30), (13, 90))
PARTS = {"small": [(0, 3, 50, 41), (3, 1, 60, 46)], "large": [(10, 5, 181, 120), (40, 30, 90, 75)]}
PART_FILTERS = ("nearest", "bilinear", "bicubic", "lanczos")
# The largest results take most of the folder's room: for the large source one filter stands for all.
LARGEST, LARGEST_FILTER = (100, 80), "bilinear"
SOURCES = {"small": (61, 47, 21), "large": (200, 133, 22)}


def make_resize(store):
    sources, cases = [], []
    for name, (width, height, seed) in SOURCES.items():
        image = Image.fromarray(noisy_picture(width, height, seed))
        path = store.put(f"resize/{name}.rgb", image.tobytes())
        sources.append(dict(name=name, width=width, height=height, rgb=path))
        cases += _cases(store, name, image)
    store.write_index("resize.json", {"sources": sources, "cases": cases})


def _cases(store, name, image):
    cases = [
        _case(store, name, image, size, filter) for filter in FILTERS for size in SIZES if _is_kept(name, size, filter)
    ]
    for part in PARTS[name]:
        cases += [_case(store, name, image, size, filter, part) for filter in PART_FILTERS for size in PART_SIZES]
    # One channel: the source is the green channel of the RGB source.
    one_channel = [_case(store, name, image, size, "bilinear", green_only=True) for size in SIZES if size != LARGEST]
    return cases + one_channel


def _is_kept(name, size, filter):
    return name == "small" or size != LARGEST or filter == LARGEST_FILTER


def _case(store, name, image, size, filter, part=None, green_only=False):
    shown = image.getchannel("G") if green_only else image
    box = part or (0, 0, *image.size)
    resized = shown.crop(box).resize(size, Image.Resampling[filter.upper()], reducing_gap=None)
    if part is not None:
        _check_torchvision(image, size, filter, part, resized)
    kind = "grey" if green_only else "rgb"
    label = "" if part is None else f"_from_{part[0]}_{part[1]}"
    path = store.put(f"resize/{name}_{filter}_{size[0]}x{size[1]}{label}.{kind}", resized.tobytes())
    case = dict(source=name, filter=filter, width=size[0], height=size[1], box=box, pixels=path)
    return case | {"channel": 1} if green_only else case


def _check_torchvision(image, size, filter, part, resized):
    """What torchvision's RandomResizedCrop does with the part that it has drawn gives the same bytes."""
    left, top, right, bottom = part
    mode = InterpolationMode[filter.upper()]
    theirs = F.resized_crop(image, top, left, bottom - top, right - left, [size[1], size[0]], mode, antialias=True)
    assert theirs.tobytes() == resized.tobytes(), (filter, part)
