"""Precision-recall curves with bands, operating points, lines of equal F1 and the level that a guess reaches."""

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from kdcore.evaluation.bands import RECALLS, ArmCurves, StudyCurves
from kdcore.evaluation.curves import THRESHOLDS
from kdcore.evaluation.operating import MEAN, OperatingPoint, view_curve
from kdcore.evaluation.scores import LEVELS
from kdcore.views.arms import ARM_COLOURS, ARM_DASHES, ARM_NAMES, ARM_SYMBOLS, tint
from kdcore.views.layout import GREY, style

Points = Mapping[str, OperatingPoint]
LINES_OF_F1 = (0.2, 0.4, 0.6, 0.8)
FINENESS = 400  # steps of recall and of precision that a drawing can show
LONGEST = 28  # characters of a class's name in a figure
MEAN_NAME = "mean of all classes"


def view_name(curves: StudyCurves, view: int, longest: int = 60) -> str:
    """What a view is called; free text, so escape it where markup is understood."""
    name = MEAN_NAME if view == MEAN else curves.classes[view]
    return name if len(name) <= longest else name[: longest - 1] + "…"


def precision_recall_figure(curves: StudyCurves, view: int, points: Points | None = None) -> go.Figure:
    """Precision against recall of every arm, for one class or the mean.

    Args:
        curves: of the study.
        view: a class's number, or `MEAN`.
        points: for each arm where its threshold puts it.
    """
    figure = go.Figure()
    draw_ground(figure, curves, view, {})
    for arm, measured in curves.arms.items():
        name = f"{ARM_NAMES[arm]}, AP {100 * measured.ap[view, 0]:.1f}"
        draw_arm(figure, arm, measured, view, {}, name)
    draw_points(figure, view, points or {}, {})
    of_class = "each class" if view == MEAN else f"all {escape(view_name(curves, view, LONGEST))}"
    is_right = "right" if view == MEAN else escape(view_name(curves, view, LONGEST))
    averaged = " (mean of the classes)" if view == MEAN else ""
    style(figure, height=460, margin={"l": 62, "r": 58, "t": 34, "b": 48})
    figure.update_xaxes(title_text=f"Recall: how much of {of_class} is found{averaged}")
    figure.update_yaxes(title_text=f"Precision: how much of what is marked is {is_right}")
    scale_axes(figure)
    figure.update_layout(
        legend={"orientation": "h", "y": 1.01, "yanchor": "bottom", "x": 0, "xref": "container", "font_size": 14}
    )
    return figure


def precision_recall_grid(curves: StudyCurves, points: Mapping[int, Points] | None = None) -> go.Figure:
    """A small panel for each class, and one for their mean; arguments as above, with the points of each view."""
    views = curves.views
    columns = min(3, len(views))
    rows = -(-len(views) // columns)
    height = 96 + 290 * rows
    figure = make_subplots(
        rows=rows,
        cols=columns,
        shared_yaxes=True,
        subplot_titles=[escape(view_name(curves, view, LONGEST)) for view in views],
        horizontal_spacing=0.035,
        vertical_spacing=66 / height if rows > 1 else 0,
    )
    for panel, view in enumerate(views):
        place = {"row": panel // columns + 1, "col": panel % columns + 1}
        draw_ground(figure, curves, view, place, labels=False)
        for arm, measured in curves.arms.items():
            draw_arm(figure, arm, measured, view, place, ARM_NAMES[arm], legend=panel == 0)
        draw_points(figure, view, (points or {}).get(view, {}), place)
    style(figure, height=height, margin={"l": 62, "r": 16, "t": 72, "b": 50})
    scale_axes(figure)
    figure.update_xaxes(title_text="Recall", title_standoff=2, showticklabels=True)
    figure.update_yaxes(title_text="Precision", title_standoff=4, col=1)
    figure.update_layout(
        legend={"orientation": "h", "y": 1 + 34 / (height - 122), "yanchor": "bottom", "x": 0, "font_size": 14}
    )
    return figure


def draw_ground(
    figure: go.Figure, curves: StudyCurves, view: int, place: dict[str, Any], *, labels: bool = True
) -> None:
    """Lines of equal F1, and the precision of a guess."""
    recall, precision = lines_of_f1()
    figure.add_scatter(
        x=recall,
        y=precision,
        mode="lines",
        line={"color": tint("#80848E", 0.6), "width": 1, "dash": "dot"},
        hoverinfo="skip",
        showlegend=False,
        **place,
    )
    guess = curves.guess(view)
    if np.isfinite(guess):
        figure.add_scatter(
            x=np.array([0, 1], np.float32),
            y=np.array([guess, guess], np.float32),
            mode="lines",
            line={"color": GREY, "width": 1.4},
            hovertemplate=f"a guess is right {guess:.1%} of the time<extra></extra>",
            showlegend=False,
            **place,
        )
    if not labels:
        return
    for value in LINES_OF_F1:
        figure.add_annotation(
            x=1.008, xref="paper", y=value / (2 - value), text=f"F1 {value:.0%}", showarrow=False, xanchor="left", font={"size": 11, "color": GREY}
        )  # fmt: skip
    if np.isfinite(guess):
        figure.add_annotation(
            x=0.006, y=guess, text=f"a guess: {guess:.1%}", showarrow=False, xanchor="left", yanchor="bottom", font={"size": 12, "color": GREY}
        )  # fmt: skip


def lines_of_f1() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Recall and precision along all lines of equal F1, with gaps between them: P = F R / (2 R - F)."""
    f1 = np.array(LINES_OF_F1)[:, None]
    recall = np.linspace(f1[:, 0] / (2 - f1[:, 0]), 1, 60, axis=1)
    recall, precision = (
        np.pad(values, ((0, 0), (0, 1)), constant_values=np.nan).ravel().astype(np.float32)
        for values in (recall, f1 * recall / (2 * recall - f1))
    )
    return recall, precision


def draw_arm(
    figure: go.Figure,
    arm: str,
    measured: ArmCurves,
    view: int,
    place: dict[str, Any],
    name: str,
    *,
    legend: bool = True,
) -> None:
    """One arm: its band, its single seeds as thin lines, and the curve of all seeds together."""
    colour, dash = ARM_COLOURS[arm], ARM_DASHES[arm]
    low, high = measured.band[view]
    common = {"legendgroup": arm, "showlegend": False, **place}
    if np.isfinite(low).all():
        figure.add_scatter(
            x=np.concatenate([RECALLS, RECALLS[::-1]]).astype(np.float32),
            y=np.concatenate([high, low[::-1]]).astype(np.float32),
            mode="lines",
            line={"width": 0},
            fill="toself",
            fillcolor=tint(colour, 0.14),
            hoverinfo="skip",
            **common,
        )
    if len(measured.positives) > 1:
        seeds = [
            drawn_curve(positives, negatives, view)
            for positives, negatives in zip(measured.positives, measured.negatives, strict=True)
        ]
        gap = np.array([np.nan], np.float32)
        figure.add_scatter(
            x=np.concatenate([part for recall, _, _ in seeds for part in (recall, gap)]),
            y=np.concatenate([part for _, precision, _ in seeds for part in (precision, gap)]),
            mode="lines",
            line={"color": tint(colour, 0.5), "width": 0.8, "shape": "vh"},
            hoverinfo="skip",
            **common,
        )
    recall, precision, threshold = drawn_curve(measured.positives.sum(axis=0), measured.negatives.sum(axis=0), view)
    figure.add_scatter(
        x=recall,
        y=precision,
        customdata=threshold,
        mode="lines",
        line={"color": colour, "dash": dash, "width": 2.4, "shape": "vh"},
        hovertemplate=f"<b>{ARM_NAMES[arm]}</b><br>found %{{x:.1%}}, of its marks %{{y:.1%}} are right<br>threshold %{{customdata:.0%}}<extra></extra>",
        **common,
    )
    if legend:  # line and marker stand for the arm; without data of its own
        figure.add_scatter(
            x=[None],
            y=[None],
            mode="lines+markers",
            line={"color": colour, "dash": dash, "width": 2.4},
            marker={"color": colour, "symbol": ARM_SYMBOLS[arm], "size": 10, "line": {"color": "#fff", "width": 1}},
            name=name,
            legendgroup=arm,
            **place,
        )


def drawn_curve(
    positives: NDArray[Any], negatives: NDArray[Any], view: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Recall, precision and threshold (a probability) of what the eye can tell apart along a curve.

    The curve begins at recall 0; drawn as steps ('vh') the area under it is AP. Empty where the class does not occur.
    """
    precision, recall = view_curve(positives, negatives, view)
    if np.isnan(recall).any():
        return (np.zeros(0, np.float32),) * 3
    steps = np.round(np.stack([recall, precision]) * FINENESS)
    keep = np.ones(len(recall), dtype=bool)
    keep[1:-1] = (np.diff(steps[:, :-1], axis=1) != 0).any(axis=0)
    recall, precision, level = recall[keep], precision[keep], THRESHOLDS[keep]
    threshold = level / (LEVELS - 1)
    return (
        np.append(0, recall).astype(np.float32),
        np.append(precision[0], precision).astype(np.float32),
        np.append(threshold[0], threshold).astype(np.float32),
    )


def draw_points(figure: go.Figure, view: int, points: Points, place: dict[str, Any]) -> None:
    """The operating point of each arm, as its marker."""
    for arm, point in points.items():
        figure.add_scatter(
            **where(arm, point),
            uid=f"{view} {arm}",
            mode="markers",
            marker={
                "color": ARM_COLOURS[arm],
                "symbol": ARM_SYMBOLS[arm],
                "size": 15,
                "line": {"color": "#fff", "width": 2},
            },
            legendgroup=arm,
            showlegend=False,
            **place,
        )


def move_points(figure: go.Figure, points: Mapping[int, Points]) -> None:
    """Put the operating points of a figure elsewhere: much faster than drawing it anew.

    Args:
        figure: one of the two figures above, drawn with points.
        points: for each view the points of its arms.
    """
    traces = {trace.uid: trace for trace in figure.data if trace.uid}
    for view, arms in points.items():
        for arm, point in arms.items():
            if f"{view} {arm}" in traces:
                traces[f"{view} {arm}"].update(where(arm, point), overwrite=True)


def where(arm: str, point: OperatingPoint) -> dict[str, Any]:
    """What a point's marker says and where it stands; nowhere where nothing is marked or the class does not occur."""
    known = np.isfinite(point.recall) and np.isfinite(point.precision)
    threshold = f"{point.level / (LEVELS - 1):.0%}"
    return {
        "x": [point.recall if known else None],
        "y": [point.precision if known else None],
        "hovertemplate": f"<b>{ARM_NAMES[arm]}</b> at threshold {threshold}<br>"
        "found %{x:.1%}, of its marks %{y:.1%} are right<extra></extra>",
    }


def scale_axes(figure: go.Figure) -> None:
    """Both axes from 0 to 100 %."""
    figure.update_xaxes(range=[0, 1.006], tickformat=".0%", dtick=0.2, zeroline=False, gridcolor=tint("#80848E", 0.16))
    figure.update_yaxes(range=[0, 1.02], tickformat=".0%", dtick=0.2, zeroline=False, gridcolor=tint("#80848E", 0.16))
