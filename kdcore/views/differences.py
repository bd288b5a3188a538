"""Differences between the two students, each with its interval: as a forest plot, and along the curve."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go

from kdcore.evaluation.bands import RECALLS, StudyCurves
from kdcore.evaluation.operating import MEAN
from kdcore.evaluation.uncertainty import Difference
from kdcore.evaluation.verdicts import digits
from kdcore.views.arms import ARM_COLOURS, tint
from kdcore.views.layout import FAINT, GREY, add_band, style

METRICS = {"mean_ap_points": "Mean AP", "mean_iou_points": "Mean IoU", "boundary_iou_points": "Boundary IoU"}
BETTER, WORSE = ARM_COLOURS["distilled"], ARM_COLOURS["alone"]
UNSURE = "#80848E"
LONGEST = 30


class Row(NamedTuple):
    """A line of a forest plot: distilled student minus student alone, in points; nan where it cannot be known."""

    name: str
    mean: float
    low: float
    high: float
    main: bool
    """Whether it is one of the study's three numbers, not of a single class."""

    @property
    def sure(self) -> bool:
        """Whether the whole interval is on one side, as it is printed: the rule of `kdcore.evaluation.verdicts.decide`."""
        return round(self.low, 2) > 0 or round(self.high, 2) < 0


def difference_rows(comparison: Mapping[str, Any], curves: StudyCurves) -> list[Row]:
    """The three numbers of a report's comparison, and AP of every class where there are several.

    The intervals of the classes are widened for their number (Holm); no study plans these comparisons: they are exploratory.
    """
    rows = []
    for key, name in METRICS.items():
        mean, low, high = (number(comparison[key][part]) for part in ("mean", "low", "high"))
        rows.append(Row(name, mean, low, high, True))
    if len(curves.classes) > 1:
        rows += [
            Row(f"AP of {name}", gain.mean, gain.low, gain.high, False)
            for name, gain in zip(curves.classes, curves.gains, strict=False)
        ]
    return rows


def number(value: float | None) -> float:
    """JSON's None as nan."""
    return float("nan") if value is None else float(value)


def interval_in_words(row: Row) -> str:
    """'+1.8 (0.6 to 3.0)', with two decimals where one would hide on which side of 0 an end is."""
    if np.isnan(row.mean):
        return "not known"
    places = digits(Difference(row.mean, row.low, row.high))
    mean, low, high = (round(value, places) + 0.0 for value in (row.mean, row.low, row.high))
    if np.isnan(row.low):
        return f"{mean:+.{places}f}".replace("-", "−")
    return f"{mean:+.{places}f} ({low:.{places}f} to {high:.{places}f})".replace("-", "−")


def difference_figure(rows: Sequence[Row], *, covers_seeds: bool = True) -> go.Figure:
    """A forest plot: a point and a line for each difference, and where zero is.

    A filled diamond is better or worse, at a hollow circle no difference is detectable. With one seed it is too early to say.

    Args:
        rows: from top to bottom.
        covers_seeds: whether the intervals cover the seeds.
    """
    figure = go.Figure()
    known = [value for row in rows for value in (row.mean, row.low, row.high) if np.isfinite(value)]
    widest = max([1.0, *map(abs, known)])
    left = min([-0.55 * widest, *(1.15 * value for value in known)])
    right = max([0.55 * widest, *(1.15 * value for value in known)])
    draw_sides(figure, left, right)
    for position, row in enumerate(rows):
        draw_row(figure, position, row, row.sure and covers_seeds)
    style(figure, height=96 + 38 * len(rows), margin={"l": 20, "r": 178, "t": 10, "b": 46})
    figure.update_yaxes(
        range=[len(rows) - 0.4, -1.1],
        tickvals=list(range(len(rows))),
        ticktext=[f"<b>{row.name}</b>" if row.main else shortened(row.name) for row in rows],
        automargin=True,
        showgrid=False,
        zeroline=False,
    )
    figure.update_xaxes(range=[left, right], title_text="Difference in points", gridcolor=FAINT, zeroline=False)
    return figure


def draw_sides(figure: go.Figure, left: float, right: float) -> None:
    """Zero, and on which side of it who is better."""
    for end, colour, text, anchor in (
        (left, WORSE, "← alone better ", "right"),
        (right, BETTER, " distilled better →", "left"),
    ):
        figure.add_vrect(x0=0, x1=end, fillcolor=tint(colour, 0.07), line_width=0, layer="below")
        figure.add_annotation(
            x=0, y=-0.75, text=text, showarrow=False, xanchor=anchor, font={"size": 12, "color": GREY}
        )
    figure.add_vline(x=0, line={"color": GREY, "width": 1.5})


def draw_row(figure: go.Figure, position: int, row: Row, sure: bool) -> None:
    """One difference with its interval, and in numbers beside it."""
    text = interval_in_words(row)
    figure.add_annotation(
        x=1.02, xref="paper", y=position, text=f"<b>{text}</b>" if row.main else text, showarrow=False, xanchor="left"
    )
    if not np.isfinite(row.mean):
        return
    colour = (BETTER if row.mean > 0 else WORSE) if sure else UNSURE
    common = {"hovertemplate": f"{shortened(row.name)}: {text} points<extra></extra>", "showlegend": False}
    if np.isfinite(row.low):
        line = {"color": colour, "width": 5 if row.main else 2.5}
        figure.add_scatter(
            x=[row.low, row.high], y=[position, position], mode="lines", line=line, opacity=0.75, **common
        )
    marker = {
        "symbol": "diamond" if sure else "circle",
        "size": 13 if row.main else 10,
        "color": colour if sure else "#fff",
        "line": {"color": "#fff" if sure else colour, "width": 1.2 if sure else 2.5},
    }
    figure.add_scatter(x=[row.mean], y=[position], mode="markers", marker=marker, **common)


def shortened(name: str) -> str:
    """A name that fits beside a figure, safe in Plotly's markup."""
    return escape(name if len(name) <= LONGEST else name[: LONGEST - 1] + "…")


def gain_figure(curves: StudyCurves, view: int) -> go.Figure:
    """How many points more precise the distilled student is at the same recall, with the band of the paired difference."""
    gain, low, high = curves.gain_band[view]
    figure = go.Figure()
    figure.add_hline(y=0, line={"color": GREY, "width": 1.5})
    add_band(figure, RECALLS, low, high, tint(BETTER, 0.2), showlegend=False)
    figure.add_scatter(
        x=RECALLS.astype(np.float32),
        y=gain.astype(np.float32),
        mode="lines",
        line={"color": BETTER, "width": 2.4},
        hovertemplate="where both find %{x:.0%}:<br>%{y:+.1f} points of precision<extra></extra>",
        showlegend=False,
    )
    inner = curves.gain_band[view][:, 5:-1]  # at the very left few pixels decide, and the band bursts
    reach = 1.25 * max(1.0, float(np.nanmax(np.abs(inner))) if np.isfinite(inner).any() else 1.0)
    for side, text in ((1, "distilled student more precise ↑"), (-1, "student alone more precise ↓")):
        figure.add_annotation(
            x=0.99, y=side * reach, text=text, showarrow=False, xanchor="right", yanchor="top" if side > 0 else "bottom", font={"size": 12, "color": GREY}
        )  # fmt: skip
    style(figure, height=340, margin={"l": 62, "r": 20, "t": 10, "b": 46})
    of_class = "each class" if view == MEAN else f"all {shortened(curves.classes[view])}"
    figure.update_xaxes(
        range=[0, 1],
        tickformat=".0%",
        dtick=0.2,
        title_text=f"Recall: how much of {of_class} both find",
        gridcolor=FAINT,
    )
    figure.update_yaxes(range=[-reach, reach], title_text="Precision gained, points", gridcolor=FAINT, zeroline=False)
    return figure
