"""Vega-Lite charts of the pages. Streamlit gives them the theme's fonts, and changes their data without drawing them anew."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from altair.typing import ChartType
from numpy.typing import NDArray

from kdcore.views.arms import ARM_COLOURS, ARM_DASHES, ARM_NAMES

MOST_POINTS = 100  # of a line: what one tick of a live chart may cost is bounded by it
DASHES = {"solid": [1, 0], "dash": [6, 3], "dashdot": [6, 2, 1, 2], "dot": [1, 2]}


def learning_table(
    runs: Mapping[str, tuple[str, Sequence[Mapping[str, Any]]]], key: str, factor: float = 1.0
) -> pd.DataFrame:
    """The lines of a learning chart: columns `run`, `arm`, `step` and `value`, at most 100 points a run.

    Args:
        runs: for each run its arm and its lines of metrics.
        key: which measurement, for example 'loss'.
        factor: multiplied to it.
    """
    parts = []
    for name, (arm, lines) in runs.items():
        points = [(line["step"], line[key]) for line in lines if line.get(key) is not None]
        if points:
            steps, values = thin(*(np.array(column, dtype=np.float64) for column in zip(*points, strict=True)))
            parts.append(
                pd.DataFrame({
                    "run": name, "arm": ARM_NAMES[arm], "step": steps.round().astype(np.int32), "value": factor * values
                })
            )  # fmt: skip
    if not parts:
        return pd.DataFrame({"run": [], "arm": [], "step": np.array([], np.int32), "value": np.array([], np.float64)})
    table = pd.concat(parts, ignore_index=True)
    return table.assign(
        run=table["run"].astype("category"), arm=table["arm"].astype("category"), value=table["value"].round(5)
    )


def thin(steps: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """At most `MOST_POINTS` points; neighbours are averaged, and the last point stays as it is."""
    if len(steps) <= MOST_POINTS:
        return steps, values
    edges = np.linspace(0, len(steps) - 1, MOST_POINTS).round().astype(int)
    counts = np.diff(edges)
    return (
        np.append(np.add.reduceat(steps[:-1], edges[:-1]) / counts, steps[-1]),
        np.append(np.add.reduceat(values[:-1], edges[:-1]) / counts, values[-1]),
    )


def learning_chart(
    title: str, last_step: int, points: bool = False, arms: Sequence[str] = ("teacher", "alone", "distilled")
) -> dict[str, Any]:
    """Vega-Lite specification of the lines of all runs against the step; one colour and dash an arm.

    Its data are a `learning_table`. It is written out, not built by Altair, which checks it against a schema each time: too
    long for what is drawn anew every two seconds for everyone who watches.

    Args:
        title: of the vertical axis.
        last_step: right end of the horizontal axis, so that a live chart does not rescale it.
        points: whether to mark the measured points.
        arms: in the legend.
    """
    names, dashes = [ARM_NAMES[arm] for arm in arms], [DASHES[ARM_DASHES[arm]] for arm in arms]
    legend = {"orient": "top", "symbolType": "stroke", "symbolSize": 400, "symbolStrokeWidth": 2.5}
    places = {
        "x": {
            "field": "step", "type": "quantitative", "title": "Step",
            "scale": {"domain": [0, last_step], "nice": False}, "axis": {"tickCount": 6, "format": ",d"},
        },
        "y": {"field": "value", "type": "quantitative", "title": title, "scale": {"zero": False}},
    }  # fmt: skip
    arm = {"field": "arm", "type": "nominal", "title": None}
    color = arm | {"scale": {"domain": names, "range": [ARM_COLOURS[arm] for arm in arms]}}
    run = {"field": "run", "type": "nominal"}
    lines = {
        "mark": {"type": "line", "strokeWidth": 2},
        "encoding": places
        | {
            "color": color | {"legend": legend},
            "strokeDash": arm | {"scale": {"domain": names, "range": dashes}, "legend": legend},
            "detail": run,
        },
    }
    tooltip = [
        run | {"title": "Run"},
        {"field": "step", "type": "quantitative", "title": "Step", "format": ",d"},
        {"field": "value", "type": "quantitative", "title": title, "format": ".3~f"},
    ]
    dots = {
        "mark": {"type": "circle", "size": 36 if points else 60, "opacity": 1 if points else 0},
        "encoding": places | {"color": color | {"legend": None}, "tooltip": tooltip},
    }
    return {"height": 270, "layer": [lines, dots]}


def probability_chart(
    names: Sequence[str], before: NDArray[np.float64], after: NDArray[np.float64], colours: Sequence[str]
) -> ChartType:
    """Bars of softened class probabilities, with a tick where each stood at temperature 1.

    Args:
        names: of the classes.
        before: (classes,) at temperature 1.
        after: (classes,) at the chosen temperature.
        colours: of the classes.
    """
    table = pd.DataFrame({"class": list(names), "before": 100 * before, "after": 100 * after})
    labels = alt.Y("class:N", title=None, sort=list(names), axis=alt.Axis(labelLimit=140))
    bars = (
        alt.Chart(table)
        .mark_bar(height={"band": 0.7}, stroke="#888888", strokeWidth=1)
        .encode(
            x=alt.X("after:Q", title="Probability, %", scale=alt.Scale(domain=[0, 100])),
            y=labels,
            color=alt.Color("class:N", scale=alt.Scale(domain=list(names), range=list(colours)), legend=None),
            tooltip=[
                alt.Tooltip("class:N", title="Class"),
                alt.Tooltip("before:Q", title="At temperature 1, %", format=".1f"),
                alt.Tooltip("after:Q", title="Softened, %", format=".1f"),
            ],
        )
    )
    ticks = alt.Chart(table).mark_tick(thickness=3, size=24, color="#888888").encode(x="before:Q", y=labels)
    return alt.layer(bars, ticks).properties(height=34 * len(names) + 50)


def alpha_chart(alpha: float) -> ChartType:
    """One bar: how the loss is shared between the labels and the teacher."""
    voices = {"Labels": "#999999", "Teacher": ARM_COLOURS["teacher"]}
    table = pd.DataFrame({"voice": list(voices), "share": [1 - alpha, alpha], "order": [0, 1]})
    whole = alt.X(
        "share:Q",
        title="Share of the loss",
        stack="zero",
        scale=alt.Scale(domain=[0, 1]),
        axis=alt.Axis(format="%", values=[0, 0.5, 1]),
    )
    bar: ChartType = (
        alt.Chart(table)
        .mark_bar(height=26)
        .encode(
            x=whole,
            color=coloured("voice", voices),
            order="order:Q",
            tooltip=[alt.Tooltip("voice:N", title="Listens to"), alt.Tooltip("share:Q", title="Share", format=".0%")],
        )
        .properties(height=110)
    )
    return bar


def share_chart(shares: Mapping[str, Mapping[str, float]], colours: Mapping[str, str]) -> ChartType:
    """Class shares of each part of the split, as one stacked bar a part.

    Args:
        shares: for each part the share of each class in [0, 1].
        colours: of the classes.
    """
    rows = [
        {"part": part, "class": name, "share": share, "order": order}
        for part, classes in shares.items()
        for order, (name, share) in enumerate(classes.items())
    ]
    whole = alt.X(
        "share:Q",
        title="Share of labelled pixels",
        stack="zero",
        scale=alt.Scale(domain=[0, 1]),
        axis=alt.Axis(format="%", values=[0, 0.25, 0.5, 0.75, 1]),
    )
    bars: ChartType = (
        alt.Chart(pd.DataFrame(rows))
        .mark_bar(stroke="#888888", strokeWidth=0.5)
        .encode(
            x=whole,
            y=alt.Y("part:N", title=None, sort=list(shares)),
            color=coloured("class", colours),
            order="order:Q",
            tooltip=[
                alt.Tooltip("part:N", title="Part"),
                alt.Tooltip("class:N", title="Class"),
                alt.Tooltip("share:Q", title="Share", format=".2%"),
            ],
        )
        .properties(height=44 * len(shares) + 130)
    )
    return bars


def coloured(field: str, colours: Mapping[str, str]) -> alt.Color:
    """A colour for each value of a field, in this order, with a legend above the chart."""
    return alt.Color(
        f"{field}:N",
        title=None,
        sort=list(colours),
        scale=alt.Scale(domain=list(colours), range=list(colours.values())),
        legend=alt.Legend(orient="top", columns=4, symbolStrokeWidth=0, symbolType="square"),
    )
