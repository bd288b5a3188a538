"""An evaluation is a histogram: counts per tile, class and probability level, which add up exactly.

For every tile the counts of positive and negative pixels per level, the confusion matrix and the overlap of boundaries are
kept; curves, thresholds, calibration and bootstraps are computed from these counts, and no network is needed any more.
The levels of a network are chosen from its own pixels (`kdcore.evaluation.levels`), a few hundred for each class.
"""

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from lzma import LZMAError
from pathlib import Path
from tokenize import TokenError
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdcore.errors import DataError
from kdcore.evaluation.levels import (
    GRID,
    LEVELS,
    MAP_BORDERS,
    NODATA,
    Floats,
    Singles,
    regroup,
)
from kdcore.files import replacing

MOST_UNPACKED, MOST_RATIO = 1e9, 100  # bytes, and times the file; real scores unpack to about four times
_FORMAT, _COARSE_FORMAT = "kdcore-scores-2", "kdcore-scores-1"
_HISTOGRAMS, _MATRICES = ("positives", "negatives"), ("confusion", "boundary")
_COUNTS = (*_HISTOGRAMS, *_MATRICES)
_TABLE = ("levels", "probability", "ties")

Integers = NDArray[np.int64]
Counts = NDArray[np.unsignedinteger[Any]]
Tile = tuple[str, int, int]


class Place(NamedTuple):
    """Where a tile lies among the others.

    Attributes:
        field: a scene, or several neighbours; distances are known within it.
        row, column: of the tile's upper-left corner in the field, px.
        whole: the fields that may touch, because nobody knows where they lie to each other: the parts of one scene without a
            georeference; else the field itself.
    """

    field: str
    row: float
    column: float
    whole: str


@dataclass(frozen=True, eq=False)
class Scores:
    """The counts of one network on one part of a collection.

    Attributes:
        classes: names of all C classes.
        scored: indices of the K classes that have a probability map: (0, ..., C-1), or (1,) of two classes.
        tiles: scene id, row and column (px) of each tile's upper-left corner; T of them, none twice.
        levels: (K, L) lowest odds p / (1 - p) of each level, rising from 0; see `kdcore.evaluation.levels`.
        probability: (K, L) mean probability of each level.
        ties: (K, L) in [0, 1], how much a level's positives share one probability: the sum of squared shares of its codes.
            1 where they are ties, near 0 where they are many values; `average_precision` takes it.
        positives: (T, K, L) unsigned, pixels of the class per level.
        negatives: (T, K, L) unsigned, labelled pixels of other classes per level.
        confusion: (T, C, C) int64, rows = truth, columns = prediction.
        boundary: (T, C, 2) int64, pixels in the intersection and in the union of the boundary bands of truth and
            prediction (Cheng et al. 2021, Boundary IoU). An edge of the raster window or of ignored pixels is no boundary.
        coarse: whether they were counted by an older version, in 255 evenly spaced levels: AP may then be wrong by a point
            and more where a network is very sure of itself.
        places: where the T tiles lie among each other; empty where an older version did not write it down.
    """

    classes: tuple[str, ...]
    scored: tuple[int, ...]
    tiles: tuple[Tile, ...]
    levels: Singles
    probability: Singles
    ties: Singles
    positives: Counts
    negatives: Counts
    confusion: Integers
    boundary: Integers
    coarse: bool = False
    places: tuple[Place, ...] = ()

    def __post_init__(self) -> None:
        check_classes(self.classes, self.scored)
        tiles, maps, classes, levels = len(self.tiles), len(self.scored), len(self.classes), self.levels.shape[-1]
        shapes = {
            "levels": (maps, levels),
            "probability": (maps, levels),
            "ties": (maps, levels),
            "positives": (tiles, maps, levels),
            "negatives": (tiles, maps, levels),
            "confusion": (tiles, classes, classes),
            "boundary": (tiles, classes, 2),
        }
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.shape != shape or (name in _HISTOGRAMS and array.dtype.kind != "u"):
                raise DataError(
                    f"{name} is {array.dtype} {array.shape}, but must be of shape {shape}, and a count unsigned."
                )
        if self.places and len(self.places) != tiles:
            raise DataError(f"There are {len(self.places)} places for {tiles} tiles.")
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
        """Positives and negatives of all tiles together, each (K, L)."""
        return self.positives.sum(axis=0, dtype=np.int64), self.negatives.sum(axis=0, dtype=np.int64)

    def on_map(self) -> tuple[Integers, Integers]:
        """Positives and negatives of all tiles in the 255 levels of a map, each (K, 255); exact, not rounded again."""
        return self._totals(MAP_BORDERS)

    def on_grid(self) -> tuple[Integers, Integers]:
        """Positives and negatives of all tiles in the levels of `GRID`, which all networks share, each (K, G)."""
        return self._totals(GRID)

    def _totals(self, borders: Floats) -> tuple[Integers, Integers]:
        positives, negatives = self.total()
        return regroup(positives, self.levels, borders), regroup(negatives, self.levels, borders)

    def select(self, tiles: ArrayLike) -> "Scores":
        """Keep some tiles, given as (T,) booleans or as indices, in the order given."""
        chosen = np.asarray(tiles)
        indices = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.intp)
        counts: dict[str, Any] = {name: getattr(self, name)[indices] for name in _COUNTS}
        kept = tuple(self.tiles[index] for index in indices)
        return replace(self, tiles=kept, places=tuple(self.places[index] for index in indices if self.places), **counts)

    def on(self, tiles: Sequence[Tile]) -> "Scores":
        """Those of these tiles that are scored here, in their order."""
        place = {tile: index for index, tile in enumerate(self.tiles)}
        return self.select([place[tile] for tile in tiles if tile in place])

    def save(self, path: Path) -> None:
        """Write a compressed .npz under exactly this name, in one step: a reader never finds half a file.

        Raises:
            KdcoreError: the disk is full or the folder cannot be written to.
        """
        arrays: dict[str, Any] = {
            "format": np.array(_COARSE_FORMAT if self.coarse else _FORMAT),
            "classes": np.array(self.classes, dtype=np.str_),
            "scored": np.array(self.scored, dtype=np.int64),
            "scenes": np.array([scene for scene, _, _ in self.tiles], dtype=np.str_),
            "corners": np.array([corner for _, *corner in self.tiles], dtype=np.int64).reshape(len(self.tiles), 2),
        }
        if not self.coarse:
            arrays |= {name: getattr(self, name) for name in _TABLE}
        if self.places:
            arrays["fields"] = np.array([(place.field, place.whole) for place in self.places], dtype=np.str_)
            arrays["at"] = np.array([(place.row, place.column) for place in self.places], dtype=np.float64)
        for name in _COUNTS:  # the smallest type that fits: a tenth of the time to compress
            arrays[name] = compact(getattr(self, name))
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote, or what an older version did.

        Raises:
            DataError: the file is missing, broken, or holds something else.
        """
        try:
            check_archive(path)
            archive = np.load(path, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile) or str(archive["format"]) not in (_FORMAT, _COARSE_FORMAT):
                raise DataError("it is of another kind")
            with archive:
                scores = cls(**_read(archive))
            labelled = scores.confusion.sum(axis=2)
            if not np.array_equal(scores.positives.sum(axis=2), labelled[:, list(scores.scored)]):
                raise DataError("its histograms and its confusion matrices count different pixels")
            return scores
        except FileNotFoundError as error:
            raise DataError(f"{path}: there is no such file. Evaluate the run first.") from error
        except UNREADABLE as error:
            message = f"{path}: cannot be read as scores ({error}). Delete the file and evaluate the run again."
            raise DataError(message) from error


def check_archive(path: Path) -> None:
    """Refuse what is no plain file, and an archive that unpacks to far more than scores do.

    Raises:
        DataError: says how large it would be.
        OSError, zipfile.BadZipFile: it cannot be read as an archive.
    """
    if path.exists() and not path.is_file():
        raise DataError("it is no plain file")
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > MOST_UNPACKED and unpacked > MOST_RATIO * path.stat().st_size:
        raise DataError(
            f"it unpacks to {unpacked / 1e9:.1f} GB, far more than its {path.stat().st_size / 1e6:.1f} MB can mean"
        )


UNREADABLE = (
    DataError, OSError, ValueError, TypeError, KeyError, EOFError, MemoryError, RuntimeError, OverflowError,
    zipfile.BadZipFile, zlib.error, LZMAError, SyntaxError, TokenError,  # the last two of an array's header, which is Python's text
)  # fmt: skip


def _read(archive: Any) -> dict[str, Any]:
    """The attributes of Scores from an open .npz."""
    scenes, corners = archive["scenes"], archive["corners"]
    scored = tuple(int(index) for index in archive["scored"])
    coarse = str(archive["format"]) == _COARSE_FORMAT
    histograms = {name: _whole(archive[name], name) for name in _HISTOGRAMS}
    if coarse:  # 256 bins, of which the last is always empty
        histograms = {name: counts[..., :LEVELS] for name, counts in histograms.items()}
        rows = MAP_BORDERS, np.arange(LEVELS) / (LEVELS - 1), np.ones(LEVELS)
        table = {name: np.tile(row, (len(scored), 1)) for name, row in zip(_TABLE, rows, strict=True)}
    else:
        table = {name: archive[name] for name in _TABLE}
        if (
            any(np.isnan(values).any() for values in table.values())
            or (table["levels"][:, 1:] < table["levels"][:, :-1]).any()
        ):
            raise DataError("its levels do not rise")
    return {
        "classes": tuple(str(name) for name in archive["classes"]),
        "scored": scored,
        "tiles": tuple(
            (str(scene), int(row), int(column)) for scene, (row, column) in zip(scenes, corners, strict=True)
        ),
        **{name: values.astype(np.float32) for name, values in table.items()},
        **histograms,
        **{name: _whole(archive[name], name).astype(np.int64) for name in _MATRICES},
        "coarse": coarse,
        "places": _read_places(archive, len(scenes)) if "at" in archive else (),
    }


def _read_places(archive: Any, tiles: int) -> tuple[Place, ...]:
    fields, at = archive["fields"], archive["at"]
    if fields.shape != (tiles, 2) or at.shape != (tiles, 2) or not np.isfinite(at).all():
        raise DataError("its tiles lie nowhere")
    return tuple(
        Place(str(field), float(row), float(column), str(whole))
        for (field, whole), (row, column) in zip(fields, at, strict=True)
    )


def compact(counts: NDArray[Any]) -> Counts:
    """Counts in the smallest unsigned type that holds them."""
    smallest: Counts = counts.astype(np.min_scalar_type(int(counts.max(initial=0))))
    return smallest


def stack_tables(tables: Sequence[tuple[Floats, Floats, Floats]]) -> tuple[Singles, Singles, Singles]:
    """Levels, probability and ties of K classes as (K, L) each; a class with fewer levels is filled up with empty ones."""
    longest = max(len(lowest) for lowest, _, _ in tables)
    stacked = [
        np.stack([np.append(row, np.full(longest - len(row), fill)) for row in rows]).astype(np.float32)
        for rows, fill in zip(zip(*tables, strict=True), (np.inf, 1, 0), strict=True)
    ]
    return stacked[0], stacked[1], stacked[2]


def _whole(counts: NDArray[Any], name: str) -> Counts:
    """Counts as they are; anything but unsigned integers is not ours."""
    if counts.dtype.kind != "u":
        raise DataError(f"{name} is {counts.dtype}, but must be unsigned integers")
    return counts


def check_classes(classes: Sequence[str], scored: Sequence[int]) -> None:
    """Refuse `scored` that is neither all classes nor the second of two."""
    every = tuple(range(len(classes)))
    if not 2 <= len(classes) < NODATA or (tuple(scored) != every and (len(classes), tuple(scored)) != (2, (1,))):
        raise DataError(
            f"Scored classes {tuple(scored)} do not fit the classes {tuple(classes)}: score all of them, or (1,) of two."
        )


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


def aligned(scores: Scores, reference: Scores, name: str) -> Scores:
    """Scores with the tiles in the reference's order; anything that makes them incomparable is refused."""
    if (scores.classes, scores.scored) != (reference.classes, reference.scored):
        raise DataError(
            f"{name}: classes are {scores.classes} (scored {scores.scored}), those of the student alone {reference.classes} "
            f"(scored {reference.scored}). Compare networks trained on one collection."
        )
    if scores.tiles != reference.tiles:
        missing, extra = set(reference.tiles) - set(scores.tiles), set(scores.tiles) - set(reference.tiles)
        if missing or extra or len(scores.tiles) != len(reference.tiles):
            scene, row, column = min(missing or extra or scores.tiles)
            raise DataError(
                f"{name}: {len(missing)} tiles of the student alone are missing and {len(extra)} are not among them, for "
                f"example scene '{scene}', row {row}, column {column}. Evaluate all networks on the same test split."
            )
        position = {tile: index for index, tile in enumerate(scores.tiles)}
        scores = scores.select([position[tile] for tile in reference.tiles])
    other = np.flatnonzero((scores.confusion.sum(axis=2) != reference.confusion.sum(axis=2)).any(axis=1))
    if len(other):
        scene, row, column = reference.tiles[other[0]]
        raise DataError(
            f"{name}: {len(other)} tiles have other labels than for the student alone, for example scene '{scene}', "
            f"row {row}, column {column}. Evaluate all networks on the same labels."
        )
    return scores


def labelled_part(scores: Scores, share: float) -> Scores:
    """A share of the validation tiles, the same for every network that is scored there.

    Who has labels for a tenth of the training imagery has no full validation part either: choosing a checkpoint and a
    threshold with all of it would use labels that the study says are not there.

    Args:
        scores: of the whole validation part.
        share: of the labelled pixels that may be used, in (0, 1].

    Returns:
        Tiles in a fixed random order until the share is reached, and one more tile for each scored class that would be missing.
    """
    if share >= 1 or not len(scores):
        return scores
    by_class = scores.confusion.sum(axis=2)
    order = np.random.default_rng(0).permutation(len(scores))
    pixels = by_class.sum(axis=1)[order]
    enough = int(np.searchsorted(np.cumsum(pixels), share * pixels.sum())) + 1
    chosen = list(order[:enough])
    for index in scores.scored:
        holds = by_class[:, index] > 0
        if holds.any() and not holds[chosen].any():
            chosen.append(int(order[holds[order]][0]))
    return scores.select(sorted(chosen))
