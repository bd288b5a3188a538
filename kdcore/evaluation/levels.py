"""Probabilities in levels: 255 for maps, and for scores a few hundred that are chosen from the pixels themselves.

A map needs little: 255 evenly spaced probabilities look right and take one byte. A score needs more: a network that is sure of
itself puts most pixels above 0.998 or below 0.002, where a map has one level, and the order of pixels in it is lost. Scores
therefore look at *odds*, p / (1 - p), which tell 0.9999 from 0.99999. The first 18 bits of a float are its *code*: steps of
0.002 in the logarithm of odds from 1e-38 to 1e38. Codes are put together to levels that hold about as many pixels each
(`choose_borders`).
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdcore.errors import DataError

LEVELS = 255
"""Number of levels of a map: level l stands for the probability l / 254."""
NODATA = 255
"""Level of a pixel without a prediction, and label of a pixel that is not scored."""
POSITIVE_LEVEL = 127
"""The level of p = 0.5, from which a binary network says yes."""
CALIBRATION_BINS = 15
"""Intervals of probability in which calibration is measured (Guo et al. 2017)."""
_SHIFT = 14  # bits of a float32 that a code leaves away
CODES = 1 << (31 - _SHIFT)
"""Number of codes of odds, which are never negative."""

_PARTS = 256  # of a class's positives, and of its negatives, that get a level each
_FIRST = 32  # pixels that get a level each: with few marked, precision jumps

Levels = NDArray[np.uint8]
Singles = NDArray[np.float32]
Floats = NDArray[np.float64]


def quantise(probabilities: NDArray[np.floating[Any]]) -> Levels:
    """Round probabilities to the levels of a map: `round(254 p)`.

    Args:
        probabilities: float in [0, 1], any shape, usually (K, H, W).

    Returns:
        uint8 in 0..254 of the same shape.

    Raises:
        DataError: a value is not a number or lies outside [0, 1] by more than rounding.
    """
    if probabilities.size:
        low, high = float(probabilities.min()), float(probabilities.max())
        if not (low >= -1e-4 and high <= 1 + 1e-4):
            raise DataError(
                f"Probabilities must lie between 0 and 1, but go from {low:g} to {high:g}. "
                "Apply softmax or sigmoid to the network's output; 'nan' means that its training diverged."
            )
    levels: Levels = np.rint(np.clip(probabilities, 0, 1) * (LEVELS - 1)).astype(np.uint8)
    return levels


def decide(levels: Levels, positive: int = POSITIVE_LEVEL) -> Levels:
    """The predicted class of each pixel from its levels in a map.

    Args:
        levels: (K, H, W) uint8.
        positive: from which level on the second of two classes is decided on.

    Returns:
        (H, W) uint8: the class of the highest level, the first of equals; for one map 1 where the level is `positive` or more.
    """
    if len(levels) == 1:
        yes: Levels = (levels[0] >= positive).astype(np.uint8)
        return yes
    highest, decided = levels[0], np.zeros(levels.shape[1:], dtype=np.uint8)
    for index, level in enumerate(levels[1:], start=1):  # 30 times faster than numpy's argmax over the first axis
        decided[level > highest] = index
        highest = np.maximum(highest, level)
    return decided


def odds_of(probability: ArrayLike) -> Floats:
    """P / (1 - p), which is infinite at 1."""
    share = np.asarray(probability, dtype=np.float64)
    odds: Floats = np.divide(share, 1 - share, out=np.full(share.shape, np.inf), where=share < 1)
    return odds


def code_of(odds: Singles) -> NDArray[np.int32]:
    """Codes in 0..CODES - 1 that keep the order of odds; infinity is allowed."""
    codes: NDArray[np.int32] = odds.view(np.int32) >> _SHIFT
    return codes


def lowest_odds(codes: ArrayLike) -> Singles:
    """The smallest odds that have a code."""
    bits = np.asarray(codes, dtype=np.int64) << _SHIFT
    return bits.astype(np.int32).view(np.float32)


MAP_BORDERS: Floats = np.append(0, odds_of((np.arange(1, LEVELS) - 0.5) / (LEVELS - 1)))
"""The lowest odds of each of the 255 levels of a map."""


def _grid() -> Floats:
    """All borders, less those that another one stands for: closer than a few codes."""
    grid = MAP_BORDERS
    for more in (odds_of(np.arange(1, CALIBRATION_BINS) / CALIBRATION_BINS), np.exp(np.arange(-32, 32.1, 0.25))):
        grid = np.union1d(grid, more[np.abs(np.log(more[:, None] / grid[1:])).min(axis=1) > 0.01])
    return grid


GRID: Floats = _grid()
"""Lowest odds of the levels in which curves of several networks are drawn and averaged: those of a map, the borders of the
intervals of calibration, and every quarter of their logarithm up to 32."""
_MIDDLE = np.sqrt(np.append(1e-28, GRID[1:]) * np.append(GRID[1:], 1e28))
GRID_PROBABILITY: Floats = _MIDDLE / (1 + _MIDDLE)
"""The probability that each level of `GRID` stands for."""


def choose_borders(values: Singles, numbers: NDArray[np.int64], others: NDArray[np.int64]) -> Singles:
    """Borders of the levels in which a class is counted.

    No level holds more than 1/256 of the class's pixels, nor of the others, unless they have one value (or, of the others, one
    code), and what has so many pixels has a level of its own. The levels of `GRID` are unions of levels.

    Args:
        values: (V,) different odds of the class's pixels, rising.
        numbers: (V,) pixels of each.
        others: (CODES,) other pixels by code.

    Returns:
        (L,) the lowest odds of each level, rising from 0.
    """
    found = [GRID.astype(np.float32)]
    for border, counts in ((lambda at: np.append(values, np.float32(np.inf))[at], numbers), (lowest_odds, others)):
        total = int(counts.sum())
        if total:
            above = np.cumsum(counts[::-1])
            heavy = np.flatnonzero(counts * _PARTS >= total)
            # A level ends with the pixel that fills it: the others of its kind lie above, at even steps.
            ends = np.append(np.arange(1, _FIRST), np.ceil(np.arange(1, _PARTS) / _PARTS * total))
            last = len(counts) - 1 - np.searchsorted(above, ends[ends <= total])
            found += [border(last), border(heavy), border(np.minimum(heavy + 1, CODES - 1))]
    return np.unique(np.concatenate(found))


def regroup(counts: NDArray[Any], levels: NDArray[np.floating[Any]], borders: Floats) -> NDArray[np.int64]:
    """Counts per level as counts per coarser level.

    Args:
        counts: (..., K, L) pixels per level.
        levels: (K, L) lowest odds of each level, rising.
        borders: (E,) lowest odds of each coarser level, rising from 0.

    Returns:
        (..., K, E) int64.
    """
    coarse = np.zeros((*counts.shape[:-1], len(borders)), dtype=np.int64)
    for index, lowest in enumerate(levels):
        place = np.searchsorted(borders.astype(levels.dtype), lowest, side="right") - 1
        starts = np.flatnonzero(np.diff(place, prepend=-1))
        if len(starts):
            coarse[..., index, place[starts]] = np.add.reduceat(counts[..., index, :], starts, axis=-1, dtype=np.int64)
    return coarse
