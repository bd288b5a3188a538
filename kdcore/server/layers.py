"""The layers of a scene: which files each is drawn from, and how."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kdcore.errors import RunError
from kdcore.server.drawing import (
    Classes,
    class_png,
    classes_of,
    disagreement,
    disagreement_png,
    imagery_png,
    probability_png,
)
from kdcore.server.lookup import ShownScene
from kdcore.server.reading import NODATA, Tile, flat_place, read_tile

LAYER = re.compile(r"imagery|truth|(mask|probability|disagreement)-[A-Za-z0-9._-]+")


class Style(NamedTuple):
    """What the query asks for."""

    threshold: float
    hidden: frozenset[int]


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
        return [shown.imagery], lambda tile, style: draw_imagery(shown, tile)
    if kind == "truth":
        truth = truth_of(shown)
        return [truth], lambda tile, style: class_png(labels_of(shown, truth, tile), shown.layers.colours, style.hidden)
    if kind == "mask":
        path = shown.map_of(rest)
        return [path], lambda tile, style: class_png(
            decided(shown, path, tile, style), shown.layers.colours, style.hidden
        )
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


def draw_imagery(shown: ShownScene, tile: Tile) -> bytes:
    """Imagery: smooth where it is made smaller, whole pixels where it is made larger."""
    native = shown.scene.zoom
    image, valid = read_tile(shown.imagery, tile, native, resampling="bilinear" if tile[0] <= native else "nearest")
    return imagery_png(image, valid)


def labels_of(shown: ShownScene, truth: Path, tile: Tile) -> Classes:
    """The true classes, 255 where there are none."""
    labels: Classes = read_tile(truth, tile, shown.scene.zoom)[0][0]
    return labels


def decided(shown: ShownScene, path: Path, tile: Tile, style: Style) -> Classes:
    """The classes that a run decides on."""
    levels, valid = read_tile(path, tile, shown.scene.zoom, flat_place(shown.scene))
    return classes_of(levels, valid, style.threshold)


def draw_probability(shown: ShownScene, path: Path, band: int, tile: Tile) -> bytes:
    """One class's probabilities."""
    levels, valid = read_tile(path, tile, shown.scene.zoom, flat_place(shown.scene), (band,))
    return probability_png(levels[0], valid)


def draw_disagreement(shown: ShownScene, truth: Path, first: Path, second: Path, tile: Tile, style: Style) -> bytes:
    """Where two runs differ from the truth."""
    values, _ = read_tile((truth, first, second), tile, shown.scene.zoom, flat_place(shown.scene))
    runs = (classes_of(levels, levels[0] != NODATA, style.threshold) for levels in np.split(values[1:], 2))
    return disagreement_png(disagreement(values[0], *runs))
