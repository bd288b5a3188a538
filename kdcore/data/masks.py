"""Label rasters as class indices: index masks of any type of number, palette and RGB masks, also those saved with loss."""

from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio import DatasetReader
from rasterio.enums import Resampling
from rasterio.windows import Window

from kdcore.data.rasters import open_raster
from kdcore.errors import DataError
from kdcore.settings import CollectionSettings

IGNORE = 255
UNKNOWN = 254  # at most 200 classes, so this index is free
LARGEST = 1 << 62  # beyond this a number in a mask is a fill value and no class


def pack_colours(rgb: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(3, ...) uint8 colours as one integer each, 0xRRGGBB."""
    wide = rgb.astype(np.int64)
    packed: NDArray[np.int64] = (wide[0] << 16) | (wide[1] << 8) | wide[2]
    return packed


def unpack_colours(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Integers 0xRRGGBB as (..., 3) colours."""
    return np.stack([codes >> 16 & 255, codes >> 8 & 255, codes & 255], axis=-1)


def colour_code(colour: str) -> int:
    """'#RRGGBB' as an integer."""
    return int(colour[1:], 16)


def whole_numbers(raw: NDArray[Any], fill: float | None) -> tuple[NDArray[np.int64], NDArray[np.bool_], float | None]:
    """Values of a mask as whole numbers.

    Args:
        raw: values of any real type.
        fill: the file's nodata value, if it has one.

    Returns:
        int64 values; where there is none (NaN, infinity, a fill value that no int64 holds); and a value that is a
        fraction, if there is one.
    """
    empty = np.zeros(raw.shape, dtype=bool)
    fraction = None
    if raw.dtype.kind == "f":
        empty = ~np.isfinite(raw) | (np.abs(raw) > LARGEST)
        if fill is not None:
            empty |= raw == np.asarray(fill, dtype=raw.dtype)
        raw = np.where(empty, 0, raw)
        broken = raw != np.floor(raw)
        if broken.any():
            fraction = float(raw[broken][0])
    elif raw.dtype == np.uint64:
        empty = raw > LARGEST
        raw = np.where(empty, 0, raw)
    return raw.astype(np.int64), empty, fraction


def fraction_message(path: Path, fraction: float) -> str:
    """Why a mask with fractions is no mask, and what to do."""
    return (
        f"{path}: holds the fraction {fraction:g}; a mask needs a whole number for each class. If these are probabilities, "
        f'cut them: `gdal_calc.py -A {path.name} --calc="A>0.5" --type=Byte --outfile=new.tif`.'
    )


class MaskSource:
    """A mask file of the same size as its image: values, palette or RGB, as the collection's classes say."""

    def __init__(self, path: Path, settings: CollectionSettings, image_shape: tuple[int, int]) -> None:
        self.path = path
        self.by_value = settings.classes[0].value is not None
        self.tolerance = settings.mask_tolerance
        self.dataset = open_raster(path, settings.max_declared_gb)
        if self.dataset.shape != image_shape:
            raise DataError(
                f"{path}: the mask is {self.dataset.width} x {self.dataset.height} px but its image is "
                f"{image_shape[1]} x {image_shape[0]} px. Export the mask on the image's grid."
            )
        if self.dataset.dtypes[0].startswith("complex"):
            raise DataError(f"{path}: holds complex numbers, which name no classes. Export whole numbers.")
        if self.by_value:
            pairs = {int(entry.value or 0): index for index, entry in enumerate(settings.classes)}
            ignored: list[Any] = [entry for entry in settings.ignore if isinstance(entry, int)]
        else:
            without = [entry.name for entry in settings.classes if entry.colour is None]
            if without:
                raise DataError(
                    f"{path}: class {without[0]!r} has neither a value nor a colour, so the mask cannot be read. "
                    "Give every class its `value` or its `colour` in collection.yaml."
                )
            pairs = {colour_code(entry.colour or ""): index for index, entry in enumerate(settings.classes)}
            ignored = [colour_code(str(entry)) for entry in settings.ignore if str(entry).startswith("#")]
        table = dict.fromkeys(ignored, IGNORE) | pairs
        fill = self.dataset.nodata
        self.fill = None
        if self.by_value and fill is not None and np.isfinite(fill):
            if float(fill).is_integer() and abs(fill) < LARGEST:
                table.setdefault(int(fill), IGNORE)
            else:
                self.fill = fill
        self.keys = np.array(sorted(table), dtype=np.int64)
        self.indices = np.array([table[int(key)] for key in self.keys], dtype=np.uint8)
        self.palette = None if self.by_value else self._palette()

    def _palette(self) -> NDArray[np.uint8] | None:
        if self.dataset.count >= 3:
            if self.dataset.dtypes[0] != "uint8":
                raise DataError(
                    f"{self.path}: holds colours as {self.dataset.dtypes[0]}; colours are uint8. Convert it with `gdal_translate -ot Byte`."
                )
            return None
        try:
            colours = self.dataset.colormap(1)
        except ValueError as error:
            raise DataError(
                f"{self.path}: has one band and no palette, but the classes are given by colour. "
                "Give the classes their `value` in collection.yaml instead."
            ) from error
        return np.array([colours.get(index, (0, 0, 0, 0))[:3] for index in range(256)], dtype=np.uint8).T

    def codes(self, window: Window, shape: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Values or packed colours (height, width) of a window, and where there is none."""
        bands = 1 if self.by_value or self.palette is not None else [1, 2, 3]
        raw = self.dataset.read(
            bands, window=window, out_shape=shape if bands == 1 else (3, *shape), resampling=Resampling.nearest
        )
        if self.by_value:
            codes, empty, fraction = whole_numbers(np.asarray(raw), self.fill)
            if fraction is not None:
                raise DataError(fraction_message(self.path, fraction))
            return codes, empty
        return pack_colours(self.palette[:, raw] if self.palette is not None else raw), np.zeros(shape, dtype=bool)

    def read(self, window: Window, shape: tuple[int, int], transform: Affine) -> NDArray[np.uint8]:
        """Class indices of the window; a value or colour that is no class is an error."""
        codes, empty = self.codes(window, shape)
        position = np.minimum(np.searchsorted(self.keys, codes), len(self.keys) - 1)
        found = np.where(self.keys[position] == codes, self.indices[position], np.uint8(UNKNOWN))
        found[empty] = IGNORE
        if self.tolerance and (found == UNKNOWN).any():
            found = self._nearest(codes, found)
        if (found == UNKNOWN).any():
            row, column = np.argwhere(found == UNKNOWN)[0]
            code = int(codes[row, column])
            y = int(window.row_off + row * window.height / shape[0])
            x = int(window.col_off + column * window.width / shape[1])
            what = f"value {code}" if self.by_value else f"colour #{code:06X}"
            raise DataError(
                f"{self.path}: {what} at row {y}, column {x} is no class. "
                "Add it to `classes` or to `ignore` in collection.yaml"
                + (", or set `mask_tolerance`: the file is compressed with loss." if is_lossy(self.dataset) else ".")
            )
        return found

    def _nearest(self, codes: NDArray[np.int64], found: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Give values or colours that are no class to the nearest one within the tolerance (in every channel)."""
        strange = np.unique(codes[found == UNKNOWN])
        if self.by_value:
            distance = np.abs(strange[:, None] - self.keys[None, :])
        else:
            distance = np.abs(unpack_colours(strange)[:, None] - unpack_colours(self.keys)[None, :]).max(axis=-1)
        nearest = distance.argmin(axis=1)
        close = distance.min(axis=1) <= self.tolerance
        indices = np.where(close, self.indices[nearest], np.uint8(UNKNOWN))
        place = np.minimum(np.searchsorted(strange, codes), len(strange) - 1)
        return np.where((found == UNKNOWN) & (strange[place] == codes), indices[place], found)


def is_lossy(dataset: DatasetReader) -> bool:
    """Whether a file is compressed in a way that changes values (JPEG, WebP)."""
    return dataset.driver == "JPEG" or str(dataset.profile.get("compress", "")).lower() in ("jpeg", "webp")
