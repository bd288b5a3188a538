"""The charts of a sweep: Optuna's own in the look of all others, and what Optuna lacks, the seed-to-seed spread."""

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from kdcore.evaluation.sweep_report import as_optuna, quality_at, spread_trials, top_share
from kdcore.jobs.sweep_confirm import best_trial
from kdcore.jobs.sweep_trials import TrialRecord
from kdcore.settings import Objective, Range, SweepSettings
from kdcore.views.arms import ARM_COLOURS, tint
from kdcore.views.layout import GREY, log_ticks
from kdcore.views.sweep_look import (
    BEST,
    NAMES,
    OPEN,
    QUALITY,
    SCALE,
    SCORE,
    SEEDS,
    Chart,
    best_in_words,
    counted,
    finished,
    limits,
    markers,
    name_arms,
    numbers,
    plot,
    restyle,
    score,
    write_ticks,
)

COSTS: dict[Objective, tuple[str, str]] = {
    "size": ("Quality against parameters", "Parameters (smaller →)"),
    "latency": ("Quality against ms a megapixel", "Milliseconds a megapixel (faster →)"),
}
LINES = {  # of a learning curve: colour, dash and width
    "best": (BEST, "solid", 3.2),
    "student alone": (ARM_COLOURS["alone"], "dash", 2.0),
    "finished": (tint(BEST, 0.5), "solid", 1.3),
    "running": (BEST, "dot", 1.6),
    "ended early": (SEEDS, "dot", 1.3),
}
JITTER = (0.0, 0.5, -0.5, 0.25, -0.25, 0.75, -0.75)  # of a strip's height, so that equal points stay apart
FINE = 2  # digits to which a map's settings are drawn: its surface has a cell for each pair


def sweep_charts(
    trials: Sequence[TrialRecord], settings: SweepSettings, report: Mapping[str, Any]
) -> dict[str, Chart | str]:
    """All charts by title, each drawn, or a sentence why it is not.

    Args:
        trials: of the sweep, in the order of their numbers.
        settings: of the sweep.
        report: of `sweep_report`.
    """
    charts: dict[str, Chart | str] = {
        "Temperature and alpha": temperature_alpha_map(trials, settings),
        "Settings or seeds?": spread_strip(trials, settings, report),
        "Importance": importance_bars(trials, settings, report),
        "History": history(trials, settings),
        "Learning curves": learning_curves(trials, settings),
        "Each setting": slices(trials, settings),
        "All settings at once": parallel_coordinates(trials, settings),
    }
    return charts | {COSTS[cost][0]: pareto(trials, settings, cost) for cost in costs_of(settings)}


def temperature_alpha_map(trials: Sequence[TrialRecord], settings: SweepSettings) -> Chart | str:
    """Alpha across, temperature up, quality as colour: of the best trial's student, because sizes cannot share a scale."""
    fixed = [name for name in ("temperature", "alpha") if name not in settings.space.searched]
    if fixed:
        kept = " and ".join(f"{name} ({settings.space.centre()[name]:g})" for name in fixed)
        return f"There is no map: this sweep does not vary {kept}."
    overall = best_trial(finished(trials), settings)
    student = str((overall.params if overall else settings.space.centre())["student"])
    mine = [trial for trial in finished(trials) if trial.params["student"] == student and trial.seed == settings.seed]
    drawn = [trial for trial in mine if trial.role != "baseline"]
    if any(len({trial.params[name] for trial in drawn}) < 2 for name in ("temperature", "alpha")):
        return "The map appears when two distilled students with different settings have finished."
    study = as_optuna(drawn, settings, names=NAMES, digits=FINE)
    figure = plot("contour", study, params=["Temperature", "Alpha"])
    low, high = limits(drawn)
    surface = QUALITY | {"zmin": low, "zmax": high, "reversescale": False, "hoverinfo": "skip"}
    marker = {
        "size": 12,
        "color": list(map(score, drawn)),
        "cmin": low,
        "cmax": high,
        "colorscale": SCALE,
    }
    dots = {"ids": numbers(drawn), "marker": marker | {"line": {"color": "#fff", "width": 1.5}}}
    draw_open(figure, [trial for trial in trials if trial.params.get("student") == student], settings)
    best = best_trial(drawn, settings)
    assert best is not None
    figure.add_scatter(
        x=[place(best, "alpha", settings)],
        y=[place(best, "temperature", settings)],
        mode="markers",
        marker={"symbol": "circle-open", "size": 22, "color": BEST, "line": {"width": 3}},
        name="best",
        hoverinfo="skip",
    )
    alone = [score(trial) for trial in mine if trial.role == "baseline"]
    several = f" of the student {student}" if len(settings.space.student) > 1 else ""
    result = f"{counted(len(mine), 'finished trial')}{several}. {best_in_words(best_trial(mine, settings), settings)}"
    said = f" The student alone has {mean(alone):.1f} %." if alone else ""
    figure = restyle(figure, trials, settings, [surface, dots])
    write_ticks(figure, drawn)
    figure.update_xaxes(title_text="Alpha (more teacher →)")
    figure.update_yaxes(title_text="Temperature (softer ↑)")
    reading = (
        f"Each dot is one training{several}: the further right, the more the student listens to the teacher; the higher, the softer "
        "the teacher's predictions. The brighter, the better; between the dots colours are interpolated, not measured."
    )
    return Chart(figure, reading + said, result + said)


def place(trial: TrialRecord, name: str, settings: SweepSettings) -> float | str:
    """A trial's value on an axis: a number of a range, or the name of a list's entry."""
    value = trial.params[name]
    return value if isinstance(settings.space.entries()[name], Range) or isinstance(value, str) else f"{value:g}"


def draw_open(figure: go.Figure, trials: Sequence[TrialRecord], settings: SweepSettings) -> None:
    """Trials without a quality where their settings put them: no colour, a shape for each state."""
    for state, (name, symbol) in OPEN.items():
        mine = [t for t in trials if t.state == state and t.retried_as is None and t.role != "baseline"]
        if mine:
            figure.add_scatter(
                x=[place(trial, "alpha", settings) for trial in mine],
                y=[place(trial, "temperature", settings) for trial in mine],
                ids=numbers(mine),
                mode="markers",
                marker={"symbol": symbol, "size": 11, "color": SEEDS, "line": {"color": SEEDS, "width": 2}},
                name=name,
            )


def spread_strip(trials: Sequence[TrialRecord], settings: SweepSettings, report: Mapping[str, Any]) -> Chart | str:
    """Trials of one setting with several seeds above trials of several settings with one seed, on one axis, with their spreads."""
    centre, varied, percent = spread_trials(trials, settings)
    if not centre and not varied:
        return str(report["spread"]["sentence"])
    strips = {
        "one setting,<br>several seeds": (centre, SEEDS, "circle"),
        "several settings,<br>one seed": (varied, BEST, "diamond"),
    }
    figure = go.Figure()
    for row, (mine, colour, symbol) in enumerate(strips.values()):
        scores = [100 * quality_at(trial, percent) for trial in mine]
        figure.add_scatter(
            x=scores,
            y=[row + 0.2 * JITTER[index % len(JITTER)] for index in range(len(mine))],
            ids=numbers(mine),
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 10, "line": {"color": "#fff", "width": 1}},
        )
        if len(scores) > 1:
            figure.add_scatter(
                x=[mean(scores)],
                y=[row + 0.3],
                error_x={"type": "data", "array": [stdev(scores)], "color": colour, "thickness": 3, "width": 6},
                mode="markers+text",
                marker={"color": colour, "symbol": "line-ns", "size": 14, "line": {"color": colour, "width": 3}},
                text=f"± {stdev(scores):.2f} ({counted(len(scores), 'training')})",
                textposition="bottom center",
                hoverinfo="skip",
            )
    figure = restyle(
        figure, trials, settings, height=300, showlegend=False, margin={"l": 20, "r": 20, "t": 10, "b": 50}
    )
    figure.update_yaxes(range=[1.75, -0.4], tickvals=[0, 1], ticktext=list(strips), showgrid=False, automargin=True)
    figure.update_xaxes(title_text=SCORE)
    at = "" if percent >= 100 else f" (all measured after {percent} % of the budget)"
    reading = (
        f"Each mark is one training{at}, each bar reaches one standard deviation to both sides of the mean: only if the lower "
        "bar is clearly longer do the settings matter more than the seed."
    )
    return Chart(figure, reading, str(report["spread"]["sentence"]))


def importance_bars(trials: Sequence[TrialRecord], settings: SweepSettings, report: Mapping[str, Any]) -> Chart | str:
    """How much each setting has to do with reaching the best trials; the report's numbers."""
    if report["importance"]["values"] is None:
        return str(report["importance"]["sentence"])
    searched = [trial for trial in finished(trials) if trial.role == "search"]
    import optuna

    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=top_share(len(searched)))
    params = [NAMES[name] for name in settings.space.searched]
    study = as_optuna(searched, settings, names=NAMES)
    figure = plot("param_importances", study, evaluator=evaluator, params=params)
    bars = {"marker": {"color": SEEDS}, "hoverinfo": "skip", "hovertemplate": None, "texttemplate": "%{x:.0%}"}
    figure = restyle(figure, trials, settings, [bars], height=110 + 45 * len(params), showlegend=False)
    figure.update_xaxes(title_text="Share", tickformat=".0%", range=[0, 1.1])
    figure.update_yaxes(title_text=None, automargin=True)
    reading = "The longer a bar, the more the best trials have this setting in common; a short bar means that any value will do."
    return Chart(figure, reading, str(report["importance"]["sentence"]))


def history(trials: Sequence[TrialRecord], settings: SweepSettings) -> Chart | str:
    """Quality by trial with the best so far, the student alone, and the band in which the seed alone puts one setting."""
    ended = finished(trials)
    own = [trial for trial in ended if trial.seed == settings.seed]
    if not own:
        return "The history appears when the first trial has finished."
    study = as_optuna(trials, settings, keep=set(numbers(own)))
    figure = plot("optimization_history", study, target_name=SCORE)
    dots = {"ids": numbers(own), "marker": markers(own), "showlegend": False}
    line = {"name": "best so far", "line": {"color": BEST, "width": 2.4, "shape": "hv"}, "hoverinfo": "skip"}
    others = [trial for trial in ended if trial.seed != settings.seed]
    if others:
        figure.add_scatter(
            x=[trial.number for trial in others],
            y=[score(trial) for trial in others],
            ids=numbers(others),
            mode="markers",
            marker={"color": SEEDS, "size": 10, "line": {"color": "#fff", "width": 1}},
            name="the centre, other seeds",
        )
    name_arms(figure, own)
    result = f"{counted(len(ended), 'trial')}. {best_in_words(best_trial(own, settings), settings)}"
    alone = [score(trial) for trial in own if trial.role == "baseline"]
    if alone:
        figure.add_hline(y=max(alone), line={"color": ARM_COLOURS["alone"], "dash": "dash", "width": 1.6})
        result += f" The student alone has {max(alone):.1f} %."
    band = seed_band(ended)
    if band:
        figure.add_hrect(y0=band[0], y1=band[1], fillcolor=SEEDS, opacity=0.22, line_width=0, layer="below")
        result += f" One setting with several seeds lies between {band[0]:.1f} and {band[1]:.1f} %."
    figure = restyle(figure, trials, settings, [dots, line])
    figure.update_xaxes(title_text="Trial", tickformat="d")
    reading = (
        "In the order of the trials: where the green line still climbs, more trials are worth their time; marks within "
        "the grey band differ from the centre by no more than seeds do."
    )
    return Chart(figure, reading, result)


def seed_band(trials: Sequence[TrialRecord]) -> tuple[float, float] | None:
    """Mean of the repeats of the centre, less and plus their standard deviation, in per cent; None for fewer than two."""
    scores = [score(trial) for trial in trials if trial.role == "repeat"]
    return (mean(scores) - stdev(scores), mean(scores) + stdev(scores)) if len(scores) > 1 else None


def learning_curves(trials: Sequence[TrialRecord], settings: SweepSettings) -> Chart | str:
    """Mean AP on validation by per cent of the budget of every trial that has been measured, the best one thick."""
    drawn = [t for t in trials if t.curve and t.state not in ("failed", "waiting") and t.retried_as is None]
    if not drawn:
        return "The curves appear with the first measurement on the validation part."
    figure = plot("intermediate_values", as_optuna(trials, settings, keep=set(numbers(drawn))))
    best = best_trial(finished(trials), settings)
    kinds = [curve_kind(trial, best) for trial in drawn]
    changes = []
    for index, (trial, kind) in enumerate(zip(drawn, kinds, strict=True)):
        colour, dash, width = LINES[kind]
        look = {"line": {"color": colour, "dash": dash, "width": width}, "marker": {"color": colour, "size": 5}}
        legend = {"name": kind, "legendgroup": kind, "showlegend": kind not in kinds[:index]}
        changes.append({"ids": numbers([trial]) * len(trial.curve)} | look | legend)
    figure = restyle(figure, trials, settings, changes, showlegend=True)
    figure.update_xaxes(title_text="Part of the budget, %", range=[0, 103])
    figure.update_yaxes(title_text=SCORE)
    running = sum(trial.state == "running" for trial in drawn)
    early = sum(trial.state == "pruned" for trial in drawn)
    result = f"Learning curves of {counted(len(drawn), 'trial')}: {running} running, {early} ended early. {best_in_words(best, settings)}"
    reading = "Each line is one training as it goes on: lines that still climb at the right end would gain from a longer budget."
    return Chart(figure, reading, result)


def curve_kind(trial: TrialRecord, best: TrialRecord | None) -> str:
    """What a curve is called in the legend."""
    if trial is best:
        return "best"
    if trial.state in ("running", "interrupted"):
        return "running"
    if trial.state == "finished":
        return "student alone" if trial.role == "baseline" else "finished"
    return "ended early"


def competing(trials: Sequence[TrialRecord], settings: SweepSettings) -> list[TrialRecord]:
    """The distilled students with the sweep's own seed, the best last: other seeds would give the centre more chances."""
    found = [trial for trial in finished(trials) if trial.role != "baseline" and trial.seed == settings.seed]
    return sorted(found, key=score)


def slices(trials: Sequence[TrialRecord], settings: SweepSettings) -> Chart | str:
    """Quality against each setting by itself."""
    drawn = competing(trials, settings)
    if len(drawn) < 2:
        return "The slices appear when two distilled students have finished."
    figure = plot("slice", as_optuna(drawn, settings, names=NAMES), target_name=SCORE)
    changes = []
    for trace in figure.data:
        x = [
            name.strip("'") if isinstance(name, str) else name for name in trace.x
        ]  # Optuna puts names in quotation marks
        mine = [drawn[index] for index in trace.marker.color]
        changes.append({"x": x, "ids": numbers(mine), "marker": markers(mine)})
    figure = restyle(figure, trials, settings, changes, width=None)
    write_ticks(figure, drawn)
    figure.for_each_xaxis(
        lambda axis: axis.update(categoryarray=[name.strip("'") for name in axis.categoryarray or ()])
    )
    best = best_trial(drawn, settings)
    result = (
        f"{counted(len(drawn), 'trial')} by {' and by '.join(settings.space.searched)}. {best_in_words(best, settings)}"
    )
    reading = "A panel a setting, a dot a training: a slope or a hill means that its value matters, an even cloud that it does not."
    return Chart(figure, reading, result)


def parallel_coordinates(trials: Sequence[TrialRecord], settings: SweepSettings) -> Chart | str:
    """One line a trial across what was searched and what it came to; the student alone has no temperature and is left out."""
    drawn = competing(trials, settings)
    if not drawn:
        return "The lines appear when the first distilled student has finished."
    figure = plot("parallel_coordinate", as_optuna(drawn, settings, names=NAMES), target_name="Mean AP, %")
    low, high = limits(drawn)
    colours = sample_colorscale(SCALE, [(score(trial) - low) / (high - low) for trial in drawn])
    changes: list[dict[str, Any]] = [
        {
            "ids": numbers([trial]) * len(trace.x),
            "mode": "lines+markers",
            "opacity": 0.85,
            "line": {"color": colour, "width": 1.8},
            "marker": {"color": colour, "size": 7},
        }
        for trace, trial, colour in zip(figure.data[:-1], drawn, colours, strict=True)
    ]
    legend = {"marker": QUALITY | {"color": [low, high], "cmin": low, "cmax": high, "showscale": True}}
    margin = {"l": 20, "r": 20, "t": 20, "b": 40}
    figure = restyle(figure, trials, settings, [*changes, legend], margin=margin)
    figure.update_annotations(font={"size": 12, "color": SEEDS, "weight": 600})
    result = f"{counted(len(drawn), 'trial')} as lines. {best_in_words(best_trial(drawn, settings), settings)}"
    reading = (
        "Follow a bright line from left to right to see the settings of a good trial; where bright and dark lines cross an axis "
        "at the same places, that setting does not matter."
    )
    return Chart(figure, reading, result)


def costs_of(settings: SweepSettings) -> tuple[Objective, ...]:
    """What quality can be weighed against: the objectives, and size where there are several students."""
    several = len(settings.space.student) > 1
    return tuple(cost for cost in COSTS if cost in settings.objectives or (several and cost == "size"))


def pareto(trials: Sequence[TrialRecord], settings: SweepSettings, cost: Objective) -> Chart | str:
    """Quality against a cost on a logarithmic axis on which right is always better; the trials that nothing beats are joined.

    Only trials with the sweep's own seed are drawn: with several seeds, one setting would have more chances than the others.
    """
    drawn = [t for t in finished(trials) if t.seed == settings.seed and t.values.get(cost, 0) > 0]
    if not drawn:
        return "The front appears when the first trial has finished."
    study = as_optuna(drawn, settings, (cost, "quality"))
    figure = plot("pareto_front", study, target_names=[COSTS[cost][1], SCORE])
    fronts = [[drawn[index] for index in trace.marker.color] for trace in figure.data]
    changes = [
        {"ids": numbers(mine), "text": None, "marker": markers(mine, size)}
        for mine, size in zip(fronts, (9, 14), strict=True)
    ]
    on_it = sorted(fronts[1], key=lambda trial: trial.values[cost])
    line = {"color": GREY, "width": 1.6, "dash": "dot"}
    figure.add_scatter(
        x=[trial.values[cost] for trial in on_it], y=[score(t) for t in on_it], mode="lines", line=line, name="nothing beats these", hoverinfo="skip"
    )  # fmt: skip
    name_arms(figure, drawn)
    figure = restyle(figure, trials, settings, changes)
    ticks = log_ticks([trial.values[cost] for trial in drawn])
    figure.update_xaxes(type="log", autorange="reversed", tickvals=ticks, tickformat="~s" if cost == "size" else "~g")
    named = "; ".join(
        f"trial {trial.number} ({trial.params['student']}) with {score(trial):.1f} % at {trial.values[cost]:,.6g}"
        for trial in on_it
    )
    reading = "Up is better and right is cheaper: nothing beats the large marks on the dotted line in both; choose among them, and leave the others."
    return Chart(figure, reading, f"{COSTS[cost][0]} of {counted(len(drawn), 'trial')}. On the front: {named}.")
