"""The map of temperature and alpha: every trial where its settings put it, coloured by its quality.

No surface is drawn between the trials: other settings vary with them and luck moves each of them, so a surface would show more than was measured.
"""

from collections.abc import Iterator, Sequence
from math import log10
from statistics import mean, stdev
from typing import Any

from kdcore.runs.sweep_trials import TrialRecord
from kdcore.settings import Range, SweepSettings
from kdcore.views.sweep import (
    COLOURED,
    GREY,
    PICK,
    PICKED,
    ZOOM,
    Chart,
    Spec,
    best_in_words,
    best_of,
    counted,
    finished,
    legend_for,
    role_text,
    score,
    settings_text,
    standing,
    table_of,
    tooltip,
    where,
)

CROSS = "M-1,-1L1,1M1,-1L-1,1"
SHAPES = {
    "finished": "circle",
    "the centre, with several seeds": "diamond",
    "running": "triangle-right",
    "ended early": "triangle-down",
    "failed": CROSS,
}
TEXT = ("kind", "what", "name", "settings", "state")
NUMBERS = ("trial", "temperature", "alpha", "low", "high", "score")
THICK = 0.012  # of alpha, to both sides of the line of a student alone
KINDS = {"running": "running", "interrupted": "running", "pruned": "ended early", "failed": "failed"}


def temperature_alpha_map(
    trials: Sequence[TrialRecord], settings: SweepSettings, student: str | None = None
) -> Chart | str:
    """Temperature across, alpha up, quality as colour.

    The student alone has no temperature: it is a line at alpha 0. The repeats of the centre are one point with their mean.

    Args:
        trials: of the sweep.
        settings: of the sweep.
        student: whose trials are shown; that of the best trial by default, because sizes cannot share a scale.

    Returns:
        The chart, or a sentence why there is none.
    """
    fixed = [name for name in ("temperature", "alpha") if name not in settings.space.searched]
    if fixed:
        kept = " and ".join(f"{name} ({settings.space.centre()[name]:g})" for name in fixed)
        return f"There is no map: this sweep does not vary {kept}."
    best = best_of(trials, settings)
    student = student or str((best.params if best else settings.space.centre())["student"])
    mine = [trial for trial in standing(trials) if trial.params.get("student") == student]
    rows = list(map_rows(mine, settings))
    if not rows:
        return "The map appears with the first trial."
    several = f" of the student {student}" if len(settings.space.student) > 1 else ""
    reading = (
        f"Each mark is one training{several}: the further right, the softer the teacher's answers; the higher, the more the "
        "student listens to the teacher; the brighter, the better; the line at the bottom is the student alone."
    )
    own = best_of(mine, settings)
    alone = [score(trial) for trial in finished(mine) if trial.role == "baseline"]
    result = f"{counted(len(finished(mine)), 'finished trial')}{several}. {best_in_words(own, settings)}"
    if alone:
        result += f" The student alone has {mean(alone):.1f} %."
    return Chart(table_of(rows, TEXT, NUMBERS), map_spec(settings), reading, "Map of temperature and alpha", result)


def map_rows(trials: Sequence[TrialRecord], settings: SweepSettings) -> Iterator[dict[str, Any]]:
    """One row a mark, and one more around the best."""
    best = best_of(trials, settings)
    for trial in trials:
        row = {
            "name": role_text(trial),
            "settings": settings_text(trial, settings),
            "trial": trial.number,
            "temperature": trial.params.get("temperature"),
            "alpha": trial.params.get("alpha"),
            "state": "",
        }
        if trial.state == "finished":
            row["score"] = score(trial)
        if trial is best:
            yield row | {"kind": "best"}
        if trial.role == "baseline":
            kind = "alone" if trial.state == "finished" else "alone, open"
            yield row | {"kind": kind, "low": -THICK, "high": THICK}
        elif trial.state == "finished" and trial.role == "search":
            yield row | {"kind": "trial", "what": "finished"}
        elif trial.state in KINDS and trial.params:
            state = "interrupted" if trial.state == "interrupted" else KINDS[trial.state]
            yield row | {"kind": "open", "what": KINDS[trial.state], "state": state}
    repeats = [trial for trial in trials if trial.role == "repeat" and trial.state == "finished"]
    if repeats:
        scores = [score(trial) for trial in repeats]
        first = repeats[0]
        luck = f", ± {stdev(scores):.2f}" if len(scores) > 1 else ""
        yield {
            "kind": "trial",
            "what": "the centre, with several seeds",
            "name": f"the centre: mean of {counted(len(scores), 'seed')}{luck}",
            "settings": settings_text(first, settings),
            "trial": first.number,
            "temperature": first.params["temperature"],
            "alpha": first.params["alpha"],
            "score": mean(scores),
        }


def map_spec(settings: SweepSettings) -> Spec:
    """The specification; it depends on the search space alone."""
    temperature, alpha = settings.space.temperature, settings.space.alpha
    log = not isinstance(temperature, Range) or temperature.log
    x: Spec = {
        "field": "temperature",
        "type": "quantitative",
        "title": "Temperature (softer answers →)",
        "scale": {"domain": ends(temperature, log=log), "nice": False} | ({"type": "log"} if log else {"zero": False}),
        "axis": {"values": ticks(temperature), "format": "~g", "grid": False, "labelOverlap": "greedy"},
    }
    y: Spec = {
        "field": "alpha",
        "type": "quantitative",
        "title": "Alpha (more teacher ↑)",
        "scale": {"domain": [min(0.0, ends(alpha)[0]), ends(alpha)[1]], "nice": False},
        "axis": {"format": "~g", "tickCount": 5},
    }
    what = legend_for("what", SHAPES)
    told = tooltip(("state", "State"))[:-1]
    return {
        "height": 380,
        "layer": [
            {
                "transform": where("alone"),
                "mark": {"type": "rect"},
                "encoding": {
                    "y": y | {"field": "low"},
                    "y2": {"field": "high"},
                    "color": COLOURED,
                    "tooltip": tooltip(),
                },
            },
            {
                "transform": where("alone, open"),
                "mark": {"type": "rule", "strokeWidth": 2, "strokeDash": [3, 4], "color": GREY},
                "encoding": {"y": y, "tooltip": told[:1]},
            },
            {
                "transform": where("open"),
                "mark": {"type": "point", "filled": False, "size": 90, "strokeWidth": 1.6, "stroke": GREY},
                "encoding": {"x": x, "y": y, "shape": what, "tooltip": told},
            },
            {
                "transform": where("trial"),
                "params": [ZOOM, PICK],
                "mark": {"type": "point", "filled": True, "opacity": 1, "stroke": GREY},
                "encoding": {
                    "x": x,
                    "y": y,
                    "shape": what,
                    "size": {"condition": PICKED | {"value": 420}, "value": 170},
                    "strokeWidth": {"condition": PICKED | {"value": 3}, "value": 1},
                    "color": COLOURED,
                    "tooltip": tooltip(),
                },
            },
            {
                "transform": where("best"),
                "mark": {"type": "point", "filled": False, "size": 520, "strokeWidth": 2.4, "stroke": GREY},
                "encoding": {"x": x, "y": y},
            },
            {
                "transform": where("best"),
                "mark": {
                    "type": "text",
                    "text": "best",
                    "dy": -20,
                    "fontWeight": "bold",
                    "fontSize": 13,
                    "color": GREY,
                },
                "encoding": {"x": x, "y": y},
            },
        ],
    }


def ends(values: Range | Sequence[float], *, log: bool = False) -> list[float]:
    """Ends of an axis with a little room around what is searched; a list of one power of ten keeps a width."""
    low, high = (values.low, values.high) if isinstance(values, Range) else (min(values), max(values))
    if log:
        room = 0.05 * max(0.3, log10(high / low))
        return [round(low / 10**room, 4), round(high * 10**room, 4)]
    room = 0.05 * max(1e-3, high - low)
    return [round(low - room, 4), round(high + room, 4)]


def ticks(values: Range | Sequence[float]) -> list[float]:
    """Numbers for an axis of temperature, more than fit: those that would overlap are hidden until the map is zoomed."""
    if not isinstance(values, Range):
        return sorted(values)
    fine = [1, 1.2, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20]
    return [step for step in fine if values.low <= step <= values.high] or [values.low, values.high]
