"""Average precision of every class: a row for each, with intervals, and the level that a guess reaches."""

from typing import Any

import numpy as np
import plotly.graph_objects as go

from kdcore.evaluation.bands import StudyCurves
from kdcore.evaluation.operating import MEAN
from kdcore.views.arms import ARM_COLOURS, ARM_NAMES, ARM_SYMBOLS
from kdcore.views.curves import view_name
from kdcore.views.differences import Row, interval_in_words, shortened
from kdcore.views.layout import FAINT, GREY, style

SPREAD = 0.22  # of a row: from the middle to the outermost arm of three


def ordered_views(curves: StudyCurves) -> list[int]:
    """The mean first, then the classes from the best recognised to the worst, those that do not occur last."""
    ap = np.array([measured.ap[:-1, 0] for measured in curves.arms.values()])
    worth = np.where(np.isnan(ap).all(axis=0), -1, np.nan_to_num(ap).max(axis=0))
    classes = [int(view) for view in np.argsort(-worth, kind="stable")]
    return ([MEAN] if MEAN in curves.views else []) + classes


def quality_figure(curves: StudyCurves) -> go.Figure:
    """AP of every arm, a row for each class and the mean, with 95 % intervals; a bar marks what a guess reaches."""
    views = ordered_views(curves)
    figure = go.Figure()
    guesses = [100 * curves.guess(view) for view in views]
    figure.add_scatter(
        x=guesses,
        y=list(range(len(views))),
        mode="markers",
        marker={"symbol": "line-ns", "size": 26, "line": {"color": GREY, "width": 2.5}},
        name="A guess (the class's share)",
        hovertemplate="a guess reaches %{x:.1f}<extra></extra>",
    )
    offsets = SPREAD * np.linspace(-1, 1, len(curves.arms)) * (len(curves.arms) / 3) ** 0.5
    for (arm, measured), offset in zip(curves.arms.items(), offsets, strict=True):
        value, low, high = 100 * measured.ap[views].T
        figure.add_scatter(
            x=value,
            y=np.arange(len(views)) + offset,
            mode="markers",
            name=ARM_NAMES[arm],
            marker={
                "color": ARM_COLOURS[arm],
                "symbol": ARM_SYMBOLS[arm],
                "size": 11,
                "line": {"color": "#fff", "width": 1},
            },
            error_x={
                "type": "data",
                "symmetric": False,
                "array": np.nan_to_num(high - value),
                "arrayminus": np.nan_to_num(value - low),
                "color": ARM_COLOURS[arm],
                "thickness": 2,
                "width": 0,
            },
            customdata=np.stack([low, high], axis=1),
            hovertemplate=f"<b>{ARM_NAMES[arm]}</b><br>AP %{{x:.1f}} (%{{customdata[0]:.1f}} to %{{customdata[1]:.1f}})<extra></extra>",
        )
    style(figure, height=110 + 54 * len(views), margin={"l": 20, "r": 20, "t": 40, "b": 46})
    figure.update_yaxes(
        range=[len(views) - 0.45, -0.55],
        tickvals=list(range(len(views))),
        ticktext=[
            f"<b>{view_name(curves, view).capitalize()}</b>" if view == MEAN else shortened(curves.classes[view])
            for view in views
        ],
        automargin=True,
        showgrid=False,
        zeroline=False,
    )
    figure.update_xaxes(
        range=[-1, 101], title_text="Average precision (100 is perfect)", gridcolor=FAINT, zeroline=False
    )
    figure.update_layout(legend={"orientation": "h", "y": 1, "yanchor": "bottom", "x": 0})
    return figure


def quality_table(curves: StudyCurves, mean_gain: Row | None = None) -> list[dict[str, Any]]:
    """The same numbers as rows of a table: texts with intervals, in points of AP.

    Args:
        curves: of the study.
        mean_gain: the difference of the mean as the study's report has it.
    """
    rows = []
    for view in ordered_views(curves):
        gain = curves.gains[view]
        row = Row("", gain.mean, gain.low, gain.high, False)
        share = curves.guess(view)
        rows.append(
            {
                "view": view,
                "name": view_name(curves, view),
                "guess": "–" if np.isnan(share) else f"{100 * share:.1f}",
                **{arm: estimate(measured.ap[view]) for arm, measured in curves.arms.items()},
                "difference": interval_in_words(mean_gain if view == MEAN and mean_gain else row),
            }
        )
    return rows


def estimate(values: np.ndarray) -> str:
    """'82.1 (79.0 to 85.1)' from a value in [0, 1] and its interval."""
    if np.isnan(values[0]):
        return "does not occur"
    if np.isnan(values[1]):
        return f"{100 * values[0]:.1f}"
    value, low, high = 100 * values
    return f"{value:.1f} ({low:.1f} to {high:.1f})"
