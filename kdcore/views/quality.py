"""Average precision of every class: a row for each, with intervals, and the level that a guess reaches; and reliability diagrams."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from kdcore.evaluation.bands import StudyCurves
from kdcore.evaluation.calibration import Calibration
from kdcore.evaluation.operating import MEAN
from kdcore.views.arms import ARM_COLOURS, ARM_DASHES, ARM_NAMES, ARM_SYMBOLS, key_html, tint
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
    figure.update_xaxes(range=[-1, 101], title_text="Average precision", gridcolor=FAINT, zeroline=False)
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


def reliability_figure(arms: Mapping[str, Calibration]) -> go.Figure:
    """How often each arm is right (up) when it is so and so sure (to the right); large markers stand for many pixels."""
    figure = go.Figure()
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        line={"color": GREY, "width": 1.5},
        hoverinfo="skip",
        showlegend=False,
    )
    figure.add_annotation(
        x=0.985, y=0.02, text="overconfident ↘", showarrow=False, xanchor="right", yanchor="bottom", font={"size": 12, "color": GREY}
    )  # fmt: skip
    figure.add_annotation(
        x=0.015, y=0.98, text="↖ too modest", showarrow=False, xanchor="left", yanchor="top", font={"size": 12, "color": GREY}
    )  # fmt: skip
    for arm, measured in arms.items():
        known = np.isfinite(measured.probability)
        colour = ARM_COLOURS[arm]
        figure.add_scatter(
            x=measured.probability[known].astype(np.float32),
            y=measured.frequency[known].astype(np.float32),
            customdata=measured.share[known].astype(np.float32),
            mode="lines+markers",
            name=ARM_NAMES[arm],
            line={"color": tint(colour, 0.75), "dash": ARM_DASHES[arm], "width": 2},
            marker={
                "color": colour,
                "symbol": ARM_SYMBOLS[arm],
                "size": 6 + 16 * np.sqrt(measured.share[known]),
                "line": {"color": "#fff", "width": 1},
            },
            hovertemplate=f"<b>{ARM_NAMES[arm]}</b><br>says %{{x:.0%}}, is right %{{y:.0%}} of the time<br>"
            "%{customdata:.1%} of the pixels<extra></extra>",
        )
    style(figure, height=400, margin={"l": 62, "r": 20, "t": 34, "b": 48})
    figure.update_xaxes(title_text="How sure the network is")
    figure.update_yaxes(title_text="How often it is right")
    axis = {"tickformat": ".0%", "dtick": 0.2, "zeroline": False, "gridcolor": FAINT}
    figure.update_xaxes(range=[-0.02, 1.02], **axis)
    figure.update_yaxes(range=[-0.02, 1.02], **axis)
    figure.update_layout(legend={"orientation": "h", "y": 1.01, "yanchor": "bottom", "x": 0})
    return figure


def calibration_html(arms: Mapping[str, Calibration]) -> str:
    """Each arm's error in points, and an example of what it means."""
    return "".join(
        f'<div style="margin:0 0 .8rem 0;line-height:1.45"><div>{key_html(arm)}<strong>{ARM_NAMES[arm]}</strong>: '
        f"{error_in_words(measured)}</div>{example_in_words(measured)}</div>"
        for arm, measured in arms.items()
    )


def error_in_words(measured: Calibration) -> str:
    """'off by 3.1 points'."""
    return "not known" if np.isnan(measured.error) else f"off by {100 * measured.error:.1f} points"


def example_in_words(measured: Calibration) -> str:
    """'Where it is 83 % sure, it is right 71 % of the time.'; nothing where it is hardly ever so sure."""
    if measured.example is None:
        return ""
    sure, right = (f"{100 * value:.0f} %" for value in measured.example)
    return f'<div style="opacity:.75">Where it is {sure} sure, it is right {right} of the time.</div>'
