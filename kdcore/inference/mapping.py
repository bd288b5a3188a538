"""From a network and a raster of any size to maps, tile by tile: reading ahead, looking, putting together, writing.

Memory does not depend on the raster's height: a reader's bounded cache, a few tiles on their way, and GDAL's bounded cache
of what is being written. With blended tiles a strip as wide as the raster and twice the halo high is kept, too.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from kdcore.data.batches import read_ahead
from kdcore.data.scene import Box, Scene, SceneReader
from kdcore.evaluation.levels import NODATA, quantise
from kdcore.inference.engines import Engine
from kdcore.inference.tiling import Grid
from kdcore.settings import Frozen

READERS = 2
WAITING_WRITES = 4


class MappingOptions(Frozen):
    """How a raster is looked at.

    Attributes:
        tile: side of a tile, pixels, a multiple of 32.
        halo: imagery seen around what is kept, pixels, a multiple of 32, at most a quarter of the tile.
        blend: 'crop' cuts the halo's predictions away; 'hann' blends neighbours over it.
        flips: average over four mirrored views, for four times the work.
        threshold: probability from which a network of two classes says yes.
    """

    tile: int = 512
    halo: int = 32
    blend: Literal["crop", "hann"] = "crop"
    flips: bool = False
    threshold: float = Field(default=0.5, gt=0, lt=1)


class Look(NamedTuple):
    """What a tile shows and what the network says about it.

    Attributes:
        row, column: of the tile in the grid.
        valid: (height, width) bool, False on nodata and outside the raster; a tile's size, or what of it lies in the raster.
        probabilities: (K, height, width); None where nothing is valid: the network was not asked.
    """

    row: int
    column: int
    valid: NDArray[np.bool_]
    probabilities: NDArray[np.float32] | None


Report = Callable[[int], None]
"""Is told how many pixels more are done; raises to stop."""
Write = Callable[[NDArray[np.uint8], NDArray[np.uint8], int, int], None]
"""Takes levels (K, h, w), classes (h, w), and the row and column of their upper left corner."""


@dataclass(frozen=True)
class Mapper:
    """Maps rows of tiles of one raster.

    Attributes:
        engine: the network.
        reader: reads the scene; safe to use from several threads.
        scene: the raster.
        grid: the tiles.
        options: how they are put together.
    """

    engine: Engine
    reader: SceneReader
    scene: Scene
    grid: Grid
    options: MappingOptions
    _carried: "dict[int, Blended]" = field(default_factory=dict)  # by the row that follows

    def rows_of(self, first: int, end: int) -> tuple[int, int]:
        """The raster's rows that rows of tiles answer for: from, and behind the last."""
        return self._finished(first, 0).row, self._finished(end - 1, 0).row + self._finished(end - 1, 0).height

    def map_rows(self, first: int, end: int, write: Write, report: Report = lambda pixels: None) -> dict[str, Any]:
        """Map rows of tiles and write what they answer for; pixels without data are not written at all.

        Args:
            first: row of the grid.
            end: behind the last one.
            write: called from one other thread, in order, each pixel once.
            report: is told how many pixels more are done.

        Returns:
            `class_pixels` (one number a class), `nodata_pixels`, and `passes`: tiles that the network looked at.

        Raises:
            DataError: the raster is broken; says where. Whatever `write` and `report` raise.
        """
        put_together: Blended | Cropped = Cropped(self.grid)
        before = 0
        if self.options.blend == "hann":
            carried = self._carried.pop(first, None)
            put_together = carried or Blended(self.grid)
            before = 1 if first and carried is None else 0  # for what the row above adds to the first
        order = [(row, column) for row in range(first - before, end) for column in range(self.grid.columns.count)]
        counts = np.zeros(NODATA + 1, dtype=np.int64)
        passes = 0
        writes: deque[Future[None]] = deque()
        with ThreadPoolExecutor(1, thread_name_prefix="writer") as writer:
            for look in self._looks(order):
                passes += look.probabilities is not None
                box, probabilities = put_together.add(look)
                if look.row < first:
                    continue
                if probabilities is None:
                    counts[NODATA] += box.area
                else:
                    window = self.grid.window(look.row, look.column)
                    top, left = box.row - window.row, box.column - window.column
                    valid = look.valid[top : top + box.height, left : left + box.width]
                    levels, classes = decide(probabilities, valid, self.options.threshold)
                    counts += np.bincount(classes.ravel(), minlength=NODATA + 1)
                    writes.append(writer.submit(write, levels, classes, box.row, box.column))
                    if len(writes) > WAITING_WRITES:
                        writes.popleft().result()
                report(box.area)
            for write_done in writes:
                write_done.result()
        if isinstance(put_together, Blended):
            self._carried[end] = put_together
        return {
            "class_pixels": counts[: len(self.engine.info.classes)].tolist(),
            "nodata_pixels": int(counts[NODATA]),
            "passes": passes,
        }

    def _finished(self, row: int, column: int) -> Box:
        return (Blended if self.options.blend == "hann" else Cropped).finished(self.grid, row, column)

    def _looks(self, order: Sequence[tuple[int, int]]) -> Iterator[Look]:
        reads = read_ahead(lambda index: self._read(*order[index]), range(len(order)), READERS)
        places = iter(order)
        for group in grouped(reads, self.engine.batch):
            answers: dict[int, NDArray[np.float32]] = {}
            by_shape: dict[tuple[int, ...], list[int]] = {}
            for index, (image, valid) in enumerate(group):
                if valid.any():
                    by_shape.setdefault(image.shape, []).append(index)
            for wanted in by_shape.values():
                together = self.engine(np.stack([group[index][0] for index in wanted]))
                answers |= dict(zip(wanted, together, strict=True))
            for index, (_, valid) in enumerate(group):
                yield Look(*next(places), valid, answers.get(index))

    def _read(self, row: int, column: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """A tile's imagery (bands, height, width) with nodata filled, and where it is valid.

        Over the raster's edge it is continued where the network takes tiles of one size only; others do that themselves.
        """
        window = self.grid.window(row, column)
        inside = window.intersection(self.scene.box)
        assert inside is not None
        crop = self.reader.read(self.scene, inside)
        image = crop.image.astype(np.float32)
        if not crop.valid.all():
            image = np.where(crop.valid, image, self.engine.fill[:, None, None]).astype(np.float32)
        below, right = window.height - inside.height, window.width - inside.width
        if self.engine.tile is None or not (below or right):
            return image, crop.valid
        edge = ((0, below), (0, right))
        return np.pad(image, ((0, 0), *edge), mode="edge"), np.pad(crop.valid, edge)


class Cropped:
    """Tiles put side by side, their halos cut away."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid

    @staticmethod
    def finished(grid: Grid, row: int, column: int) -> Box:
        """What is finished once this tile is added."""
        return grid.kept(row, column)

    def add(self, look: Look) -> tuple[Box, NDArray[np.float32] | None]:
        """What is finished now, and its probabilities."""
        box, window = self.grid.kept(look.row, look.column), self.grid.window(look.row, look.column)
        if look.probabilities is None:
            return box, None
        top, left = box.row - window.row, box.column - window.column
        return box, look.probabilities[:, top : top + box.height, left : left + box.width]


class Blended:
    """Tiles that fade into each other where they overlap; the weights over each pixel add up to 1.

    Tiles come row by row. A tile finishes the pixels that no later one touches; what it says about the others waits: of its
    right edge for the next tile, of its lower edge for the next row.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.overlap = 2 * grid.rows.halo, 2 * grid.columns.halo
        self.right: NDArray[np.float32] | None = None  # (K, tile less its lead, overlap)
        self.lower: NDArray[np.float32] | None = None  # (K, overlap, width)

    @staticmethod
    def finished(grid: Grid, row: int, column: int) -> Box:
        """What is finished once this tile is added."""
        top, left = row * grid.rows.stride, column * grid.columns.stride
        return Box(top, left, grid.rows.blended_end(row) - top, grid.columns.blended_end(column) - left)

    def add(self, look: Look) -> tuple[Box, NDArray[np.float32] | None]:
        """What is finished now, and its probabilities; None where no tile said anything."""
        box = self.finished(self.grid, look.row, look.column)
        weighted = self._weighted(look)
        if look.column and self.right is not None:
            weighted = self._zeros(look, len(self.right)) if weighted is None else weighted
            weighted[:, :, : self.overlap[1]] += self.right
        last = look.column == self.grid.columns.count - 1
        self.right = (
            None if last or weighted is None else weighted[:, :, box.width : box.width + self.overlap[1]].copy()
        )
        columns = slice(box.column, box.column + box.width)
        if look.row and self.lower is not None:
            if weighted is None and self.lower[:, :, columns].any():
                weighted = self._zeros(look, len(self.lower))
            if weighted is not None:
                weighted[:, : self.overlap[0], : box.width] += self.lower[:, :, columns]
                self.lower[:, :, columns] = 0
        if weighted is None:
            return box, None
        if look.row < self.grid.rows.count - 1 and self.overlap[0]:
            if self.lower is None:
                width = self.grid.columns.length
                self.lower = np.zeros((len(weighted), self.overlap[0], width), dtype=np.float32)
            self.lower[:, :, columns] = weighted[:, box.height : box.height + self.overlap[0], : box.width]
        return box, weighted[:, : box.height, : box.width]

    def _weighted(self, look: Look) -> NDArray[np.float32] | None:
        if look.probabilities is None:
            return None
        behind = look.probabilities[:, self.grid.rows.span(look.row).lead :, self.grid.columns.span(look.column).lead :]
        vertical, horizontal = self.grid.rows.weights(look.row), self.grid.columns.weights(look.column)
        return behind * (vertical[: behind.shape[1], None] * horizontal[: behind.shape[2]])

    def _zeros(self, look: Look, maps: int) -> NDArray[np.float32]:
        rows, columns = self.grid.rows.span(look.row).lead, self.grid.columns.span(look.column).lead
        height, width = look.valid.shape
        return np.zeros((maps, height - rows, width - columns), dtype=np.float32)


def decide(
    probabilities: NDArray[np.float32], valid: NDArray[np.bool_], threshold: float
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Levels (K, h, w) and class indices (h, w), both uint8 with 255 where not valid."""
    levels = quantise(probabilities)
    chosen = probabilities[0] >= threshold if len(probabilities) == 1 else probabilities.argmax(axis=0)
    classes = chosen.astype(np.uint8)
    if not valid.all():
        levels[:, ~valid] = NODATA
        classes[~valid] = NODATA
    return levels, classes


def grouped(
    items: Iterable[tuple[NDArray[np.float32], NDArray[np.bool_]]], size: int
) -> Iterator[list[tuple[NDArray[np.float32], NDArray[np.bool_]]]]:
    """Items in lists in which at most `size` hold valid pixels."""
    group: list[tuple[NDArray[np.float32], NDArray[np.bool_]]] = []
    with_data = 0
    for item in items:
        group.append(item)
        with_data += bool(item[1].any())
        if with_data == size or len(group) >= 4 * size:
            yield group
            group, with_data = [], 0
    if group:
        yield group
