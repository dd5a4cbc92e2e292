"""Expected values of torchvision's transforms (v2, tensors), on one small picture and in tables."""

from unittest import mock

import numpy as np
import torch
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from pictures import marked_picture

WIDTH, HEIGHT = 12, 10
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
ANGLES = (0, 90, 180, 270, 30, -17.5)
NEAREST, BILINEAR = InterpolationMode.NEAREST, InterpolationMode.BILINEAR


def make_transforms(store):
    bytes_image = _source()
    float_image = F.to_dtype(bytes_image, torch.float32, scale=True)
    pixels = Pixels(store, {"u8": bytes_image, "f32": float_image})
    source = {
        "width": WIDTH,
        "height": HEIGHT,
        "channels": 3,
        "u8": "transforms/source.u8",
        "f32": "transforms/source.f32",
    }
    store.put(source["u8"], _interleaved(bytes_image))
    store.put(source["f32"], _interleaved(float_image))
    index = {
        "source": source,
        "resize_size": resize_sizes(),
        "center_crop_place": center_crop_places(),
        "random_crop_border": crop_borders(),
        "random_resized_crop_fallback": crop_fallbacks(),
        "random_resized_crop_accepted": crop_attempts(),
        "random_erasing_region": erasing_regions(),
        "rotate_expanded_size": expanded_sizes(),
        "mixup": mixup_example(),
        "cutmix": cutmix_example(),
        "cutmix_box": cutmix_boxes(),
        "pixels": pixel_cases(pixels),
    }
    store.write_index("transforms.json", index)


def _source():
    """The picture, with some pure colours and greys in its last row: hue and saturation have their edges there."""
    pixels = marked_picture(WIDTH, HEIGHT, seed=31)
    corners = [(r, g, b) for r in (0, 255) for g in (0, 255) for b in (0, 255)]
    pixels[-1] = [*corners, (128, 128, 128), (1, 0, 0), (255, 254, 255), (90, 180, 90)]
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _interleaved(tensor):
    """(channels, height, width) as bytes in (height, width, channels) order, floats little-endian."""
    values = tensor.permute(1, 2, 0).contiguous().numpy()
    return values.astype(values.dtype.newbyteorder("<")).tobytes()


class Pixels:
    """Applies a transform to the picture and keeps the result."""

    def __init__(self, store, images):
        self._store, self._images = store, images

    def case(self, kind, name, operation, tolerance, **parameters):
        result = operation(self._images[kind])
        path = self._store.put(f"transforms/{name}.{kind}", _interleaved(result))
        channels, height, width = result.shape
        shape = dict(width=width, height=height, channels=channels)
        return dict(
            operation=name.split("_at_")[0], type=kind, **parameters, **shape, pixels=path, max_abs_diff=tolerance
        )


# ------------------------------------------------------------------------------------------------------------- tables


def _table(columns, rows):
    return {"columns": columns, "rows": rows}


def resize_sizes():
    cases = [
        (h, w, size, None)
        for h, w in ((10, 12), (375, 500), (500, 375), (333, 500), (1, 7), (480, 480), (7, 1000))
        for size in (5, 224, 256)
    ]
    cases += [
        (375, 500, 256, 300),
        (500, 375, 256, 300),
        (100, 1000, 64, 65),
        (1000, 100, 64, 200),
        (333, 500, 224, 336),
        (480, 480, 224, 300),
    ]
    rows = []
    for h, w, size, max_size in cases:
        # Only the shape matters; a nearest resize of one channel is the cheapest way to ask for it.
        result = F.resize(torch.zeros(1, h, w, dtype=torch.uint8), [size], NEAREST, max_size=max_size)
        rows.append([h, w, size, max_size, *result.shape[1:]])
    return _table(["height", "width", "size", "max_size", "new_height", "new_width"], rows)


def center_crop_places():
    """Where the crop starts, read off a picture whose pixels say where they are; pixels from padding are -1."""
    cases = [(10, 12, 4, 4), (10, 12, 5, 5), (10, 12, 7, 9), (11, 13, 4, 4), (11, 13, 6, 8), (9, 9, 4, 4), (9, 9, 2, 2)]
    cases += [
        (256, 341, 224, 224),
        (257, 256, 224, 224),
        (5, 6, 5, 6),
        (5, 6, 1, 1),
        (3, 4, 8, 8),
        (3, 4, 6, 9),
        (3, 12, 8, 5),
        (12, 3, 5, 8),
        (2, 2, 5, 5),
        (4, 9, 7, 6),
    ]
    columns = [
        "height",
        "width",
        "crop_height",
        "crop_width",
        "pad_left",
        "pad_top",
        "pad_right",
        "pad_bottom",
        "top",
        "left",
    ]
    return _table(columns, [[*case, *_center_crop_place(*case)] for case in cases])


def _center_crop_place(height, width, crop_height, crop_width):
    y, x = torch.meshgrid(torch.arange(1, height + 1), torch.arange(1, width + 1), indexing="ij")
    rows, columns = F.center_crop(torch.stack([y, x]), [crop_height, crop_width])
    pad_top, pad_left = _padding(crop_height, height), _padding(crop_width, width)
    top = _first_shown(rows.amax(dim=1), pad_top[0])
    left = _first_shown(columns.amax(dim=0), pad_left[0])
    return pad_left[0], pad_top[0], pad_left[1], pad_top[1], top, left


def _padding(crop, extent):
    missing = max(crop - extent, 0)
    return missing // 2, (missing + 1) // 2


def _first_shown(coordinates, pad_before):
    """The crop's start in the padded picture: shown pixels carry their 1-based coordinate, padding carries 0."""
    first = int(torch.nonzero(coordinates)[0])
    return int(coordinates[first]) - 1 - first + pad_before


def crop_fallbacks():
    cases = [
        (h, w, ratio)
        for h, w in ((100, 100), (50, 200), (200, 50), (7, 31), (31, 7), (1, 9), (9, 1), (90, 120), (101, 57))
        for ratio in ((3 / 4, 4 / 3), (1.0, 1.0), (0.5, 3.0))
    ]
    rows = []
    for h, w, ratio in cases:
        # A hundred times the area never fits, so that all ten tries fail.
        box = v2.RandomResizedCrop(8, scale=(100.0, 100.0), ratio=ratio).make_params([torch.zeros(3, h, w)])
        rows.append([h, w, *ratio, box["top"], box["left"], box["height"], box["width"]])
    return _table(["height", "width", "ratio_min", "ratio_max", "top", "left", "crop_height", "crop_width"], rows)


def crop_attempts():
    """The size of an accepted try, given the fraction of the area and the aspect ratio that were drawn."""
    rows = []
    for h, w, fraction, ratio in (
        (100, 100, 0.5, 1.0),
        (375, 500, 0.08, 0.75),
        (375, 500, 0.3, 1.3),
        (333, 500, 0.61, 1.2),
        (7, 9, 0.2, 0.8),
        (1, 1, 1.0, 1.0),
    ):
        box = v2.RandomResizedCrop(8, scale=(fraction, fraction), ratio=(ratio, ratio)).make_params(
            [torch.zeros(3, h, w)]
        )
        rows.append([h, w, fraction, ratio, box["height"], box["width"]])
    return _table(["height", "width", "area_fraction", "ratio", "crop_height", "crop_width"], rows)


def crop_borders():
    """The border that a crop with `pad_if_needed` puts around a picture, above and below, left and right."""
    cases = [(10, 12, 4, 4), (10, 12, 14, 9), (10, 12, 14, 20), (3, 30, 8, 8), (10, 12, 11, 13), (1, 1, 7, 7)]
    rows = []
    for h, w, crop_height, crop_width in cases:
        for padding in (0, 1, 2, 4):
            crop = v2.RandomCrop((crop_height, crop_width), padding=padding or None, pad_if_needed=True)
            left, top, right, bottom = crop.make_params([torch.zeros(3, h, w)])["padding"]
            assert (left, top) == (right, bottom)
            rows.append([h, w, crop_height, crop_width, padding, top, left])
    return _table(["height", "width", "crop_height", "crop_width", "padding", "border_down", "border_across"], rows)


def erasing_regions():
    """Height and width of a region, or no region where it does not fit strictly inside the picture."""
    cases = [
        (10, 12, 0.1, 1.0),
        (10, 12, 0.33, 3.3),
        (10, 12, 0.33, 0.3),
        (10, 12, 0.02, 0.3),
        (32, 32, 0.25, 1.0),
        (32, 32, 1.0, 1.0),
        (32, 32, 0.33, 3.3),
        (4, 40, 0.3, 1.0),
        (10, 10, 0.001, 1.0),
    ]
    rows = []
    for h, w, fraction, ratio in cases:
        region = v2.RandomErasing(p=1, scale=(fraction, fraction), ratio=(ratio, ratio)).make_params(
            [torch.zeros(3, h, w)]
        )
        found = region["v"] is not None
        rows.append([h, w, fraction, ratio, found, region["h"] if found else 0, region["w"] if found else 0])
    return _table(["height", "width", "area_fraction", "ratio", "found", "region_height", "region_width"], rows)


def expanded_sizes():
    rows = []
    for h, w in ((10, 12), (47, 61), (5, 5), (1, 8)):
        for angle in (*ANGLES, 45, 120, 359):
            result = F.rotate(torch.zeros(1, h, w), angle, expand=True)
            rows.append([h, w, angle, *result.shape[1:]])
    return _table(["height", "width", "angle", "new_height", "new_width"], rows)


# --------------------------------------------------------------------------------------------------- mixing of batches


def mixup_example():
    images = torch.arange(24, dtype=torch.float32).reshape(3, 1, 2, 4)
    labels = torch.tensor([0, 2, 1])
    mixed, targets = _mixed(v2.MixUp(num_classes=3), 0.75, (), images, labels)
    return {"lam": 0.75, "shape": list(images.shape), **_flat(images, labels, mixed, targets)}


def cutmix_example():
    images = torch.arange(144, dtype=torch.float32).reshape(3, 1, 6, 8)
    labels = torch.tensor([0, 2, 1])
    mixed, targets = _mixed(v2.CutMix(num_classes=3), 0.5, (7, 2), images, labels)
    return {"lam": 0.5, "r_x": 7, "r_y": 2, "shape": list(images.shape), **_flat(images, labels, mixed, targets)}


def cutmix_boxes():
    cases = [
        (6, 8, 0.5, 7, 2),
        (32, 32, 0.3, 16, 16),
        (32, 32, 0.3, 0, 31),
        (224, 224, 0.9, 100, 5),
        (10, 12, 0.0, 6, 5),
        (10, 12, 0.0, 0, 0),
        (10, 12, 1.0, 3, 3),
        (10, 12, 0.99, 3, 3),
        (7, 5, 0.4, 4, 6),
    ]
    rows = []
    for h, w, lam, r_x, r_y in cases:
        with _drawn(transform := v2.CutMix(num_classes=2), lam, (r_x, r_y)):
            params = transform.make_params([torch.zeros(2, 1, h, w)])
        rows.append([h, w, lam, r_x, r_y, *params["box"], params["lam_adjusted"]])
    return _table(["height", "width", "lam", "r_x", "r_y", "x1", "y1", "x2", "y2", "lam_adjusted"], rows)


def _mixed(transform, lam, centre, images, labels):
    with _drawn(transform, lam, centre):
        return transform(images, labels)


def _drawn(transform, lam, centre):
    """Makes torchvision draw the given values: lam first, then the column and the row of the box's centre."""
    # Kept in double precision: as a 32-bit float, lam would be rounded before the box is computed.
    transform._dist = mock.Mock(sample=lambda shape: torch.tensor([lam], dtype=torch.float64))
    return mock.patch("torch.randint", side_effect=[torch.tensor([value]) for value in centre])


def _flat(images, labels, mixed, targets):
    return dict(
        images=images.flatten().tolist(),
        labels=labels.tolist(),
        mixed=mixed.flatten().tolist(),
        targets=targets.flatten().tolist(),
    )


# ------------------------------------------------------------------------------------------------------------- pixels


def pixel_cases(pixels):
    return [*geometry(pixels), *rotations(pixels), *colours(pixels), *values(pixels)]


def geometry(pixels):
    for height, width in ((4, 4), (5, 7), (14, 9)):
        crop = lambda image: F.center_crop(image, [height, width])
        yield pixels.case("u8", f"center_crop_at_{height}x{width}", crop, 0)
    yield pixels.case("u8", "horizontal_flip", F.horizontal_flip, 0)
    yield pixels.case("u8", "vertical_flip", F.vertical_flip, 0)


def rotations(pixels):
    """Rotations with `fill` None, 0 and 128: for bilinear the first two differ at the border, see the README."""
    for angle in ANGLES:
        for mode in (NEAREST, BILINEAR):
            yield _rotation(pixels, "u8", angle, mode)
            yield _rotation(pixels, "f32", angle, mode)
    for fill in (0, 128):
        yield _rotation(pixels, "u8", 30, BILINEAR, fill=fill)
    yield _rotation(pixels, "u8", 30, NEAREST, fill=128)
    for mode in (NEAREST, BILINEAR):
        yield _rotation(pixels, "u8", 30, mode, expand=True)
    yield _rotation(pixels, "u8", 90, NEAREST, expand=True)


def _rotation(pixels, kind, angle, mode, expand=False, fill=None):
    name = (
        f"rotate_at_{angle:g}_{mode.value}"
        + ("_expand" if expand else "")
        + (f"_fill{fill}" if fill is not None else "")
    )
    turn = lambda image: F.rotate(image, angle, mode, expand=expand, fill=fill)
    exact = mode is NEAREST or angle in (0, 180)
    tolerance = 0 if exact else {"u8": 1, "f32": 2e-6}[kind]
    return pixels.case(kind, name, turn, tolerance, angle=angle, interpolation=mode.value, expand=expand, fill=fill)


def colours(pixels):
    # Factors are floats: bytes times a Python integer stay bytes in torch, and a brightness factor of 2 would wrap.
    adjustments = [
        ("brightness", F.adjust_brightness, (0.0, 0.5, 1.3, 2.0)),
        ("contrast", F.adjust_contrast, (0.0, 0.5, 1.5)),
        ("saturation", F.adjust_saturation, (0.0, 0.5, 1.7)),
        ("hue", F.adjust_hue, (-0.5, -0.1, 0.0, 0.25, 0.4)),
    ]
    for name, adjust, factors in adjustments:
        for factor in factors:
            for kind, tolerance in (("u8", 1), ("f32", 2e-6)):
                change = lambda image: adjust(image, factor)
                yield pixels.case(kind, f"adjust_{name}_at_{factor:g}", change, tolerance, factor=factor)


def values(pixels):
    yield pixels.case("u8", "grayscale", F.rgb_to_grayscale, 1)
    yield pixels.case("f32", "grayscale", F.rgb_to_grayscale, 1e-6)
    yield pixels.case("f32", "normalize", lambda image: F.normalize(image, MEAN, STD), 2e-6, mean=MEAN, std=STD)
    fill = torch.tensor([0.1, 0.2, 0.3])[:, None, None]
    region = dict(top=2, left=3, region_height=4, region_width=5, value=[0.1, 0.2, 0.3])
    yield pixels.case("f32", "erase", lambda image: F.erase(image, 2, 3, 4, 5, fill), 0, **region)
