"""Measure what training steps cost on this machine: in five steps of each arm on made-up crops, or in a few of a training itself.

The dashboard asks for it as a job (`kdcore.jobs.question.Measurement`) when it knows no earlier study with the same networks. What it
finds is kept in `WORKSPACE/.probes/`, where `kdcore.jobs.forecast` reads it. A training itself is timed
in a folder that is thrown away.
"""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from kdcore.data.batches import Batch
from kdcore.errors import RunError, Stopped
from kdcore.files import write_json
from kdcore.jobs.devices import take
from kdcore.jobs.forecast import Probe, save_probe
from kdcore.jobs.plan import members, pixels, steps_file
from kdcore.jobs.progress import Progress, Report, Stage, ignore
from kdcore.jobs.question import Measurement
from kdcore.jobs.store import RunDirectory
from kdcore.jobs.workspace import Workspace
from kdcore.models.networks import SegmentationNetwork, build_network
from kdcore.settings import Budget, Hardware, NetworkSettings, Recipe, RunSettings, StudySettings, validate
from kdcore.teacher.cost import channels
from kdcore.teacher.soft_labels import FOLDER, kept_logits
from kdcore.teacher.teacher import Teacher
from kdcore.training.fabric import make_fabric
from kdcore.training.loop import LOG_EVERY
from kdcore.training.objective import compute_loss
from kdcore.training.run import execute

STEPS = 5  # after one that warms up
BANDS, CLASSES = 3, 5
ROUNDS = 2  # of each kind, in turn; the shortest counts, because whatever else a machine does only makes steps longer
MANY = 1_000_000  # steps: never reached, so nothing is validated


def probe(settings: StudySettings, locks: Path, report: Report = ignore) -> Probe:
    """Time the steps of teacher, student alone and distilled student.

    Args:
        settings: of the study that is thought of.
        locks: folder with the locks of the devices.
        report: is told what is being done.

    Raises:
        RunError: a study uses the device, so that a measurement would tell too much.
    """
    devices = take(locks, settings.hardware)
    if devices is None:
        raise RunError(
            "A study uses the device now. Measure once it has ended, or launch: the time left is told then too."
        )
    try:
        devices.show_only_these()
        teacher, student = settings.teacher.network, settings.student
        networks = len(settings.teacher.checkpoints or settings.teacher.seeds)
        report(Progress("teacher", Stage.TIMING_STEPS))
        teacher_cost = cost_of_step(make(teacher), None, settings.teacher.budget, settings.hardware)
        report(Progress("alone", Stage.TIMING_STEPS))
        alone_cost = cost_of_step(make(student), None, settings.budget, settings.hardware)
        report(Progress("distilled", Stage.TIMING_STEPS))
        flips = settings.teacher.flips
        if settings.recipe.teacher_sees == "scene":
            served = networks * (8 if flips else 1)
            taught_cost = cost_of_step(make(student), None, settings.budget, settings.hardware, served=served)
        else:
            teachers = Teacher([make(teacher) for _ in range(networks)], flips)
            taught_cost = cost_of_step(make(student), teachers, settings.budget, settings.hardware)
    finally:
        devices.release()
    return Probe(
        device=devices.kind,
        teacher=teacher,
        student=student,
        members=members(settings),
        teacher_cost=teacher_cost,
        alone_cost=alone_cost,
        taught_cost=taught_cost,
    )


def make(network: NetworkSettings) -> SegmentationNetwork:
    """A network with random weights; what it has learnt does not change how long a step takes."""
    return build_network(network, BANDS, CLASSES, seed=0)


def cost_of_step(
    network: SegmentationNetwork, teacher: Teacher | None, budget: Budget, hardware: Hardware, *, served: int = 0
) -> float:
    """Seconds for each step and pixel: the median of five bare steps, without clipping, averaging or compilation.

    Args:
        network: that learns.
        teacher: that is asked at each step, if any.
        budget: batch and crop.
        hardware: device and precision.
        served: soft labels that come with each crop, where they are kept and no teacher is asked.
    """
    fabric = make_fabric(hardware.device, 1, hardware.precision)
    fabric.launch()
    generator = torch.Generator().manual_seed(0)
    shape = (budget.batch_size, budget.crop, budget.crop)
    batch = Batch(
        torch.randn(budget.batch_size, BANDS, budget.crop, budget.crop, generator=generator),
        torch.randint(CLASSES, shape, generator=generator, dtype=torch.uint8),
        torch.ones(shape, dtype=torch.bool),
        complete=True,
    ).map(fabric.to_device)
    recipe = Recipe(alpha=0.5 if teacher is not None or served else 0.0)
    if served:
        size = (budget.batch_size, served, channels(CLASSES), budget.crop, budget.crop)
        batch.teacher = torch.randn(size, generator=generator).half().to(fabric.device)
    if teacher is not None:
        teacher.to(fabric.device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=budget.learning_rate)
    model, optimiser = fabric.setup(network, optimiser)
    model.train()
    times = []
    for _ in range(STEPS + 1):
        started = time.perf_counter()
        soft_labels = None
        if batch.teacher is not None:
            soft_labels = kept_logits(batch.teacher, recipe.temperature)
        elif teacher is not None:
            with fabric.autocast():
                soft_labels = teacher(batch.image, recipe.temperature)
        fabric.backward(compute_loss(model(batch.image), soft_labels, batch, recipe)["loss"])
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if fabric.device.type == "cuda":
            torch.cuda.synchronize(fabric.device)
        times.append(time.perf_counter() - started)
    return median(times[1:]) / pixels(budget)


def measure(job: Measurement, session: Report) -> None:
    """Answer a question of the dashboard: `workspace`, and `study`, the settings of one.

    Raises:
        KdcoreError: it cannot be measured; says why.
    """
    workspace = Workspace(Path(job.settings["workspace"]))
    save_probe(workspace, probe(validate(StudySettings, job.settings["study"], "study"), workspace.devices, session))


def measure_alone_steps(
    study: Path,
    alone: RunSettings,
    distilled: RunSettings,
    report: Report,
    should_stop: Callable[[], bool],
) -> int:
    """How many steps the student alone does in the time of the distilled student's training; written to `steps.json`.

    Never fewer than the distilled student has.

    Args:
        study: the folder; its teacher is trained.
        alone: what the student alone is to do, with the distilled student's budget.
        distilled: what the distilled student is to do.
        report: is told what happens.
        should_stop: asked after every step.

    Raises:
        Stopped: `should_stop` said so.
        KdcoreError: what ends any training.
    """
    kinds = {"alone": alone, "distilled": distilled}
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    folder = study / ".timing"
    try:
        for number in range(ROUNDS * len(kinds)):
            report(Progress("", Stage.TIMING_STEPS, number, ROUNDS * len(kinds)))
            name = list(kinds)[number % len(kinds)]
            seconds[name].append(seconds_of_step(folder, kinds[name], should_stop))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    steps = distilled.budget.steps
    alone_steps = max(steps, round(steps * min(seconds["distilled"]) / min(seconds["alone"])))
    write_json(
        steps_file(study),
        {
            "alone": alone_steps,
            "distilled": steps,
            "seconds_of_a_step": {name: min(found) for name, found in seconds.items()},
        },
    )
    return alone_steps


def seconds_of_step(folder: Path, settings: RunSettings, should_stop: Callable[[], bool] = lambda: False) -> float:
    """Begin a training in `folder`, end it after its tenth step, and say how long the steps after the first one took.

    Raises:
        Stopped: `should_stop` said so.
        KdcoreError: what ends any training.
    """
    shutil.rmtree(folder, ignore_errors=True)
    budget = settings.budget.model_copy(update={"steps": MANY, "validate_every": MANY, "save_every": MANY})
    run = RunDirectory.create(folder, settings.model_copy(update={"budget": budget}))

    def enough() -> bool:
        return any(line["step"] >= LOG_EVERY for line in run.read_metrics())

    execute(run, should_stop=lambda: should_stop() or enough(), soft_labels=folder.parent.parent / FOLDER)
    if not enough():
        raise Stopped(f"{folder.parent}: was stopped while steps were timed. Start it again to go on.")
    first, *_, last = run.read_metrics()
    return float(last["seconds"] - first["seconds"]) / float(last["step"] - first["step"])
