"""A run in one process: its data, its networks, what it is trained on and how it is scored."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from lightning_fabric import Fabric
from torch import nn

from kdcore.data.batches import Batches
from kdcore.data.collection import Collection
from kdcore.data.survey import Survey, survey
from kdcore.evaluation.scores import Scores, labelled_part
from kdcore.files import sha256
from kdcore.inference.evaluate import ALONE, Share, evaluate
from kdcore.jobs.progress import SCORING, Report, counting
from kdcore.jobs.store import RunDirectory
from kdcore.models.checkpoint import CheckpointInfo, check_fits, load_network, put_weights
from kdcore.models.networks import SegmentationNetwork, build_network
from kdcore.settings import RunSettings, SplitName
from kdcore.teacher.soft_labels import FOLDER, Served, open_soft_labels, regions_of
from kdcore.teacher.teacher import Teacher
from kdcore.training.fabric import align_buffers, share_of
from kdcore.training.results import quality
from kdcore.training.watched import Watched


@lru_cache(maxsize=2)
def prepare(path: Path, crop: int, labels: float = 1.0) -> tuple[Collection, Survey]:
    """Open and survey a collection, with a share of its labels; the arms of a study share the result."""
    collection = Collection.open(path)
    return collection, survey(collection, crop, labels=labels)


@dataclass
class Work:
    """A run in one process: its data, its network and its teacher.

    Attributes:
        fabric: at work.
        run: its directory.
        settings: of the run.
        collection, found: the data and their survey.
        network: what is trained.
        info: of its checkpoints.
        teacher: of a distilled student.
        report: is told what happens.
    """

    fabric: Fabric
    run: RunDirectory
    settings: RunSettings
    collection: Collection
    found: Survey
    network: SegmentationNetwork
    info: CheckpointInfo
    teacher: Teacher | None
    report: Report

    @classmethod
    def prepare(cls, fabric: Fabric, run: RunDirectory, report: Report) -> "Work":
        """Read the data and make the networks.

        Raises:
            KdcoreError: a file of the run's settings cannot be used.
        """
        settings = run.settings
        collection, found = prepare(settings.collection, settings.budget.crop, settings.labels)
        names, bands = collection.settings.class_names, collection.bands
        info = checkpoint_info(settings, collection)
        mean, std = found.mean.tolist(), found.std.tolist()
        network = build_network(settings.network, bands, info.logits, mean, std, seed=settings.seed)
        if settings.start is not None and not run.state.exists():
            begin_from(settings.start, network, names)
            if fabric.is_global_zero:
                run.log(f"begins from the weights of {settings.start} (SHA-256 {sha256(settings.start)})")
        teacher = None
        if settings.teacher:
            numbers = collection.scenes[0].bands
            teacher = Teacher.load(settings.teacher, names, bands, numbers, flips=settings.teacher_flips)
        return cls(fabric, run, settings, collection, found, network, info, teacher, report)

    def batches(self, served: Served | None) -> Batches:
        """This process' share of the batches."""
        budget, recipe = self.settings.budget, self.settings.recipe
        return Batches(
            self.collection,
            self.found,
            seed=self.settings.seed,
            batch_size=budget.batch_size,
            crop=budget.crop,
            rare_classes=budget.rare_classes,
            jitter=budget.jitter,
            unlabelled=round(recipe.unlabelled * budget.batch_size),
            rank=self.fabric.global_rank,
            ranks=self.fabric.world_size,
            soft_labels=served.soft_labels if served else None,
        )

    def validate(self, network: nn.Module) -> Scores:
        """Score a network on the validation split, all processes together."""
        align_buffers(self.fabric, network)
        scores = self.score(network, "validation", share=share_of(self.fabric))
        return labelled_part(scores, self.settings.labels)

    def score(self, network: nn.Module, split: SplitName, maps: Path | None = None, share: Share = ALONE) -> Scores:
        """Score a network on a split."""
        return evaluate(
            network,
            self.collection,
            split,
            self.settings.evaluation,
            fill=self.network.fill,
            device=self.fabric.device,
            maps=maps,
            readers=self.settings.hardware.readers,
            buffer=self.settings.scored_buffer,
            progress=counting(self.report, SCORING[split], self.run.path.name),
            share=share,
        )

    def watched(self) -> Watched:
        """What draws the crop that people watch."""
        return Watched(self.run, self.collection, self.settings.scored_buffer, self.fabric.device)

    def quality(self, network: nn.Module) -> float:
        """Mean AP on the validation split."""
        return quality(self.validate(network), self.collection)


@contextmanager
def ready_soft_labels(work: Work, folder: Path | None, should_stop: Callable[[], bool]) -> Iterator[Served | None]:
    """The teacher's soft labels of the scenes, ready; None where there is no teacher or where it sees the crops.

    Raises:
        Stopped: `should_stop` said so before they were ready.
    """
    fabric, run, settings, teacher = work.fabric, work.run, work.settings, work.teacher
    if teacher is None or settings.recipe.teacher_sees == "crop":
        yield None
        return
    teacher.to(fabric.device)
    alone = fabric.world_size == 1
    with open_soft_labels(
        folder or run.path.parent / FOLDER,
        work.collection,
        regions_of(work.found, settings.recipe.unlabelled > 0),
        teacher,
        settings.teacher,
        settings.hardware,
        device=fabric.device,
        report=lambda progress: work.report(replace(progress, run=run.path.name)),
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
