"""What all figures share: fonts, margins, and a transparent ground, so that they fit a light page and a dark one."""

from collections.abc import Sequence
from math import floor, log10
from typing import Any

import numpy as np
import plotly.graph_objects as go

from kdcore.evaluation.curves import Floats

GREY = "rgba(128,132,142,0.9)"  # readable on white and on near-black
FAINT = "rgba(128,132,142,0.38)"
CLEAR = "rgba(0,0,0,0)"
LAYOUT: dict[str, Any] = {
    "font": {"family": "system-ui, sans-serif", "size": 13},
    "margin": {"l": 62, "r": 20, "t": 30, "b": 50},
    "paper_bgcolor": CLEAR,
    "plot_bgcolor": CLEAR,
    "hoverlabel": {"align": "left"},
    "uirevision": "keep",  # a zoom stays when numbers change
}
CONFIG = {
    "displaylogo": False,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
    "toImageButtonOptions": {"format": "svg"},
}
"""How a browser shows a figure: without the maker's logo and what is of no use here; its camera saves a picture of any size."""


def add_band(figure: go.Figure, x: Floats, low: Floats, high: Floats, colour: str, **more: Any) -> None:
    """Shade what lies between two lines; nothing is drawn where they are not known."""
    if np.isfinite(low).all():
        figure.add_scatter(
            x=np.concatenate([x, x[::-1]]).astype(np.float32),
            y=np.concatenate([high, low[::-1]]).astype(np.float32),
            mode="lines",
            line={"width": 0},
            fill="toself",
            fillcolor=colour,
            hoverinfo="skip",
            **more,
        )


def style(figure: go.Figure, **layout: Any) -> go.Figure:
    """Give a figure the common look; returns it."""
    figure.update_layout(LAYOUT)
    figure.update_layout(layout)
    return figure


def log_ticks(values: Sequence[float]) -> list[float]:
    """Round numbers around the values, for a logarithmic axis: Plotly writes bare digits between the powers of ten."""
    if not values:
        return []
    low, high = min(values), max(values)
    wide, narrow = high / low >= 1e4, high / low < 10
    digits = ("1",) if wide else ("1", "1.5", "2", "3", "4", "5", "7") if narrow else ("1", "2", "5")
    powers = range(floor(log10(low)) - 1, floor(log10(high)) + 2)
    return [float(f"{digit}e{power}") for power in powers for digit in digits]
