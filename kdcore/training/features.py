"""The features that decoders end with, compared: FitNets' hint (Romero et al. 2015) at the last layer before the logits.

All losses of `kdcore.settings.OF_FEATURES` that a recipe has share one projection.
"""

from typing import cast

import torch
from torch import Tensor, nn

from kdcore import losses
from kdcore.errors import SettingsError
from kdcore.models.networks import SegmentationNetwork
from kdcore.settings import WITHOUT_FEATURES
from kdcore.teacher.teacher import Teacher


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
            torch.manual_seed(seed)
            self.projection = losses.projection(network.feature_channels, channels)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and projected features of a batch of imagery."""
        features, logits = self.network.features_and_logits(image)
        return logits, self.projection(features)
