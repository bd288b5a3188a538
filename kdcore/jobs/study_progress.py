"""How far a study is and how long it will still take, from what was measured. Never imports torch."""

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Literal

from kdcore.errors import RunError
from kdcore.jobs.plan import PlannedRun, asks_teacher, members, planned_runs, read_alone_steps
from kdcore.jobs.store import RunDirectory
from kdcore.settings import Arm, Budget, Frozen, StudySettings

FIRST_STEPS = 10  # warm up caches and threads; slower than the rest, so nothing is told from fewer
FORWARD_SHARE = 1 / 3  # of a training step: the backward pass costs about two forward passes

RunState = Literal["waiting", "queued", "running", "finished", "failed", "stopped", "interrupted"]


class RunProgress(Frozen):
    """How far one run is.

    Attributes:
        name, arm, seed: which run.
        state: 'waiting' until it is begun; 'interrupted' where it says running but no process works on it.
        step, steps: optimiser steps done and planned; 0 of 0 for a teacher that is only scored.
        seconds: spent on those steps.
        elapsed: seconds by the clock, reading and scoring included.
        updated: when it last said so, seconds since 1970.
    """

    name: str
    arm: Arm
    seed: int
    state: RunState = "waiting"
    step: int = 0
    steps: int = 0
    seconds: float = 0.0
    elapsed: float = 0.0
    updated: float = 0.0

    @property
    def measured(self) -> bool:
        """Whether enough steps were done to tell how long one takes."""
        return self.step > 0 and self.seconds > 0 and self.step >= min(FIRST_STEPS, self.steps)


class StudyProgress(Frozen):
    """How far a study is.

    Attributes:
        runs: in the order in which they are done.
        step, steps: over all runs.
        seconds_left: until all is done, from measured steps; None until there are any.
        measured: whether every arm that is still to run was measured, so that `seconds_left` contains no guess.
    """

    runs: tuple[RunProgress, ...]
    step: int
    steps: int
    seconds_left: float | None
    measured: bool


def measure_progress(settings: StudySettings, folder: Path, working: bool) -> StudyProgress:
    """Read how far each planned run is.

    Args:
        settings: of the study.
        folder: that holds the runs' directories, inside the study's.
        working: whether the study's process lives.

    Raises:
        RunError: `steps.json` is broken.
    """
    planned = planned_runs(settings, read_alone_steps(folder.parent))
    runs = tuple(read_run(plan, RunDirectory(folder / plan.name), working) for plan in planned)
    seconds_left, measured = estimate(settings, planned, runs, time.time())
    return StudyProgress(
        runs=runs,
        step=sum(run.step for run in runs),
        steps=sum(run.steps for run in runs),
        seconds_left=seconds_left,
        measured=measured,
    )


def read_run(plan: PlannedRun, directory: RunDirectory, working: bool) -> RunProgress:
    """One run's progress; a broken status counts as none, because the next process writes it anew."""
    waiting = RunProgress(name=plan.name, arm=plan.arm, seed=plan.seed, steps=plan.steps)
    if not (directory.path / "status.json").exists():
        return waiting
    try:
        status = directory.status
    except RunError:
        return waiting
    state: RunState = status.state
    if directory.report.exists():  # also where its process was killed before it could say so
        state = "finished"
    elif state == "running" and not working and not directory.alive:
        state = "interrupted"
    return waiting.model_copy(
        update={
            "state": state,
            "step": min(status.step, plan.steps),
            "seconds": status.seconds,
            "elapsed": status.elapsed,
            "updated": status.updated,
        }
    )


def estimate(
    settings: StudySettings, planned: Sequence[PlannedRun], runs: Sequence[RunProgress], now: float
) -> tuple[float | None, bool]:
    """Seconds left, and whether they rest on measurements alone.

    A run costs, for each step and pixel, what its arm was measured to cost. Before a distilled student has run, it is taken
    to cost what the student alone does plus the teacher's forward pass; before any student has run, as much as the teacher,
    which is more than it will be. Reading and scoring are added in the proportion that finished runs showed.
    """
    finished = [run for run in runs if run.state == "finished" and run.measured]
    overhead = max(1.0, mean(run.elapsed / run.seconds for run in finished)) if finished else 1.0
    rates = measured_rates(planned, runs)
    left, measured = 0.0, True
    for plan, run in zip(planned, runs, strict=True):
        if run.state == "finished" or plan.budget is None:
            continue
        rate = rates.get("alone" if plan.arm == "all_labels" else plan.arm)  # the same network on other crops
        if run.measured:
            rate = run.seconds / run.step / pixels(plan.budget)
        elif rate is None:
            measured = False
            rate = guessed_rate(plan.arm, settings, rates)
        if rate is None:
            return None, False
        own = max(overhead, run.elapsed / run.seconds) if run.measured else overhead
        rest = (run.steps - run.step) * pixels(plan.budget) * rate * own
        since_told = now - run.updated if run.state == "running" else 0.0
        left += max(0.0, rest - max(0.0, since_told))
    return left, measured


def pixels(budget: Budget) -> int:
    """Pixels that the network sees in a step."""
    return budget.batch_size * budget.crop**2


def measured_rates(planned: Sequence[PlannedRun], runs: Sequence[RunProgress]) -> dict[Arm, float]:
    """Seconds for each step and pixel of the arms of which a run was measured."""
    found: dict[Arm, list[float]] = {}
    for plan, run in zip(planned, runs, strict=True):
        if plan.budget is not None and run.measured:
            found.setdefault(plan.arm, []).append(run.seconds / run.step / pixels(plan.budget))
    return {arm: mean(rates) for arm, rates in found.items()}


def guessed_rate(arm: Arm, settings: StudySettings, rates: dict[Arm, float]) -> float | None:
    """What an arm that has not run yet will cost, from the others."""
    teacher = rates.get("teacher")
    alone = rates.get("alone", teacher)
    if arm != "distilled" or alone is None or not asks_teacher(settings):
        return alone
    return (1 + settings.recipe.unlabelled) * (alone + FORWARD_SHARE * members(settings) * (teacher or 0.0))
