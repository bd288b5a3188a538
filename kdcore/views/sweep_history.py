"""How a sweep went on: quality by order of finishing, and the learning curve of every trial."""

from collections.abc import Iterator, Sequence
from statistics import mean, stdev
from typing import Any

from kdcore.runs.sweep_trials import TrialRecord
from kdcore.settings import SweepSettings
from kdcore.views.sweep import (
    ALONE,
    BEST,
    GREY,
    PICK,
    PICKED,
    RUNNING,
    SCORE,
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

SHAPES = {"search": "circle", "the centre, another seed": "diamond", "student alone": "square"}
ROLES = {"search": "search", "repeat": "the centre, another seed", "baseline": "student alone"}
LINES = {"best so far": BEST, "student alone": ALONE}
DASHES = {"best so far": [1, 0], "student alone": [6, 3]}
CURVES = {"best": BEST, "student alone": ALONE, "running": RUNNING, "finished": GREY, "ended early": GREY}
CURVE_DASHES = {
    "best": [1, 0],
    "student alone": [6, 3],
    "running": [4, 2, 1, 2],
    "finished": [1, 0],
    "ended early": [2, 3],
}


def history(trials: Sequence[TrialRecord], settings: SweepSettings) -> Chart | str:
    """Quality by order of finishing, with the best so far, the student alone, and the band in which luck puts one setting.

    Returns:
        The chart, or a sentence why there is none.
    """
    ended = sorted(finished(trials), key=lambda trial: (trial.ended or 0.0, trial.number))
    if not ended:
        return "The history appears when the first trial has finished."
    band = luck_band(ended)
    table = table_of(
        history_rows(ended, settings, band),
        ("kind", "what", "name", "settings"),
        ("trial", "order", "score", "low", "high"),
    )
    reading = (
        "From left to right as they finished: where the green line still climbs, more trials are worth their time; marks within "
        "the grey band differ from the centre by no more than luck does."
    )
    result = (
        f"{counted(len(ended), 'trial')} in the order of finishing. {best_in_words(best_of(ended, settings), settings)}"
    )
    alone = [score(trial) for trial in ended if trial.role == "baseline"]
    if alone:
        result += f" The student alone has {max(alone):.1f} %."
    if band:
        result += f" One setting with several seeds lies between {band[0]:.1f} and {band[1]:.1f} %."
    return Chart(table, history_spec(), reading, "Quality of the trials in the order of finishing", result)


def luck_band(trials: Sequence[TrialRecord]) -> tuple[float, float] | None:
    """Mean of the repeats of the centre, less and plus their standard deviation, in per cent; None for fewer than two."""
    scores = [score(trial) for trial in trials if trial.role == "repeat"]
    if len(scores) < 2:
        return None
    return mean(scores) - stdev(scores), mean(scores) + stdev(scores)


def history_rows(
    ended: Sequence[TrialRecord], settings: SweepSettings, band: tuple[float, float] | None
) -> Iterator[dict[str, Any]]:
    """The band, the lines' corners and the marks."""
    if band:
        yield {"kind": "band", "low": band[0], "high": band[1]}
    highest: float | None = None
    for order, trial in enumerate(ended, 1):
        if trial.seed == settings.seed and (highest is None or score(trial) > highest):
            highest = score(trial)
        if highest is not None:
            yield {"kind": "line", "what": "best so far", "order": order, "score": highest}
        yield {
            "kind": "trial",
            "what": ROLES[trial.role],
            "name": role_text(trial),
            "settings": settings_text(trial, settings),
            "trial": trial.number,
            "order": order,
            "score": score(trial),
        }
    alone = max((score(trial) for trial in ended if trial.role == "baseline"), default=None)
    if alone is not None:
        for order in (1, len(ended)):
            yield {"kind": "line", "what": "student alone", "order": order, "score": alone}


def history_spec() -> Spec:
    """The specification; always the same."""
    x: Spec = {
        "field": "order",
        "type": "quantitative",
        "title": "Finished trials →",
        "axis": {"tickMinStep": 1, "grid": False, "format": "d"},
        "scale": {"zero": False, "padding": 12, "nice": False},
    }
    y: Spec = {"field": "score", "type": "quantitative", "title": SCORE, "scale": {"zero": False, "padding": 12}}
    return {
        "height": 320,
        "layer": [
            {
                "transform": where("band"),
                "mark": {"type": "rect", "color": GREY, "opacity": 0.22},
                "encoding": {"y": y | {"field": "low"}, "y2": {"field": "high"}},
            },
            {
                "transform": where("line"),
                "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 2.4},
                "encoding": {
                    "x": x,
                    "y": y,
                    "color": legend_for("what", LINES, "color"),
                    "strokeDash": legend_for("what", DASHES, "strokeDash"),
                },
            },
            {
                "transform": where("trial"),
                "params": [ZOOM, PICK],
                "mark": {"type": "point", "filled": True, "opacity": 0.9, "color": GREY},
                "encoding": {
                    "x": x,
                    "y": y,
                    "shape": legend_for("what", SHAPES),
                    "size": {"condition": PICKED | {"value": 300}, "value": 80},
                    "tooltip": tooltip(),
                },
            },
        ],
        "resolve": {"scale": {"shape": "independent"}},
    }


def learning_curves(trials: Sequence[TrialRecord], settings: SweepSettings) -> Chart | str:
    """Mean AP on validation by per cent of the budget of every trial that has been measured, the best one thick.

    Returns:
        The chart, or a sentence why there is none.
    """
    drawn = [trial for trial in standing(trials) if trial.curve and trial.state != "failed"]
    if not drawn:
        return "The curves appear with the first measurement on the validation part."
    best = best_of(trials, settings)
    rows = [
        {
            "kind": "best" if trial is best else "other",
            "what": curve_kind(trial, best),
            "name": role_text(trial),
            "settings": settings_text(trial, settings),
            "trial": trial.number,
            "percent": percent,
            "score": 100 * value,
        }
        for trial in drawn
        for percent, value in trial.curve.items()
    ]
    table = table_of(rows, ("kind", "what", "name", "settings"), ("trial", "percent", "score"))
    reading = "Each line is one training as it goes on: lines that still climb at the right end would gain from a longer budget."
    running = sum(trial.state == "running" for trial in drawn)
    early = sum(trial.state == "pruned" for trial in drawn)
    result = (
        f"Learning curves of {counted(len(drawn), 'trial')}: {running} running, {early} ended early. "
        f"{best_in_words(best, settings)}"
    )
    return Chart(table, curves_spec(), reading, "Learning curve of each trial", result)


def curve_kind(trial: TrialRecord, best: TrialRecord | None) -> str:
    """What a curve is called in the legend."""
    if trial is best:
        return "best"
    if trial.state in ("running", "interrupted"):
        return "running"
    if trial.state == "finished":
        return "student alone" if trial.role == "baseline" else "finished"
    return "ended early"


def curves_spec() -> Spec:
    """The specification; always the same."""
    x: Spec = {
        "field": "percent",
        "type": "quantitative",
        "title": "Part of the budget, %",
        "scale": {"domain": [0, 102], "nice": False},
        "axis": {"tickCount": 5, "grid": False},
    }
    y: Spec = {"field": "score", "type": "quantitative", "title": SCORE, "scale": {"zero": False}}
    colour = legend_for("what", CURVES, "color")
    dash = legend_for("what", CURVE_DASHES, "strokeDash")
    places: Spec = {"x": x, "y": y, "color": colour, "detail": {"field": "trial", "type": "nominal"}}
    return {
        "height": 320,
        "layer": [
            {
                "transform": where(kind),
                "mark": {"type": "line", "opacity": opacity},
                "encoding": places
                | {"strokeDash": dash, "strokeWidth": {"condition": PICKED | {"value": 4}, "value": width}},
            }
            for kind, width, opacity in (("other", 1.3, 0.75), ("best", 3.2, 1.0))
        ]
        + [
            {
                "params": [ZOOM, PICK],
                "mark": {"type": "point", "filled": True, "opacity": 0.9, "size": 22},
                "encoding": places | {"color": colour | {"legend": None}, "tooltip": tooltip()},
            }
        ],
    }
