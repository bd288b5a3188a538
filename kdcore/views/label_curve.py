"""The learning curve over the share of labels, with and without the teacher: a figure, and a page that opens offline."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import plotly.io

from kdcore.ownership import write_own_text
from kdcore.views.arms import ARM_COLOURS, ARM_DASHES, ARM_NAMES, ARM_SYMBOLS
from kdcore.views.layout import style


def label_curve_figure(report: Mapping[str, Any]) -> go.Figure:
    """Mean AP of both students against the share of the labels (logarithmic), with 95 % intervals, and the teacher's as a line.

    Args:
        report: as `kdcore.evaluation.label_curve.label_curve` gives it.
    """
    points = report["points"]
    shares = [100 * point["labels"] for point in points]
    figure = go.Figure()
    for arm in ("alone", "distilled"):
        found = [point[arm] for point in points]
        figure.add_scatter(
            x=shares,
            y=[one["mean"] for one in found],
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [0 if one["high"] is None else one["high"] - one["mean"] for one in found],
                "arrayminus": [0 if one["low"] is None else one["mean"] - one["low"] for one in found],
                "thickness": 1.5,
            },
            mode="lines+markers",
            name=ARM_NAMES[arm],
            line={"color": ARM_COLOURS[arm], "dash": ARM_DASHES[arm]},
            marker={"symbol": ARM_SYMBOLS[arm], "size": 10},
            hovertemplate=f"<b>{ARM_NAMES[arm]}</b><br>%{{x:.1f}} % of the labels<br>mean AP %{{y:.1f}}<extra></extra>",
        )
    if report["teacher"] is not None:
        figure.add_hline(
            y=report["teacher"],
            line={"color": ARM_COLOURS["teacher"], "dash": ARM_DASHES["teacher"], "width": 1.5},
            annotation_text=ARM_NAMES["teacher"],
        )
    style(figure, height=460)
    figure.update_xaxes(
        type="log", title_text="Share of the labels, %", tickvals=shares, ticktext=[f"{share:.3g}" for share in shares]
    )
    figure.update_yaxes(title_text="Mean AP on the test split")
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    return figure


def label_curve_rows(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """The curve as a table: a row for each share."""
    return [
        {
            "Labels": f"{100 * point['labels']:.1f} %",
            "Student alone": in_points(point["alone"]),
            "Distilled student": in_points(point["distilled"]),
            "Gain, points": in_points(point["gain"], sign="+"),
            "Worth": point["worth"]["sentence"],
        }
        for point in report["points"]
    ]


def in_points(value: Mapping[str, float | None], sign: str = "") -> str:
    """'78.1 (76.0 to 80.2)'; without an interval where there is none."""
    mean, low, high = (None if value[key] is None else f"{value[key]:{sign}.1f}" for key in ("mean", "low", "high"))
    return "–" if mean is None else mean if low is None or high is None else f"{mean} ({low} to {high})"


def write_label_page(folder: Path, report: Mapping[str, Any]) -> Path:
    """Write `labels.html` into the curve's folder: figure, table and what the intervals do not cover."""
    figure = label_curve_figure(report).update_layout(template="plotly_white")
    rows = label_curve_rows(report)
    head = "".join(f"<th>{escape(name)}</th>" for name in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row.values()) + "</tr>" for row in rows)
    drawn = plotly.io.to_html(figure, include_plotlyjs=True, full_html=False)
    title = escape(f"What a teacher is worth in labels: {folder.name}")
    text = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        "<style>body{font-family:system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem}"
        "td,th{padding:.4rem .8rem;text-align:left;border-bottom:1px solid #ddd;vertical-align:top}</style>"
        f"<h1>{title}</h1>{drawn}<table><tr>{head}</tr>{body}</table><p>{escape(report['basis'])}</p></html>"
    )
    path = folder / "labels.html"
    write_own_text(path, text, overwrite=True)
    return path
