"""How long a study would take, told from what earlier studies of this workspace took. Never imports torch."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean, median

from kdcore.errors import KdcoreError
from kdcore.runs.devices import kind_of
from kdcore.runs.plan import PlannedRun, planned_runs
from kdcore.runs.progress import FORWARD_SHARE, pixels
from kdcore.runs.study_folder import StudyFolder
from kdcore.settings import Budget, NetworkSettings, StudySettings

Device = str  # 'cpu' or 'cuda'


@dataclass
class Costs:
    """What training steps were measured to cost.

    Attributes:
        alone: seconds for each step and pixel of a network that learns from labels, by device and network.
        taught: the same for a student with a teacher, by device, student, teacher and number of teachers.
        overhead: elapsed time over the time of the steps, of finished runs: reading, validation and scoring.
    """

    alone: dict[tuple[Device, NetworkSettings], list[float]] = field(default_factory=dict)
    taught: dict[tuple[Device, NetworkSettings, NetworkSettings, int], list[float]] = field(default_factory=dict)
    overhead: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Forecast:
    """How long a study would take.

    Attributes:
        seconds: of all runs that have to be trained.
        measured: whether each kind of run was measured; otherwise the distilled student is put together from the others.
    """

    seconds: float
    measured: bool


def measured_costs(studies: Sequence[StudyFolder]) -> Costs:
    """Read what the studies' runs took; the bundled example, which ran elsewhere, does not count."""
    costs = Costs()
    for study in studies:
        try:
            if not study.read_only:
                add_costs(costs, study)
        except KdcoreError:
            continue  # a broken study tells nothing
    return costs


def add_costs(costs: Costs, study: StudyFolder) -> None:
    """Add the measurements of one study's runs."""
    settings = study.settings
    device = study.job.device.partition(":")[0] or kind_of(settings.hardware)
    for plan, run in zip(planned_runs(settings), study.progress().runs, strict=True):
        if plan.budget is None or not run.measured:
            continue
        cost = run.seconds / run.step / pixels(plan.budget)
        if is_taught(settings, plan):
            key = (device, settings.student, settings.teacher.network, members(settings))
            costs.taught.setdefault(key, []).append(cost)
        else:
            costs.alone.setdefault((device, network_of(settings, plan)), []).append(cost)
        if run.state == "finished":
            costs.overhead.append(max(1.0, run.elapsed / run.seconds))


def forecast(settings: StudySettings, costs: Costs) -> Forecast | None:
    """Put the runs' times together; None where a network of the study was not measured on this device."""
    device = kind_of(settings.hardware)
    overhead = median(costs.overhead) if costs.overhead else 1.0
    total, measured = 0.0, True
    for plan in planned_runs(settings):
        if plan.budget is None:
            continue
        cost, known = cost_of(settings, plan, device, costs)
        if cost is None:
            return None
        total += cost * pixels(plan.budget) * plan.steps * overhead
        measured &= known
    return Forecast(total, measured)


def cost_of(settings: StudySettings, plan: PlannedRun, device: Device, costs: Costs) -> tuple[float | None, bool]:
    """Seconds for each step and pixel of a run, and whether that very kind of run was measured."""
    if not is_taught(settings, plan):
        found = costs.alone.get((device, network_of(settings, plan)))
        return (mean(found), True) if found else (None, False)
    taught = costs.taught.get((device, settings.student, settings.teacher.network, members(settings)))
    if taught:
        return mean(taught), True
    alone = costs.alone.get((device, settings.student))
    teacher = costs.alone.get((device, settings.teacher.network))
    if not alone or not teacher:
        return None, False
    return mean(alone) + FORWARD_SHARE * members(settings) * mean(teacher), False


def is_taught(settings: StudySettings, plan: PlannedRun) -> bool:
    """Whether a teacher is asked at each step of a run."""
    return plan.arm == "distilled" and settings.control == "alone" and settings.recipe.alpha > 0


def network_of(settings: StudySettings, plan: PlannedRun) -> NetworkSettings:
    """The network that a run trains."""
    return settings.teacher.network if plan.arm == "teacher" else settings.student


def members(settings: StudySettings) -> int:
    """How many teachers answer at each step."""
    return len(settings.teacher.checkpoints or settings.teacher.seeds)


def budget_words(budget: Budget) -> str:
    """A budget as '2,000 steps of 8 crops of 256 x 256 pixels'."""
    return f"{budget.steps:,} steps of {budget.batch_size} crops of {budget.crop} × {budget.crop} pixels"
