"""Trials of a sweep as rows and sentences. No streamlit here."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from kdcore.jobs.forecast import Left
from kdcore.jobs.status import Status
from kdcore.jobs.sweep_trials import TrialRecord
from kdcore.settings import SweepSettings
from kdcore.ui.formatting import count, duration, sentence
from kdcore.ui.stages import doing
from kdcore.ui.sweep_words import TRIAL_STATES
from kdcore.views.sweep_look import NAMES


def trials_table(trials: Sequence[TrialRecord], settings: SweepSettings) -> pd.DataFrame:
    """A row a trial, as the page shows it; what is not known (yet) is empty."""
    rows = []
    for trial in trials:
        row: dict[str, Any] = {"Trial": trial.number, "What": what(trial), "State": TRIAL_STATES[trial.state]}
        row |= {NAMES[name]: trial.params.get(name) for name in settings.space.searched}
        quality = trial.values.get("quality")
        row |= {
            "Mean AP": None if quality is None else 100 * quality,
            "Parameters": trial.values.get("size"),
            "ms for a megapixel": trial.values.get("latency"),
            "Seconds": trial.ended - trial.started if trial.ended and trial.started else None,
            "Note": note(trial),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def trials_csv(trials: Sequence[TrialRecord]) -> str:
    """All that is known of the trials, a row each, as CSV with full precision."""
    rows: list[dict[str, Any]] = [
        {"trial": trial.number, "role": trial.role, "seed": trial.seed, "state": trial.state}
        | trial.params
        | trial.values
        | {"retry_of": trial.retry_of, "started": trial.started, "ended": trial.ended, "message": trial.message}
        for trial in trials
    ]
    return pd.DataFrame(rows).to_csv(index=False)


def what(trial: TrialRecord) -> str:
    """What a trial is in the sweep."""
    return {"search": "search", "baseline": "student alone", "repeat": f"repeat, seed {trial.seed}"}[trial.role]


def note(trial: TrialRecord) -> str | None:
    """Why it failed, and which trial takes its place."""
    again = f"done again as trial {trial.retried_as}" if trial.retried_as is not None else ""
    of = f"trial {trial.retry_of} done again" if trial.retry_of is not None else ""
    told = [trial.message if not again else "", again, of]
    return "; ".join(part for part in told if part) or None


def worker_in_words(index: int, status: Status) -> str:
    """What one process of a sweep does."""
    now = None if status.state == "queued" else status.progress
    return f"Worker {index + 1}: {doing(now, 'starting: loading the libraries that train', alone=False)}"


def states_in_words(counts: dict[str, int]) -> str:
    """'12 finished, 2 ended early, 1 running'."""
    return ", ".join(f"{number:,} {TRIAL_STATES[state]}" for state, number in counts.items() if number)


def time_left(left: Left | None) -> str:
    """How long teacher, trials and confirmation will still take."""
    if left is None:
        return "Time left: told once a trial has ended."
    return f"{'About' if left.measured else 'Roughly'} {duration(left.seconds)} left."


def failures(trials: Sequence[TrialRecord]) -> list[str]:
    """A sentence for each trial that failed and was not done again, and how many were."""
    failed = [trial for trial in trials if trial.state == "failed"]
    told = [
        f"Trial {trial.number}: {sentence(trial.message) or 'failed without a word'}"
        for trial in failed
        if trial.retried_as is None
    ]
    again = [trial for trial in failed if trial.retried_as is not None]
    if again:
        told.append(
            f"{count(len(again), 'trial')} lost {'its' if len(again) == 1 else 'their'} worker and {'was' if len(again) == 1 else 'were'} done again."
        )
    return told
