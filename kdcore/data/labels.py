"""Labels of a scene as class indices: from masks (`masks.py`) or from polygons.

Every source gives (height, width) uint8: the index of the class in the collection, 255 where there is no label.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.windows import Window
from shapely import Geometry, box

from kdcore.bounded import remembered
from kdcore.data.masks import IGNORE
from kdcore.data.vectors import read_polygons
from kdcore.errors import DataError
from kdcore.settings import CollectionSettings

if TYPE_CHECKING:
    import geopandas  # with pandas a third of a second, for who has polygons


class LabelSource(Protocol):
    """Something that gives labels for a window of a scene."""

    def read(self, window: Window, shape: tuple[int, int], transform: Affine) -> NDArray[np.uint8]:
        """Labels (height, width) of a window in native pixels, at `shape`; `transform` maps the result's pixels to the CRS."""
        ...


class PolygonSource:
    """Polygons in any CRS, burnt onto the scene's grid in the file's order; elsewhere is the first class."""

    def __init__(self, path: Path, settings: CollectionSettings, crs: CRS | None, image: Path | None = None) -> None:
        self.path = path
        if crs is None:
            raise DataError(
                f"{path}: the image of these polygons has no CRS, so they cannot be placed. Use a mask, or georeference the image."
            )
        own = None if settings.image_field is None or image is None else of_image(path, settings.image_field, image)
        frame = read_polygons(path) if own is None else own
        self.drawn = len(frame)
        self.values = class_indices(frame, path, settings)
        self.frame, kept = onto(frame, path, crs)
        self.values, self.numbers = self.values[kept], np.flatnonzero(kept)

    def touches(self, outline: Geometry) -> bool:
        """Whether a polygon lies on or close to an outline in the scene's CRS; also where the file has none at all.

        A tile without objects may bring those of its neighbours.
        """
        return not self.drawn or len(self.close_to(outline)) > 0

    def close_to(self, outline: Geometry) -> NDArray[np.int64]:
        """Numbers in the file of the polygons on or close to an outline in the scene's CRS."""
        outline = outline.buffer(0.1 * outline.length)
        near: NDArray[np.int64] = self.numbers[self.frame.sindex.query(outline, predicate="intersects")]
        return near

    def read(self, window: Window, shape: tuple[int, int], transform: Affine) -> NDArray[np.uint8]:
        """Class indices of the window, by the pixels' centres."""
        return burn(self.frame, self.values, np.zeros(shape, dtype=np.uint8), transform)


class AreaSource:
    """An area of interest: labels count inside its polygons only."""

    def __init__(self, path: Path, crs: CRS | None) -> None:
        self.path = path
        if crs is None:
            raise DataError(
                f"{path}: an image without CRS cannot be compared with this area of interest. Georeference the image, or remove `area_of_interest`."
            )
        frame = read_polygons(path)
        if frame.empty:
            raise DataError(
                f"{path}: the area of interest holds no polygons, so nothing would be labelled. Draw it again."
            )
        self.frame, _ = onto(frame, path, crs)

    def touches(self, outline: Geometry) -> bool:
        """Whether the area meets an outline in the scene's CRS."""
        return len(self.frame.sindex.query(outline, predicate="intersects")) > 0

    def outside(self, shape: tuple[int, int], transform: Affine) -> NDArray[np.bool_]:
        """(height, width): where a window's pixels lie outside of the area."""
        ones = np.ones(len(self.frame), dtype=np.uint8)
        return np.asarray(burn(self.frame, ones, np.zeros(shape, dtype=np.uint8), transform) == 0)


def onto(frame: "geopandas.GeoDataFrame", path: Path, crs: CRS) -> tuple["geopandas.GeoDataFrame", NDArray[np.bool_]]:
    """Polygons in another CRS, and which of them exist there (a UTM zone does not reach around the globe).

    A shapefile without its `.prj` is taken to be in the image's CRS; whether it lies on the image is checked elsewhere.
    """
    if frame.empty:
        return frame, np.ones(0, dtype=bool)
    if frame.crs is None:
        frame = frame.set_crs(crs.to_wkt())
    try:
        frame = frame.to_crs(crs.to_wkt())
    except Exception as error:  # pyproj raises several kinds
        raise DataError(f"{path}: its CRS cannot be turned into the image's ({error}).") from error
    kept = np.isfinite(frame.geometry.bounds.to_numpy()).all(axis=1)
    return frame[kept].reset_index(drop=True), kept


def burn(
    frame: "geopandas.GeoDataFrame", values: NDArray[np.uint8], labels: NDArray[np.uint8], transform: Affine
) -> NDArray[np.uint8]:
    """Burn polygons into a window of labels in place, by the pixels' centres and in the file's order."""
    if frame.empty:
        return labels
    height, width = labels.shape
    corners = [transform @ corner for corner in ((0, 0), (width, 0), (0, height), (width, height))]
    xs, ys = zip(*corners, strict=True)
    near = np.sort(frame.sindex.query(box(min(xs), min(ys), max(xs), max(ys))))
    if len(near):
        geometries = frame.geometry.to_numpy()
        rasterize([(geometries[index], int(values[index])) for index in near], out=labels, transform=transform)
    return labels


def class_indices(frame: "geopandas.GeoDataFrame", path: Path, settings: CollectionSettings) -> NDArray[np.uint8]:
    """The class of each polygon, (polygons,) uint8; 255 where the field is empty or its value is in `ignore`.

    Raises:
        DataError: there is no field for more than two classes, or a value that is no class.
    """
    fields = ", ".join(str(name) for name in frame.columns if name != frame.geometry.name)
    if settings.class_field is None:
        if not settings.binary and len(frame):
            raise DataError(
                f"{path}: {len(settings.classes)} classes need a field that says which polygon is what. "
                f"Set `class_field:` in collection.yaml to one of {fields}."
            )
        return np.ones(len(frame), dtype=np.uint8)
    if frame.empty:
        return np.ones(0, dtype=np.uint8)
    if settings.class_field not in frame.columns:
        raise DataError(
            f"{path}: has no field {settings.class_field!r}; it has {fields}. Name the field alike in all files."
        )
    index = {str(entry.value): place for place, entry in enumerate(settings.classes) if entry.value is not None}
    index |= dict.fromkeys(map(str, settings.ignore), IGNORE) | {
        name: place for place, name in enumerate(settings.class_names)
    }
    values = []
    for value in frame[settings.class_field]:
        names = class_names(value)
        found = IGNORE if not names else next((index[name] for name in names if name in index), None)
        if found is None:
            raise DataError(
                f"{path}: field {settings.class_field!r} holds {names[0]!r}, which is no class. "
                "Add it to `classes` or to `ignore` in collection.yaml, or correct the file."
            )
        values.append(found)
    return np.array(values, dtype=np.uint8)


def of_image(path: Path, field: str, image: Path) -> "geopandas.GeoDataFrame":
    """The polygons whose field names an image: by its file's name, with or without suffix and folders.

    Raises:
        DataError: there is no such field.
    """
    frame, owned = by_image(path, field)
    rows = [owned[name] for name in {image.name, image.stem} if name in owned]
    return frame.iloc[np.sort(np.concatenate(rows))].reset_index(drop=True) if rows else frame.iloc[:0]


@remembered(4)
def by_image(path: Path, field: str) -> tuple["geopandas.GeoDataFrame", dict[str, NDArray[np.int64]]]:
    """A vector file, read once for all of its images, and the rows that belong to each."""
    frame = read_polygons(path)
    if field not in frame.columns:
        there = ", ".join(map(str, frame.columns.drop("geometry")))
        raise DataError(f"{path}: has no field {field!r} for `image_field`; it has {there}.")
    names = frame[field].astype(str).str.replace("\\", "/").str.rpartition("/")[2]
    return frame, dict(names.groupby(names).indices)


def class_names(value: Any) -> tuple[str, ...]:
    """How a field's value may be written in collection.yaml, the usual way first; nothing for an empty field."""
    import pandas as pd

    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)) or not str(value).strip():
        return ()
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value)), str(value)  # a column of whole numbers with an empty field is read as floats
    return str(value).strip(), str(value)
