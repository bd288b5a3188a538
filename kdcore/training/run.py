"""One run from its directory: read the data, train, evaluate, report. It can be called again after any interruption."""

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import nn

from kdcore.data.batches import Batches
from kdcore.data.collection import Collection
from kdcore.data.mixed import same_resolution
from kdcore.data.survey import Survey, survey
from kdcore.errors import CheckpointError, KdcoreError, RunError, SettingsError, Stopped, unexpected
from kdcore.evaluation.scores import Scores
from kdcore.evaluation.summary import summarise
from kdcore.evaluation.validation import labelled_part
from kdcore.files import remove_half_written, sha256
from kdcore.inference.evaluate import evaluate
from kdcore.inference.source import check_type
from kdcore.jobs.progress import SCORING, Report, Stage, counting, ignore
from kdcore.jobs.store import RunDirectory
from kdcore.models.checkpoint import CheckpointInfo, check_fits, load_network, put_weights
from kdcore.models.networks import SegmentationNetwork, build_network, count_parameters
from kdcore.settings import SPLITS, EvaluationSettings, RunSettings, SplitName
from kdcore.teacher.soft_labels import FOLDER, Served, open_soft_labels, regions_of
from kdcore.teacher.teacher import Teacher, read_member_info
from kdcore.training.loop import make_fabric, train
from kdcore.training.memory import keep_freed_memory
from kdcore.training.processes import GPU_FULL, launch
from kdcore.training.results import device_name, finish, measured_speed, quality


@lru_cache(maxsize=2)
def prepare(path: Path, crop: int, labels: float = 1.0) -> tuple[Collection, Survey]:
    """Open and survey a collection, with a share of its labels; the arms of a study share the result."""
    collection = Collection.open(path)
    return collection, survey(collection, crop, labels=labels)


def execute(
    run: RunDirectory,
    report: Report = ignore,
    should_stop: Callable[[], bool] = lambda: False,
    *,
    test: bool = True,
    on_score: Callable[[int, float], None] | None = None,
    answers: Path | None = None,
) -> None:
    """Do what a run's settings say, from wherever it stands; a finished run is left as it is.

    Args:
        run: what to do, and where its files go.
        report: is told what happens.
        should_stop: asked after every step.
        test: whether the test split is scored, too; a search must not look at it.
        on_score: is told the step and mean AP of each validation; with several processes, in one of them.
        answers: folder of the teachers' answers that runs share; beside the run if not given.

    Raises:
        KdcoreError: anything the user can mend; the run's status then says so too.
        RunError: another process works on it.
    """
    if run.report.exists():
        return
    with run.working():
        remove_half_written(run.path)
        run.set_state("running")
        run.log(f"started on {platform.node()} with torch {torch.__version__}")
        try:
            hardware = run.settings.hardware
            fabric = make_fabric(hardware.device, hardware.devices, hardware.precision)
            work = partial(train_and_evaluate, test=test, on_score=on_score, answers=answers)
            launch(fabric, work, run, report, should_stop)
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


def train_and_evaluate(
    fabric: Fabric,
    run: RunDirectory,
    report: Report,
    should_stop: Callable[[], bool],
    test: bool = True,
    on_score: Callable[[int, float], None] | None = None,
    answers: Path | None = None,
) -> None:
    """The work of one process of a run."""
    settings, name = run.settings, run.path.name
    if fabric.device.type == "cpu":
        keep_freed_memory()
    collection, found = prepare(settings.collection, settings.budget.crop, settings.labels)
    names = collection.settings.class_names
    info = checkpoint_info(settings, collection)
    network = build_network(
        settings.network, collection.bands, info.logits, found.mean.tolist(), found.std.tolist(), seed=settings.seed
    )
    if settings.start is not None and not run.state.exists():
        begin_from(settings.start, network, names)
        if fabric.is_global_zero:
            run.log(f"begins from the weights of {settings.start} (SHA-256 {sha256(settings.start)})")
    teacher = None
    if settings.recipe.alpha > 0:
        numbers = collection.scenes[0].bands
        teacher = Teacher.load(settings.teacher, names, collection.bands, numbers, flips=settings.teacher_flips)

    def score(candidate: nn.Module, split: SplitName = "validation", maps: Path | None = None) -> Scores:
        scores = evaluate(
            candidate,
            collection,
            split,
            settings.evaluation,
            fill=network.fill,
            device=fabric.device,
            maps=maps,
            readers=settings.hardware.readers,
            buffer=settings.scored_buffer,
            autocast=fabric.autocast,
            progress=counting(report, SCORING[split], name),
        )
        return scores if split == "test" else labelled_part(scores, settings.labels)

    try:
        with answering(fabric, run, collection, found, teacher, answers, report, should_stop) as served:
            batches = Batches(
                collection,
                found,
                seed=settings.seed,
                batch_size=settings.budget.batch_size,
                crop=settings.budget.crop,
                rare_classes=settings.budget.rare_classes,
                jitter=settings.budget.jitter,
                unlabelled=round(settings.recipe.unlabelled * settings.budget.batch_size),
                rank=fabric.global_rank,
                ranks=fabric.world_size,
                soft_labels=served.soft_labels if served else None,
            )
            progress = train(
                run,
                network,
                info,
                batches,
                None if served else teacher,
                fabric=fabric,
                validate=lambda candidate: quality(score(candidate), collection),
                on_step=counting(report, Stage.TRAINING, name),
                on_score=on_score,
                should_stop=should_stop,
            )
    except Stopped:  # before the first step
        run.set_state("stopped", "stopped on request; resume to go on")
        return
    if progress.step < settings.budget.steps:
        if fabric.is_global_zero:
            run.set_state("stopped", "stopped on request; resume to go on")
        return
    if not fabric.is_global_zero:
        return
    last = {}
    if settings.budget.ema:
        averaged = [line["validation_mean_ap"] for line in run.read_metrics() if "validation_mean_ap" in line][-1]
        last = {"last_weights": {"as_they_are": quality(score(network), collection), "averaged": averaged}}
    best, _ = load_network(run.best)
    best.to(fabric.device)
    finish(
        run,
        collection,
        score(best),
        score(best, "test", run.maps) if test else None,
        count_parameters(best),
        {
            "steps": progress.step,
            "seconds": round(progress.seconds, 2),
            "best_step": progress.best_step,
            "labels": round(found.labels, 4),
            "device": device_name(fabric.device),
            "megapixels_per_second": measured_speed(best, collection, settings, fabric),
            **({"soft_labels": served.values} if served else {}),
            **last,
        },
    )


@contextmanager
def answering(
    fabric: Fabric,
    run: RunDirectory,
    collection: Collection,
    found: Survey,
    teacher: Teacher | None,
    folder: Path | None,
    report: Report,
    should_stop: Callable[[], bool],
) -> Iterator[Served | None]:
    """The teacher's soft labels of the scenes, ready; None where there is no teacher or where it sees the crops.

    Raises:
        Stopped: `should_stop` said so before they were ready.
    """
    settings = run.settings
    if teacher is None or settings.recipe.teacher_sees == "crop":
        yield None
        return
    teacher.to(fabric.device)
    alone = fabric.world_size == 1
    with open_soft_labels(
        folder or run.path.parent / FOLDER,
        collection,
        regions_of(found, settings.recipe.unlabelled > 0),
        teacher,
        settings.teacher,
        settings.hardware,
        device=fabric.device,
        report=lambda progress: report(replace(progress, run=run.path.name)),
        log=run.log if fabric.is_global_zero else lambda text: None,
        # Several processes agree to stop at the same moment, and here each has windows of its own.
        should_stop=should_stop if alone else lambda: False,
    ) as served:
        if served.served == "cache":
            teacher.to("meta")  # nobody asks it again: its memory is the student's now
        fabric.barrier()
        yield served


def begin_from(start: Path, network: SegmentationNetwork, classes: tuple[str, ...]) -> None:
    """Put the weights of a checkpoint, its normalisation included, into a network that is to be trained on.

    Raises:
        CheckpointError: missing, broken, or of another network, other classes or bands.
    """
    weights, about = load_network(start)
    check_fits(about, classes, network.bands, start)
    put_weights(network, dict(weights.state_dict()), start)


def evaluate_ensemble(
    run: RunDirectory, checkpoints: list[Path], collection: Collection, report: Report = ignore
) -> None:
    """Score a teacher of existing checkpoints as a run of its own, without training; with flips also what they add."""
    if run.report.exists():
        return
    settings, name = run.settings, run.path.name
    with run.working():
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
                autocast=fabric.autocast,
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


def checkpoint_info(settings: RunSettings, collection: Collection) -> CheckpointInfo:
    """What to write into this run's checkpoints."""
    return CheckpointInfo(
        network=settings.network,
        bands=collection.bands,
        band_numbers=collection.scenes[0].bands,
        classes=collection.settings.class_names,
        colours=tuple(entry.colour for entry in collection.settings.classes),
        metres_per_pixel=collection.metres_per_pixel,
        dtype=collection.scenes[0].dtype,
        arm=settings.arm,
        seed=settings.seed,
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
        CheckpointError: of other classes or bands, or trained at another ground resolution.
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
