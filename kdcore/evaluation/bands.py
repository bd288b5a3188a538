"""How sure is a curve? Confidence bands, and intervals for each class, from histograms.

Test tiles are drawn with replacement, the same tiles for every network (`kdcore.evaluation.compare` says why). On each
resample the curves are drawn again; between which precisions 95 % of them pass at a recall is the band there. The band
holds the noise of the imagery only: single seeds are drawn beside it. The intervals of AP and of differences hold both.

In a simulation of 40 tiles a band of 95 % held the true curve 94.5 % of the time between recalls of 10 and 95 %, nowhere
there less than 90 %. At recalls of a few percent a few pixels decide, and it is too narrow (tests/evaluation/test_bands.py).

Scores of large test splits are big (hundreds of counts for each tile and class), so they are taken one after another, and only
sums and summaries are kept.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kdcore.errors import DataError
from kdcore.evaluation.compare import (
    CHUNK,
    Bootstrap,
    Difference,
    aligned,
    mean_of_known,
    seed_noise,
    tile_weights,
    widening,
)
from kdcore.evaluation.curves import Floats, average_precision, prevalence
from kdcore.evaluation.levels import GRID, regroup
from kdcore.evaluation.operating import MEAN, OperatingPoint, chosen_level, operating_point, view_curve
from kdcore.evaluation.recalls import precision_between, precision_in_steps
from kdcore.evaluation.scores import Scores

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
        gains: AP of the distilled student minus that of the student alone, in points, for each class and the mean.
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
class _Replicates:
    """What is kept of an arm while its seeds are read: sums over seeds, and AP of each seed and resample."""

    on_map: list[tuple[Counts, Counts]]
    on_grid: list[tuple[Counts, Counts]]
    full: list[Floats]  # AP of each seed on all tiles, (K + 1,)
    ap: list[Floats]  # (resamples, K + 1) each
    drawn: NDArray[np.float32]  # (BAND_RESAMPLES, 2, K, G)

    @classmethod
    def none(cls, classes: int, resamples: int) -> "_Replicates":
        return cls([], [], [], [], np.zeros((resamples, 2, classes, len(GRID)), dtype=np.float32))


def study_curves(
    test: Mapping[str, Iterable[Scores]],
    validation: Mapping[str, Iterable[Scores]],
    *,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> StudyCurves:
    """Measure the curves of the arms with their uncertainty.

    Args:
        test: for `alone`, `distilled`, `teacher` and, where it was trained, `all_labels` the test scores of each seed; they are
            read one after another.
        validation: the same of the validation split.
        resamples: draws of the bootstrap; with the defaults the gain in mean AP is that of the study's report.
        confidence: of bands and intervals, in (0, 1).
        seed: of the bootstrap.

    Raises:
        DataError: an arm is missing or empty, or classes, tiles or labels differ between arms.
    """
    rng = np.random.default_rng(seed)
    weights: NDArray[np.uint16] | None = None
    reference: Scores | None = None
    found: dict[str, _Replicates] = {}
    for arm, name in NAMES.items():
        for number, scores in enumerate(test.get(arm, ()), start=1):
            if reference is None or weights is None:
                reference, weights = scores, tile_weights(len(scores.tiles), resamples, rng)
            if arm not in found:
                found[arm] = _Replicates.none(len(scores.scored), min(BAND_RESAMPLES, resamples))
            _add(found[arm], aligned(scores, reference, f"{name}, seed number {number}"), weights)
        if arm not in found and arm != "all_labels":
            raise DataError(f"{name}: there are no scores of it. Finish the study first.")
    assert reference is not None
    seeds = len(found["alone"].ap)
    if len(found["distilled"].ap) != seeds:
        raise DataError(
            f"The student alone has {seeds} seeds, the distilled student {len(found['distilled'].ap)}. Finish the study first."
        )

    tiles = len(reference.tiles)
    counts = dict.fromkeys([seeds, *(len(again.ap) for again in found.values())])
    noise = {count: seed_noise(count, resamples, rng) for count in counts}
    views = [*range(len(reference.scored)), MEAN]
    passes = {arm: [_passes(again, view) for view in views] for arm, again in found.items()}
    arms = {}
    for arm, again in found.items():
        bootstrap = Bootstrap(tiles, noise[len(again.ap)], confidence)
        full, drawn = _average_precisions(again)
        arms[arm] = ArmCurves(
            *stacked(again.on_map),
            stacked(again.on_grid),
            _totals(validation.get(arm, ()), reference, NAMES[arm]),
            np.clip([_as_row(bootstrap.difference(full[:, view], drawn[..., view])) for view in views], 0, 1),
            np.stack([np.clip(_interval_along(*both, tiles, confidence)[1:], 0, 1) for both in passes[arm]]),
        )
    bootstrap = Bootstrap(tiles, noise[seeds], confidence)
    (full_a, drawn_a), (full_d, drawn_d) = (_average_precisions(found[arm]) for arm in ("alone", "distilled"))
    gains = [
        bootstrap.difference(100 * (full_d - full_a)[:, view], 100 * (drawn_d - drawn_a)[..., view]) for view in views
    ]
    (at_a, again_a), (at_d, again_d) = (_at_recalls(found[arm]) for arm in ("alone", "distilled"))
    gain_band = [
        _interval_along(100 * (at_d - at_a)[view], 100 * (again_d - again_a)[:, view], tiles, confidence)
        for view in views
    ]
    return StudyCurves(
        tuple(reference.classes[index] for index in reference.scored),
        {arm: arms[arm] for arm in ("teacher", "alone", "distilled", "all_labels") if arm in arms},
        gains,
        np.stack(gain_band),
        prevalence(*reference.total()),
        tiles,
        confidence,
    )


def _add(again: _Replicates, scores: Scores, weights: NDArray[np.uint16]) -> None:
    """Count one seed, and count it again on every resample of the tiles."""
    again.on_map.append(scores.on_map())
    again.on_grid.append(scores.on_grid())
    again.full.append(_with_mean(average_precision(*scores.total(), scores.ties)))
    both = np.stack([scores.positives, scores.negatives], axis=1)
    coarse = regroup(both, scores.levels, GRID).astype(np.float32)
    fine = both.astype(np.float32)
    tiles = len(scores.tiles)
    ap = []
    for start in range(0, len(weights), CHUNK):
        part = weights[start : start + CHUNK].astype(np.float32)
        drawn = (part @ fine.reshape(tiles, -1)).reshape(len(part), *fine.shape[1:])
        ap.append(_with_mean(average_precision(drawn[:, 0], drawn[:, 1], scores.ties)))
        kept = again.drawn[start : start + CHUNK]
        kept += (part[: len(kept)] @ coarse.reshape(tiles, -1)).reshape(len(kept), *coarse.shape[1:])
    again.ap.append(np.concatenate(ap))


def _average_precisions(again: _Replicates) -> tuple[Floats, Floats]:
    """AP of each seed on all tiles, (S, K + 1), and on every resample, (S, resamples, K + 1)."""
    return np.stack(again.full), np.stack(again.ap)


def _passes(again: _Replicates, view: int) -> tuple[Floats, Floats]:
    """Precision at `RECALLS` of all seeds together: on all tiles, (100,), and on the resamples, (BAND_RESAMPLES, 100)."""
    whole = view_curve(*summed(stacked(again.on_grid)), view)
    full = precision_in_steps(whole[0][None], whole[1][None], RECALLS)[0]
    return full, precision_in_steps(*view_curve(again.drawn[:, 0], again.drawn[:, 1], view), RECALLS)


def _at_recalls(again: _Replicates) -> tuple[Floats, Floats]:
    """The same without steps, of every class and their mean: (K + 1, 100) and (BAND_RESAMPLES, K + 1, 100)."""
    full = precision_between(*summed(stacked(again.on_grid)), RECALLS)
    resamples, _, classes, levels = again.drawn.shape
    drawn = precision_between(
        again.drawn[:, 0].reshape(-1, levels), again.drawn[:, 1].reshape(-1, levels), RECALLS
    ).reshape(resamples, classes, -1)
    return _with_mean(full.T).T, np.moveaxis(_with_mean(np.moveaxis(drawn, 1, -1)), -1, 1)


def _interval_along(full: Floats, again: Floats, tiles: int, confidence: float) -> Floats:
    """A value at every recall, (100,), and its interval from resamples, (resamples, 100): (3, 100)."""
    known = again[np.isfinite(again).all(axis=1)]
    if tiles < 2 or not len(known) or np.isnan(full).any():
        return np.stack([full, np.full_like(full, np.nan), np.full_like(full, np.nan)])
    tail = 50 * (1 - confidence)
    draws = full + widening(tiles, confidence) * (known - full)
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
    return stacked(totals)


def summed(pair: tuple[Counts, Counts]) -> tuple[Counts, Counts]:
    """Positives and negatives summed over the first axis."""
    return pair[0].sum(axis=0), pair[1].sum(axis=0)


def stacked(pairs: Sequence[tuple[Counts, Counts]]) -> tuple[Counts, Counts]:
    """Positives and negatives of several seeds as two arrays."""
    return np.stack([positives for positives, _ in pairs]), np.stack([negatives for _, negatives in pairs])


def _with_mean(values: Floats) -> Floats:
    """(..., K) with the mean of the known ones as one more: (..., K + 1)."""
    return np.concatenate([values, mean_of_known(values)[..., None]], axis=-1)


def _as_row(difference: Difference) -> tuple[float, float, float]:
    return difference.mean, difference.low, difference.high
