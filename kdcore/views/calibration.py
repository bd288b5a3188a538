"""Reliability diagrams: what a network says against how often it is right."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go

from kdcore.evaluation.calibration import Calibration
from kdcore.views.arms import ARM_COLOURS, ARM_DASHES, ARM_NAMES, ARM_SYMBOLS, key_html, tint
from kdcore.views.layout import FAINT, GREY, style


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
