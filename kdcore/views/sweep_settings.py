"""What the quality depends on: importances as bars, and every trial as a line across its settings."""

from collections.abc import Iterator, Mapping, Sequence
from math import log10
from typing import Any, NamedTuple

from kdcore.runs.sweep_trials import TrialRecord
from kdcore.settings import Objective, Range, SweepSettings
from kdcore.views.sweep import (
    COLOURED,
    GREY,
    PICK,
    PICKED,
    Chart,
    Spec,
    best_in_words,
    best_of,
    counted,
    finished,
    role_text,
    score,
    settings_text,
    table_of,
    tooltip,
    where,
)

BAR = "#56B4E9"
OBJECTIVES: dict[Objective, str] = {"quality": "Mean AP, %", "size": "Parameters", "latency": "ms a megapixel"}
LONGEST = 18  # characters of a value's name at an axis


def importance_bars(report: Mapping[str, Any]) -> Chart | str:
    """How much each setting has to do with reaching the best trials.

    Args:
        report: of `sweep_report`.

    Returns:
        The chart, or a sentence why there is none.
    """
    importance = report["importance"]
    if importance["values"] is None:
        return str(importance["sentence"])
    rows = [
        {"setting": name.replace("_", " "), "share": 100 * share, "label": f"{100 * share:.0f} %"}
        for name, share in importance["values"].items()
    ]
    reading = "The longer a bar, the more the best trials have this setting in common; a short bar means that any value will do."
    return Chart(
        table_of(rows, ("setting", "label"), ("share",)),
        bars_spec(len(rows)),
        reading,
        "Importance of each setting",
        str(importance["sentence"]),
    )


def bars_spec(bars: int) -> Spec:
    """The specification for so many settings."""
    y: Spec = {"field": "setting", "type": "nominal", "title": None, "sort": None, "axis": {"labelLimit": 160}}
    x: Spec = {
        "field": "share",
        "type": "quantitative",
        "title": "Share, %",
        "scale": {"domain": [0, 103], "nice": False},
        "axis": {"tickCount": 5},
    }
    told = [
        {"field": "setting", "type": "nominal", "title": "Setting"},
        {"field": "share", "type": "quantitative", "title": "Share, %", "format": ".1f"},
    ]
    return {
        "height": 40 * bars + 50,
        "layer": [
            {
                "mark": {"type": "bar", "color": BAR, "height": {"band": 0.62}},
                "encoding": {"x": x, "y": y, "tooltip": told},
            },
            {
                "mark": {"type": "text", "align": "left", "dx": 5, "color": GREY},
                "encoding": {"x": x, "y": y, "text": {"field": "label", "type": "nominal"}},
            },
        ],
    }


class Axis(NamedTuple):
    """One upright axis.

    Attributes:
        title: above it.
        places: of each trial's value by the trial's number, from 0 at the bottom to 1 at the top.
        values: as text, by the trial's number.
        ticks: a place and a label each.
    """

    title: str
    places: dict[int, float]
    values: dict[int, str]
    ticks: list[tuple[float, str]]


def parallel_coordinates(trials: Sequence[TrialRecord], settings: SweepSettings) -> Chart | str:
    """One line a trial across what was searched and what it came to.

    The student alone has no temperature and is left out, and so are other seeds, which would give the centre more chances.

    Returns:
        The chart, or a sentence why there is none.
    """
    drawn = [trial for trial in finished(trials) if trial.role != "baseline" and trial.seed == settings.seed]
    drawn.sort(key=score)  # the best on top
    if not drawn:
        return "The lines appear when the first distilled student has finished."
    axes = [settings_axis(name, drawn, settings) for name in settings.space.searched]
    axes += [objective_axis(name, drawn) for name in dict.fromkeys(("quality", *settings.objectives))]
    table = table_of(
        line_rows(drawn, axes, settings),
        ("kind", "axis", "name", "settings", "value", "label"),
        ("trial", "place", "score"),
    )
    reading = (
        "Follow a bright line from left to right to see the settings of a good trial; where bright and dark lines cross an axis "
        "at the same places, that setting does not matter."
    )
    result = (
        f"{counted(len(drawn), 'trial')} as lines across {', '.join(axis.title for axis in axes)}. "
        f"{best_in_words(best_of(drawn, settings), settings)}"
    )
    return Chart(
        table, lines_spec([axis.title for axis in axes]), reading, "Each trial as a line across its settings", result
    )


def settings_axis(name: str, trials: Sequence[TrialRecord], settings: SweepSettings) -> Axis:
    """The axis of a searched setting: magnitudes where it is searched so, names or numbers at even distances for a list."""
    entry = settings.space.entries()[name]
    title = name.replace("_", " ").capitalize()
    chosen = {trial.number: trial.params[name] for trial in trials if name in trial.params}
    if isinstance(entry, Range):
        numbers = {number: float(value) for number, value in chosen.items()}
        return number_axis(title, numbers, entry.low, entry.high, log=entry.log)
    names = [value if isinstance(value, str) else f"{value:g}" for value in entry]
    step = 1 / max(1, len(names) - 1)
    values = {number: value if isinstance(value, str) else f"{value:g}" for number, value in chosen.items()}
    places = {number: names.index(value) * step for number, value in values.items() if value in names}
    return Axis(title, places, values, [(index * step, name) for index, name in enumerate(names)])


def objective_axis(name: Objective, trials: Sequence[TrialRecord]) -> Axis:
    """The axis of what was measured, between the worst and the best."""
    factor = 100 if name == "quality" else 1
    numbers = {trial.number: factor * trial.values[name] for trial in trials if name in trial.values}
    low, high = min(numbers.values(), default=0.0), max(numbers.values(), default=1.0)
    return number_axis(OBJECTIVES[name], numbers, low, high, log=name == "size" and low > 0)


def number_axis(title: str, numbers: Mapping[int, float], low: float, high: float, *, log: bool) -> Axis:
    """Numbers between two ends; all in the middle where the ends are one."""

    def place(value: float) -> float:
        if high <= low:
            return 0.5
        return log10(value / low) / log10(high / low) if log else (value - low) / (high - low)

    ticks = [(place(value), short(value)) for value in dict.fromkeys((low, high))]
    return Axis(
        title,
        {number: place(value) for number, value in numbers.items()},
        {number: short(value) for number, value in numbers.items()},
        ticks,
    )


def short(value: float) -> str:
    """A number with three digits: '0.00158', '3.16', '68.1', '150,000'."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def line_rows(trials: Sequence[TrialRecord], axes: Sequence[Axis], settings: SweepSettings) -> Iterator[dict[str, Any]]:
    """The corners of the lines, and the labels at the axes."""
    for trial in trials:
        for axis in axes:
            if trial.number in axis.places:
                yield {
                    "kind": "line",
                    "axis": axis.title,
                    "name": role_text(trial),
                    "settings": settings_text(trial, settings),
                    "value": axis.values[trial.number],
                    "trial": trial.number,
                    "place": axis.places[trial.number],
                    "score": score(trial),
                }
    for axis in axes:
        for place, label in axis.ticks:
            cut = label if len(label) <= LONGEST else label[: LONGEST - 1] + "…"
            beyond = {0.0: -0.07, 1.0: 1.07}.get(place)  # at the ends there is room that no line crosses
            kind = "tick" if beyond is None else "end"
            yield {"kind": kind, "axis": axis.title, "place": place if beyond is None else beyond, "label": cut}


def lines_spec(axes: Sequence[str]) -> Spec:
    """The specification for axes with these titles."""
    x: Spec = {
        "field": "axis",
        "type": "nominal",
        "title": None,
        "sort": None,
        "scale": {"type": "point", "domain": list(axes), "padding": 0.5},
        "axis": {
            "orient": "top",
            "labelAngle": 0,
            "labelFontWeight": "bold",
            "labelPadding": 12,
            "labelLimit": 150,
            "grid": True,
            "ticks": False,
            "domain": False,
        },
    }
    y: Spec = {
        "field": "place",
        "type": "quantitative",
        "axis": None,
        "scale": {"domain": [-0.12, 1.12], "nice": False, "zero": False},
    }
    label: Spec = {"field": "label", "type": "nominal"}
    detail = {"field": "trial", "type": "nominal"}
    return {
        "height": 360,
        "layer": [
            {
                "transform": where("line"),
                "mark": {"type": "line", "opacity": 0.85},
                "encoding": {
                    "x": x,
                    "y": y,
                    "detail": detail,
                    "color": COLOURED,
                    "strokeWidth": {"condition": PICKED | {"value": 6}, "value": 1.8},
                },
            },
            {
                "transform": where("line"),
                "params": [PICK],
                "mark": {"type": "point", "filled": False, "size": 12, "strokeWidth": 4, "opacity": 1},
                "encoding": {
                    "x": x,
                    "y": y,
                    "color": COLOURED,
                    "tooltip": [
                        {"field": "axis", "type": "nominal", "title": "Axis"},
                        {"field": "value", "type": "nominal", "title": "Value"},
                        *tooltip(),
                    ],
                },
            },
            {
                "transform": where("tick"),
                "mark": {"type": "text", "align": "left", "dx": 7, "fontSize": 12, "color": GREY},
                "encoding": {"x": x, "y": y, "text": label},
            },
            {
                "transform": where("end"),
                "mark": {"type": "text", "align": "center", "fontSize": 12, "color": GREY},
                "encoding": {"x": x, "y": y, "text": label},
            },
        ],
    }
