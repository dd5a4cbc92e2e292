"""JPEGs decoded at a reduced scale by Pillow's `draft`, and resized after that."""

import io

from PIL import Image, ImageOps

import writers
from pictures import picture

# Odd, so that the last block and the last reduced pixel are partly beyond the picture, and of two shapes.
SOURCES = {"a": (165, 131, "4:2:0", 1), "b": (131, 165, "4:4:4", 6)}
DIVISORS = (2, 4, 8)
# Height and width: at 1/8 the picture has between one and two pixels for each.
SIZE = (9, 11)


def make_reduced(store):
    cases = []
    for name, (width, height, subsampling, orientation) in SOURCES.items():
        data = _photo(width, height, subsampling, orientation)
        store.write(f"reduced/{name}.jpg", data)
        for divisor in DIVISORS:
            for mode in ("RGB", "L"):
                cases.append(_case(store, name, data, divisor, mode))
    store.write_index("reduced.json", {"cases": cases})


def _photo(width, height, subsampling, orientation):
    buffer = io.BytesIO()
    image = Image.fromarray(picture(width, height, seed=31))
    image.save(buffer, "JPEG", quality=60, subsampling=subsampling, exif=b"Exif\0\0" + writers.exif(orientation))
    return buffer.getvalue()


def _case(store, name, data, divisor, mode):
    image = Image.open(io.BytesIO(data))
    full = image.size
    image.draft(mode, (full[0] // divisor, full[1] // divisor))
    # Pillow rounds upwards, as libjpeg does.
    assert image.size == tuple(-(-extent // divisor) for extent in full), image.size
    height, width = SIZE if name == "a" else SIZE[::-1]
    # The part of the reduced picture that is the whole one, before it is turned; and what is decoded, without a resize.
    stored_size = (width, height) if name == "a" else (height, width)
    small = image.resize(stored_size, Image.Resampling.BILINEAR, box=(0, 0, full[0] / divisor, full[1] / divisor))
    small.getexif()[0x0112] = image.getexif().get(0x0112, 1)
    kind = "grey" if mode == "L" else "rgb"
    return {
        "file": f"reduced/{name}.jpg",
        "divisor": divisor,
        "height": height,
        "width": width,
        "channels": len(image.getbands()),
        "pixels": store.put(f"reduced/{name}_{divisor}.{kind}", ImageOps.exif_transpose(small).tobytes()),
    }


if __name__ == "__main__":
    from pathlib import Path

    from store import Store

    make_reduced(Store(Path(__file__).parent))
