"""One way of distilling, in a process of its own: `distillation_contenders.py` starts this with the Python that has the library.

    python benchmarks/distillation_peers.py NAME COLLECTION.yaml TEACHER.safetensors STUDENT FOLDER [--crop 128] [--batch 8]

Does one step, then as many as each line of its standard input asks for, and ends with that input. It answers the first step and
every line with a line of JSON on its standard output: seconds by the clock, processor seconds of the thread that trains and of the whole
process, its largest memory so far, the loss of the first step, and how long each stage before the first step took.

All ways see the same crops in the same order, read ahead by the same two threads, and begin with the same weights. All do forward, loss,
backward, clipping of the gradient to 1, and AdamW, and look at the loss of each step, as a training does that ends when it is no number.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from measuring import megabytes, now
from torch import Tensor, nn
from torch.nn import functional

from kdcore.data.batches import Batch, Batches, read_ahead
from kdcore.data.collection import Collection
from kdcore.data.survey import survey
from kdcore.jobs.progress import Progress
from kdcore.jobs.store import RunDirectory
from kdcore.losses import IGNORE
from kdcore.models.checkpoint import load_network
from kdcore.models.networks import build_network
from kdcore.settings import PRESETS, Budget, Hardware, Recipe, RunSettings
from kdcore.training.run import execute

ALPHA, TEMPERATURE, CLIP = 0.5, 2.0, 1.0
MOST_STEPS, READERS = 1000, 2
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-2
ANSWERS = os.fdopen(os.dup(1), "w", encoding="utf-8")  # what libraries print must not come between


class Turns:
    """Does as many steps as are asked for, and says what they took."""

    def __init__(self) -> None:
        self.left, self.over = 1, False
        self.first_loss: Callable[[], float] = lambda: float("nan")
        self.stages: dict[str, float] = {}
        self.since, self.processor = now(), time.process_time()

    def step_done(self) -> None:
        """To be called after every step; waits where a turn has ended."""
        self.left -= 1
        if self.left > 0:
            return
        wall, thread = now()
        values = {
            "wall": wall - self.since[0],
            "thread": thread - self.since[1],
            "process": time.process_time() - self.processor,  # what was read ahead between turns counts, too
            "peak_mb": megabytes(os.getpid())[1],
            "first_loss": self.first_loss(),
            "stages": self.stages,
        }
        print(json.dumps(values), file=ANSWERS, flush=True)
        self.processor = time.process_time()
        asked = sys.stdin.readline().strip()
        self.over, self.left = not asked, int(asked or 0)
        self.since = now()


def ours(chosen: argparse.Namespace, recipe: Recipe, turns: Turns) -> None:
    """A run of this project, from its settings on: everything that `kdcore study` does for an arm."""
    settings = RunSettings(
        arm="distilled" if recipe.alpha else "alone",
        seed=0,
        collection=chosen.collection,
        network=PRESETS[chosen.student],
        recipe=recipe,
        budget=Budget(
            steps=MOST_STEPS, crop=chosen.crop, batch_size=chosen.batch, validate_every=10**6, save_every=10**6
        ),
        hardware=Hardware(device="cpu", readers=READERS, cache_views=chosen.views),
        teacher=(chosen.teacher,) if recipe.alpha else (),
    )
    run = RunDirectory.create(chosen.folder / "study" / "runs" / chosen.name, settings)
    turns.first_loss = lambda: float(json.loads(run.metrics.read_text().splitlines()[0])["loss"])
    last, since = "", time.perf_counter()

    def report(progress: Progress) -> None:
        nonlocal last, since
        stage = progress.stage.value
        here = time.perf_counter()
        if (
            stage != "training" or last != "training"
        ):  # what happens from one report to the next of the same stage belongs to it
            name = stage if stage == last else f"before {stage}"
            turns.stages[name] = turns.stages.get(name, 0.0) + here - since
        last = stage
        if stage == "training":
            turns.step_done()
        since = time.perf_counter()

    execute(run, report, lambda: turns.over, test=False)


class TwoMaps(nn.Module):
    """Gives one map z as the two maps (0, z), whose softmax is the sigmoid of z: for losses that know classes only."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """(N, bands, H, W) -> (N, 2, H, W)."""
        logits = self.network(image)
        return torch.cat([torch.zeros_like(logits), logits], 1)


def ingredients(chosen: argparse.Namespace) -> tuple[nn.Module, nn.Module, Iterator[Batch]]:
    """Teacher, student and the crops of a run with seed 0."""
    collection = Collection.open(chosen.collection)
    found = survey(collection, chosen.crop)
    teacher, info = load_network(chosen.teacher)
    network = PRESETS[chosen.student]
    student = build_network(network, collection.bands, info.logits, found.mean.tolist(), found.std.tolist(), seed=0)
    batches = Batches(collection, found, seed=0, batch_size=chosen.batch, crop=chosen.crop)
    return teacher, student, read_ahead(batches.batch, range(MOST_STEPS), READERS)


def plain(chosen: argparse.Namespace, turns: Turns) -> None:
    """A loop as a careful engineer writes it: frozen teacher in evaluation mode, KL summed over classes, mean over valid pixels."""
    teacher, student, feed = ingredients(chosen)
    teacher.eval().requires_grad_(False)
    student.train()
    optimiser = torch.optim.AdamW(student.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    for batch in feed:
        with torch.no_grad():
            answers = teacher(batch.image)
        task, each = plain_losses(student(batch.image), answers, batch)
        distillation = TEMPERATURE**2 * (each * batch.valid).sum() / batch.valid.sum()
        loss = (1 - ALPHA) * task + ALPHA * distillation
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), CLIP)
        optimiser.step()
        if told(loss, turns):
            return


def plain_losses(logits: Tensor, answers: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Task loss, and KL of each pixel (N, H, W) at the temperature."""
    q, p = logits / TEMPERATURE, answers / TEMPERATURE
    if logits.shape[1] > 1:
        task = functional.cross_entropy(logits, batch.labels.long(), ignore_index=IGNORE)
        log_p = functional.log_softmax(p, 1)
        each = functional.kl_div(functional.log_softmax(q, 1), log_p, reduction="none", log_target=True).sum(1)
        return task, each
    known = batch.labels != IGNORE
    task = functional.binary_cross_entropy_with_logits(logits[:, 0][known], batch.labels[known].float())
    soft = p.sigmoid()
    cross, own = (functional.binary_cross_entropy_with_logits(z, soft, reduction="none") for z in (q, p))
    return task, (cross - own)[:, 0]


def torchdistill(chosen: argparse.Namespace, turns: Turns) -> None:
    """`DistillationBox` with `KDLoss`, in the loop of the library's own example for segmentation."""
    from distillation_losses import box_settings
    from torchdistill.core.distillation import get_distillation_box

    teacher, student, feed = ingredients(chosen)
    if load_network(chosen.teacher)[1].logits == 1:
        teacher, student = TwoMaps(teacher), TwoMaps(student)
    teacher.eval()  # not done by the library
    box: Any = get_distillation_box(
        teacher, student, {}, box_settings(ALPHA, TEMPERATURE, LEARNING_RATE), torch.device("cpu"), [], False, 1
    )
    box.pre_epoch_process(epoch=0)
    for batch in feed:
        loss = box.forward_process(batch.image, batch.labels.long(), None)
        box.post_forward_process(loss=loss)
        if told(loss, turns):
            return


def told(loss: Tensor, turns: Turns) -> bool:
    """After a step: look at its loss; True where no more steps are wanted.

    Raises:
        SystemExit: it is no number.
    """
    value = loss.item()
    if value != value:
        raise SystemExit("the loss became NaN")
    if turns.first_loss() != turns.first_loss():
        turns.first_loss = lambda: value
    turns.step_done()
    return turns.over


RECIPES = {
    "alone": Recipe(alpha=0),
    "cached": Recipe(alpha=ALPHA, temperature=TEMPERATURE, teacher_sees="scene"),
    "build": Recipe(alpha=ALPHA, temperature=TEMPERATURE, teacher_sees="scene"),  # the same, the first time
    "live": Recipe(alpha=ALPHA, temperature=TEMPERATURE, teacher_sees="crop"),
}
OTHERS = {"plain": plain, "torchdistill": torchdistill}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=[*RECIPES, *OTHERS])
    parser.add_argument("collection", type=Path)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("student", choices=PRESETS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--views", choices=("eight", "one"), default="eight")
    chosen = parser.parse_args()
    os.dup2(2, 1)
    torch.set_num_threads(1)
    turns = Turns()
    if chosen.name in RECIPES:
        ours(chosen, RECIPES[chosen.name], turns)
    else:
        OTHERS[chosen.name](chosen, turns)


if __name__ == "__main__":
    main()
