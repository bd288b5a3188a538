"""From a raster of classes of any size to polygons with their class and their area on the ground, for GIS programs.

The raster is read once, in pieces; what lies across their borders becomes one polygon all the same. Pixels belong together where
they touch along a side, not only at a corner.
"""

import errno
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.windows import Window

from kdcore.data.rasters import ground_resolution, open_raster
from kdcore.data.scene import Box
from kdcore.errors import DataError
from kdcore.evaluation.levels import LEVELS, NODATA
from kdcore.files import replacing
from kdcore.inference.ground_area import PixelAreas
from kdcore.inference.objects import Object, Objects

PIECE = 1024  # pixels, a multiple of the maps' blocks
CACHE_BYTES = 128_000_000  # of GDAL; holds a row of pieces of a map that is stored in lines
BATCH = 100_000  # points of polygons that are handed to GDAL at once
DRIVERS = {".gpkg": "GPKG", ".geojson": "GeoJSON"}


def write_polygons(
    classes: Path,
    out: Path,
    *,
    names: Sequence[str],
    colours: Sequence[str] | None = None,
    background: int | None = None,
    probabilities: Path | None = None,
    min_area_m2: float = 0.0,
    simplify_metres: float | None = None,
    piece: int = PIECE,
    layer: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write the objects of a map of classes as polygons.

    Fields: `class` (its name), `class_index`, `area_m2` (of its pixels, on the WGS 84 ellipsoid whatever the CRS; empty where the
    raster has no place), `probability` (mean over its pixels of its class's probability, where `probabilities` is given)
    and `colour` (where `colours` are given).

    Args:
        classes: GeoTIFF of uint8 class indices, nodata 255.
        out: `.gpkg`, in the raster's CRS, or `.geojson`, in longitude and latitude (RFC 7946).
        names: of the classes, in the order of their indices.
        colours: of the classes, as '#rrggbb'.
        background: a class that is no object and left out.
        probabilities: GeoTIFF of the same pixels, uint8 0..254, one band per class, or one band of class 1 of two.
        min_area_m2: smaller objects are left out; nothing takes their place.
        simplify_metres: leave out corners that cut off less than this squared; neighbours still fit without gaps. None keeps the
            pixels' outlines. `area_m2` stays that of the pixels.
        piece: side in pixels of what is read at once.
        layer: its name in the file; by default that of the file.
        progress: is told pieces done and pieces in all; raise in it to stop.

    Returns:
        How many polygons there are.

    Raises:
        DataError: a raster that is broken or of another kind, a format that is unknown, or metres asked of a raster without a place.
        KdcoreError: the disk is full, or the folder cannot be written to; nothing is left behind.
    """
    driver = DRIVERS.get(out.suffix.lower())
    if driver is None:
        raise DataError(f"{out}: polygons are written as .gpkg or .geojson. Choose one of these.")
    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES), ExitStack() as stack:
        raster = stack.enter_context(open_raster(classes))
        levels = stack.enter_context(open_raster(probabilities)) if probabilities else None
        placed = ground_resolution(raster.crs, raster.transform, raster.width, raster.height) is not None
        _check(raster, levels, len(names))
        if not placed and (driver == "GeoJSON" or min_area_m2 > 0 or simplify_metres):
            raise DataError(
                f"{classes}: has no coordinate system, so nothing is known in metres or degrees. "
                "Write a .gpkg without a smallest size and without simplification, or georeference the raster."
            )
        source = Pieces(raster, levels, PixelAreas.of(raster) if placed else None, piece, simplify_metres, progress)
        skipped = (NODATA,) if background is None else (background, NODATA)
        table = Table(raster.transform, names, colours, levels is not None)
        objects = source.objects(Objects(raster.height, raster.width, skipped, min_area_m2))
        with replacing(out) as temporary:
            _write(table, objects, temporary, driver, layer or out.stem, raster.crs.to_string() if placed else None)
    return table.count


def _check(raster: Any, levels: Any, classes: int) -> None:
    if (raster.count, raster.dtypes[0]) != (1, "uint8"):
        raise DataError(
            f"{raster.name}: holds {raster.count} band(s) of {raster.dtypes[0]}; a map of classes has one of uint8."
        )
    if levels is None:
        return
    bands = (1, 2) if classes == 2 else (classes,)
    if levels.shape != raster.shape or levels.count not in bands or levels.dtypes[0] != "uint8":
        raise DataError(
            f"{levels.name}: {levels.count} band(s) of {levels.height} x {levels.width} px, {levels.dtypes[0]}; "
            f"probabilities of {classes} classes for {raster.name} have {bands[-1]} of {raster.height} x {raster.width} px, uint8."
        )


@dataclass
class Pieces:
    """Reads a raster piece by piece.

    Attributes:
        raster, levels: the classes and, if known, their probabilities.
        areas: of the pixels on the ground; None without a place.
        side: of a piece, pixels.
        simplify_metres, progress: as in `write_polygons`.
    """

    raster: Any
    levels: Any
    areas: PixelAreas | None
    side: int
    simplify_metres: float | None
    progress: Callable[[int, int], None]

    def objects(self, found: Objects) -> Iterator[Object]:
        """Every object once, in the order in which they are complete."""
        height, width = self.raster.shape
        rows, columns = range(0, height, self.side), range(0, width, self.side)
        for number, row in enumerate(rows):
            for place, column in enumerate(columns):
                box = Box(row, column, min(self.side, height - row), min(self.side, width - column))
                classes = self._read(self.raster, box)[0]
                yield from found.add(box, classes, *self._facts(box, classes) if (classes != NODATA).any() else ())
                self.progress(number * len(columns) + place + 1, len(rows) * len(columns))
            yield from found.end_row(last=number + 1 == len(rows))

    def _facts(
        self, box: Box, classes: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None, tuple[float, float] | None]:
        """Pixels' areas, their probabilities, and a pixel's size in tolerances."""
        areas = levels = grid = None
        if self.areas:
            areas = self.areas(box)
            if self.simplify_metres:
                width, height = self.areas.pixel_size(box)
                grid = width / self.simplify_metres, height / self.simplify_metres
        if self.levels:
            known = self._read(self.levels, box)
            if len(known) == 1:
                levels = np.where(classes == 1, known[0], LEVELS - 1.0 - known[0])
            else:
                index = np.minimum(classes, len(known) - 1)[None]  # nodata has none, and is not asked for
                levels = np.take_along_axis(known, index, axis=0)[0].astype(np.float64)
        return areas, levels, grid

    def _read(self, dataset: Any, box: Box) -> NDArray[np.uint8]:
        window = Window(box.column, box.row, box.width, box.height)
        return np.asarray(dataset.read(window=window))


class Table:
    """Turns objects into tables of polygons and fields, a few thousand at a time.

    Args:
        transform: pixels to coordinates.
        names, colours: of the classes.
        probable: objects have probabilities.
    """

    def __init__(self, transform: Affine, names: Sequence[str], colours: Sequence[str] | None, probable: bool) -> None:
        self.transform, self.names, self.colours, self.probable = transform, names, colours, probable
        self.count = 0
        fields = [("class", pa.string()), ("class_index", pa.int32()), ("area_m2", pa.float64())]
        fields += [("probability", pa.float64())] * probable + [("colour", pa.string())] * (colours is not None)
        geometry = pa.field("geometry", pa.binary(), metadata={"ARROW:extension:name": "geoarrow.wkb"})
        self.schema = pa.schema([*(pa.field(*one) for one in fields), geometry])

    def batches(self, objects: Iterator[Object]) -> Iterator[Any]:
        """Record batches of the schema."""
        waiting: list[Object] = []
        points = 0
        for one in objects:
            waiting.append(one)
            points += one.points
            if points > BATCH:
                yield self._batch(waiting)
                waiting, points = [], 0
        yield self._batch(waiting)

    def _batch(self, objects: Sequence[Object]) -> Any:
        a, b, c, d, e, f = tuple(self.transform)[:6]
        linear, origin = np.array([[a, d], [b, e]]), np.array([c, f])
        outlines = np.array([one.outline for one in objects], dtype=object)
        outlines = shapely.transform(outlines, lambda points: points @ linear + origin)
        self.count += len(objects)
        columns: list[Any] = [
            [self._name(one.class_index) for one in objects],
            [one.class_index for one in objects],
            [None if np.isnan(one.area) else float(f"{one.area:.8g}") for one in objects],
        ]
        if self.probable:
            columns.append([round(one.level / one.pixels / (LEVELS - 1), 5) for one in objects])
        if self.colours is not None:
            columns.append([self.colours[one.class_index] for one in objects])
        columns.append(shapely.to_wkb(outlines).tolist())
        arrays = [pa.array(values, field.type) for values, field in zip(columns, self.schema, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _name(self, index: int) -> str:
        if index >= len(self.names):
            raise DataError(f"The map holds class {index}, but only {len(self.names)} classes have names.")
        return self.names[index]


def _write(table: Table, objects: Iterator[Object], path: Path, driver: str, layer: str, crs: str | None) -> None:
    """Let GDAL write what the table yields; what stops the table from outside is raised as it is."""
    from pyogrio.raw import write_arrow  # pandas comes with it

    stopped: list[BaseException] = []

    def batches() -> Iterator[Any]:
        try:
            yield from table.batches(objects)
        except BaseException as error:
            stopped.append(error)  # on the way through GDAL only its text would survive
            raise

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'crs' was not provided")
            write_arrow(
                pa.RecordBatchReader.from_batches(table.schema, batches()),
                path,
                layer=layer,
                driver=driver,
                geometry_name="geometry",
                geometry_type="Polygon",
                crs=crs,
                layer_options={"RFC7946": "YES"} if driver == "GeoJSON" else {},
            )
    except Exception as error:
        if stopped:
            raise stopped[0] from None
        raise OSError(errno.ENOSPC, "GDAL could not write") from error  # it names no reason; this one is the most usual
