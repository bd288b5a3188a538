"""A teacher's answers about scenes: the eight views of a square, what serves the answers of a crop, and how much space they take.

Nothing here needs torch, so that the size can be told before anything is computed.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kdcore.data.collection import Region
from kdcore.data.scene import Box

VIEWS = tuple((turns, flip) for flip in (False, True) for turns in range(4))
"""The eight ways in which a crop can lie: quarter turns, then mirrored or not. The first is upright."""
FLOAT16_BYTES = 2
WINDOW = 512  # pixels: what a teacher looks at at once
HALO = 64  # pixels: imagery seen around those that a window answers for


class Answers(Protocol):
    """Serves what a teacher says about crops."""

    def crop(self, region: Region, box: Box, turns: int, flip: bool) -> NDArray[np.float16]:
        """The answers for a crop that lies as `turn(crop, turns, flip)` does.

        Returns:
            (answers, channels, height, width) float16, as `kdcore.models.teacher.pack` lays them out.
        """
        ...


def turn(array: NDArray[Any], turns: int, flip: bool) -> NDArray[Any]:
    """Rotate the last two axes by `turns` quarter turns, then mirror: with both, the eight views of a square."""
    turned = np.rot90(array, turns, axes=(-2, -1))
    return turned[..., ::-1] if flip else turned


def turn_back(array: NDArray[Any], turns: int, flip: bool) -> NDArray[Any]:
    """Undo `turn`; like it, a view of the same memory."""
    return np.rot90(array[..., ::-1] if flip else array, -turns, axes=(-2, -1))


def channels(logits: int) -> int:
    """Numbers that are kept for a pixel: of several classes the logarithms of their probabilities and one for the logits' level."""
    return 1 if logits == 1 else logits + 1


def outermost(regions: Iterable[Region]) -> tuple[Region, ...]:
    """The regions that lie in no other one: blocks of a larger region are answered from there."""
    kept: list[Region] = []
    for region in sorted(regions, key=lambda region: -region.box.area):
        if find(kept, region) is None:
            kept.append(region)
    return tuple(kept)


def find(regions: Sequence[Region], wanted: Region) -> int | None:
    """Index of the region that holds all of `wanted`."""
    for index, region in enumerate(regions):
        if region.scene.image == wanted.scene.image and region.box.intersection(wanted.box) == wanted.box:
            return index
    return None


def size_of(regions: Iterable[Region], logits: int, views: int = 8, members: int = 1) -> int:
    """Bytes that the answers about regions take.

    Args:
        regions: what crops are taken from; blocks inside others take no space of their own.
        logits: maps of the teacher: one for two classes, else one a class.
        views: 8, or 1.
        members: networks of the teacher.
    """
    return bytes_of(sum(region.box.area for region in outermost(regions)), logits, views, members)


def bytes_of(pixels: int, logits: int, views: int, members: int) -> int:
    """Bytes that the answers about so many pixels take; see `size_of`."""
    return pixels * channels(logits) * views * members * FLOAT16_BYTES
