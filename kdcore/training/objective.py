"""The objective of a student: what its labels and its teacher say about one batch, as named terms."""

import torch
from torch import Tensor

from kdcore import losses
from kdcore.data.batches import Batch
from kdcore.settings import Recipe


def compute_loss(logits: Tensor, teacher_logits: Tensor | None, batch: Batch, recipe: Recipe) -> dict[str, Tensor]:
    """The loss of a batch and its terms: `(1 - alpha) * task + alpha * T^2 * KL`.

    Args:
        logits: (N, K, H, W) of the student.
        teacher_logits: (N, K, h, w), or None where alpha is 0.
        batch: labels (255 = ignore) and valid pixels.
        recipe: temperature, alpha and which losses.

    Returns:
        `loss`, `task` and, with a teacher, `distillation` (which contains T^2).
    """
    if recipe.alpha == 1:
        task = logits.new_zeros((), dtype=torch.float32)
    elif logits.shape[1] == 1:
        task = losses.binary_cross_entropy(logits, batch.labels, batch.valid)
    else:
        task = losses.cross_entropy(logits, batch.labels, batch.valid)
    if recipe.task == "cross_entropy+dice" and recipe.alpha < 1:
        task = task + losses.dice(logits, batch.labels, batch.valid)
    if teacher_logits is None:
        return {"loss": task, "task": task}
    if recipe.distillation == "channel":
        distillation = losses.channel_kl(logits, teacher_logits, recipe.temperature, batch.valid)
    else:
        distillation = losses.distillation(logits, teacher_logits, recipe.temperature, batch.valid)
    return {"loss": losses.combine(task, distillation, recipe.alpha), "task": task, "distillation": distillation}
