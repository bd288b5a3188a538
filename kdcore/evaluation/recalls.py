"""Precision at given recalls, for many curves at once: as steps, or with the ties inside a level drawn apart."""

import numpy as np
from numpy.typing import NDArray

from kdcore.evaluation.curves import Floats, Histogram


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
