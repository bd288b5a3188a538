"""What the files of a folder hold: the header of a raster, the values of a mask, the fields of a vector file."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kdcore.data.labels import pack_colours, read_polygons
from kdcore.data.rasters import DTYPES, colour_bands, ground_resolution, open_raster
from kdcore.data.survey import spread
from kdcore.errors import DataError
from kdcore.settings import CollectionSettings

CLASS_FIELDS = ("class", "label", "category", "type", "landcover", "land_cover", "class_name")
MOST_BLOCKS = 1000  # of a mask that are counted
MOST_CODES = 60  # values or colours; more means that a file is imagery or was compressed with loss


@dataclass
class RasterFacts:
    """The header of one raster."""

    file: str
    width: int
    height: int
    bands: int
    dtype: str
    driver: str
    crs: str | None
    metres_per_pixel: float | None
    nodata: float | None
    alpha: bool = False


@dataclass
class MaskFacts:
    """What one mask holds: pixels by value, or by colour."""

    file: str
    kind: Literal["index", "palette", "rgb"]
    pixels: dict[str, int]
    width: int = 0
    height: int = 0


@dataclass
class PolygonFacts:
    """What one vector file holds."""

    file: str
    polygons: int
    crs: str
    fields: list[str]
    class_field: str | None
    values: dict[str, int]


@dataclass
class Inspection:
    """Everything that was found.

    Attributes:
        problems: sentences that each say what is wrong and how to mend it.
        notes: sentences that are good to know.
        class_pixels: labelled pixels of each class in each part of the split, read through the proposed or existing settings.
        proposal: a `collection.yaml`, or None where there is one already or nothing to propose.
        image_paths: where the images lie, in their order.
        mask_paths: likewise.
    """

    path: str
    images: list[RasterFacts] = field(default_factory=list)
    unlabelled: list[RasterFacts] = field(default_factory=list)
    masks: list[MaskFacts] = field(default_factory=list)
    polygons: list[PolygonFacts] = field(default_factory=list)
    scenes: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    class_pixels: dict[str, dict[str, int]] = field(default_factory=dict)
    proposal: CollectionSettings | None = None
    image_paths: list[Path] = field(default_factory=list)
    mask_paths: list[Path] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        values = asdict(self)
        del values["image_paths"], values["mask_paths"]
        values["proposal"] = None if self.proposal is None else self.proposal.model_dump(mode="json", exclude_none=True)
        return values


def raster_facts(path: Path) -> RasterFacts:
    """Read a raster's header."""
    with open_raster(path) as dataset:
        resolution = ground_resolution(dataset.crs, dataset.transform, dataset.width, dataset.height)
        return RasterFacts(
            file=path.name,
            width=dataset.width,
            height=dataset.height,
            bands=dataset.count,
            dtype=dataset.dtypes[0],
            driver=dataset.driver,
            crs=None if dataset.crs is None else dataset.crs.to_string(),
            metres_per_pixel=None if resolution is None else round(float(np.sqrt(resolution[0] * resolution[1])), 4),
            nodata=None if dataset.nodata is None or np.isnan(dataset.nodata) else float(dataset.nodata),
            alpha=len(colour_bands(dataset)) < dataset.count,
        )


def note_raster(found: Inspection, facts: RasterFacts) -> None:
    """What a person should know about a raster before using it."""
    if facts.dtype not in DTYPES:
        found.problems.append(
            f"{facts.file}: has values of type {facts.dtype}; supported are {', '.join(DTYPES)}. Convert it with `gdal_translate -ot`."
        )
    if facts.driver == "JPEG" and facts.file.lower().endswith((".tif", ".tiff")):
        found.notes.append(f"{facts.file}: is a JPEG file in spite of its name; it is read as what it is.")
    if facts.driver == "JPEG" and facts.crs is not None:
        found.notes.append(
            f"{facts.file}: its CRS comes from a file beside it (.aux.xml or world file); keep the two together."
        )
    if facts.alpha:
        found.notes.append(
            f"{facts.file}: its last band is transparency; it marks nodata and is not given to networks."
        )
    if facts.metres_per_pixel is None:
        found.notes.append(
            f"{facts.file}: has no georeference; areas are counted in pixels unless `native_metres_per_pixel` is set in collection.yaml."
        )


def mask_facts(path: Path) -> MaskFacts:
    """Count the values or colours of a mask; of large ones in evenly spread blocks."""
    with open_raster(path) as dataset:
        try:
            palette = dataset.colormap(1) if dataset.count == 1 else None
        except ValueError:
            palette = None
        if dataset.dtypes[0] not in ("uint8", "uint16", "int16", "int8", "int32", "uint32"):
            raise DataError(
                f"{path}: a mask must hold whole numbers or colours, not {dataset.dtypes[0]}. Convert it with `gdal_translate -ot Byte`."
            )
        counts: Counter[int] = Counter()
        for _, window in spread(list(dataset.block_windows(1)), MOST_BLOCKS):
            coloured = dataset.count >= 3
            codes = pack_colours(dataset.read([1, 2, 3], window=window)) if coloured else dataset.read(1, window=window)
            values, pixels = np.unique(codes, return_counts=True)
            counts.update(dict(zip(values.tolist(), pixels.tolist(), strict=True)))
            if len(counts) > 100 * MOST_CODES:
                break
        size = (dataset.width, dataset.height)
        kind: Literal["index", "palette", "rgb"] = "rgb" if dataset.count >= 3 else "palette" if palette else "index"
    if kind == "rgb":
        return MaskFacts(path.name, kind, {f"#{code:06X}": pixels for code, pixels in counts.most_common()}, *size)
    if palette:
        return MaskFacts(
            path.name,
            kind,
            {f"{code} #{bytes(palette[code][:3]).hex().upper()}": n for code, n in counts.most_common()},
            *size,
        )
    return MaskFacts(path.name, kind, {str(code): pixels for code, pixels in counts.most_common()}, *size)


def polygon_facts(path: Path) -> PolygonFacts:
    """Read polygons and look for a field that may hold classes."""
    frame = read_polygons(path)
    names = [str(name) for name in frame.columns.drop("geometry")]
    class_field = next((name for wanted in CLASS_FIELDS for name in names if name.lower() == wanted), None)
    values = {} if class_field is None else {str(key): int(n) for key, n in frame[class_field].value_counts().items()}
    return PolygonFacts(path.name, len(frame), frame.crs.to_string(), names, class_field, values)


def mask_colours(masks: list[MaskFacts]) -> dict[str, int]:
    """Pixels of each colour over palette and RGB masks."""
    total: Counter[str] = Counter()
    for mask in masks:
        if mask.kind != "index":
            total.update({key.split()[-1]: pixels for key, pixels in mask.pixels.items()})
    return dict(total.most_common())
