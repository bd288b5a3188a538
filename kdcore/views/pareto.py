"""Quality against speed, size or number of operations: every variant as a point, and the front of those that nothing beats."""

from collections.abc import Sequence
from html import escape
from math import log10
from textwrap import wrap
from typing import Literal, NamedTuple

import plotly.graph_objects as go

from kdcore.deploy.record import Deployment
from kdcore.views.arms import ARM_COLOURS, ARM_NAMES, ARM_SYMBOLS
from kdcore.views.deploy import FORM_NAMES, Quality, Variant, quality, variants
from kdcore.views.layout import FAINT, GREY, log_ticks, style

Measure = Literal["speed", "size", "operations"]


ALIKE = 1.02  # a ratio of speeds or sizes below it is no gain: two measurements of one network differ as much


class Axis(NamedTuple):
    """What the chart is laid out by; `more` is 1 where more is better, -1 where less is."""

    label: str
    title: str
    unit: str
    more: Literal[1, -1]


AXES: dict[Measure, Axis] = {
    "speed": Axis("Speed", "Megapixels a second (faster →)", "megapixels a second", 1),
    "size": Axis("File size", "Megabytes (smaller →)", "MB", -1),
    "operations": Axis("Operations", "Operations for one pixel (fewer →)", "operations a pixel", -1),
}


class Point(NamedTuple):
    """A variant with its place in the chart."""

    variant: Variant
    x: float
    quality: Quality

    @property
    def offered(self) -> bool:
        """Whether it may stand on the front."""
        return not self.variant.form.refused


def points_of(deployment: Deployment, measure: Measure) -> list[Point]:
    """The variants whose quality and measure are known. Size and operations do not depend on the engine: one point a file."""
    found: list[Point] = []
    for each in variants(deployment):
        known = quality(each.form, deployment)
        if measure != "speed":
            if each.form.kind == "bf16":
                continue
            each = Variant(each.form, None)
        x = measured(each, measure)
        if known is not None and x and not any(point.variant == each for point in found):
            found.append(Point(each, x, known))
    return found


def measured(variant: Variant, measure: Measure) -> float | None:
    """A variant's place on an axis."""
    if measure == "speed":
        return None if variant.speed is None else variant.speed.megapixels_per_second
    return variant.form.megabytes if measure == "size" else variant.form.macs_per_pixel


def front(points: Sequence[Point], more: int) -> list[Point]:
    """The points that are offered and for which no other offered one is at least as good in both; differences of x below 2 % count as none.

    Args:
        points: of a chart.
        more: 1 where a larger x is better, -1 where a smaller one is.

    Returns:
        The best quality first; of several alike, one.
    """
    best: list[Point] = []
    for point in sorted(
        (point for point in points if point.offered), key=lambda p: (p.quality.mean_ap, more * p.x), reverse=True
    ):
        if not best or (point.x / best[-1].x) ** more > ALIKE:
            best.append(point)
    return best


def pareto_figure(deployment: Deployment, measure: Measure) -> go.Figure:
    """Mean AP against a measure on a logarithmic axis on which right is always better."""
    axis = AXES[measure]
    points = points_of(deployment, measure)
    best = front(points, axis.more)
    figure = go.Figure()
    figure.add_scatter(
        x=[point.x for point in best],
        y=[100 * point.quality.mean_ap for point in best],
        mode="lines",
        line={"color": GREY, "width": 1.6, "dash": "dot"},
        name="Pareto front: nothing beats these",
        hoverinfo="skip",
    )
    for arm in ARM_NAMES:
        mine = [point for point in points if point.variant.form.arm == arm]
        if mine:
            draw_arm(figure, arm, mine, best, axis)
    refused = [point for point in points if not point.offered]
    if refused:  # what hollow means, without data of its own
        figure.add_scatter(
            x=[None],
            y=[None],
            mode="markers",
            marker={"symbol": "circle-open", "size": 13, "color": GREY, "line": {"width": 2.5}},
            name="Refused",
        )
    style(figure, height=430, margin={"l": 62, "r": 20, "t": 16, "b": 50}, hovermode="closest")
    figure.update_xaxes(
        type="log",
        title_text=axis.title,
        gridcolor=FAINT,
        zeroline=False,
        range=log_range([point.x for point in points], axis.more),
        tickvals=log_ticks([point.x for point in points]),
        tickformat="~s" if measure == "operations" else "~g",
    )
    figure.update_yaxes(
        title_text="Mean AP on the test split (better ↑)",
        gridcolor=FAINT,
        zeroline=False,
        range=score_range([100 * point.quality.mean_ap for point in points]),
    )
    figure.update_layout(legend={"orientation": "h", "y": 1.01, "yanchor": "bottom", "x": 0})
    return figure


def draw_arm(figure: go.Figure, arm: str, points: Sequence[Point], best: Sequence[Point], axis: Axis) -> None:
    """An arm's points: filled where offered, hollow where refused; those on the front carry their name."""
    figure.add_scatter(
        x=[point.x for point in points],
        y=[100 * point.quality.mean_ap for point in points],
        mode="markers+text",
        text=[point.variant.name if point in best else "" for point in points],
        # Nothing lies above and to the right: it would beat the point. At the very right there is little room.
        textposition=["top center" if best and point is best[-1] else "top right" for point in points],
        textfont={"size": 12},
        cliponaxis=False,
        marker={
            "symbol": [ARM_SYMBOLS[arm] + ("" if point.offered else "-open") for point in points],
            "size": [13 if point in best or not point.offered else 10 for point in points],
            "color": ARM_COLOURS[arm],
            "line": {
                "color": ["#fff" if point.offered else ARM_COLOURS[arm] for point in points],
                "width": [1 if point.offered else 2.5 for point in points],
            },
        },
        customdata=[hover(point, axis) for point in points],
        hovertemplate="%{customdata}<extra></extra>",
        name=ARM_NAMES[arm],
    )


def hover(point: Point, axis: Axis) -> str:
    """What a point tells: its names, its two numbers, and why it is refused; safe in Plotly's markup."""
    form, speed = point.variant
    lines = [
        f"<b>{ARM_NAMES[form.arm]}</b>, {point.variant.name}",
        f"{point.x:,.3g} {axis.unit}" if point.x < 1000 else f"{point.x:,.0f} {axis.unit}",
        f"mean AP {100 * point.quality.mean_ap:.1f}",
    ]
    if speed is not None:
        lines.append(f"{escape(speed.device)}, {speed.peak_mb:,.0f} MB of memory")
        lines.append(f"file: {FORM_NAMES[form.kind]}, {form.megabytes:.2g} MB")
    if point.quality.expected:
        lines.append("(expected from its difference on validation)")
    if form.refused:
        lines += ["<b>Refused:</b>", *(escape(line) for line in wrap(form.refused, 60))]
    return "<br>".join(lines)


def log_range(values: Sequence[float], more: int) -> list[float] | None:
    """Ends of a logarithmic axis with room for names beside the outer points, the better end on the right."""
    if not values:
        return None
    low, high = log10(min(values)), log10(max(values))
    room = max(0.1, 0.1 * (high - low))
    name = max(0.25, 0.2 * (high - low))
    return [low - room, high + name] if more > 0 else [high + room, low - name]


def score_range(values: Sequence[float]) -> list[float] | None:
    """Ends of the axis of quality, with room for a name above the best point; two points at least, so that noise looks small."""
    if not values:
        return None
    low, high = min(values), max(values)
    room = max(1.0, 0.12 * (high - low))
    return [low - room, high + room]
