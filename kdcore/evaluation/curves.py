"""From histograms to precision-recall curves, AP, IoU, F1 and calibration: pure functions of counts.

Histograms have shape (..., 256): pixels at each level 0..254 (level 255, no data, stays empty). Leading dimensions are
free (classes, tiles, bootstrap resamples) and counts may be integers or floats. A pixel is predicted positive at
threshold `level` if its own level is at least `level`. What cannot be known (no such pixels) is NaN, never 0.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kdcore.evaluation.scores import HALF, LEVELS

Counts = NDArray[np.integer[Any]] | NDArray[np.floating[Any]]
Values = NDArray[np.float64]
Metric = Literal["f1", "iou"]


def ratio(numerator: Counts, denominator: Counts) -> Values:
    """Divide; NaN where the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(np.asarray(numerator, float), np.asarray(denominator, float))
    result: Values = np.divide(numerator, denominator, out=np.full(denominator.shape, np.nan), where=denominator != 0)
    return result


def at_least(histogram: Counts) -> Values:
    """Pixels at or above each level, (..., 256) -> (..., 255)."""
    counts = np.asarray(histogram, dtype=float)[..., :LEVELS]
    return np.cumsum(counts[..., ::-1], axis=-1)[..., ::-1]


def precision_recall(positives: Counts, negatives: Counts) -> tuple[Values, Values]:
    """Precision and recall at every threshold.

    Args:
        positives: (..., 256) pixels of the class at each level.
        negatives: (..., 256) pixels of other classes at each level.

    Returns:
        precision, recall: (..., 255) each, by rising threshold (index = level), so that recall never rises along the
        axis. Where nothing is predicted precision is 1, the end point of the curve in scikit-learn; recall is NaN where
        the class has no positives.
    """
    hits = at_least(positives)
    predicted = hits + at_least(negatives)
    precision = np.divide(hits, predicted, out=np.ones_like(hits), where=predicted != 0)
    return precision, ratio(hits, hits[..., :1])


def average_precision(positives: Counts, negatives: Counts) -> Values:
    """Area under the precision-recall curve as a sum of steps, the definition of scikit-learn: no interpolation.

    `AP = sum_n (R_n - R_{n-1}) * P_n`; the step of recall at a level is that level's share of the positives.

    Args:
        positives: (..., 256) pixels of the class at each level.
        negatives: (..., 256) pixels of other classes at each level.

    Returns:
        (...) in [0, 1]; NaN where the class has no positives.
    """
    hits = at_least(positives)
    predicted = hits + at_least(negatives)
    precision = np.divide(hits, predicted, out=np.zeros_like(hits), where=predicted != 0)
    weighted = np.einsum("...i,...i->...", precision, np.asarray(positives)[..., :LEVELS])
    return ratio(weighted, hits[..., 0])


def precision_at(positives: Counts, negatives: Counts, level: int | NDArray[np.integer[Any]]) -> Values:
    """Precision at a threshold level (one, or one for each leading dimension); NaN where nothing is predicted."""
    hits, false_alarms, _ = outcomes(positives, negatives, level)
    return ratio(hits, hits + false_alarms)


def recall_at(positives: Counts, negatives: Counts, level: int | NDArray[np.integer[Any]]) -> Values:
    """Recall at a threshold level; NaN where the class has no positives."""
    hits, _, misses = outcomes(positives, negatives, level)
    return ratio(hits, hits + misses)


def f1_at(positives: Counts, negatives: Counts, level: int | NDArray[np.integer[Any]]) -> Values:
    """F1 (Dice) at a threshold level; NaN where nothing is positive and nothing is predicted."""
    hits, false_alarms, misses = outcomes(positives, negatives, level)
    return ratio(2 * hits, 2 * hits + false_alarms + misses)


def iou_at(positives: Counts, negatives: Counts, level: int | NDArray[np.integer[Any]]) -> Values:
    """Intersection over union at a threshold level; NaN where nothing is positive and nothing is predicted."""
    hits, false_alarms, misses = outcomes(positives, negatives, level)
    return ratio(hits, hits + false_alarms + misses)


def outcomes(
    positives: Counts, negatives: Counts, level: int | NDArray[np.integer[Any]]
) -> tuple[Values, Values, Values]:
    """True positives, false positives and false negatives at a threshold level, (...) each."""
    hits, false_alarms = at_least(positives), at_least(negatives)
    chosen = np.broadcast_to(np.asarray(level), hits.shape[:-1])[..., None]
    found = np.take_along_axis(hits, chosen, axis=-1)[..., 0]
    return found, np.take_along_axis(false_alarms, chosen, axis=-1)[..., 0], hits[..., 0] - found


def best_level(positives: Counts, negatives: Counts, metric: Metric = "f1") -> NDArray[np.intp]:
    """The threshold level with the highest F1 or IoU (they agree within one class).

    Of equal levels the one nearest to probability 0.5, and the lower one of two: levels between which no pixel lies
    are all equal, and so are all where the class does not occur.

    Args:
        positives: (..., 256) pixels of the class at each level.
        negatives: (..., 256) pixels of other classes at each level.
        metric: what to maximise.

    Returns:
        (...) levels in 0..254; divide by 254 for a probability.
    """
    hits, false_alarms = at_least(positives), at_least(negatives)
    errors = false_alarms + hits[..., :1] - hits
    values = ratio(2 * hits, 2 * hits + errors) if metric == "f1" else ratio(hits, hits + errors)
    values = np.where(hits[..., :1] > 0, values, 0.0)
    distance = np.where(values == values.max(axis=-1, keepdims=True), np.abs(np.arange(LEVELS) - HALF), LEVELS)
    best: NDArray[np.intp] = distance.argmin(axis=-1)
    return best


def iou_from_confusion(confusion: Counts) -> Values:
    """IoU (Jaccard index) of each class, (..., C, C) with the truth in rows -> (..., C).

    NaN where a class is absent from both truth and prediction.
    """
    hits, true, predicted = margins(confusion)
    return ratio(hits, true + predicted - hits)


def f1_from_confusion(confusion: Counts) -> Values:
    """F1 (Dice) of each class, (..., C, C) -> (..., C); NaN where a class is absent from both truth and prediction."""
    hits, true, predicted = margins(confusion)
    return ratio(2 * hits, true + predicted)


def margins(confusion: Counts) -> tuple[Values, Values, Values]:
    """Pixels of each class that are right, true and predicted, (..., C) each."""
    counts = np.asarray(confusion, dtype=float)
    return np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(axis=-1), counts.sum(axis=-2)


def boundary_iou(boundary: Counts) -> Values:
    """Boundary IoU of each class (Cheng et al., CVPR 2021), (..., C, 2) -> (..., C); NaN where there is no boundary."""
    return ratio(boundary[..., 0], boundary[..., 1])


def prevalence(positives: Counts, negatives: Counts) -> Values:
    """Share of the pixels that belong to the class, (..., 256) -> (...): the AP of a map drawn by chance."""
    positive = np.asarray(positives).sum(axis=-1)
    return ratio(positive, positive + np.asarray(negatives).sum(axis=-1))


def reliability(positives: Counts, negatives: Counts, bins: int = 15) -> tuple[Values, Values, Values]:
    """The reliability curve: what was promised and what came, in bins of equal width.

    Args:
        positives: (..., 256) pixels of the class at each level.
        negatives: (..., 256) pixels of other classes at each level.
        bins: how many; bin b holds probabilities in [b / bins, (b + 1) / bins), the last one 1 as well.

    Returns:
        confidence, frequency, weight: (..., bins) each: the mean probability, the share of pixels that are of the class
        (both NaN in empty bins), and the share of all pixels (NaN where there are none at all).
    """
    levels = np.arange(LEVELS)
    member = np.eye(bins)[np.minimum(levels * bins // (LEVELS - 1), bins - 1)]
    positive = np.asarray(positives, dtype=float)[..., :LEVELS]
    pixels = positive + np.asarray(negatives, dtype=float)[..., :LEVELS]
    in_bin = pixels @ member
    confidence = ratio((pixels * levels / (LEVELS - 1)) @ member, in_bin)
    return confidence, ratio(positive @ member, in_bin), ratio(in_bin, in_bin.sum(axis=-1, keepdims=True))


def expected_calibration_error(positives: Counts, negatives: Counts, bins: int = 15) -> Values:
    """Class-wise calibration error (Nixon et al. 2019): the mean gap of the reliability curve, weighted by pixels.

    It takes the class's probability against all other classes; the expected calibration error of Guo et al. (2017)
    takes the winning class only.

    Args:
        positives: (..., 256) pixels of the class at each level.
        negatives: (..., 256) pixels of other classes at each level.
        bins: of equal width.

    Returns:
        (...) in [0, 1]; NaN without pixels.
    """
    confidence, frequency, weight = reliability(positives, negatives, bins)
    gap = np.where(weight > 0, np.abs(confidence - frequency), 0.0)
    error: Values = np.sum(gap * weight, axis=-1)
    return error
