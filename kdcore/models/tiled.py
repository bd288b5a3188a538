"""The one tiler: which windows a network looks at, which pixels each of them answers for, and the loop over them.

Evaluation, maps of any raster, soft labels and ONNX files of one tile size all go through it. Along each axis tiles of one size start
at multiples of `tile - 2 * halo`, a multiple of the encoders' stride (32 px). Neighbours overlap by twice the halo. A tile keeps its
halo only where the raster ends: the outer border has full weight. The last tile moves back until it reaches over the raster's end by
less than 32 px: there the imagery has to be made up, and a trained network does notice.

Labels depend on where tiles begin (`benchmarks/tile_phase.py`, a student of stride 8): begun 8, 16 or 32 px further in, 0.2 % of them change, all near the
border; begun 1 px further in, 9 %, everywhere. A halo of 64 px instead of 32 changes none. So tiles begin at multiples of 32 px from the corner,
and nothing is averaged over other beginnings: it would cost as many times the work, and only shifts by less than a stride differ.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from kdcore.data.batches import read_ahead
from kdcore.data.scene import Box, Crop
from kdcore.errors import SettingsError

STRIDE = 32  # of the encoders, pixels
Maps = NDArray[np.float32]
Values = TypeVar("Values")
Ask = Callable[[NDArray[np.float32]], Sequence[Values] | Iterable[Values]]
"""What a network says about imagery (N, bands, height, width): N times whatever the caller wants."""


class Tile(NamedTuple):
    """One window of a raster.

    Attributes:
        window: what the network looks at.
        kept: what it answers for.
        row, column: of the tile in its grid.
    """

    window: Box
    kept: Box
    row: int = 0
    column: int = 0

    @property
    def inner(self) -> tuple[slice, slice]:
        """Rows and columns of what it answers for, in what the network says about the window."""
        return self.kept.within(self.window)


def looks(
    read: Callable[[int], Crop],
    count: int,
    ask: Ask[Values],
    *,
    fill: NDArray[np.floating[Any]] | None = None,
    batch: int = 1,
    readers: int = 2,
    empty: bool = False,
) -> Iterator[tuple[Crop, Values | None]]:
    """Read windows ahead of the network, put them to it, and yield them in order with what it says.

    Args:
        read: the imagery of a window, by its index; called from other threads.
        count: of windows.
        ask: the network; it is given windows of one size together.
        fill: (bands,) values that stand for nodata; None where `read` has put them in. Large windows wait as they were read.
        batch: how many windows it is given at once.
        readers: threads.
        empty: whether it is also asked about windows without a valid pixel.

    Yields:
        What was read, and what the network says about it; None where it was not asked.
    """

    def wanted(crop: Crop) -> bool:
        return empty or bool(crop.valid.any())

    for group in grouped(read_ahead(read, range(count), readers), batch, wanted):
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for index, crop in enumerate(group):
            if wanted(crop):
                by_shape.setdefault(crop.image.shape, []).append(index)
        said: dict[int, Values] = {}
        for alike in by_shape.values():
            shown = [group[index] if fill is None else without_gaps(group[index], fill) for index in alike]
            said |= dict(zip(alike, ask(np.stack([crop.image for crop in shown])), strict=True))
        for index, crop in enumerate(group):
            yield crop, said.get(index)


def grouped(crops: Iterable[Crop], size: int, wanted: Callable[[Crop], bool]) -> Iterator[list[Crop]]:
    """Crops in lists of which at most `size` are wanted."""
    group: list[Crop] = []
    count = 0
    for crop in crops:
        group.append(crop)
        count += wanted(crop)
        if count == size or len(group) >= 4 * size:
            yield group
            group, count = [], 0
    if group:
        yield group


def without_gaps(crop: Crop, fill: NDArray[np.floating[Any]]) -> Crop:
    """What was read, as float32 and with `fill` (one value a band) where there is no data."""
    image = crop.image.astype(np.float32)
    if not crop.valid.all():
        image = np.where(crop.valid, image, fill[:, None, None]).astype(np.float32)
    return crop._replace(image=image)


class Span(NamedTuple):
    """One tile along one axis, in pixels of the raster.

    Attributes:
        start: of the tile.
        lead: pixels at its start that are only looked at: the last tile's, which the tiles before answer for.
        kept: where the pixels start that it alone answers for when halos are cut away; `end`: behind the last.
    """

    start: int
    lead: int
    kept: int
    end: int


@dataclass(frozen=True)
class Axis:
    """The tiles along one axis of a raster.

    Attributes:
        length: of the raster, pixels.
        tile: of a tile, pixels; it may be longer than the raster, or reach over its end.
        halo: at each side of a tile, pixels.
        snug: whether the last tile ends where the raster does, and meets the one before in the middle of their overlap.
    """

    length: int
    tile: int
    halo: int
    snug: bool = False

    @property
    def stride(self) -> int:
        """From one tile's start to the next one's."""
        return self.tile - 2 * self.halo

    @property
    def count(self) -> int:
        """Number of tiles."""
        return max(1, math.ceil((self.length - self.tile) / self.stride) + 1)

    def span(self, index: int) -> Span:
        """One tile."""
        first, start = index * self.stride, self._start(index)
        end = self._seam(index + 1) if index < self.count - 1 else self.length
        return Span(start, first - start, self._seam(index) if index else 0, end)

    def _start(self, index: int) -> int:
        over = max(0, self.length - self.tile)
        return min(index * self.stride, over if self.snug else math.ceil(over / STRIDE) * STRIDE)

    def _seam(self, index: int) -> int:
        """Where a tile takes over from the one before."""
        if self.snug:
            return (self._start(index - 1) + self.tile + self._start(index)) // 2
        return index * self.stride + self.halo

    def blended_end(self, index: int) -> int:
        """Behind the last pixel that no tile after this one blends with."""
        return (index + 1) * self.stride if index < self.count - 1 else self.length

    def weights(self, index: int) -> NDArray[np.float32]:
        """Weights of a tile's pixels behind its lead: a Hann ramp over the overlap with each neighbour, 1 elsewhere.

        The weights of the tiles over one pixel add up to 1.
        """
        weights = np.ones(self.tile - self.span(index).lead, dtype=np.float32)
        overlap = 2 * self.halo
        rising = np.sin(np.pi / 2 * (np.arange(overlap) + 0.5) / max(1, overlap)) ** 2
        if index:
            weights[:overlap] = rising
        if overlap and index < self.count - 1:
            weights[-overlap:] = 1 - rising
        return weights


@dataclass(frozen=True)
class Grid:
    """The tiles over a raster, in rows from the top."""

    rows: Axis
    columns: Axis

    def window(self, row: int, column: int) -> Box:
        """What a tile looks at; it may reach over the raster's lower and right edge by less than 32 px, or if it is larger."""
        return Box(self.rows.span(row).start, self.columns.span(column).start, self.rows.tile, self.columns.tile)

    def kept(self, row: int, column: int) -> Box:
        """The pixels that a tile answers for when halos are cut away; together they are the raster, each pixel once."""
        vertical, horizontal = self.rows.span(row), self.columns.span(column)
        return Box(vertical.kept, horizontal.kept, vertical.end - vertical.kept, horizontal.end - horizontal.kept)

    def tile(self, row: int, column: int) -> Tile:
        """One tile, its halo cut away."""
        return Tile(self.window(row, column), self.kept(row, column), row, column)

    def tiles(self, first: int = 0, end: int | None = None) -> list[Tile]:
        """The tiles of the rows from `first`, row by row."""
        rows = range(first, self.rows.count if end is None else end)
        return [self.tile(row, column) for row in rows for column in range(self.columns.count)]


def make_grid(height: int, width: int, tile: int, halo: int, fixed: bool = False) -> Grid:
    """Lay tiles over a raster.

    Args:
        height: of the raster, pixels.
        width: of the raster, pixels.
        tile: side of a tile, pixels; a raster that is smaller gets one tile of its own size, unless `fixed`.
        halo: imagery seen around what is kept, pixels.
        fixed: whether the network takes tiles of no other size.

    Raises:
        SettingsError: sizes that are no multiples of 32 pixels, or a halo that leaves less than half of the tile.
    """
    for name, value in (("tile", tile), ("halo", halo)):
        if value % STRIDE or value < (STRIDE if name == "tile" else 0):
            raise SettingsError(f"--{name} {value}: must be a multiple of {STRIDE} pixels, the stride of the encoders.")
    if 4 * halo > tile:
        raise SettingsError(
            f"--halo {halo}: is too wide for tiles of {tile} pixels; at most a quarter of the tile ({tile // 4 // STRIDE * STRIDE})."
        )

    def axis(length: int) -> Axis:
        own = tile if fixed else min(tile, math.ceil(length / STRIDE) * STRIDE)
        return Axis(length, own, halo if length > own else 0)

    return Grid(axis(height), axis(width))


class Cropped:
    """Tiles put side by side, their halos cut away."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid

    @staticmethod
    def finished(grid: Grid, row: int, column: int) -> Box:
        """What is finished once this tile is added."""
        return grid.kept(row, column)

    def add(self, tile: Tile, size: tuple[int, ...], values: Maps | None) -> tuple[Box, Maps | None]:
        """What is finished now, and its values. `size` is the height and width of what was looked at."""
        return tile.kept, None if values is None else values[:, *tile.inner]


class Blended:
    """Tiles that fade into each other where they overlap; the weights over each pixel add up to 1.

    Tiles come row by row. A tile finishes the pixels that no later one touches; what it says about the others waits: of its
    right edge for the next tile, of its lower edge for the next row.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.overlap = 2 * grid.rows.halo, 2 * grid.columns.halo
        self.right: Maps | None = None  # (K, tile less its lead, overlap)
        self.lower: Maps | None = None  # (K, overlap, width)

    @staticmethod
    def finished(grid: Grid, row: int, column: int) -> Box:
        """What is finished once this tile is added."""
        top, left = row * grid.rows.stride, column * grid.columns.stride
        return Box(top, left, grid.rows.blended_end(row) - top, grid.columns.blended_end(column) - left)

    def add(self, tile: Tile, size: tuple[int, ...], values: Maps | None) -> tuple[Box, Maps | None]:
        """What is finished now, and its values; None where no tile said anything. `size` is the height and width of what was looked at."""
        box = self.finished(self.grid, tile.row, tile.column)
        weighted = self._weighted(tile, values)
        if tile.column and self.right is not None:
            weighted = self._zeros(tile, size, len(self.right)) if weighted is None else weighted
            weighted[:, :, : self.overlap[1]] += self.right
        last = tile.column == self.grid.columns.count - 1
        self.right = (
            None if last or weighted is None else weighted[:, :, box.width : box.width + self.overlap[1]].copy()
        )
        columns = slice(box.column, box.column + box.width)
        if tile.row and self.lower is not None:
            if weighted is None and self.lower[:, :, columns].any():
                weighted = self._zeros(tile, size, len(self.lower))
            if weighted is not None:
                weighted[:, : self.overlap[0], : box.width] += self.lower[:, :, columns]
                self.lower[:, :, columns] = 0
        if weighted is None:
            return box, None
        if tile.row < self.grid.rows.count - 1 and self.overlap[0]:
            if self.lower is None:
                width = self.grid.columns.length
                self.lower = np.zeros((len(weighted), self.overlap[0], width), dtype=np.float32)
            self.lower[:, :, columns] = weighted[:, box.height : box.height + self.overlap[0], : box.width]
        return box, weighted[:, : box.height, : box.width]

    def _weighted(self, tile: Tile, values: Maps | None) -> Maps | None:
        if values is None:
            return None
        behind = values[:, self.grid.rows.span(tile.row).lead :, self.grid.columns.span(tile.column).lead :]
        vertical, horizontal = self.grid.rows.weights(tile.row), self.grid.columns.weights(tile.column)
        return behind * (vertical[: behind.shape[1], None] * horizontal[: behind.shape[2]])

    def _zeros(self, tile: Tile, size: tuple[int, ...], maps: int) -> Maps:
        rows, columns = self.grid.rows.span(tile.row).lead, self.grid.columns.span(tile.column).lead
        return np.zeros((maps, size[0] - rows, size[1] - columns), dtype=np.float32)
