"""Which tiles a network looks at to map a raster, and which pixels each of them answers for.

Along each axis tiles of one size start at multiples of `tile - 2 * halo`, a multiple of the encoders' stride (32 px): shifted by
anything else, networks with strides answer differently. Neighbours overlap by twice the halo. A tile keeps its halo only
where the raster ends: the outer border has full weight. The last tile moves back until it reaches over the raster's end by
less than 32 px: there the imagery has to be made up, and a trained network does notice.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdcore.data.scene import Box
from kdcore.errors import SettingsError

STRIDE = 32  # of the encoders, pixels


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
    """

    length: int
    tile: int
    halo: int

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
        first = index * self.stride
        start = min(first, math.ceil(max(0, self.length - self.tile) / STRIDE) * STRIDE)
        kept = first + self.halo if index else 0
        end = first + self.tile - self.halo if index < self.count - 1 else self.length
        return Span(start, first - start, kept, end)

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
