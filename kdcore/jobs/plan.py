"""The runs of a study, in the order in which they are done."""

from pathlib import Path

from kdcore.errors import RunError
from kdcore.reading import read_json
from kdcore.settings import Arm, Budget, Frozen, StudySettings


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
