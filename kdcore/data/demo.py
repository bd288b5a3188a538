"""The demo area: procedural districts that look like satellite imagery, written as a collection on disk.

Nothing is downloaded, every pixel follows from the seed, and the truth is known exactly. See `procedural.styles` for
what makes it hard.
"""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from affine import Affine
from filelock import FileLock
from numpy.typing import NDArray
from rasterio.io import MemoryFile

from kdcore.data.collection import Extent
from kdcore.data.procedural.buildings import Builder
from kdcore.data.procedural.canvas import METRES, Canvas, burn, expose
from kdcore.data.procedural.furnishings import park_cars, plant
from kdcore.data.procedural.layout import Layout, divide_ground
from kdcore.data.procedural.styles import DIFFICULTY, DISTRICTS, Difficulty, District, Part
from kdcore.data.procedural.surfaces import (
    paint_blocks,
    paint_boxes,
    paint_buildings,
    paint_slabs,
    paint_streets,
    paint_trees,
    paint_water,
)
from kdcore.errors import DataError
from kdcore.files import expanded, explain_write_error, remove_half_written, replacing, write_json
from kdcore.jobs.progress import Progress, Report, Stage, ignore
from kdcore.reading import read_json
from kdcore.settings import ClassSettings, CollectionSettings, SplitSettings, fingerprint, save

if TYPE_CHECKING:
    import geopandas

VERSION = 1  # of the generator; raise it when the same seed gives other pixels
SIZE = 896  # pixels
CRS = "EPSG:32632"
WEST, NORTH = 693_000.0, 5_337_000.0  # 2.6 degrees from the zone's central meridian: the grid is turned against north
STREET_WIDTH = 150.0  # metres between districts
LEAST_SHARE = 0.015  # of each class in each district
ATTEMPTS = 12  # at drawing a district with that much of each class
CLASSES = (
    ClassSettings(name="ground", value=0, colour="#999999"),
    ClassSettings(name="building", value=1, colour="#D55E00"),
    ClassSettings(name="road", value=2, colour="#F0E442"),
    ClassSettings(name="water", value=3, colour="#0072B2"),
    ClassSettings(name="tree", value=4, colour="#009E73"),
)
MARKER = "area.json"


def write_demo(
    folder: Path,
    seed: int = 0,
    report: Report = ignore,
    size: int = SIZE,
    difficulty: Difficulty = DIFFICULTY,
) -> Path:
    """Write the demo area as a collection, or find it there from an earlier time.

    Args:
        folder: where; made if missing. A half-written or other demo area in it is replaced, anything else is refused.
        seed: what differs between two areas of the same kind.
        report: is told districts done and districts in all.
        size: width and height of a district in pixels of 0.5 m.
        difficulty: see `Difficulty`.

    Returns:
        The path of `collection.yaml`.

    Raises:
        KdcoreError: the folder holds something else, cannot be written to, or the disk is full.
    """
    folder = expanded(folder)
    made_from = {
        "version": VERSION,
        "seed": seed,
        "size": size,
        "settings": fingerprint(asdict(difficulty), [asdict(district) for district in DISTRICTS]),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire()
    except OSError as error:
        raise explain_write_error(folder, error) from error
    with lock:
        if read_marker(folder) != made_from | {"complete": True}:
            write_area(folder, made_from, seed, size, difficulty, report)
    return folder / "collection.yaml"


def write_area(
    folder: Path,
    made_from: dict[str, Any],
    seed: int,
    size: int,
    difficulty: Difficulty,
    report: Report,
) -> None:
    """Write every district, then the settings, then the marker that says that all is there."""
    remove_half_written(folder)
    strangers = sorted(entry.name for entry in folder.iterdir() if entry.name not in (MARKER, ".lock"))
    if strangers and not (folder / MARKER).exists():
        raise DataError(
            f"{folder}: holds {strangers[0]!r}, which is no demo area, and nothing is overwritten. Name an empty folder."
        )
    write_json(folder / MARKER, made_from | {"complete": False})
    for index, district in enumerate(DISTRICTS):
        report(Progress("", Stage.DEMO_AREA, index, len(DISTRICTS)))
        image, labels, polygons = make_district(index, seed, size, difficulty)
        write_district(folder, district, image, labels, polygons, place(index, size))
    save(area_settings(seed), folder / "collection.yaml")
    write_json(folder / MARKER, made_from | {"complete": True})
    report(Progress("", Stage.DEMO_AREA, len(DISTRICTS), len(DISTRICTS)))


def read_marker(folder: Path) -> dict[str, Any]:
    """What the area in a folder was made from; empty where there is none or its marker cannot be read."""
    try:
        marker = read_json(folder / MARKER)
    except (OSError, ValueError):
        return {}
    return marker if isinstance(marker, dict) else {}


def area_settings(seed: int) -> CollectionSettings:
    """The collection's settings: masks are read; `labels_from: polygons` gives the same labels."""
    return CollectionSettings(
        name=f"demo-{seed}",
        labels_from="masks",
        classes=CLASSES,
        class_field="class",
        split=SplitSettings(train=names("train"), validation=names("validation"), test=names("test")),
    )


def extent(size: int = SIZE) -> Extent:
    """How much a teacher can be asked about and what is scored, known before the area is made."""
    train, unlabelled, validation, test = (
        len(names(part)) * size**2 for part in ("train", "unlabelled", "validation", "test")
    )
    return Extent(train, unlabelled, len(CLASSES), validation, test)


def names(part: Part) -> tuple[str, ...]:
    """Names of the districts of one part."""
    return tuple(district.name for district in DISTRICTS if district.part == part)


def place(index: int, size: int) -> Affine:
    """Where a district lies: on a grid of three columns, far enough apart to share no ground."""
    step = size * METRES + STREET_WIDTH
    row, column = divmod(index, 3)
    return Affine(METRES, 0, WEST + column * step, 0, -METRES, NORTH - row * step)


def make_district(
    index: int, seed: int, size: int, difficulty: Difficulty
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], "geopandas.GeoDataFrame"]:
    """Draw and paint one district; one that lacks a class is drawn anew.

    Returns:
        (3, size, size) image, (size, size) class indices, and their polygons in metres from the upper left corner.
    """
    district = DISTRICTS[index]
    best, best_share = None, -1.0
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng([VERSION, seed, index, attempt])
        layout = lay_out(district, size * METRES, difficulty, rng)
        polygons = label_polygons(layout)
        labels = burn_labels(polygons, size)
        share = np.bincount(labels.ravel(), minlength=len(CLASSES)).min() / labels.size
        if share > best_share:
            best, best_share = (layout, labels, polygons, rng), share
        if share >= LEAST_SHARE:
            break
    assert best is not None
    layout, labels, polygons, rng = best
    return paint(layout, district, difficulty, rng), labels, polygons


def lay_out(district: District, side: float, difficulty: Difficulty, rng: np.random.Generator) -> Layout:
    """Decide what stands where in a district of `side` metres."""
    layout = divide_ground(district, side, difficulty, rng)
    builder = Builder(layout, district, difficulty, rng)
    for block in layout.blocks:
        builder.build(block)
    plant(layout, district, difficulty, rng)
    park_cars(layout, difficulty, rng)
    return layout


def paint(layout: Layout, district: District, difficulty: Difficulty, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(3, side, side) uint8 image of a layout: from the ground up, then light and sensor."""
    canvas = Canvas(layout, district, difficulty, rng)
    for layer in (paint_blocks, paint_slabs, paint_streets, paint_water, paint_buildings, paint_boxes, paint_trees):
        layer(canvas)
    return expose(canvas)


def label_polygons(layout: Layout) -> "geopandas.GeoDataFrame":
    """The labels in the order in which they cover each other: a crown hides the street below it."""
    import geopandas

    water = [layout.network.river, *(pond for pond, _ in layout.ponds), *layout.pools]
    shapes = {
        "water": water,
        "road": [layout.paved, layout.unpaved],
        "building": [building.outline for building in layout.buildings],
        "tree": [tree.outline for tree in layout.trees],
    }
    names = np.concatenate([np.full(len(found), name) for name, found in shapes.items()])
    outlines = shapely.intersection(
        np.concatenate([np.array(found, dtype=object) for found in shapes.values()]),
        shapely.box(0, 0, layout.side, layout.side),
    )
    outlines, origin = shapely.get_parts(outlines, return_index=True)
    polygonal = (shapely.get_type_id(outlines) == shapely.GeometryType.POLYGON) & ~shapely.is_empty(outlines)
    return geopandas.GeoDataFrame({"class": names[origin][polygonal]}, geometry=outlines[polygonal])


def burn_labels(polygons: "geopandas.GeoDataFrame", size: int) -> NDArray[np.uint8]:
    """Class indices (size, size) by the pixels' centres."""
    index = {entry.name: position for position, entry in enumerate(CLASSES)}
    return burn(polygons.geometry.tolist(), polygons["class"].map(index).tolist(), size).astype(np.uint8)


def write_district(
    folder: Path,
    district: District,
    image: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    polygons: "geopandas.GeoDataFrame",
    transform: Affine,
) -> None:
    """Write image, mask and polygons (in degrees, as GeoJSON has it); unlabelled districts get the image only."""
    if district.part == "unlabelled":
        write_bytes(folder / f"unlabelled/{district.name}.tif", geotiff(image, transform))
        return
    write_bytes(folder / f"images/{district.name}.tif", geotiff(image, transform))
    write_bytes(folder / f"masks/{district.name}.tif", geotiff(labels[None], transform))
    write_bytes(folder / f"labels/{district.name}.geojson", geojson(polygons, transform).encode())


def geojson(polygons: "geopandas.GeoDataFrame", transform: Affine) -> str:
    """Polygons with their class as GeoJSON, one line each; 8 decimals of a degree are a millimetre."""
    to_metres = transform @ Affine.scale(1 / METRES)
    placed = polygons.geometry.affine_transform(to_metres.to_shapely()).set_crs(CRS).to_crs("EPSG:4326")
    rounded = shapely.transform(placed.to_numpy(), lambda points: np.round(points, 8))
    features = ",\n".join(
        f'{{"type":"Feature","properties":{{"class":"{name}"}},"geometry":{geometry}}}'
        for name, geometry in zip(polygons["class"], shapely.to_geojson(rounded), strict=True)
    )
    return f'{{"type":"FeatureCollection","features":[\n{features}\n]}}\n'


def geotiff(bands: NDArray[np.uint8], transform: Affine) -> bytes:
    """A tiled, compressed GeoTIFF of (bands, height, width) uint8."""
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            count=len(bands),
            height=bands.shape[1],
            width=bands.shape[2],
            dtype="uint8",
            crs=CRS,
            transform=transform,
            tiled=True,
            blockxsize=256,
            blockysize=256,
            compress="deflate",
            predictor=2 if len(bands) > 1 else 1,
            photometric="RGB" if len(bands) == 3 else "MINISBLACK",
        ) as dataset:
            dataset.write(bands)
            if len(bands) == 1:
                dataset.write_colormap(
                    1, {entry.value: rasterio_colour(entry.colour or "#000000") for entry in CLASSES}
                )
        return bytes(memory.read())


def rasterio_colour(colour: str) -> tuple[int, int, int, int]:
    """'#RRGGBB' as red, green, blue, opaque."""
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue, 255


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by `content` in one step."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)
