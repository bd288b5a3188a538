"""The runs of a study, in the order in which they are done, and how far each is. Never imports torch."""

from pathlib import Path
from typing import Literal

from kdcore.errors import RunError
from kdcore.jobs.store import RunDirectory
from kdcore.reading import read_json
from kdcore.settings import Arm, Budget, Frozen, StudySettings

FIRST_STEPS = 10  # warm up caches and threads; slower than the rest, so nothing is told from fewer

RunState = Literal["waiting", "queued", "running", "finished", "failed", "stopped", "interrupted"]


class PlannedRun(Frozen):
    """One run of a study.

    Attributes:
        name: of its directory under `runs/`.
        arm, seed: what it is.
        budget: of its training; None for a teacher that is only scored (existing checkpoints, an ensemble, or one that predicts
            with flips).
    """

    name: str
    arm: Arm
    seed: int
    budget: Budget | None

    @property
    def steps(self) -> int:
        """Optimiser steps to do."""
        return self.budget.steps if self.budget else 0


def run_name(arm: Arm, seed: int) -> str:
    """Name of a run's directory: 'all-labels-s0' of the student with all labels."""
    return f"{arm.replace('_', '-')}-s{seed}"


def parse_run(name: str) -> tuple[str, int | None]:
    """Arm and seed of a run's name, to show it: ('all_labels', 0) of 'all-labels-s0'; without a seed ('teacher', None)."""
    arm, _, seed = name.rpartition("-s")
    return (arm.replace("-", "_"), int(seed)) if arm and seed.isdigit() else (name, None)


def planned_runs(settings: StudySettings, alone_steps: int | None = None) -> tuple[PlannedRun, ...]:
    """Teachers first, then for each seed the student alone, the distilled student and, where there is one, that with all labels.

    Args:
        settings: of the study.
        alone_steps: of the student alone, where it is to train for as long as the distilled student; see `read_alone_steps`. The
            student with all labels takes as many.
    """
    teacher = settings.teacher
    runs = []
    if not teacher.checkpoints:
        runs += [
            PlannedRun(name=run_name("teacher", seed), arm="teacher", seed=seed, budget=teacher.budget)
            for seed in teacher.seeds
        ]
    if teacher.checkpoints or len(teacher.seeds) > 1 or teacher.flips:
        runs.append(PlannedRun(name="teacher", arm="teacher", seed=0, budget=None))
    alone = settings.budget if alone_steps is None else with_steps(settings.budget, alone_steps)
    budgets: dict[Arm, Budget] = {"alone": alone, "distilled": settings.budget}
    if settings.trains_all_labels:
        budgets["all_labels"] = alone
    runs += [
        PlannedRun(name=run_name(arm, seed), arm=arm, seed=seed, budget=budget)
        for seed in settings.seeds
        for arm, budget in budgets.items()
    ]
    return tuple(runs)


def teacher_run(settings: StudySettings) -> PlannedRun:
    """The run that stands for a study's teacher: the one that scores it as it is asked, or else its only training."""
    teachers = [run for run in planned_runs(settings) if run.arm == "teacher"]
    return next((run for run in teachers if run.budget is None), teachers[0])


def asks_teacher(settings: StudySettings) -> bool:
    """Whether the distilled student differs from the student alone at all."""
    return settings.control == "alone" and settings.recipe.alpha > 0


def members(settings: StudySettings) -> int:
    """How often a teacher's networks are asked at each step: not at all where soft labels are cached, or the teacher is a mean teacher."""
    if settings.recipe.teacher_sees == "scene" or settings.recipe.mean_teacher:
        return 0
    return len(settings.teacher.checkpoints or settings.teacher.seeds) * (8 if settings.teacher.flips else 1)


def with_steps(budget: Budget, steps: int) -> Budget:
    """A budget of more or fewer steps and as many validations."""
    every = budget.validate_every
    if every is not None:
        every = max(1, round(every * steps / budget.steps))
    return budget.model_copy(update={"steps": steps, "validate_every": every})


def pixels(budget: Budget) -> int:
    """Pixels that the network sees in a step."""
    return budget.batch_size * budget.crop**2


def steps_file(study: Path) -> Path:
    """Where a study keeps how many steps the student alone has, measured once with `match: seconds`."""
    return study / "steps.json"


def read_alone_steps(study: Path) -> int | None:
    """Steps of the student alone as they were measured; None where they are those of the budget, or not measured yet.

    Raises:
        RunError: the file is broken.
    """
    file = steps_file(study)
    try:
        return int(read_json(file)["alone"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise RunError(
            f"{file}: does not hold the steps of the student alone. Remove the file, then resume."
        ) from error


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
    """

    runs: tuple[RunProgress, ...]
    step: int
    steps: int


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
    return StudyProgress(runs=runs, step=sum(run.step for run in runs), steps=sum(run.steps for run in runs))


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
