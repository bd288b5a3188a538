"""One raster with its labels, read by windows at the collection's resolution."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.windows import Window

from kdcore.bounded import BoundedCache
from kdcore.data.labels import AreaSource, LabelSource, PolygonSource
from kdcore.data.masks import IGNORE, MaskSource
from kdcore.data.nodata import read_without
from kdcore.data.places import refuse_misplaced_mask
from kdcore.data.rasters import DTYPES, colour_bands, open_raster, read_header, to_degrees
from kdcore.errors import DataError
from kdcore.settings import CollectionSettings

Vector = TypeVar("Vector", PolygonSource, AreaSource)
BLOCK = 256  # pixels: the piece that is read and kept at once
MOST_ENLARGED = 32  # times, for each side of a pixel


class Box(NamedTuple):
    """A rectangle of a scene in pixels at the collection's resolution."""

    row: int
    column: int
    height: int
    width: int

    @property
    def area(self) -> int:
        """Pixels inside."""
        return self.height * self.width

    def grown(self, margin: int) -> "Box":
        """The rectangle with `margin` pixels more on every side."""
        return Box(self.row - margin, self.column - margin, self.height + 2 * margin, self.width + 2 * margin)

    def intersection(self, other: "Box") -> "Box | None":
        """The common part, or None."""
        row, column = max(self.row, other.row), max(self.column, other.column)
        height = min(self.row + self.height, other.row + other.height) - row
        width = min(self.column + self.width, other.column + other.width) - column
        return Box(row, column, height, width) if height > 0 and width > 0 else None

    def within(self, frame: "Box") -> tuple[slice, slice]:
        """Rows and columns of this rectangle in an array that shows the one around it."""
        row, column = self.row - frame.row, self.column - frame.column
        return slice(row, row + self.height), slice(column, column + self.width)


class Crop(NamedTuple):
    """What a window of a scene holds. Outside the scene nothing is valid.

    Attributes:
        image: (bands, height, width) in the raster's dtype; 0 where not valid.
        valid: (height, width) bool, False on nodata.
        labels: (height, width) uint8 class indices, 255 where there is no label or no data.
    """

    image: NDArray[Any]
    valid: NDArray[np.bool_]
    labels: NDArray[np.uint8]


@dataclass(frozen=True)
class Scene:
    """One raster, with a mask or polygons or neither. Sizes and transform are at the collection's resolution.

    Attributes:
        id: its name: the file's stem, or what the collection's patterns make of it.
        group: the scene that this file is a part of; the stem itself where files are scenes.
        bands: band numbers that are read, from 1.
        metres_per_pixel: on the ground; None where unknown.
        scale: native pixels per pixel, (rows, columns).
        area: a vector file outside of which nothing is labelled.
    """

    id: str
    group: str
    image: Path
    mask: Path | None
    polygons: Path | None
    height: int
    width: int
    native_shape: tuple[int, int]
    bands: tuple[int, ...]
    dtype: str
    crs: CRS | None
    transform: Affine
    metres_per_pixel: float | None
    scale: tuple[float, float]
    area: Path | None = None

    @property
    def box(self) -> Box:
        """The whole scene."""
        return Box(0, 0, self.height, self.width)

    @property
    def on_earth(self) -> bool:
        """Whether it is known where on Earth it lies."""
        return self.placed and self.crs is not None and to_degrees(self.crs.to_wkt()) is not None

    @property
    def placed(self) -> bool:
        """Whether it says where it lies, on Earth or in a local system."""
        return self.crs is not None and self.transform != Affine.scale(self.scale[1], self.scale[0])

    @property
    def native_transform(self) -> Affine:
        """From native pixels to the CRS."""
        return self.transform @ Affine.scale(1 / self.scale[1], 1 / self.scale[0])

    @property
    def labelled(self) -> bool:
        """Whether there is a mask or a polygon file."""
        return self.mask is not None or self.polygons is not None


def describe_scene(
    image: Path,
    settings: CollectionSettings,
    mask: Path | None = None,
    polygons: Path | None = None,
    group: str | None = None,
    area: Path | None = None,
    name: str | None = None,
) -> Scene:
    """Look at a raster's header and place it on the collection's grid.

    Raises:
        DataError: unreadable, a dtype or band that is not supported, or a resolution that cannot be known.
    """
    header = read_header(image, settings.max_declared_gb)
    if header.dtype not in DTYPES:
        raise DataError(
            f"{image}: has values of type {header.dtype}; supported are {', '.join(DTYPES)}. Convert it with `gdal_translate -ot`."
        )
    bands = settings.bands or header.colours
    if not bands or max(bands) > header.bands:
        raise DataError(
            f"{image}: has {header.bands} bands, but `bands` asks for {list(bands)}. Correct `bands` in collection.yaml."
        )
    place = header.place
    native = place.resolution
    if native is None and settings.native_metres_per_pixel is not None:
        native = (settings.native_metres_per_pixel, settings.native_metres_per_pixel)
    scale_x = scale_y = 1.0
    if settings.metres_per_pixel is not None:
        if native is None:
            raise DataError(
                f"{image}: has no georeference, so {settings.metres_per_pixel} m per pixel cannot be reached. "
                "Set `native_metres_per_pixel` in collection.yaml."
            )
        scale_x, scale_y = settings.metres_per_pixel / native[0], settings.metres_per_pixel / native[1]
        if min(scale_x, scale_y) < 1 / MOST_ENLARGED:
            raise DataError(
                f"{image}: its pixels are {max(native):,.4g} m large; at {settings.metres_per_pixel:.4g} m each would become "
                f"{1 / (scale_x * scale_y):,.0f} pixels of one colour, which show nothing more. Leave it out, "
                "or take imagery of a resolution like that of the other."
            )
        if max(abs(scale_x - 1), abs(scale_y - 1)) < 0.02:  # not worth blurring the pixels for
            scale_x = scale_y = 1.0
    # A hundredth of a pixel of tolerance, so that 16 px at a scale of 2.000001 are 8 and not 7.
    height, width = int(header.shape[0] / scale_y + 0.01), int(header.shape[1] / scale_x + 0.01)
    if min(height, width) < 1:
        raise DataError(
            f"{image}: is smaller than one pixel of {settings.metres_per_pixel} m. Lower `metres_per_pixel`."
        )
    return Scene(
        id=name or image.stem,
        group=group or name or image.stem,
        image=image,
        mask=mask,
        polygons=polygons,
        height=height,
        width=width,
        native_shape=header.shape,
        bands=tuple(bands),
        dtype=header.dtype,
        crs=place.crs,
        transform=place.transform @ Affine.scale(scale_x, scale_y),
        metres_per_pixel=None if native is None else float(np.sqrt(native[0] * scale_x * native[1] * scale_y)),
        scale=(scale_y, scale_x),
        area=area,
    )


class SceneReader:
    """Reads windows of scenes through a bounded cache of blocks; safe to use from several threads.

    A window is put together from blocks of 256 px, so what it shows does not depend on what was read before, and a scene
    of any size never enters memory whole.
    """

    def __init__(self, settings: CollectionSettings, cache_mb: int = 512) -> None:
        self.settings = settings
        self._blocks: BoundedCache[Crop] = BoundedCache(
            cache_mb * 1_000_000, lambda crop: sum(array.nbytes for array in crop)
        )
        self._lock = threading.Lock()
        self._polygons: dict[tuple[Any, ...], PolygonSource | AreaSource] = {}
        self._open = threading.local()  # a GDAL handle must not be shared between threads

    def read(self, scene: Scene, box: Box) -> Crop:
        """Read a window, which may reach over the scene's edges.

        Raises:
            DataError: a broken file, or a label that is no class.
        """
        crop = Crop(
            np.zeros((len(scene.bands), box.height, box.width), dtype=scene.dtype),
            np.zeros((box.height, box.width), dtype=bool),
            np.full((box.height, box.width), IGNORE, dtype=np.uint8),
        )
        inside = box.intersection(scene.box)
        if inside is None:
            return crop
        for block_row in range(inside.row // BLOCK, (inside.row + inside.height - 1) // BLOCK + 1):
            for block_column in range(inside.column // BLOCK, (inside.column + inside.width - 1) // BLOCK + 1):
                block_box = Box(block_row * BLOCK, block_column * BLOCK, BLOCK, BLOCK)
                part = inside.intersection(block_box)
                if part is None:
                    continue
                source = part.within(block_box)
                target = part.within(box)
                block = self._block(scene, block_row, block_column)
                crop.image[:, *target] = block.image[:, *source]
                crop.valid[target] = block.valid[source]
                crop.labels[target] = block.labels[source]
        return crop

    def _block(self, scene: Scene, block_row: int, block_column: int) -> Crop:
        key = (str(scene.image), scene.bands, block_row, block_column)
        kept = self._blocks.get(key)
        if kept is not None:
            return kept
        box = Box(block_row * BLOCK, block_column * BLOCK, BLOCK, BLOCK).intersection(scene.box)
        assert box is not None
        block = self._load(scene, box)
        self._blocks.put(key, block)
        return block

    def _load(self, scene: Scene, box: Box) -> Crop:
        scale_y, scale_x = scene.scale
        top, left = box.row * scale_y, box.column * scale_x
        window = Window(
            left,
            top,
            min(box.width * scale_x, scene.native_shape[1] - left),
            min(box.height * scale_y, scene.native_shape[0] - top),
        )
        shape = (box.height, box.width)
        dataset = self._dataset(scene)
        finer = max(scene.scale) > 1
        resampling = Resampling.average if finer else Resampling.bilinear
        nodata = self._nodata(scene, dataset)
        if nodata is not None and scene.scale != (1.0, 1.0):
            image, valid = read_without(dataset, scene.bands, window, shape, nodata)
        else:
            image = dataset.read(
                list(scene.bands), window=window, out_shape=(len(scene.bands), *shape), resampling=resampling
            )
            valid = self._valid(scene, dataset, image, window, shape, nodata)
        image[:, ~valid] = 0
        transform = scene.transform @ Affine.translation(box.column, box.row)
        source = self._labels(scene)
        if source is None:
            labels = np.full(shape, IGNORE, dtype=np.uint8)
        else:
            labels = source.read(window, shape, transform)
            labels[~valid] = IGNORE
            area = self.area(scene)
            if area is not None:
                labels[area.outside(shape, transform)] = IGNORE
        return Crop(image, valid, labels)

    def _nodata(self, scene: Scene, dataset: rasterio.DatasetReader) -> float | None:
        """The value that is looked for in the pixels; None where GDAL's own mask decides."""
        used_as_data = set(scene.bands) - set(colour_bands(dataset))  # near infrared that GDAL takes for transparency
        nodata: float | None = dataset.nodata if self.settings.nodata is None and used_as_data else self.settings.nodata
        return nodata

    def _valid(
        self,
        scene: Scene,
        dataset: rasterio.DatasetReader,
        image: NDArray[Any],
        window: Window,
        shape: tuple[int, int],
        nodata: float | None,
    ) -> NDArray[np.bool_]:
        if nodata is not None:
            valid = (image != nodata).any(axis=0)
        elif set(scene.bands) - set(colour_bands(dataset)):
            valid = np.ones(shape, dtype=bool)
        elif dataset.nodata is not None and set(scene.bands) < set(colour_bands(dataset)):
            bands = {"out_shape": (len(scene.bands), *shape), "resampling": Resampling.nearest}
            valid = (dataset.read_masks(list(scene.bands), window=window, **bands) > 0).any(axis=0)
        else:
            valid = dataset.dataset_mask(window=window, out_shape=shape, resampling=Resampling.nearest) > 0
        if image.dtype.kind == "f":
            valid &= np.isfinite(image).all(axis=0)
        return np.asarray(valid)

    def _dataset(self, scene: Scene) -> rasterio.DatasetReader:
        return self._kept(("image", scene.image), lambda: open_raster(scene.image, self.settings.max_declared_gb))

    def _labels(self, scene: Scene) -> LabelSource | None:
        if scene.mask is not None:
            mask = scene.mask
            source: LabelSource = self._kept(("mask", mask), lambda: self._mask(scene, mask))
            return source
        return None if scene.polygons is None else self.polygons(scene)

    def _mask(self, scene: Scene, mask: Path) -> MaskSource:
        source = MaskSource(mask, self.settings, scene.native_shape)
        refuse_misplaced_mask(source.dataset, scene)
        return source

    def polygons(self, scene: Scene) -> PolygonSource:
        """The polygons of a scene that has some, in its CRS; read once."""
        assert scene.polygons is not None
        path = scene.polygons
        image = scene.image if self.settings.image_field else None  # otherwise one source serves all images
        return self._vector(
            PolygonSource, path, scene.crs, lambda: PolygonSource(path, self.settings, scene.crs, image), image
        )

    def area(self, scene: Scene) -> AreaSource | None:
        """The area of interest outside of which a scene has no labels; None where all of it counts."""
        if scene.area is None:
            return None
        path = scene.area
        return self._vector(AreaSource, path, scene.crs, lambda: AreaSource(path, scene.crs))

    def _vector(
        self, kind: type[Vector], path: Path, crs: CRS | None, make: Callable[[], Vector], image: Path | None = None
    ) -> Vector:
        key = (kind, path, None if crs is None else crs.to_wkt(), image)
        with self._lock:
            if key not in self._polygons:
                self._polygons[key] = make()
            source = self._polygons[key]
        assert isinstance(source, kind)
        return source

    def _kept(self, key: tuple[str, Path], make: Callable[[], Any]) -> Any:
        kept: OrderedDict[tuple[str, Path], Any] = self._open.__dict__.setdefault("kept", OrderedDict())
        if key not in kept:
            kept[key] = make()
            if len(kept) > 64:  # well below the usual limit of 1024 open files
                _, oldest = kept.popitem(last=False)
                getattr(oldest, "dataset", oldest).close()
        kept.move_to_end(key)
        return kept[key]
