"""The teacher: frozen, in evaluation mode at every forward, one network or the average of several."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from kdcore.data.batches import VIEWS
from kdcore.errors import CheckpointError
from kdcore.models.checkpoint import CheckpointInfo, check_fits, load_network
from kdcore.models.networks import SegmentationNetwork, count_parameters, without_weights
from kdcore.models.onnx import OnnxNetwork, read_info
from kdcore.settings import NetworkSettings


class Teacher(nn.Module):
    """Fixed networks whose probabilities are averaged; each brings its own normalisation and band order.

    Whatever is called on it, it stays in evaluation mode: batch-norm statistics do not drift and dropout is off. No
    gradient flows into it and nothing in it changes.

    Args:
        members: the networks.
        flips: whether each of them is asked about all eight turned and mirrored views, and what it says averaged, too.

    Shape:
        forward: (N, bands, H, W) -> logits (N, K, H, W) float32.
    """

    def __init__(self, members: Sequence[SegmentationNetwork | OnnxNetwork], flips: bool = False) -> None:
        super().__init__()
        if not members:
            raise CheckpointError("a teacher needs at least one network.")
        if len({member.logits for member in members}) > 1:
            raise CheckpointError(
                f"an ensemble's networks must give the same maps, not {[member.logits for member in members]}."
            )
        self.members = nn.ModuleList(members)
        self.flips = flips
        self.requires_grad_(False)
        self.train(False)

    @classmethod
    def load(
        cls,
        paths: Sequence[Path],
        classes: tuple[str, ...],
        bands: int,
        band_numbers: tuple[int, ...] | None = None,
        flips: bool = False,
    ) -> Self:
        """Read the members: checkpoints, or ONNX files of any framework.

        Args:
            paths: `.safetensors` or `.onnx`.
            classes: of the collection; those of an ONNX file are matched to them by name.
            bands: how many the collection gives.
            band_numbers: their numbers in the image files, which tell an ONNX file its bands; None where only their count is known.
            flips: average over the eight views.

        Raises:
            CheckpointError: missing, broken, or of other classes or bands.
        """
        members: list[SegmentationNetwork | OnnxNetwork] = []
        for path in paths:
            if is_onnx(path):
                members.append(OnnxNetwork.load(path, classes, bands, band_numbers))
                continue
            network, info = load_network(path)
            check_fits(info, classes, bands, path)
            members.append(network)
        return cls(members, flips)

    @property
    def fill(self) -> NDArray[np.float32]:
        """What stands for nodata in its imagery: (bands,), the first network's mean of each band."""
        member = self.members[0]
        assert isinstance(member, SegmentationNetwork | OnnxNetwork)
        return member.fill

    @property
    def parameters_count(self) -> int:
        """Parameters of all members together: what using this teacher costs."""
        return count_parameters(self)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever is asked."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, image: Tensor, temperature: float = 1.0) -> Tensor:
        """Logits z with softmax(z / temperature) = the average of the members' probabilities at that temperature.

        With `flips` each member counts eight times, once for each view. See `combine`.
        """
        self.train(False)  # a parent's .train() may have reached the members directly
        if self.flips:
            said = [turn_back(member(turn(image, *view)).float(), *view) for member in self.members for view in VIEWS]
        else:
            said = [member(image).float() for member in self.members]
        return said[0] if len(said) == 1 else combine(torch.stack(said), temperature)


def combine(logits: Tensor, temperature: float) -> Tensor:
    """One map of logits from several: (members, N, K, H, W) logits -> (N, K, H, W).

    One member gives its own logits. For several, `z = T * log(mean_i softmax(z_i / T))`; with one map
    `z = T * logit(mean_i sigmoid(z_i / T))`. Averaging probabilities (not logits) is what the distillation loss,
    which is linear in them, asks for (Hinton, Vinyals & Dean 2015).
    """
    if len(logits) == 1:
        return logits[0]
    stacked = logits / temperature
    if stacked.shape[2] > 1:
        return temperature * (torch.logsumexp(functional.log_softmax(stacked, dim=2), dim=0) - math.log(len(logits)))
    positive = torch.logsumexp(functional.logsigmoid(stacked), dim=0)
    negative = torch.logsumexp(functional.logsigmoid(-stacked), dim=0)
    return temperature * (positive - negative)


def turn(image: Tensor, turns: int, flip: bool) -> Tensor:
    """Rotate the last two axes by quarter turns, then mirror, as `kdcore.data.batches.turn` does with arrays."""
    turned = torch.rot90(image, turns, (-2, -1))
    return turned.flip(-1) if flip else turned


def turn_back(image: Tensor, turns: int, flip: bool) -> Tensor:
    """Undo `turn`."""
    return torch.rot90(image.flip(-1) if flip else image, -turns, (-2, -1))


def is_onnx(path: Path) -> bool:
    """Whether a network is read as ONNX, by its file's name."""
    return path.suffix.lower() == ".onnx"


def read_member_info(path: Path) -> CheckpointInfo:
    """What a checkpoint or an ONNX file was made for. The network of a foreign file is called 'onnx/' and its name.

    Raises:
        CheckpointError: missing, broken, or nothing says what its channels mean.
    """
    if not is_onnx(path):
        own = load_network(path)[1]
        return own.model_copy(update={"network": without_weights(own.network)})
    info = read_info(path)
    name = re.sub(r"[:/\\]|[^\S ]", "-", path.stem)[:200].strip() or "foreign"
    network = info.network or NetworkSettings(architecture="onnx", encoder=name)
    return info.checkpoint_info.model_copy(update={"network": network})


def check_members(paths: Sequence[Path], classes: tuple[str, ...], bands: int, band_numbers: tuple[int, ...]) -> None:
    """Refuse, without running them, networks that cannot teach on a collection.

    Raises:
        CheckpointError: says which does not fit, and why.
    """
    for path in paths:
        if is_onnx(path):
            read_info(path).fitted(classes, bands, band_numbers, path)
        else:
            check_fits(load_network(path)[1], classes, bands, path)
