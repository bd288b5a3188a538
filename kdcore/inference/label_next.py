"""Where a label teaches most: the tiles on which two networks disagree, spread over the area."""

from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray
from rasterio.windows import Window

from kdcore.data.rasters import open_raster
from kdcore.errors import DataError
from kdcore.inference.area_sample import check_geopackage, class_names
from kdcore.ownership import replacing_own


@dataclass(frozen=True)
class Tile:
    """A square of the map, in pixels, and the share of its pixels to which the networks give another class."""

    row: int
    column: int
    height: int
    width: int
    disagreement: float


def disagreeing_tiles(first: Path, second: Path, side: int) -> list[Tile]:
    """Every tile of which half has data, with the networks' disagreement on it.

    Args:
        first: a map of classes by `kdcore predict`.
        second: that of another network, of the same raster.
        side: of a tile, pixels.

    Raises:
        DataError: the maps are of other rasters or other classes.
    """
    found = []
    with open_raster(first) as one, open_raster(second) as other:
        classes = class_names(one)
        if class_names(other) != classes:
            raise DataError(
                f"{second}: has the classes {', '.join(class_names(other))}, {first.name} {', '.join(classes)}."
            )
        if (one.crs, one.shape) != (other.crs, other.shape) or not one.transform.almost_equals(other.transform, 1e-9):
            raise DataError(
                f"{second}: is no map of the same raster as {first.name}. Map one raster with both networks."
            )
        for row in range(0, one.height, side):
            height = min(side, one.height - row)
            strips = [dataset.read(1, window=Window(0, row, one.width, height)) for dataset in (one, other)]
            known = (strips[0] < len(classes)) & (strips[1] < len(classes))
            differ = known & (strips[0] != strips[1])
            starts = range(0, one.width, side)
            for column, seen, wrong in zip(starts, sums(known, starts), sums(differ, starts), strict=True):
                width = min(side, one.width - column)
                if 2 * seen >= side * side:
                    found.append(Tile(row, column, height, width, float(wrong / seen)))
    return found


def sums(flags: NDArray[np.bool_], starts: range) -> NDArray[np.int64]:
    """Pixels that are True in each piece of a strip."""
    return np.add.reduceat(flags.sum(axis=0, dtype=np.int64), starts)


def spread(tiles: list[Tile], wanted: int) -> list[Tile]:
    """The tiles with the largest disagreement, none nearer to another than half the distance of evenly spread ones.

    Where that leaves too few, the distance is halved.
    """
    if not tiles:
        return []
    places = np.array([(tile.row + tile.height / 2, tile.column + tile.width / 2) for tile in tiles])
    distance = np.sqrt(sum(tile.height * tile.width for tile in tiles) / wanted) / 2
    order = np.argsort([-tile.disagreement for tile in tiles], kind="stable")
    chosen: list[int] = []
    while len(chosen) < min(wanted, len(tiles)):
        for index in order:
            gaps = np.hypot(*(places[chosen] - places[index]).T)
            if len(chosen) < wanted and (not chosen or ((gaps > 0).all() and gaps.min() >= distance)):
                chosen.append(int(index))
        distance = distance / 2 if distance > 1 else 0.0
    return sorted((tiles[index] for index in chosen), key=lambda tile: -tile.disagreement)


def write_next(first: Path, second: Path, out: Path, tiles: int, side: int, overwrite: bool = False) -> list[Tile]:
    """Write the tiles to label next as polygons into a GeoPackage, the one with the largest disagreement first.

    Raises:
        DataError: the maps do not belong together, hold no data, or `out` is named otherwise.
        KdcoreError: the file cannot be written.
    """
    check_geopackage(out)
    chosen = spread(disagreeing_tiles(first, second, side), tiles)
    if not chosen:
        raise DataError(f"{first}: no tile of {side} px holds enough data. Choose a smaller --side.")
    with open_raster(first) as dataset:
        transform, crs = dataset.transform, dataset.crs
    corners = [
        [
            (t.column, t.row),
            (t.column + t.width, t.row),
            (t.column + t.width, t.row + t.height),
            (t.column, t.row + t.height),
        ]
        for t in chosen
    ]
    frame = geopandas.GeoDataFrame(
        {
            "rank": range(1, len(chosen) + 1),
            "disagreement": [round(tile.disagreement, 4) for tile in chosen],
            "row": [tile.row for tile in chosen],
            "column": [tile.column for tile in chosen],
        },
        geometry=[shapely.Polygon([transform @ corner for corner in ring]) for ring in corners],
        crs=crs.to_wkt(),
    )
    with replacing_own(out, overwrite) as new:
        pyogrio.write_dataframe(frame, new, driver="GPKG", layer="label_next")
    return chosen
