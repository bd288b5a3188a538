"""The answers of one network on the disk: a file for each region, float16, laid out (view, row, column, channel).

A region's numbers get their name when they are whole, and count once `NAME.json` beside them is written: what was stopped or
killed is begun again, and several processes share the work by locks.
"""

import errno
import json
import os
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from kdcore.data.answers import FLOAT16_BYTES, VIEWS
from kdcore.data.batches import read_ahead
from kdcore.data.collection import Region
from kdcore.data.scene import Box, Crop
from kdcore.reading import read_json
from kdcore.settings import fingerprint
from kdcore.training.answers import Answer, Tile, Witness, tiles_of

ALL_CHECKED_BYTES = 1_000_000_000  # a larger region's checksums are looked at for one view, drawn anew each time
TOLERANCE = 1e-3  # of a probability, between what is kept and what the network says now


@dataclass
class Disagreement:
    """How much a network contradicts itself when its imagery is turned or mirrored: sums over pixels that were compared.

    Attributes:
        pixels: compared, each with one of the other views.
        other_class: of these, pixels whose most probable class differs.
        difference: sum of the mean absolute difference of their probabilities.
    """

    pixels: int = 0
    other_class: int = 0
    difference: float = 0.0

    def add(self, upright: Answer, other: Answer, valid: NDArray[np.bool_]) -> None:
        """Compare answers (channels, height, width) to two views where there is data."""
        one, two = probabilities(upright)[:, valid], probabilities(other)[:, valid]
        classes = (one > 0.5) != (two > 0.5) if len(one) == 1 else one.argmax(axis=0) != two.argmax(axis=0)
        self.pixels += int(valid.sum())
        self.other_class += int(classes.sum())
        self.difference += float(np.abs(one - two).mean(axis=0).sum())

    def merge(self, other: "Disagreement") -> None:
        """Add what was found elsewhere."""
        self.pixels += other.pixels
        self.other_class += other.other_class
        self.difference += other.difference

    def shares(self) -> dict[str, float] | None:
        """The share of pixels with another class, and the mean difference of probabilities; None where nothing was compared."""
        if not self.pixels:
            return None
        return {
            "other_class": round(self.other_class / self.pixels, 5),
            "probability": round(self.difference / self.pixels, 5),
        }


class Store:
    """The files of one network.

    Args:
        folder: its own.
        root: the collection's folder, from which scenes are named.
        regions: what is to be answered.
        channels: numbers for each pixel.
        views: 8, or 1.
    """

    def __init__(self, folder: Path, root: Path, regions: Sequence[Region], channels: int, views: int) -> None:
        self.folder, self.regions = folder, tuple(regions)
        self.channels, self.views = channels, views
        self.names = [fingerprint(str(region.scene.image.relative_to(root)), region.box) for region in regions]
        self._written: list[int] = []

    def file(self, index: int) -> Path:
        """The numbers of a region."""
        return self.folder / f"{self.names[index]}.f16"

    def sheet(self, index: int) -> Path:
        """What is known about them; without it they do not count."""
        return self.folder / f"{self.names[index]}.json"

    def shape(self, index: int) -> tuple[int, int, int, int]:
        """Views, rows, columns, channels."""
        box = self.regions[index].box
        return self.views, box.height, box.width, self.channels

    def size(self, index: int) -> int:
        """Bytes of a region."""
        return int(np.prod(self.shape(index), dtype=np.int64)) * FLOAT16_BYTES

    @cached_property
    def bytes(self) -> int:
        """Of all regions."""
        return sum(self.size(index) for index in range(len(self.regions)))

    def about(self, index: int) -> dict[str, Any] | None:
        """What a finished region's sheet says; None where it is not finished or not whole."""
        try:
            if self.file(index).stat().st_size != self.size(index):
                return None
            values = read_json(self.sheet(index))
        except (OSError, ValueError):
            return None
        fits = isinstance(values, dict) and values.get("shape") == list(self.shape(index))
        return values if fits and len(values.get("crc32", ())) == self.views else None

    def missing_bytes(self) -> int:
        """Bytes that are still to be written."""
        return sum(self.size(index) for index in range(len(self.regions)) if self.about(index) is None)

    def remove(self, index: int) -> None:
        """Remove a region. Processes that read it go on with what they have opened."""
        for file in (self.sheet(index), self.file(index)):
            file.unlink(missing_ok=True)

    def give_up(self) -> None:
        """Remove what this process has written: others need the space more."""
        for index in self._written:
            self.remove(index)
        self._written.clear()

    def disagreement(self) -> Disagreement:
        """Over all finished regions."""
        total = Disagreement()
        for index in range(len(self.regions)):
            total.merge(Disagreement(**((self.about(index) or {}).get("disagreement") or {})))
        return total

    def damaged(self, index: int, rng: np.random.Generator) -> bool:
        """Whether a finished region's numbers are not those that were written, by their checksums."""
        about = self.about(index)
        every = self.size(index) <= ALL_CHECKED_BYTES
        views = range(self.views) if every else (int(rng.integers(self.views)),)
        return about is None or any(
            checksum(self.file(index), view, self.views) != about["crc32"][view] for view in views
        )

    def differs(self, index: int, witness: Witness, rng: np.random.Generator) -> bool:
        """Whether the network now says something else about a random window of a region, seen in a random view."""
        region = self.regions[index]
        tile = tiles_of(region)[int(rng.integers(len(tiles_of(region))))]
        view = int(rng.integers(self.views))
        kept = StoredSource(self).read(index, tile.kept, view)
        live = witness.ask(witness.read(region, tile), tile, *VIEWS[view])
        return not bool(np.abs(probabilities(kept) - probabilities(live)).max() <= TOLERANCE)

    def build(self, witness: Witness, readers: int, on_window: Callable[[], None]) -> bool:
        """Answer the regions that are not finished and that no other process works on.

        Args:
            witness: the network.
            readers: threads that read imagery ahead.
            on_window: called after each window; what it raises ends the work, and the region is begun again the next time.

        Returns:
            Whether all regions are finished now.

        Raises:
            OSError: the disk is full, or the folder cannot be written to.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for index in range(len(self.regions)):
            if self.about(index) is not None:
                continue
            try:
                with FileLock(self.folder / f"{self.names[index]}.lock").acquire(timeout=0):
                    if self.about(index) is None:
                        self._answer(index, witness, readers, on_window)
            except Timeout:
                continue
        return all(self.about(index) is not None for index in range(len(self.regions)))

    def _answer(self, index: int, witness: Witness, readers: int, on_window: Callable[[], None]) -> None:
        started = time.perf_counter()
        region, found = self.regions[index], Disagreement()
        places = tiles_of(region)
        part = self.file(index).with_suffix(".part")
        try:
            with part.open("w+b") as file:
                reserve(file, self.size(index))
                crops = read_ahead(lambda number: witness.read(region, places[number]), range(len(places)), readers)
                for tile, seen in zip(places, crops, strict=True):
                    self._answer_window(index, file, witness, tile, seen, found)
                    on_window()
            sums = [checksum(part, view, self.views) for view in range(self.views)]
            os.replace(part, self.file(index))
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        values = {
            "scene": region.scene.image.name,
            "box": list(region.box),
            "shape": list(self.shape(index)),
            "crc32": sums,
            "disagreement": vars(found),
            "seconds": round(time.perf_counter() - started, 3),
        }
        temporary = self.sheet(index).with_suffix(".tmp")
        temporary.write_text(json.dumps(values, indent=1), encoding="utf-8")
        os.replace(temporary, self.sheet(index))
        self._written.append(index)

    def _answer_window(
        self, index: int, file: BinaryIO, witness: Witness, tile: Tile, seen: Crop, found: Disagreement
    ) -> None:
        valid = seen.valid[tile.kept.within(tile.window)]
        upright = witness.ask(seen, tile, *VIEWS[0])
        self._write(index, file, 0, tile.kept, upright)
        for view in range(1, self.views):
            answer = witness.ask(seen, tile, *VIEWS[view])
            self._write(index, file, view, tile.kept, answer)
            found.add(upright, answer, valid)
        if self.views == 1:  # one other view, each in its turn, to tell what is lost
            other = 1 + found.pixels // max(1, valid.size) % (len(VIEWS) - 1)
            found.add(upright, witness.ask(seen, tile, *VIEWS[other]), valid)

    def _write(self, index: int, file: BinaryIO, view: int, kept: Box, answer: Answer) -> None:
        _, height, width, depth = self.shape(index)
        rows = np.ascontiguousarray(answer.transpose(1, 2, 0))
        for offset, row in enumerate(rows):
            place = ((view * height + kept.row + offset) * width + kept.column) * depth
            file.seek(place * FLOAT16_BYTES)
            file.write(row.tobytes())


class StoredSource:
    """Answers of a store's finished regions, mapped into memory."""

    def __init__(self, store: Store) -> None:
        self.store, self.channels = store, store.channels
        self._maps: dict[int, NDArray[np.float16]] = {}

    def open(self) -> None:
        """Open all regions now, so that nobody can take them away any more."""
        for index in range(len(self.store.regions)):
            self._map(index)

    def read(self, index: int, box: Box, view: int) -> Answer:
        """The answers about a rectangle of a region, in the region's pixels: (channels, height, width)."""
        part = self._map(index)[view, box.row : box.row + box.height, box.column : box.column + box.width]
        return part.transpose(2, 0, 1)

    def _map(self, index: int) -> NDArray[np.float16]:
        if index not in self._maps:
            self._maps[index] = np.memmap(
                self.store.file(index), dtype=np.float16, mode="r", shape=self.store.shape(index)
            )
        return self._maps[index]


def reserve(file: BinaryIO, size: int) -> None:
    """Take a file's space, so that a full disk is found before the work.

    Raises:
        OSError: the disk is full.
    """
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system that cannot do it finds out later
                raise


def checksum(file: Path, view: int, views: int) -> int:
    """CRC-32 of one view's share of a file."""
    each = file.stat().st_size // views
    total = 0
    with file.open("rb") as opened:
        opened.seek(view * each)
        left = each
        while left and (chunk := opened.read(min(left, 1 << 22))):
            total = zlib.crc32(chunk, total)
            left -= len(chunk)
    return total


def probabilities(answer: Answer) -> NDArray[np.float32]:
    """Of an answer (channels, height, width) as `kdcore.models.teacher.pack` lays it out: (K, height, width)."""
    values = answer.astype(np.float32)
    if len(values) == 1:
        return np.asarray(0.5 * (1 + np.tanh(0.5 * values)), dtype=np.float32)
    return np.asarray(np.exp(values[:-1]), dtype=np.float32)
