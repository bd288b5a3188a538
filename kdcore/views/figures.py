"""The figures of a study's report."""

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go

from kdcore.evaluation.bands import StudyCurves
from kdcore.evaluation.calibration import calibration
from kdcore.views.calibration import reliability_figure
from kdcore.views.curves import precision_recall_figure, precision_recall_grid
from kdcore.views.differences import difference_figure, difference_rows
from kdcore.views.quality import quality_figure


def report_figures(curves: StudyCurves, comparison: Mapping[str, Any]) -> dict[str, go.Figure]:
    """The figures of a report that nobody can move a slider in: every view, thresholds as chosen on validation.

    Args:
        curves: of the study.
        comparison: as the study's report has it.

    Returns:
        `curves`, `difference`, `quality` and `calibration`.
    """
    points = {view: curves.points(view, curves.chosen_levels(view)) for view in curves.views}
    whole = curves.views[-1]
    return {
        "curves": precision_recall_figure(curves, whole, points[whole])
        if len(points) == 1
        else precision_recall_grid(curves, points),
        "difference": difference_figure(difference_rows(comparison, curves), covers_seeds=comparison["covers_seeds"]),
        "quality": quality_figure(curves),
        "calibration": reliability_figure(
            {arm: calibration(*measured.fine, whole) for arm, measured in curves.arms.items()}
        ),
    }
