"""How the charts of a sweep look, and what their points tell.

One colour a meaning, as everywhere: green is a distilled student, orange the student alone, grey what seeds alone do; a colour
scale (viridis) is quality and nothing else. A point carries its trial's number in `ids`.
"""

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from kdcore.evaluation.sweep_report import in_words
from kdcore.jobs.sweep_trials import TrialRecord
from kdcore.settings import ADDED, SweepSettings
from kdcore.views.arms import ARM_COLOURS, ARM_NAMES, ARM_SYMBOLS
from kdcore.views.layout import FAINT, log_ticks, style

if TYPE_CHECKING:
    import optuna

NAMES = {
    "temperature": "Temperature",
    "alpha": "Alpha",
    "learning_rate": "Learning rate",
    "student": "Student",
    "task": "Task loss",
    "distillation": "Distillation loss",
} | {name: method.label for name, method in ADDED.items()}
SCORE = "Mean AP on validation, %"
SCALE = sample_colorscale(
    "Viridis", [0.15 + 0.085 * step for step in range(11)]
)  # its darkest end is lost on a dark page
QUALITY: dict[str, Any] = {"colorscale": SCALE, "colorbar": {"title": {"text": "Mean AP, %"}, "thickness": 12}}
BEST, SEEDS = ARM_COLOURS["distilled"], "#80848E"
OPEN = {  # what has no quality: its name and its marker
    "running": ("running", "triangle-right-open"),
    "interrupted": ("interrupted", "triangle-left-open"),
    "pruned": ("ended early", "triangle-down-open"),
    "failed": ("failed", "x-thin"),
}


class Chart(NamedTuple):
    """A chart of a sweep.

    Attributes:
        figure: points carry their trial's number in `ids`.
        reading: one sentence on how to read it.
        result: what it shows, in words, for who cannot see it.
    """

    figure: go.Figure
    reading: str
    result: str


def plot(kind: str, study: "optuna.Study", **options: Any) -> go.Figure:
    """A figure of Optuna's, which is loaded by the first who looks at a sweep."""
    import optuna.visualization

    return getattr(optuna.visualization, f"plot_{kind}")(study, **options)


def restyle(
    figure: go.Figure,
    trials: Sequence[TrialRecord],
    settings: SweepSettings,
    changes: Sequence[dict[str, Any]] = (),
    **layout: Any,
) -> go.Figure:
    """Give a figure of Optuna's the look of all others: no title, our fonts and ground, and what a point tells.

    Args:
        figure: of Optuna's, with what was added to it.
        trials: in the order of their numbers.
        settings: of the sweep.
        changes: to the figure's traces, in their order.
        **layout: of this figure alone.
    """
    traces: list[dict[str, Any]] = figure.to_dict()["data"]  # plain values: Plotly takes 10 ms to change one of its own
    for trace, change in zip(traces, changes, strict=False):
        trace.update(change)
    for trace in traces:
        if "ids" in trace:
            trace["hovertext"] = [trial_text(trials[int(number)], settings) for number in trace["ids"]]
            trace["hovertemplate"] = "%{hovertext}<extra></extra>"
            trace["unselected"] = {"marker": {"opacity": 1}}
    figure = go.Figure(traces, figure.layout)
    legend = {"orientation": "h", "x": 0, "y": 1.01, "yanchor": "bottom"}
    style(
        figure, **{"height": 380, "title": None, "legend": legend, "hovermode": "closest", "dragmode": "zoom"} | layout
    )
    figure.update_xaxes(gridcolor=FAINT, zeroline=False)
    figure.update_yaxes(gridcolor=FAINT, zeroline=False)
    return figure


def numbers(trials: Sequence[TrialRecord]) -> list[str]:
    """What tells the points of some trials apart."""
    return [str(trial.number) for trial in trials]


def trial_text(trial: TrialRecord, settings: SweepSettings) -> str:
    """What a point tells: its trial, its settings and its quality; safe in Plotly's markup."""
    lines = [f"<b>{role_text(trial)}</b>", escape(settings_text(trial, settings))]
    if trial.state == "finished":
        lines.append(f"mean AP {score(trial):.2f} %")
    return "<br>".join(line for line in [*lines, OPEN.get(trial.state, ("",))[0]] if line)


def role_text(trial: TrialRecord) -> str:
    """What a trial is in the sweep."""
    roles = {"search": f"trial {trial.number}", "baseline": f"trial {trial.number}: student alone"}
    return roles.get(trial.role, f"trial {trial.number}: the centre, seed {trial.seed}")


def settings_text(trial: TrialRecord, settings: SweepSettings) -> str:
    """'temperature 3.2, alpha 0.7': what is searched, of one trial."""
    return in_words(trial.params, settings.space.searched) if "alpha" in trial.params else ""


def score(trial: TrialRecord) -> float:
    """A finished trial's quality in per cent of mean AP."""
    return 100 * trial.values["quality"]


def finished(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Those that have a quality, less the killed ones that were done again."""
    return [trial for trial in trials if trial.state == "finished" and trial.retried_as is None]


def best_in_words(best: TrialRecord | None, settings: SweepSettings) -> str:
    """A sentence on the best trial."""
    if best is None:
        return "None has finished yet."
    alone = f"the student alone (trial {best.number})"
    what = alone if best.role == "baseline" else f"trial {best.number} ({settings_text(best, settings)})"
    return f"Best so far is {what} with {score(best):.1f} % mean AP."


def counted(number: int, one: str) -> str:
    """'1 trial' or '3 trials'."""
    return f"{number:,} {one}{'' if number == 1 else 's'}"


def arm_of(trial: TrialRecord) -> str:
    """The arm whose colour and marker a trial has."""
    return "alone" if trial.role == "baseline" else "distilled"


def markers(trials: Sequence[TrialRecord], size: int = 10) -> dict[str, Any]:
    """Each trial's marker."""
    arms = [arm_of(trial) for trial in trials]
    return {
        "color": [ARM_COLOURS[arm] for arm in arms],
        "symbol": [ARM_SYMBOLS[arm] for arm in arms],
        "size": size,
        "line": {"color": "#fff", "width": 1},
    }


def name_arms(figure: go.Figure, trials: Sequence[TrialRecord]) -> None:
    """A legend of the arms that are drawn, without data of its own."""
    for arm in dict.fromkeys(sorted(map(arm_of, trials))):
        marker = {"color": ARM_COLOURS[arm], "symbol": ARM_SYMBOLS[arm], "size": 10}
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=ARM_NAMES[arm])


def write_ticks(figure: go.Figure, trials: Sequence[TrialRecord]) -> None:
    """Round numbers at the logarithmic axes, which bear their setting's name."""
    names = {title: name for name, title in NAMES.items()}
    for axis in (*figure.select_xaxes(), *figure.select_yaxes()):
        if axis.type == "log":
            values = [float(trial.params[names[axis.title.text]]) for trial in trials]
            axis.update(tickvals=log_ticks(values), tickformat="~g")


def limits(trials: Sequence[TrialRecord]) -> tuple[float, float]:
    """Ends of the colour scale; one point apart where all are equal."""
    low, high = min(map(score, trials)), max(map(score, trials))
    return low, high if high > low else low + 1
