"""Where imagery has no data: resampled without it, and found where no file declares it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import MaskFlags, Resampling
from rasterio.errors import RasterioError
from rasterio.windows import Window
from scipy import ndimage, sparse

from kdcore.data.rasters import colour_bands, open_raster
from kdcore.errors import DataError

HALF = 0.499  # of a pixel: scales are rarely exactly whole
MOST_VALUES = 16_000_000  # native values that are read at once
LOOKED_AT = 40  # images, evenly spread, that are searched for undeclared nodata
BLUR = 8  # from black or white, that JPEG leaves in a border
DECIMATED = 512  # pixels of a side at which they are searched
WHOLE_PIXELS = 16_000_000  # larger images are searched in pieces
BORDER_SHARE = 0.01  # of all pixels that an undeclared black or white border must cover
FILL_SHARE = 0.0005  # likewise for a value far outside of all others


def weights(start: float, step: float, count: int, size: int) -> tuple[int, sparse.csr_array]:
    """How much each native pixel counts for each resampled one along one axis.

    Coarser pixels are means weighted by overlap; finer ones lie on the line between two native centres.

    Args:
        start: native coordinate at which the first resampled pixel begins.
        step: native pixels for each resampled one.
        count: resampled pixels.
        size: native pixels of the whole axis.

    Returns:
        The first native pixel that is needed, and (count, native pixels) weights whose rows sum to 1.
    """
    edges = start + step * np.arange(count + 1)
    if step > 1:
        low, high = np.floor(edges[:-1]).astype(int), np.ceil(edges[1:] - 1e-9).astype(int)
        columns = low[:, None] + np.arange(int((high - low).max()))
        share = np.minimum(columns + 1, edges[1:, None]) - np.maximum(columns, edges[:-1, None])
        share = np.clip(share, 0, None) * (columns < size)
    else:
        centres = (edges[:-1] + edges[1:]) / 2 - 0.5
        low = np.floor(centres).astype(int)
        columns = low[:, None] + np.arange(2)
        share = np.stack([1 - (centres - low), centres - low], axis=1)
    columns = np.clip(columns, 0, size - 1)
    first = int(columns.min())
    rows = np.repeat(np.arange(count), columns.shape[1])
    table = sparse.csr_array(
        (share.ravel(), (rows, (columns - first).ravel())), shape=(count, int(columns.max()) - first + 1)
    )
    return first, sparse.csr_array(table.multiply(1 / table.sum(axis=1)[:, None]))


def read_without(
    dataset: rasterio.DatasetReader,
    bands: Sequence[int],
    window: Window,
    shape: tuple[int, int],
    nodata: float,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Read a window at another resolution so that pixels without data do not mix into their neighbours.

    A native pixel has no data where every band is `nodata`, or a float is not finite.

    Args:
        dataset: an open raster.
        bands: numbers of the bands, from 1.
        window: in native pixels, may begin and end within one.
        shape: (height, width) of the result.
        nodata: the value.

    Returns:
        (bands, height, width) in the raster's dtype, and (height, width) bool: True where at least half of the pixel has data.
    """
    left, across = weights(window.col_off, window.width / shape[1], shape[1], dataset.width)
    step = window.height / shape[0]
    image = np.zeros((len(bands), *shape), dtype=dataset.dtypes[0])
    valid = np.zeros(shape, dtype=bool)
    rows = max(1, int(MOST_VALUES / (max(step, 1) * across.shape[1] * len(bands))))
    for begin in range(0, shape[0], rows):
        count = min(rows, shape[0] - begin)
        top, down = weights(window.row_off + begin * step, step, count, dataset.height)
        native = dataset.read(list(bands), window=Window(left, top, across.shape[1], down.shape[1]))
        data = (native != nodata).any(axis=0)
        if native.dtype.kind == "f":
            data &= np.isfinite(native).all(axis=0)
        share = down @ (data.astype(np.float64) @ across.T)
        part = slice(begin, begin + count)
        valid[part] = share >= HALF
        for index, band in enumerate(native):
            mean = down @ (np.where(data, band, 0).astype(np.float64) @ across.T) / np.maximum(share, 1e-12)
            mean = np.where(valid[part], mean, 0)
            image[index, part] = np.rint(mean) if image.dtype.kind in "iu" else mean
    return image, valid


class Kind(StrEnum):
    """How a value was found to mean 'no data'."""

    FILL = "fill"  # far outside of all other values
    BORDER = "border"  # in solid areas at the images' edges
    BLURRED = "blurred"  # likewise, but black or white only nearly: no one value is 'no data'


@dataclass(frozen=True)
class Undeclared:
    """A value that images use for 'no data' without saying so.

    Attributes:
        value: the value in every band; 0 or 255 for a blurred border.
        share: of all pixels that were looked at.
        images: how many of those looked at have it, and how many were looked at.
        kind: how it was found.
    """

    value: float
    share: float
    images: tuple[int, int]
    kind: Kind

    def sentence(self) -> str:
        """What was found."""
        where = "far outside of all other values" if self.kind is Kind.FILL else "in areas that touch the images' edges"
        nearly = "about " if self.kind is Kind.BLURRED else ""
        return (
            f"{self.images[0]} of {self.images[1]} images looked at hold {nearly}{self.value:g} in every band over "
            f"{100 * self.share:.1f} % of their pixels, {where}, and do not declare it as nodata"
        )

    def mend(self) -> str:
        """How to declare it in a file."""
        if self.kind is Kind.BLURRED:
            colour = "-white " if self.value else ""
            return (
                f"`nearblack {colour}-setmask -of GTiff -o new.tif FILE` makes a mask of a border that JPEG has blurred"
            )
        return f"`gdal_edit.py -a_nodata {self.value:g} FILE` declares it in a file"


def find_undeclared(images: Sequence[Path]) -> list[Undeclared]:
    """Search evenly spread images for borders and fill values that no file declares; the most important first.

    Images that declare nodata, or have transparency or a mask, are left out.
    """
    chosen = [images[int(index)] for index in np.linspace(0, len(images) - 1, min(len(images), LOOKED_AT))]
    found: dict[tuple[float, Kind], list[int]] = {}
    pixels = looked = 0
    for path in chosen:
        try:
            with open_raster(path) as dataset:
                if dataset.dtypes[0].startswith("complex") or any(
                    MaskFlags.all_valid not in flags for flags in dataset.mask_flag_enums
                ):
                    continue
                image = small(dataset)
        except (DataError, RasterioError):
            continue
        looked += 1
        pixels += image[0].size
        for value, count, kind in candidates(image):
            found.setdefault((value, kind), []).append(count)
    suspects = [
        Undeclared(value, sum(counts) / pixels, (len(counts), looked), kind)
        for (value, kind), counts in found.items()
        if sum(counts) / pixels >= (FILL_SHARE if kind is Kind.FILL else BORDER_SHARE)
    ]
    exact = {suspect.value for suspect in suspects if suspect.kind is not Kind.BLURRED}
    suspects = [suspect for suspect in suspects if suspect.kind is not Kind.BLURRED or suspect.value not in exact]
    return sorted(suspects, key=lambda suspect: (suspect.kind is not Kind.FILL, -suspect.share))


def small(dataset: rasterio.DatasetReader) -> NDArray[Any]:
    """(bands, height, width): a raster at few pixels; of a large one pieces of 16 x 16 px side by side, so that little is read."""
    bands = list(colour_bands(dataset))
    height, width = dataset.shape
    if height * width <= WHOLE_PIXELS:
        scale = max(1, max(height, width) / DECIMATED)
        size = (len(bands), max(1, int(height / scale)), max(1, int(width / scale)))
        return np.asarray(dataset.read(bands, out_shape=size, resampling=Resampling.nearest))
    rows, columns = (np.unique(np.linspace(0, max(0, side - 16), 24).astype(int)) for side in (height, width))
    return np.concatenate(
        [np.concatenate([dataset.read(bands, window=Window(x, y, 16, 16)) for x in columns], axis=2) for y in rows],
        axis=1,
    )


def candidates(image: NDArray[Any]) -> list[tuple[float, int, Kind]]:
    """Values of one image that look like 'no data': (value, pixels, how it was found)."""
    first = image[0]
    same = (image == first).all(axis=0)
    if image.dtype.kind == "f":
        same &= np.isfinite(first)
    if (image == image.flat[0]).all():
        return []
    found = []
    for value in {float(first[same].min()), float(first[same].max())} if same.any() else ():
        area = same & (first == value)
        rest = image[:, ~area]
        rest = rest[np.isfinite(rest)] if rest.dtype.kind == "f" else rest
        if rest.size == 0:
            continue
        low, high = np.percentile(rest, [0.1, 99.9]).astype(float)
        gap = max(low - value, value - high)
        if gap > 2 * (high - low) + 1 and value not in (0, 255):
            found.append((value, int(area.sum()), Kind.FILL))
        elif gap > 0 and is_border(image, area, value):
            found.append((value, int(area.sum()), Kind.BORDER))
    if image.dtype == np.uint8:
        for value, dark in ((0.0, image <= BLUR), (255.0, image >= 255 - BLUR)):
            area = np.asarray(dark.all(axis=0))
            if area.any() and not area.all() and is_border(image, area, abs(value - BLUR)):
                found.append((value, int(area.sum()), Kind.BLURRED))
    return found


def is_border(image: NDArray[Any], area: NDArray[np.bool_], value: float) -> bool:
    """Whether nearly all pixels of a value lie in solid areas at the image's edges, and hardly any pixel is close to it.

    Dark water and bright clouds fade into black and white; a border ends at once.
    """
    parts, count = ndimage.label(area)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    edge = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    edge = edge[(edge > 0) & (sizes[edge] >= max(16, 0.0005 * area.size))]
    at_edge = np.isin(parts, edge)
    if at_edge.sum() < 0.9 * area.sum():
        return False
    spread = float(np.ptp(np.percentile(image[:, ~area], [2, 98]))) if (~area).any() else 0.0
    close = (np.abs(image.astype(np.float64) - value).max(axis=0) <= 0.02 * spread) & ~area
    rim = ndimage.binary_dilation(at_edge, iterations=2) & ~area
    return int((close & rim).sum()) <= 0.1 * max(1, int(rim.sum()))
