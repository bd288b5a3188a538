"""One run from its directory: read the data, train, evaluate, report. It can be called again after any interruption."""

import ctypes
import platform
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from kdcore.data.collection import Collection
from kdcore.data.mixed import same_resolution
from kdcore.errors import CheckpointError, KdcoreError, RunError, SettingsError, Stopped, unexpected
from kdcore.evaluation.scores import Scores
from kdcore.evaluation.summary import summarise
from kdcore.files import remove_half_written
from kdcore.inference.evaluate import evaluate
from kdcore.inference.source import check_type
from kdcore.jobs.progress import SCORING, Report, Stage, counting, ignore
from kdcore.jobs.store import RunDirectory
from kdcore.jobs.worker import SIGNALS
from kdcore.models.checkpoint import load_network
from kdcore.models.networks import count_parameters
from kdcore.settings import SPLITS, EvaluationSettings, SplitName
from kdcore.teacher.teacher import Teacher, read_member_info
from kdcore.training import processes
from kdcore.training.fabric import agreeing, make_fabric
from kdcore.training.loop import train
from kdcore.training.results import device_name, finish, measured_speed, quality
from kdcore.training.work import Work, ready_soft_labels

GPU_FULL = "the GPU's memory is full. Lower batch_size or crop, or use precision bf16-mixed."
GIBIBYTE = 1 << 30
MMAP_THRESHOLD, TRIM_THRESHOLD, TOP_PAD = -3, -1, -2  # of <malloc.h>


def execute(
    run: RunDirectory,
    report: Report = ignore,
    should_stop: Callable[[], bool] = lambda: False,
    *,
    test: bool = True,
    on_score: Callable[[int, float], None] | None = None,
    soft_labels: Path | None = None,
) -> None:
    """Do what a run's settings say, from wherever it stands; a finished run is left as it is.

    Args:
        run: what to do, and where its files go.
        report: is told what happens.
        should_stop: asked after every step.
        test: whether the test split is scored, too; a search must not look at it.
        on_score: is told the step and mean AP of each validation.
        soft_labels: folder of the teachers' soft labels that runs share; beside the run if not given.

    Raises:
        KdcoreError: anything the user can mend; the run's status then says so too.
        RunError: another process works on it.
    """
    if run.report.exists():
        return
    with run.working():
        if run.report.exists():  # another process has just finished it
            return
        remove_half_written(run.path)
        run.set_state("running")
        run.log(f"started on {platform.node()} with torch {torch.__version__}")
        try:
            with processes.missing_peers():
                fabric = launched(run, soft_labels)
                agreed = agreeing(fabric, should_stop)
                train_and_evaluate(fabric, run, report, agreed, test=test, on_score=on_score, soft_labels=soft_labels)
        except KdcoreError as error:
            run.set_state("failed", str(error))
            run.log(f"failed: {error}")
            raise
        except KeyboardInterrupt:
            run.set_state("stopped", "interrupted; resume to go on from the last saved state")
            raise
        except torch.OutOfMemoryError as error:
            run.set_state("failed", GPU_FULL)
            raise RunError(f"{run.path}: {GPU_FULL}") from error
        except Exception as error:
            run.set_state("failed", unexpected(error))
            run.log(f"failed: {unexpected(error)}")
            raise


def launched(run: RunDirectory, soft_labels: Path | None) -> Fabric:
    """Fabric for a run, at work in all of its processes."""
    hardware = run.settings.hardware
    fabric = make_fabric(hardware.device, hardware.devices, hardware.precision, hardware.nodes)
    if fabric.world_size > 1 and processes.rank() == 0:
        processes.orders().give(
            {"run": str(run.path), "soft_labels": soft_labels and str(soft_labels), **processes.visible_gpus()}
        )
    fabric.launch()
    return fabric


def hear(how: signal.Handlers) -> None:
    """What to do with the signals that ask a process to stop."""
    for number in SIGNALS:
        signal.signal(number, how)


def follow() -> int:
    """What all processes but rank 0 do: train the runs that it orders, until it dismisses them; gives the exit code."""
    hear(signal.SIG_DFL)
    torch.set_num_threads(processes.threads())
    orders = processes.orders()
    try:
        while (order := orders.take()) is not None:
            hear(signal.SIG_IGN)  # rank 0 is asked to stop, too, and says after which step
            processes.use_gpus(order)
            run, soft_labels = RunDirectory(Path(order["run"])), order["soft_labels"] and Path(order["soft_labels"])
            fabric = launched(run, soft_labels)
            train_and_evaluate(fabric, run, ignore, agreeing(fabric, lambda: False), soft_labels=soft_labels)
            hear(signal.SIG_DFL)
    except torch.OutOfMemoryError:
        sentence = GPU_FULL
    except KdcoreError as error:
        sentence = str(error)
    except Exception as error:
        if processes.lost_peer(error):
            return 1
        traceback.print_exc()
        sentence = f"{type(error).__name__}: {error}"
    else:
        return 0
    orders.complain(sentence)
    processes.leave_message(sentence)
    return 2


def train_and_evaluate(
    fabric: Fabric,
    run: RunDirectory,
    report: Report,
    should_stop: Callable[[], bool],
    test: bool = True,
    on_score: Callable[[int, float], None] | None = None,
    soft_labels: Path | None = None,
) -> None:
    """The work of one process of a run; rank 0 writes its files, and scores the test split."""
    if fabric.device.type == "cpu":
        keep_freed_memory()
    work = Work.prepare(fabric, run, report)
    settings, first = work.settings, fabric.is_global_zero
    try:
        with ready_soft_labels(work, soft_labels, should_stop) as served:
            progress = train(
                run,
                work.network,
                work.info,
                work.batches(served),
                None if served else work.teacher,
                fabric=fabric,
                validate=work.quality,
                on_step=counting(report, Stage.TRAINING, run.path.name),
                on_score=on_score,
                watch=work.watched() if first and test else None,  # nobody watches the trials of a sweep
                should_stop=should_stop,
            )
        stopped = progress.step < settings.budget.steps
    except Stopped:  # before the first step
        stopped = True
    if stopped:
        if first:
            run.set_state("stopped", "stopped on request; resume to go on")
        return
    last = {}
    if settings.budget.ema or settings.recipe.mean_teacher:
        averaged = [line["validation_mean_ap"] for line in run.read_metrics() if "validation_mean_ap" in line][-1]
        last = {"last_weights": {"as_they_are": work.quality(work.network), "averaged": averaged}}
    best, _ = load_network(run.best)
    best.to(fabric.device)
    validation = work.validate(best)
    if not first:
        return
    tested = work.score(best, "test", run.maps) if test else None
    spent = {
        "steps": progress.step,
        "seconds": round(progress.seconds, 2),
        "best_step": progress.best_step,
        "labels": round(work.found.labels, 4),
        "device": device_name(fabric.device),
        "megapixels_per_second": measured_speed(best, work.collection, settings, fabric),
        **({"soft_labels": served.values} if served else {}),
        **last,
    }
    finish(run, work.collection, validation, tested, count_parameters(best), spent)


def evaluate_ensemble(
    run: RunDirectory, checkpoints: list[Path], collection: Collection, report: Report = ignore
) -> None:
    """Score a teacher of existing checkpoints as a run of its own, without training; with flips also what they add."""
    if run.report.exists():
        return
    settings, name = run.settings, run.path.name
    with run.working():
        if run.report.exists():
            return
        run.set_state("running", "scoring the teacher")
        names = collection.settings.class_names
        numbers = collection.scenes[0].bands
        teacher = Teacher.load(checkpoints, names, collection.bands, numbers, flips=settings.teacher_flips)
        fabric = make_fabric(settings.hardware.device, 1, settings.hardware.precision)
        teacher.to(fabric.device)

        def score(split: SplitName, maps: Path | None = None) -> Scores:
            return evaluate(
                teacher,
                collection,
                split,
                settings.evaluation,
                fill=teacher.fill,
                device=fabric.device,
                maps=maps,
                readers=settings.hardware.readers,
                buffer=settings.scored_buffer,
                progress=counting(report, SCORING[split], name),
            )

        plain = {}
        if settings.teacher_flips and len(checkpoints) > 1:
            teacher.flips = False
            plain = {"without_flips": quality(score("validation"), collection)}
            teacher.flips = True
        finish(
            run,
            collection,
            score("validation"),
            score("test", run.maps),
            teacher.parameters_count,
            {
                "steps": 0,
                "seconds": 0.0,
                "best_step": 0,
                "device": device_name(fabric.device),
                "megapixels_per_second": measured_speed(teacher, collection, settings, fabric),
                "members": len(checkpoints),
                **plain,
            },
        )


def evaluate_checkpoint(
    checkpoint: Path,
    folder: Path,
    split: str = "test",
    device: str = "auto",
    maps: Path | None = None,
    report: Report = ignore,
) -> dict[str, Any]:
    """Score one checkpoint, or a network that came as an ONNX file, on one part of a collection.

    Returns:
        `mean_ap`, `mean_iou`, `mean_boundary_iou` and the values of each class.

    Raises:
        CheckpointError: of other classes or bands, or trained at another ground sample distance.
        DataError: imagery of another type than the network was trained on.
        SettingsError: no such part of the split.
    """
    if split not in SPLITS:
        raise SettingsError(f"--split {split}: there is no such part; choose one of {', '.join(SPLITS)}.")
    collection = Collection.open(folder)
    names, numbers = collection.settings.class_names, collection.scenes[0].bands
    network, info = Teacher.load([checkpoint], names, collection.bands, numbers), read_member_info(checkpoint)
    here = collection.metres_per_pixel
    check_type(collection.scenes[0].image, collection.scenes[0].dtype, info)
    if info.metres_per_pixel and not same_resolution(here, info.metres_per_pixel):
        raise CheckpointError(
            f"{checkpoint}: was trained at {info.metres_per_pixel:.3g} m per pixel, but the collection gives {here:.3g} m. "
            f"Set `metres_per_pixel: {info.metres_per_pixel:.3g}` in collection.yaml."
        )
    fabric = make_fabric(device, 1, "32-true")
    network.to(fabric.device)
    scores = evaluate(
        network,
        collection,
        split,
        EvaluationSettings(),
        fill=network.fill,
        device=fabric.device,
        maps=maps,
        progress=counting(report, SCORING[split]),
    )
    return summarise(scores)


def keep_freed_memory() -> bool:
    """Let this process keep what a step frees for the next step, instead of giving it back and having it cleared again.

    glibc hands maps of more than 32 MB back at once, and the kernel clears each page anew: a sixth of a small network's step went
    there. The process grows to its largest step and stays there until it ends. Other C libraries are left as they are.

    Returns:
        Whether the C library took the settings.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    settings = {MMAP_THRESHOLD: GIBIBYTE, TRIM_THRESHOLD: 2 * GIBIBYTE - 1, TOP_PAD: GIBIBYTE // 16}
    taken = [bool(mallopt(name, value)) for name, value in settings.items()]
    return all(taken)
