"""Small writers for the kinds of file that Pillow reads but does not write."""

import struct
import zlib

import numpy as np

# ---------------------------------------------------------------------------------------------------------------- PNG

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6

# Adam7: (first column, first row, column step, row step) of each pass.
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def png(samples, colour_type, bit_depth, interlaced=False, chunks=()):
    """A PNG file. `samples` is (height, width, channels); `chunks` are (type, data) pairs put before the pixels."""
    height, width = samples.shape[:2]
    passes = ADAM7 if interlaced else [(0, 0, 1, 1)]
    rows = b"".join(_png_rows(samples[y::dy, x::dx], bit_depth) for x, y, dx, dy in passes)
    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, int(interlaced))
    body = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_png_chunk(kind, data) for kind, data in body)


def _png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png_rows(samples, bit_depth):
    """The rows of one pass, each with a filter byte that alternates between "none" and "up"."""
    height, width = samples.shape[:2]
    if width == 0:
        return b""
    packed = [np.frombuffer(_pack(row.reshape(-1), bit_depth), np.uint8) for row in samples]
    rows = []
    for y, row in enumerate(packed):
        filtered = row - packed[y - 1] if y % 2 else row
        rows.append(bytes([2 if y % 2 else 0]) + filtered.tobytes())
    return b"".join(rows)


def _pack(values, bit_depth):
    if bit_depth == 16:
        return values.astype(">u2").tobytes()
    if bit_depth == 8:
        return values.astype(np.uint8).tobytes()
    shifts = np.arange(bit_depth - 1, -1, -1)
    return np.packbits((values[:, None] >> shifts) & 1).tobytes()


# --------------------------------------------------------------------------------------------------------------- EXIF


def exif(orientation, little_endian=True):
    """A TIFF block with a single entry: tag 0x0112, orientation, one SHORT."""
    order = "<" if little_endian else ">"
    mark = b"II" if little_endian else b"MM"
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    return mark + struct.pack(order + "HIH", 42, 8, 1) + entry + struct.pack(order + "I", 0)


# --------------------------------------------------------------------------------------------------------------- JPEG

ZIGZAG = sorted(range(64), key=lambda i: (i // 8 + i % 8, i // 8 if (i // 8 + i % 8) % 2 else i % 8))
QUANTIZER = np.array([[2 + u + v for u in range(8)] for v in range(8)])
# Code lengths are equal within a table: long files, but no table to copy and nothing for a decoder to dislike.
DC_SYMBOLS = list(range(12))
AC_SYMBOLS = [0x00, 0xF0] + [run << 4 | size for run in range(16) for size in range(1, 11)]
DC_BITS, AC_BITS = 4, 8
ADOBE_CMYK, ADOBE_YCCK = 0, 2


def jpeg(planes, sampling, adobe_transform=None, restart_interval=0):
    """A baseline JPEG of any sampling.

    `planes` is (height, width, components) as stored in the file: Y, Cb, Cr or C, M, Y, K or Y, Cb, Cr, K.
    `sampling` holds (horizontal, vertical) per component, as in the frame header.
    """
    height, width, count = planes.shape
    most_h, most_v = max(h for h, _ in sampling), max(v for _, v in sampling)
    columns, rows = -(-width // (8 * most_h)), -(-height // (8 * most_v))
    blocks = [
        _blocks(planes[:, :, c], most_h // h, most_v // v, columns * h, rows * v) for c, (h, v) in enumerate(sampling)
    ]
    parts = [b"\xff\xd8"]
    if adobe_transform is not None:
        parts.append(_segment(0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, adobe_transform)))
    parts.append(_segment(0xDB, b"\0" + bytes(int(QUANTIZER.flat[i]) for i in ZIGZAG)))
    frame = b"".join(bytes([c + 1, h << 4 | v, 0]) for c, (h, v) in enumerate(sampling))
    parts.append(_segment(0xC0, struct.pack(">BHHB", 8, height, width, count) + frame))
    parts.append(_segment(0xC4, _huffman(0x00, DC_SYMBOLS, DC_BITS) + _huffman(0x10, AC_SYMBOLS, AC_BITS)))
    if restart_interval:
        parts.append(_segment(0xDD, struct.pack(">H", restart_interval)))
    parts.append(_segment(0xDA, bytes([count]) + b"".join(bytes([c + 1, 0]) for c in range(count)) + b"\0\x3f\0"))
    parts.append(_scan(blocks, sampling, columns, rows, restart_interval))
    return b"".join(parts) + b"\xff\xd9"


def ycc(pixels):
    """JFIF's Y, Cb, Cr of an RGB picture, unrounded."""
    red, green, blue = np.moveaxis(pixels.astype(float), 2, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return np.dstack([luma, 128 + (blue - luma) / 1.772, 128 + (red - luma) / 1.402])


def _segment(marker, data):
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def _huffman(selector, symbols, bits):
    counts = [len(symbols) if length == bits else 0 for length in range(1, 17)]
    return bytes([selector, *counts, *symbols])


def _blocks(plane, shrink_x, shrink_y, columns, rows):
    """Quantized coefficients in zigzag order, (rows, columns, 64), of a component shrunk by its sampling."""
    full_height, full_width = rows * 8 * shrink_y, columns * 8 * shrink_x
    padding = ((0, full_height - plane.shape[0]), (0, full_width - plane.shape[1]))
    full = np.pad(plane.astype(float), padding, mode="edge")
    small = full.reshape(rows * 8, shrink_y, columns * 8, shrink_x).mean(axis=(1, 3))
    tiles = small.reshape(rows, 8, columns, 8).swapaxes(1, 2) - 128
    k, n = np.mgrid[0:8, 0:8]
    cosine = np.where(k == 0, np.sqrt(0.125), 0.5) * np.cos((2 * n + 1) * k * np.pi / 16)
    coefficients = np.rint(cosine @ tiles @ cosine.T / QUANTIZER).astype(int)
    return coefficients.reshape(rows, columns, 64)[:, :, ZIGZAG]


def _scan(blocks, sampling, columns, rows, restart_interval):
    data, bits, previous = b"", [], [0] * len(blocks)
    for unit in range(columns * rows):
        if restart_interval and unit and unit % restart_interval == 0:
            marker = 0xD0 + (unit // restart_interval - 1) % 8
            data += _flush(bits) + bytes([0xFF, marker])
            bits, previous = [], [0] * len(blocks)
        row, column = divmod(unit, columns)
        for c, (h, v) in enumerate(sampling):
            for y in range(row * v, row * v + v):
                for x in range(column * h, column * h + h):
                    bits += _block_bits(blocks[c][y, x], previous[c])
                    previous[c] = blocks[c][y, x][0]
    return data + _flush(bits)


def _block_bits(block, previous):
    bits = _coded(DC_SYMBOLS, DC_BITS, 0, int(block[0] - previous))
    run = 0
    for value in block[1 : np.flatnonzero(block)[-1] + 1 if block.any() else 1]:
        if value == 0:
            run += 1
            continue
        while run > 15:
            bits.append(_code(AC_SYMBOLS, AC_BITS, 0xF0))
            run -= 16
        bits += _coded(AC_SYMBOLS, AC_BITS, run, int(value))
        run = 0
    if not block[63]:
        bits.append(_code(AC_SYMBOLS, AC_BITS, 0x00))
    return bits


def _coded(symbols, bits, run, value):
    """The code of (run, size) and the value's own bits; a negative value is stored as its predecessor's low bits."""
    size = abs(value).bit_length()
    low = value if value >= 0 else value + (1 << size) - 1
    return [_code(symbols, bits, run << 4 | size), format(low, f"0{size}b") if size else ""]


def _code(symbols, bits, symbol):
    return format(symbols.index(symbol), f"0{bits}b")


def _flush(bits):
    """Bits as bytes, filled with ones; a zero follows each 0xff, as it would else be read as a marker."""
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    return bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8)).replace(b"\xff", b"\xff\0")


# ---------------------------------------------------------------------------------------------------------------- BMP


def bmp_top_down(pixels):
    """A 24-bit BMP whose height is negative: its first row is the top one."""
    height, width = pixels.shape[:2]
    padding = bytes(-width * 3 % 4)
    rows = b"".join(row[:, ::-1].tobytes() + padding for row in pixels)
    info = struct.pack("<IiiHHIIiiII", 40, width, -height, 1, 24, 0, len(rows), 2835, 2835, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(rows), 0, 0, 54) + info + rows
