"""One threshold, and what it means: how much is found, how much is missed, how much is a false alarm.

A *view* is what a curve shows: a scored class by its number, or `MEAN` for the mean over the scored classes. The mean
uses one threshold for all classes and averages their precision and recall there, so that an operating point always lies
on its curve.
"""

from typing import NamedTuple

import numpy as np

from kdcore.evaluation.curves import THRESHOLDS, Floats, Histogram, best_level, precision_recall
from kdcore.evaluation.levels import LEVELS, POSITIVE_LEVEL
from kdcore.evaluation.summary import mean_of_known

MEAN = -1
"""The view of all classes: the last row where classes and their mean are stacked."""


class OperatingPoint(NamedTuple):
    """What a network does at a threshold; pixels are those of one network, averaged over its seeds."""

    level: int
    """The threshold: a pixel is marked if its level is at least this; probability times 254."""
    precision: float
    """Share of the marked pixels that are of the class; nan where nothing is marked."""
    recall: float
    """Share of the class's pixels that are marked; nan for a class that does not occur."""
    real: float
    """Pixels of the class."""
    found: float
    """Pixels of the class that are marked."""
    false_alarm: float
    """Other pixels that are marked."""

    @property
    def missed(self) -> float:
        """Pixels of the class that are not marked."""
        return self.real - self.found


def level_of(probability: float) -> int:
    """The level of a probability in [0, 1]."""
    return round(probability * (LEVELS - 1))


def view_curve(positives: Histogram, negatives: Histogram, view: int) -> tuple[Floats, Floats]:
    """Precision and recall of a view at every threshold, descending.

    Args:
        positives: (..., K, L) pixels of each scored class per level.
        negatives: (..., K, L) other pixels per level.
        view: a class's number in 0..K-1, or `MEAN`.

    Returns:
        Precision and recall, each (..., L). Where nothing is marked yet, precision is that of the first threshold
        that marks something: a curve starts with a level line, as its sum of steps (AP) has it. nan where no class occurs.
    """
    if view != MEAN:
        precision, recall = precision_recall(positives[..., view, :], negatives[..., view, :])
        return filled(precision), recall
    precision, recall = precision_recall(positives, negatives)
    precision = np.where(np.isnan(recall), np.nan, filled(precision))
    return mean_of_known(np.moveaxis(precision, -2, -1)), mean_of_known(np.moveaxis(recall, -2, -1))


def filled(precision: Floats) -> Floats:
    """Precision along descending thresholds, (..., L), with its first known value in place of the unknown ones before."""
    first = np.argmax(~np.isnan(precision), axis=-1)[..., None]
    return np.where(np.isnan(precision), np.take_along_axis(precision, first, axis=-1), precision)


def chosen_level(positives: Histogram, negatives: Histogram, view: int) -> int:
    """The threshold with the best F1, for the mean the best mean F1; give it the validation split's histograms.

    Args:
        positives: (K, 255) pixels of each scored class per level of a map, summed over seeds.
        negatives: (K, 255) other pixels per level.
        view: a class's number, or `MEAN`.

    Returns:
        A level in 0..254, of equals the one nearest to p = 0.5; 127 where no class occurs.
    """
    if view != MEAN:
        return int(best_level(positives[view], negatives[view]))
    precision, recall = precision_recall(positives, negatives)
    f1 = np.divide(2 * precision * recall, precision + recall, out=np.zeros_like(recall), where=precision + recall > 0)
    mean = mean_of_known(np.where(np.isnan(recall), np.nan, f1).T)
    if np.isnan(mean).all():
        return POSITIVE_LEVEL
    best = THRESHOLDS[mean == mean.max()]
    return int(best[np.abs(best - POSITIVE_LEVEL).argmin()])


def operating_point(positives: Histogram, negatives: Histogram, view: int, level: int) -> OperatingPoint:
    """What an arm does with one threshold, in the pixels of a split.

    Args:
        positives: (S, K, 255) pixels of each scored class per level of a map, for each seed.
        negatives: (S, K, 255) other pixels per level.
        view: a class's number, or `MEAN`: then pixels are summed over the classes.
        level: the threshold, 0..254.

    Returns:
        The point on the curve of all seeds together.
    """
    precision, recall = view_curve(positives.sum(axis=0), negatives.sum(axis=0), view)
    position = LEVELS - 1 - level
    rows = slice(None) if view == MEAN else [view]
    seeds = len(positives)
    real = positives[:, rows].sum() / seeds
    found = positives[:, rows, level:].sum() / seeds
    false_alarm = negatives[:, rows, level:].sum() / seeds
    marked = found + false_alarm > 0
    return OperatingPoint(
        level,
        float(precision[position]) if marked else float("nan"),
        float(recall[position]),
        float(real),
        float(found),
        float(false_alarm),
    )
