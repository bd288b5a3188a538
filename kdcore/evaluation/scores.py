"""An evaluation kept as histograms: everything that curves and comparisons need, without the network."""

import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from kdcore.errors import DataError
from kdcore.files import replacing

LEVELS = 255  # probabilities are kept as 0..254
NODATA = 255  # level of a pixel without a probability, and label of a pixel that is not scored
BINS = 256  # one for each value of a uint8; the last stays empty
HALF = 127  # level of probability 0.5
FORMAT = 1  # of the file; raise it when the meaning of an array changes
COUNTS = ("positives", "negatives", "confusion", "boundary")


def quantise(probabilities: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Turn probabilities into levels: `round(254 * p)`, so that the largest rounding error is 1/508.

    Args:
        probabilities: any shape, usually (K, H, W), float in [0, 1]; rounding errors of 1e-3 beyond are clipped.

    Returns:
        Levels of the same shape, uint8 in 0..254.

    Raises:
        DataError: a value is NaN or lies outside [0, 1].
    """
    if probabilities.size and not (probabilities.min() >= -1e-3 and probabilities.max() <= 1 + 1e-3):
        raise DataError(
            f"Probabilities lie between {probabilities.min():g} and {probabilities.max():g}, expected [0, 1] "
            "(nan: the network returned values that are not numbers). Give probabilities, not logits."
        )
    scaled = np.multiply(probabilities, LEVELS - 1, dtype=np.float32)
    levels: NDArray[np.uint8] = np.clip(np.rint(scaled, out=scaled), 0, LEVELS - 1, out=scaled).astype(np.uint8)
    return levels


def boundary_pixels(distance_metres: float, metres_per_pixel: float | None) -> int:
    """Width of the boundary band in pixels, at least 1; without a known resolution a metre counts as a pixel."""
    return max(1, round(distance_metres / (metres_per_pixel or 1.0)))


def boundary_band(labels: NDArray[np.uint8], distance: int) -> NDArray[np.bool_]:
    """Pixels that have a pixel of another class at most `distance` pixels away (in a square, 2 * distance + 1 wide).

    For each class this is the mask minus its erosion: the band of Boundary IoU (Cheng et al., CVPR 2021, there with
    `distance` erosions by a 3 x 3 square). One minimum and one maximum of the labels give the bands of all classes:
    a neighbour of another class is either smaller or larger.

    Args:
        labels: (H, W) classes; 255 marks ignored pixels, which make no boundary, and neither does the array's border.
        distance: pixels, at least 1.

    Returns:
        (H, W) mask, False where ignored.
    """
    ignored = labels == NODATA
    lowest = extreme(np.minimum, labels, distance)
    highest = extreme(np.maximum, np.where(ignored, np.uint8(0), labels), distance)
    band: NDArray[np.bool_] = ((lowest < labels) | (highest > labels)) & ~ignored
    return band


def extreme(operation: np.ufunc, values: NDArray[np.uint8], distance: int) -> NDArray[np.uint8]:
    """Minimum or maximum over a square, 2 * distance + 1 wide, cut off at the border of the (H, W) array.

    Equal to scipy.ndimage.minimum_filter and maximum_filter in mode 'nearest', and about 30 times as fast: every step
    doubles the reach, and numpy takes the extreme of many bytes at once.
    """
    for _ in range(2):
        # Repeated border values lie inside the square anyway: they add nothing.
        values = np.pad(values, ((distance, distance), (0, 0)), mode="edge")
        reach = 1
        while reach < 2 * distance + 1:
            step = min(reach, 2 * distance + 1 - reach)
            values = operation(values[:-step], values[step:])
            reach += step
        values = values.T
    return values


@dataclass(frozen=True)
class Scores:
    """Counts of pixels by tile, class and level.

    Attributes:
        classes: names of all C classes.
        scored: the K classes that have a probability map: all of them, or (1,) for a binary problem.
        tiles: scene, row and column (pixels) of each tile's upper-left corner.
        positives: (tiles, K, 256) int64: pixels of the class at each level.
        negatives: (tiles, K, 256) int64: pixels of other classes at each level.
        confusion: (tiles, C, C) int64: rows are the truth, columns the prediction.
        boundary: (tiles, C, 2) int64: pixels in the intersection and in the union of true and predicted boundary bands.
    """

    classes: tuple[str, ...]
    scored: tuple[int, ...]
    tiles: tuple[tuple[str, int, int], ...]
    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]
    confusion: NDArray[np.int64]
    boundary: NDArray[np.int64]

    def __post_init__(self) -> None:
        check_classes(self.classes, self.scored)
        count, everything, scored = len(self.tiles), len(self.classes), len(self.scored)
        expected = {
            "positives": (count, scored, BINS),
            "negatives": (count, scored, BINS),
            "confusion": (count, everything, everything),
            "boundary": (count, everything, 2),
        }
        for name, shape in expected.items():
            found = getattr(self, name)
            if found.shape != shape or found.dtype.kind not in "iu":
                raise DataError(
                    f"Scores: '{name}' is {found.dtype} {found.shape}, expected integers {shape} for "
                    f"{count} tiles, {everything} classes and {scored} scored. Evaluate the network again."
                )

    @property
    def scored_names(self) -> tuple[str, ...]:
        """Names of the K scored classes."""
        return tuple(self.classes[index] for index in self.scored)

    def total(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Positives and negatives of all tiles together, (K, 256) each."""
        return self.positives.sum(axis=0), self.negatives.sum(axis=0)

    def select(self, which: NDArray[Any] | Sequence[int] | Sequence[bool]) -> "Scores":
        """Keep some tiles: a mask of all tiles, or indices (which may repeat)."""
        mask_or_indices = np.asarray(which) if len(which) else np.zeros(0, dtype=np.intp)
        indices = np.arange(len(self.tiles))[mask_or_indices]
        arrays = (self.positives, self.negatives, self.confusion, self.boundary)
        return Scores(
            self.classes,
            self.scored,
            tuple(self.tiles[index] for index in indices),
            *(array[indices] for array in arrays),
        )

    @classmethod
    def merge(cls, parts: Sequence[Self]) -> "Scores":
        """Join scores of different tiles, as several processes make them.

        Raises:
            DataError: there is no part, classes differ, or a tile occurs twice.
        """
        if not parts:
            raise DataError("There are no scores to merge. Give at least one.")
        first = parts[0]
        for part in parts[1:]:
            if (part.classes, part.scored) != (first.classes, first.scored):
                raise DataError(
                    f"Scores of {part.classes} (scored {part.scored}) cannot be merged with scores of "
                    f"{first.classes} (scored {first.scored}). Evaluate all parts on one collection."
                )
        tiles = tuple(tile for part in parts for tile in part.tiles)
        check_unique(tiles)
        return Scores(
            first.classes,
            first.scored,
            tiles,
            *(np.concatenate([getattr(part, name) for part in parts]) for name in COUNTS),
        )

    def save(self, path: Path) -> None:
        """Write a compressed .npz (no pickle), in one step; a reader never finds half of it."""
        arrays = {
            "format": np.array(FORMAT),
            "classes": np.array(self.classes, dtype=np.str_),
            "scored": np.array(self.scored, dtype=np.int64),
            "scenes": np.array([scene for scene, _, _ in self.tiles], dtype=np.str_),
            "corners": np.array([corner for _, *corner in self.tiles], dtype=np.int64).reshape(-1, 2),
        }
        for name in COUNTS:
            counts = getattr(self, name)
            # Counts of a 128-px tile fit into two bytes: a quarter of the time to compress them.
            arrays[name] = counts.astype(np.min_scalar_type(counts.max(initial=0)))
        with replacing(Path(path)) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> "Scores":
        """Read what `save` wrote.

        Raises:
            DataError: the file is missing, broken, of another kind, or its counts contradict each other.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            if int(arrays["format"]) != FORMAT:
                raise DataError(f"it has format {int(arrays['format'])}, and this version reads {FORMAT}")
            corners = arrays["corners"].tolist()
            scenes = arrays["scenes"].tolist()
            scores = Scores(
                classes=tuple(arrays["classes"].tolist()),
                scored=tuple(arrays["scored"].tolist()),
                tiles=tuple((scene, row, column) for scene, (row, column) in zip(scenes, corners, strict=True)),
                **{name: whole(arrays[name]) for name in COUNTS},
            )
            if not np.array_equal(scores.positives.sum(axis=2), scores.confusion.sum(axis=2)[:, list(scores.scored)]):
                raise DataError("its histograms and its confusion matrices count different pixels")
        except FileNotFoundError as error:
            raise DataError(f"{path}: there is no such file. Evaluate the network to make it.") from error
        except DataError as error:
            raise DataError(f"{path}: these scores cannot be used: {error} Evaluate the network again.") from error
        except UNREADABLE as error:
            raise DataError(
                f"{path}: this is not a file of scores, or it is broken ({type(error).__name__}: {error}). "
                "Evaluate the network again."
            ) from error
        return scores


# What numpy and zipfile raise on a truncated, damaged or foreign file.
UNREADABLE = (
    OSError,
    EOFError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    IndexError,
)


def whole(counts: NDArray[Any]) -> NDArray[np.int64]:
    """Counts as int64; anything but unsigned integers is refused."""
    if counts.dtype.kind != "u":
        raise DataError(f"counts are {counts.dtype}, expected unsigned integers")
    return counts.astype(np.int64)


def check_classes(classes: Sequence[str], scored: Sequence[int]) -> None:
    """Refuse scored classes that do not exist or are not in order."""
    if not scored or list(scored) != sorted(set(scored)) or scored[0] < 0 or scored[-1] >= len(classes):
        raise DataError(f"Scored classes are {scored}, expected increasing indices into the {len(classes)} classes.")


def check_unique(tiles: Sequence[tuple[str, int, int]]) -> None:
    """Refuse a tile that occurs twice: its pixels would count twice."""
    (tile, times), *_ = Counter(tiles).most_common(1) or [(("", 0, 0), 0)]
    if times > 1:
        scene, row, column = tile
        raise DataError(
            f"Scene '{scene}': the tile at row {row}, column {column} was scored {times} times. Windows must not "
            "overlap, and each must cover whole tiles."
        )


class ScoresBuilder:
    """Collects scores window by window, and keeps only counts.

    Args:
        classes: names of all C classes.
        scored: indices of the K classes that have a probability map.
        tile: pixels along a tile's side.
    """

    def __init__(self, classes: Sequence[str], scored: Sequence[int], tile: int = 128) -> None:
        check_classes(classes, scored)
        self.classes = tuple(classes)
        self.scored = tuple(scored)
        self.tile = tile
        self._tiles: list[tuple[str, int, int]] = []
        self._counts: dict[str, list[NDArray[np.int64]]] = {name: [] for name in COUNTS}

    def add_window(
        self,
        scene: str,
        row: int,
        column: int,
        levels: NDArray[np.uint8],
        labels: NDArray[np.uint8],
        boundary_pixels: int,
        predicted: NDArray[np.uint8] | None = None,
    ) -> None:
        """Count one window; tiles without a pixel that has both a label and a probability are left out.

        Args:
            scene: id of the scene.
            row: of the window's upper-left corner in the scene, pixels, a multiple of the tile.
            column: as `row`.
            levels: (K, H, W) from `quantise`, 255 = no data.
            labels: (H, W) classes 0..C-1, 255 = ignore.
            boundary_pixels: width of the boundary bands, pixels. Bands see the whole window, not beyond it.
            predicted: (H, W) predicted classes; without it the arg-max of the levels (the first of equals), or
                probability >= 0.5 for a binary problem.

        Raises:
            DataError: shapes do not fit together, the window is not aligned to tiles, or a class does not exist.
        """
        self._check(scene, row, column, levels, labels, predicted)
        height, width = labels.shape
        classes = len(self.classes)
        valid = (labels != NODATA) & (levels != NODATA).all(axis=0)
        if not valid.any():
            return
        if predicted is None:
            predicted = (
                (levels[0] >= HALF).astype(np.uint8) if len(levels) == 1 else levels.argmax(axis=0).astype(np.uint8)
            )
        truth = np.where(valid, labels, np.uint8(NODATA))
        predicted = np.where(valid, predicted, np.uint8(NODATA))
        for name, values in (("label", truth), ("predicted class", predicted)):
            if values[valid].max() >= classes:
                raise DataError(
                    f"Scene '{scene}', window at row {row}, column {column}: {name} {values[valid].max()} does not "
                    f"exist, the classes are 0..{classes - 1}. Map it to a class or to {NODATA} (ignore)."
                )

        rows, columns = -(-height // self.tile), -(-width // self.tile)
        tile_of = (np.arange(height)[:, None] // self.tile) * columns + np.arange(width) // self.tile
        kept = np.flatnonzero(np.bincount(tile_of[valid], minlength=rows * columns))

        def count(index: NDArray[np.intp], *shape: int) -> NDArray[np.int64]:
            bins = np.bincount(index.ravel(), minlength=rows * columns * int(np.prod(shape)))
            return bins.reshape(rows * columns, *shape)[kept]

        # Invalid pixels go to an extra class that is cut off: cheaper than picking the valid ones for every histogram.
        true_class = tile_of * (classes + 1) + np.minimum(truth, classes)
        base = true_class * BINS
        joint = [count(base + level, classes + 1, BINS)[:, :classes] for level in levels]
        positives = np.stack([part[:, index] for part, index in zip(joint, self.scored, strict=True)], axis=1)
        confusion = count(true_class * (classes + 1) + np.minimum(predicted, classes), classes + 1, classes + 1)

        true_band = boundary_band(truth, boundary_pixels)
        predicted_band = boundary_band(predicted, boundary_pixels)
        both = true_band & predicted_band & (truth == predicted)
        in_class = tile_of * classes
        intersection, in_truth, in_prediction = (
            count((in_class + values)[band], classes)
            for values, band in ((truth, both), (truth, true_band), (predicted, predicted_band))
        )

        self._tiles += [
            (scene, row + int(k) // columns * self.tile, column + int(k) % columns * self.tile) for k in kept
        ]
        self._counts["positives"].append(positives)
        self._counts["negatives"].append(np.stack([part.sum(axis=1) for part in joint], axis=1) - positives)
        self._counts["confusion"].append(confusion[:, :classes, :classes])
        self._counts["boundary"].append(np.stack([intersection, in_truth + in_prediction - intersection], axis=-1))

    def _check(
        self,
        scene: str,
        row: int,
        column: int,
        levels: NDArray[np.uint8],
        labels: NDArray[np.uint8],
        predicted: NDArray[np.uint8] | None,
    ) -> None:
        where = f"Scene '{scene}', window at row {row}, column {column}"
        shape = (len(self.scored), *labels.shape)
        if levels.shape != shape or labels.ndim != 2 or (predicted is not None and predicted.shape != labels.shape):
            found = f"levels {levels.shape}, labels {labels.shape}"
            found += "" if predicted is None else f", predicted {predicted.shape}"
            raise DataError(f"{where}: {found}; expected levels {shape} and the same height and width everywhere.")
        if row % self.tile or column % self.tile:
            raise DataError(
                f"{where}: its corner is not a multiple of the tile ({self.tile} px). Align the windows to tiles."
            )

    def build(self) -> Scores:
        """The scores of all windows so far.

        Raises:
            DataError: a tile was scored twice.
        """
        check_unique(self._tiles)
        classes, scored = len(self.classes), len(self.scored)
        empty = {
            "positives": (0, scored, BINS),
            "negatives": (0, scored, BINS),
            "confusion": (0, classes, classes),
            "boundary": (0, classes, 2),
        }
        counts = {
            name: np.concatenate([np.zeros(empty[name], dtype=np.int64), *parts])
            for name, parts in self._counts.items()
        }
        return Scores(self.classes, self.scored, tuple(self._tiles), **counts)
