"""How long a study or a sweep would take, told from what earlier studies of this workspace took. Never imports torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import mean, median
from typing import NamedTuple

from pydantic import Field, ValidationError

from kdcore.errors import KdcoreError
from kdcore.files import write_json
from kdcore.jobs.devices import kind_of
from kdcore.jobs.plan import PlannedRun, RunProgress, asks_teacher, members, pixels, planned_runs, read_alone_steps
from kdcore.jobs.progress import Stage
from kdcore.jobs.status import Status
from kdcore.jobs.study_folder import StudyFolder
from kdcore.jobs.sweep_trials import TrialRecord, durations, seconds_left
from kdcore.jobs.workspace import Workspace
from kdcore.reading import read_bytes
from kdcore.settings import Frozen, NetworkSettings, StudySettings, SweepSettings, fingerprint, parse_network

Device = str  # 'cpu' or 'cuda'
Scored = tuple[int, int]  # pixels of the validation and of the test part
PROBES = ".probes"  # folder of the workspace
FORWARD_SHARE = 1 / 3  # of a training step: the backward pass costs about two forward passes


@dataclass
class Costs:
    """What training steps were measured to cost.

    Attributes:
        alone: seconds for each step and pixel of a network that learns from labels, by device and network.
        taught: the same for a student with a teacher, of all its crops, by device, student, teacher and predictions asked for at each step.
        overhead: elapsed time over the time of the steps, of finished runs: reading, validation and scoring.
        beside: seconds of finished studies outside of their runs: reading, pictures for the map, the report.
    """

    alone: dict[tuple[Device, NetworkSettings], list[float]] = field(default_factory=dict)
    taught: dict[tuple[Device, NetworkSettings, NetworkSettings, int], list[float]] = field(default_factory=dict)
    overhead: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)


class Probe(Frozen):
    """What a few steps on made-up crops cost: seconds for each step and pixel. See `kdcore.training.probe`.

    Attributes:
        device: 'cpu' or 'cuda'.
        teacher, student: the networks; members: how many predictions a teacher made at each step, 0 where they are kept.
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
        measured: whether each piece was measured; otherwise the distilled student is put together from the others.
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
    job = study.job
    device = job.device.partition(":")[0] or kind_of(settings.hardware)
    runs = study.progress().runs
    if job.state == "finished" and job.seconds:
        costs.beside.append(max(0.0, job.seconds - sum(run.elapsed for run in runs)))
    for plan, run in zip(planned_runs(settings), runs, strict=True):
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


class Piece(NamedTuple):
    """One part of a study, in the order in which they are done.

    Attributes:
        run: it belongs to; empty for the study as a whole.
        stage: TRAINING, SCORING_TEST for all scoring of a run, SOFT_LABELS, or LAYERS for what is done once beside the runs.
        seconds: it takes.
        measured: whether that very kind of work was measured.
    """

    run: str
    stage: Stage
    seconds: float
    measured: bool


def forecast(
    settings: StudySettings, costs: Costs, scored: Scored | None = None, soft_labels: float = 0.0
) -> Forecast | None:
    """Put the times of a study's pieces together; None where a network of the study was not measured on this device.

    Args:
        settings: of the study.
        costs: see `measured_costs`.
        scored: pixels of the validation and of the test part; without them scoring is known from finished runs only.
        soft_labels: seconds of computing them, see `kdcore.teacher.cost`.
    """
    found = pieces(settings, costs, scored, soft_labels)
    if found is None:
        return None
    known = bool(costs.overhead) or scored is not None
    return Forecast(sum(piece.seconds for piece in found), all(piece.measured for piece in found if piece.run), known)


def pieces(
    settings: StudySettings,
    costs: Costs,
    scored: Scored | None,
    soft_labels: float,
    alone_steps: int | None = None,
    guess: bool = False,
) -> list[Piece] | None:
    """Every piece of a study with its seconds; None where a network was not measured on this device.

    Args:
        settings: see `forecast`.
        costs: likewise.
        scored: likewise.
        soft_labels: likewise.
        alone_steps: of the student alone, where they were measured already.
        guess: take a network that was not measured to cost what the teacher does, which is more than it will.
    """
    guesses = guessed(settings, costs) if guess else costs
    found: list[Piece] = []
    for plan in planned_runs(settings, alone_steps):
        if plan.budget is None:
            continue
        cost, known = planned_cost(settings, plan, costs, alone_steps)
        if cost is None:
            cost, known = planned_cost(settings, plan, guesses, alone_steps)[0], False
        if cost is None:
            return None
        training = cost * pixels(plan.budget) * plan.steps
        if soft_labels and plan.arm == "distilled" and not any(piece.stage is Stage.SOFT_LABELS for piece in found):
            found.append(Piece(plan.name, Stage.SOFT_LABELS, soft_labels, True))
        found.append(Piece(plan.name, Stage.TRAINING, training, known))
        found.append(
            Piece(plan.name, Stage.SCORING_TEST, scoring_seconds(settings, plan, training, costs, scored), known)
        )
    found.append(Piece("", Stage.LAYERS, median(costs.beside) if costs.beside else 0.0, bool(costs.beside)))
    return found


def planned_cost(
    settings: StudySettings, plan: PlannedRun, costs: Costs, alone_steps: int | None
) -> tuple[float | None, bool]:
    """See `cost_of`; as long as their steps are not known, students that train for as long as the distilled one cost what it does."""
    device = kind_of(settings.hardware)
    cost, known = cost_of(settings, plan, device, costs)
    longer = alone_steps is None and plan.arm in ("alone", "all_labels") and settings.match == "seconds"
    if longer and asks_teacher(settings):
        taught, known = cost_of(settings, plan.model_copy(update={"arm": "distilled"}), device, costs)
        cost = None if cost is None or taught is None else max(cost, taught)
    return cost, known


def guessed(settings: StudySettings, costs: Costs) -> Costs:
    """The same, with a network that was not measured taken to cost what the teacher does, or else the dearest that was measured."""
    device = kind_of(settings.hardware)
    teacher, student = (device, settings.teacher.network), (device, settings.student)
    others = costs.alone.get(teacher) or [cost for own in costs.alone.values() for cost in own]
    return replace(costs, alone={teacher: [max(others)], student: [max(others)]} | costs.alone) if others else costs


def scoring_seconds(
    settings: StudySettings, plan: PlannedRun, training: float, costs: Costs, scored: Scored | None
) -> float:
    """Reading, validations and scores of a run: as finished runs showed, else a forward pass over all pixels that are scored."""
    if costs.overhead:
        return (median(costs.overhead) - 1) * training
    found = costs.alone.get((kind_of(settings.hardware), network_of(settings, plan)))
    if scored is None or not found or plan.budget is None:
        return 0.0
    window, halo = settings.evaluation.window, settings.evaluation.halo
    seen = (len(plan.budget.validation_steps) + 1) * scored[0] + scored[1]
    return seen * ((window + 2 * halo) / window) ** 2 * FORWARD_SHARE * mean(found)


@dataclass(frozen=True)
class Left:
    """How far a study is.

    Attributes:
        share: of the time that it takes in all, in [0, 1].
        seconds: that are left.
        measured: whether all that is left was measured.
    """

    share: float
    seconds: float
    measured: bool


def time_left(study: StudyFolder, costs: Costs, scored: Scored | None, soft_labels: float, now: float) -> Left | None:
    """What is left of a study at work, by the same pieces as before its launch and with what its own runs showed.

    Args:
        study: whose job runs.
        costs: of this workspace.
        scored: see `forecast`.
        soft_labels: likewise.
        now: seconds since 1970.

    Raises:
        RunError: a file of the study is broken.
    """
    own = measured_costs([study])
    costs = Costs(costs.alone | own.alone, costs.taught | own.taught, own.overhead or costs.overhead, costs.beside)
    found = pieces(study.settings, costs, scored, soft_labels, read_alone_steps(study.path), guess=True)
    if found is None or (whole := sum(piece.seconds for piece in found)) == 0:
        return None
    runs, status = {run.name: run for run in study.progress().runs}, study.job
    left = [piece.seconds * share_left(piece, runs, status, now) for piece in found]
    measured = all(piece.measured for piece, seconds in zip(found, left, strict=True) if seconds)
    return Left(1 - sum(left) / whole, sum(left), measured)


def share_left(piece: Piece, runs: Mapping[str, RunProgress], status: Status, now: float) -> float:
    """How much of a piece is still to be done, in [0, 1]."""
    done = status.done / status.total if status.total else 0.0
    run = runs.get(piece.run)
    if run is None:  # what is done once: the map's pictures, and the report
        return 0.0 if status.stage is Stage.REPORT else 1 - done if status.stage is Stage.LAYERS else 1.0
    if run.state == "finished":
        return 0.0
    here = status.run == piece.run
    if piece.stage is Stage.SOFT_LABELS:
        return 0.0 if run.step else 1 - done if here and status.stage is Stage.SOFT_LABELS else 1.0
    trained = run.step / run.steps if run.steps else 0.0
    if piece.stage is Stage.TRAINING:
        since = (
            max(0.0, now - run.updated) if here and run.state == "running" and status.stage is Stage.TRAINING else 0.0
        )
        return max(0.0, 1 - trained - (since / piece.seconds if piece.seconds else 0.0))
    if trained < 1 or not here:
        return 1.0
    if status.stage is Stage.SCORING_TEST:
        return (1 - done) / 2
    return 1 - done / 2 if status.stage is Stage.SCORING_VALIDATION else 1.0


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
    parts = sweep_parts(settings, costs)
    return None if parts is None else parts[0] + parts[1] * (settings.trials + 2 * settings.confirm) / workers


def sweep_parts(settings: SweepSettings, costs: Costs) -> tuple[float, float] | None:
    """Seconds of a sweep's teacher and of one trial; None where a network was not measured yet."""
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
    return overhead * teacher, overhead * mean(trials)


def sweep_left(
    settings: SweepSettings, costs: Costs, workers: int, trials: Sequence[TrialRecord], confirmed: bool
) -> Left | None:
    """What is left of a sweep at work: of its teacher, its trials and its confirmation; None before anything was measured.

    Args:
        settings: see `sweep_seconds`.
        costs: likewise.
        workers: likewise.
        trials: so far; they tell better than `costs` how long one takes.
        confirmed: whether the best setting was compared with the default already.
    """
    took = durations(trials)
    parts = sweep_parts(settings, costs)
    if parts is None and not took:
        return None
    teacher, one = parts or (0.0, 0.0)
    one = mean(took) if took else one
    at_work, confirming = max(1, workers), 2 * settings.confirm
    rest = seconds_left(trials, settings.trials, at_work)
    left = settings.trials * one / at_work if rest is None else rest
    left += (0.0 if trials else teacher) + (0.0 if confirmed else confirming * one / at_work)
    whole = teacher + (settings.trials + confirming) * one / at_work
    return Left(max(0.0, 1 - left / whole) if whole else 0.0, left, bool(took))
