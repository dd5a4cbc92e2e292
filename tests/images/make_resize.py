"""Pillow's resized pictures, for every filter."""

from PIL import Image

from pictures import noisy_picture

FILTERS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
SIZES = ((20, 30), (100, 80), (61, 47), (7, 5), (13, 90))
# A crop with fractional edges; the first also reaches the picture's left edge.
BOX_SIZES = ((20, 30), (13, 90))
BOXES = {"small": [(0.0, 2.75, 50.1, 40.9), (3.3, 1.5, 60.25, 46.5)], "large": [(10.25, 5.5, 180.75, 120.0)]}
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
    for box in BOXES[name]:
        cases += [
            _case(store, name, image, size, filter, box) for filter in ("bilinear", "bicubic") for size in BOX_SIZES
        ]
    # One channel: the source is the green channel of the RGB source.
    one_channel = [_case(store, name, image, size, "bilinear", green_only=True) for size in SIZES if size != LARGEST]
    return cases + one_channel


def _is_kept(name, size, filter):
    return name == "small" or size != LARGEST or filter == LARGEST_FILTER


def _case(store, name, image, size, filter, box=None, green_only=False):
    shown = image.getchannel("G") if green_only else image
    resized = shown.resize(size, Image.Resampling[filter.upper()], box=box, reducing_gap=None)
    kind = "grey" if green_only else "rgb"
    label = "" if box is None else f"_from_{box[0]:g}_{box[1]:g}"
    path = store.put(f"resize/{name}_{filter}_{size[0]}x{size[1]}{label}.{kind}", resized.tobytes())
    case = dict(source=name, filter=filter, width=size[0], height=size[1], box=box or (0, 0, *image.size), pixels=path)
    return case | {"channel": 1} if green_only else case
