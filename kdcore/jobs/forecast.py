"""How long a study or a sweep would take, told from what earlier studies of this workspace took. Never imports torch."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean, median

from pydantic import Field, ValidationError

from kdcore.errors import KdcoreError
from kdcore.files import write_json
from kdcore.jobs.devices import kind_of
from kdcore.jobs.plan import PlannedRun, asks_teacher, members, planned_runs
from kdcore.jobs.study_folder import StudyFolder
from kdcore.jobs.study_progress import FORWARD_SHARE, pixels
from kdcore.jobs.workspace import Workspace
from kdcore.reading import read_bytes
from kdcore.settings import Frozen, NetworkSettings, StudySettings, SweepSettings, fingerprint, parse_network

Device = str  # 'cpu' or 'cuda'
PROBES = ".probes"  # folder of the workspace


@dataclass
class Costs:
    """What training steps were measured to cost.

    Attributes:
        alone: seconds for each step and pixel of a network that learns from labels, by device and network.
        taught: the same for a student with a teacher, of all its crops, by device, student, teacher and answers asked for at each step.
        overhead: elapsed time over the time of the steps, of finished runs: reading, validation and scoring.
    """

    alone: dict[tuple[Device, NetworkSettings], list[float]] = field(default_factory=dict)
    taught: dict[tuple[Device, NetworkSettings, NetworkSettings, int], list[float]] = field(default_factory=dict)
    overhead: list[float] = field(default_factory=list)


class Probe(Frozen):
    """What a few steps on made-up crops cost: seconds for each step and pixel. See `kdcore.training.probe`.

    Attributes:
        device: 'cpu' or 'cuda'.
        teacher, student: the networks; members: how many answers a teacher gave at each step, 0 where they are kept.
        teacher_cost, alone_cost, taught_cost: of a step of the teacher, the student alone, the distilled student.
    """

    device: str
    teacher: NetworkSettings
    student: NetworkSettings
    members: int = Field(ge=0)
    teacher_cost: float = Field(gt=0)
    alone_cost: float = Field(gt=0)
    taught_cost: float = Field(gt=0)


@dataclass(frozen=True)
class Forecast:
    """How long a study would take.

    Attributes:
        seconds: of all runs that have to be trained.
        measured: whether each kind of run was measured; otherwise the distilled student is put together from the others.
        scoring: whether reading and scoring are counted in.
    """

    seconds: float
    measured: bool
    scoring: bool


def measured_costs(studies: Sequence[StudyFolder], probes: Sequence[Probe] = ()) -> Costs:
    """Read what the studies' runs took, and what probes found of networks that no study trained.

    The bundled example, which ran elsewhere, does not count.
    """
    costs = Costs()
    for study in studies:
        try:
            if not study.read_only:
                add_costs(costs, study)
        except KdcoreError:
            continue  # a broken study tells nothing
    for probe in probes:
        costs.alone.setdefault((probe.device, probe.teacher), [probe.teacher_cost])
        costs.alone.setdefault((probe.device, probe.student), [probe.alone_cost])
        costs.taught.setdefault((probe.device, probe.student, probe.teacher, probe.members), [probe.taught_cost])
    return costs


def read_probes(workspace: Workspace) -> list[Probe]:
    """The probes of a workspace, the newest first; broken files do not count."""
    files = sorted((workspace.path / PROBES).glob("*.json"), key=lambda file: file.stat().st_mtime, reverse=True)
    found = []
    for file in files:
        try:
            found.append(Probe.model_validate_json(read_bytes(file)))
        except (ValidationError, OSError):
            continue
    return found


def save_probe(workspace: Workspace, probe: Probe) -> None:
    """Keep a probe; one of the same networks on the same device is replaced."""
    key = fingerprint(probe.device, probe.teacher, probe.student, probe.members)
    write_json(workspace.path / PROBES / f"{key}.json", probe.model_dump(mode="json"))


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
            costs.taught.setdefault(key, []).append(cost / (1 + settings.recipe.unlabelled))
        else:
            costs.alone.setdefault((device, network_of(settings, plan)), []).append(cost)
        if run.state == "finished":
            costs.overhead.append(max(1.0, run.elapsed / run.seconds))


def forecast(settings: StudySettings, costs: Costs) -> Forecast | None:
    """Put the runs' times together; None where a network of the study was not measured on this device.

    Computing soft labels comes on top, see `kdcore.teacher.cost`.
    """
    device = kind_of(settings.hardware)
    overhead = median(costs.overhead) if costs.overhead else 1.0
    total, measured = 0.0, True
    for plan in planned_runs(settings):
        if plan.budget is None:
            continue
        cost, known = cost_of(settings, plan, device, costs)
        if plan.arm in ("alone", "all_labels") and settings.match == "seconds" and asks_teacher(settings):
            # They train for as long as the distilled student, with more steps.
            taught, known = cost_of(settings, plan.model_copy(update={"arm": "distilled"}), device, costs)
            cost = None if cost is None or taught is None else max(cost, taught)
        if cost is None:
            return None
        total += cost * pixels(plan.budget) * plan.steps * overhead
        measured &= known
    return Forecast(total, measured, bool(costs.overhead))


def cost_of(settings: StudySettings, plan: PlannedRun, device: Device, costs: Costs) -> tuple[float | None, bool]:
    """Seconds for each step and labelled pixel of a run, and whether that very kind of run was measured."""
    if not is_taught(settings, plan):
        found = costs.alone.get((device, network_of(settings, plan)))
        return (mean(found), True) if found else (None, False)
    crops = 1 + settings.recipe.unlabelled  # for each labelled one
    taught = costs.taught.get((device, settings.student, settings.teacher.network, members(settings)))
    if taught:
        return crops * mean(taught), True
    alone = costs.alone.get((device, settings.student))
    teacher = costs.alone.get((device, settings.teacher.network))
    if not alone or not teacher:
        return None, False
    return crops * (mean(alone) + FORWARD_SHARE * members(settings) * mean(teacher)), False


def is_taught(settings: StudySettings, plan: PlannedRun) -> bool:
    """Whether a teacher is asked at each step of a run."""
    return plan.arm == "distilled" and asks_teacher(settings)


def network_of(settings: StudySettings, plan: PlannedRun) -> NetworkSettings:
    """The network that a run trains."""
    return settings.teacher.network if plan.arm == "teacher" else settings.student


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
        costs: see `measured_costs`.
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
