"""What distilling costs as work grows: more images, more classes, larger crops, a larger teacher.

    OMP_NUM_THREADS=1 python benchmarks/cost_growth.py [--rounds 5] [--save]        # about five minutes on one core

One thing grows at a time, from a point in the middle that all tables share. *alone* is a step of the student (forward, loss, backward,
AdamW), *live* the same with the teacher asked about the batch, *ready* with answers that were computed before and came with the batch.
*building* is the seconds in which these answers are computed and checked, for all eight views of the imagery; *kept* is what they
take on the disk. Steps are done in turn on one batch that stays in memory; reading a batch, which happens in other threads in a training,
has columns of its own.

The imagery is the demo area, drawn with as many seeds as there are copies; other class counts come from its masks: buildings against the
rest, or the five classes told apart by a pattern of squares, too.
"""

import copy
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from shutil import copyfile
from statistics import median
from typing import NamedTuple

import numpy as np
import rasterio
import torch
from measuring import Times, in_turn, milliseconds, parser, publish, table

from kdcore.data.batches import Batch, Batches
from kdcore.data.collection import Collection
from kdcore.data.demo import CLASSES, area_settings, write_demo
from kdcore.data.survey import survey
from kdcore.models.checkpoint import CheckpointInfo, save_network
from kdcore.models.networks import SegmentationNetwork, build_network, count_parameters
from kdcore.settings import PRESETS, ClassSettings, Hardware, Recipe, SplitSettings, save
from kdcore.teacher.soft_labels import kept_logits, open_soft_labels, regions_of
from kdcore.teacher.teacher import Teacher
from kdcore.training.objective import compute_loss
from kdcore.training.run import keep_freed_memory

STUDENT, BATCH, SQUARE = "tiny", 4, 32
RECIPE = Recipe(alpha=0.5, temperature=2, teacher_sees="scene")


class Point(NamedTuple):
    """How much of everything there is."""

    copies: int = 1
    classes: int = 6
    crop: int = 128
    teacher: str = "medium"


GROWING: dict[str, tuple[Point, ...]] = {
    "images": tuple(Point(copies=copies) for copies in (1, 2, 4)),
    "classes": tuple(Point(classes=classes) for classes in (2, 6, 20)),
    "crop": tuple(Point(crop=crop) for crop in (64, 128, 256)),
    "teacher": tuple(Point(teacher=teacher) for teacher in ("light", "medium", "base")),
}


class Cost(NamedTuple):
    """What one point costs.

    Attributes:
        images: with labels.
        megapixels: of the train part.
        parameters: millions, of the teacher.
        survey: seconds for reading and counting all imagery and labels.
        building: seconds, and `kept` bytes.
        steps: of alone, live, ready, reading, and reading with answers.
    """

    images: int
    megapixels: float
    parameters: float
    survey: float
    building: float
    kept: int
    steps: dict[str, Times]


def write_area(folder: Path, point: Point, size: int) -> Path:
    """The demo area of several seeds as one collection, with another number of classes."""
    out = folder / f"area-{point.copies}-{point.classes}"
    if (out / "collection.yaml").exists():
        return out / "collection.yaml"
    for seed in range(point.copies):
        area = write_demo(folder / f"seed-{seed}", seed, size=size).parent
        for kind in ("images", "masks"):
            (out / kind).mkdir(parents=True, exist_ok=True)
            for file in (area / kind).glob("*.tif"):
                target = out / kind / f"{file.stem}-{seed}.tif"
                if kind == "images" or point.classes == len(CLASSES):
                    copyfile(file, target)
                else:
                    write_mask(file, target, point.classes)
    plain = area_settings(0)
    split = {
        part: tuple(f"{name}-*" for name in getattr(plain.split, part)) for part in ("train", "validation", "test")
    }
    classes = tuple(ClassSettings(name=f"class {value}", value=value) for value in range(point.classes))
    changes = {"classes": classes, "class_field": None, "split": SplitSettings(**split)}
    save(plain.model_copy(update=changes), out / "collection.yaml")
    return out / "collection.yaml"


def write_mask(file: Path, target: Path, classes: int) -> None:
    """Labels of a district told apart further."""
    with rasterio.open(file) as dataset:
        labels, profile = dataset.read(1).astype(int), dataset.profile
    rows, columns = np.indices(labels.shape) // SQUARE
    found = labels == 1 if classes == 2 else (labels + len(CLASSES) * ((rows + columns) % 4)) % classes
    with rasterio.open(target, "w", **profile) as dataset:
        dataset.write(found.astype(np.uint8), 1)


def measure(point: Point, folder: Path, size: int, rounds: int) -> Cost:
    """Everything about one point."""
    path = write_area(folder, point, size)
    started = time.perf_counter()
    collection = Collection.open(path)
    found = survey(collection, point.crop)
    surveyed = time.perf_counter() - started
    names = collection.settings.class_names
    info = CheckpointInfo(
        network=PRESETS[point.teacher], bands=collection.bands, band_numbers=collection.scenes[0].bands, classes=names
    )

    def network(preset: str) -> SegmentationNetwork:
        scaling = found.mean.tolist(), found.std.tolist()
        return build_network(PRESETS[preset], collection.bands, info.logits, *scaling, seed=0)

    # The file's name is not what answers are kept under: its contents are.
    checkpoint = folder / f"{point.teacher}-{point.copies}-{point.classes}-{point.crop}.safetensors"
    save_network(checkpoint, network(point.teacher), info)
    teacher = Teacher.load([checkpoint], names, collection.bands)
    regions = regions_of(found, unlabelled=False)
    with (
        tempfile.TemporaryDirectory(dir=folder) as kept,
        open_soft_labels(Path(kept), collection, regions, teacher, [checkpoint], Hardware(device="cpu")) as served,
    ):
        assert served.served == "cache", served.reason
        plain = Batches(collection, found, seed=0, batch_size=BATCH, crop=point.crop)
        ready = Batches(collection, found, seed=0, batch_size=BATCH, crop=point.crop, soft_labels=served.soft_labels)
        jobs = {
            "alone": stepper(network(STUDENT), plain.batch(0), None),
            "live": stepper(network(STUDENT), plain.batch(0), teacher),
            "ready": stepper(network(STUDENT), ready.batch(0), None),
            "reading": reader(plain),
            "reading answers": reader(ready),
        }
        steps = in_turn(jobs, rounds, warm_up=1)
    return Cost(
        images=len(collection.scenes),
        megapixels=sum(region.box.area for region in regions) / 1e6,
        parameters=count_parameters(teacher) / 1e6,
        survey=surveyed,
        building=served.seconds,
        kept=served.bytes,
        steps=steps,
    )


def stepper(student: SegmentationNetwork, batch: Batch, teacher: Teacher | None) -> Callable[[], None]:
    """A step of training: with a teacher that is asked, with answers that came with the batch, or alone."""
    network = copy.deepcopy(student).train()
    optimiser = torch.optim.AdamW(network.parameters())
    recipe = RECIPE if teacher is not None or batch.teacher is not None else RECIPE.alone

    def step() -> None:
        answers = None
        if teacher is not None:
            answers = teacher(batch.image, recipe.temperature)
        elif batch.teacher is not None:
            answers = kept_logits(batch.teacher, recipe.temperature)
        compute_loss(network(batch.image), answers, batch, recipe)["loss"].backward()
        optimiser.step()
        optimiser.zero_grad()

    return step


def reader(batches: Batches) -> Callable[[], Batch]:
    """Reads a new batch at each call."""
    steps: Iterator[int] = count()
    return lambda: batches.batch(next(steps))


def row(what: object, cost: Cost) -> tuple[str, ...]:
    """One line of a table."""
    alone = median(cost.steps["alone"].cpu)
    return (
        str(what),
        f"{cost.survey:.1f}",
        *(milliseconds(cost.steps[name].cpu) for name in ("alone", "live", "ready")),
        f"{median(cost.steps['live'].cpu) / alone:.2f}",
        f"{median(cost.steps['ready'].cpu) / alone:.2f}",
        *(milliseconds(cost.steps[name].cpu) for name in ("reading", "reading answers")),
        f"{cost.building:.1f}",
        f"{cost.kept / 1e6:.0f}",
    )


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--size", type=int, default=384, help="of a district of the demo area, in pixels")
    arguments.add_argument("--only", nargs="+", choices=GROWING, default=list(GROWING))
    chosen = arguments.parse_args()
    keep_freed_memory()  # as a training on a CPU does
    torch.set_num_threads(1)
    costs: dict[Point, Cost] = {}
    with tempfile.TemporaryDirectory() as name:
        for point in dict.fromkeys(point for growing in chosen.only for point in GROWING[growing]):
            costs[point] = measure(point, Path(name), chosen.size, chosen.rounds)
    header = (
        "survey, s",
        "step alone, ms",
        "live, ms",
        "ready, ms",
        "live / alone",
        "ready / alone",
        "reading a batch, ms",
        "with answers, ms",
        "building, s",
        "kept, MB",
    )
    in_words: dict[str, Callable[[Point], object]] = {
        "images": lambda point: f"{costs[point].images} ({costs[point].megapixels:.2f} MPx to train on)",
        "classes": lambda point: point.classes,
        "crop": lambda point: f"{point.crop} px",
        "teacher": lambda point: f"{point.teacher} ({costs[point].parameters:.1f} M)",
    }
    base = Point()
    body = (
        f"Student {STUDENT}, {BATCH} crops a step; where nothing else is said: {base.copies} copy of the demo area with districts of "
        f"{chosen.size} px, {base.classes} classes, crops of {base.crop} px, teacher {base.teacher}. Medians of {chosen.rounds} of each in "
        "turn, processor time of the thread; survey and building by the clock, once."
    )
    for growing in chosen.only:
        rows = [row(in_words[growing](point), costs[point]) for point in GROWING[growing]]
        body += f"\n\n{table((growing, *header), rows)}"
    publish("cost_growth", "What distilling costs as work grows", body, chosen.save)


if __name__ == "__main__":
    main()
