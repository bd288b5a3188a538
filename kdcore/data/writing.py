"""Writing rasters so that a full disk is noticed.

GDAL writes most of a GeoTIFF while it closes the file, and says nothing when that fails: the file is then short, or reads as
nodata. So what was written is read back before the file gets its name.
"""

import errno
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from kdcore.files import replacing


@contextmanager
def without_place_warning() -> Iterator[None]:
    """A raster that says nothing of where it lies is nothing to warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def quick_tiles(side: int) -> dict[str, Any]:
    """How a large GeoTIFF is written that is read again soon: in tiles of so many pixels, lightly compressed, without those that hold nothing."""
    return {
        "tiled": True,
        "blockxsize": side,
        "blockysize": side,
        "compress": "deflate",
        "zlevel": 1,
        "sparse_ok": True,
        "bigtiff": "if_safer",
    }


class RasterWriter:
    """Writes windows of an open raster and remembers a sum of each."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.sums: dict[tuple[int, int, int, int], int] = {}

    def write(self, values: NDArray[Any], row: int, column: int) -> None:
        """Write (bands, height, width) with its upper-left corner at (row, column); no pixel twice."""
        height, width = values.shape[1:]
        self.dataset.write(values, window=Window(column, row, width, height))
        self.sums[row, column, height, width] = zlib.crc32(np.ascontiguousarray(values).tobytes())


@contextmanager
def writing_raster(
    path: Path, finish: Callable[[Path], None] = lambda path: None, **profile: Any
) -> Iterator[RasterWriter]:
    """Write a GeoTIFF that appears under its name when it is whole.

    Args:
        path: its name.
        finish: is given the closed file before it gets its name, for example to add overviews.
        profile: of rasterio; the driver is GTiff.

    Raises:
        KdcoreError: the disk is full or the folder cannot be written to; nothing is left behind.
    """
    with replacing(path) as temporary, without_place_warning():
        with rasterio.open(temporary, "w", driver="GTiff", **profile) as dataset:
            writer = RasterWriter(dataset)
            yield writer
        try:
            finish(temporary)
            read_back(temporary, writer.sums)
        except RasterioError as error:
            raise OSError(errno.ENOSPC, "what was written cannot be read back") from error


def read_back(path: Path, sums: dict[tuple[int, int, int, int], int]) -> None:
    """Compare what a file holds with what was written, and read its overviews.

    Raises:
        OSError, RasterioError: something is missing.
    """
    with rasterio.open(path) as dataset:
        for (row, column, height, width), expected in sums.items():
            if zlib.crc32(dataset.read(window=Window(column, row, width, height))) != expected:
                raise OSError(errno.ENOSPC, "what was written cannot be read back")
        overviews = len(dataset.overviews(1))
    for level in range(overviews):
        with rasterio.open(path, overview_level=level) as dataset:
            for _, window in dataset.block_windows(1):
                dataset.read(window=window)
