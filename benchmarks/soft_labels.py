"""What does a step of distillation cost when the teacher's answers are kept?

    OMP_NUM_THREADS=1 python benchmarks/soft_labels.py [--rounds 40] [--save]        # some minutes on one core

Three copies of a student train on the demo area, step by step in turn: alone, distilled with kept answers, and distilled with a
teacher that is asked at every step. A step is all that one takes: reading and turning the crops, their answers, forward, loss,
backward and AdamW. In a training the crops and answers are read in threads beside the network; here they count in full.

What building the answers took stands below: it is done once for all seeds, students and studies with the same teacher and data.

Limit: 1.02 for a step with kept answers over a step alone.
"""

import copy
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from statistics import median

import torch
from measuring import in_turn, in_words, milliseconds, parser, publish, ratio, table, verdict

from kdcore.data.batches import Batches
from kdcore.data.collection import Collection
from kdcore.data.demo import write_demo
from kdcore.data.survey import Survey, survey
from kdcore.models.checkpoint import CheckpointInfo, save_network
from kdcore.models.networks import SegmentationNetwork, build_network
from kdcore.settings import PRESETS, Budget, Hardware, Recipe
from kdcore.teacher.soft_labels import Served, kept_logits, open_soft_labels, regions_of
from kdcore.teacher.soft_labels import in_words as size_in_words
from kdcore.teacher.teacher import Teacher
from kdcore.training.objective import compute_loss
from kdcore.training.run import keep_freed_memory

LIMIT = 1.02
BUDGET = Budget(batch_size=8, crop=128)
ARMS = ("alone", "kept answers", "live teacher")


@contextmanager
def served(
    folder: Path, collection: Collection, found: Survey, name: str, views: str
) -> Iterator[tuple[Served, Teacher]]:
    """A teacher with random weights, and its answers about the demo area; what it has learnt does not change what it costs."""
    classes = collection.settings.class_names
    network = build_network(
        PRESETS[name], collection.bands, len(classes), found.mean.tolist(), found.std.tolist(), seed=1
    )
    info = CheckpointInfo(
        network=PRESETS[name],
        bands=collection.bands,
        band_numbers=collection.scenes[0].bands,
        classes=classes,
        metres_per_pixel=collection.metres_per_pixel,
        dtype=collection.scenes[0].dtype,
    )
    checkpoint = folder / f"{name}.safetensors"
    save_network(checkpoint, network, info)
    teacher = Teacher.load([checkpoint], classes, collection.bands)
    hardware = Hardware(device="cpu", cache_views=views)
    with open_soft_labels(
        folder / "answers", collection, regions_of(found, False), teacher, [checkpoint], hardware
    ) as answers:
        yield answers, teacher


def stepper(
    network: SegmentationNetwork, batches: Batches, recipe: Recipe, teacher: Teacher | None
) -> Callable[[], None]:
    """All of a step, with a copy of the network."""
    student, steps = copy.deepcopy(network).train(), count()
    optimiser = torch.optim.AdamW(student.parameters(), lr=BUDGET.learning_rate, weight_decay=BUDGET.weight_decay)

    def step() -> None:
        batch = batches.batch(next(steps))
        said = None
        if batch.teacher is not None:
            said = kept_logits(batch.teacher, recipe.temperature)
        elif teacher is not None:
            said = teacher(batch.image, recipe.temperature)
        compute_loss(student(batch.image), said, batch, recipe)["loss"].backward()
        optimiser.step()
        optimiser.zero_grad()

    return step


def measure(
    name: str, collection: Collection, found: Survey, answers: Served, teacher: Teacher, rounds: int
) -> tuple[str, ...]:
    """One row: a student."""
    classes = collection.settings.class_names
    network = build_network(
        PRESETS[name], collection.bands, len(classes), found.mean.tolist(), found.std.tolist(), seed=0
    )
    plain, taught = (
        Batches(collection, found, seed=0, batch_size=BUDGET.batch_size, crop=BUDGET.crop, soft_labels=served)
        for served in (None, answers.soft_labels)
    )
    recipe = Recipe(alpha=0.5, temperature=2)
    jobs = {
        "alone": stepper(network, plain, Recipe(alpha=0), None),
        "kept answers": stepper(network, taught, recipe, None),
        "live teacher": stepper(network, plain, recipe, teacher),
    }
    times = in_turn(jobs, rounds)
    kept = ratio(times["kept answers"].cpu, times["alone"].cpu)
    return (
        name,
        *(milliseconds(times[arm].cpu) for arm in ARMS),
        in_words(kept),
        f"{LIMIT} {verdict(kept[0], LIMIT)}",
        f"{median(times['live teacher'].cpu) / median(times['kept answers'].cpu):.2f}",
    )


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int, default=40)
    arguments.add_argument("--students", nargs="+", default=["tiny", "small"])
    arguments.add_argument("--teacher", default="light")
    chosen = arguments.parse_args()
    keep_freed_memory()  # as a training on a CPU does
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        collection = Collection.open(write_demo(folder / "area", 0))
        found = survey(collection, BUDGET.crop)
        built = []
        with served(folder, collection, found, chosen.teacher, "one") as (one, _):
            built.append(("one", size_in_words(one.bytes), f"{one.seconds:.1f}"))
        with served(folder, collection, found, chosen.teacher, "eight") as (answers, teacher):
            built.append(("eight", size_in_words(answers.bytes), f"{answers.seconds:.1f}"))
            rows = [measure(name, collection, found, answers, teacher, chosen.rounds) for name in chosen.students]
    pixels = sum(region.box.area for region in found.regions)
    header = (
        "student",
        "step alone, ms",
        "with kept answers, ms",
        "with a live teacher, ms",
        "kept / alone",
        "limit",
        "live / kept",
    )
    body = (
        table(header, rows)
        + f"\n\nDemo area, teacher `{chosen.teacher}`, crop {BUDGET.crop}, batch {BUDGET.batch_size}, T = 2, alpha = 0.5; medians of "
        f"{chosen.rounds} whole steps of each in turn, processor time of the thread, with a 95 % interval of the ratio.\n\n"
        + table(("views kept", "on the disk", "seconds to build and check"), built)
        + f"\n\n{pixels / 1e6:.2f} MPx of train regions, {len(collection.settings.classes)} classes."
    )
    publish("soft_labels", "What a step costs when soft labels are kept", body, chosen.save)


if __name__ == "__main__":
    main()
