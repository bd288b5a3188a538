"""One pass over a collection before training: statistics, class shares, where each class is, and the blocks of a share of the labels.

Statistics for normalisation come from the train split only. Every label that will be used is looked at here, so that a
wrong colour or value is found before hours of training and not after.

A share of the labels is whole blocks, because people label places and not scattered pixels. Which ones is a function of the data, the
crop and the share alone: every seed and every arm of a study has the same labels, and a larger share holds a smaller one but for the
blocks at its end.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdcore.data.collection import Collection, Region, grid_cells
from kdcore.data.masks import IGNORE
from kdcore.data.mixed import check_scales
from kdcore.data.places import misplaced_vectors
from kdcore.data.scene import BLOCK, Box
from kdcore.errors import DataError
from kdcore.settings import SPLITS, SplitName

CELL = 64  # pixels: how finely the places of classes are remembered
MOST_BLOCKS = 8192  # of 256 x 256 px for each part of the split: 0.5 gigapixels
ORDER_SEED = 0  # of the order in which blocks are taken
MOST_OVER = 1.5  # times the share that was asked for


@dataclass(frozen=True)
class Survey:
    """What a pass over the collection found.

    Attributes:
        mean, std: (bands,) float64 over the valid pixels of the train split.
        class_pixels: labelled pixels of each class, (classes,) int64, for each part of the split.
        regions: the train rectangles that labelled crops are taken from.
        cells: (cells, 3) int64: index of the region, row and column of each labelled 64-px cell of the regions.
        cell_pixels: (cells, classes) int64: labelled pixels of each class in each cell.
        unlabelled: rectangles that crops without labels are taken from: the whole train part where only a share of its labels is
            used, and the scenes of `unlabelled/`.
        labels: the share of the train part's labelled pixels that lies in `regions`; `class_pixels` counts only these.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    class_pixels: dict[SplitName, NDArray[np.int64]]
    regions: tuple[Region, ...]
    cells: NDArray[np.int64]
    cell_pixels: NDArray[np.int64]
    unlabelled: tuple[Region, ...] = ()
    labels: float = 1.0


def survey(
    collection: Collection,
    crop: int,
    progress: Callable[[int, int], None] | None = None,
    most_blocks: int = MOST_BLOCKS,
    labels: float = 1.0,
) -> Survey:
    """Read the collection once. Very large ones are read at `most_blocks` evenly spread blocks for each part of the split.

    Args:
        collection: what to read.
        crop: size of the training crops in pixels; the buffer between train and evaluation blocks is at least this.
        progress: is told blocks read and blocks in all.
        most_blocks: the largest number of 256-px blocks for each part of the split.
        labels: share of the train part's labels that is used: see `kdcore.data.survey`.

    Raises:
        DataError: a part without valid pixels, a train split that lacks a class, or labels that cannot be read or lie elsewhere.
    """
    for sentence in misplaced_vectors(
        collection
    ):  # polygons that lie on none of their images; masks are looked at when they are read
        raise DataError(sentence)
    names = collection.settings.class_names
    regions = {split: collection.regions(split, crop) for split in SPLITS}
    regions["train"] = large_enough(regions["train"], crop)
    if not regions["train"]:
        raise DataError(
            f"{collection.root}: the buffer of {max(crop, collection.settings.split.buffer)} px around validation and test blocks leaves "
            "nothing to train on. Use larger blocks (a coarser grid) or a smaller crop."
        )
    unlabelled = [Region(scene, scene.box) for scene in collection.unlabelled]
    if labels < 1:
        unlabelled = regions["train"] + unlabelled
        regions["train"] = cut(regions["train"], crop)
    work = {split: spread(blocks(regions[split]), most_blocks) for split in SPLITS}
    counted = Counted(collection)
    total, done = sum(map(len, work.values())), 0
    for split in SPLITS:
        for index, box in work[split]:
            counted.add(split, regions[split][index], index, box)
            done += 1
            if progress:
                progress(done, total)
    counted.check_classes()
    found = Survey(
        *counted.statistics(),
        counted.class_pixels,
        tuple(regions["train"]),
        np.array(counted.cells, dtype=np.int64).reshape(-1, 3),
        np.array(counted.cell_pixels, dtype=np.int64),
        tuple(unlabelled),
    )
    return found if labels == 1 else share(found, labels, work["train"], names, str(collection.root))


class Counted:
    """What was counted in the blocks that were read so far."""

    def __init__(self, collection: Collection) -> None:
        self.collection, self.names = collection, collection.settings.class_names
        self.pixels = 0  # valid ones of the train part
        self.sums = np.zeros((2, collection.bands))  # of their values, and of their squares
        self.squares: dict[str, NDArray[np.float64]] = {}  # of each scene: sum of the squared values, and how many
        self.class_pixels = {split: np.zeros(len(self.names), dtype=np.int64) for split in SPLITS}
        self.cells: list[tuple[int, int, int]] = []
        self.cell_pixels: list[NDArray[np.int64]] = []

    def add(self, split: SplitName, region: Region, index: int, box: Box) -> None:
        """Read and count one block of the region with this index."""
        read = self.collection.reader.read(region.scene, box)
        self.class_pixels[split] += class_counts(read.labels, len(self.names))
        pixels = read.image.reshape(len(read.image), -1) if read.valid.all() else read.image[:, read.valid]
        pixels = pixels.astype(np.float64)
        squared = np.einsum("bp,bp->b", pixels, pixels)
        self.squares.setdefault(region.scene.id, np.zeros(2))[:] += squared.sum(), pixels.size
        if split != "train":
            return
        self.pixels += pixels.shape[1]
        self.sums += pixels.sum(axis=1), squared
        for row in range(0, box.height, CELL):
            for column in range(0, box.width, CELL):
                counts = class_counts(read.labels[row : row + CELL, column : column + CELL], len(self.names))
                if counts.any():
                    self.cells.append((index, box.row + row, box.column + column))
                    self.cell_pixels.append(counts)

    def check_classes(self) -> None:
        """Refuse scenes of different scales, imagery without data, and parts of the split without labels that they need.

        Raises:
            DataError: says which, and what to do.
        """
        root, scored = self.collection.root, self.collection.settings.scored
        check_scales({name: np.sqrt(total / max(1, size)) for name, (total, size) in self.squares.items()}, str(root))
        if self.pixels == 0:
            raise DataError(
                f"{root}: the train imagery is all nodata. Check `nodata` in collection.yaml and the files' nodata value."
            )
        for split, counts in self.class_pixels.items():
            if not counts.any():
                raise DataError(
                    f"{root}: the {split} part has no labelled pixel. Check the labels, or give it other scenes or blocks."
                )
            if not counts[list(scored)].any():
                raise DataError(
                    f"{root}: the {split} part has no pixel of class {self.names[scored[0]]!r}, so nothing can be said about it there. "
                    "Give it other scenes or blocks."
                )
        missing = [
            repr(name) for name, pixels in zip(self.names, self.class_pixels["train"], strict=True) if pixels == 0
        ]
        if missing:
            raise DataError(
                f"{root}: the train part has no pixel of class {', '.join(missing)}, so it cannot be learnt. "
                "Choose another split, or remove the class from collection.yaml (its pixels to `ignore`)."
            )

    def statistics(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation of each band in the train part.

        Raises:
            DataError: a band has one value everywhere.
        """
        mean = self.sums[0] / self.pixels
        std = np.sqrt(np.maximum(self.sums[1] / self.pixels - mean**2, 0))
        if (std == 0).any():
            band = self.collection.scenes[0].bands[int(np.argmin(std))]
            raise DataError(
                f"{self.collection.root}: band {band} has one value everywhere in the train part. Leave it out with `bands`."
            )
        return mean, std


def share(found: Survey, labels: float, read: list[tuple[int, Box]], names: Sequence[str], where: str) -> Survey:
    """Keep a share of the regions, and what was found in them.

    Args:
        found: a survey whose regions are blocks.
        labels: the share.
        read: what was read of the regions: (index of the region, rectangle).
        names: of the classes, for the message.
        where: the collection, for the message.

    Raises:
        DataError: blocks with every class make up much more than the share.
    """
    counts = np.zeros((len(found.regions), len(names)), dtype=np.int64)
    np.add.at(counts, found.cells[:, 0], found.cell_pixels)
    area = np.array([region.box.area for region in found.regions], dtype=np.float64)
    seen = np.zeros(len(area))
    np.add.at(seen, [index for index, _ in read], [box.area for _, box in read])
    # A block of which nothing was read, in a very large collection, is taken to be like the others.
    density = np.where(seen > 0, counts.sum(axis=1) / np.maximum(seen, 1), counts.sum() / seen.sum())
    labelled = density * area
    chosen = choose(counts, labelled, labels, names, where)
    kept = np.isin(found.cells[:, 0], chosen)
    cells = found.cells[kept]
    cells[:, 0] = np.searchsorted(chosen, cells[:, 0])
    return replace(
        found,
        class_pixels=found.class_pixels | {"train": counts[chosen].sum(axis=0)},
        regions=tuple(found.regions[index] for index in chosen),
        cells=cells,
        cell_pixels=found.cell_pixels[kept],
        labels=float(labelled[chosen].sum() / labelled.sum()),
    )


def blocks(regions: list[Region]) -> list[tuple[int, Box]]:
    """The regions cut at the reader's 256-px blocks: (index of the region, rectangle)."""
    found = []
    for index, region in enumerate(regions):
        box = region.box
        for row in range(box.row // BLOCK * BLOCK, box.row + box.height, BLOCK):
            for column in range(box.column // BLOCK * BLOCK, box.column + box.width, BLOCK):
                part = box.intersection(Box(row, column, BLOCK, BLOCK))
                if part is not None:
                    found.append((index, part))
    return found


def count_blocks(regions: list[Region]) -> int:
    """How many pieces `blocks` would give."""
    spans = [
        [(start, start + size) for start, size in ((box.row, box.height), (box.column, box.width))]
        for _, box in regions
    ]
    return sum(math.prod((end - 1) // BLOCK - start // BLOCK + 1 for start, end in both) for both in spans)


def spread(items: list[Any], most: int) -> list[Any]:
    """At most `most` of the items, evenly spread."""
    if len(items) <= most:
        return items
    return [items[int(index)] for index in np.linspace(0, len(items) - 1, most)]


def class_counts(labels: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """Pixels of each class, (classes,) int64; ignored pixels are left out."""
    return np.bincount(labels.ravel(), minlength=IGNORE + 1)[:classes].astype(np.int64)


def large_enough(regions: list[Region], crop: int) -> list[Region]:
    """Leave out slivers that the buffer cut off: less than half a crop wide, unless the whole scene is that small."""
    return [
        region
        for region in regions
        if min(region.box.height, region.box.width) >= crop // 2 or region.box == region.scene.box
    ]


def cut(regions: Sequence[Region], crop: int) -> list[Region]:
    """Cut regions evenly into blocks whose sides are as near to two crops as they can be, and at least one crop.

    A side that is shorter than three crops stays whole. The blocks cover the regions and do not overlap.
    """
    pieces = []
    for region in regions:
        box = region.box
        grid = (rounded(box.height / (2 * crop)), rounded(box.width / (2 * crop)))
        pieces += [
            Region(region.scene, Box(box.row + cell.row, box.column + cell.column, cell.height, cell.width))
            for cell in grid_cells(box, grid).values()
        ]
    return pieces


def rounded(number: float) -> int:
    """The nearest whole number from 1 on; halves are rounded up."""
    return max(1, math.floor(number + 0.5))


def choose(
    counts: NDArray[np.int64],
    labelled: NDArray[np.float64],
    labels: float,
    names: Sequence[str],
    where: str,
) -> NDArray[np.int64]:
    """Blocks that hold as near to the share of the labelled pixels as possible, and every class.

    Blocks stand in a random order that is always the same. For each class, the rarest first, the first block that holds it is
    taken unless the class is there already; then each next block that brings the share nearer to what was asked for.

    Args:
        counts: (blocks, classes) labelled pixels of each class that were seen in each block.
        labelled: (blocks,) labelled pixels; estimates where a large collection was only sampled.
        labels: the share, 0 to 1.
        names: of the classes.
        where: the collection, for the message.

    Returns:
        Indices of the chosen blocks, ascending.

    Raises:
        DataError: blocks with every class make up much more than the share.
    """
    order = np.random.default_rng(ORDER_SEED).permutation(len(counts))
    wanted = labels * labelled.sum()
    chosen: list[int] = []
    for index in np.argsort(counts.sum(axis=0), kind="stable"):
        if not counts[chosen, index].any():
            chosen.append(int(order[np.flatnonzero(counts[order, index])[0]]))
    total = labelled[chosen].sum()
    if total > MOST_OVER * wanted:
        enough = math.ceil(100 * total / labelled.sum()) / 100
        raise DataError(
            f"{where}: a share of {labels:g} of the labels is too little to hold every class ({', '.join(names)}) in blocks of two "
            f"crops' width. Set labels to {enough:g} or more, or use a smaller crop."
        )
    for block in order:
        if block not in chosen and abs(total + labelled[block] - wanted) < abs(total - wanted):
            chosen.append(int(block))
            total += labelled[block]
    return np.sort(np.array(chosen, dtype=np.int64))
