"""The numbers of one network on one part of the split: what reports store and pages show."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdcore.evaluation.curves import (
    boundary_iou,
    expected_calibration_error,
    f1_from_confusion,
    iou_from_confusion,
    prevalence,
)
from kdcore.evaluation.influence import class_ap
from kdcore.evaluation.scores import Scores
from kdcore.evaluation.uncertainty import known

Values = NDArray[np.float64]
Counts = NDArray[np.integer[Any]] | Values


def summarise(scores: Scores) -> dict[str, Any]:
    """The numbers of one network: JSON values in [0, 1], None where a class does not occur.

    Returns:
        `mean_ap`, `mean_iou`, `mean_boundary_iou` (over the scored classes that occur), and `classes`: for each scored
        class `ap`, `iou`, `f1`, `boundary_iou` (at the arg-max), `prevalence` and `ece`.
    """
    positives, negatives = scores.total()
    confusion, scored = scores.confusion.sum(axis=0), list(scores.scored)
    columns = {
        "ap": class_ap(scores),
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
    confusion, boundary = scores.confusion.sum(axis=0), scores.boundary.sum(axis=0)
    return {
        "mean_ap": mean_of_known(class_ap(scores)),
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
