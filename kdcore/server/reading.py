"""Reading a web-mercator tile, or one pixel, of a GeoTIFF. rio-tiler does the warping."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from threading import Lock, Thread
from typing import Any, Literal, NamedTuple
from xml.sax.saxutils import escape

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError  # what GDAL raises now and then is of no public kind
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from kdcore.bounded import BoundedCache, remembered
from kdcore.errors import RunError
from kdcore.inference.layer_index import SceneLayers

warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)  # for good: `catch_warnings` is not for threads

TILE = 256
CACHE_BYTES = 32_000_000  # of decoded blocks, for the whole process; rasterio takes bytes here, GDAL alone megabytes
WARPED_BYTES = 24_000_000  # of tiles that may be asked for again with another threshold
NODATA = 255
importing = Lock()

Files = tuple[Path, ...]
Tile = tuple[int, int, int]
"""Zoom, column and row of a tile of the web-mercator grid."""
Pixels = tuple[NDArray[np.uint8], NDArray[np.bool_]]
"""Values (bands, 256, 256), and where they are valid, (256, 256)."""

warped = BoundedCache[Pixels](WARPED_BYTES, lambda pixels: pixels[0].nbytes + pixels[1].nbytes)


class OutsideTile(Exception):
    """A tile that the raster does not touch."""


class Header(NamedTuple):
    """What a GeoTIFF says of itself."""

    path: Path
    width: int
    height: int
    bands: int
    overviews: int
    nodata: float | None
    crs: str
    transform: Affine


@contextmanager
def told_if_broken(files: Files) -> Iterator[None]:
    """Say which of our own files may be broken, when one cannot be read.

    Raises:
        RunError: see above.
    """
    names = " or ".join(f"{path.parent.name}/{path.name}" for path in files)
    mend = "is broken or of another study. Start the study again to write it anew."
    if not all(path.is_file() for path in files):
        raise RunError(f"{names}: {mend}")
    try:
        yield
    except (RasterioError, CPLE_BaseError, IndexError) as error:
        raise RunError(f"{names}: {mend}") from error


@contextmanager
def opened(files: Files, halvings: int = 0, flat: Affine | None = None) -> Iterator[Any]:
    """Open our own GeoTIFFs; handles of their own for each request, since GDAL's may not be shared between threads.

    Args:
        files: one, or several of the same pixels, whose bands follow each other.
        halvings: of their size: the overview that is wanted, or the smallest there is.
        flat: where they lie on the web-mercator map if the files themselves do not say it.
    """
    with told_if_broken(files), rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES, GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
        headers = [header_of(path) for path in files]
        level = min(halvings, *(header.overviews for header in headers)) - 1
        if len(files) > 1 or flat is not None:
            source: Any = view(headers, flat, level)
            options: dict[str, Any] = {"driver": "VRT"}
        else:
            source, options = files[0], {"driver": "GTiff"} | ({"overview_level": level} if level >= 0 else {})
        with rasterio.open(source, sharing=False, **options) as dataset:
            yield dataset


@remembered(256)
def header_of(path: Path) -> Header:
    """What a file says of itself."""
    with rasterio.open(path, driver="GTiff", sharing=False) as dataset:
        return Header(
            path=path,
            width=dataset.width,
            height=dataset.height,
            bands=dataset.count,
            overviews=len(dataset.overviews(1)),
            nodata=dataset.nodata,
            crs=dataset.crs.to_wkt() if dataset.crs else "",
            transform=dataset.transform,
        )


def view(headers: Sequence[Header], flat: Affine | None, level: int) -> str:
    """A GDAL virtual dataset of all bands of some files, or of one of their overviews, which lies where `flat` says."""
    first = headers[0]
    factor = 2 ** (level + 1)
    width, height = -(-first.width // factor), -(-first.height // factor)
    options = f'<OpenOptions><OOI key="OVERVIEW_LEVEL">{level}</OOI></OpenOptions>' if level >= 0 else ""
    sources = [(header, band) for header in headers for band in range(1, header.bands + 1)]
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{number}"><NoDataValue>{header.nodata}</NoDataValue><SimpleSource>'
        f'<SourceFilename relativeToVRT="0" shared="0">{escape(str(header.path.absolute()))}</SourceFilename>{options}'
        f"<SourceBand>{band}</SourceBand><SourceProperties {sizes(width, height)} "
        'DataType="Byte" BlockXSize="256" BlockYSize="256"/></SimpleSource></VRTRasterBand>'
        for number, (header, band) in enumerate(sources, 1)
    )
    system, lies = ("EPSG:3857", flat) if flat is not None else (first.crs, first.transform)
    place = ", ".join(map(repr, (lies @ Affine.scale(first.width / width, first.height / height)).to_gdal()))
    head = f"<SRS>{escape(system)}</SRS><GeoTransform>{place}</GeoTransform>"
    return f"<VRTDataset {sizes(width, height, 'raster')}>{head}{bands}</VRTDataset>"


def sizes(width: int, height: int, what: str = "Raster") -> str:
    """Attributes of a virtual dataset."""
    return f'{what}XSize="{width}" {what}YSize="{height}"'


def read_tile(
    files: Path | Files,
    tile: Tile,
    native: int,
    flat: Affine | None = None,
    bands: tuple[int, ...] | None = None,
    resampling: Literal["nearest", "bilinear"] = "nearest",
) -> Pixels:
    """A tile of a raster, warped to web mercator; kept for a while, since a moved threshold asks for it again.

    Args:
        files: an 8-bit GeoTIFF, or several of the same pixels, whose bands follow each other: warped together, they cost
            little more than one.
        tile: zoom, column, row.
        native: zoom at which a pixel of the tile is about one of the raster; below it an overview is read, which costs
            no more at any zoom.
        flat: where the raster lies if the file does not say it.
        bands: band numbers from 1; all without.
        resampling: `nearest` for classes and probabilities, so that every pixel shown is one that was predicted.

    Returns:
        Values (bands, 256, 256) uint8, and where they are valid, (256, 256) bool.

    Raises:
        OutsideTile: the raster does not touch the tile.
    """
    files = (files,) if isinstance(files, Path) else files
    key = (files, *(path.stat().st_mtime_ns for path in files), tile, native, flat, bands, resampling)
    kept = warped.get(key)
    if kept is None:
        kept = warp(files, tile, max(0, native - tile[0]), flat, bands, resampling)
        warped.put(key, kept)
    return kept


def warp(
    files: Files,
    tile: Tile,
    halvings: int,
    flat: Affine | None,
    bands: tuple[int, ...] | None,
    resampling: Literal["nearest", "bilinear"],
) -> Pixels:
    """Read and warp a tile; see `read_tile`."""
    reader_of, tile_outside_bounds = rio_tiler()
    zoom, x, y = tile
    with opened(files, halvings, flat) as dataset:
        reader = reader_of(None, dataset=dataset)
        try:
            image = reader.tile(
                x, y, zoom, tilesize=TILE, indexes=bands, resampling_method=resampling, reproject_method=resampling
            )
        except tile_outside_bounds as error:
            raise OutsideTile from error
    return np.asarray(image.data), np.asarray(image.mask) > 0


@lru_cache
def rio_tiler() -> tuple[Any, Any]:
    """rio-tiler's reader and its error; importing it costs a second, so not before the first tile."""
    with importing:  # tiles come several at once, and a package that imports itself in circles breaks in two threads
        from rio_tiler.errors import NoOverviewWarning, TileOutsideBounds
        from rio_tiler.io import Reader

    warnings.filterwarnings("ignore", category=NoOverviewWarning)  # small rasters need none
    return Reader, TileOutsideBounds


@lru_cache
def warm_up() -> None:
    """Import rio-tiler in the background, before the first tile is asked for; only once."""
    Thread(target=rio_tiler, daemon=True).start()


def flat_place(scene: SceneLayers) -> Affine | None:
    """Where the runs' maps of a scene lie that has no georeference; None for one that has."""
    return None if scene.georeferenced else scene.affine


def read_pixel(path: Path, row: int, column: int) -> list[int]:
    """The values of all bands at a pixel of the file."""
    with opened((path,)) as dataset:
        values: list[int] = dataset.read(window=Window(column, row, 1, 1))[:, 0, 0].tolist()
    return values
