"""How the arms learnt: loss and validation quality against steps, as a figure of the report and as a table for what is live."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from kdcore.views.arms import ARM_COLOURS, ARM_DASHES, ARM_NAMES
from kdcore.views.layout import style

if TYPE_CHECKING:
    import pyarrow as pa

MOST_POINTS = 48  # of a line: what one tick of a live chart may cost is bounded by it
LIVE_HEIGHT = 290  # pixels


def learning_figure(metrics: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]) -> go.Figure:
    """Loss and validation mean AP against steps.

    Args:
        metrics: for each arm the lines of metrics of each of its runs.
    """
    figure = make_subplots(
        rows=1, cols=2, subplot_titles=("Training loss", "Mean AP on the validation split"), horizontal_spacing=0.09
    )
    for arm, runs in metrics.items():
        for index, lines in enumerate(runs):
            line = {"color": ARM_COLOURS[arm], "dash": ARM_DASHES[arm], "width": 1.6}
            for column, key, factor in ((1, "loss", 1.0), (2, "validation_mean_ap", 100.0)):
                points = [(entry["step"], factor * entry[key]) for entry in lines if entry.get(key) is not None]
                figure.add_scatter(
                    x=[step for step, _ in points],
                    y=[value for _, value in points],
                    mode="lines" if column == 1 else "lines+markers",
                    name=ARM_NAMES[arm],
                    legendgroup=arm,
                    showlegend=index == 0 and column == 2,
                    line=line,
                    row=1,
                    col=column,
                )
    figure.update_xaxes(title_text="Step")
    style(figure, height=380)
    figure.update_layout(legend={"orientation": "h", "y": 1.12, "yanchor": "bottom"}, margin_t=90)
    return figure


def learning_points(
    runs: Mapping[str, Sequence[Mapping[str, Any]]], key: str, factor: float = 1.0, last_step: int = 0
) -> "pa.Table":
    """What a live chart draws: a row a point, with the columns Run, Step and Value; of a long line the means of equal stretches.

    Args:
        runs: for each run its lines of metrics.
        key: which measurement, for example 'loss'.
        factor: multiplied to it.
        last_step: of the whole training, so that a live chart does not divide it anew.
    """
    import pyarrow as pa  # what only writes a report does without

    lines = {
        name: {line["step"]: factor * line[key] for line in entries if line.get(key) is not None}
        for name, entries in runs.items()
    }
    stretch = -(-max(last_step, *(step for line in lines.values() for step in line), 1) // MOST_POINTS)
    rows = []
    for name, line in lines.items():
        groups: dict[int, list[float]] = defaultdict(list)
        for step, value in line.items():
            groups[step if len(line) <= MOST_POINTS else -(-step // stretch) * stretch].append(value)
        rows += [(name, step, fmean(values)) for step, values in groups.items()]
    names, steps, means = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.table({"Run": names, "Step": pa.array(steps, pa.int64()), "Value": pa.array(means, pa.float32())})


def live_spec(colours: Mapping[str, str], title: str, last_step: int) -> dict[str, Any]:
    """What Vega-Lite draws of a table with the columns Run, Step and Value: a line a run, numbers under the pointer.

    Written out: `st.line_chart` has Altair build and check the same at every look, which took two thirds of a live page's
    processor time with ten people watching.

    Args:
        colours: of the lines, by run.
        title: of the upright axis.
        last_step: right end of the axis.
    """
    hover = {
        "name": "hover",
        "select": {
            "type": "point",
            "on": "pointermove",
            "nearest": True,
            "fields": ["Step", "Run"],
            "clear": "pointerout",
        },
    }
    shown = [
        ("Run", "nominal", "Run", {}),
        ("Step", "quantitative", "Step", {}),
        ("Value", "quantitative", title, {"format": ".3~f"}),
    ]
    return {
        "height": LIVE_HEIGHT,
        "encoding": {
            "x": {
                "field": "Step",
                "type": "quantitative",
                "scale": {"domain": [0, last_step], "nice": False},
                "axis": {"grid": False, "tickMinStep": 1, "tickCount": 8, "titlePadding": 2},
            },
            "y": {
                "field": "Value",
                "type": "quantitative",
                "title": title,
                "scale": {"zero": False},
                "axis": {"format": "~g"},
            },
            "color": {
                "field": "Run",
                "type": "nominal",
                "scale": {"domain": list(colours), "range": list(colours.values())},
                "legend": {  # the seeds of an arm share its colour
                    "values": [
                        run for index, run in enumerate(colours) if list(colours.values()).index(colours[run]) == index
                    ],
                    "labelExpr": "split(datum.label, ', seed')[0]",
                    "orient": "bottom",
                    "title": None,
                    "symbolType": "stroke",
                    "offset": 4,
                    "columns": 2,
                },
            },
        },
        "layer": [
            {"mark": {"type": "line", "clip": True}},
            {  # a line of one point, as after the first validation, would not be seen
                "transform": [
                    {"joinaggregate": [{"op": "count", "as": "points"}], "groupby": ["Run"]},
                    {"filter": "datum.points == 1"},
                ],
                "mark": {"type": "point", "filled": True, "size": 30, "opacity": 1},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 60, "clip": True},
                "params": [hover],
                "encoding": {
                    "opacity": {"condition": {"param": "hover", "empty": False, "value": 1}, "value": 0},
                    "tooltip": [
                        {"field": field, "type": kind, "title": head, **more} for field, kind, head, more in shown
                    ],
                },
            },
        ],
    }
