"""How the arms learnt: loss and validation quality against steps, as a figure of the report and as a table for what is live."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from kdcore.views.arms import ARM_COLOURS, ARM_DASHES, ARM_NAMES
from kdcore.views.layout import style

if TYPE_CHECKING:
    import pandas as pd

MOST_POINTS = 48  # of a line: what one tick of a live chart may cost is bounded by it


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


def learning_table(
    runs: Mapping[str, Sequence[Mapping[str, Any]]], key: str, factor: float = 1.0, last_step: int = 0
) -> "pd.DataFrame":
    """The lines of a live chart: a row a step, a column a run that was measured; of a long run the means of equal stretches.

    Args:
        runs: for each run its lines of metrics.
        key: which measurement, for example 'loss'.
        factor: multiplied to it.
        last_step: right end of the axis, so that a live chart does not rescale it.
    """
    import pandas as pd

    lines = {
        name: pd.Series(
            {line["step"]: factor * line[key] for line in entries if line.get(key) is not None}, dtype="float64"
        )
        for name, entries in runs.items()
    }
    table = pd.DataFrame({name: line for name, line in lines.items() if len(line)})
    if len(table) > MOST_POINTS:
        stretch = -(-max(last_step, table.index.max()) // MOST_POINTS)
        table = table.groupby((table.index + stretch - 1) // stretch * stretch).mean()
    table = table.interpolate("index", limit_area="inside")  # a row without a number would break the line
    if len(table) and last_step > table.index.max():
        table.loc[last_step] = float("nan")
    return table.rename_axis("Step").astype("float32")
