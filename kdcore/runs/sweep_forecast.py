"""How long a sweep would take, told from what the workspace's studies and probes took. Never imports torch."""

from statistics import mean, median

from kdcore.runs.devices import kind_of
from kdcore.runs.forecast import Costs, cost_of, network_of
from kdcore.runs.plan import PlannedRun
from kdcore.runs.progress import pixels
from kdcore.settings import NetworkSettings, StudySettings, SweepSettings, parse_network


def as_study(settings: SweepSettings, student: NetworkSettings) -> StudySettings:
    """A study that trains what a sweep trains, with one of its students: what was measured of studies holds for it."""
    return StudySettings(
        teacher=settings.teacher, student=student, budget=settings.budget, seeds=(0,), hardware=settings.hardware
    )


def sweep_seconds(settings: SweepSettings, costs: Costs, workers: int) -> float | None:
    """Seconds of the whole sweep, its teacher and its confirmation included; None where a network was not measured yet.

    Workers are taken to share the device without loss, and no trial to end early.

    Args:
        settings: of the sweep.
        costs: see `kdcore.runs.forecast.measured_costs`.
        workers: processes at work.
    """
    device = kind_of(settings.hardware)
    overhead = median(costs.overhead) if costs.overhead else 1.0
    trials: list[float] = []
    for name in settings.space.student:
        study = as_study(settings, parse_network(name))
        run = PlannedRun(name="", arm="distilled", seed=0, budget=settings.budget)
        cost, _ = cost_of(study, run, device, costs)
        if cost is None:
            return None
        trials.append(settings.seconds or cost * pixels(settings.budget) * settings.budget.steps)
    teacher = 0.0
    if not settings.teacher.checkpoints:
        run = PlannedRun(name="", arm="teacher", seed=0, budget=settings.teacher.budget)
        found = costs.alone.get((device, network_of(study, run)))
        if not found:
            return None
        budget = settings.teacher.budget
        teacher = mean(found) * pixels(budget) * budget.steps * len(settings.teacher.seeds)
    trainings = settings.trials + 2 * settings.confirm
    return overhead * (teacher + mean(trials) * trainings / workers)
