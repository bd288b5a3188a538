"""Precision-recall curves of several studies over each other: one network of each."""

from collections.abc import Mapping
from html import escape

import plotly.graph_objects as go

from kdcore.evaluation.bands import RECALLS, StudyCurves
from kdcore.evaluation.operating import MEAN
from kdcore.views.arms import tint
from kdcore.views.curves import draw_curve, draw_f1, scale_axes
from kdcore.views.layout import add_band, style
from kdcore.views.quality import estimate

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255")
DASHES = ("solid", "dash", "dot", "dashdot")  # seven colours and four dashes: no two of 28 studies are alike
LONGEST = 48  # characters of a study's name


def studies_figure(studies: Mapping[str, StudyCurves], arm: str) -> go.Figure:
    """Precision against recall of one arm of each study, the mean of the classes; bands hold the noise of the ground.

    Args:
        studies: the curves of each, by its name on screen, any text.
        arm: that all of them have.
    """
    figure = go.Figure()
    draw_f1(figure)
    for number, (title, curves) in enumerate(studies.items()):
        measured, view = curves.arms[arm], curves.views[-1]
        colour, dash = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
        name = escape(title if len(title) <= LONGEST else f"{title[: LONGEST - 1]}…")
        label = f"{name}: AP {estimate(measured.ap[MEAN])}"
        low, high = measured.band[view]
        add_band(figure, RECALLS, low, high, tint(colour, 0.1), legendgroup=str(number), showlegend=False)
        draw_curve(figure, measured, view, name, colour, dash, name=label, legendgroup=str(number))
    style(figure, height=420 + 22 * len(studies), margin={"l": 62, "r": 20, "t": 12, "b": 48})
    scale_axes(figure)
    figure.update_xaxes(title_text="<b>Recall</b>, mean of the classes →")
    figure.update_yaxes(title_text="<b>Precision</b>, mean of the classes →")
    figure.update_layout(
        legend={"orientation": "h", "y": -0.16, "yanchor": "top", "x": 0, "entrywidth": 1, "entrywidthmode": "fraction"}
    )
    return figure
