"""Imagery and truth of a study's test scenes as GeoTIFFs with overviews, which the map is drawn from.

The truth lies on the very pixels of the runs' own maps (`runs/*/maps/<scene>.tif`). No torch here.
"""

import errno
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError  # what GDAL raises now and then is of no public kind
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.warp import calculate_default_transform
from rasterio.windows import Window

from kdcore.data.collection import Collection
from kdcore.data.masks import IGNORE
from kdcore.data.rasters import read_header
from kdcore.data.scene import Box, Scene, SceneReader
from kdcore.data.spectrum import TRUE_COLOUR, Band, named_colours, read_bands
from kdcore.data.survey import spread
from kdcore.data.writing import read_back, without_place_warning, writing_raster
from kdcore.errors import DataError, RunError
from kdcore.files import write_text
from kdcore.inference.layer_index import FOLDER, INDEX, WEB_MERCATOR, SceneLayers, StudyLayers, slugs
from kdcore.settings import class_colours

PIECE = 1024  # pixels: what is read and written at once, a multiple of the reader's block and of the file's tile
TILE = 256  # pixels: of the files, so that little more than a tile of the map has to be decoded
SMALLEST_OVERVIEW = 256  # pixels
MOST_BANDS = 32  # of a scene that can be looked at; of more those that are shown at first, and others evenly spread
MOST_VALUES = 2_000_000_000  # pixels times bands, about a gigabyte on disk; of a larger scene only the bands shown at first are kept
MOST_SAMPLES = 64  # blocks of 256 px that the stretch is measured on
STRETCH = (2, 98)  # percentiles that become black and white
EQUATOR_METRES_PER_PIXEL = 2 * math.pi * 6378137 / 256  # of web mercator at zoom 0

Stretch = list[tuple[float, float]]


class Picture(NamedTuple):
    """What imagery on disk holds; see `SceneLayers`."""

    bands: tuple[Band, ...]
    shown: tuple[int, ...]

    @property
    def numbers(self) -> tuple[int, ...]:
        """Of the bands that are written."""
        return tuple(band.number for band in self.bands) or self.shown


def write_layers(
    study: Path, collection: Collection, progress: Callable[[int, int], None] = lambda done, total: None
) -> StudyLayers:
    """Write imagery and truth of every scene with test pixels into `layers/` of a study's folder, and their index.

    What was written from the same data and bands before is kept, so that this can be called again after any interruption.

    Args:
        study: the study's folder.
        collection: the data that the study is about.
        progress: is told pieces done and pieces in all.

    Returns:
        What `layers.json` holds.

    Raises:
        KdcoreError: the disk is full, or imagery that cannot be read any more; `layers.json` is then not there.
    """
    picture = picture_of(collection.reader, collection.scenes, collection.settings.band_names)
    try:
        written = StudyLayers.load(study)
        if written.data == collection.content_hash and all(scene.bands == picture.bands for scene in written.scenes):
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
            place(scene, bounding_box(boxes), slug, picture)
            for (scene, boxes), slug in zip(parts, slugs([scene.id for scene, _ in parts]), strict=True)
        ),
    )
    stretch = measure_stretch(collection.reader, collection.scenes, picture.numbers)
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


def place(scene: Scene, box: Box, slug: str, picture: Picture) -> SceneLayers:
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
        bands=picture.bands,
        shown=picture.shown,
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
    numbers = Picture(placed.bands, placed.shown).numbers
    colours = {"photometric": "rgb" if len(numbers) == 3 else "minisblack"}  # or GDAL takes the fourth for alpha
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
            writing_raster(folder / "imagery.tif", compress, count=len(numbers), **colours, **common, **part_only)
        )
        labels = None
        if test is not None:
            truth = writing_raster(folder / "truth.tif", add_overviews, count=1, nodata=IGNORE, **common, **whole)
            labels = stack.enter_context(truth)
        for part in pieces(box):
            crop = reader.read(scene, part)
            place = part.row - box.row, part.column - box.column
            try:
                image, valid = read_picture(reader, scene, numbers, part)
                pictures.write(show(image, valid & crop.valid, stretch), *place)
                pictures.dataset.write_mask(crop.valid, window=Window(place[1], place[0], part.width, part.height))
                if labels is not None and test is not None:
                    labels.write(only_inside(crop.labels, part, test)[None], part.row, part.column)
            except RasterioError as error:  # GDAL names no reason, but this one is by far the most usual
                raise OSError(errno.ENOSPC, "GDAL could not write") from error
            yield


def optimise(path: Path) -> None:
    """Rewrite imagery as a Cloud-Optimized GeoTIFF, compressed as photographs are, and read it back.

    Three of many bands are read at a time, so those lie behind each other; GDAL's own driver for such files cannot do that.
    """
    target = path.with_suffix(".cog.tif")
    add_overviews(path, Resampling.average)
    try:
        with rasterio.open(path) as dataset:
            count = dataset.count
        options: dict[str, Any] = {
            "photometric": "ycbcr" if count == 3 else "minisblack",
            "interleave": "band" if count > 3 else "pixel",
            "compress": "jpeg",
            "jpeg_quality": 90,
            "tiled": True,
            "blockxsize": TILE,
            "blockysize": TILE,
            "bigtiff": "if_safer",
            "copy_src_overviews": True,
        }
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True, GDAL_TIFF_OVR_BLOCKSIZE=TILE), without_place_warning():
            rasterio.shutil.copy(path, target, driver="GTiff", **options)
        with rasterio.open(target) as dataset:
            for _, window in dataset.block_windows(1):
                dataset.read(window=window)
        target.replace(path)
    except CPLE_BaseError as error:
        raise OSError(errno.ENOSPC, "GDAL could not write") from error
    finally:
        target.unlink(missing_ok=True)


def overview_levels(width: int, height: int) -> int:
    """How often the size is halved until the longer side is at most `SMALLEST_OVERVIEW`."""
    return max(0, math.ceil(math.log2(max(width, height) / SMALLEST_OVERVIEW)))


def add_overviews(path: Path, resampling: Resampling = Resampling.nearest) -> None:
    """Add overviews to a map, so that small scales are cheap to draw.

    Those of probabilities and classes repeat single pixels (`nearest`) and are no averages: what a small scale shows of two maps
    and their disagreement is then true of the pixels that it shows.
    """
    with without_place_warning(), rasterio.Env(GDAL_TIFF_OVR_BLOCKSIZE=TILE):
        try:
            dataset = rasterio.open(path, "r+")
        except TypeError as error:  # what rasterio makes of a file that is cut short
            raise OSError(errno.ENOSPC, "what was written cannot be read back") from error
        with dataset:
            levels = overview_levels(dataset.width, dataset.height)
            if levels:
                dataset.build_overviews([2**level for level in range(1, levels + 1)], resampling)


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


def picture_of(reader: SceneReader, scenes: Sequence[Scene], names: Sequence[str] = ()) -> Picture:
    """What is written of scenes so that it can be looked at: all bands of a file with more than three, or those that are shown at first.

    Red, green and blue are shown where the bands that networks see are known to be that, else the first three; one where
    they are fewer.

    Args:
        reader: of the scenes.
        scenes: alike, but for further bands behind those that networks see.
        names: of the bands, see `read_bands`.
    """
    first, limit = scenes[0], reader.settings.max_declared_gb
    known = read_bands(first.image, names, limit)
    seen = [band for band in known if band.number in first.bands]
    shown = (named_colours(seen, TRUE_COLOUR) or first.bands[:3]) if len(first.bands) > 2 else first.bands[:1]
    colours = {*first.bands, *read_header(first.image, limit).colours}
    least = min(read_header(scene.image, limit).bands for scene in scenes)
    there = [band for band in known if band.number in colours and band.number <= least]
    others = [band for band in there if band.number not in shown]
    kept = {*shown, *(band.number for band in spread(others, MOST_BANDS - len(shown)))}
    if len(there) <= 3 or len(kept) * max(scene.box.area for scene in scenes) > MOST_VALUES:
        return Picture((), shown)
    return Picture(tuple(band for band in there if band.number in kept), shown)


def show(image: NDArray[Any], valid: NDArray[np.bool_], stretch: Stretch | None) -> NDArray[np.uint8]:
    """A piece as 8 bits, (bands, H, W); black where there is no data, `valid` (bands, H, W)."""
    if stretch is None:
        return image.astype(np.uint8)
    shown = np.zeros(image.shape, dtype=np.uint8)
    for index, (low, high) in enumerate(stretch):
        shown[index] = np.clip((image[index].astype(np.float32) - low) / (high - low) * 255, 0, 255)
    shown[~valid] = 0
    return shown


def read_picture(
    reader: SceneReader, scene: Scene, numbers: tuple[int, ...], box: Box
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Values of some bands and where each has data, (bands, H, W) both.

    Bands that no network sees are read one by one: where one of them has no data, the others may have some.
    """
    if set(numbers) <= set(scene.bands):
        crop = reader.read(replace(scene, bands=numbers), box)
        return crop.image, np.broadcast_to(crop.valid, crop.image.shape)
    crops = [reader.read(replace(scene, bands=(number,)), box) for number in numbers]
    return np.concatenate([crop.image for crop in crops]), np.stack([crop.valid for crop in crops])


def measure_stretch(reader: SceneReader, scenes: Sequence[Scene], numbers: tuple[int, ...]) -> Stretch | None:
    """The values of each of some bands that become black and white, the same for all scenes.

    None for 8-bit colour imagery, which is shown as it is. A band without data is black.

    Raises:
        DataError: the scenes hold no data.
    """
    first = scenes[0]
    if first.dtype == "uint8" and len(first.bands) == 3:
        return None
    places = [(scene, box) for scene in scenes for box in sample_boxes(scene)]
    values: list[list[NDArray[Any]]] = [[] for _ in numbers]
    for scene, box in spread(places, MOST_SAMPLES):
        for samples, band, valid in zip(values, *read_picture(reader, scene, numbers, box), strict=True):
            samples.append(band[valid][::7])
    together = [np.concatenate(samples) for samples in values]
    if not any(samples.size for samples in together):
        raise DataError(f"{first.image}: the imagery holds no data, so there is nothing to show on a map.")
    ends = [np.percentile(samples, STRETCH) if samples.size else (0.0, 0.0) for samples in together]
    return [(float(low), float(max(high, low + 1e-6))) for low, high in ends]


def sample_boxes(scene: Scene) -> list[Box]:
    """Up to nine blocks of a scene, evenly spread."""
    rows = sorted({int(row) for row in np.linspace(0, max(0, scene.height - 256), 3)})
    columns = sorted({int(column) for column in np.linspace(0, max(0, scene.width - 256), 3)})
    return [Box(row, column, min(256, scene.height), min(256, scene.width)) for row in rows for column in columns]
