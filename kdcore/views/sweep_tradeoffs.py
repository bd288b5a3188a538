"""What is weighed against what: quality against size or latency, and the settings against luck."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import mean, stdev
from typing import Any, Literal

from kdcore.evaluation.sweep_report import pareto_front, quality_at, spread_trials
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
    counted,
    finished,
    legend_for,
    role_text,
    score,
    settings_text,
    table_of,
    tooltip,
    where,
)

Cost = Literal["size", "latency"]
COSTS: dict[Cost, tuple[str, str, str]] = {
    "size": ("Parameters (smaller →)", "Parameters", "the number of parameters"),
    "latency": ("Milliseconds a megapixel (faster →)", "ms a megapixel", "the time for a megapixel"),
}
ROLES = {"baseline": "student alone", "search": "distilled", "repeat": "distilled"}
COLOURS = {"distilled": BEST, "student alone": ALONE}
SHAPES = {"distilled": "diamond", "student alone": "square"}
ONE_SETTING, ONE_SEED = "one setting, several seeds (luck)", "several settings, one seed"
STRIPS = {ONE_SETTING: RUNNING, ONE_SEED: BEST}
JITTER = (0.0, 0.5, -0.5, 0.25, -0.25, 0.75, -0.75)  # of half a strip, so that equal points stay apart


def costs_of(settings: SweepSettings) -> tuple[Cost, ...]:
    """What quality can be weighed against: the objectives, and size where there are several students."""
    several = len(settings.space.student) > 1
    return tuple(cost for cost in COSTS if cost in settings.objectives or (several and cost == "size"))


def pareto(trials: Sequence[TrialRecord], settings: SweepSettings, cost: Cost = "size") -> Chart | str:
    """Quality against a cost on a logarithmic axis on which right is always better, with the front of what nothing beats.

    Only trials with the sweep's own seed are drawn: with several seeds, one setting would have more chances than the others.

    Args:
        trials: of the sweep.
        settings: of the sweep.
        cost: one of `costs_of(settings)`.

    Returns:
        The chart, or a sentence why there is none.
    """
    if cost not in costs_of(settings):
        return f"There is no front: this sweep does not weigh {COSTS[cost][2]}."
    drawn = [t for t in finished(trials) if t.seed == settings.seed and t.values.get(cost, 0) > 0]
    if not drawn:
        return "The front appears when the first trial has finished."
    front = set(pareto_front(drawn, ("quality", cost), settings.seed))
    rows = [
        {
            "kind": kind,
            "what": ROLES[trial.role],
            "name": role_text(trial),
            "settings": settings_text(trial, settings),
            "student": str(trial.params["student"]),
            "trial": trial.number,
            "cost": trial.values[cost],
            "score": score(trial),
        }
        for trial in drawn
        for kind in (("front", "trial") if trial.number in front else ("trial",))
    ]
    table = table_of(rows, ("kind", "what", "name", "settings", "student"), ("trial", "cost", "score"))
    reading = "Up is better and right is cheaper: nothing beats the trials on the dotted line in both; choose among them, and leave the others."
    on_it = [trial for trial in sorted(drawn, key=lambda t: t.values[cost]) if trial.number in front]
    named = "; ".join(
        f"trial {trial.number} ({trial.params['student']}) with {score(trial):.1f} % at {trial.values[cost]:,.6g}"
        for trial in on_it
    )
    result = f"Mean AP against {COSTS[cost][2]} of {counted(len(drawn), 'trial')}. On the front: {named}."
    return Chart(table, pareto_spec(cost), reading, f"Quality against {COSTS[cost][2]}", result)


def pareto_spec(cost: Cost) -> Spec:
    """The specification for a cost."""
    title, short, _ = COSTS[cost]
    x: Spec = {
        "field": "cost",
        "type": "quantitative",
        "title": title,
        "scale": {"type": "log", "reverse": True, "nice": False, "padding": 30},
        "axis": {"format": "~s" if cost == "size" else "~g", "labelOverlap": "greedy", "grid": False},
    }
    y: Spec = {"field": "score", "type": "quantitative", "title": SCORE, "scale": {"zero": False, "padding": 18}}
    told = tooltip(("student", "Student"))
    told.append({"field": "cost", "type": "quantitative", "title": short, "format": ",.6~g"})
    return {
        "height": 340,
        "layer": [
            {
                "transform": where("front"),
                "mark": {"type": "line", "strokeDash": [2, 3], "strokeWidth": 1.8, "color": GREY},
                "encoding": {"x": x, "y": y, "order": {"field": "cost", "type": "quantitative"}},
            },
            {
                "transform": where("trial"),
                "params": [ZOOM, PICK],
                "mark": {"type": "point", "filled": True, "opacity": 0.75},
                "encoding": {
                    "x": x,
                    "y": y,
                    "color": legend_for("what", COLOURS, "color"),
                    "shape": legend_for("what", SHAPES),
                    "size": {"condition": PICKED | {"value": 320}, "value": 90},
                    "tooltip": told,
                },
            },
            {
                "transform": where("front"),
                "mark": {"type": "point", "filled": False, "size": 260, "strokeWidth": 1.8, "stroke": GREY},
                "encoding": {"x": x, "y": y},
            },
        ],
    }


def spread_strip(trials: Sequence[TrialRecord], settings: SweepSettings, report: Mapping[str, Any]) -> Chart | str:
    """Trials of one setting with several seeds above trials of several settings with one seed, on one axis, with their spreads.

    Args:
        trials: of the sweep.
        settings: of the sweep.
        report: of `sweep_report`, for its sentence.

    Returns:
        The chart, or a sentence why there is none.
    """
    centre, varied, percent = spread_trials(trials, settings)
    if not centre and not varied:
        return str(report["spread"]["sentence"])
    rows = [*strip_rows(ONE_SETTING, centre, percent, settings), *strip_rows(ONE_SEED, varied, percent, settings)]
    table = table_of(rows, ("kind", "strip", "name", "settings", "label"), ("trial", "score", "offset", "low", "high"))
    at = "" if percent >= 100 else f" (all measured after {percent} % of the budget)"
    reading = (
        f"Each mark is one training{at}, each bar reaches one standard deviation to both sides of the mean: only if the lower "
        "bar is clearly longer do the settings matter more than luck."
    )
    return Chart(
        table, strip_spec(), reading, "Spread between seeds and between settings", str(report["spread"]["sentence"])
    )


def strip_rows(
    strip: str, trials: Sequence[TrialRecord], percent: int, settings: SweepSettings
) -> Iterator[dict[str, Any]]:
    """A strip's marks, and its bar where there are two or more."""
    scores = [100 * quality_at(trial, percent) for trial in trials]
    for index, (trial, value) in enumerate(zip(trials, scores, strict=True)):
        yield {
            "kind": "trial",
            "strip": strip,
            "name": role_text(trial),
            "settings": settings_text(trial, settings),
            "trial": trial.number,
            "score": value,
            "offset": JITTER[index % len(JITTER)],
        }
    if len(scores) >= 2:
        middle, spread = mean(scores), stdev(scores)
        yield {
            "kind": "bar",
            "strip": strip,
            "score": middle,
            "low": middle - spread,
            "high": middle + spread,
            "label": f"± {spread:.2f} ({counted(len(scores), 'training')})",
        }


def strip_spec() -> Spec:
    """The specification; always the same."""
    x: Spec = {
        "field": "score",
        "type": "quantitative",
        "title": SCORE,
        "scale": {"zero": False, "padding": 16},
        "axis": {"tickCount": 6},
    }
    y: Spec = {
        "field": "strip",
        "type": "nominal",
        "title": None,
        "sort": None,
        "scale": {"domain": list(STRIPS)},
        "axis": {"labelLimit": 230, "grid": False, "ticks": False, "domain": False},
    }
    colour = {
        "field": "strip",
        "type": "nominal",
        "scale": {"domain": list(STRIPS), "range": list(STRIPS.values())},
        "legend": None,
    }
    offset = {"field": "offset", "type": "quantitative", "scale": {"domain": [-3, 3]}}
    bar = {"x": x | {"field": "low"}, "x2": {"field": "high"}, "y": y}
    return {
        "height": 260,
        "layer": [
            {
                "transform": where("trial"),
                "params": [PICK],
                "mark": {"type": "point", "filled": True, "opacity": 0.8},
                "encoding": {
                    "x": x,
                    "y": y,
                    "yOffset": offset,
                    "color": colour,
                    "shape": colour | {"scale": {"domain": list(STRIPS), "range": ["diamond", "circle"]}},
                    "size": {"condition": PICKED | {"value": 260}, "value": 70},
                    "tooltip": tooltip(),
                },
            },
            {
                "transform": where("bar"),
                "mark": {"type": "rule", "strokeWidth": 4, "color": GREY, "yOffset": 28},
                "encoding": bar,
            },
            {
                "transform": where("bar"),
                "mark": {"type": "tick", "thickness": 3, "size": 18, "color": GREY, "yOffset": 28},
                "encoding": {"x": x, "y": y},
            },
            {
                "transform": where("bar"),
                "mark": {"type": "text", "align": "center", "dy": 46, "color": GREY, "fontWeight": "bold"},
                "encoding": {
                    "x": x,
                    "y": y,
                    "text": {"field": "label", "type": "nominal"},
                },
            },
        ],
    }
