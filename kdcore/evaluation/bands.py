"""How sure is a curve? Confidence bands, and intervals for each class, from histograms.

Blocks of test tiles are drawn with replacement, the same blocks for every network: squares as wide as one independent
block, or whole scenes (`kdcore.evaluation.ground`). On each resample the curves are drawn again; between which precisions
95 % of them pass at a recall is the band there. Bands hold the noise of the ground only: single seeds are drawn beside
them. The intervals of AP and of differences hold both; they are those of `kdcore.evaluation.compare`.

In a simulation of 40 independent tiles a band of 95 % held the true curve 94.5 % of the time between recalls of 10 and
95 %, nowhere there less than 90 %. At recalls of a few percent a few pixels decide, and it is too narrow
(tests/evaluation/test_bands.py).

Scores of large test splits are big (hundreds of counts for each tile and class), so they are taken one after another, and only
sums and summaries are kept.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from kdcore.errors import DataError
from kdcore.evaluation.curves import Floats, precision_between, precision_in_steps, prevalence
from kdcore.evaluation.ground import Ground
from kdcore.evaluation.influence import Measured, measure
from kdcore.evaluation.levels import GRID, regroup
from kdcore.evaluation.operating import MEAN, OperatingPoint, chosen_level, operating_point, view_curve
from kdcore.evaluation.scores import Scores, aligned
from kdcore.evaluation.summary import mean_of_known
from kdcore.evaluation.uncertainty import Difference, estimate, paired, quantile, stacked, with_classes

RECALLS: Floats = np.linspace(0.01, 1, 100)
"""Recalls at which bands are known."""
BAND_RESAMPLES = 512  # enough for a drawing: an edge moves by less than its line's width
NAMES = {
    "alone": "Student alone",
    "distilled": "Distilled student",
    "teacher": "Teacher",
    "all_labels": "Student with all labels",
}

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class ArmCurves:
    """One arm: S seeds, K scored classes. Where classes are rows, the mean over them is one more: the last.

    Attributes:
        positives, negatives: (S, K, 255) pixels of the test split per level of a map, for thresholds.
        fine: the same two in the levels of `kdcore.evaluation.levels.GRID`, (S, K, G), for curves and calibration.
        validation: the same two of the validation split, for choosing thresholds.
        ap: (K + 1, 3) average precision, mean over seeds, with its interval; nan where it cannot be known.
        band: (K + 1, 2, 100) lower and upper precision at `RECALLS` of all seeds together.
    """

    positives: Counts
    negatives: Counts
    fine: tuple[Counts, Counts]
    validation: tuple[Counts, Counts]
    ap: Floats
    band: Floats

    @property
    def pooled(self) -> tuple[Counts, Counts]:
        """The pixels of all seeds together in the levels of `GRID`, two of (K, G)."""
        return summed(self.fine)


@dataclass(frozen=True)
class StudyCurves:
    """Everything that is drawn of a study's test split; a few hundred kilobytes, whatever its size.

    Attributes:
        classes: names of the K scored classes.
        arms: teacher, alone, distilled and, where it was trained, all_labels.
        gains: AP of the distilled student minus that of the student alone, in points, for each class and the mean;
            the intervals of classes are widened for their number (Holm).
        gain_band: (K + 1, 3, 100) precision of the distilled student minus that of the student alone at the same recall,
            in points, and its interval (imagery only); ties inside a level are drawn apart, the mean is that of classes.
        prevalence: (K,) share of each class in the labelled pixels.
        tiles: in the test split.
        confidence: of bands and intervals.
    """

    classes: tuple[str, ...]
    arms: dict[str, ArmCurves]
    gains: list[Difference]
    gain_band: Floats
    prevalence: Floats
    tiles: int
    confidence: float

    @property
    def seeds(self) -> int:
        """Trainings of a student."""
        return len(self.arms["alone"].positives)

    @property
    def views(self) -> list[int]:
        """The classes, and their mean where there are several."""
        return [*range(len(self.classes)), *([MEAN] if len(self.classes) > 1 else [])]

    def chosen_levels(self, view: int) -> dict[str, int]:
        """Each arm's threshold with the best F1 on the validation split, all its seeds together."""
        levels = {}
        for arm, curves in self.arms.items():
            positives, negatives = curves.validation
            levels[arm] = chosen_level(positives.sum(axis=0), negatives.sum(axis=0), view)
        return levels

    def points(self, view: int, levels: Mapping[str, int]) -> dict[str, OperatingPoint]:
        """Where thresholds put the arms on the test split's curves."""
        return {
            arm: operating_point(curves.positives, curves.negatives, view, levels[arm])
            for arm, curves in self.arms.items()
        }

    def guess(self, view: int) -> float:
        """The precision, and the AP, that a guess reaches: the class's share, or the mean share of those that occur."""
        if view != MEAN:
            return float(self.prevalence[view])
        return float(mean_of_known(np.where(self.prevalence > 0, self.prevalence, np.nan)))


@dataclass
class _Read:
    """What is kept of an arm while its seeds are read."""

    on_map: list[tuple[Counts, Counts]]
    on_grid: list[tuple[Counts, Counts]]
    measured: list[Measured]
    drawn: NDArray[np.float32]  # (resamples, 2, K, G): sums over seeds


def study_curves(
    test: Mapping[str, Iterable[Scores]],
    validation: Mapping[str, Iterable[Scores]],
    *,
    resamples: int = BAND_RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
) -> StudyCurves:
    """Measure the curves of the arms with their uncertainty.

    Args:
        test: for `alone`, `distilled`, `teacher` and, where it was trained, `all_labels` the test scores of each seed; they are
            read one after another.
        validation: the same of the validation split.
        resamples: draws of the bands' bootstrap; intervals need none.
        confidence: of bands and intervals, in (0, 1).
        seed: of the bootstrap.

    Raises:
        DataError: an arm is missing or empty, or classes, tiles or labels differ between arms.
    """
    reader = _Reader(resamples, seed)
    found = {
        arm: reader.read(test.get(arm, ()), name) for arm, name in NAMES.items() if arm in test or arm != "all_labels"
    }
    reference, ground, blocks = reader.reference, reader.ground, reader.blocks
    alone, distilled = found["alone"], found["distilled"]
    if len(distilled.measured) != len(alone.measured):
        raise DataError(
            f"The student alone has {len(alone.measured)} seeds, the distilled student {len(distilled.measured)}. Finish the study first."
        )
    classes = len(reference.scored)
    views = [*range(classes), MEAN]
    arms: dict[str, ArmCurves] = {
        arm: ArmCurves(
            *stacked_pairs(found[arm].on_map),
            stacked_pairs(found[arm].on_grid),
            _totals(validation.get(arm, ()), reference, NAMES[arm]),
            _average_precisions(ground, found[arm], classes, confidence),
            np.stack(
                [np.clip(_interval_along(*_passes(found[arm], view), blocks, confidence)[1:], 0, 1) for view in views]
            ),
        )
        for arm in ("teacher", "alone", "distilled", "all_labels")
        if arm in found
    }
    (at_a, again_a), (at_d, again_d) = _at_recalls(alone), _at_recalls(distilled)
    gain_band = [
        _interval_along(100 * (at_d - at_a)[view], 100 * (again_d - again_a)[:, view], blocks, confidence)
        for view in views
    ]
    return StudyCurves(
        tuple(reference.classes[index] for index in reference.scored),
        arms,
        with_classes(paired(ground, alone.measured, distilled.measured), classes, confidence),
        np.stack(gain_band),
        prevalence(*reference.total()),
        len(ground),
        confidence,
    )


class _Reader:
    """Reads the networks one after another; the first one's tiles and labels are those of all others."""

    reference: Scores
    ground: Ground
    blocks: int

    def __init__(self, resamples: int, seed: int) -> None:
        self._resamples, self._rng = resamples, np.random.default_rng(seed)
        self._weights: NDArray[np.float32] | None = None

    def read(self, networks: Iterable[Scores], name: str) -> _Read:
        """Count the seeds of an arm, and count their sum again on every resample of the blocks."""
        found: _Read | None = None
        for number, scores in enumerate(networks, start=1):
            if self._weights is None:
                self._begin(scores)
            assert self._weights is not None
            scores = aligned(scores, self.reference, f"{name}, seed number {number}")
            size = len(scores.scored), len(GRID)
            if found is None:
                found = _Read([], [], [], np.zeros((self._resamples, 2, *size), dtype=np.float32))
            found.on_map.append(scores.on_map())
            found.on_grid.append(scores.on_grid())
            found.measured.append(measure(scores))
            for side, counts in enumerate((scores.positives, scores.negatives)):
                flat = regroup(counts, scores.levels, GRID).reshape(len(counts), -1).astype(np.float32)
                found.drawn[:, side] += (self._weights @ flat).reshape(-1, *size)
        if found is None:
            raise DataError(f"{name}: there are no scores of it. Finish the study first.")
        return found

    def _begin(self, scores: Scores) -> None:
        """Cut the ground into blocks as wide as one independent block of the first network's mean AP, and draw them."""
        self.reference, self.ground = scores, Ground(scores.tiles, scores.places)
        worth = self.ground.spread(measure(scores).fields[[len(scores.scored)]]).blocks[0]
        side = float(np.sqrt(len(self.ground) / worth)) if np.isfinite(worth) else 1.0
        groups = self.ground.groups(side)
        self.blocks = int(groups.max()) + 1
        self._weights = block_weights(groups, self._resamples, self._rng)


def block_weights(groups: NDArray[np.int64], resamples: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """How often each resample draws each tile, (resamples, T): as many blocks as there are, with replacement."""
    blocks = int(groups.max()) + 1
    drawn = rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=resamples)
    return drawn[:, groups].astype(np.float32)


def widening(blocks: int, confidence: float) -> float:
    """By how much deviations of resamples of at least two blocks must grow to be as wide as they should be.

    `t / z * sqrt(n / (n - 1))`: Hesterberg 2015, The American Statistician 69(4), expanded percentiles.
    """
    # scipy.stats has the same two quantiles, and costs the dashboard 60 MB.
    normal = float(special.ndtri((1 + confidence) / 2))
    return quantile(blocks - 1, confidence) / normal * float(np.sqrt(blocks / (blocks - 1)))


def _average_precisions(ground: Ground, found: _Read, classes: int, confidence: float) -> Floats:
    """AP of each class and their mean with its interval, (K + 1, 3) in [0, 1]."""
    values, fields = stacked(found.measured)
    intervals = [one.interval(confidence) for one in estimate(ground, values[: classes + 1], fields[: classes + 1])]
    rows = np.array([(one.mean, one.low, one.high) for one in intervals])
    return np.asarray(np.clip(rows / 100, 0, 1))


def _passes(again: _Read, view: int) -> tuple[Floats, Floats]:
    """Precision at `RECALLS` of all seeds together: on all tiles, (100,), and on the resamples, (resamples, 100)."""
    whole = view_curve(*summed(stacked_pairs(again.on_grid)), view)
    full = precision_in_steps(whole[0][None], whole[1][None], RECALLS)[0]
    return full, precision_in_steps(*view_curve(again.drawn[:, 0], again.drawn[:, 1], view), RECALLS)


def _at_recalls(again: _Read) -> tuple[Floats, Floats]:
    """The same without steps, of every class and their mean: (K + 1, 100) and (resamples, K + 1, 100)."""
    full = precision_between(*summed(stacked_pairs(again.on_grid)), RECALLS)
    resamples, _, classes, levels = again.drawn.shape
    drawn = precision_between(
        again.drawn[:, 0].reshape(-1, levels), again.drawn[:, 1].reshape(-1, levels), RECALLS
    ).reshape(resamples, classes, -1)
    return _with_mean(full.T).T, np.moveaxis(_with_mean(np.moveaxis(drawn, 1, -1)), -1, 1)


def _interval_along(full: Floats, again: Floats, blocks: int, confidence: float) -> Floats:
    """A value at every recall, (100,), and its interval from resamples, (resamples, 100): (3, 100)."""
    known = again[np.isfinite(again).all(axis=1)]
    if blocks < 2 or not len(known) or np.isnan(full).any():
        return np.stack([full, np.full_like(full, np.nan), np.full_like(full, np.nan)])
    tail = 50 * (1 - confidence)
    draws = full + widening(blocks, confidence) * (known - full)
    return np.stack([full, *np.percentile(draws, [tail, 100 - tail], axis=0)])


def _totals(parts: Iterable[Scores], reference: Scores, name: str) -> tuple[Counts, Counts]:
    """Histograms of each seed over all tiles in the levels of a map, two of (S, K, 255)."""
    totals = []
    for scores in parts:
        if (scores.classes, scores.scored) != (reference.classes, reference.scored):
            raise DataError(
                f"{name}: the validation scores are of other classes than the test scores. Evaluate the run again."
            )
        totals.append(scores.on_map())
    if not totals:
        raise DataError(f"{name}: there are no validation scores to choose a threshold with. Evaluate the run again.")
    return stacked_pairs(totals)


def summed(pair: tuple[Counts, Counts]) -> tuple[Counts, Counts]:
    """Positives and negatives summed over the first axis."""
    return pair[0].sum(axis=0), pair[1].sum(axis=0)


def stacked_pairs(pairs: Sequence[tuple[Counts, Counts]]) -> tuple[Counts, Counts]:
    """Positives and negatives of several seeds as two arrays."""
    return np.stack([positives for positives, _ in pairs]), np.stack([negatives for _, negatives in pairs])


def _with_mean(values: Floats) -> Floats:
    """(..., K) with the mean of the known ones as one more: (..., K + 1)."""
    return np.concatenate([values, mean_of_known(values)[..., None]], axis=-1)
