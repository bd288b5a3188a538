"""An evaluation is a histogram: counts per tile, class and probability level, which add up exactly.

Probabilities are rounded once to 255 levels (uint8), as they are stored in a map. For every tile the counts of positive
and negative pixels per level, the confusion matrix and the overlap of boundaries are kept; curves, thresholds,
calibration and bootstraps are computed from these counts, and no network is needed any more.
"""

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdcore.errors import DataError
from kdcore.files import replacing

LEVELS = 255
"""Number of levels: level l stands for the probability l / 254."""
NODATA = 255
"""Level of a pixel without a prediction, and label of a pixel that is not scored."""
BINS = 256
"""Length of a histogram; bin 255 is always empty."""
POSITIVE_LEVEL = 127
"""The level of p = 0.5, from which a binary network says yes."""

_FORMAT = "kdcore-scores-1"
_COUNTS = ("positives", "negatives", "confusion", "boundary")

Levels = NDArray[np.uint8]
Integers = NDArray[np.int64]
Tile = tuple[str, int, int]


def quantise(probabilities: NDArray[np.floating[Any]]) -> Levels:
    """Round probabilities to levels: `round(254 p)`.

    Pixels of one level are ties, which lowers AP: by 0.1 to 0.4 points for well spread probabilities, but by several where
    a network is so sure of itself that its probabilities crowd at 0 and 1 and the class is rare.

    Args:
        probabilities: float in [0, 1], any shape, usually (K, H, W).

    Returns:
        uint8 in 0..254 of the same shape.

    Raises:
        DataError: a value is not a number or lies outside [0, 1] by more than rounding.
    """
    if probabilities.size:
        low, high = float(probabilities.min()), float(probabilities.max())
        if not (low >= -1e-4 and high <= 1 + 1e-4):
            raise DataError(
                f"Probabilities must lie between 0 and 1, but go from {low:g} to {high:g}. "
                "Apply softmax or sigmoid to the network's output; 'nan' means that its training diverged."
            )
    levels: Levels = np.rint(np.clip(probabilities, 0, 1) * (LEVELS - 1)).astype(np.uint8)
    return levels


def boundary_pixels(distance_metres: float, metres_per_pixel: float | None) -> int:
    """Width of the boundary band in pixels, at least 1; without a known resolution a metre counts as a pixel."""
    return max(1, round(distance_metres / (metres_per_pixel or 1.0)))


class Counts(NamedTuple):
    """What is counted in T tiles (leading axis), or in one (no leading axis)."""

    positives: Integers
    """(T, K, 256): pixels of the class, per level."""
    negatives: Integers
    """(T, K, 256): pixels of other classes, per level."""
    confusion: Integers
    """(T, C, C): rows = truth, columns = prediction."""
    boundary: Integers
    """(T, C, 2): pixels in the intersection and in the union of the boundary bands."""


def score_tile(
    levels: Levels,
    labels: Levels,
    classes: Sequence[str],
    scored: Sequence[int],
    boundary_pixels: int,
    *,
    predicted: NDArray[np.integer[Any] | np.bool_] | None = None,
) -> Counts:
    """Count one tile.

    Args:
        levels: (K, H, W) quantised probabilities of the scored classes; 255 = no prediction.
        labels: (H, W) index of the true class; 255 = ignore.
        classes: names of all C classes.
        scored: indices of the K classes that have a probability map: (0, ..., C-1), or (1,) of two classes.
        boundary_pixels: width of the boundary band.
        predicted: (H, W) index of the predicted class; without it the class of the highest level (the first of equals),
            or for one map level >= 127. Pass it where the network's logits are at hand: near ties survive no rounding.

    Returns:
        Counts without the leading axis.

    Raises:
        DataError: shapes, types or label values do not fit the classes.
    """
    counts = _count(levels, labels, classes, scored, boundary_pixels, predicted, tile=max(labels.shape))
    return Counts(*(array[0] for array in counts))


@dataclass(frozen=True, eq=False)
class Scores:
    """The counts of one network on one part of a collection.

    Attributes:
        classes: names of all C classes.
        scored: indices of the K classes that have a probability map: (0, ..., C-1), or (1,) of two classes.
        tiles: scene id, row and column (px) of each tile's upper-left corner; T of them, none twice.
        positives: (T, K, 256) int64, pixels of the class per level.
        negatives: (T, K, 256) int64, labelled pixels of other classes per level.
        confusion: (T, C, C) int64, rows = truth, columns = prediction.
        boundary: (T, C, 2) int64, pixels in the intersection and in the union of the boundary bands of truth and
            prediction (Cheng et al. 2021, Boundary IoU). An edge of the raster window or of ignored pixels is no boundary.
    """

    classes: tuple[str, ...]
    scored: tuple[int, ...]
    tiles: tuple[Tile, ...]
    positives: Integers
    negatives: Integers
    confusion: Integers
    boundary: Integers

    def __post_init__(self) -> None:
        _check_classes(self.classes, self.scored)
        tiles, maps, classes = len(self.tiles), len(self.scored), len(self.classes)
        shapes = {
            "positives": (tiles, maps, BINS),
            "negatives": (tiles, maps, BINS),
            "confusion": (tiles, classes, classes),
            "boundary": (tiles, classes, 2),
        }
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != np.int64:
                raise DataError(f"{name} is {array.dtype} {array.shape}, but must be int64 {shape}.")
        twice = _first_duplicate(self.tiles)
        if twice:
            raise DataError(f"Tile {_name(twice)} is scored twice. Merge each part of an evaluation once.")

    def __len__(self) -> int:
        return len(self.tiles)

    @property
    def pixels(self) -> int:
        """Number of scored pixels."""
        return int(self.confusion.sum())

    def total(self) -> tuple[Integers, Integers]:
        """Positives and negatives of all tiles together, each (K, 256)."""
        return self.positives.sum(axis=0), self.negatives.sum(axis=0)

    def select(self, tiles: ArrayLike) -> "Scores":
        """Keep some tiles, given as (T,) booleans or as indices, in the order given."""
        chosen = np.asarray(tiles)
        indices = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.intp)
        return Scores(
            self.classes,
            self.scored,
            tuple(self.tiles[index] for index in indices),
            *(getattr(self, name)[indices] for name in _COUNTS),
        )

    @staticmethod
    def merge(parts: Sequence["Scores"]) -> "Scores":
        """Put parts of one evaluation together, such as those of several processes.

        Raises:
            DataError: no parts, parts with other classes, or a tile in two parts.
        """
        if not parts:
            raise DataError("There are no scores to merge. Evaluate at least one scene.")
        first = parts[0]
        for part in parts[1:]:
            if (part.classes, part.scored) != (first.classes, first.scored):
                raise DataError(f"Scores of classes {part.classes} cannot be merged with scores of {first.classes}.")
        return Scores(
            first.classes,
            first.scored,
            tuple(tile for part in parts for tile in part.tiles),
            *(np.concatenate([getattr(part, name) for part in parts]) for name in _COUNTS),
        )

    def save(self, path: Path) -> None:
        """Write a compressed .npz under exactly this name, in one step: a reader never finds half a file.

        Raises:
            KdcoreError: the disk is full or the folder cannot be written to.
        """
        arrays: dict[str, Any] = {
            "format": np.array(_FORMAT),
            "classes": np.array(self.classes, dtype=np.str_),
            "scored": np.array(self.scored, dtype=np.int64),
            "scenes": np.array([scene for scene, _, _ in self.tiles], dtype=np.str_),
            "corners": np.array([corner for _, *corner in self.tiles], dtype=np.int64).reshape(len(self.tiles), 2),
        }
        for name in _COUNTS:  # the smallest type that fits: a tenth of the time to compress
            counts = getattr(self, name)
            arrays[name] = counts.astype(np.min_scalar_type(int(counts.max(initial=0))))
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            DataError: the file is missing, broken, or holds something else.
        """
        try:
            archive = np.load(path, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile) or str(archive["format"]) != _FORMAT:
                raise DataError("it is of another kind")
            with archive:
                scenes, corners = archive["scenes"], archive["corners"]
                tiles = (
                    (str(scene), int(row), int(column)) for scene, (row, column) in zip(scenes, corners, strict=True)
                )
                scores = cls(
                    tuple(str(name) for name in archive["classes"]),
                    tuple(int(index) for index in archive["scored"]),
                    tuple(tiles),
                    *(_whole(archive[name], name) for name in _COUNTS),
                )
            labelled = scores.confusion.sum(axis=2)
            if not np.array_equal(scores.positives.sum(axis=2), labelled[:, list(scores.scored)]):
                raise DataError("its histograms and its confusion matrices count different pixels")
            return scores
        except FileNotFoundError as error:
            raise DataError(f"{path}: there is no such file. Evaluate the run first.") from error
        except _UNREADABLE as error:
            message = f"{path}: cannot be read as scores ({error}). Delete the file and evaluate the run again."
            raise DataError(message) from error


_UNREADABLE = (
    DataError, OSError, ValueError, TypeError, KeyError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


class ScoresBuilder:
    """Collects tiles one after another.

    Args:
        classes: names of all C classes.
        scored: indices of the K classes that have a probability map: (0, ..., C-1), or (1,) of two classes.
        tile: side of a tile, px.

    Raises:
        DataError: `scored` does not fit `classes`.
    """

    def __init__(self, classes: Sequence[str], scored: Sequence[int], *, tile: int = 128) -> None:
        self.classes, self.scored, self.tile = tuple(classes), tuple(scored), tile
        _check_classes(self.classes, self.scored)
        self._parts: list[Scores] = []

    def add_tile(
        self,
        scene: str,
        row: int,
        column: int,
        levels: Levels,
        labels: Levels,
        boundary_pixels: int,
        *,
        predicted: NDArray[np.integer[Any] | np.bool_] | None = None,
    ) -> None:
        """Count one tile of any size with its upper-left corner at (row, column) px; see `score_tile`."""
        counts = score_tile(levels, labels, self.classes, self.scored, boundary_pixels, predicted=predicted)
        self._keep([(scene, row, column)], Counts(*(array[None] for array in counts)))

    def add_window(
        self,
        scene: str,
        row: int,
        column: int,
        levels: Levels,
        labels: Levels,
        boundary_pixels: int,
        *,
        predicted: NDArray[np.integer[Any] | np.bool_] | None = None,
    ) -> None:
        """Cut a window into tiles and count each; boundaries are found in the whole window, so cuts make none.

        Args:
            scene: id of the scene.
            row: first row of the window in the scene, a multiple of the tile's side.
            column: first column, likewise.
            levels: (K, H, W) quantised probabilities; 255 = no prediction.
            labels: (H, W) index of the true class; 255 = ignore.
            boundary_pixels: width of the boundary band.
            predicted: (H, W) index of the predicted class; see `score_tile`.

        Raises:
            DataError: the window is not aligned to tiles, or shapes, types or values do not fit.
        """
        if row % self.tile or column % self.tile:
            raise DataError(
                f"{scene}: a window starts at row {row}, column {column}, which is no multiple of the tile ({self.tile})."
            )
        counts = _count(
            levels, labels, self.classes, self.scored, boundary_pixels, predicted, tile=self.tile, where=scene
        )
        corners = [
            (scene, row + down, column + right)
            for down in range(0, labels.shape[0], self.tile)
            for right in range(0, labels.shape[1], self.tile)
        ]
        self._keep(corners, counts)

    def _keep(self, tiles: list[Tile], counts: Counts) -> None:
        part = Scores(self.classes, self.scored, tuple(tiles), *counts)
        self._parts.append(part.select(part.confusion.any(axis=(1, 2))))

    def build(self) -> Scores:
        """All tiles with at least one scored pixel, in the order in which they came.

        Raises:
            DataError: a tile was added twice.
        """
        empty = Counts(*(np.zeros((0, *shape), dtype=np.int64) for shape in self._shapes()))
        return Scores.merge([Scores(self.classes, self.scored, (), *empty), *self._parts])

    def _shapes(self) -> tuple[tuple[int, int], ...]:
        maps, classes = len(self.scored), len(self.classes)
        return (maps, BINS), (maps, BINS), (classes, classes), (classes, 2)


def _count(
    levels: Levels,
    labels: Levels,
    classes: Sequence[str],
    scored: Sequence[int],
    boundary_pixels: int,
    predicted: NDArray[np.integer[Any] | np.bool_] | None,
    *,
    tile: int,
    where: str = "tile",
) -> Counts:
    """Count the tiles of a window, row by row; the last of a row or column may be smaller."""
    _check_classes(classes, scored)
    _check_arrays(levels, labels, predicted, len(scored), where)
    valid = (labels != NODATA) & (levels.max(axis=0) != NODATA)
    truth = _known("label", labels, valid, classes, where)
    decided = _known("predicted label", decide(levels) if predicted is None else predicted, valid, classes, where)
    levels = np.where(valid, levels, np.uint8(NODATA))
    bands = []
    for index in range(len(classes)):
        true_band = boundary_band(truth == index, valid, boundary_pixels)
        decided_band = boundary_band(decided == index, valid, boundary_pixels)
        bands.append((true_band & decided_band, true_band | decided_band))

    counts = []
    for row in range(0, labels.shape[0], tile):  # tile by tile, so that everything stays in the processor's cache
        for column in range(0, labels.shape[1], tile):
            cut = slice(row, row + tile), slice(column, column + tile)
            sides = np.array([_histogram(level[cut], truth[cut] == k) for level, k in zip(levels, scored, strict=True)])
            overlap = [[np.count_nonzero(band[cut]) for band in pair] for pair in bands]
            confusion = _confusion(truth[cut], decided[cut], len(classes))
            counts.append((sides[:, 1], sides[:, 0], confusion, np.array(overlap, dtype=np.int64)))
    return Counts(*(np.stack(part) for part in zip(*counts, strict=True)))


def _histogram(level: Levels, positive: NDArray[np.bool_]) -> Integers:
    """Count negatives and positives per level, (2, 256); what has no prediction is counted nowhere."""
    bins = level + np.left_shift(positive, 8, dtype=np.uint16)
    sides = np.bincount(bins.ravel(), minlength=2 * BINS).reshape(2, BINS).astype(np.int64)
    sides[:, NODATA] = 0
    return sides


def _confusion(truth: Levels, decided: Levels, size: int) -> Integers:
    """Count pairs of true and predicted class, (C, C); 255 is counted nowhere."""
    cells = np.where(truth == NODATA, np.uint16(size * size), np.multiply(truth, size, dtype=np.uint16) + decided)
    counted = np.bincount(cells.ravel(), minlength=size * size + 1)[: size * size]
    return counted.reshape(size, size).astype(np.int64)


def decide(levels: Levels) -> NDArray[np.uint8]:
    """The predicted class of each pixel from its levels.

    Args:
        levels: (K, H, W) uint8.

    Returns:
        (H, W) uint8: the class of the highest level, the first of equals; for one map 1 where the level is 127 or more.
    """
    if len(levels) == 1:
        yes: Levels = (levels[0] >= POSITIVE_LEVEL).astype(np.uint8)
        return yes
    highest, decided = levels[0], np.zeros(levels.shape[1:], dtype=np.uint8)
    for index, level in enumerate(levels[1:], start=1):  # 30 times faster than numpy's argmax over the first axis
        decided[level > highest] = index
        highest = np.maximum(highest, level)
    return decided


def boundary_band(mask: NDArray[np.bool_], valid: NDArray[np.bool_], distance: int) -> NDArray[np.bool_]:
    """The pixels of a mask within `distance` px (in rows and columns) of a valid pixel outside it.

    This is the mask minus its erosion by a square of 2 * distance + 1 (Cheng et al. 2021, Boundary IoU), except that
    the edge of the window and pixels that are not valid make no boundary: what lies there is not known.

    Args:
        mask: (H, W) bool.
        valid: (H, W) bool, the pixels that are scored.
        distance: width of the band, px.

    Returns:
        (H, W) bool.
    """
    height, width = mask.shape
    inner = np.ones((height + 2 * distance, width + 2 * distance), dtype=bool)
    inner[distance : distance + height, distance : distance + width] = mask | ~valid
    for axis in (0, 1):
        reach, window = 1, 2 * distance + 1
        while reach < window:  # doubling: a window of w pixels takes log2(w) passes, whatever the image
            step = min(reach, window - reach)
            inner = inner[:-step] & inner[step:] if axis == 0 else inner[:, :-step] & inner[:, step:]
            reach += step
    return mask & valid & ~inner


def _whole(counts: NDArray[Any], name: str) -> Integers:
    """Counts as int64; anything but unsigned integers is not ours."""
    if counts.dtype.kind != "u":
        raise DataError(f"{name} is {counts.dtype}, but must be unsigned integers")
    return counts.astype(np.int64)


def _check_classes(classes: Sequence[str], scored: Sequence[int]) -> None:
    """Refuse `scored` that is neither all classes nor the second of two."""
    every = tuple(range(len(classes)))
    if not 2 <= len(classes) < NODATA or (tuple(scored) != every and (len(classes), tuple(scored)) != (2, (1,))):
        raise DataError(
            f"Scored classes {tuple(scored)} do not fit the classes {tuple(classes)}: score all of them, or (1,) of two."
        )


def _check_arrays(
    levels: Levels, labels: Levels, predicted: NDArray[np.integer[Any] | np.bool_] | None, maps: int, where: str
) -> None:
    """Refuse arrays whose type or shape would count something else than meant."""
    if levels.dtype != np.uint8 or labels.dtype != np.uint8:
        raise DataError(f"{where}: levels are {levels.dtype} and labels {labels.dtype}, but both must be uint8.")
    if labels.ndim != 2 or not labels.size or levels.shape != (maps, *labels.shape):
        raise DataError(
            f"{where}: levels are {levels.shape} and labels {labels.shape}; wanted are ({maps}, H, W) and (H, W)."
        )
    if predicted is not None and predicted.shape != labels.shape:
        raise DataError(f"{where}: predicted labels are {predicted.shape}, but the labels are {labels.shape}.")


def _known(
    what: str,
    values: NDArray[np.integer[Any] | np.bool_],
    valid: NDArray[np.bool_],
    classes: Sequence[str],
    where: str,
) -> Levels:
    """The (H, W) class indices with 255 in place of what is not valid, or a DataError for one that is no class."""
    present = np.where(valid, values, 0)
    low, high = int(present.min()), int(present.max())
    if low < 0 or high >= len(classes):
        found = high if high >= len(classes) else low
        raise DataError(f"{where}: {what} {found} is not one of the {len(classes)} classes {tuple(classes)}.")
    known: Levels = np.where(valid, present.astype(np.uint8), np.uint8(NODATA))
    return known


def _first_duplicate(tiles: Sequence[Tile]) -> Tile | None:
    """The first tile that was there before, if any."""
    seen: set[Tile] = set()
    for tile in tiles:
        if tile in seen:
            return tile
        seen.add(tile)
    return None


def _name(tile: Tile) -> str:
    scene, row, column = tile
    return f"{scene} (row {row}, column {column})"
