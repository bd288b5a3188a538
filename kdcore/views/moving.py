"""Precision-recall curves whose operating points glide when a threshold moves: options of an ECharts chart.

All other results are drawn in Plotly. Streamlit builds a Plotly figure anew at every change, so the eye loses the points and a zoom
is lost; an ECharts chart stays and moves what has changed (`benchmarks/threshold.py --browser` measures both). The report, which
nobody moves anything in, has the same curves in Plotly (`kdcore.views.curves`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdcore.evaluation.bands import RECALLS, ArmCurves, StudyCurves
from kdcore.evaluation.levels import LEVELS
from kdcore.evaluation.operating import MEAN, OperatingPoint
from kdcore.views.arms import ARM_COLOURS, ARM_NAMES, ARM_SYMBOLS, tint
from kdcore.views.curves import FINENESS, LINES_OF_F1, LONGEST, drawn_curve, view_name
from kdcore.views.layout import GREY

Option = dict[str, Any]
Points = Mapping[str, OperatingPoint]
SHAPES = {"circle": "circle", "square": "rect", "diamond": "diamond", "triangle-up": "triangle"}
DASHES: dict[str, Any] = {"teacher": "solid", "alone": [7, 4], "distilled": [9, 3, 2, 3], "all_labels": [2, 3]}
GLIDE = 350  # milliseconds that a point takes to its new place
ROW, HEAD, COLUMNS = 290, 92, 3  # of panels side by side: height of a row and of what is above a panel, in pixels
HEIGHT = 450  # of a single panel
TOOLBOX: Option = {  # zoom and export, as the Plotly charts have them
    "right": 0,
    "feature": {
        "dataZoom": {"title": {"zoom": "Zoom", "back": "Back"}, "filterMode": "none"},
        "restore": {"title": "The whole"},
        "saveAsImage": {"title": "Save as a picture", "name": "precision-recall"},
    },
}
GHOST: Option = {"silent": True, "symbol": "none", "tooltip": {"show": False}}  # a line that the mouse does not find
DIMENSIONS = ["recall", "precision", "threshold"]
SAID = "found {@recall} %, of its marks {@precision} % are right<br>threshold {@threshold} %"


def moving_curves(curves: StudyCurves, views: Sequence[int]) -> Option:
    """The chart of one view, or of several side by side, without operating points; `put_points` adds them.

    Args:
        curves: of the study.
        views: classes' numbers, or `MEAN`.
    """
    single = len(views) == 1
    panels = [single_panel(curves, views[0])] if single else small_panels(curves, views)
    option: Option = {
        "animationDuration": 0,
        "animationDurationUpdate": GLIDE,
        "textStyle": {"fontSize": 13},
        "legend": {"left": 0, "top": 0, "itemWidth": 36, "data": [legend_entry(arm) for arm in curves.arms]},
        "tooltip": {"trigger": "item"},
        "toolbox": TOOLBOX,
        "title": [panel["title"] for panel in panels if "title" in panel],
        **{part: [panel[part] for panel in panels] for part in ("grid", "xAxis", "yAxis")},
        "series": [
            series for panel, view in enumerate(views) for series in panel_series(curves, view, panel, large=single)
        ],
    }
    return option


def put_points(option: Option, points: Mapping[int, Points]) -> Option:
    """Add the operating points of every view of a chart, in the order in which its panels were given; returns the option."""
    for panel, (view, arms) in enumerate(points.items()):
        option["series"] += [point_series(view, arm, point, panel) for arm, point in arms.items()]
    return option


def chart_height(views: Sequence[int]) -> int:
    """Height of a chart in pixels."""
    return HEIGHT if len(views) == 1 else HEAD - 36 + ROW * -(-len(views) // COLUMNS)


def single_panel(curves: StudyCurves, view: int) -> Option:
    """One large panel, whose axes say what they are in a sentence."""
    name = view_name(curves, view, LONGEST)
    all_of_it, is_it = ("each class", "right") if view == MEAN else (f"all {name}", name)
    x_name = f"Recall: of {all_of_it}, how much is found →"
    y_name = f"↑ Precision: of what is marked, how much is {is_it}"
    return {
        "grid": {"left": 46, "right": 52, "top": 70, "bottom": 52, "outerBoundsMode": "none"},  # else names squeeze it
        "xAxis": axis(0, x_name, 20) | {"nameLocation": "middle", "nameGap": 34},
        "yAxis": axis(0, y_name, 20)
        | {
            "nameLocation": "end",
            "nameGap": 14,
            "nameTextStyle": {"align": "left", "padding": [0, 0, 0, -40], "fontSize": 13},
        },
    }


def small_panels(curves: StudyCurves, views: Sequence[int]) -> list[Option]:
    """Small panels in rows, each under its name."""
    panels = []
    for panel, view in enumerate(views):
        row, column = divmod(panel, COLUMNS)
        left, top = f"{4 + 33 * column}%", HEAD - 22 + ROW * row
        panels.append(
            {
                "grid": {"left": left, "width": "28%", "top": top, "height": ROW - HEAD + 12},
                "title": {
                    "text": view_name(curves, view, LONGEST),
                    "left": left,
                    "top": top - 30,
                    "textStyle": {"fontSize": 14},
                },
                "xAxis": axis(panel, "Recall →", 50) | {"nameLocation": "middle", "nameGap": 26},
                "yAxis": axis(panel, "Precision →" if column == 0 else "", 50)
                | {"nameLocation": "middle", "nameGap": 46},
            }
        )
    return panels


def axis(panel: int, name: str, interval: int) -> Option:
    """An axis from 0 to 100 %."""
    return {
        "type": "value",
        "gridIndex": panel,
        "min": 0,
        "max": 100,
        "interval": interval,
        "name": name,
        "nameTextStyle": {"fontSize": 13},
        "axisLabel": {"formatter": "{value} %"},
        "splitLine": {"show": True, "lineStyle": {"color": tint("#80848E", 0.18)}},
        "axisLine": {"show": False},
        "axisTick": {"show": False},
    }


def legend_entry(arm: str) -> Option:
    """An arm's line and marker."""
    colour = ARM_COLOURS[arm]
    return {
        "name": ARM_NAMES[arm],
        "itemStyle": {"color": colour, "opacity": 1, "borderWidth": 0},
        "lineStyle": {"color": colour, "width": 2.4, "type": DASHES[arm]},
    }


def panel_series(curves: StudyCurves, view: int, panel: int, *, large: bool) -> list[Option]:
    """Everything in a panel that does not move; a small one has no labels and no single seeds, and is less fine."""
    series = []
    for arm, measured in curves.arms.items():
        series += arm_series(arm, measured, view, panel, FINENESS if large else FINENESS // 3)
        series += seed_series(arm, measured, view, panel) if large else []
    guess = 100 * curves.guess(view)
    if np.isfinite(guess):
        series[0]["markLine"] = {
            "silent": True,
            "symbol": "none",
            "lineStyle": {"color": GREY, "type": "solid", "width": 1.4},
            "label": {
                "show": large,
                "position": "insideStartTop",
                "formatter": f"a guess: {guess:.{1 if guess < 10 else 0}f} %",
                "color": GREY,
                "fontSize": 12,
            },
            "data": [{"yAxis": round(guess, 2)}],
        }
    return series + [f1_series(value, panel, large) for value in LINES_OF_F1]


def arm_series(arm: str, measured: ArmCurves, view: int, panel: int, fineness: int) -> list[Option]:
    """An arm's curve of all seeds together, and its band; both bear the arm's name, as the legend does."""
    colour = ARM_COLOURS[arm]
    together = drawn_curve(*measured.pooled, view, fineness)
    series = [
        common(arm, panel)
        | {
            "id": f"curve {view} {arm}",
            "z": 4,
            "data": rows(*together),
            "dimensions": DIMENSIONS,
            "lineStyle": {"color": colour, "width": 2.4, "type": DASHES[arm]},
            "symbol": SHAPES[ARM_SYMBOLS[arm]],  # not seen, but found by the mouse
            "symbolSize": 9,
            "itemStyle": {"color": colour, "opacity": 0},
            "tooltip": {"formatter": f"<b>{ARM_NAMES[arm]}</b><br>{SAID}"},
        }
    ]
    low, high = measured.band[view]
    if np.isfinite(low).all():
        stack = GHOST | {"stack": f"band {view} {arm}", "lineStyle": {"opacity": 0}, "z": 2}
        shade = {"areaStyle": {"color": colour, "opacity": 0.16}}
        step = FINENESS // fineness
        recalls, low, high = RECALLS[::step], low[::step], high[::step]
        series.append(common(arm, panel) | stack | {"id": f"low {view} {arm}", "data": rows(recalls, low)})
        series.append(
            common(arm, panel) | stack | shade | {"id": f"high {view} {arm}", "data": rows(recalls, high - low)}
        )
    return series


def seed_series(arm: str, measured: ArmCurves, view: int, panel: int) -> list[Option]:
    """A thin line for each seed, where there are several."""
    if len(measured.positives) == 1:
        return []
    line = {"color": ARM_COLOURS[arm], "width": 0.8, "opacity": 0.55, "type": "solid"}
    return [
        common(arm, panel)
        | GHOST
        | {
            "id": f"seed {view} {arm} {number}",
            "z": 3,
            "data": rows(*drawn_curve(*seed, view)[:2]),
            "lineStyle": line,
        }
        for number, seed in enumerate(zip(*measured.fine, strict=True))
    ]


def common(arm: str, panel: int) -> Option:
    """What all lines of an arm in a panel have in common."""
    return {"type": "line", "name": ARM_NAMES[arm], "xAxisIndex": panel, "yAxisIndex": panel, "animation": False}


def f1_series(value: float, panel: int, labels: bool) -> Option:
    """A line of equal F1, labelled at its end: P = F R / (2 R - F)."""
    recall = np.linspace(value / (2 - value), 1, 40)
    return {
        "type": "line",
        "id": f"F1 {panel} {value}",
        "name": f"F1 {100 * value:.0f}",
        "xAxisIndex": panel,
        "yAxisIndex": panel,
        "z": 1,
        "data": rows(recall, value * recall / (2 * recall - value)),
        "silent": True,
        "animation": False,
        "symbol": "none",
        "tooltip": {"show": False},
        "lineStyle": {"color": tint("#80848E", 0.7), "width": 1, "type": [2, 3]},
        "endLabel": {"show": labels, "formatter": "{a}", "color": GREY, "fontSize": 12, "distance": 6},
    }


def point_series(view: int, arm: str, point: OperatingPoint, panel: int) -> Option:
    """An arm's operating point; no point where nothing is marked or the class does not occur."""
    known = np.isfinite(point.recall) and np.isfinite(point.precision)
    values = (point.recall, point.precision, point.level / (LEVELS - 1))
    return {
        "type": "scatter",
        "id": f"point {view} {arm}",
        "name": ARM_NAMES[arm],
        "xAxisIndex": panel,
        "yAxisIndex": panel,
        "z": 5,
        "data": rows(*(np.array([value]) for value in values)) if known else [],
        "dimensions": DIMENSIONS,
        "symbol": SHAPES[ARM_SYMBOLS[arm]],
        "symbolSize": 18 if ARM_SYMBOLS[arm] == "diamond" else 14,
        "itemStyle": {"color": ARM_COLOURS[arm], "opacity": 1, "borderColor": "#fff", "borderWidth": 2},
        "tooltip": {"formatter": f"<b>{ARM_NAMES[arm]}</b><br>{SAID}"},
    }


def rows(*columns: NDArray[Any]) -> list[list[float]]:
    """Shares as rows of percentages, as fine as can be seen."""
    table: list[list[float]] = np.round(100 * np.stack(columns, axis=1).astype(np.float64), 2).tolist()
    return table
