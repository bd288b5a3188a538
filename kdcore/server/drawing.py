"""From numbers to small pictures: masks, disagreement and probabilities as palette PNGs, imagery as colour PNGs."""

import io
import zlib
from collections.abc import Collection as Some
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kdcore.evaluation.levels import LEVELS, NODATA, decide
from kdcore.evaluation.operating import level_of
from kdcore.views.map_layers import PROBABILITY_COLOURS

Classes = NDArray[np.uint8]
Valid = NDArray[np.bool_]

PHOTOGRAPH = {
    "compress_type": zlib.Z_RLE,
    "compress_level": 1,
}  # faster, and larger only where single pixels are magnified
AGREEMENT, ONLY_FIRST, ONLY_SECOND, BOTH_WRONG = range(4)


def classes_of(levels: NDArray[np.uint8], valid: Valid, threshold: float = 0.5) -> Classes:
    """The class that a run decides on for each pixel.

    Args:
        levels: (K, H, W) uint8 probabilities, 0..254.
        valid: (H, W) bool.
        threshold: probability from which the second of two classes is decided on; without meaning for more classes.

    Returns:
        (H, W) uint8: index of the class, 255 where not valid.
    """
    return np.where(valid, decide(levels, level_of(threshold)), np.uint8(NODATA)).astype(np.uint8)


def disagreement(truth: Classes, first: Classes, second: Classes) -> NDArray[np.uint8]:
    """Where two runs differ from the truth.

    Args:
        truth: (H, W) class indices, 255 where unknown.
        first: classes that one run decided on, likewise.
        second: those of the other.

    Returns:
        (H, W) uint8: 0 where both are right or something is unknown, 1 where only the first is right, 2 where only the
        second is, 3 where both are wrong.
    """
    known = (truth != NODATA) & (first != NODATA) & (second != NODATA)
    first_right, second_right = first == truth, second == truth
    code = np.full(truth.shape, AGREEMENT, dtype=np.uint8)
    code[known & first_right & ~second_right] = ONLY_FIRST
    code[known & ~first_right & second_right] = ONLY_SECOND
    code[known & ~first_right & ~second_right] = BOTH_WRONG
    return code


def probability_palette() -> list[str]:
    """A colour for each of the 255 levels, between those of `PROBABILITY_COLOURS`."""
    stops = np.array([tuple(bytes.fromhex(colour[1:])) for colour in PROBABILITY_COLOURS], dtype=float)
    at = np.linspace(0, len(stops) - 1, LEVELS)
    table = np.stack([np.interp(at, np.arange(len(stops)), stops[:, channel]) for channel in range(3)], axis=1)
    return [f"#{red:02X}{green:02X}{blue:02X}" for red, green, blue in np.rint(table).astype(int)]


def palette_png(indices: NDArray[np.uint8], colours: Sequence[str], clear: Some[int] = ()) -> bytes:
    """(H, W) indices as a PNG with a palette, a hundredth of the size of a colour picture of the same.

    Indices in `clear`, and those that have no colour, are transparent.
    """
    picture = Image.fromarray(np.minimum(indices, np.uint8(len(colours))))
    picture.putpalette(b"".join(bytes.fromhex(colour[1:]) for colour in (*colours, "#000000")))
    opacity = bytes(0 if index in clear or index == len(colours) else 255 for index in range(len(colours) + 1))
    return encode(picture, transparency=opacity)


def imagery_png(image: NDArray[np.uint8], valid: Valid) -> bytes:
    """(1 or 3, H, W) imagery, transparent where there is no data."""
    bands = image if len(image) == 3 else image[[0, 0, 0]]
    if not valid.all():
        bands = np.concatenate([bands, np.where(valid, np.uint8(255), np.uint8(0))[None]])
    return encode(Image.fromarray(np.ascontiguousarray(np.moveaxis(bands, 0, -1))), **PHOTOGRAPH)


def encode(picture: Image.Image, compress_level: int = 3, **options: Any) -> bytes:
    """A picture as PNG, compressed for speed."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=compress_level, **options)
    return buffer.getvalue()
