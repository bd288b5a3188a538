"""Probabilities in levels: 255 for maps, and for scores a few hundred that are chosen from the pixels themselves.

A map needs little: 255 evenly spaced probabilities look right and take one byte. A score needs more: a network that is sure of
itself puts most pixels above 0.998 or below 0.002, where a map has one level, and the order of pixels in it is lost. Scores
therefore look at log-odds `z = ln p / (1 - p)`. They are rounded once to 65,535 codes, which are finest where the pixels are
(`Coding`), and codes are put together to levels that hold about as many pixels each (`choose_borders`).
"""

from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from kdcore.errors import DataError

LEVELS = 255
"""Number of levels of a map: level l stands for the probability l / 254."""
NODATA = 255
"""Level of a pixel without a prediction, and label of a pixel that is not scored."""
POSITIVE_LEVEL = 127
"""The level of p = 0.5, from which a binary network says yes."""
CALIBRATION_BINS = 15
"""Intervals of probability in which calibration is measured (Guo et al. 2017)."""
CODES = 65_536
"""Number of codes of log-odds; a code of 32,768 is the centre."""

_HALF, _WIDEST, _FARTHEST = 32_767, 256.0, 1e6
_PARTS = 256  # of a class's positives, and of its negatives, that get a level each
_FIRST = 32  # pixels that get a level each: with few marked, precision jumps

Levels = NDArray[np.uint8]
Codes = NDArray[np.uint16]
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


def decide(levels: Levels) -> Levels:
    """The predicted class of each pixel from its levels in a map.

    Args:
        levels: (K, H, W) uint8.

    Returns:
        (H, W) uint8: the class of the highest level, the first of equals; for one map 1 where the level is 127 or more.
    """
    if len(levels) == 1:
        yes: Levels = (levels[0] >= POSITIVE_LEVEL).astype(np.uint8)
        return yes
    highest, decided = levels[0], np.zeros(levels.shape[1:], dtype=np.uint8)
    for index, level in enumerate(levels[1:], start=1):  # 30 times faster than numpy's argmax over the first axis
        decided[level > highest] = index
        highest = np.maximum(highest, level)
    return decided


def log_odds_of(probability: ArrayLike) -> Floats:
    """Ln p / (1 - p), which is infinite at 0 and 1."""
    odds: Floats = logit(np.asarray(probability, dtype=np.float64))
    return odds


class Coding(NamedTuple):
    """How log-odds become codes: `32768 + round(32767 u / (|u| + bend))` with `u = z - centre`.

    A step is bend / 32767 wide at the centre, four times as wide one bend away from it and 121 times ten bends away.
    """

    centre: float
    bend: float

    @classmethod
    def fitting(cls, log_odds: NDArray[np.floating[Any]]) -> Self:
        """Finest where these log-odds are: around their mean, with a bend of eight standard deviations, 256 at most."""
        known = np.clip(log_odds[np.isfinite(log_odds)], -_FARTHEST, _FARTHEST).astype(np.float64)
        if not known.size:
            return cls(0.0, 1.0)
        return cls(float(known.mean()), float(np.clip(8 * known.std(), 1e-6, _WIDEST)))

    def encode(self, log_odds: NDArray[np.floating[Any]]) -> Codes:
        """Codes in 1..65535 that keep the order of log-odds; infinity is allowed."""
        bounded = np.clip(log_odds, -_FARTHEST, _FARTHEST) - log_odds.dtype.type(self.centre)
        share = bounded / (np.abs(bounded) + log_odds.dtype.type(self.bend))
        codes: Codes = (np.rint(share * _HALF) + (_HALF + 1)).astype(np.uint16)
        return codes

    def decode(self, codes: ArrayLike) -> Floats:
        """The log-odds of codes; halves stand for the border between two."""
        share = np.clip((np.asarray(codes, dtype=np.float64) - (_HALF + 1)) / _HALF, -1 + 1e-9, 1 - 1e-9)
        odds: Floats = self.centre + self.bend * share / (1 - np.abs(share))
        return odds


MAP_BORDERS: Floats = np.append(-np.inf, log_odds_of((np.arange(1, LEVELS) - 0.5) / (LEVELS - 1)))
"""The lowest log-odds of each of the 255 levels of a map."""


def _grid() -> Floats:
    """All borders, less those that another one stands for: closer than codes are."""
    grid = MAP_BORDERS
    for more in (log_odds_of(np.arange(1, CALIBRATION_BINS) / CALIBRATION_BINS), np.arange(-32, 32.1, 0.25)):
        grid = np.union1d(grid, more[np.abs(more[:, None] - grid).min(axis=1) > 0.01])
    return grid


GRID: Floats = _grid()
"""Lowest log-odds of the levels in which curves of several networks are drawn and averaged: those of a map, the borders of the
intervals of calibration, and every quarter up to 32."""
GRID_PROBABILITY: Floats = expit((np.append(np.maximum(GRID[1:], -64), 64.0) + np.append(-64.0, GRID[1:])) / 2)
"""The probability that each level of `GRID` stands for."""


def choose_borders(positives: NDArray[Any], negatives: NDArray[Any], coding: Coding) -> tuple[NDArray[np.intp], Floats]:
    """Borders of the levels in which a class is counted.

    No level holds more than 1/256 of the class's pixels, nor of the others, unless they have one code; a code that holds so
    many has a level of its own. The levels of `GRID` are unions of levels.

    Args:
        positives: (65536,) pixels of the class by code.
        negatives: (65536,) other pixels by code.
        coding: what made the codes.

    Returns:
        The first code of each level, rising from 0, and its lowest log-odds, rising from -infinity: (L,) each.
    """
    found = [np.zeros(0, dtype=np.intp)]
    for counts in (positives, negatives):
        total = int(counts.sum())
        if total:
            above = np.cumsum(counts[::-1])
            heavy = np.flatnonzero(counts * _PARTS >= total)
            # A level ends with the pixel that fills it: the others of its kind lie above, at even steps.
            ends = np.append(np.arange(1, _FIRST), np.ceil(np.arange(1, _PARTS) / _PARTS * total))
            found += [CODES - 1 - np.searchsorted(above, ends[ends <= total]), heavy, heavy + 1]
    codes = np.unique(np.concatenate(found))
    codes = codes[(codes > 0) & (codes < CODES)]
    fixed = coding.encode(GRID).astype(np.intp)
    fixed[0] = 0
    both = np.append(fixed, codes)
    borders = np.append(GRID, coding.decode(codes - 0.5))
    first, place = np.unique(both, return_index=True)  # of equals the first: a border of the grid stays exact
    return first, np.maximum.accumulate(borders[place])


def regroup(counts: NDArray[Any], levels: NDArray[np.floating[Any]], borders: Floats) -> NDArray[np.int64]:
    """Counts per level as counts per coarser level.

    Args:
        counts: (..., K, L) pixels per level.
        levels: (K, L) lowest log-odds of each level, rising.
        borders: (E,) lowest log-odds of each coarser level, rising from -infinity.

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
