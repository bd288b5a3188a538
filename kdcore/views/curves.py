"""Precision-recall curves with bands, operating points, lines of equal F1 and the level that a guess reaches."""

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from kdcore.evaluation.bands import RECALLS, ArmCurves, StudyCurves
from kdcore.evaluation.levels import GRID, LEVELS
from kdcore.evaluation.operating import MEAN, OperatingPoint, view_curve
from kdcore.views.arms import ARM_COLOURS, ARM_DASHES, ARM_NAMES, ARM_SYMBOLS, tint
from kdcore.views.layout import GREY, add_band, style

Points = Mapping[str, OperatingPoint]
LINES_OF_F1 = (0.2, 0.4, 0.6, 0.8)
FINENESS = 250  # steps of recall and of precision that a drawing can show
LEGEND = {"orientation": "h", "x": 0, "xref": "container", "font_size": 14}
SMALLEST = 0.005  # recall, from which on a curve is drawn
STEP = 0.02  # of recall, from which on a curve is drawn with a corner
LONGEST = 28  # characters of a class's name in a figure
MEAN_NAME = "mean of all classes"
_THRESHOLDS = GRID[::-1] / (1 + GRID[::-1])


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
        draw_arm(figure, arm, measured, view, {})
    draw_points(figure, points or {}, {})
    name = escape(view_name(curves, view, LONGEST))
    all_of_it, is_it = ("each class", "right") if view == MEAN else (f"all {name}", name)
    averaged = " (mean of the classes)" if view == MEAN else ""
    style(figure, height=440, margin={"l": 50, "r": 58, "t": 66, "b": 48})
    scale_axes(figure)
    figure.update_xaxes(title_text=f"<b>Recall</b>: of {all_of_it}, how much is found{averaged} →")
    figure.add_annotation(  # lying, so that it can be read, and long
        text=f"↑ <b>Precision</b>: of what is marked, how much is {is_it}{averaged}",
        **{
            "x": 0,
            "y": 1,
            "xref": "paper",
            "yref": "paper",
            "xanchor": "left",
            "yanchor": "bottom",
            "xshift": -42,
            "yshift": 8,
        },
        showarrow=False,
    )
    figure.update_layout(legend=LEGEND | {"y": 1, "yref": "container", "yanchor": "top"})
    return figure


def precision_recall_grid(curves: StudyCurves, points: Mapping[int, Points] | None = None) -> go.Figure:
    """A small panel for each class, and one for their mean; arguments as above, with the points of each view."""
    views = curves.views
    columns = min(3, len(views))
    rows = -(-len(views) // columns)
    height = 122 + 300 * rows
    figure = make_subplots(
        rows=rows,
        cols=columns,
        shared_yaxes=True,
        subplot_titles=[f"<b>{escape(view_name(curves, view, LONGEST))}</b>" for view in views],
        horizontal_spacing=0.03,
        vertical_spacing=84 / height if rows > 1 else 0,
    )
    for panel, view in enumerate(views):
        place = {"row": panel // columns + 1, "col": panel % columns + 1}
        draw_ground(figure, curves, view, place, labels=False)
        for arm, measured in curves.arms.items():
            draw_arm(figure, arm, measured, view, place, legend=panel == 0)
        draw_points(figure, (points or {}).get(view, {}), place)
    style(figure, height=height, margin={"l": 62, "r": 16, "t": 74, "b": 48})
    scale_axes(figure)
    figure.update_xaxes(title_text="Recall →", title_standoff=2, showticklabels=True, dtick=0.5)
    figure.update_yaxes(title_text="Precision →", title_standoff=4, col=1)
    figure.update_layout(legend=LEGEND | {"y": 1, "yref": "container", "yanchor": "top"})
    return figure


def draw_ground(
    figure: go.Figure, curves: StudyCurves, view: int, place: dict[str, Any], *, labels: bool = True
) -> None:
    """Lines of equal F1, and the precision of a guess."""
    draw_f1(figure, **place)
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
    if labels:
        label_ground(figure, guess)


def label_ground(figure: go.Figure, guess: float) -> None:
    """Say what the lines of `draw_ground` are, at the edge of the figure."""
    common = {"showarrow": False, "xanchor": "left", "font": {"size": 12, "color": GREY}}
    for value in LINES_OF_F1:
        figure.add_annotation(x=1.008, xref="paper", y=value / (2 - value), text=f"F1 {100 * value:.0f}", **common)
    if np.isfinite(guess):
        text = f"a guess: {100 * guess:.{1 if guess < 0.1 else 0}f} %"
        figure.add_annotation(x=0.006, y=guess, text=text, yanchor="bottom", **common)


def draw_f1(figure: go.Figure, **place: Any) -> None:
    """The lines of equal F1, faint."""
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
    *,
    legend: bool = True,
) -> None:
    """One arm: its band, its single seeds as thin lines, and the curve of all seeds together."""
    colour, dash = ARM_COLOURS[arm], ARM_DASHES[arm]
    low, high = measured.band[view]
    common = {"legendgroup": arm, "showlegend": False, **place}
    add_band(figure, RECALLS, low, high, tint(colour, 0.14), **common)
    if len(measured.positives) > 1:
        seeds = [drawn_curve(positives, negatives, view) for positives, negatives in zip(*measured.fine, strict=True)]
        gap = np.array([np.nan], np.float32)
        figure.add_scatter(
            x=np.concatenate([part for recall, _, _ in seeds for part in (recall, gap)]),
            y=np.concatenate([part for _, precision, _ in seeds for part in (precision, gap)]),
            mode="lines",
            line={"color": tint(colour, 0.5), "width": 0.8},
            hoverinfo="skip",
            **common,
        )
    draw_curve(figure, measured, view, ARM_NAMES[arm], colour, dash, **common)
    if legend:  # line and marker stand for the arm; without data of its own
        figure.add_scatter(
            x=[None],
            y=[None],
            mode="lines+markers",
            line={"color": colour, "dash": dash, "width": 2.4},
            marker={"color": colour, "symbol": ARM_SYMBOLS[arm], "size": 10, "line": {"color": "#fff", "width": 1}},
            name=ARM_NAMES[arm],
            legendgroup=arm,
            **place,
        )


def draw_curve(
    figure: go.Figure, measured: ArmCurves, view: int, title: str, colour: str, dash: str, **more: Any
) -> None:
    """The curve of all seeds of an arm together; `title` heads what the pointer is told, as markup, and `more` goes to plotly."""
    recall, precision, threshold = drawn_curve(*measured.pooled, view)
    figure.add_scatter(
        x=recall,
        y=precision,
        customdata=threshold,
        mode="lines",
        line={"color": colour, "dash": dash, "width": 2.4, "simplify": False},
        hovertemplate=f"<b>{title}</b><br>found %{{x:.1%}}, of its marks %{{y:.1%}} are right<br>threshold %{{customdata:.0%}}<extra></extra>",
        **more,
    )


def drawn_curve(
    positives: NDArray[Any], negatives: NDArray[Any], view: int, fineness: int = FINENESS
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Recall, precision and threshold (a probability) of what the eye can tell apart along a curve in the levels of `GRID`.

    The curve begins at recall 0 and goes in steps, so that the area under it is AP; corners of steps too small to be seen
    are left out, and so are thresholds that find less than half a percent: there, a few pixels decide. Empty where the class does not occur.
    """
    precision, recall = view_curve(positives, negatives, view)
    if np.isnan(recall).any():
        return (np.zeros(0, np.float32),) * 3
    start = int(np.argmax(recall >= SMALLEST))
    precision, recall, marked = precision[start:], recall[start:], _THRESHOLDS[start:]
    steps = np.round(np.stack([recall, precision]) * fineness)
    keep = np.ones(len(recall), dtype=bool)
    keep[1:-1] = (np.diff(steps[:, :-1], axis=1) != 0).any(axis=0)
    recall, precision, marked = recall[keep], precision[keep], marked[keep]
    recall, precision, marked = (
        np.append(first, rest) for first, rest in ((0, recall), (precision[0], precision), (marked[0], marked))
    )
    corner = np.flatnonzero(np.diff(recall) > STEP) + 1
    return (
        np.insert(recall, corner, recall[corner - 1]).astype(np.float32),
        np.insert(precision, corner, precision[corner]).astype(np.float32),
        np.insert(marked, corner, marked[corner]).astype(np.float32),
    )


def draw_points(figure: go.Figure, points: Points, place: dict[str, Any]) -> None:
    """The operating point of each arm, as its marker; none where nothing is marked or the class does not occur."""
    for arm, point in points.items():
        if not (np.isfinite(point.recall) and np.isfinite(point.precision)):
            continue
        marker = {
            "color": ARM_COLOURS[arm],
            "symbol": ARM_SYMBOLS[arm],
            "size": 15,
            "line": {"color": "#fff", "width": 2},
        }
        figure.add_scatter(
            x=[point.recall],
            y=[point.precision],
            mode="markers",
            marker=marker,
            hovertemplate=f"<b>{ARM_NAMES[arm]}</b> at threshold {point.level / (LEVELS - 1):.0%}<br>"
            "found %{x:.1%}, of its marks %{y:.1%} are right<extra></extra>",
            legendgroup=arm,
            showlegend=False,
            **place,
        )


def scale_axes(figure: go.Figure) -> None:
    """Both axes from 0 to 100 %."""
    figure.update_xaxes(range=[0, 1.006], tickformat=".0%", dtick=0.2, zeroline=False, gridcolor=tint("#80848E", 0.16))
    figure.update_yaxes(range=[0, 1.02], tickformat=".0%", dtick=0.2, zeroline=False, gridcolor=tint("#80848E", 0.16))
