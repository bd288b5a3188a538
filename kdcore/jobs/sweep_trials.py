"""One trial of a sweep, as pages and reports read it. Never imports torch, nor Optuna."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from kdcore.jobs.locks import held
from kdcore.settings import ADDED, Frozen, Objective, Range, SweepSettings

if TYPE_CHECKING:
    import optuna

Role = Literal["search", "baseline", "repeat"]
TrialState = Literal["waiting", "running", "interrupted", "finished", "pruned", "failed"]
OF_THE_TEACHER = ("temperature", "alpha", "distillation", *ADDED)  # what means nothing to a student alone


class TrialRecord(Frozen):
    """One trial.

    Attributes:
        number: of the trial; its run is `trials/0007`.
        role: 'search' (the sampler's choice), 'baseline' (alpha = 0) or 'repeat' (the centre with another seed).
        seed: of its training.
        state: 'interrupted' where nobody works on it: a stopped one goes on, a killed one is done again.
        params: every setting of it by name, whether searched or not; a baseline has no temperature.
        values: what was measured, by objective; empty unless finished.
        curve: mean AP on validation by per cent of the budget.
        retry_of, retried_as: a killed trial and the one that takes its place.
        message: why it failed.
        started, ended: seconds since 1970.
    """

    number: int
    role: Role = "search"
    seed: int = 0
    state: TrialState = "waiting"
    params: dict[str, float | str] = Field(default={})
    values: dict[Objective, float] = Field(default={})
    curve: dict[int, float] = Field(default={})
    retry_of: int | None = None
    retried_as: int | None = None
    message: str = ""
    started: float | None = None
    ended: float | None = None

    @property
    def over(self) -> bool:
        """Whether its result, good or bad, stands."""
        return self.state in ("finished", "pruned", "failed") and self.retried_as is None


def read_trial(
    trial: "optuna.trial.FrozenTrial", settings: SweepSettings, lock: Path, retries: Mapping[int, int]
) -> TrialRecord:
    """A trial of Optuna's as ours."""
    attributes: dict[str, Any] = trial.user_attrs
    role: Role = attributes.get("role", "search")
    states: dict[str, TrialState] = {
        "WAITING": "waiting",
        "RUNNING": "running" if held(lock) else "interrupted",
        "COMPLETE": "finished",
        "PRUNED": "pruned",
        "FAIL": "failed",
    }
    learning_rate = {"learning_rate": settings.budget.learning_rate}
    planned = trial.system_attrs.get("fixed_params", {})
    known = trial.state.name != "WAITING" or role != "search"
    entries = settings.space.entries()
    searched = {name: as_used(value, entries.get(name)) for name, value in {**planned, **trial.params}.items()}
    params = {**learning_rate, **settings.space.centre(), **searched} if known else {}
    if role == "baseline":
        params = {name: value for name, value in params.items() if name not in OF_THE_TEACHER} | {"alpha": 0.0}
    values = attributes.get("measured", {}) if trial.state.name == "COMPLETE" else {}
    return TrialRecord(
        number=trial.number,
        role=role,
        seed=attributes.get("seed", settings.seed),
        state=states[trial.state.name],
        params=params,
        values=values,
        curve=dict(sorted(trial.intermediate_values.items())),
        retry_of=attributes.get("retry_of"),
        retried_as=retries.get(trial.number),
        message=attributes.get("message", ""),
        started=trial.datetime_start.timestamp() if trial.datetime_start else None,
        ended=trial.datetime_complete.timestamp() if trial.datetime_complete else None,
    )


def as_used(value: Any, entry: object) -> Any:
    """A sampler's number with four digits, as it is shown, typed and trained with; what is no number of a range stays as it is.

    Args:
        value: of a setting.
        entry: of the search space.
    """
    if not isinstance(entry, Range):
        return value
    return min(max(float(f"{value:.4g}"), entry.low), entry.high)


def durations(trials: Sequence[TrialRecord]) -> list[float]:
    """Seconds of each trial that is over; a clock that was set back makes none of them negative."""
    return [max(0.0, trial.ended - trial.started) for trial in trials if trial.over and trial.ended and trial.started]


def seconds_left(trials: Sequence[TrialRecord], planned: int, workers: int) -> float | None:
    """Seconds until all trials have ended, if they take as long as those that have."""
    took = durations(trials)
    if not took:
        return None
    now = time.time()
    begun = [now - trial.started for trial in trials if trial.state == "running" and trial.started]
    waiting = planned - len(begun) - sum(trial.over for trial in trials)
    left = max(0, waiting) * mean(took) + sum(max(0.0, mean(took) - seconds) for seconds in begun)
    return left / max(1, workers)
