"""Maps of classes for GIS programs, made of the probabilities that a run wrote of a scene. No torch here."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rasterio.windows import Window

from kdcore.data.rasters import open_raster
from kdcore.data.writing import quick_tiles, writing_raster
from kdcore.evaluation.levels import NODATA, decide
from kdcore.evaluation.operating import level_of
from kdcore.inference.layers import add_overviews

ROWS = 1024  # that are read at a time, a multiple of the files' tiles
TILE = 256  # pixels


def classes_tag(classes: Sequence[str]) -> str:
    """How a map of classes says what its values mean."""
    return ", ".join(f"{index} {name}" for index, name in enumerate(classes))


def colour_table(colours: Sequence[str]) -> dict[int, tuple[int, int, int, int]]:
    """The classes' colours; what is no class is transparent."""
    table = dict.fromkeys(range(NODATA + 1), (0, 0, 0, 0))
    for index, colour in enumerate(colours):
        red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
        table[index] = (red, green, blue, 255)
    return table


def write_class_map(
    probabilities: Path, out: Path, classes: Sequence[str], colours: Sequence[str], threshold: float = 0.5
) -> None:
    """Write what a run decides on as a GeoTIFF of class indices, uint8, nodata 255, as `kdcore predict` writes it.

    Args:
        probabilities: GeoTIFF of a run, uint8 0..254, nodata 255; one band for two classes, else one a class.
        out: to be made.
        classes: names of all.
        colours: of all, as '#rrggbb'.
        threshold: probability from which the second of two classes is decided on.

    Raises:
        KdcoreError: the map cannot be read, or the disk is full.
    """
    with open_raster(probabilities) as levels:
        profile = {
            "width": levels.width,
            "height": levels.height,
            "count": 1,
            "dtype": "uint8",
            "nodata": NODATA,
            "crs": levels.crs,
            "transform": levels.transform,
            "photometric": "palette",
        }
        with writing_raster(out, add_overviews, **profile, **quick_tiles(TILE)) as writer:
            writer.dataset.update_tags(CLASSES=classes_tag(classes), MEANING=f"index of the class; {NODATA} is nodata")
            writer.dataset.write_colormap(1, colour_table(colours))
            for row in range(0, levels.height, ROWS):
                values = levels.read(window=Window(0, row, levels.width, min(ROWS, levels.height - row)))
                decided = np.where(values[0] == NODATA, np.uint8(NODATA), decide(values, level_of(threshold)))
                writer.write(decided[None].astype(np.uint8), row, 0)


def write_objects(
    class_map: Path, probabilities: Path, out: Path, classes: Sequence[str], colours: Sequence[str]
) -> None:
    """Write the objects of a map as polygons into a GeoPackage; of two classes only those of the second.

    Raises:
        KdcoreError: a map cannot be read, or the disk is full.
    """
    from kdcore.inference.polygons import write_polygons  # its libraries take 100 MB, which maps need not carry

    background = 0 if len(classes) == 2 else None
    write_polygons(
        class_map,
        out,
        names=classes,
        colours=colours,
        background=background,
        probabilities=probabilities,
        layer=out.name.partition(".")[0],
    )
