"""What does listening to a teacher cost, once the teacher has answered?

    OMP_NUM_THREADS=1 python benchmarks/distillation_cost.py [--rounds 40] [--save]        # about three minutes on one core

Two copies of a student do forward, loss, backward and AdamW on the same batch, step by step in turn: one with the task loss
alone (alpha = 0), one with `(1 - alpha) * task + alpha * T^2 * KL` and teacher logits that are there already. The teacher's
own forward is left out: it depends on the teacher.

What is added is small beside the noise of whole steps. So the two losses alone, forward and backward down to the logits, are
timed in turn as well, and their difference is set against the student's step; whole steps stand beside it as a check.

Limit: 1.03.
"""

import copy
from collections.abc import Callable
from statistics import median

import torch
from measuring import in_turn, in_words, milliseconds, parser, publish, ratio, table, verdict

from kdcore.data.batches import Batch
from kdcore.losses import IGNORE
from kdcore.models.networks import SegmentationNetwork, build_network
from kdcore.settings import PRESETS, Budget, Recipe
from kdcore.training.objective import compute_loss
from kdcore.training.run import keep_freed_memory

LIMIT = 1.03
CROP, BATCH = 128, 8
BUDGET = Budget()


def a_batch(classes: int) -> Batch:
    """Noise with labels, some to be ignored, and a border without data."""
    generator = torch.Generator().manual_seed(0)
    shape = (BATCH, CROP, CROP)
    labels = torch.randint(0, classes, shape, generator=generator).to(torch.uint8)
    valid = torch.ones(shape, dtype=torch.bool)
    valid[:, :, :4] = False
    labels[:, :4] = IGNORE
    return Batch(torch.randn(BATCH, 3, CROP, CROP, generator=generator), labels, valid)


def stepper(
    network: SegmentationNetwork, batch: Batch, recipe: Recipe, teacher: torch.Tensor | None
) -> Callable[[], None]:
    """One step of training with a copy of the network."""
    student = copy.deepcopy(network).train()
    optimiser = torch.optim.AdamW(student.parameters(), lr=BUDGET.learning_rate, weight_decay=BUDGET.weight_decay)

    def step() -> None:
        compute_loss(student(batch.image), teacher, batch, recipe)["loss"].backward()
        optimiser.step()
        optimiser.zero_grad()

    return step


def loss_only(batch: Batch, logits: torch.Tensor, recipe: Recipe, teacher: torch.Tensor | None) -> Callable[[], None]:
    """The loss and its gradient in the student's logits."""
    leaf = logits.clone().requires_grad_()

    def run() -> None:
        leaf.grad = None
        compute_loss(leaf, teacher, batch, recipe)["loss"].backward()

    return run


def measure(name: str, classes: int, rounds: int) -> tuple[str, ...]:
    """One row: a student and a number of classes."""
    maps = 1 if classes == 2 else classes
    network, batch = build_network(PRESETS[name], 3, maps, seed=0), a_batch(classes)
    generator = torch.Generator().manual_seed(1)
    student, teacher = (3 * torch.randn(BATCH, maps, CROP, CROP, generator=generator) for _ in range(2))
    recipes = {"alone": (Recipe(alpha=0), None), "distilled": (Recipe(alpha=0.5, temperature=2), teacher)}
    losses = in_turn({arm: loss_only(batch, student, *recipe) for arm, recipe in recipes.items()}, 3 * rounds)
    steps = in_turn({arm: stepper(network, batch, *recipe) for arm, recipe in recipes.items()}, rounds)
    added = median(losses["distilled"].cpu) - median(losses["alone"].cpu)
    value = 1 + added / median(steps["alone"].cpu)
    return (
        f"{name}, {classes} classes",
        milliseconds(steps["alone"].cpu),
        milliseconds(losses["alone"].cpu),
        milliseconds(losses["distilled"].cpu),
        f"{value:.3f}",
        f"{LIMIT} {verdict(value, LIMIT)}",
        in_words(ratio(steps["distilled"].cpu, steps["alone"].cpu)),
    )


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int, default=40)
    arguments.add_argument("--students", nargs="+", default=["tiny", "small"])
    chosen = arguments.parse_args()
    keep_freed_memory()  # as a training on a CPU does
    rows = [measure(name, classes, chosen.rounds) for name in chosen.students for classes in (5, 2)]
    header = (
        "student",
        "step alone, ms",
        "its loss, ms",
        "loss with teacher, ms",
        "1 + added / step",
        "limit",
        "whole steps",
    )
    body = table(header, rows) + (
        f"\n\nCrop {CROP}, batch {BATCH}, T = 2, alpha = 0.5; medians of {chosen.rounds} steps (losses: {3 * chosen.rounds}) of each in turn, "
        "processor time of the thread; whole steps with their 95 % interval."
    )
    publish("distillation_cost", "What a precomputed teacher's answer adds to a step", body, chosen.save)


if __name__ == "__main__":
    main()
