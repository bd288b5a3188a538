"""Soft labels on the disk, of one network: a file for each region, float16, laid out (view, row, column, channel).

A region's numbers get their name when they are whole, and count once `NAME.json` beside them is written: what was stopped resumes
after its last window, what was killed is begun again, and several processes share the work by locks. A file's checksum is looked at
once by a process.
"""

import errno
import json
import os
import shutil
import time
import uuid
import zlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from kdcore.data.batches import VIEWS
from kdcore.data.collection import Region
from kdcore.data.scene import Box
from kdcore.errors import Stopped
from kdcore.files import write_json
from kdcore.jobs.locks import held
from kdcore.models.tiled import looks
from kdcore.reading import read_json
from kdcore.settings import fingerprint
from kdcore.teacher.cost import COMPARE_EVERY, FLOAT16_BYTES
from kdcore.teacher.views import Member, SoftLabel, tiles_of

SPARE_BYTES = 200_000_000  # of the disk that are left alone: trainings write there, too
CHUNK = 1 << 22  # bytes


class NoRoomError(Exception):
    """Soft labels cannot be kept; the message says why."""


class Store:
    """The files of one network.

    Args:
        folder: its own.
        root: the collection's folder, from which scenes are named.
        regions: what soft labels are wanted of.
        channels: numbers for each pixel.
        views: 8, or 1.
    """

    def __init__(self, folder: Path, root: Path, regions: Sequence[Region], channels: int, views: int) -> None:
        self.folder, self.regions = folder, tuple(regions)
        self.channels, self.views = channels, views
        self.names = [fingerprint(str(region.scene.image.relative_to(root)), region.box) for region in regions]
        self._written: list[int] = []
        self._windows = 0

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
        return sum(map(self.size, range(len(self.regions))))

    def about(self, index: int) -> dict[str, Any] | None:
        """What a finished region's sheet says; None where it is not finished or not whole."""
        try:
            if self.file(index).stat().st_size != self.size(index):
                return None
            values = read_json(self.sheet(index))
        except (OSError, ValueError):
            return None
        fits = isinstance(values, dict) and values.get("shape") == list(self.shape(index))
        return (
            values if fits and all(isinstance(values.get(key), int) for key in ("crc32", "compared", "other")) else None
        )

    def part(self, index: int) -> Path:
        """The numbers of a region that is not finished; beside them stands how far it was when the work was stopped."""
        return self.folder / f"{self.names[index]}.part"

    def begun(self, index: int) -> tuple[int, int, int]:
        """Windows of a region that were done when the work was stopped, pixels compared in them, and those of another class."""
        try:
            values = read_json(self.part(index).with_suffix(".stopped"))
            if self.part(index).stat().st_size == self.size(index):
                return int(values["windows"]), int(values["compared"]), int(values["other"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return 0, 0, 0

    def unfinished(self) -> list[int]:
        """The regions that nobody has finished."""
        return [index for index in range(len(self.regions)) if self.about(index) is None]

    def remove(self, index: int) -> None:
        """Remove a region. Processes that read it go on with what they have opened."""
        for file in (self.sheet(index), self.file(index)):
            file.unlink(missing_ok=True)

    def remove_damaged(self, log: Callable[[str], None]) -> None:
        """Remove the finished regions whose numbers are not those that were written."""
        for index in range(len(self.regions)):
            about = self.about(index)
            if about is not None and checksum_of(self.file(index)) != about["crc32"]:
                log(f"{self.file(index)}: is not what was written; it is computed again")
                self.remove(index)

    def give_up(self) -> None:
        """Remove what this process has written: others need the space more."""
        for index in self._written:
            self.remove(index)
        self._written.clear()

    def other_class(self) -> tuple[int, int]:
        """Pixels that were looked at in two views, and those of them whose most probable class differed."""
        sheets = [self.about(index) or {} for index in range(len(self.regions))]
        return sum(sheet.get("compared", 0) for sheet in sheets), sum(sheet.get("other", 0) for sheet in sheets)

    def build(self, member: Member, readers: int, on_window: Callable[[], None]) -> bool:
        """Compute the regions that are not finished and that no other process works on.

        Args:
            member: the network.
            readers: threads that read imagery ahead.
            on_window: called after each window. Where it raises `Stopped` the region resumes there the next time; anything else ends
                the work, and the region is begun again.

        Returns:
            Whether all regions are finished now.

        Raises:
            OSError: the disk is full, or the folder cannot be written to.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for index in self.unfinished():
            try:
                with FileLock(self.folder / f"{self.names[index]}.lock").acquire(timeout=0):
                    if self.about(index) is None:
                        self._compute(index, member, readers, on_window)
            except Timeout:
                continue
        return not self.unfinished()

    def _compute(self, index: int, member: Member, readers: int, on_window: Callable[[], None]) -> None:
        started = time.perf_counter()
        region, tiles = self.regions[index], tiles_of(self.regions[index])
        part, stopped = self.part(index), self.part(index).with_suffix(".stopped")
        done, compared, other = self.begun(index)
        stopped.unlink(missing_ok=True)
        self._windows += done
        rest = tiles[done:]
        windows = looks(
            lambda number: member.read(region, rest[number]),
            len(rest),
            lambda images: [self._ask(member, images[0])],
            readers=readers,
            empty=True,
        )
        try:
            with part.open("r+b" if done else "w+b") as file:
                reserve(file, self.size(index))
                for tile, (seen, said) in zip(rest, windows, strict=True):
                    kept = [values[:, *tile.inner] for values in said or ()]
                    for view, values in enumerate(kept[: self.views]):
                        self._write(index, file, view, tile.kept, values)
                    valid = seen.valid[tile.inner]
                    for values in kept[1:]:
                        compared += int(valid.sum())
                        other += int((classes(values) != classes(kept[0]))[valid].sum())
                    done += 1
                    on_window()
            total = checksum_of(part)
            os.replace(part, self.file(index))
        except Stopped:
            write_json(stopped, {"windows": done, "compared": compared, "other": other})
            raise
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        about = {
            "scene": region.scene.image.name,
            "box": list(region.box),
            "shape": list(self.shape(index)),
            "crc32": total,
            "compared": compared,
            "other": other,
            "seconds": round(time.perf_counter() - started, 3),
        }
        temporary = self.sheet(index).with_suffix(".tmp")
        temporary.write_text(json.dumps(about, indent=1), encoding="utf-8")
        os.replace(temporary, self.sheet(index))
        self._written.append(index)

    def _ask(self, member: Member, image: NDArray[np.float32]) -> list[SoftLabel]:
        """What the network says about a window in each view; now and then in one more where one is kept, to tell what that loses."""
        views = list(VIEWS[: self.views])
        if self.views == 1 and self._windows % COMPARE_EVERY == 0:
            views.append(VIEWS[1 + self._windows // COMPARE_EVERY % (len(VIEWS) - 1)])
        self._windows += 1
        return [member.ask(image, *view) for view in views]

    def _write(self, index: int, file: BinaryIO, view: int, kept: Box, values: SoftLabel) -> None:
        _, height, width, depth = self.shape(index)
        for offset, row in enumerate(np.ascontiguousarray(values.transpose(1, 2, 0))):
            file.seek(((view * height + kept.row + offset) * width + kept.column) * depth * FLOAT16_BYTES)
            file.write(row.tobytes())


class Stored:
    """Soft labels of a store's finished regions, mapped into memory: nobody can take them away any more."""

    def __init__(self, store: Store) -> None:
        self.channels = store.channels
        self._maps = [
            np.memmap(store.file(index), dtype=np.float16, mode="r", shape=store.shape(index))
            for index in range(len(store.regions))
        ]

    def read(self, index: int, box: Box, view: int) -> SoftLabel:
        """Those of a rectangle of a region, in the region's pixels: (channels, height, width)."""
        part = self._maps[index][view, box.row : box.row + box.height, box.column : box.column + box.width]
        return part.transpose(2, 0, 1)


def classes(values: SoftLabel) -> NDArray[Any]:
    """The most probable class of each pixel."""
    return np.asarray(values[0] > 0 if len(values) == 1 else values[:-1].argmax(axis=0))


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


def checksum_of(file: Path) -> int:
    """CRC-32 of a file's contents; it is read once by a process."""
    found = file.stat()
    return checksum(file, found.st_ino, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=100_000)
def checksum(file: Path, inode: int, changed: int, size: int) -> int:
    """See `checksum_of`; the numbers tell a file from any later one of its name."""
    total = 0
    with file.open("rb") as opened:
        while chunk := opened.read(CHUNK):
            total = zlib.crc32(chunk, total)
    return total


def make_room(folder: Path, stores: Sequence[Store], limit_gb: float, stack: ExitStack) -> int:
    """Hold the folders of these networks, and delete what was not used for longest until the rest of them fits.

    Args:
        folder: of all soft labels.
        stores: what is wanted.
        limit_gb: for all soft labels together, 10^9 bytes.
        stack: releases the folders.

    Returns:
        Bytes that are still to be written.

    Raises:
        NoRoomError: they do not fit.
        OSError: the folder cannot be written to.
    """
    size, limit = sum(store.bytes for store in stores), limit_gb * 1e9
    if size > limit:
        raise NoRoomError(
            f"they take {in_words(size)}, and hardware.cache_gb allows {limit_gb:g} GB. Raise it, or set cache_views: one"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "room.lock"):
        own = {store.folder for store in stores}
        others = {place: taken(place) for place in folder.iterdir() if place.is_dir() and place not in own}
        missing = sum(store.size(index) for store in stores for index in store.unfinished())
        for place in sorted(others, key=last_use):
            if size + sum(others.values()) <= limit and shutil.disk_usage(folder).free >= missing + SPARE_BYTES:
                break
            if not users(place):
                shutil.rmtree(place, ignore_errors=True)
                del others[place]
        if size + sum(others.values()) > limit:
            raise NoRoomError(
                f"they take {in_words(size)}, others that are used now {in_words(sum(others.values()))}, and hardware.cache_gb "
                f"allows {limit_gb:g} GB. Raise it, or wait until they are done"
            )
        free = shutil.disk_usage(folder).free
        if missing and free < missing + SPARE_BYTES:
            raise NoRoomError(
                f"{in_words(missing)} are missing and only {in_words(free)} are free on the disk of {folder}. Free space"
            )
        for store in stores:
            hold(store, stack)
        return missing


def hold(store: Store, stack: ExitStack) -> None:
    """Say that a network's folder is used, and in the lock's name how large it will be."""
    place = store.folder / "users"
    place.mkdir(parents=True, exist_ok=True)
    lock = FileLock(place / f"{store.bytes}-{uuid.uuid4().hex}.lock")
    stack.enter_context(lock.acquire())
    stack.callback(Path(lock.lock_file).unlink, missing_ok=True)


def users(place: Path) -> list[Path]:
    """The locks of the processes that use a network's folder."""
    return [lock for lock in (place / "users").glob("*.lock") if held(lock)]


def last_use(place: Path) -> float:
    """When a network's folder was last asked for."""
    try:
        return (place / "users").stat().st_mtime
    except OSError:
        return 0.0


def taken(place: Path) -> int:
    """Bytes of a network's folder; while it is used, those that it will have."""
    written = sum(file.stat().st_size for file in place.iterdir() if file.suffix in (".f16", ".part"))
    return max([written, *(int(lock.name.partition("-")[0]) for lock in users(place))])


def in_words(size: float) -> str:
    """Bytes as 1.2 MB."""
    for unit in ("kB", "MB"):
        size /= 1000
        if size < 999.5:
            return f"{size:.3g} {unit}"
    return f"{size / 1000:.3g} GB"
