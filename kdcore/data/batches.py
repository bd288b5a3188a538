"""Training crops: the batch of a step is a pure function of (collection, seed, step).

So every arm of a study sees the same crops in the same order, a run resumes at any step exactly, and the processes of a
data-parallel run need no sampler state.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdcore.data.collection import Collection, Region
from kdcore.data.masks import IGNORE
from kdcore.data.scene import Box, Crop
from kdcore.data.survey import CELL, Survey
from kdcore.errors import DataError

Item = TypeVar("Item")
UNLABELLED_STREAM = 1_000_003  # keeps the random numbers of unlabelled crops apart from those of labelled ones
VIEWS = tuple((turns, flip) for flip in (False, True) for turns in range(4))
"""The eight ways in which a crop can lie: quarter turns, then mirrored or not. The first is upright."""


class SoftLabelSource(Protocol):
    """Serves what a teacher says of each pixel of crops."""

    def crop(self, region: Region, box: Box, turns: int, flip: bool) -> NDArray[np.float16]:
        """The soft labels of a crop that lies as `turn(crop, turns, flip)` does.

        Returns:
            (networks, channels, height, width) float16, as `kdcore.teacher.views.pack` lays them out.
        """
        ...


@dataclass
class Batch:
    """Crops of one step; the last `unlabelled` of them have no labels.

    Attributes:
        image: (N, bands, height, width) float32 in the raster's units, nodata filled with the train mean.
        labels: (N, height, width) uint8 class indices, 255 = ignore.
        valid: (N, height, width) bool, False on nodata.
        teacher: (N, networks, channels, height, width) float16, a teacher's soft labels of these very views; see
            `kdcore.teacher.views.pack`. None where there are none.
        complete: whether every pixel is known to be valid, so that nothing has to be masked.
        weak: `image` as a teacher sees it, where the student's is augmented strongly; None where both see the same.
    """

    image: Tensor
    labels: Tensor
    valid: Tensor
    teacher: Tensor | None = None
    complete: bool = False
    weak: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """The same batch with each tensor changed, for example moved to a device."""
        teacher, weak = (None if part is None else change(part) for part in (self.teacher, self.weak))
        return Batch(change(self.image), change(self.labels), change(self.valid), teacher, self.complete, weak)


class Batches:
    """Makes the batch of any step.

    Args:
        collection: where the crops come from.
        survey: the collection's survey, made with the same crop size.
        seed: of the run; arms that are compared share it.
        batch_size: labelled crops in a batch.
        crop: height and width of a crop in pixels.
        rare_classes: share of crops that are placed on a class drawn uniformly instead of anywhere.
        jitter: radiometric jitter; gain and offset in standard deviations.
        unlabelled: crops without labels in a batch.
        rank, ranks: this process' share of the batch, for several processes.
        soft_labels: serves those of the crops; they are the same crops with and without it.
    """

    def __init__(
        self,
        collection: Collection,
        survey: Survey,
        *,
        seed: int,
        batch_size: int,
        crop: int,
        rare_classes: float = 0.5,
        jitter: float = 0.1,
        unlabelled: int = 0,
        rank: int = 0,
        ranks: int = 1,
        soft_labels: SoftLabelSource | None = None,
    ) -> None:
        if batch_size % ranks or unlabelled % ranks:
            raise DataError(
                f"a batch of {batch_size} + {unlabelled} crops cannot be shared by {ranks} processes. Choose a multiple of {ranks}."
            )
        if unlabelled:
            check_unlabelled(collection, survey)
        self.collection, self.survey = collection, survey
        self.seed, self.batch_size, self.crop = seed, batch_size, crop
        self.rare_classes, self.jitter, self.unlabelled = rare_classes, jitter, unlabelled
        self.rank, self.ranks, self.soft_labels = rank, ranks, soft_labels
        self._area = np.cumsum([region.box.area for region in survey.regions], dtype=np.float64)
        self._unlabelled_area = np.cumsum([region.box.area for region in survey.unlabelled], dtype=np.float64)
        # For each class a running sum over cells: a cell is drawn with a weight of its pixels of that class.
        self._class_sums = np.cumsum(survey.cell_pixels, axis=0, dtype=np.float64)

    def batch(self, step: int) -> Batch:
        """The crops of `step` (from 0), this process' share of them."""
        labelled = range(self.rank * self.batch_size // self.ranks, (self.rank + 1) * self.batch_size // self.ranks)
        extra = range(self.rank * self.unlabelled // self.ranks, (self.rank + 1) * self.unlabelled // self.ranks)
        made = [self._labelled(np.random.default_rng([self.seed, step, index])) for index in labelled]
        made += [
            self._without_labels(np.random.default_rng([self.seed, step, index, UNLABELLED_STREAM])) for index in extra
        ]
        crops, served = zip(*made, strict=True)
        image, valid, labels = (np.stack(arrays) for arrays in zip(*crops, strict=True))
        teacher = None if self.soft_labels is None else torch.from_numpy(np.stack(served))
        return Batch(
            torch.from_numpy(image),
            torch.from_numpy(labels),
            torch.from_numpy(valid),
            teacher,
            complete=bool(valid.all()),
        )

    def _labelled(self, rng: np.random.Generator) -> tuple[Crop, NDArray[np.float16] | None]:
        index, box = self.place(rng)
        region = self.survey.regions[index]
        return self._lay(self.collection.reader.read(region.scene, box), region, box, rng)

    def _without_labels(self, rng: np.random.Generator) -> tuple[Crop, NDArray[np.float16] | None]:
        region = self.survey.unlabelled[draw(self._unlabelled_area, rng)]
        box = anywhere(rng, region.box, self.crop)
        crop = self.collection.reader.read(region.scene, box)
        return self._lay(crop._replace(labels=np.full_like(crop.labels, IGNORE)), region, box, rng)

    def _lay(
        self, crop: Crop, region: Region, box: Box, rng: np.random.Generator
    ) -> tuple[Crop, NDArray[np.float16] | None]:
        """A crop as the student sees it, and the teacher's soft labels of it as it lies now."""
        turns, flip = int(rng.integers(4)), bool(rng.integers(2))
        laid = self.augment(keep_inside(crop, box, region.box), turns, flip, rng)
        return laid, None if self.soft_labels is None else self.soft_labels.crop(region, box, turns, flip)

    def place(self, rng: np.random.Generator) -> tuple[int, Box]:
        """Draw where a labelled crop lies: (index of the train region, rectangle).

        The rectangle lies inside the region, or covers it where the region is smaller than the crop.
        """
        if rng.random() < self.rare_classes:
            sums = self._class_sums[:, rng.integers(self._class_sums.shape[1])]
            region, row, column = (int(value) for value in self.survey.cells[draw(sums, rng)])
            # The cell's point falls anywhere in the crop, so that a class is not always at the centre.
            row += int(rng.integers(CELL)) - int(rng.integers(self.crop))
            column += int(rng.integers(CELL)) - int(rng.integers(self.crop))
            frame = self.survey.regions[region].box
            return region, Box(
                clamp(row, frame.row, frame.height, self.crop),
                clamp(column, frame.column, frame.width, self.crop),
                self.crop,
                self.crop,
            )
        region = draw(self._area, rng)
        return region, anywhere(rng, self.survey.regions[region].box, self.crop)

    def augment(self, crop: Crop, turns: int, flip: bool, rng: np.random.Generator) -> Crop:
        """One of the eight views, radiometric jitter, and nodata filled with the train mean."""
        gain, shift = 1 + self.jitter * rng.uniform(-1, 1, (2, 1 + len(crop.image)))
        image, valid, labels = (turn(array, turns, flip) for array in crop)
        mean = self.survey.mean.astype(np.float32)[:, None, None]
        std = self.survey.std.astype(np.float32)[:, None, None]
        # One factor for all bands (light) and a smaller one for each (colour).
        scale = (gain[0] * (1 + (gain[1:] - 1) / 2)).astype(np.float32)[:, None, None]
        move = ((shift[0] - 1) + (shift[1:] - 1) / 2).astype(np.float32)[:, None, None] * std
        values = (image.astype(np.float32) - mean) * scale + (mean + move)
        return Crop(np.where(valid, values, mean), np.ascontiguousarray(valid), np.ascontiguousarray(labels))


def check_unlabelled(collection: Collection, survey: Survey) -> None:
    """Refuse a recipe that wants unlabelled crops where there is no imagery to take them from.

    Raises:
        DataError: there is none.
    """
    if not survey.unlabelled:
        raise DataError(
            f"{collection.root}: the recipe wants unlabelled crops, but {collection.settings.unlabelled}/ holds no images and all "
            "labels of the train part are used. Add images there, or set recipe.unlabelled: 0."
        )


def keep_inside(crop: Crop, box: Box, region: Box) -> Crop:
    """Blank what reaches over the region, so that imagery of another part of the split is never seen."""
    if box.intersection(region) == box:
        return crop
    rows = np.arange(box.row, box.row + box.height)
    columns = np.arange(box.column, box.column + box.width)
    inside = ((rows >= region.row) & (rows < region.row + region.height))[:, None] & (
        (columns >= region.column) & (columns < region.column + region.width)
    )
    return Crop(
        np.where(inside, crop.image, 0), crop.valid & inside, np.where(inside, crop.labels, IGNORE).astype(np.uint8)
    )


def draw(running_sums: NDArray[np.float64], rng: np.random.Generator) -> int:
    """An index drawn with the weights whose running sums are given."""
    return int(min(np.searchsorted(running_sums, rng.random() * running_sums[-1], side="right"), len(running_sums) - 1))


def anywhere(rng: np.random.Generator, frame: Box, crop: int) -> Box:
    """A crop anywhere inside a rectangle; centred along an axis along which it does not fit."""
    return Box(offset(rng, frame.row, frame.height, crop), offset(rng, frame.column, frame.width, crop), crop, crop)


def offset(rng: np.random.Generator, start: int, length: int, crop: int) -> int:
    """A random place for a crop inside [start, start + length); centred where it does not fit."""
    if length <= crop:
        return start - (crop - length) // 2
    return start + int(rng.integers(length - crop + 1))


def clamp(position: int, start: int, length: int, crop: int) -> int:
    """The nearest place for a crop inside [start, start + length); centred where it does not fit."""
    if length <= crop:
        return start - (crop - length) // 2
    return min(max(position, start), start + length - crop)


def read_ahead(make: Callable[[int], Item], steps: Iterable[int], readers: int) -> Iterator[Item]:
    """Make items for `steps` in order, `readers` at a time in threads, a few ahead of the consumer."""
    waiting: list[Future[Item]] = []
    with ThreadPoolExecutor(readers, thread_name_prefix="reader") as pool:
        try:
            for step in steps:
                waiting.append(pool.submit(make, step))
                if len(waiting) > 2 * readers:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()


def turn(array: NDArray[Any], turns: int, flip: bool) -> NDArray[Any]:
    """Rotate the last two axes by `turns` quarter turns, then mirror: with both, the eight views of a square."""
    turned = np.rot90(array, turns, axes=(-2, -1))
    return turned[..., ::-1] if flip else turned


def turn_back(array: NDArray[Any], turns: int, flip: bool) -> NDArray[Any]:
    """Undo `turn`; like it, a view of the same memory."""
    return np.rot90(array[..., ::-1] if flip else array, -turns, axes=(-2, -1))
