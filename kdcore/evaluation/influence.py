"""What each test tile contributes to a metric: influence values, from counts.

A metric m of all tiles together changes by about `sum over t of (w_t - 1) * influence_t` when tile t counts w_t times
(Hampel 1974; the infinitesimal jackknife). AP is no mean over tiles, but its influence values are exact derivatives,
they add up to 0, and one number a tile, class and network replaces thousands of resampled histograms. The set of classes
is fixed: those that occur in the labels of the test split.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdcore.evaluation.curves import average_precision
from kdcore.evaluation.scores import Scores

Values = NDArray[np.float64]
Counts = NDArray[np.integer[Any] | np.floating[Any]]
OVERALL = ("mean_ap", "mean_iou", "mean_boundary_iou")


@dataclass(frozen=True)
class Measured:
    """One network: K class APs, then the means of AP, IoU and Boundary IoU (`OVERALL`), all in points.

    Attributes:
        values: (K + 3,) on all tiles; nan for a class that does not occur in the labels.
        fields: (K + 3, T) influence values of the tiles; nan likewise, and for a class that one tile holds alone: how it
            varies from place to place cannot be seen there.
    """

    values: Values
    fields: Values


def measure(scores: Scores) -> Measured:
    """The metrics of one network with the contribution of every tile; time grows with the counts, once through."""
    ap, scored = class_ap(scores), list(scores.scored)
    fields = np.stack(
        [ap_influence(scores.positives[:, k], scores.negatives[:, k]) for k in range(len(scored))]
    )  # (K, T)
    hits = np.diagonal(scores.confusion, axis1=1, axis2=2)
    union = scores.confusion.sum(axis=1) + scores.confusion.sum(axis=2) - hits
    occurs = scores.confusion.sum(axis=(0, 2))[scored] > 0
    values, rows = list(ap), list(fields)
    for value, field in (
        _mean(ap, fields, ~np.isnan(ap)),
        _mean(*ratio_influence(hits[:, scored], union[:, scored]), occurs),
        _mean(*ratio_influence(scores.boundary[:, scored, 0], scores.boundary[:, scored, 1]), occurs),
    ):
        values.append(value)
        rows.append(field)
    for k in np.flatnonzero(holders(scores) < 2):
        rows[k] = np.full_like(rows[k], np.nan)
    return Measured(100 * np.array(values), 100 * np.stack(rows))


def class_ap(scores: Scores) -> Values:
    """AP of each scored class on all tiles together, (K,) in [0, 1]; nan without positives."""
    return average_precision(*scores.total(), scores.ties)


def holders(scores: Scores) -> NDArray[np.int64]:
    """In how many tiles each scored class occurs, (K,)."""
    return np.asarray(np.count_nonzero(scores.positives.any(axis=2), axis=0), dtype=np.int64)


def ap_influence(positives: Counts, negatives: Counts) -> Values:
    """Influence of every tile on the AP of a class.

    With TP and M the pixels of the class and all pixels at or above a level, and P those of the class, AP is
    `sum over levels of p * TP / M, over P`. A pixel at level j changes p there, and TP and M at all levels up to j.

    Args:
        positives: (T, L) pixels of the class per level, ascending.
        negatives: (T, L) other pixels per level.

    Returns:
        (T,), adding up to 0; nan without positives.
    """
    positive, every = (counts.sum(axis=0).astype(np.float64) for counts in (positives, positives + negatives))
    total = positive.sum()
    if total == 0:
        return np.full(len(positives), np.nan)
    true, marked = (np.cumsum(counts[::-1])[::-1] for counts in (positive, every))
    marked = np.maximum(marked, 1e-300)
    precision = true / marked
    as_true, as_marked = np.cumsum(positive / marked), np.cumsum(positive * precision / marked)
    of_positive = precision + as_true - as_marked - (positive * precision).sum() / total
    return np.asarray((positives @ of_positive - negatives @ as_marked) / total, dtype=np.float64)


def ratio_influence(over: Counts, under: Counts) -> tuple[Values, Values]:
    """A ratio of sums over tiles, (T, C) each, and its influence values: (C,) and (C, T); nan where the sum is 0."""
    total = under.sum(axis=0).astype(np.float64)
    total[total == 0] = np.nan
    ratio = over.sum(axis=0) / total
    return ratio, np.asarray(((over - ratio * under) / total).T)


def _mean(values: Values, fields: Values, counted: NDArray[np.bool_]) -> tuple[float, Values]:
    """The mean over the classes that are counted and known, with its influence values."""
    chosen = counted & ~np.isnan(values)
    if not chosen.any():
        return float("nan"), np.full(fields.shape[1], np.nan)
    return float(values[chosen].mean()), np.asarray(fields[chosen].mean(axis=0))
