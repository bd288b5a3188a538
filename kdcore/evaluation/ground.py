"""How much a measured number would change on other ground of the same kind: the variance that test tiles give it.

Neighbouring tiles are alike, so a hundred of them may be worth ten. Two ways lead to the variance of a sum over tiles:

- *Scenes.* With eight equally large scenes or more (unequal ones count for less), whole scenes are the blocks:
  `G / (G - 1) * sum of squares of the scenes' sums`, with G - 1 degrees of freedom. Nothing is assumed within a scene.
  Scenes that lie close together, such as patches cut from one picture, are one *field* and count as one scene.
- *Correlation.* Otherwise the tiles' contributions are taken for a random field whose correlation falls with the
  distance h (in tiles) as `(1 - nugget) * exp(-h / length)`. No single length is believed: for each length and nugget of
  a grid, restricted maximum likelihood gives the field's variance and a likelihood; the variance of the sum and the
  number of independent blocks, `tiles^2 / sum of all pairs' correlations`, are averaged (in logarithms) with the
  likelihoods as weights. Degrees of freedom are blocks - 1.

Contributions with heavy tails (a class that a few tiles hold) tell their variance less well: degrees of freedom shrink by
`2 / (kurtosis - 1)`, which is 1 for a normal distribution. `benchmarks/coverage.py` simulates what the intervals cover.
"""

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdcore.evaluation.scores import Place, Tile

Values = NDArray[np.float64]
SCENES = 8  # from so many (equally large) scenes on, scenes are the blocks
LENGTHS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 9.0, 13.0)
NUGGETS = (0.0, 0.4)
REACH = 0.6  # of the side of a square of so many tiles: longer correlations cannot be told from a constant
INDEPENDENT = 3.0  # how much likelier independent tiles are taken to be, beforehand, than any one correlation
CLOSEST = 0.25  # tiles: pictures of one place at different times are alike, but no copies
STEPS = np.concatenate(
    [[1e-9], np.geomspace(0.0995, 85, 680)]
)  # tiles: pairs are counted between these distances; 1 % apart
CENTRES = 3000  # tiles whose neighbours are counted: of more they tell the mean to 1 %
WINDOW = 16  # tiles: likelihoods are computed in windows, so that time grows with the tiles and not with their cube


class Spread(NamedTuple):
    """Of R sums over tiles, each (R,)."""

    variance: Values
    blocks: Values
    """How many independent blocks the tiles are worth."""
    freedom: Values
    """Degrees of freedom of the variance, at least 1."""
    length: Values
    """Correlation length in tiles; nan where scenes are the blocks."""


class Ground:
    """The tiles of a test split, and how alike neighbours among them are.

    Args:
        tiles: scene, row and column (px) of each tile.
        places: where they lie among each other; without it scenes lie far apart.
    """

    def __init__(self, tiles: Sequence[Tile], places: Sequence[Place] = ()) -> None:
        places = places or [Place(scene, row, column, scene) for scene, row, column in tiles]
        names = np.array([scene for scene, _, _ in tiles])
        corners = np.array([corner for _, *corner in tiles], dtype=np.int64).reshape(-1, 2)
        self.scenes = len(np.unique(names))
        self.side = _side(np.unique(names, return_inverse=True)[1].astype(np.int64), corners)
        """Side of a tile, px."""
        self.field = np.unique([place.field for place in places], return_inverse=True)[1].astype(np.int64)
        self.places = np.array([(place.row, place.column) for place in places]).reshape(-1, 2) / self.side
        whole = np.unique([place.whole for place in places], return_inverse=True)[1].astype(np.int64)
        self.wholes = int(whole.max()) + 1
        self.touching = bool(self.field.max() > whole.max())
        """Whether fields may touch, and are taken for independent all the same."""
        self.block = whole if equally_large(whole) >= SCENES else self.field
        self.equal_blocks = equally_large(self.block)
        self.by_scene = self.equal_blocks >= SCENES

    def __len__(self) -> int:
        return len(self.field)

    def spread(self, fields: Values) -> Spread:
        """The variance of the sums of contributions over the tiles.

        Args:
            fields: (R, T) contributions; a row that holds nan has an unknown variance.

        Returns:
            Values for each row; all nan for a single tile.
        """
        known = np.isfinite(fields).all(axis=1) & (len(self) > 1)
        found = np.full((4, len(fields)), np.nan)
        if known.any():
            rows = fields[known] - fields[known].mean(axis=1, keepdims=True)
            found[:, known] = self._by_scene(rows) if self.by_scene else self._by_correlation(rows)
        return Spread(*found)

    def groups(self, side: float) -> NDArray[np.int64]:
        """The block of each tile, (T,): its scene where scenes are the blocks, else a square of about `side` tiles."""
        if self.by_scene:
            return self.block
        step = max(1, round(side))
        cells = np.column_stack([self.field, self.places // step])
        return np.unique(cells, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)

    def _by_scene(self, fields: Values) -> tuple[Values, ...]:
        count = int(self.block.max()) + 1
        sums = np.zeros((len(fields), count))
        np.add.at(sums.T, self.block, fields.T)
        variance = count / (count - 1) * (sums**2).sum(axis=1)
        blocks = np.full(len(fields), self.equal_blocks)
        return variance, blocks, np.maximum((blocks - 1) * _tails(sums), 1), np.full(len(fields), np.nan)

    def _by_correlation(self, fields: Values) -> tuple[Values, ...]:
        count = len(self)
        lengths, nuggets = _models(count)
        quadratic, linear = np.zeros((len(lengths), len(fields))), np.zeros((len(lengths), len(fields)))
        ones, logs = np.zeros(len(lengths)), np.zeros(len(lengths))
        for index in self._windows():
            places = self.places[index] - self.places[index].min(axis=0)
            where = tuple(map(tuple, places.round(3).tolist()))
            for number, (inverse, sums, log) in enumerate(_inverses(where, len(lengths))):
                part = fields[:, index]
                quadratic[number] += np.einsum("rt,rt->r", part @ inverse, part)
                linear[number] += part @ sums
                ones[number] += sums.sum()
                logs[number] += log
        scale = np.maximum(quadratic - linear**2 / ones[:, None], 0) / (count - 1)  # (models, R)
        still = scale.max(axis=0) < 1e-24  # contributions that are all nothing
        scale[:, still] = 1.0
        fit = -0.5 * (logs + np.log(ones))[:, None] - 0.5 * (count - 1) * np.log(np.maximum(scale, 1e-300))
        fit[0] += np.log(INDEPENDENT)
        weights = np.exp(fit - fit.max(axis=0))
        weights /= weights.sum(axis=0)
        pairs = self._pairs(lengths, nuggets)
        variance = np.exp((weights * np.log(np.maximum(scale, 1e-300) * pairs[:, None])).sum(axis=0))
        blocks = np.exp((weights * np.log(count**2 / pairs)[:, None]).sum(axis=0))
        freedom = np.maximum((blocks - 1) * _tails(fields), 1)
        return np.where(still, 0.0, variance), blocks, freedom, weights.T @ (lengths * (1 - nuggets))

    def _windows(self) -> list[NDArray[np.intp]]:
        """The tiles of each field in windows of 16 x 16 tiles."""
        cells = np.column_stack([self.field, self.places // WINDOW])
        window = np.unique(cells, axis=0, return_inverse=True)[1].reshape(-1)
        return [np.flatnonzero(window == number) for number in range(window.max() + 1)]

    @cached_property
    def _lags(self) -> Values:
        """Pairs of tiles of one field by their distance, (STEPS,), each pair twice; of many tiles as a part of them tells."""
        points = np.column_stack([self.places, 10 * STEPS[-1] * self.field])  # fields lie apart in a third dimension
        some = points
        if len(points) > CENTRES:
            some = np.random.default_rng(0).choice(points, CENTRES, replace=False)
        from scipy.spatial import cKDTree  # here, since who only shows an interval does without scipy

        within = cKDTree(some).count_neighbors(cKDTree(points), STEPS)
        return np.asarray(np.diff(within, prepend=len(some)) * (len(points) / len(some)))

    def _pairs(self, lengths: Values, nuggets: Values) -> Values:
        """Sum of the correlations of all pairs of tiles, for each model; of other fields none."""
        distances = np.maximum(np.append(0, (STEPS[1:] + STEPS[:-1]) / 2), CLOSEST)
        models = zip(lengths.tolist(), nuggets.tolist(), strict=True)
        return np.array([(self._lags * _correlation(distances, *model)).sum() + len(self) for model in models])


def equally_large(group: NDArray[np.int64]) -> float:
    """So many groups of one size would tell as much as these of different sizes."""
    sizes = np.bincount(group).astype(np.float64)
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def _models(tiles: int) -> tuple[Values, Values]:
    """Length and nugget of each model that so many tiles can tell; the first is independence."""
    known = (length for length in LENGTHS if length <= REACH * np.sqrt(tiles))
    lengths, nuggets = np.array([(0.0, 0.0), *((length, nugget) for length in known for nugget in NUGGETS)]).T
    return lengths, nuggets


def _correlation(distance: Values, length: float, nugget: float) -> Values:
    if length == 0:
        return np.asarray(distance == 0, dtype=np.float64)
    return np.asarray(np.where(distance == 0, 1.0, (1 - nugget) * np.exp(-distance / length)))


@lru_cache(maxsize=4)
def _inverses(places: tuple[tuple[float, float], ...], models: int) -> list[tuple[Values, Values, float]]:
    """Inverse correlation matrix, its row sums, and the logarithm of the determinant, of each model on these places."""
    every = [(0.0, 0.0), *((length, nugget) for length in LENGTHS for nugget in NUGGETS)]
    rows, columns = np.array(places, dtype=np.float64).T
    distance = np.maximum(np.hypot(rows[:, None] - rows, columns[:, None] - columns), CLOSEST)
    np.fill_diagonal(distance, 0)
    found = []
    for length, nugget in every[:models]:
        matrix = _correlation(distance, length, nugget)
        inverse: Values = np.asarray(np.linalg.inv(matrix), dtype=np.float64)
        found.append((inverse, np.asarray(inverse.sum(axis=0)), float(np.linalg.slogdet(matrix)[1])))
    return found


def _tails(values: Values) -> Values:
    """By how much heavy tails shrink the degrees of freedom, (R,) in (0, 1]: 1 up to the kurtosis of a normal distribution."""
    square = (values - values.mean(axis=1, keepdims=True)) ** 2
    second = square.mean(axis=1)
    kurtosis = np.divide((square**2).mean(axis=1), second**2, out=np.ones_like(second), where=second > 0)
    return np.asarray(np.minimum(1, 2 / np.maximum(kurtosis - 1, 1e-9)))


def _side(scene: NDArray[np.int64], corners: NDArray[np.int64]) -> int:
    """Side of a tile in px: the smallest step between corners of one scene; 1 where no two tiles share a scene."""
    order = np.array([0])
    for axis in (0, 1):
        steps = np.diff(np.unique(np.column_stack([scene, corners[:, axis]]), axis=0), axis=0)
        order = np.concatenate([order, steps[steps[:, 0] == 0, 1]])
    steps = order[order > 0]
    return int(np.gcd.reduce(steps)) if len(steps) else 1
