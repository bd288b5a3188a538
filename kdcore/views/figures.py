"""Plotly figures of a study: precision-recall curves and learning curves."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from kdcore.evaluation.curves import average_precision, precision_recall
from kdcore.evaluation.scores import Scores

# One colour, one dash and one name for each arm, everywhere.
ARM_NAMES = {"teacher": "Teacher", "alone": "Student alone", "distilled": "Distilled student"}
ARM_COLOURS = {"teacher": "#0072B2", "alone": "#D55E00", "distilled": "#009E73"}
ARM_DASHES = {"teacher": "solid", "alone": "dash", "distilled": "dashdot"}
LAYOUT: dict[str, Any] = {
    "template": "plotly_white",
    "font": {"family": "system-ui, sans-serif", "size": 13},
    "margin": {"l": 60, "r": 20, "t": 50, "b": 50},
    "legend": {"orientation": "h", "y": -0.15},
}


def precision_recall_figure(scores: Mapping[str, Sequence[Scores]]) -> go.Figure:
    """Precision against recall of every arm, a panel for each scored class.

    Args:
        scores: for each arm the scores of its seeds; seeds are drawn as thin lines around their sum.
    """
    first = next(iter(scores.values()))[0]
    names = [first.classes[index] for index in first.scored]
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = make_subplots(
        rows=rows, cols=columns, subplot_titles=names, horizontal_spacing=0.07, vertical_spacing=0.4 / rows / 1.5
    )
    for arm, seeds in scores.items():
        totals = [one.total() for one in seeds]
        positives, negatives = (np.sum(parts, axis=0) for parts in zip(*totals, strict=True))
        for panel, _ in enumerate(names):
            place = {"row": panel // columns + 1, "col": panel % columns + 1}
            style = {"color": ARM_COLOURS[arm], "dash": ARM_DASHES[arm]}
            for one in totals if len(totals) > 1 else []:
                precision, recall = precision_recall(one[0][panel], one[1][panel])
                figure.add_scatter(
                    x=recall,
                    y=precision,
                    mode="lines",
                    line=style | {"width": 0.7},
                    opacity=0.5,
                    showlegend=False,
                    hoverinfo="skip",
                    **place,
                )
            precision, recall = precision_recall(positives[panel], negatives[panel])
            ap = float(average_precision(positives[panel], negatives[panel]))
            figure.add_scatter(
                x=recall,
                y=precision,
                mode="lines",
                name=ARM_NAMES[arm],
                legendgroup=arm,
                showlegend=panel == 0,
                line=style | {"width": 2.2},
                hovertemplate=f"{ARM_NAMES[arm]}, AP {100 * ap:.1f}<br>recall %{{x:.2f}}, precision %{{y:.2f}}<extra></extra>",
                **place,
            )
    figure.update_xaxes(range=[0, 1.02], title_text="Recall", title_standoff=4)
    figure.update_yaxes(range=[0, 1.02], title_text="Precision", title_standoff=4)
    figure.update_layout(height=120 + 310 * rows, **LAYOUT)
    figure.update_layout(legend={"orientation": "h", "y": 1 + 0.28 / rows, "yanchor": "bottom"}, margin_t=90)
    return figure


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
            style = {"color": ARM_COLOURS[arm], "dash": ARM_DASHES[arm], "width": 1.6}
            for column, key, factor in ((1, "loss", 1.0), (2, "validation_mean_ap", 100.0)):
                points = [(line["step"], factor * line[key]) for line in lines if line.get(key) is not None]
                figure.add_scatter(
                    x=[step for step, _ in points],
                    y=[value for _, value in points],
                    mode="lines" if column == 1 else "lines+markers",
                    name=ARM_NAMES[arm],
                    legendgroup=arm,
                    showlegend=index == 0 and column == 2,
                    line=style,
                    row=1,
                    col=column,
                )
    figure.update_xaxes(title_text="Step")
    figure.update_layout(height=380, **LAYOUT)
    figure.update_layout(legend={"orientation": "h", "y": 1.12, "yanchor": "bottom"}, margin_t=90)
    return figure
