"""Labels of a scene as class indices: from index masks, palette or RGB masks, or polygons.

Every source gives (height, width) uint8: the index of the class in the collection, 255 where there is no label.
"""

import warnings
from pathlib import Path
from typing import Any, Protocol

import geopandas
import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.features import rasterize
from rasterio.windows import Window
from shapely import box

from kdcore.data.rasters import open_raster
from kdcore.errors import DataError
from kdcore.settings import CollectionSettings

IGNORE = 255
UNKNOWN = 254  # at most 200 classes, so this index is free


class LabelSource(Protocol):
    """Something that gives labels for a window of a scene."""

    def read(self, window: Window, shape: tuple[int, int], transform: Affine) -> NDArray[np.uint8]:
        """Labels (height, width) of a window in native pixels, at `shape`; `transform` maps the result's pixels to the CRS."""
        ...


def pack_colours(rgb: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(3, ...) uint8 colours as one integer each, 0xRRGGBB."""
    wide = rgb.astype(np.int64)
    packed: NDArray[np.int64] = (wide[0] << 16) | (wide[1] << 8) | wide[2]
    return packed


def colour_code(colour: str) -> int:
    """'#RRGGBB' as an integer."""
    return int(colour[1:], 16)


class MaskSource:
    """A mask file of the same size as its image: values, palette or RGB, as the collection's classes say."""

    def __init__(self, path: Path, settings: CollectionSettings, image_shape: tuple[int, int]) -> None:
        self.path = path
        self.by_value = settings.classes[0].value is not None
        self.dataset = open_raster(path, settings.max_declared_gb)
        if self.dataset.shape != image_shape:
            raise DataError(
                f"{path}: the mask is {self.dataset.width} x {self.dataset.height} px but its image is "
                f"{image_shape[1]} x {image_shape[0]} px. Export the mask on the image's grid."
            )
        if self.by_value:
            pairs = {entry.value: index for index, entry in enumerate(settings.classes)}
            ignored: list[Any] = [entry for entry in settings.ignore if isinstance(entry, int)]
        else:
            without = [entry.name for entry in settings.classes if entry.colour is None]
            if without:
                raise DataError(
                    f"{path}: class {without[0]!r} has neither a value nor a colour, so the mask cannot be read. "
                    "Give every class its `value` or its `colour` in collection.yaml."
                )
            pairs = {colour_code(entry.colour or ""): index for index, entry in enumerate(settings.classes)}
            ignored = [colour_code(entry) for entry in settings.ignore if isinstance(entry, str)]
        table = dict.fromkeys(ignored, IGNORE) | pairs
        if self.by_value and self.dataset.nodata is not None and float(self.dataset.nodata).is_integer():
            table.setdefault(int(self.dataset.nodata), IGNORE)
        self.keys = np.array(sorted(table), dtype=np.int64)
        self.indices = np.array([table[int(key)] for key in self.keys], dtype=np.uint8)
        self.palette = None if self.by_value else self._palette()

    def _palette(self) -> NDArray[np.uint8] | None:
        if self.dataset.count >= 3:
            return None
        try:
            colours = self.dataset.colormap(1)
        except ValueError as error:
            raise DataError(
                f"{self.path}: has one band and no palette, but the classes are given by colour. "
                "Give the classes their `value` in collection.yaml instead."
            ) from error
        return np.array([colours.get(index, (0, 0, 0, 0))[:3] for index in range(256)], dtype=np.uint8).T

    def codes(self, window: Window, shape: tuple[int, int]) -> NDArray[np.int64]:
        """Values or packed colours (height, width) of a window."""
        bands = 1 if self.by_value or self.palette is not None else [1, 2, 3]
        try:
            raw = self.dataset.read(
                bands, window=window, out_shape=shape if bands == 1 else (3, *shape), resampling=Resampling.nearest
            )
        except RasterioError as error:
            raise DataError(f"{self.path}: broken at {describe(window)} ({error}). Replace the file.") from error
        if self.by_value:
            return np.asarray(raw).astype(np.int64)
        return pack_colours(self.palette[:, raw] if self.palette is not None else raw)

    def read(self, window: Window, shape: tuple[int, int], transform: Affine) -> NDArray[np.uint8]:
        """Class indices of the window; a value or colour that is no class is an error."""
        codes = self.codes(window, shape)
        position = np.minimum(np.searchsorted(self.keys, codes), len(self.keys) - 1)
        found = np.where(self.keys[position] == codes, self.indices[position], np.uint8(UNKNOWN))
        if (found == UNKNOWN).any():
            row, column = np.argwhere(found == UNKNOWN)[0]
            code = int(codes[row, column])
            y = int(window.row_off + row * window.height / shape[0])
            x = int(window.col_off + column * window.width / shape[1])
            what = f"value {code}" if self.by_value else f"colour #{code:06X}"
            raise DataError(
                f"{self.path}: {what} at row {y}, column {x} is no class. "
                "Add it to `classes` or to `ignore` in collection.yaml."
            )
        return found


class PolygonSource:
    """Polygons in any CRS, burnt onto the scene's grid in the file's order; elsewhere is the first class."""

    def __init__(self, path: Path, settings: CollectionSettings, crs: CRS | None, image: Path | None = None) -> None:
        if crs is None:
            raise DataError(
                f"{path}: the image of these polygons has no CRS, so they cannot be placed. Use a mask, or georeference the image."
            )
        frame = read_polygons(path)
        if settings.image_field is not None and image is not None:
            frame = of_image(frame, settings.image_field, image, path)
        try:
            frame = frame.to_crs(crs.to_wkt())
        except Exception as error:  # pyproj raises several kinds
            raise DataError(f"{path}: its CRS cannot be turned into the image's ({error}).") from error
        if settings.class_field is None:
            if not settings.binary:
                raise DataError(
                    f"{path}: {len(settings.classes)} classes need a field that says which polygon is what. "
                    f"Set `class_field:` in collection.yaml to one of {', '.join(map(str, frame.columns.drop('geometry')))}."
                )
            self.values = np.ones(len(frame), dtype=np.uint8)
        else:
            if settings.class_field not in frame.columns:
                raise DataError(
                    f"{path}: has no field {settings.class_field!r}; it has {', '.join(map(str, frame.columns.drop('geometry')))}."
                )
            index = {name: position for position, name in enumerate(settings.class_names)}
            names = frame[settings.class_field].astype(str)
            strange = sorted(set(names) - set(index))
            if strange:
                raise DataError(
                    f"{path}: field {settings.class_field!r} holds {strange[0]!r}, which is no class. "
                    "Add it to `classes` in collection.yaml, or correct the file."
                )
            self.values = names.map(index).to_numpy(dtype=np.uint8)
        self.frame = frame

    def read(self, window: Window, shape: tuple[int, int], transform: Affine) -> NDArray[np.uint8]:
        """Class indices of the window, by the pixels' centres."""
        height, width = shape
        corners = [transform @ corner for corner in ((0, 0), (width, 0), (0, height), (width, height))]
        xs, ys = zip(*corners, strict=True)
        near = np.sort(self.frame.sindex.query(box(min(xs), min(ys), max(xs), max(ys))))
        labels = np.zeros(shape, dtype=np.uint8)
        if len(near):
            geometries = self.frame.geometry.to_numpy()
            shapes = [(geometries[index], int(self.values[index])) for index in near]
            rasterize(shapes, out=labels, transform=transform)
        return labels


def read_polygons(path: Path) -> geopandas.GeoDataFrame:
    """Read the polygons of a GeoJSON or GeoPackage.

    Raises:
        DataError: unreadable, without a CRS, or without polygons.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frame = geopandas.read_file(path)
    except Exception as error:  # GDAL's vector drivers raise many kinds
        raise DataError(
            f"{path}: cannot be read as GeoJSON or GeoPackage ({' '.join(str(error).split())[:150]})."
        ) from error
    if not isinstance(frame, geopandas.GeoDataFrame) or frame.crs is None:
        raise DataError(f"{path}: these polygons have no CRS. Assign one, for example with `ogr2ogr -a_srs EPSG:4326`.")
    frame = frame[frame.geometry.notna() & ~frame.geometry.is_empty]
    frame = frame[frame.geometry.geom_type.isin(["Polygon", "MultiPolygon"])]
    if frame.empty:
        raise DataError(f"{path}: holds no polygons. Points and lines cannot be used as labels; buffer them first.")
    return frame.reset_index(drop=True)


def of_image(frame: geopandas.GeoDataFrame, field: str, image: Path, path: Path) -> geopandas.GeoDataFrame:
    """The polygons whose field names an image: by its file's name, with or without suffix and folders.

    Raises:
        DataError: there is no such field.
    """
    if field not in frame.columns:
        raise DataError(
            f"{path}: has no field {field!r} for `image_field`; it has {', '.join(map(str, frame.columns.drop('geometry')))}."
        )
    names = frame[field].astype(str).str.replace("\\", "/").str.rpartition("/")[2]
    return frame[names.isin([image.name, image.stem])].reset_index(drop=True)


def describe(window: Window) -> str:
    """A window in words, for messages."""
    return f"rows {int(window.row_off)}-{int(window.row_off + window.height)}, columns {int(window.col_off)}-{int(window.col_off + window.width)}"
