"""From histograms to precision-recall curves, AP, thresholds, IoU and calibration.

Pure functions. `positives` and `negatives` are counts of pixels per level of probability, rising along the last axis:
(..., L). Where a threshold is a number in 0..254, the levels are the 255 of a map, and level l stands for the probability
l / 254. Leading axes are free (classes, tiles, bootstrap resamples), counts may be integers or weighted sums. What is not
defined is nan: a recall without positives, a precision where nothing is marked.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdcore.errors import DataError
from kdcore.evaluation.levels import CALIBRATION_BINS, LEVELS, POSITIVE_LEVEL

Histogram = NDArray[np.integer[Any] | np.floating[Any]]
Floats = NDArray[np.float64]

THRESHOLDS: NDArray[np.int64] = np.arange(LEVELS - 1, -1, -1)
"""The levels 254, 253, ..., 0 of a map to which the points of its precision-recall curve belong: a pixel is marked if its
level is at least this."""


def precision_recall(positives: Histogram, negatives: Histogram) -> tuple[Floats, Floats]:
    """Precision and recall at every threshold, from the strictest to the one that marks everything.

    Args:
        positives: (..., L) pixels of the class per level.
        negatives: (..., L) other pixels per level.

    Returns:
        Precision and recall, each (..., L), at descending thresholds; recall never falls along it.
        Precision is nan where nothing is marked, recall is nan without positives.
    """
    true, marked = _marked(positives, negatives)
    return _ratio(true, marked), _ratio(true, true[..., -1:])


def average_precision(positives: Histogram, negatives: Histogram, ties: Histogram | None = None) -> Floats:
    """Area under the precision-recall curve as a sum of steps, without interpolation (scikit-learn's definition).

    `AP = sum_n (R_n - R_(n-1)) P_n` over descending thresholds. A score that says nothing reaches the prevalence.

    A level that holds many different probabilities stands for many steps. Between its ends precision is taken to change evenly
    with the positives found, so its steps have the mean precision `P_before + (1 + ties) / 2 * (P - P_before)`, where `ties`
    is the sum of squared shares of its probabilities: 1 for true ties, as in the formula above.

    Args:
        positives: (..., L) pixels of the class per level.
        negatives: (..., L) other pixels per level.
        ties: (..., L) in [0, 1], see `kdcore.evaluation.scores.Scores`; without it all levels are true ties.

    Returns:
        (...) in [0, 1]; nan without positives.

    Example:
        >>> positives, negatives = np.array([0, 2, 0, 1]), np.array([3, 1, 1, 0])  # from the lowest level to the highest
        >>> round(float(average_precision(positives, negatives)), 4)  # 1/3 * 1 + 2/3 * 3/5
        0.7333
    """
    true, marked = _marked(positives, negatives)
    precision = np.divide(true, marked, out=np.zeros_like(true), where=marked > 0)
    steps = np.diff(true, axis=-1, prepend=0)
    if ties is not None:
        before = np.where(marked[..., :-1] > 0, precision[..., :-1], precision[..., 1:])
        precision[..., 1:] -= (1 - ties[..., -2::-1]) / 2 * (precision[..., 1:] - before)
    return _ratio((steps * precision).sum(axis=-1), true[..., -1])


def precision_at(positives: Histogram, negatives: Histogram, level: ArrayLike) -> Floats:
    """Share of positives among the pixels of at least this level; nan where there is none.

    Args:
        positives: (..., L) pixels of the class per level.
        negatives: (..., L) other pixels per level.
        level: threshold in 0..254, a number or an array of the leading shape.

    Returns:
        (...) in [0, 1].
    """
    true, marked, _ = _at(positives, negatives, level)
    return _ratio(true, marked)


def recall_at(positives: Histogram, negatives: Histogram, level: ArrayLike) -> Floats:
    """Share of the positives that have at least this level; nan without positives. See `precision_at`."""
    true, _, real = _at(positives, negatives, level)
    return _ratio(true, real)


def f1_at(positives: Histogram, negatives: Histogram, level: ArrayLike) -> Floats:
    """F1 = 2 TP / (2 TP + FP + FN) at a level; nan if there is neither a positive nor a marked pixel. See `precision_at`."""
    true, marked, real = _at(positives, negatives, level)
    return _ratio(2 * true, marked + real)


def iou_at(positives: Histogram, negatives: Histogram, level: ArrayLike) -> Floats:
    """IoU = TP / (TP + FP + FN) at a level; nan if there is neither a positive nor a marked pixel. See `precision_at`."""
    true, marked, real = _at(positives, negatives, level)
    return _ratio(true, marked + real - true)


def best_level(positives: Histogram, negatives: Histogram, metric: Literal["f1", "iou"] = "f1") -> NDArray[np.int64]:
    """The threshold with the highest F1 or IoU (they agree); of equals the one nearest to p = 0.5.

    Choose it on the validation split, and read the test split with it.

    Args:
        positives: (..., L) pixels of the class per level.
        negatives: (..., L) other pixels per level.
        metric: what is to be highest.

    Returns:
        (...) levels in 0..254; 127 without positives.
    """
    true, marked = _marked(positives, negatives)
    real = true[..., -1:]
    value = _ratio(2 * true, marked + real) if metric == "f1" else _ratio(true, marked + real - true)
    best = value == np.nanmax(np.where(real > 0, value, 0), axis=-1, keepdims=True)
    _check_map(positives)
    distance = np.where(best | (real == 0), np.abs(THRESHOLDS - POSITIVE_LEVEL), LEVELS)
    level: NDArray[np.int64] = THRESHOLDS[distance.argmin(axis=-1)]
    return level


def prevalence(positives: Histogram, negatives: Histogram) -> Floats:
    """Share of the class among the labelled pixels, (...); nan without pixels."""
    real = positives.sum(axis=-1)
    return _ratio(real, real + negatives.sum(axis=-1))


def iou_from_confusion(confusion: Histogram) -> Floats:
    """IoU of each class (Jaccard index).

    Args:
        confusion: (..., C, C) pixels, rows = truth, columns = prediction.

    Returns:
        (..., C) in [0, 1]; nan for a class that is neither in the truth nor predicted.

    Example:
        >>> iou_from_confusion(np.array([[50, 10], [5, 35]])).round(4)  # 50 / 65 and 35 / 50
        array([0.7692, 0.7   ])
    """
    true, marked, real = _diagonal(confusion)
    return _ratio(true, marked + real - true)


def f1_from_confusion(confusion: Histogram) -> Floats:
    """F1 (Dice) of each class, (..., C); nan for a class that is neither in the truth nor predicted."""
    true, marked, real = _diagonal(confusion)
    return _ratio(2 * true, marked + real)


def boundary_iou(boundary: Histogram) -> Floats:
    """Boundary IoU (Cheng et al. 2021): the IoU of the bands along the boundaries of truth and prediction.

    Args:
        boundary: (..., C, 2) pixels in the intersection and in the union of the bands.

    Returns:
        (..., C) in [0, 1]; nan for a class without any boundary.
    """
    return _ratio(boundary[..., 0], boundary[..., 1])


def reliability_curve(
    positives: Histogram, negatives: Histogram, probability: NDArray[np.floating[Any]], bins: int = CALIBRATION_BINS
) -> tuple[Floats, Floats, NDArray[np.integer[Any] | np.floating[Any]]]:
    """How often a class is there when the network says so with some probability (Guo et al. 2017).

    Args:
        positives: (..., L) pixels of the class per level.
        negatives: (..., L) other pixels per level.
        probability: (..., L) what each level stands for.
        bins: number of equally wide intervals of probability; the last one includes 1.

    Returns:
        Mean probability, frequency of the class and number of pixels in each interval, each (..., bins); the first two
        are nan in an empty interval.

    Raises:
        DataError: fewer than one interval, or more than a map has levels.
    """
    if not 1 <= bins <= LEVELS:
        raise DataError(f"Calibration was asked for in {bins} intervals; choose 1 to {LEVELS}.")
    interval = np.minimum((probability * bins).astype(np.intp), bins - 1)
    member = (interval[..., None] == np.arange(bins)).astype(np.float64)
    every = positives + negatives
    real, pixels, said = (
        np.einsum("...l,...lb->...b", counts, member) for counts in (positives, every, every * probability)
    )
    return _ratio(said, pixels), _ratio(real, pixels), pixels


def expected_calibration_error(
    positives: Histogram, negatives: Histogram, probability: NDArray[np.floating[Any]], bins: int = CALIBRATION_BINS
) -> Floats:
    """Mean distance between probability and frequency of a class, weighted by pixels (class-wise ECE, l1 norm).

    The source is Guo et al. 2017, per class as in Nixon et al. 2019. Arguments are those of `reliability_curve`.

    Returns:
        (...) in [0, 1]; nan without pixels.
    """
    said, frequency, pixels = reliability_curve(positives, negatives, probability, bins)
    return _ratio(np.nansum(np.abs(said - frequency) * pixels, axis=-1), pixels.sum(axis=-1))


def _marked(positives: Histogram, negatives: Histogram) -> tuple[Floats, Floats]:
    """True positives and marked pixels, each (..., L), at descending thresholds."""
    _check(positives, negatives)
    true = np.cumsum(positives[..., ::-1], axis=-1, dtype=np.float64)
    return true, true + np.cumsum(negatives[..., ::-1], axis=-1, dtype=np.float64)


def _at(positives: Histogram, negatives: Histogram, level: ArrayLike) -> tuple[Any, Any, Any]:
    """True positives, marked pixels and real positives, each (...), at a level of a map."""
    _check(positives, negatives)
    _check_map(positives)
    inside = np.arange(LEVELS) >= np.asarray(level)[..., None]
    true = (positives * inside).sum(axis=-1)
    marked = true + (negatives * inside).sum(axis=-1)
    return true, marked, positives.sum(axis=-1)


def _check(positives: Histogram, negatives: Histogram) -> None:
    if positives.shape != negatives.shape or not positives.shape:
        raise DataError(
            f"Histograms are {positives.shape} and {negatives.shape}, but both must have the same shape (..., levels)."
        )


def _check_map(positives: Histogram) -> None:
    if positives.shape[-1] != LEVELS:
        raise DataError(
            f"Histograms have {positives.shape[-1]} levels, but a threshold is one of the {LEVELS} of a map."
        )


def _diagonal(confusion: Histogram) -> tuple[Any, Any, Any]:
    """Correct, predicted and true pixels of each class, each (..., C)."""
    return np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(axis=-2), confusion.sum(axis=-1)


def _ratio(part: Any, whole: Any) -> Floats:
    """Part / whole as float64, nan where the whole is 0."""
    part, whole = np.broadcast_arrays(np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64))
    ratio: Floats = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return ratio


def precision_in_steps(precision: Floats, recall: Floats, wanted: Floats) -> Floats:
    """The precision of the strictest threshold that finds at least so much; the area under it is AP.

    Args:
        precision: (N, P) along N curves.
        recall: (N, P), never falling along a curve; a curve that holds nan is unknown.
        wanted: (R,) recalls in [0, 1].

    Returns:
        (N, R); nan throughout for an unknown curve.
    """
    result = np.full((len(recall), len(wanted)), np.nan)
    known = ~np.isnan(recall).any(axis=1)
    if known.any():
        result[known] = np.take_along_axis(precision[known], positions(recall[known], wanted), axis=1)
    return result


def precision_between(positives: Histogram, negatives: Histogram, wanted: Floats) -> Floats:
    """Expected precision where just so much is found: inside a level, pixels are taken in random order.

    Two networks that are sure of different shares of their pixels have their steps at different recalls, and the
    difference of two staircases is a saw. Counts of true and of marked pixels grow evenly inside a level, so precision
    does not (Davis & Goadrich 2006).

    Args:
        positives: (N, L) pixels of the class per level.
        negatives: (N, L) other pixels per level.
        wanted: (R,) recalls in (0, 1].

    Returns:
        (N, R); nan throughout without positives.
    """
    true = np.cumsum(positives[:, ::-1], axis=1, dtype=np.float64)
    marked = true + np.cumsum(negatives[:, ::-1], axis=1, dtype=np.float64)
    known = true[:, -1] > 0
    true, marked = (np.pad(counts[known], ((0, 0), (1, 0))) for counts in (true, marked))
    found = wanted * true[:, -1:]
    result = np.full((len(known), len(wanted)), np.nan)
    if known.any():
        right = np.maximum(positions(true / true[:, -1:], wanted), 1)
        (t0, t1), (m0, m1) = (
            [np.take_along_axis(counts, place, axis=1) for place in (right - 1, right)] for counts in (true, marked)
        )
        result[known] = found / (m0 + (m1 - m0) * (found - t0) / (t1 - t0))
    return result


def positions(recall: Floats, wanted: Floats) -> NDArray[np.intp]:
    """Where along each of N curves, (N, P), recall first reaches what is wanted, (R,): (N, R)."""
    # One search instead of N: the curves one above the other are one sorted row. Rounding must not step over an edge.
    offset = 2.0 * np.arange(len(recall))[:, None]
    place = np.searchsorted((recall + offset).ravel(), (wanted - 1e-9 + offset).ravel()).reshape(len(recall), -1)
    inside: NDArray[np.intp] = place - recall.shape[1] * np.arange(len(recall))[:, None]
    return inside
