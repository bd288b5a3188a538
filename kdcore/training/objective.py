"""The objective of a student: what its labels and its teacher say about one batch, as named terms."""

import torch
from torch import Tensor

from kdcore import losses
from kdcore.data.batches import Batch
from kdcore.settings import ADDED, CHOICES, Recipe
from kdcore.training.mixing import Blend


def compute_loss(
    logits: Tensor,
    teacher_logits: Tensor | None,
    batch: Batch,
    recipe: Recipe,
    features: tuple[Tensor, Tensor] | None = None,
) -> dict[str, Tensor]:
    """The loss of a batch and its terms: `(1 - alpha) * task + alpha * (main term + weight * each added term)`.

    Args:
        logits: (N, K, H, W) of the student.
        teacher_logits: (N, K, h, w), or None where alpha is 0.
        batch: labels (255 = ignore) and valid pixels.
        recipe: temperature, alpha and which losses.
        features: the student's, projected, (N, D, H', W') and the teacher's (N, D, h', w'), where the recipe compares them.

    Returns:
        `loss`, `task` and, with a teacher, `distillation` (which contains T^2) and each of `recipe.weights`, without its weight.
    """
    valid = None if batch.complete else batch.valid
    logits = (
        logits.contiguous()
    )  # class by class, as the teacher's soft labels lie: mixed layouts make each operation slow
    if recipe.alpha == 1:
        task = logits.new_zeros((), dtype=torch.float32)
    else:
        task = task_loss(logits, batch.labels, valid, recipe)
        if isinstance(batch, Blend):
            other = task_loss(logits, batch.other_labels, valid, recipe)
            task = batch.share * task + (1 - batch.share) * other
    if teacher_logits is None:
        return {"loss": task, "task": task}
    named = {"distillation": CHOICES[recipe.distillation]} | {name: ADDED[name] for name in recipe.weights}
    pairs = {
        "logits": (logits, teacher_logits, recipe.temperature),
        "classes": (logits, teacher_logits),
        "features": features or (),
    }
    counted: dict[str, Tensor] = {}
    share: Tensor | float = 1.0
    if recipe.confidence:
        counted["distillation"], share = losses.confident(teacher_logits, recipe.confidence, batch.valid)
    terms: dict[str, Tensor] = {
        name: getattr(losses, method.loss)(*pairs[method.compares], counted.get(name, valid))
        for name, method in named.items()
    }
    terms["distillation"] = distilled = share * terms["distillation"]
    for name, weight in recipe.weights.items():
        distilled = distilled + weight * terms[name]
    return {"loss": losses.combine(task, distilled, recipe.alpha), "task": task, **terms}


def task_loss(logits: Tensor, labels: Tensor, valid: Tensor | None, recipe: Recipe) -> Tensor:
    """Cross-entropy over the pixels that are valid and labelled, and Dice where the recipe adds it."""
    loss = losses.binary_cross_entropy if logits.shape[1] == 1 else losses.cross_entropy
    task = loss(logits, labels, valid)
    return task + losses.dice(logits, labels, valid) if recipe.task == "cross_entropy+dice" else task
