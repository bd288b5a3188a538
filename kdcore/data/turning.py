"""The eight views of a square: quarter turns, mirrored or not."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

VIEWS = tuple((turns, flip) for flip in (False, True) for turns in range(4))
"""The eight ways in which a crop can lie: quarter turns, then mirrored or not. The first is upright."""


def turn(array: NDArray[Any], turns: int, flip: bool) -> NDArray[Any]:
    """Rotate the last two axes by `turns` quarter turns, then mirror: with both, the eight views of a square."""
    turned = np.rot90(array, turns, axes=(-2, -1))
    return turned[..., ::-1] if flip else turned


def turn_back(array: NDArray[Any], turns: int, flip: bool) -> NDArray[Any]:
    """Undo `turn`; like it, a view of the same memory."""
    return np.rot90(array[..., ::-1] if flip else array, -turns, axes=(-2, -1))
