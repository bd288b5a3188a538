"""The objective of a student: what its labels and its teacher say about one batch, as named terms.

Features that decoders end with are compared as in FitNets' hint (Romero et al. 2015), at the last layer before the logits. All losses of
`kdcore.settings.OF_FEATURES` that a recipe has share one projection.
"""

from typing import cast

import torch
from torch import Tensor, nn

from kdcore import losses
from kdcore.data.batches import Batch
from kdcore.errors import SettingsError
from kdcore.models.networks import SegmentationNetwork
from kdcore.settings import ADDED, CHOICES, WITHOUT_FEATURES, Recipe
from kdcore.teacher.teacher import Teacher
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


class FeatureTeacher(nn.Module):
    """A teacher that also gives its decoder's features. Nothing in it changes, and no gradient flows into it.

    Shape:
        forward: (N, bands, H, W) -> logits (N, K, H, W) float32 and features (N, D, h, w); H and W multiples of its stride.

    Raises:
        SettingsError: the teacher is an average, or an ONNX file, or of an architecture without one last decoder layer.
    """

    def __init__(self, teacher: Teacher) -> None:
        super().__init__()
        member = teacher.members[0]
        if len(teacher.members) > 1 or teacher.flips or not isinstance(member, SegmentationNetwork):
            raise SettingsError(
                "the recipe compares features, but this teacher is an average or an ONNX file and has none of its own. "
                f"Set {WITHOUT_FEATURES}, or let one trained network teach, without flips."
            )
        self.teacher = teacher
        self.channels = member.feature_channels

    @torch.no_grad()
    def forward(self, image: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        """Logits and features of a batch of imagery; one network says the same at every temperature."""
        self.teacher.train(False)
        features, logits = cast(SegmentationNetwork, self.teacher.members[0]).features_and_logits(image)
        return logits.float(), features


class FeatureStudent(nn.Module):
    """A student and the 1x1 convolution that takes its features to the teacher's number of channels.

    The convolution is trained with the student and not kept in its checkpoints. Its first weights are a function of the seed.

    Shape:
        forward: (N, bands, H, W) -> logits (N, K, H, W) and projected features (N, channels, h, w).

    Raises:
        SettingsError: the student's architecture has no one last decoder layer.
    """

    def __init__(self, network: SegmentationNetwork, channels: int, seed: int) -> None:
        super().__init__()
        self.network = network
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.projection = losses.projection(network.feature_channels, channels)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and projected features of a batch of imagery."""
        features, logits = self.network.features_and_logits(image)
        return logits, self.projection(features)
