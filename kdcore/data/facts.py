"""What the files of a folder hold: the header of a raster, the values of a mask, the fields of a vector file."""

import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rasterio import DatasetReader
from rasterio.windows import Window

from kdcore.data.labels import class_names
from kdcore.data.masks import fraction_message, is_lossy, pack_colours, whole_numbers
from kdcore.data.nodata import Undeclared
from kdcore.data.rasters import DTYPES, colour_bands, describe_points, open_raster, read_header
from kdcore.data.survey import spread
from kdcore.data.vectors import LEFT_OUT, UNREAD, read_polygons
from kdcore.errors import DataError
from kdcore.settings import CollectionSettings

CLASS_FIELDS = (
    "class",
    "label",
    "category",
    "type",
    "landcover",
    "land_cover",
    "class_name",
    "class_id",
    "dn",
    "gridcode",
)
OSM_TYPES = {
    "way",
    "relation",
    "node",
    "multipolygon",
    "boundary",
    "polygon",
    "building",
}  # kinds of objects, not of ground
OSM_FIELDS = {"@id", "@type", "osm_id", "osm_way_id", "osm_type"}
MOST_PIXELS = 65_000_000  # of a mask that are counted
MOST_AT_ONCE = 1 << 24  # pixels that are counted at once
LONGEST_SIDE = 2048  # pixels, of a part where a stored piece has more
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
    points_off: float = 0.0  # pixels by which its ground control points miss its grid


@dataclass
class MaskFacts:
    """What one mask holds: pixels by value, or by colour.

    Attributes:
        solid: pixels whose eight neighbours hold the same value, by value; what lies along edges only has hardly any.
        lossy: whether the file is compressed in a way that changes values (JPEG, WebP).
        nodata: the value that the file declares as 'no label'.
        empty: pixels without a value (NaN).
    """

    file: str
    kind: Literal["index", "palette", "rgb"]
    pixels: dict[str, int]
    solid: dict[str, int] = field(default_factory=dict)
    lossy: bool = False
    nodata: float | None = None
    empty: int = 0
    width: int = 0
    height: int = 0


@dataclass
class PolygonFacts:
    """What one vector file holds.

    Attributes:
        values: polygons of each value of the field that may hold classes.
        unnamed: polygons for which that field is empty.
        whole: whether all values are whole numbers.
        doubts: what is not used: fields that are called like one of classes but hold none; points and lines.
    """

    file: str
    polygons: int
    crs: str
    fields: list[str]
    class_field: str | None
    values: dict[str, int]
    unnamed: int = 0
    whole: bool = False
    doubts: list[str] = field(default_factory=list)


@dataclass
class Inspection:
    """Everything that was found.

    Attributes:
        problems: sentences that each say what is wrong and how to mend it.
        notes: sentences that are good to know.
        class_pixels: labelled pixels of each class in each part of the split, read through the proposed or existing settings.
        undeclared: values that mean 'no data' although no file says so.
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
    undeclared: list[Undeclared] = field(default_factory=list)
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
    header = read_header(path)
    place, resolution = header.place, header.place.resolution
    return RasterFacts(
        file=path.name,
        width=header.shape[1],
        height=header.shape[0],
        bands=header.bands,
        dtype=header.dtype,
        driver=header.driver,
        crs=None if place.crs is None else place.crs.to_string(),
        metres_per_pixel=None if resolution is None else round(float(np.sqrt(resolution[0] * resolution[1])), 4),
        nodata=None if header.nodata is None or np.isnan(header.nodata) else float(header.nodata),
        alpha=len(header.colours) < header.bands,
        points_off=round(place.off, 2),
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
    if text := describe_points(facts.points_off):
        found.notes.append(f"{facts.file}: {text}")
    if facts.metres_per_pixel is None:
        found.notes.append(
            f"{facts.file}: has no georeference; areas are counted in pixels unless `native_metres_per_pixel` is set in collection.yaml."
        )


def mask_facts(path: Path) -> MaskFacts:
    """Count the values or colours of a mask; of large ones in evenly spread pieces.

    Raises:
        DataError: unreadable, or fractions and other values that name no classes.
    """
    with open_raster(path) as dataset:
        try:
            palette = dataset.colormap(1) if dataset.count == 1 else None
        except ValueError:
            palette = None
        if dataset.dtypes[0].startswith("complex") or (dataset.count >= 3 and dataset.dtypes[0] != "uint8"):
            raise DataError(
                f"{path}: a mask must hold whole numbers or colours, not {dataset.count} bands of {dataset.dtypes[0]}. "
                "Convert it with `gdal_translate -b 1 -ot Byte`."
            )
        bands = len(colour_bands(dataset))
        if bands == 2 or bands > 4:
            raise DataError(
                f"{path}: has {bands} bands; a mask has one band of class numbers or three of colours. If there is one band for each class, "
                "write the number of the class instead (numpy: `bands.argmax(axis=0)`)."
            )
        kind: Literal["index", "palette", "rgb"] = "rgb" if dataset.count >= 3 else "palette" if palette else "index"
        counts: Counter[int] = Counter()
        solid: Counter[int] = Counter()
        missing = 0
        for window in pieces(dataset):
            if kind == "rgb":
                codes, empty = pack_colours(dataset.read([1, 2, 3], window=window)), None
            else:
                codes, empty, fraction = whole_numbers(dataset.read(1, window=window), None)
                if fraction is not None:
                    raise DataError(fraction_message(path, fraction))
                missing += int(empty.sum())
            counts.update(tally(codes if empty is None or not empty.any() else codes[~empty]))
            inner = codes[1:-1, 1:-1]
            solid.update(tally(inner[is_solid(codes)]))
            if len(counts) > 100 * MOST_CODES:
                break
        names = {code: code_name(code, kind, palette) for code in counts}
        nodata = dataset.nodata
        return MaskFacts(
            path.name,
            kind,
            {names[code]: pixels for code, pixels in counts.most_common()},
            {names[code]: pixels for code, pixels in solid.most_common() if code in names},
            lossy=is_lossy(dataset),
            nodata=None if nodata is None or not np.isfinite(nodata) else float(nodata),
            empty=missing,
            width=dataset.width,
            height=dataset.height,
        )


def pieces(dataset: DatasetReader) -> list[Window]:
    """Windows over a raster, at least 64 rows or a quarter of a megapixel high where it is, evenly spread where it is large."""
    height, width = dataset.block_shapes[0]
    least = max(64, (1 << 18) // width)
    height = max(height, -(-least // height) * height)
    if height * width > MOST_AT_ONCE:  # a part of a huge tile, which GDAL keeps
        height, width = min(height, LONGEST_SIDE), min(width, LONGEST_SIDE)
    windows = [
        Window(column, row, min(width, dataset.width - column), min(height, dataset.height - row))
        for row in range(0, dataset.height, height)
        for column in range(0, dataset.width, width)
    ]
    return spread(windows, max(1, MOST_PIXELS // (height * width)))


def tally(codes: NDArray[np.int64]) -> dict[int, int]:
    """Pixels of each value."""
    if codes.size and codes.min() >= 0 and codes.max() < 65536:
        counts = np.bincount(codes.ravel())
        return {int(code): int(counts[code]) for code in np.flatnonzero(counts)}
    values, pixels = np.unique(codes, return_counts=True)
    return dict(zip(values.tolist(), pixels.tolist(), strict=True))


def is_solid(codes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which pixels but the outermost are of the same value as their eight neighbours."""
    beside = codes[:, 1:] == codes[:, :-1]
    row = beside[:, 1:] & beside[:, :-1]  # three in a row are equal
    below = codes[1:, 1:-1] == codes[:-1, 1:-1]
    return np.asarray(row[:-2] & row[1:-1] & row[2:] & below[1:] & below[:-1])


def code_name(code: int, kind: str, palette: dict[int, tuple[int, ...]] | None) -> str:
    """How a value or colour is written: '3', '3 #FF0000' or '#FF0000'."""
    if kind == "rgb":
        return f"#{code:06X}"
    return str(code) if palette is None else f"{code} #{bytes(palette.get(code, (0, 0, 0))[:3]).hex().upper()}"


def polygon_facts(path: Path) -> PolygonFacts:
    """Read polygons and look for a field that may hold classes."""
    frame = read_polygons(path)
    names = [str(name) for name in frame.columns if name != "geometry"]
    crs = "none (its .prj is missing)" if frame.crs is None else frame.crs.to_string()
    facts = PolygonFacts(path.name, len(frame), crs, names, None, {})
    if frame.attrs.get(LEFT_OUT):
        facts.doubts.append("points and lines in the vector files are not used; buffer them if they are labels.")
    if unread := frame.attrs.get(UNREAD):
        facts.doubts.append(
            f"{path.name}: {unread} of {unread + len(frame)} features have no geometry that can be read, so they are left out."
        )
    for name in (name for wanted in CLASS_FIELDS for name in names if name.lower() == wanted):
        values = [class_names(value) for value in frame[name]]
        counts = Counter(value[0] for value in values if value)
        unnamed = sum(not value for value in values)
        doubt = no_classes(name, counts, unnamed, names)
        if doubt is None:
            facts.class_field, facts.unnamed = name, unnamed
            facts.values = dict(counts.most_common())
            facts.whole = all(re.fullmatch(r"-?\d+", value) for value in counts)
            break
        facts.doubts.append(
            f"field {name!r} {doubt}, so it is not taken for classes; set `class_field: {name}` if it is."
        )
    return facts


def no_classes(name: str, counts: Counter[str], unnamed: int, fields: list[str]) -> str | None:
    """Why a field called like one of classes holds none; None where it may."""
    total = sum(counts.values())
    if set(counts) == {"0"}:
        return "holds 0 everywhere"
    if any(len(value) > 60 for value in counts):
        return "holds texts of more than 60 characters"
    if total < unnamed:
        return "is empty in most polygons"
    from_osm = OSM_FIELDS & set(fields) or "building" in fields
    if name.lower() == "type" and (set(counts) <= OSM_TYPES or from_osm):
        return "says what kind of OpenStreetMap object a polygon is"
    if len(counts) > MOST_CODES or (len(counts) > 10 and len(counts) > total / 2):
        return f"holds {len(counts)} different values in {total} polygons"
    return None


def mask_colours(masks: list[MaskFacts]) -> dict[str, int]:
    """Pixels of each colour over palette and RGB masks."""
    total: Counter[str] = Counter()
    for mask in masks:
        if mask.kind != "index":
            total.update({key.split()[-1]: pixels for key, pixels in mask.pixels.items()})
    return dict(total.most_common())
