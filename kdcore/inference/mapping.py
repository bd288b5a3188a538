"""From a network and a raster of any size to maps, tile by tile: reading ahead, looking, putting together, writing.

Memory does not depend on the raster's height: a reader's bounded cache, a few tiles on their way, and GDAL's bounded cache
of what is being written. With blended tiles a strip as wide as the raster and twice the halo high is kept, too.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from kdcore.data.scene import Box, Crop, Scene, SceneReader
from kdcore.evaluation.levels import NODATA, quantise
from kdcore.inference.engines import Engine
from kdcore.models.tiled import Blended, Cropped, Grid, Tile, looks, without_gaps
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
        tiles = self.grid.tiles(first - before, end)
        counts = np.zeros(NODATA + 1, dtype=np.int64)
        passes = 0
        writes: deque[Future[None]] = deque()
        with ThreadPoolExecutor(1, thread_name_prefix="writer") as writer:
            seen = looks(
                lambda index: self.read(tiles[index]), len(tiles), self.engine, batch=self.engine.batch, readers=READERS
            )
            for tile, (crop, said) in zip(tiles, seen, strict=True):
                passes += said is not None
                box, probabilities = put_together.add(tile, crop.valid.shape, said)
                if tile.row < first:
                    continue
                if probabilities is None:
                    counts[NODATA] += box.area
                else:
                    levels, classes = decide(probabilities, crop.valid[box.within(tile.window)], self.options.threshold)
                    counts += np.bincount(classes.ravel(), minlength=NODATA + 1)
                    writes.append(writer.submit(write, levels, classes, box.row, box.column))
                    if len(writes) > WAITING_WRITES:
                        writes.popleft().result()
                report(box.area)
            for write_done in writes:
                write_done.result()
        if isinstance(put_together, Blended):
            self._carried.clear()  # another process made the rows that it was kept for
            self._carried[end] = put_together
        return {
            "class_pixels": counts[: len(self.engine.info.classes)].tolist(),
            "nodata_pixels": int(counts[NODATA]),
            "passes": passes,
        }

    def _finished(self, row: int, column: int) -> Box:
        return (Blended if self.options.blend == "hann" else Cropped).finished(self.grid, row, column)

    def read(self, tile: Tile) -> Crop:
        """A tile's imagery (bands, height, width) with nodata filled, and where it is valid.

        Over the raster's edge it is continued where the network takes tiles of one size only; others do that themselves.
        """
        window = tile.window
        inside = window.intersection(self.scene.box)
        assert inside is not None
        crop = without_gaps(self.reader.read(self.scene, inside), self.engine.fill)
        below, right = window.height - inside.height, window.width - inside.width
        if self.engine.tile is None or not (below or right):
            return crop
        edge = ((0, below), (0, right))
        return crop._replace(image=np.pad(crop.image, ((0, 0), *edge), mode="edge"), valid=np.pad(crop.valid, edge))


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
