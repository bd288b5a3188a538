"""Opening files that strangers made: which formats, how large, and where on the ground."""

import math
import os
import re
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyproj
import rasterio
from affine import Affine
from pyproj import Geod, Transformer
from pyproj.exceptions import ProjError
from rasterio._err import CPLE_BaseError  # what GDAL raises now and then is of no public kind
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Interleaving
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader
from rasterio.transform import from_gcps
from rasterio.windows import Window

from kdcore.data.side_files import check_overviews, check_side_files, state
from kdcore.errors import DataError, in_short

# Formats that hold pixels themselves. VRT and friends may point anywhere (other files, addresses) and are left out.
MAGIC = {
    b"II*\0": "GTiff",
    b"MM\0*": "GTiff",
    b"II+\0": "GTiff",  # BigTIFF
    b"MM\0+": "GTiff",
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG": "PNG",
    b"\0\0\0\x0cjP": "JP2OpenJPEG",
    b"\xff\x4f\xff\x51": "JP2OpenJPEG",
}
IMAGE_SUFFIXES = (".tif", ".tiff", ".jpg", ".jpeg", ".png", ".jp2")
DTYPES = ("uint8", "uint16", "int16", "float32")
LARGEST_PIECE = 1 << 30  # bytes of a tile or strip, which GDAL reads as a whole
LARGEST_RATIO = 5000  # bytes declared per byte on disk; real imagery, sparse files aside, stays far below
FINEST, COARSEST = 1e-4, 1e6  # metres of a pixel's side that imagery can have
ASSIGN = "Give it the CRS that its numbers are in, for example with `gdal_edit.py -a_srs EPSG:NUMBER FILE`."
CRS_NAME = re.compile(r'"([^"]*)')

GEOD = Geod(ellps="WGS84")


class Raster(DatasetReader):  # type: ignore[misc]
    """An open raster whose broken pixels are told by file and place, whoever reads them."""

    def read(self, *arguments: Any, **options: Any) -> Any:
        """See rasterio.

        Raises:
            DataError: pixels that cannot be read.
        """
        return self._told(super().read, *arguments, **options)

    def read_masks(self, *arguments: Any, **options: Any) -> Any:
        """See rasterio; raises as `read` does."""
        return self._told(super().read_masks, *arguments, **options)

    def dataset_mask(self, *arguments: Any, **options: Any) -> Any:
        """See rasterio; raises as `read` does."""
        return self._told(super().dataset_mask, *arguments, **options)

    def _told(self, read: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            return read(*arguments, **options)
        except (RasterioError, CPLE_BaseError, MemoryError) as error:
            window = options.get("window")
            where = f" at {describe(window)}" if isinstance(window, Window) else ""
            raise DataError(f"{self.name}: broken{where} ({error}). Make the file anew, or copy it again.") from error


def describe(window: Window) -> str:
    """A window in words, for messages."""
    return f"rows {int(window.row_off)}-{int(window.row_off + window.height)}, columns {int(window.col_off)}-{int(window.col_off + window.width)}"


def check_name(path: Path) -> None:
    """Refuse a path that cannot be written into a text, or that the system does not follow.

    Raises:
        DataError: it is not UTF-8, too long, a link to itself, or behind a folder that may not be entered.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        name = os.fsencode(path).decode(errors="backslashreplace")
        raise DataError(f"{name}: this name is not written in UTF-8. Rename the file or folder.") from error
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return  # whoever needs it says so
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{path}: cannot be read ({reason}). Check the name and your rights.") from error


def open_raster(path: Path, max_declared_gb: float = 100.0) -> Raster:
    """Open a raster for reading, recognised by its content and not by its suffix.

    Raises:
        DataError: missing, unreadable, of another format, or declaring far more pixels than its file can hold.
    """
    check_name(path)
    if not path.is_file():
        what = "is no regular file but a folder, pipe or device" if path.exists() else "there is no such file"
        raise DataError(f"{path}: {what}.")
    check_side_files(path)
    driver = None
    mend = "Convert it, for example with `gdal_translate -of GTiff`."
    try:
        with path.open("rb", buffering=0) as file:
            start = file.read(8)
        driver = next((name for magic, name in MAGIC.items() if start.startswith(magic)), None)
        if driver is None:
            raise DataError(f"{path}: is no GeoTIFF, JPEG, PNG or JPEG 2000 image. {mend}")
        # Otherwise GDAL lists the folder for each of its rasters; files beside a raster are found by their names, too.
        with warnings.catch_warnings(), rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="TRUE"):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            dataset = Raster(str(path), driver=driver, sharing=False)  # rasterio.open enters a second Env
    except PermissionError as error:
        raise DataError(f"{path}: you have no right to read it. Ask its owner for that, or leave it out.") from error
    except (RasterioError, OSError) as error:
        reason = in_short(error, 150)
        raise DataError(f"{path}: looks like {driver or 'an image'} but cannot be read ({reason}). {mend}") from error
    try:
        check_overviews(path, dataset)
        check_size(path, dataset, max_declared_gb)
    except DataError:
        dataset.close()
        raise
    return dataset


def check_size(path: Path, dataset: rasterio.DatasetReader, max_declared_gb: float) -> None:
    """Refuse a raster that declares far more than its file can hold, or whose pixels cannot be read piece by piece.

    Raises:
        DataError: says how large it would be.
    """
    itemsize = max(bytes_per_pixel(name) for name in dataset.dtypes)
    declared = dataset.width * dataset.height * dataset.count * itemsize
    on_disk = max(1, path.stat().st_size)
    if declared > max_declared_gb * 1e9 and declared / on_disk > LARGEST_RATIO:
        shape = f"{dataset.width} x {dataset.height} px x {dataset.count} bands"
        raise DataError(
            f"{path}: its header declares {shape} ({declared / 1e9:.0f} GB) but the file has {on_disk / 1e6:.1f} MB; "
            "it is broken or sparse. Make the file anew, or raise `max_declared_gb` in collection.yaml if you trust it."
        )
    piece = largest_piece(dataset)
    if piece > LARGEST_PIECE:
        raise DataError(
            f"{path}: is stored in pieces of {piece / 1e9:.1f} GB, each of which must be read as a whole. "
            "Store it in tiles: `gdal_translate -co TILED=YES -co COMPRESS=DEFLATE`."
        )


def largest_piece(dataset: rasterio.DatasetReader) -> int:
    """Bytes of the largest tile or strip, which GDAL reads as a whole."""
    together = dataset.count if dataset.interleaving == Interleaving.pixel else 1
    itemsize = max(bytes_per_pixel(name) for name in dataset.dtypes)
    return int(max(height * width for height, width in dataset.block_shapes)) * itemsize * together


def bytes_per_pixel(dtype: str) -> int:
    """Bytes of one value of a rasterio dtype name."""
    return {"uint8": 1, "int8": 1, "uint16": 2, "int16": 2, "float64": 8, "int64": 8, "uint64": 8}.get(dtype, 4)


class Georeference(NamedTuple):
    """Where a raster says that it lies.

    Attributes:
        crs: None where it does not say.
        transform: column and row to the CRS.
        resolution: metres on the ground of a pixel's width and height; None where unknown.
        off: pixels by which the ground control points miss the grid, at most; 0 where there are none.
    """

    crs: CRS | None
    transform: Affine
    resolution: tuple[float, float] | None
    off: float = 0.0


def georeference(dataset: rasterio.DatasetReader) -> Georeference:
    """Where an open raster lies: by its grid, or by the grid that fits its ground control points best.

    Raises:
        DataError: at a place that its CRS does not have, or with pixels of no size that a picture can have.
    """
    crs, transform, off = dataset.crs, dataset.transform, 0.0
    points, points_crs = dataset.gcps
    if transform.is_identity and crs is None and points_crs is not None and len(points) > 2:
        crs, transform = points_crs, from_gcps(points)
        if transform.determinant:
            missed = [~transform @ (point.x, point.y) for point in points]
            off = max(
                float(np.hypot(x - point.col, y - point.row)) for (x, y), point in zip(missed, points, strict=True)
            )
    resolution = None
    if crs is not None and not transform.is_identity:
        check_place(dataset, crs, transform)
        resolution = ground_resolution(crs, transform, dataset.width, dataset.height)
        sides = resolution or (1.0, 1.0)
        if not all(FINEST <= side <= COARSEST for side in sides):
            raise DataError(
                f"{dataset.name}: its pixels would be {sides[0]:.3g} x {sides[1]:.3g} m large at the place that it names in {name_of(crs)}. "
                f"{ASSIGN}"
            )
    return Georeference(crs, transform, resolution, off)


class Header(NamedTuple):
    """What a raster says of itself; `colours` are the bands (from 1) that hold imagery."""

    shape: tuple[int, int]
    bands: int
    dtype: str
    driver: str
    nodata: float | None
    colours: tuple[int, ...]
    place: Georeference


def read_header(path: Path, max_declared_gb: float = 100.0) -> Header:
    """The header of a raster; kept until the file or one beside it is written anew, because opening takes longest of all.

    Raises:
        DataError: see `open_raster` and `georeference`.
    """
    try:
        now = state(path)
    except (OSError, UnicodeEncodeError):
        now = ()  # opening it tells what is wrong
    return known_header(path, max_declared_gb, now)


@lru_cache(maxsize=65536)
def known_header(path: Path, max_declared_gb: float, now: tuple[int, ...]) -> Header:
    """See `read_header`; `now` is the state of the files."""
    with open_raster(path, max_declared_gb) as dataset:
        return Header(
            dataset.shape,
            dataset.count,
            dataset.dtypes[0],
            dataset.driver,
            dataset.nodata,
            colour_bands(dataset),
            georeference(dataset),
        )


def describe_points(off: float) -> str:
    """What to tell about ground control points that fit no grid well, or an empty text."""
    if off <= 1:
        return ""
    return (
        f"Its ground control points miss the grid that fits them best by up to {off:.1f} px, so its place is no better than that. "
        "Warp it first, for example with `gdalwarp -tps`, where that matters."
    )


def check_place(dataset: rasterio.DatasetReader, crs: CRS, transform: Affine) -> None:
    """Refuse a place that is none: no numbers, no area, degrees beyond the poles, or metres beyond what the CRS can show.

    Raises:
        DataError: says where the raster would lie.
    """
    corners = [transform @ (column, row) for column in (0, dataset.width) for row in (0, dataset.height)]
    x, y = transform @ (dataset.width / 2, dataset.height / 2)
    possible = bool(np.isfinite(corners).all()) and transform.determinant != 0
    way = to_degrees(crs.to_wkt()) if possible else None
    if way is not None and crs.is_geographic:
        pixel = max(map(abs, tuple(transform)[:6][:2] + tuple(transform)[3:5]))  # a global grid may end a pixel beyond
        possible = all(abs(lon) <= 540 + pixel and abs(lat) <= 90 + pixel for lon, lat in corners)
    elif way is not None:
        possible = bool(np.isfinite(way.transform(x, y)).all())
    if not possible:
        raise DataError(
            f"{dataset.name}: says that its centre lies at x {x:.10g}, y {y:.10g} in {name_of(crs)}; there is no such place. {ASSIGN}"
        )


def name_of(crs: CRS) -> str:
    """A CRS in a few words."""
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else f"{CRS_NAME.findall(crs.to_wkt())[0][:60]!r}"


@lru_cache(maxsize=512)
def transformer(source: str, target: str) -> Transformer:
    """The way from one CRS to another, x (or longitude) first.

    Raises:
        ProjError: PROJ knows none.
    """
    return Transformer.from_crs(source, target, always_xy=True)


@lru_cache(maxsize=512)
def to_degrees(wkt: str) -> Transformer | None:
    """The way from a CRS to longitude and latitude (WGS 84); None where there is none: a local system, another planet."""
    try:
        return transformer(wkt, "EPSG:4326")
    except ProjError:
        return None


@lru_cache(maxsize=512)
def own_metres(wkt: str) -> float | None:
    """Metres of one unit of a CRS that leads to no place on Earth; None where its units are angles or unknown."""
    try:
        crs = pyproj.CRS(wkt)
    except ProjError:
        return None
    return None if crs.is_geographic or not crs.axis_info else float(crs.axis_info[0].unit_conversion_factor) or None


def ground_resolution(crs: CRS | None, transform: Affine, width: int, height: int) -> tuple[float, float] | None:
    """Metres on the ground of one pixel's width and height, at the raster's centre; None without a CRS.

    Measured on the WGS 84 ellipsoid, so that web-mercator and degree grids give true lengths; in a local system in its own units.
    """
    if crs is None or transform.is_identity:
        return None
    column, row = width / 2, height / 2
    points = [transform @ point for point in ((column, row), (column + 1, row), (column, row + 1))]
    way = to_degrees(crs.to_wkt())
    if way is None:
        unit = own_metres(crs.to_wkt())
        return (
            None if unit is None else (math.dist(points[0], points[1]) * unit, math.dist(points[0], points[2]) * unit)
        )
    longitudes, latitudes = way.transform([x for x, _ in points], [y for _, y in points])
    across = GEOD.inv(longitudes[0], latitudes[0], longitudes[1], latitudes[1])[2]
    down = GEOD.inv(longitudes[0], latitudes[0], longitudes[2], latitudes[2])[2]
    return float(across), float(down)


def colour_bands(dataset: rasterio.DatasetReader) -> tuple[int, ...]:
    """The bands (from 1) that hold imagery: all but alpha."""
    return tuple(
        band for band, meaning in zip(dataset.indexes, dataset.colorinterp, strict=True) if meaning != ColorInterp.alpha
    )
