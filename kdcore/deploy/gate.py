"""May the 8-bit form of a network be used? Only if it surely loses less than a margin, on the validation split."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import nn

from kdcore.data.collection import Collection
from kdcore.deploy.record import Difference
from kdcore.evaluation.compare import compare, summarise
from kdcore.evaluation.scores import Scores
from kdcore.inference.evaluate import evaluate
from kdcore.models.networks import SegmentationNetwork
from kdcore.models.onnx import OnnxNetwork
from kdcore.settings import EvaluationSettings

MARGIN = 1.0  # points of mean AP
HALO = 64


@dataclass(frozen=True)
class Gate:
    """What came out when two forms of a network were scored on the same tiles.

    Attributes:
        reference_ap, candidate_ap: mean AP; NaN where no scored class occurs.
        difference: of the two in points, paired by tile; None where one tile or none makes it unknown.
        tiles: of the validation split.
    """

    reference_ap: float
    candidate_ap: float
    difference: Difference | None
    tiles: int

    def passes(self, margin: float = MARGIN) -> bool:
        """Whether the loss is below the margin (points) with 95 % confidence."""
        return self.difference is not None and self.difference.low > -margin

    def sentence(self, margin: float = MARGIN) -> str:
        """The verdict with its numbers."""
        if self.difference is None:
            return (
                f"The 8-bit form cannot be judged: the validation split has {self.tiles} labelled "
                f"tile{'' if self.tiles == 1 else 's'}, which says nothing about its quality. Label more of it."
            )
        found = self.difference
        numbers = (
            f"{found.points:+.2f} points of mean AP (95 % interval {found.low:+.2f} to {found.high:+.2f}, {self.tiles} tiles; "
            f"{100 * self.reference_ap:.2f} in float, {100 * self.candidate_ap:.2f} with 8 bits)"
        )
        if self.passes(margin):
            return f"The 8-bit form loses less than {margin:g} points: {numbers}."
        return f"The 8-bit form was refused, because it may lose {margin:g} points or more: {numbers}."


def gate(
    reference: SegmentationNetwork | OnnxNetwork,
    candidate: SegmentationNetwork | OnnxNetwork,
    collection: Collection,
    tile: int,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Gate:
    """Score two forms of a network on the validation split, and compare them.

    Args:
        reference: the network, or its float export.
        candidate: the form that is to be judged.
        collection: that it was trained on.
        tile: side of what the exported networks take, pixels.
        progress: is told a stage, windows done and windows in all.
    """
    return judge(
        score(reference, collection, tile, lambda done, total: progress("scoring in float", done, total)),
        score(candidate, collection, tile, lambda done, total: progress("scoring with 8 bits", done, total)),
    )


def judge(reference: Scores, candidate: Scores) -> Gate:
    """Compare the scores of two forms of a network on the same tiles."""
    found = compare([reference], [candidate]).mean_ap_points
    known = all(math.isfinite(value) for value in (found.mean, found.low, found.high))
    return Gate(
        reference_ap=as_number(summarise(reference)["mean_ap"]),
        candidate_ap=as_number(summarise(candidate)["mean_ap"]),
        difference=Difference(points=found.mean, low=found.low, high=found.high) if known else None,
        tiles=len(reference.tiles),
    )


def score(
    network: nn.Module,
    collection: Collection,
    tile: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Scores:
    """Score one form on the validation split, in windows that fill its tiles."""
    assert isinstance(network, SegmentationNetwork | OnnxNetwork)
    return evaluate(network, collection, "validation", windows_of(tile), fill=network.fill, progress=progress)


def windows_of(tile: int) -> EvaluationSettings:
    """Windows that are a tile with their halo, or the tile itself where it is too small for one."""
    unit = 128 if tile >= 256 else 32
    window = (tile - 2 * HALO) // unit * unit
    if window < unit or (tile - window) % 64:
        window = tile
        unit = next(size for size in (128, 96, 64, 32) if tile % size == 0)
    return EvaluationSettings(tile=unit, window=window, halo=(tile - window) // 2)


def as_number(value: float | None) -> float:
    """NaN for None."""
    return np.nan if value is None else float(value)
