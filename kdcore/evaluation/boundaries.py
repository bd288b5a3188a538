"""The pixels along the boundaries of a class (Cheng et al. 2021, Boundary IoU)."""

import numpy as np
from numpy.typing import NDArray


def boundary_pixels(distance_metres: float, metres_per_pixel: float | None) -> int:
    """Width of the boundary band in pixels, at least 1; without a known resolution a metre counts as a pixel."""
    return max(1, round(distance_metres / (metres_per_pixel or 1.0)))


def boundary_band(mask: NDArray[np.bool_], valid: NDArray[np.bool_], distance: int) -> NDArray[np.bool_]:
    """The pixels of a mask within `distance` px (in rows and columns) of a valid pixel outside it.

    This is the mask minus its erosion by a square of 2 * distance + 1 (Cheng et al. 2021, Boundary IoU), except that
    the edge of the window and pixels that are not valid make no boundary: what lies there is not known.

    Args:
        mask: (H, W) bool.
        valid: (H, W) bool, the pixels that are scored.
        distance: width of the band, px.

    Returns:
        (H, W) bool.
    """
    height, width = mask.shape
    inner = np.ones((height + 2 * distance, width + 2 * distance), dtype=bool)
    inner[distance : distance + height, distance : distance + width] = mask | ~valid
    for axis in (0, 1):
        reach, window = 1, 2 * distance + 1
        while reach < window:  # doubling: a window of w pixels takes log2(w) passes, whatever the image
            step = min(reach, window - reach)
            inner = inner[:-step] & inner[step:] if axis == 0 else inner[:, :-step] & inner[:, step:]
            reach += step
    return mask & valid & ~inner
