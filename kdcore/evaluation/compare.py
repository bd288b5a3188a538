"""Is the distilled student better than the student alone? A difference, its interval, and a verdict in plain words.

Two things make a measured difference uncertain, and both are in the interval:

- *The imagery.* Test tiles are drawn with replacement, the same tiles for every network, so that the difference is
  paired (block bootstrap, 128-px tiles as blocks). A percentile interval is too narrow with few tiles; deviations are
  widened by `t / z * sqrt(tiles / (tiles - 1))` (Hesterberg 2015, The American Statistician 69(4): expanded percentiles).
- *The luck of training.* With n paired seeds the differences d_s of the seeds scatter with standard deviation s;
  Student-t noise with n - 1 degrees of freedom and scale s / sqrt(n) is added to each resample.

s also holds the part of the imagery's noise that differs between seeds, because each training errs on other tiles. The
resamples hold that part too, and show its size: it is taken out of them, so that it counts once. Counted twice, a
nominal 95 % interval covers up to 99.8 %; taken out of s instead, as little as 90 %, because Student's t is right
only for the scatter as it was found (`benchmarks/coverage.py`).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from kdcore.errors import DataError
from kdcore.evaluation.curves import (
    average_precision,
    boundary_iou,
    expected_calibration_error,
    f1_from_confusion,
    iou_from_confusion,
    prevalence,
)
from kdcore.evaluation.scores import Scores

Values = NDArray[np.float64]
Counts = NDArray[np.integer[Any]] | Values
Verdict = Literal["better", "worse", "no detectable difference"]
METRICS = ("mean_ap", "mean_iou", "mean_boundary_iou")
SMALLEST_GAP = 0.1  # points of mean AP; a share of less would be a share of noise
CHUNK = 256  # resamples at once: bounds the memory


@dataclass(frozen=True)
class Difference:
    """A difference in points (hundredths) and its interval; NaN where it cannot be known."""

    mean: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float | None]:
        """The same as JSON knows it: None for NaN."""
        return {name: known(value) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Comparison:
    """The distilled student against the student alone, on the same tiles and seeds.

    Attributes:
        mean_ap_points: distilled minus alone, mean average precision over the classes that occur.
        mean_iou_points: the same for IoU at the arg-max.
        boundary_iou_points: the same for Boundary IoU.
        share_of_gap_closed: (distilled - alone) / (reference - alone) in mean AP; None below a gap of 0.1 points. The reference is
            the student with all labels where there is one, else the teacher.
        share_of_gap_closed_interval: its interval; None unless the gap itself is surely positive.
        verdict: from the interval of mean AP; one seed never gives a verdict for either.
        sentence: the verdict for people who do not program.
        seeds: pairs of trainings.
        tiles: in the test split.
        confidence: of all intervals.
        covers_seeds: False with one seed: the intervals then hold the noise of the imagery only.
        distilled_minus_teacher: mean AP, points; None without a teacher.
        distilled_minus_all_labels: mean AP, points; None without a student with all labels.
    """

    mean_ap_points: Difference
    mean_iou_points: Difference
    boundary_iou_points: Difference
    share_of_gap_closed: float | None
    share_of_gap_closed_interval: tuple[float, float] | None
    verdict: Verdict
    sentence: str
    seeds: int
    tiles: int
    confidence: float
    covers_seeds: bool
    distilled_minus_teacher: Difference | None
    distilled_minus_all_labels: Difference | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, without NaN."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        interval = self.share_of_gap_closed_interval
        values |= {name: value.to_dict() for name, value in values.items() if isinstance(value, Difference)}
        return values | {"share_of_gap_closed_interval": list(interval) if interval else None}


def compare(
    alone: Sequence[Scores],
    distilled: Sequence[Scores],
    teacher: Scores | None = None,
    *,
    all_labels: Sequence[Scores] | None = None,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compare two arms, seed by seed, over the same test tiles.

    Args:
        alone: scores of the student alone, one for each seed.
        distilled: scores of the distilled student, the same seeds in the same order.
        teacher: scores of the teacher, for the share of the gap.
        all_labels: scores of the student with all labels, the same seeds in the same order: the gap is measured to it then, because
            the teacher's lead is partly that of its labels.
        resamples: draws of the bootstrap.
        confidence: of the intervals, in (0, 1).
        seed: of the bootstrap; the same seed gives the same numbers.

    Returns:
        Differences in points, distilled minus alone.

    Raises:
        DataError: an arm has no scores, the arms have different numbers of seeds, or classes, tiles or labels differ.
    """
    if len({len(alone), len(distilled), len(alone if all_labels is None else all_labels)}) > 1 or not alone:
        raise DataError(
            f"The student alone has {len(alone)} seeds and the distilled student {len(distilled)}"
            + (". " if all_labels is None else f", that with all labels {len(all_labels)}. ")
            + "Train the arms with the same seeds, one at least."
        )
    reference = alone[0]
    if not reference.tiles:
        raise DataError("The scores hold no tile, so there is nothing to compare. Give the test split labelled pixels.")
    rng = np.random.default_rng(seed)
    weights = tile_weights(len(reference.tiles), resamples, rng)
    bootstrap = Bootstrap(len(reference.tiles), seed_noise(len(alone), resamples, rng), confidence)

    def measure(scores: Scores, name: str) -> tuple[Values, Values]:
        scores = aligned(scores, reference, name)
        return 100 * np.array(list(means(scores).values())), 100 * replicates(scores, weights)

    def measure_arm(arm: Sequence[Scores], name: str) -> tuple[Values, Values]:
        measured = [measure(scores, f"{name}, seed number {number}") for number, scores in enumerate(arm, start=1)]
        return np.stack([full for full, _ in measured], axis=1), np.stack([again for _, again in measured], axis=1)

    (full_a, again_a), (full_d, again_d) = (
        measure_arm(alone, "Student alone"),
        measure_arm(distilled, "Distilled student"),
    )
    differences = [bootstrap.difference(full_d[i] - full_a[i], again_d[i] - again_a[i]) for i in range(len(METRICS))]

    gap = share = share_interval = to_teacher = to_all_labels = reference_ap = None
    if teacher is not None:
        full_t, again_t = measure(teacher, "Teacher")
        to_teacher = bootstrap.difference(full_d[0] - full_t[0], again_d[0] - again_t[0])
        reference_ap = full_t[0], again_t[0]
    if all_labels is not None:
        full_u, again_u = measure_arm(all_labels, "Student with all labels")
        to_all_labels = bootstrap.difference(full_d[0] - full_u[0], again_d[0] - again_u[0])
        reference_ap = full_u[0], again_u[0]
    if reference_ap is not None:
        lead = reference_ap[0] - full_a[0], reference_ap[1] - again_a[0]
        gap = float(np.mean(lead[0]))
        if gap >= SMALLEST_GAP:
            share = differences[0].mean / gap
            share_interval = bootstrap.ratio((full_d[0] - full_a[0], again_d[0] - again_a[0]), lead)
    verdict = decide(differences[0], len(alone))
    return Comparison(
        mean_ap_points=differences[0],
        mean_iou_points=differences[1],
        boundary_iou_points=differences[2],
        share_of_gap_closed=share,
        share_of_gap_closed_interval=share_interval,
        verdict=verdict,
        sentence=put_in_words(
            verdict,
            differences[0],
            len(alone),
            confidence,
            gap,
            share,
            "teacher" if all_labels is None else "student with all labels",
        ),
        seeds=len(alone),
        tiles=len(reference.tiles),
        confidence=confidence,
        covers_seeds=len(alone) > 1,
        distilled_minus_teacher=to_teacher,
        distilled_minus_all_labels=to_all_labels,
    )


def summarise(scores: Scores) -> dict[str, Any]:
    """The numbers of one network: JSON values in [0, 1], None where a class does not occur.

    Returns:
        `mean_ap`, `mean_iou`, `mean_boundary_iou` (over the scored classes that occur), and `classes`: for each scored
        class `ap`, `iou`, `f1`, `boundary_iou` (at the arg-max), `prevalence` and `ece`.
    """
    positives, negatives = scores.total()
    confusion, scored = scores.confusion.sum(axis=0), list(scores.scored)
    columns = {
        "ap": average_precision(positives, negatives, scores.ties),
        "iou": iou_from_confusion(confusion)[scored],
        "f1": f1_from_confusion(confusion)[scored],
        "boundary_iou": boundary_iou(scores.boundary.sum(axis=0))[scored],
        "prevalence": prevalence(positives, negatives),
        "ece": expected_calibration_error(positives, negatives, scores.probability),
    }
    return {
        **{name: known(float(value)) for name, value in means(scores).items()},
        "classes": {
            scores.classes[class_index]: {column: known(float(values[index])) for column, values in columns.items()}
            for index, class_index in enumerate(scores.scored)
        },
    }


def means(scores: Scores) -> dict[str, Values]:
    """Mean AP, IoU and Boundary IoU of all tiles together, over the scored classes that occur in the truth."""
    positives, negatives = scores.total()
    confusion, boundary = scores.confusion.sum(axis=0), scores.boundary.sum(axis=0)
    return {
        "mean_ap": mean_of_known(average_precision(positives, negatives, scores.ties)),
        **mean_overlaps(confusion, boundary, scores.scored),
    }


def mean_overlaps(confusion: Counts, boundary: Counts, scored: Sequence[int]) -> dict[str, Values]:
    """Mean IoU and Boundary IoU from (..., C, C) and (..., C, 2) counts -> (...)."""
    occurs = confusion.sum(axis=-1) > 0
    overlaps = {"mean_iou": iou_from_confusion(confusion), "mean_boundary_iou": boundary_iou(boundary)}
    return {name: mean_of_known(np.where(occurs, value, np.nan)[..., list(scored)]) for name, value in overlaps.items()}


def mean_of_known(values: Values) -> Values:
    """Mean over the last axis without NaN; NaN where nothing is known."""
    is_known = ~np.isnan(values)
    total, count = np.where(is_known, values, 0.0).sum(axis=-1), is_known.sum(axis=-1)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def tile_weights(tiles: int, resamples: int, rng: np.random.Generator) -> NDArray[np.uint16]:
    """How often each resample draws each tile, (resamples, tiles): `tiles` draws with replacement a row."""
    weights = np.empty((resamples, tiles), dtype=np.uint16)
    for row in weights:
        row[:] = np.bincount(rng.integers(tiles, size=tiles), minlength=tiles)
    return weights


def replicates(scores: Scores, weights: NDArray[np.uint16]) -> Values:
    """The three means on every resample of the tiles, (3, resamples); the histograms are sums weighted by draws."""
    tiles, classes, levels = scores.positives.shape
    # float32 halves the time; rounding in sums beyond 2^24 pixels moves an AP by 1e-6 at most.
    histograms = np.empty((tiles, 2, classes * levels), dtype=np.float32)
    histograms[:, 0], histograms[:, 1] = scores.positives.reshape(tiles, -1), scores.negatives.reshape(tiles, -1)
    confusion, boundary = (
        scores.confusion.reshape(tiles, -1).astype(float),
        scores.boundary.reshape(tiles, -1).astype(float),
    )
    result = np.empty((len(METRICS), len(weights)))
    for start in range(0, len(weights), CHUNK):
        part = weights[start : start + CHUNK]
        drawn = (part.astype(np.float32) @ histograms.reshape(tiles, -1)).reshape(len(part), 2, classes, levels)
        overlaps = mean_overlaps(
            (part @ confusion).reshape(-1, *scores.confusion.shape[1:]),
            (part @ boundary).reshape(-1, *scores.boundary.shape[1:]),
            scores.scored,
        )
        mean_ap = mean_of_known(average_precision(drawn[:, 0], drawn[:, 1], scores.ties))
        result[:, start : start + CHUNK] = mean_ap, *overlaps.values()
    return result


def seed_noise(seeds: int, resamples: int, rng: np.random.Generator) -> Values:
    """Factors (seeds, resamples) that turn the seeds' deviations from their mean into the noise of that mean.

    `deviations @ factors` is Student-t with seeds - 1 degrees of freedom and scale s / sqrt(seeds). One set of factors
    for several quantities keeps them correlated as they are among the seeds. Zeros for one seed.
    """
    if seeds == 1:
        return np.zeros((1, resamples))
    student = np.sqrt((seeds - 1) / rng.chisquare(seeds - 1, size=resamples))
    return np.asarray(rng.normal(size=(seeds, resamples)) * student / np.sqrt(seeds * (seeds - 1)))


@dataclass(frozen=True)
class Bootstrap:
    """Turns a quantity measured on all tiles (one value a seed) and on resamples of them into an interval."""

    tiles: int
    noise: Values  # from `seed_noise`
    confidence: float

    def draws(self, full: Values, again: Values) -> Values:
        """Plausible values of the mean over seeds.

        Args:
            full: (seeds,) on all tiles.
            again: (seeds, resamples) on resampled tiles.

        Returns:
            (resamples,); NaN throughout for a single tile, whose noise cannot be known.
        """
        if self.tiles < 2:
            return np.full(again.shape[1], np.nan)
        mean = full.mean()
        imagery = widening(self.tiles, self.confidence) * (again.mean(axis=0) - mean)
        if len(full) == 1:
            return np.asarray(mean + imagery)
        return np.asarray(mean + shared_part(full, again) * imagery + (full - mean) @ self.noise)

    def difference(self, full: Values, again: Values) -> Difference:
        """Mean over seeds with its percentile interval."""
        return Difference(float(full.mean()), *self.interval(self.draws(full, again)))

    def ratio(self, over: tuple[Values, Values], under: tuple[Values, Values]) -> tuple[float, float] | None:
        """Interval of a ratio of two quantities, each (full, again); None unless the lower one is surely positive."""
        numerator, denominator = self.draws(*over), self.draws(*under)
        if not self.interval(denominator)[0] > 0:
            return None
        positive = denominator > 0
        return self.interval(numerator[positive] / denominator[positive])

    def interval(self, draws: Values) -> tuple[float, float]:
        """Percentiles of the known draws; a resample may hold no pixel of any class."""
        draws = draws[np.isfinite(draws)]
        if not len(draws):
            return float("nan"), float("nan")
        tail = 50 * (1 - self.confidence)
        low, high = np.percentile(draws, [tail, 100 - tail])
        return float(low), float(high)


def widening(tiles: int, confidence: float) -> float:
    """By how much deviations of resamples of at least two tiles must grow to be as wide as they should (see above)."""
    # scipy.stats has the same two quantiles, and costs the dashboard 60 MB.
    tail = (1 + confidence) / 2
    return float(special.stdtrit(tiles - 1, tail) / special.ndtri(tail) * np.sqrt(tiles / (tiles - 1)))


def shared_part(full: Values, again: Values) -> float:
    """Factor in [0, 1] that leaves of the imagery's noise what all seeds share; arguments as in `Bootstrap.draws`.

    Per resample the seeds deviate from their values on all tiles by a shared part and by one of their own. The mean over
    n seeds has the variance of the shared part plus 1 / n of that of the own part, which is the variance among seeds.
    """
    deviations = (again - full[:, None])[:, np.isfinite(again).all(axis=0)]
    if not deviations.size:
        return 1.0
    own = deviations.var(axis=0, ddof=1).mean() / len(full)
    both = deviations.mean(axis=0).var()
    return float(np.sqrt(1 - own / both)) if both > own else 0.0


def aligned(scores: Scores, reference: Scores, name: str) -> Scores:
    """Scores with the tiles in the reference's order; anything that makes them incomparable is refused."""
    if (scores.classes, scores.scored) != (reference.classes, reference.scored):
        raise DataError(
            f"{name}: classes are {scores.classes} (scored {scores.scored}), those of the student alone {reference.classes} "
            f"(scored {reference.scored}). Compare networks trained on one collection."
        )
    if scores.tiles != reference.tiles:
        missing, extra = set(reference.tiles) - set(scores.tiles), set(scores.tiles) - set(reference.tiles)
        if missing or extra or len(scores.tiles) != len(reference.tiles):
            scene, row, column = min(missing or extra or scores.tiles)
            raise DataError(
                f"{name}: {len(missing)} tiles of the student alone are missing and {len(extra)} are not among them, for "
                f"example scene '{scene}', row {row}, column {column}. Evaluate all networks on the same test split."
            )
        position = {tile: index for index, tile in enumerate(scores.tiles)}
        scores = scores.select([position[tile] for tile in reference.tiles])
    other = np.flatnonzero((scores.confusion.sum(axis=2) != reference.confusion.sum(axis=2)).any(axis=1))
    if len(other):
        scene, row, column = reference.tiles[other[0]]
        raise DataError(
            f"{name}: {len(other)} tiles have other labels than for the student alone, for example scene '{scene}', "
            f"row {row}, column {column}. Evaluate all networks on the same labels."
        )
    return scores


def decide(difference: Difference, seeds: int) -> Verdict:
    """Better or worse only where the whole interval is, and where there are several seeds."""
    if seeds > 1 and difference.low > 0:
        return "better"
    if seeds > 1 and difference.high < 0:
        return "worse"
    return "no detectable difference"


def put_in_words(
    verdict: Verdict,
    difference: Difference,
    seeds: int,
    confidence: float,
    gap: float | None,
    share: float | None,
    reference: str = "teacher",
) -> str:
    """The verdict as a sentence; `gap` (points) to `reference` and `share` are None without a reference or without a gap."""
    if np.isnan(difference.mean):
        return "No scored class occurs in the test tiles, so nothing can be compared: label more of the test split."
    if np.isnan(difference.low):
        return "One test tile is too few to compare anything: label more of the test split."
    gap_clause = ""
    if gap is not None and share is None:
        nothing_passed = verdict != "better" and reference == "teacher"
        nothing = "there was nothing to pass on" if nothing_passed else "there is no gap to close"
        gap_clause = f"; the {reference} is not better than the student alone, so {nothing}"
    elif share is not None and verdict == "better":
        passing = ", and passes it" if share > 1 else ""
        gap_clause = f"; it closes {100 * share:.0f} % of the gap to the {reference}{passing}"
    values = (difference.mean, difference.low, difference.high)
    digits = 2 if min(abs(value) for value in values) < 0.095 else 1
    size = f"{abs(difference.mean):.{digits}f} points of mean AP"
    if seeds == 1:
        direction = "below" if difference.mean < 0 else "above"
        return (
            f"The distilled student came out {size} {direction} the student alone, but one seed cannot tell "
            f"distillation from the luck of training: run three or more seeds{gap_clause}."
        )
    if verdict == "no detectable difference":
        mean, low, high = (f"{value + 0.0:+.{digits}f}" for value in np.round(values, digits))
        return (
            f"No difference between the distilled student and the student alone could be detected: {mean} points of "
            f"mean AP ({100 * confidence:g} % interval {low} to {high}, {seeds} seeds){gap_clause}."
        )
    near, far = sorted((abs(difference.low), abs(difference.high)))
    return (
        f"The distilled student is {verdict} than the student alone by {size} "
        f"({100 * confidence:g} % interval {near:.{digits}f} to {far:.{digits}f}, {seeds} seeds){gap_clause}."
    )


def known(value: float | None) -> float | None:
    """None for NaN and infinity, which JSON does not have."""
    return value if value is not None and np.isfinite(value) else None
