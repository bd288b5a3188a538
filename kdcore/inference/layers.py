"""Imagery and truth of a study's test scenes as GeoTIFFs with overviews, which the map is drawn from.

The truth lies on the very pixels of the runs' own maps (`runs/*/maps/<scene>.tif`). No torch here.
"""

import errno
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.warp import calculate_default_transform
from rasterio.windows import Window
from rio_cogeo.cogeo import cog_translate
from rio_cogeo.profiles import cog_profiles

from kdcore.data.collection import Collection
from kdcore.data.masks import IGNORE
from kdcore.data.rasters import open_raster
from kdcore.data.scene import Box, Crop, Scene, SceneReader
from kdcore.data.survey import spread
from kdcore.data.writing import read_back, writing_raster
from kdcore.errors import DataError, RunError
from kdcore.files import write_text
from kdcore.inference.layer_index import FOLDER, INDEX, WEB_MERCATOR, SceneLayers, StudyLayers, slugs
from kdcore.settings import class_colours

PIECE = 1024  # pixels: what is read and written at once, a multiple of the reader's block and of the file's tile
TILE = 256  # pixels: of the files, so that little more than a tile of the map has to be decoded
SMALLEST_OVERVIEW = 256  # pixels
MOST_SAMPLES = 64  # blocks of 256 px that the stretch is measured on
STRETCH = (2, 98)  # percentiles that become black and white
EQUATOR_METRES_PER_PIXEL = 2 * math.pi * 6378137 / 256  # of web mercator at zoom 0

Stretch = list[tuple[float, float]]


def write_layers(
    study: Path, collection: Collection, progress: Callable[[int, int], None] = lambda done, total: None
) -> StudyLayers:
    """Write imagery and truth of every scene with test pixels into `layers/` of a study's folder, and their index.

    What was written from the same data before is kept, so that this can be called again after any interruption.

    Args:
        study: the study's folder.
        collection: the data that the study is about.
        progress: is told pieces done and pieces in all.

    Returns:
        What `layers.json` holds.

    Raises:
        KdcoreError: the disk is full, or imagery that cannot be read any more; `layers.json` is then not there.
    """
    try:
        written = StudyLayers.load(study)
        if written.data == collection.content_hash:
            return written
    except RunError:
        pass  # none yet, or of an older kind: write them
    parts = test_parts(collection)
    layers = StudyLayers(
        data=collection.content_hash,
        classes=collection.settings.class_names,
        colours=tuple(class_colours([entry.colour for entry in collection.settings.classes])),
        scored=collection.settings.scored,
        scenes=tuple(
            place(scene, bounding_box(boxes), slug)
            for (scene, boxes), slug in zip(parts, slugs([scene.id for scene, _ in parts]), strict=True)
        ),
    )
    stretch = measure_stretch(collection.reader, collection.scenes)
    total = sum(len(list(pieces(Box(*scene.part)))) for scene in layers.scenes)
    done = 0
    for (scene, boxes), placed in zip(parts, layers.scenes, strict=True):
        for _ in write_scene(study / FOLDER / placed.id, collection.reader, scene, placed, stretch, boxes):
            done += 1
            progress(done, total)
    write_text(study / FOLDER / INDEX, layers.model_dump_json(indent=1))
    return layers


def test_parts(collection: Collection) -> list[tuple[Scene, list[Box]]]:
    """The scenes with test pixels, each with the rectangles that they are in."""
    boxes: dict[str, list[Box]] = {}
    for region in collection.regions("test"):
        boxes.setdefault(region.scene.id, []).append(region.box)
    return [(scene, boxes[scene.id]) for scene in collection.scenes if scene.id in boxes]


def bounding_box(boxes: Sequence[Box]) -> Box:
    """The smallest rectangle that holds all."""
    row, column = min(box.row for box in boxes), min(box.column for box in boxes)
    below = max(box.row + box.height for box in boxes)
    right = max(box.column + box.width for box in boxes)
    return Box(row, column, below - row, right - column)


def place(scene: Scene, box: Box, slug: str) -> SceneLayers:
    """Where a scene lies on the map; one without georeference gets a flat place around 0/0, in metres or else in pixels."""
    georeferenced = scene.on_earth
    metres = scene.metres_per_pixel
    if scene.crs is not None and georeferenced:
        crs, transform = scene.crs, scene.transform
    else:
        crs, transform = WEB_MERCATOR, flat_transform(scene.height, scene.width, metres or 1.0)
    return SceneLayers(
        id=slug,
        name=scene.id,
        height=scene.height,
        width=scene.width,
        part=(box.row, box.column, box.height, box.width),
        georeferenced=georeferenced,
        unit="pixels" if metres is None else "metres",
        metres_per_pixel=metres,
        crs=crs.to_string(),
        transform=tuple(transform)[:6],
        zoom=native_zoom(crs, transform, scene.width, scene.height),
    )


def flat_transform(height: int, width: int, size: float) -> Affine:
    """Put the middle of a raster at 0/0; a corner there would be the identity, which GDAL takes for no place at all."""
    return Affine(size, 0, -size * width / 2, 0, -size, size * height / 2)


def native_zoom(crs: Any, transform: Affine, width: int, height: int) -> int:
    """The zoom level whose pixels are nearest to the raster's, from 0 to 24."""
    corners = [transform @ (x, y) for x in (0, width) for y in (0, height)]
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    on_map, _, _ = calculate_default_transform(crs, WEB_MERCATOR, width, height, min(xs), min(ys), max(xs), max(ys))
    return min(24, max(0, round(math.log2(EQUATOR_METRES_PER_PIXEL / on_map.a))))


def pieces(box: Box) -> Iterator[Box]:
    """A rectangle cut into squares that are read one after another."""
    for row in range(box.row, box.row + box.height, PIECE):
        for column in range(box.column, box.column + box.width, PIECE):
            part = box.intersection(Box(row, column, PIECE, PIECE))
            assert part is not None
            yield part


def write_scene(
    folder: Path,
    reader: SceneReader,
    scene: Scene,
    placed: SceneLayers,
    stretch: Stretch | None,
    test: Sequence[Box] | None,
) -> Iterator[None]:
    """Write `imagery.tif` of one scene and, unless `test` is None, `truth.tif`; yields after each piece."""
    bands = display_bands(scene)
    box = Box(*placed.part)
    common: dict[str, Any] = {
        "dtype": "uint8",
        "crs": placed.coordinates,
        "tiled": True,
        "blockxsize": TILE,
        "blockysize": TILE,
        "compress": "deflate",
        "zlevel": 1,
        "bigtiff": "if_safer",
    }
    part_only = {
        "width": box.width,
        "height": box.height,
        "transform": placed.affine @ Affine.translation(box.column, box.row),
    }
    # On the very pixels of the runs' maps, so that overviews of both repeat the same ones.
    whole = {"width": scene.width, "height": scene.height, "transform": placed.affine, "sparse_ok": True}

    def compress(path: Path) -> None:
        read_back(path, pictures.sums)
        pictures.sums.clear()  # the compressed pixels are others
        optimise(path)

    with ExitStack() as stack:
        stack.enter_context(rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True))
        pictures = stack.enter_context(
            writing_raster(folder / "imagery.tif", compress, count=len(bands), **common, **part_only)
        )
        labels = None
        if test is not None:
            truth = writing_raster(folder / "truth.tif", add_overviews, count=1, nodata=IGNORE, **common, **whole)
            labels = stack.enter_context(truth)
        for part in pieces(box):
            crop = reader.read(scene, part)
            place = part.row - box.row, part.column - box.column
            try:
                pictures.write(show(crop, bands, stretch), *place)
                pictures.dataset.write_mask(crop.valid, window=Window(place[1], place[0], part.width, part.height))
                if labels is not None and test is not None:
                    labels.write(only_inside(crop.labels, part, test)[None], part.row, part.column)
            except RasterioError as error:  # GDAL names no reason, but this one is by far the most usual
                raise OSError(errno.ENOSPC, "GDAL could not write") from error
            yield


def optimise(path: Path) -> None:
    """Rewrite imagery as a Cloud-Optimized GeoTIFF, compressed as photographs are, and read it back."""
    options: dict[str, Any] = dict(cog_profiles["jpeg"]) | {"blockxsize": TILE, "blockysize": TILE, "jpeg_quality": 90}
    target = path.with_suffix(".cog.tif")
    try:
        with rasterio.open(path) as dataset:
            if dataset.count == 1:
                options.pop("photometric", None)
            cog_translate(
                dataset,
                target,
                options,
                overview_level=overview_levels(dataset.width, dataset.height),
                overview_resampling="average",
                in_memory=False,  # a scene may be larger than the memory
                quiet=True,
            )
        with rasterio.open(target) as dataset:
            for _, window in dataset.block_windows(1):
                dataset.read(window=window)
        target.replace(path)
    finally:
        target.unlink(missing_ok=True)


def overview_levels(width: int, height: int) -> int:
    """How often the size is halved until the longer side is at most `SMALLEST_OVERVIEW`."""
    return max(0, math.ceil(math.log2(max(width, height) / SMALLEST_OVERVIEW)))


def add_overviews(path: Path) -> None:
    """Add overviews to a map of probabilities or classes, so that small scales are cheap to draw.

    They repeat single pixels (`nearest`) and are no averages: what a small scale shows of two maps and their
    disagreement is then true of the pixels that it shows.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            dataset = rasterio.open(path, "r+")
        except TypeError as error:  # what rasterio makes of a file that is cut short
            raise OSError(errno.ENOSPC, "what was written cannot be read back") from error
        with dataset:
            levels = overview_levels(dataset.width, dataset.height)
            if levels:
                dataset.build_overviews([2**level for level in range(1, levels + 1)], Resampling.nearest)


def only_inside(labels: NDArray[np.uint8], part: Box, test: Sequence[Box]) -> NDArray[np.uint8]:
    """The labels of a piece without those of pixels that are not tested on."""
    kept = np.full_like(labels, IGNORE)
    for box in test:
        common = part.intersection(box)
        if common is not None:
            row, column = common.row - part.row, common.column - part.column
            cut = slice(row, row + common.height), slice(column, column + common.width)
            kept[cut] = labels[cut]
    return kept


def display_bands(scene: Scene) -> list[int]:
    """Which of the bands that are read are shown, from 0: red, green and blue where the file names them, else the first three.

    One band where there are fewer than three.
    """
    if len(scene.bands) < 3:
        return [0]
    with open_raster(scene.image) as dataset:
        meanings = [dataset.colorinterp[band - 1] for band in scene.bands]
    wanted = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    return [meanings.index(colour) for colour in wanted] if all(colour in meanings for colour in wanted) else [0, 1, 2]


def show(crop: Crop, bands: Sequence[int], stretch: Stretch | None) -> NDArray[np.uint8]:
    """The shown bands of a piece as 8 bits, (bands, H, W); black where there is no data."""
    image = crop.image[list(bands)]
    if stretch is None:
        return image.astype(np.uint8)
    shown = np.zeros(image.shape, dtype=np.uint8)
    for index, (low, high) in enumerate(stretch):
        shown[index] = np.clip((image[index].astype(np.float32) - low) / (high - low) * 255, 0, 255)
    shown[:, ~crop.valid] = 0
    return shown


def measure_stretch(reader: SceneReader, scenes: Sequence[Scene]) -> Stretch | None:
    """The values of each shown band that become black and white, the same for all scenes.

    None for 8-bit colour imagery, which is shown as it is.

    Raises:
        DataError: the scenes hold no data.
    """
    first = scenes[0]
    bands = display_bands(first)
    if first.dtype == "uint8" and len(first.bands) == 3:
        return None
    places = [(scene, box) for scene in scenes for box in sample_boxes(scene)]
    values: list[list[NDArray[Any]]] = [[] for _ in bands]
    for scene, box in spread(places, MOST_SAMPLES):
        crop = reader.read(scene, box)
        for index, band in enumerate(bands):
            values[index].append(crop.image[band][crop.valid][::7])
    stretch = []
    for samples in values:
        together = np.concatenate(samples)
        if not together.size:
            raise DataError(f"{first.image}: the imagery holds no data, so there is nothing to show on a map.")
        low, high = np.percentile(together, STRETCH)
        stretch.append((float(low), float(max(high, low + 1e-6))))
    return stretch


def sample_boxes(scene: Scene) -> list[Box]:
    """Up to nine blocks of a scene, evenly spread."""
    rows = sorted({int(row) for row in np.linspace(0, max(0, scene.height - 256), 3)})
    columns = sorted({int(column) for column in np.linspace(0, max(0, scene.width - 256), 3)})
    return [Box(row, column, min(256, scene.height), min(256, scene.width)) for row in rows for column in columns]
