"""The layers of a scene: which files each is drawn from, and how; and a rectangle of it pixel by pixel, as it was scored."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from kdcore.errors import RunError
from kdcore.inference.layer_index import Rectangle
from kdcore.server.drawing import (
    AGREEMENT,
    Classes,
    classes_of,
    disagreement,
    imagery_png,
    palette_png,
    probability_palette,
)
from kdcore.server.lookup import ShownScene, find_scene
from kdcore.server.reading import NODATA, Tile, flat_place, opened, read_tile
from kdcore.views.map_layers import DISAGREEMENT_COLOURS
from kdcore.views.pictures import show_imagery

LAYER = re.compile(r"imagery|truth|(mask|probability|disagreement)-[A-Za-z0-9._-]+")


class Style(NamedTuple):
    """What the query asks for."""

    threshold: float
    hidden: frozenset[int]
    bands: tuple[int, ...] = ()


Draw = Callable[[Tile, Style], bytes]


def choose(shown: ShownScene, layer: str) -> tuple[list[Path], Draw]:
    """The files that a layer is drawn from, and how.

    Raises:
        RunError: there is no such layer.
    """
    if not LAYER.fullmatch(layer):
        raise RunError(
            f"There is no layer {layer[:100]!r}; there are imagery, truth, mask-RUN, probability-RUN-CLASS, disagreement-RUN-RUN."
        )
    kind, _, rest = layer.partition("-")
    if kind == "imagery":
        return [shown.imagery], lambda tile, style: draw_imagery(shown, tile, style.bands)
    if kind == "truth":
        truth = truth_of(shown)
        return [truth], lambda tile, style: draw_truth(shown, truth, tile, style)
    if kind == "mask":
        path = shown.map_of(rest)
        return [path], lambda tile, style: draw_mask(shown, path, tile, style)
    if kind == "probability":
        run, _, index = rest.rpartition("-")
        path, band = shown.map_of(run), band_of(shown, index)
        return [path], lambda tile, style: draw_probability(shown, path, band, tile)
    first, second = (shown.map_of(run) for run in two_runs(shown, rest))
    truth = truth_of(shown)
    return [truth, first, second], lambda tile, style: draw_disagreement(shown, truth, first, second, tile, style)


def truth_of(shown: ShownScene) -> Path:
    """The labels.

    Raises:
        RunError: a raster of one's own has none.
    """
    if shown.truth is None:
        raise RunError(f"The truth of {shown.scene.id!r} is not known, so nothing can be compared with it.")
    return shown.truth


def two_runs(shown: ShownScene, text: str) -> tuple[str, str]:
    """'alone-s0-distilled-s0' as two runs: names hold '-' themselves, so the ones that exist decide.

    Raises:
        RunError: they are not two runs that mapped the scene.
    """
    for first in shown.maps:
        second = text.removeprefix(f"{first}-")
        if second != text and second in shown.maps:
            return first, second
    raise RunError(f"{text[:200]!r} does not name two runs that mapped {shown.scene.id!r}.")


def band_of(shown: ShownScene, text: str) -> int:
    """The band (from 1) of a class's probabilities.

    Raises:
        RunError: the class has none.
    """
    scored = shown.layers.scored
    if not text.isdecimal() or len(text) > 3 or int(text) not in scored:
        raise RunError(f"Class {text[:20]!r} has no probabilities; the classes {', '.join(map(str, scored))} have.")
    return scored.index(int(text)) + 1


def draw_imagery(shown: ShownScene, tile: Tile, bands: tuple[int, ...]) -> bytes:
    """Imagery, with the bands of these numbers or else the usual ones: smooth where it is made smaller, whole pixels where larger.

    Raises:
        SettingsError: it has no such band.
    """
    native, stored = shown.scene.zoom, shown.scene.stored(bands)
    resampling: Literal["nearest", "bilinear"] = "bilinear" if tile[0] <= native else "nearest"
    image, valid = read_tile(shown.imagery, tile, native, bands=stored, resampling=resampling)
    return imagery_png(image, valid)


def draw_truth(shown: ShownScene, truth: Path, tile: Tile, style: Style) -> bytes:
    """The true classes in their colours; hidden ones and pixels without class are transparent."""
    return palette_png(read_tile(truth, tile, shown.scene.zoom)[0][0], shown.layers.colours, style.hidden)


def draw_mask(shown: ShownScene, path: Path, tile: Tile, style: Style) -> bytes:
    """The classes that a run decides on, likewise."""
    levels, valid = read_tile(path, tile, shown.scene.zoom, flat_place(shown.scene))
    return palette_png(classes_of(levels, valid, style.threshold), shown.layers.colours, style.hidden)


def draw_probability(shown: ShownScene, path: Path, band: int, tile: Tile) -> bytes:
    """One class's probabilities from low to high, transparent where there are none."""
    levels, valid = read_tile(path, tile, shown.scene.zoom, flat_place(shown.scene), (band,))
    return palette_png(np.where(valid, levels[0], np.uint8(NODATA)), probability_palette())


def draw_disagreement(shown: ShownScene, truth: Path, first: Path, second: Path, tile: Tile, style: Style) -> bytes:
    """The three ways in which two runs differ from the truth in their colours, agreement transparent."""
    values, _ = read_tile((truth, first, second), tile, shown.scene.zoom, flat_place(shown.scene))
    runs = (classes_of(levels, levels[0] != NODATA, style.threshold) for levels in np.split(values[1:], 2))
    return palette_png(disagreement(values[0], *runs), ("#000000", *DISAGREEMENT_COLOURS), {AGREEMENT})


def crops_of(
    study: str, scene: str, rectangle: Rectangle, runs: Sequence[str], most: int | None = None, truth: bool = True
) -> tuple[NDArray[np.uint8], list[Classes]]:
    """Read a rectangle of a scene.

    Args:
        study: its id.
        scene: its id.
        rectangle: row, column, height H and width W in pixels of the scene.
        runs: whose maps are read.
        most: longer side in pixels of what is given; a larger rectangle is made smaller, so that H and W are less.
        truth: whether the labels are given, too.

    Returns:
        (H, W, 3) uint8 imagery, and the (H, W) uint8 classes of the truth and of each run, 255 where there are none.

    Raises:
        RunError: there is no such study, scene or run, or a file is broken.
    """
    shown = find_scene(study, scene)
    row, column, height, width = rectangle
    window = Window(column, row, width, height)
    shrink = 1.0 if most is None else max(1.0, max(height, width) / most)
    shape = max(1, round(height / shrink)), max(1, round(width / shrink))
    pixel = Affine.scale(width / shape[1], height / shape[0])
    place = shown.scene.affine @ Affine.translation(column, row) @ pixel
    with (
        opened((shown.imagery,)) as dataset,
        WarpedVRT(dataset, crs=shown.scene.coordinates, transform=place, width=shape[1], height=shape[0]) as warped,
    ):
        imagery, valid = warped.read(shown.scene.stored()), warped.dataset_mask() > 0
    masks = []
    if truth:
        with opened((truth_of(shown),)) as dataset:
            masks.append(dataset.read(1, window=window, out_shape=shape))
    for run in runs:
        with opened((shown.map_of(run),)) as dataset:
            levels = dataset.read(window=window, out_shape=(dataset.count, *shape))
        masks.append(classes_of(levels, levels[0] != NODATA))
    return show_imagery(imagery, valid), masks
