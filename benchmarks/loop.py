"""What does a step of the training loop cost, beside the network's own work?

    OMP_NUM_THREADS=1 python benchmarks/loop.py [--steps 60] [--wall-steps 240] [--save]    # about four minutes on one core

`kdcore.training.loop.train` runs with everything that belongs to a step: reading crops in threads, gradient clipping,
the learning rate's schedule, the check for NaN, metrics and status on disk. In turn with it a bare copy of the same
network does forward, cross-entropy, backward and AdamW on one batch that stays in memory. Validation and saved states
are left out: how often they happen is a setting of the budget.

Three ways, because other programs disturb the later ones more:

- *What is around the network*: processor time of the thread that trains, loop minus bare, measured where the network has little
  to do (one crop of 32 px) but as many parameters to clip and as much to write; and the loop's loss minus torch's own, at full
  size. Their sum is set against the bare step at full size.
- *Whole steps*: processor time of that thread at full size, step by step in turn. The processor time of reading a batch, which
  happens in other threads, stands beside it: it is hidden while the readers have a core, or that part of one, to themselves.
- *By the clock*: in turns of 20 steps. The first ones of each turn are not counted, for batches were read ahead meanwhile.

Limit: 1.05.
"""

import copy
import tempfile
from itertools import count
from pathlib import Path
from statistics import median

import torch
from measuring import Times, in_turn, in_words, milliseconds, now, parser, publish, ratio, table, verdict
from torch.nn import functional

from kdcore.data.batches import Batch, Batches
from kdcore.data.collection import Collection
from kdcore.data.demo import write_demo
from kdcore.data.survey import survey
from kdcore.jobs.store import RunDirectory
from kdcore.losses import IGNORE
from kdcore.models.checkpoint import CheckpointInfo
from kdcore.models.networks import build_network
from kdcore.settings import PRESETS, Budget, Hardware, Recipe, RunSettings
from kdcore.training.fabric import make_fabric
from kdcore.training.loop import train
from kdcore.training.objective import compute_loss
from kdcore.training.run import keep_freed_memory

LIMIT = 1.05
CROP, BATCH = 128, 8
CLOCK_TURN, CLOCK_SKIPPED = 20, 8  # steps; at most 5 batches are read ahead


def measure(
    student: str,
    path: Path,
    run: Path,
    steps: int,
    turn: int = 1,
    skipped: int = 0,
    crop: int = CROP,
    size: int = BATCH,
) -> tuple[Times, Times, Times]:
    """Times of the loop's steps, of the bare ones, and of reading a batch of `size` crops.

    `turn` steps of one and of the other take turns, and the first `skipped` of each turn are not counted.
    """
    collection = Collection.open(path)
    found = survey(collection, CROP)
    classes = collection.settings.class_names
    budget = Budget(steps=steps, crop=crop, batch_size=size, validate_every=10**6, save_every=10**6)
    settings = RunSettings(
        arm="alone",
        seed=0,
        collection=path,
        network=PRESETS[student],
        recipe=Recipe(alpha=0),
        budget=budget,
        hardware=Hardware(device="cpu"),
    )
    network = build_network(
        settings.network, collection.bands, len(classes), found.mean.tolist(), found.std.tolist(), seed=0
    )
    batches = Batches(collection, found, seed=0, batch_size=budget.batch_size, crop=budget.crop)

    bare = copy.deepcopy(network).train()
    optimiser = torch.optim.AdamW(bare.parameters(), lr=budget.learning_rate, weight_decay=budget.weight_decay)
    batch = batches.batch(0)
    target = batch.labels.long()

    def bare_step() -> None:
        functional.cross_entropy(bare(batch.image), target, ignore_index=IGNORE).backward()
        optimiser.step()
        optimiser.zero_grad()

    loop_times, bare_times, steps_read = Times(), Times(), count(steps)
    last = now()

    def on_step(done: int, _: int) -> None:
        nonlocal last
        wall, cpu = now()
        if done > 1 and (done - 1) % turn >= skipped:
            loop_times.add(wall - last[0], cpu - last[1])
        if done % turn == 0:
            for index in range(turn):
                before = now()
                bare_step()
                after = now()
                if done > 1 and index >= skipped:
                    bare_times.add(after[0] - before[0], after[1] - before[1])
        last = now()

    train(
        RunDirectory.create(run, settings),
        network,
        CheckpointInfo(network=settings.network, bands=collection.bands, band_numbers=(1, 2, 3), classes=classes),
        batches,
        None,
        fabric=make_fabric("cpu", 1, "32-true"),
        validate=lambda _: 0.0,
        on_step=on_step,
    )
    reading = in_turn({"read": lambda: batches.batch(next(steps_read))}, rounds=10, warm_up=0)["read"]
    return loop_times, bare_times, reading


def loss_times(rounds: int) -> tuple[Times, Times]:
    """Forward and backward of the loop's loss, and of torch's own, at full size."""
    logits = torch.randn(BATCH, 5, CROP, CROP, requires_grad=True)
    labels = torch.randint(0, 5, (BATCH, CROP, CROP)).to(torch.uint8)
    batch = Batch(torch.empty(0), labels, torch.ones(labels.shape, dtype=torch.bool))
    target, recipe = labels.long(), Recipe(alpha=0)
    times = in_turn(
        {
            "loop": lambda: compute_loss(logits, None, batch, recipe)["loss"].backward(),
            "bare": lambda: functional.cross_entropy(logits, target, ignore_index=IGNORE).backward(),
        },
        rounds,
    )
    return times["loop"], times["bare"]


def judged(value: float) -> str:
    """The limit and whether it is kept."""
    return f"{LIMIT} {verdict(value, LIMIT)}"


def processor_row(student: str, path: Path, folder: Path, steps: int) -> tuple[str, ...]:
    """What is around the network, and whole steps, of one student."""
    around, cheap, _ = measure(student, path, folder / f"{student}-cheap", 4 * steps, crop=32, size=1)
    loop_loss, bare_loss = loss_times(3 * steps)
    loop, bare, reading = measure(student, path, folder / f"{student}-whole", steps)
    extra = median(around.cpu) - median(cheap.cpu) + median(loop_loss.cpu) - median(bare_loss.cpu)
    value = 1 + extra / median(bare.cpu)
    return (
        student,
        milliseconds(bare.cpu),
        milliseconds([extra]),
        f"{value:.3f}",
        judged(value),
        in_words(ratio(loop.cpu, bare.cpu)),
        f"{milliseconds(reading.cpu)} ({100 * median(reading.cpu) / median(bare.cpu):.0f} %)",
    )


def clock_row(student: str, path: Path, folder: Path, steps: int) -> tuple[str, ...]:
    """Whole steps by the clock of one student."""
    loop, bare, _ = measure(student, path, folder / f"{student}-clock", steps, CLOCK_TURN, CLOCK_SKIPPED)
    value = ratio(loop.wall, bare.wall)
    return student, milliseconds(bare.wall), milliseconds(loop.wall), in_words(value), judged(value[0])


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--steps", type=int, default=60, help="of each of the two, in turn")
    arguments.add_argument("--wall-steps", type=int, default=240, help="the same by the clock; 0 leaves it out")
    arguments.add_argument("--students", nargs="+", default=["tiny", "small"])
    arguments.add_argument("--area", type=Path, help="where the demo area lies or is to be made; else it is temporary")
    chosen = arguments.parse_args()
    keep_freed_memory()  # as a training on a CPU does
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = write_demo(chosen.area or folder / "area", size=384)
        rows = [processor_row(student, path, folder, chosen.steps) for student in chosen.students]
        clock = [
            clock_row(student, path, folder, chosen.wall_steps) for student in chosen.students if chosen.wall_steps
        ]
    header = (
        "student",
        "bare step, ms",
        "around it, ms",
        "1 + around / bare",
        "limit",
        "whole steps",
        "reading a batch, ms",
    )
    body = (
        f"Demo area, five classes, crop {CROP}, batch {BATCH}; medians of {chosen.steps} steps of each, in turn (four times as many where the "
        "network has little to do); ratios with 95 % intervals.\n\n"
        "Processor time of the thread that trains; reading happens in other threads:\n\n" + table(header, rows)
    )
    if clock:
        body += f"\n\nBy the clock, {chosen.wall_steps} steps of each in turns of {CLOCK_TURN}:\n\n"
        body += table(("student", "bare step, ms", "step of the loop, ms", "ratio", "limit"), clock)
    publish("loop", "A step of the loop against the network's bare work", body, chosen.save)


if __name__ == "__main__":
    main()
