"""Small image files of the kinds that are met in practice, and the pixels that each should decode to."""

import io

import numpy as np
from PIL import Image, ImageOps

import writers
from pictures import alpha, deep, deep_to_byte, grey, inks, marked_picture, picture

WIDTH, HEIGHT = 40, 30
BASE = picture(WIDTH, HEIGHT, seed=1)
ALPHA = alpha(WIDTH, HEIGHT)
MARKED = marked_picture(24, 16, seed=2)

LOSSLESS = 0
# Decoders round the inverse transform and stretch colour in slightly different ways.
JPEG_TOLERANCE = 4
# Two JPEG channels enter each output channel, so their errors add.
CMYK_TOLERANCE = 6
WEBP_TOLERANCE = 4


def make_inputs(store):
    records = []
    for maker in (
        jpegs,
        jpeg_orientations,
        jpegs_cmyk,
        pngs_grey,
        pngs_colour,
        pngs_palette,
        gifs,
        webps,
        bmps,
        tiffs,
        netpbms,
    ):
        records += [_record(store, **entry) for entry in maker()]
    store.write_index("expected.json", {"images": records})


def _entry(file, data, tolerance=LOSSLESS, expected=None, with_grey=False, extra=False, note=""):
    """One input. `expected` overrules Pillow's pixels; `extra` marks what a loader may well leave unsupported."""
    return dict(
        file=file, data=data, tolerance=tolerance, expected=expected, with_grey=with_grey, extra=extra, note=note
    )


def _record(store, file, data, tolerance, expected, with_grey, extra, note):
    name = file.replace(".", "_")
    store.write(f"inputs/{file}", data)
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    mode, pillow = image.mode, np.asarray(image.convert("RGB"))
    pixels = pillow if expected is None else expected
    record = {
        "file": f"inputs/{file}",
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "rgb": store.put(f"expected/{name}.rgb", pixels.tobytes()),
        "max_abs_diff": tolerance,
        "pillow_mode": mode,
    }
    if with_grey:
        record["grey"] = store.put(f"expected/{name}.grey", image.convert("L").tobytes())
    if expected is not None:
        record["pillow_differs_by"] = int(np.abs(pillow.astype(int) - expected).max())
    if extra:
        record["extra"] = True
    if note:
        record["note"] = note
    return record


def _saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _rgb(pixels=BASE):
    return Image.fromarray(pixels)


def _rgba():
    return Image.fromarray(np.dstack([BASE, ALPHA]))


# --------------------------------------------------------------------------------------------------------------- JPEG


def jpegs():
    def written(file, pixels=BASE, with_grey=False, note="", extra=False, **options):
        data = _saved(_rgb(pixels), "JPEG", **options)
        return _entry(file, data, JPEG_TOLERANCE, with_grey=with_grey, note=note, extra=extra)

    def handmade(file, sampling, note, extra=False, **options):
        return _entry(
            file, writers.jpeg(writers.ycc(BASE), sampling, **options), JPEG_TOLERANCE, note=note, extra=extra
        )

    colour = [(1, 1), (1, 1)]
    return [
        written("jpeg_444_q95.jpg", quality=95, subsampling="4:4:4", with_grey=True),
        written("jpeg_422_q85.jpg", quality=85, subsampling="4:2:2"),
        written("jpeg_420_q75.jpg", quality=75, subsampling="4:2:0", with_grey=True),
        written("jpeg_420_q60.jpg", quality=60, subsampling="4:2:0"),
        written("jpeg_420_optimized.jpg", quality=80, subsampling="4:2:0", optimize=True),
        written("jpeg_progressive_420.jpg", quality=85, subsampling="4:2:0", progressive=True),
        written("jpeg_progressive_444.jpg", quality=90, subsampling="4:4:4", progressive=True),
        written("jpeg_restart_blocks.jpg", quality=85, subsampling="4:2:0", restart_marker_blocks=2),
        written("jpeg_restart_rows_progressive.jpg", quality=85, progressive=True, restart_marker_rows=1),
        written("jpeg_rgb_adobe.jpg", quality=90, keep_rgb=True, note="components are R, G, B: Adobe transform 0"),
        written("jpeg_1x1.jpg", picture(1, 1, 3), quality=90),
        written("jpeg_1x7.jpg", picture(1, 7, 4), quality=90, subsampling="4:2:0"),
        written("jpeg_7x1.jpg", picture(7, 1, 5), quality=90, subsampling="4:2:0"),
        written("jpeg_17x23.jpg", picture(17, 23, 6), quality=90, subsampling="4:2:0"),
        handmade("jpeg_440.jpg", [(1, 2), *colour], "chroma halved in height only; no JFIF marker"),
        handmade("jpeg_411.jpg", [(4, 1), *colour], "chroma quartered in width", extra=True),
        handmade("jpeg_no_jfif_restart.jpg", [(2, 2), *colour], "neither JFIF nor Adobe marker", restart_interval=1),
        _entry(
            "jpeg_grey.jpg", _saved(Image.fromarray(grey(BASE)), "JPEG", quality=85), JPEG_TOLERANCE, with_grey=True
        ),
        _entry(
            "jpeg_grey_progressive.jpg",
            _saved(Image.fromarray(grey(BASE)), "JPEG", quality=85, progressive=True),
            JPEG_TOLERANCE,
        ),
    ]


def jpeg_orientations():
    """The eight orientations of one stored picture, plus blocks that must be read or ignored."""

    def oriented(file, block, note="", extra=False):
        data = _saved(_rgb(MARKED), "JPEG", quality=92, subsampling="4:4:4", exif=b"Exif\0\0" + block)
        return _entry(file, data, JPEG_TOLERANCE, note=note, extra=extra)

    turned = [oriented(f"jpeg_orientation_{n}.jpg", writers.exif(n)) for n in range(1, 9)]
    return turned + [
        oriented("jpeg_orientation_6_big_endian.jpg", writers.exif(6, little_endian=False)),
        oriented("jpeg_orientation_0.jpg", writers.exif(0), "not a valid orientation: left as stored"),
        oriented("jpeg_orientation_9.jpg", writers.exif(9), "not a valid orientation: left as stored"),
        oriented(
            "jpeg_exif_broken.jpg", writers.exif(6)[:11], "the EXIF block ends too early: left as stored", extra=True
        ),
    ]


def jpegs_cmyk():
    """Four components. Adobe programs store 255 minus the ink; Pillow assumes that even without an Adobe marker."""
    ink = inks(BASE)
    stored = 255 - ink
    ycck = np.dstack([writers.ycc(ink[:, :, :3]), stored[:, :, 3]])
    same, halved = [(1, 1)] * 4, [(2, 2), (1, 1), (1, 1), (2, 2)]
    adobe = _saved(Image.fromarray(ink, "CMYK"), "JPEG", quality=90)
    return [
        _entry("jpeg_cmyk_adobe.jpg", adobe, CMYK_TOLERANCE, note="Adobe transform 0"),
        _entry(
            "jpeg_ycck_444.jpg", writers.jpeg(ycck, same, writers.ADOBE_YCCK), CMYK_TOLERANCE, note="Adobe transform 2"
        ),
        _entry(
            "jpeg_ycck_420.jpg",
            writers.jpeg(ycck, halved, writers.ADOBE_YCCK),
            CMYK_TOLERANCE,
            note="Adobe transform 2",
        ),
        _entry(
            "jpeg_cmyk_no_adobe.jpg",
            writers.jpeg(stored, same),
            CMYK_TOLERANCE,
            extra=True,
            note="no Adobe marker; Pillow still takes the values as inverted",
        ),
    ]


# ---------------------------------------------------------------------------------------------------------------- PNG


def pngs_grey():
    shade = grey(BASE)
    deep_shade = deep(shade, seed=7)
    plain = [_png_grey(f"png_grey_{bits}.png", shade >> (8 - bits), bits) for bits in (1, 2, 4, 8)]
    transparent = _png_grey("png_grey_transparent_value.png", shade, 8, chunks=[(b"tRNS", b"\0\x80")])
    with_alpha = writers.png(np.dstack([shade, ALPHA]), writers.GREY_ALPHA, 8)
    deep_with_alpha = writers.png(np.dstack([deep_shade, 257 * ALPHA.astype(int)]), writers.GREY_ALPHA, 16)
    return plain + [
        transparent,
        _entry(
            "png_grey_16.png", writers.png(deep_shade[:, :, None], writers.GREY, 16), expected=_grey_to_rgb(deep_shade)
        ),
        _entry("png_grey_alpha_8.png", with_alpha, with_grey=True),
        _entry("png_grey_alpha_16.png", deep_with_alpha, expected=_grey_to_rgb(deep_shade)),
        _png_grey("png_grey_4_interlaced.png", shade >> 4, 4, interlaced=True),
    ]


def _png_grey(file, samples, bits, **options):
    return _entry(file, writers.png(samples[:, :, None], writers.GREY, bits, **options), with_grey=bits == 8)


def _grey_to_rgb(deep_shade):
    return np.repeat(deep_to_byte(deep_shade)[:, :, None], 3, axis=2)


def pngs_colour():
    rgba = np.dstack([BASE, ALPHA])
    deep_rgb = deep(BASE, seed=8)
    deep_rgba = np.dstack([deep_rgb, 257 * ALPHA.astype(int)])
    gamma = [(b"gAMA", (100000).to_bytes(4, "big"))]
    key = [(b"tRNS", b"".join(int(v).to_bytes(2, "big") for v in BASE[0, 0]))]
    orientation = [(b"eXIf", writers.exif(6))]
    one_pixel = picture(1, 1, 9)
    return [
        _entry("png_rgb_8.png", _saved(_rgb(), "PNG"), with_grey=True),
        _entry("png_rgb_8_interlaced.png", writers.png(BASE, writers.RGB, 8, interlaced=True)),
        _entry("png_rgb_8_gamma.png", writers.png(BASE, writers.RGB, 8, chunks=gamma), note="gAMA 1.0, to be ignored"),
        _entry("png_rgb_8_transparent_colour.png", writers.png(BASE, writers.RGB, 8, chunks=key)),
        _entry("png_rgb_16.png", writers.png(deep_rgb, writers.RGB, 16), expected=deep_to_byte(deep_rgb)),
        _entry("png_rgba_8.png", _saved(_rgba(), "PNG"), with_grey=True),
        _entry("png_rgba_8_interlaced.png", writers.png(rgba, writers.RGBA, 8, interlaced=True)),
        _entry("png_rgba_16.png", writers.png(deep_rgba, writers.RGBA, 16), expected=deep_to_byte(deep_rgb)),
        _entry("png_1x1.png", writers.png(one_pixel, writers.RGB, 8)),
        _entry("png_3x2_interlaced.png", writers.png(picture(3, 2, 10), writers.RGB, 8, interlaced=True)),
        _entry(
            "png_orientation_6.png",
            writers.png(MARKED, writers.RGB, 8, chunks=orientation),
            extra=True,
            note="orientation in an eXIf chunk",
        ),
    ]


def pngs_palette():
    def indexed(file, bits, chunks=(), **options):
        index, palette = _quantized(BASE, 1 << bits)
        every = [(b"PLTE", palette), *chunks]
        return _entry(file, writers.png(index[:, :, None], writers.PALETTE, bits, chunks=every, **options))

    # Fewer alphas than colours: the remaining ones are opaque.
    transparency = [(b"tRNS", bytes([0, 64, 128]))]
    return [
        *[indexed(f"png_palette_{bits}.png", bits) for bits in (1, 2, 4, 8)],
        indexed("png_palette_8_transparent.png", 8, transparency),
        indexed("png_palette_4_transparent.png", 4, transparency),
        indexed("png_palette_8_interlaced.png", 8, interlaced=True),
    ]


def _quantized(pixels, colours):
    """Indexes and palette bytes of a picture. At most 250 colours, so that a short palette is met too."""
    image = _rgb(pixels).quantize(min(colours, 250), dither=Image.Dither.NONE)
    return np.asarray(image), bytes(image.getpalette())


# -------------------------------------------------------------------------------------------------------- GIF and WebP


def gifs():
    indexed = _rgb().quantize(64, dither=Image.Dither.NONE)
    others = [_rgb(picture(WIDTH, HEIGHT, seed)).quantize(64, dither=Image.Dither.NONE) for seed in (11, 12)]
    moving = dict(save_all=True, append_images=others, duration=50, loop=0)
    return [
        _entry("gif.gif", _saved(indexed, "GIF"), with_grey=True),
        _entry("gif_interlaced.gif", _saved(indexed, "GIF", interlace=1)),
        _entry(
            "gif_transparent.gif",
            _saved(indexed, "GIF", transparency=5),
            note="transparent pixels keep their palette colour",
        ),
        _entry("gif_animated.gif", _saved(indexed, "GIF", **moving), note="the first of three frames counts"),
        _entry("gif_animated_transparent.gif", _saved(indexed, "GIF", transparency=5, disposal=2, **moving)),
        _entry("gif_grey.gif", _saved(Image.fromarray(grey(BASE)), "GIF")),
    ]


def webps():
    moving = dict(save_all=True, append_images=[_rgb(picture(WIDTH, HEIGHT, 13))], duration=50, lossless=True)
    orientation = b"Exif\0\0" + writers.exif(6)
    return [
        _entry("webp_lossless.webp", _saved(_rgb(), "WEBP", lossless=True)),
        _entry("webp_lossless_alpha.webp", _saved(_rgba(), "WEBP", lossless=True, exact=True)),
        _entry("webp_lossy.webp", _saved(_rgb(), "WEBP", quality=80), WEBP_TOLERANCE),
        _entry("webp_lossy_alpha.webp", _saved(_rgba(), "WEBP", quality=80, exact=True), WEBP_TOLERANCE),
        _entry(
            "webp_animated.webp", _saved(_rgb(), "WEBP", **moving), extra=True, note="the first of two frames counts"
        ),
        _entry(
            "webp_orientation_6.webp",
            _saved(_rgb(MARKED), "WEBP", lossless=True, exif=orientation),
            extra=True,
            note="orientation in an EXIF chunk",
        ),
    ]


# ----------------------------------------------------------------------------------------------- BMP, TIFF and netpbm


def bmps():
    indexed = _rgb().quantize(200, dither=Image.Dither.NONE)
    odd = picture(17, 23, 6)
    return [
        _entry("bmp_24.bmp", _saved(_rgb(), "BMP")),
        _entry("bmp_24_17x23.bmp", _saved(_rgb(odd), "BMP"), note="rows need padding"),
        _entry("bmp_24_top_down.bmp", writers.bmp_top_down(odd), note="negative height: the top row comes first"),
        _entry("bmp_32.bmp", _saved(_rgba(), "BMP")),
        _entry("bmp_palette_8.bmp", _saved(indexed, "BMP")),
        _entry("bmp_grey_8.bmp", _saved(Image.fromarray(grey(BASE)), "BMP")),
        _entry("bmp_1.bmp", _saved(_two_tone(), "BMP")),
    ]


def tiffs():
    shade = grey(BASE)
    deep_shade = deep(shade, seed=7)
    deep_image = Image.fromarray(deep_shade.astype(np.uint16))
    return [
        _entry("tiff_rgb.tif", _saved(_rgb(), "TIFF")),
        _entry("tiff_rgb_lzw.tif", _saved(_rgb(), "TIFF", compression="tiff_lzw")),
        _entry("tiff_rgb_deflate.tif", _saved(_rgb(), "TIFF", compression="tiff_adobe_deflate")),
        _entry("tiff_rgba.tif", _saved(_rgba(), "TIFF")),
        _entry("tiff_grey_8.tif", _saved(Image.fromarray(shade), "TIFF")),
        _entry("tiff_grey_16.tif", _saved(deep_image, "TIFF"), expected=_grey_to_rgb(deep_shade)),
        _entry("tiff_orientation_6.tif", _saved(_rgb(MARKED), "TIFF", tiffinfo={274: 6}), extra=True),
    ]


def netpbms():
    deep_shade = deep(grey(BASE), seed=7)
    deep_pgm = f"P5\n{WIDTH} {HEIGHT}\n65535\n".encode() + deep_shade.astype(">u2").tobytes()
    small = picture(7, 5, 14)
    text = "P3\n# a comment\n7 5\n255\n" + "\n".join(" ".join(str(v) for v in row.flat) for row in small) + "\n"
    return [
        _entry("ppm.ppm", _saved(_rgb(), "PPM")),
        _entry("ppm_text.ppm", text.encode()),
        _entry("pgm.pgm", _saved(Image.fromarray(grey(BASE)), "PPM")),
        _entry("pgm_16.pgm", deep_pgm, expected=_grey_to_rgb(deep_shade)),
        _entry("pbm.pbm", _saved(_two_tone(), "PPM")),
    ]


def _two_tone():
    return Image.fromarray(grey(BASE)).point(lambda value: 255 if value > 128 else 0, mode="1")
