"""The runs of a study, in the order in which they are done."""

from kdcore.settings import Arm, Budget, Frozen, StudySettings


class PlannedRun(Frozen):
    """One run of a study.

    Attributes:
        name: of its directory under `runs/`.
        arm, seed: what it is.
        budget: of its training; None for a teacher that is only scored (existing checkpoints, or an ensemble).
    """

    name: str
    arm: Arm
    seed: int
    budget: Budget | None

    @property
    def steps(self) -> int:
        """Optimiser steps to do."""
        return self.budget.steps if self.budget else 0


def planned_runs(settings: StudySettings) -> tuple[PlannedRun, ...]:
    """Teachers first, then for each seed the student alone and the distilled student."""
    teacher = settings.teacher
    runs = []
    if not teacher.checkpoints:
        runs += [
            PlannedRun(name=f"teacher-s{seed}", arm="teacher", seed=seed, budget=teacher.budget)
            for seed in teacher.seeds
        ]
    if teacher.checkpoints or len(teacher.seeds) > 1:
        runs.append(PlannedRun(name="teacher", arm="teacher", seed=0, budget=None))
    arms: tuple[Arm, Arm] = ("alone", "distilled")
    runs += [
        PlannedRun(name=f"{arm}-s{seed}", arm=arm, seed=seed, budget=settings.budget)
        for seed in settings.seeds
        for arm in arms
    ]
    return tuple(runs)
