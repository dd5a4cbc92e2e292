"""Deterministic test pictures: integer gradients, texture and noise."""

import numpy as np


def picture(width, height, seed, noise=20):
    """An RGB picture whose brightness is noisy and whose hue is smooth.

    Hue is smooth because decoders that stretch subsampled colour differently would otherwise disagree by more than
    the tolerance; brightness is noisy because an error in a transform, a filter or an offset then shows.
    Integer arithmetic and numpy's frozen legacy generator make it the same everywhere.
    """
    random = np.random.RandomState(seed)
    y, x = np.mgrid[0:height, 0:width]
    red = 30 + 190 * x // max(width - 1, 1)
    green = 220 - 190 * y // max(height - 1, 1)
    blue = 60 + 130 * (x + y) // max(width + height - 2, 1)
    texture = 12 * ((x // 3 + y // 2) % 2) + random.randint(-noise, noise + 1, (height, width))
    pixels = np.stack([red, green, blue], axis=2) + texture[:, :, None]
    pixels += random.randint(-2, 3, (height, width, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def noisy_picture(width, height, seed):
    """Gradients under strong, independent noise, so that sharpening filters overshoot and must clip."""
    random = np.random.RandomState(seed)
    return np.clip(
        picture(width, height, seed).astype(int) + random.randint(-90, 91, (height, width, 3)), 0, 255
    ).astype(np.uint8)


def marked_picture(width, height, seed):
    """A picture with a dark block in its top left corner, which no flip or turn maps to itself."""
    pixels = picture(width, height, seed)
    pixels[: height // 3, : width // 4] //= 4
    return pixels


def grey(pixels):
    """One channel from an RGB picture, by its mean: the exact weights do not matter here."""
    return (pixels.astype(int).sum(axis=2) // 3).astype(np.uint8)


def alpha(width, height):
    """A slope from transparent to opaque with a wholly transparent and a wholly opaque part."""
    y, x = np.mgrid[0:height, 0:width]
    return np.clip(400 * x // width - 70, 0, 255).astype(np.uint8)


def deep(pixels, seed):
    """16-bit samples near `257 * pixels`, with low bytes that rounding has to look at."""
    low = np.random.RandomState(seed).randint(-128, 129, pixels.shape)
    return np.clip(pixels.astype(int) * 257 + 2 * low, 0, 65535)


def deep_to_byte(samples):
    """The nearest byte to a 16-bit sample: `round(value / 257)`. No value lies half-way, as 257 is odd."""
    return ((np.asarray(samples, dtype=np.int64) + 128) // 257).astype(np.uint8)


def inks(pixels):
    """CMYK inks (255 = full ink) for an RGB picture, with half of the common grey moved to black."""
    missing = 255 - pixels.astype(int)
    black = missing.min(axis=2) // 2
    colours = (missing - black[:, :, None]) * 255 // (255 - black[:, :, None])
    return np.dstack([colours, black]).astype(np.uint8)
