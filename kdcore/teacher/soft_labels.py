"""Soft labels: what a teacher says of each pixel of a collection's scenes, computed once for all seeds, students, studies and sweeps.

They lie in `.soft-labels/` beside the studies, in a folder for each network and data, named by their contents. What does not fit on the
disk is computed when it is asked for: slower, with the same numbers. What the parts of the cache cost and what they are good for is
measured by `benchmarks/soft_labels.py` and `benchmarks/soft_label_views.py`.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from kdcore.bounded import BoundedCache
from kdcore.data.batches import VIEWS, turn_back
from kdcore.data.collection import Collection, Region
from kdcore.data.scene import Box
from kdcore.data.survey import Survey
from kdcore.errors import Stopped
from kdcore.files import is_full, sha256
from kdcore.jobs.progress import Progress, Report, Stage, ignore
from kdcore.models.onnx_info import described_by
from kdcore.settings import Hardware, fingerprint
from kdcore.teacher import views as seen
from kdcore.teacher.cost import find, outermost
from kdcore.teacher.store import NoRoomError, Store, Stored, in_words, make_room
from kdcore.teacher.teacher import Teacher, combine, is_onnx
from kdcore.teacher.views import Member, SoftLabel, tiles_of, unpack

FOLDER = ".soft-labels"
FORMER_FOLDER = ".teacher-answers"
FORMAT = 2  # changes when soft labels are computed or laid out in another way
ASK_EVERY = 0.2  # seconds between looks at what other processes have done
MEMORY_BYTES = 1_000_000_000  # of soft labels that are kept in memory where they are not kept on the disk


def kept_logits(packed: Tensor, temperature: float) -> Tensor:
    """A teacher's logits from its soft labels: (N, networks, channels, H, W) float16 -> (N, K, H, W), as `Teacher` averages them."""
    return combine(unpack(packed).transpose(0, 1), temperature)


class Live:
    """Soft labels that are computed when they are asked for, and kept in memory as long as there is room.

    They are the same, number by number, as those that are kept on the disk.
    """

    def __init__(self, member: Member, regions: Sequence[Region], most_bytes: int = MEMORY_BYTES) -> None:
        self.member, self.regions = member, regions
        self.channels = member.channels
        self._kept: BoundedCache[SoftLabel] = BoundedCache(most_bytes, lambda label: label.nbytes)
        self._lock = threading.Lock()

    def read(self, index: int, box: Box, view: int) -> SoftLabel:
        """Those of a rectangle of a region, in the region's pixels: (channels, height, width)."""
        found = np.zeros((self.channels, box.height, box.width), dtype=np.float16)
        for number, tile in enumerate(tiles_of(self.regions[index])):
            part = tile.kept.intersection(box)
            if part is not None:
                found[:, *part.within(box)] = self._ask(index, number, view)[:, *part.within(tile.kept)]
        return found

    def _ask(self, index: int, number: int, view: int) -> SoftLabel:
        key = (index, number, view)
        with self._lock:  # one at a time: several readers would only compute the same
            kept = self._kept.get(key)
            if kept is None:
                region = self.regions[index]
                tile = tiles_of(region)[number]
                said = self.member.ask(self.member.read(region, tile).image, *VIEWS[view])
                kept = np.ascontiguousarray(said[:, *tile.inner])
                self._kept.put(key, kept)
            return kept


class SoftLabels:
    """Serves the soft labels of a teacher's networks for crops.

    Args:
        regions: what there are soft labels of; crops of rectangles inside them are served, too.
        sources: one for each network.
        views: 8, or 1: then the upright view is turned for all crops.
        flips: whether a crop gets those of all eight views, for their average.
    """

    def __init__(
        self, regions: Sequence[Region], sources: Sequence[Live | Stored], views: int = 8, flips: bool = False
    ) -> None:
        self.regions, self.sources = tuple(regions), tuple(sources)
        self.views, self.flips = views, flips

    def crop(self, region: Region, box: Box, turns: int, flip: bool) -> SoftLabel:
        """The soft labels of a crop that lies as `turn(crop, turns, flip)` does; zero outside of the region.

        Returns:
            (networks, or 8 for each of them with `flips`; channels; height; width) float16.
        """
        index = find(self.regions, region)
        assert index is not None
        frame = self.regions[index].box
        own = VIEWS.index((turns, flip)) if self.views > 1 else 0
        asked = [(source, view) for source in self.sources for view in (range(8) if self.flips else (own,))]
        shape = (box.width, box.height) if turns % 2 else (box.height, box.width)
        served = np.zeros((len(asked), self.sources[0].channels, *shape), dtype=np.float16)
        inside = box.intersection(frame)
        if inside is not None:
            lying = turn_back(served, turns, flip)  # the same memory, as the scene lies
            part = inside._replace(row=inside.row - frame.row, column=inside.column - frame.column)
            for labels, (source, view) in zip(lying, asked, strict=True):
                labels[:, *inside.within(box)] = source.read(index, part, view)
        return served


@dataclass
class Served:
    """How soft labels are served; `values` is for a run's report.

    Attributes:
        soft_labels: for the batches.
        served: 'cache', or 'live' where they are not kept.
        bytes: on the disk; what they would take where they are live.
        views: kept, 8 or 1.
        seconds: that this process spent on computing and checking.
        other_class: share of the pixels for which the networks name another class in another view; None where that is not known.
        reason: why they are live.
    """

    soft_labels: SoftLabels
    served: Literal["cache", "live"]
    bytes: int
    views: int
    seconds: float = 0.0
    other_class: float | None = None
    reason: str = ""

    @property
    def values(self) -> dict[str, Any]:
        """Plain values."""
        disagreement = None if self.other_class is None else {"other_class": round(self.other_class, 5)}
        values = {"served": self.served, "bytes": self.bytes, "views": self.views, "build_seconds": self.seconds}
        return values | {"disagreement": disagreement, "reason": self.reason}

    def __str__(self) -> str:
        text = f"soft labels are kept: {in_words(self.bytes)}, {self.views} view{'s' if self.views > 1 else ''}"
        if self.other_class is None:
            return text
        turned = "which one view cannot show" if self.views == 1 else "which all eight views keep"
        return f"{text}; turned and mirrored, the teacher names another class for {self.other_class:.2%} of the pixels, {turned}"


def regions_of(survey: Survey, unlabelled: bool) -> tuple[Region, ...]:
    """What a training wants soft labels of: what labelled crops are taken from, and those without labels."""
    return outermost((*survey.regions, *(survey.unlabelled if unlabelled else ())))


@contextmanager
def open_soft_labels(
    folder: Path,
    collection: Collection,
    regions: Sequence[Region],
    teacher: Teacher,
    checkpoints: Sequence[Path],
    hardware: Hardware,
    *,
    device: torch.device | str = "cpu",
    report: Report = ignore,
    log: Callable[[str], None] = lambda text: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Served]:
    """Soft labels of regions: those on the disk, checked, or else computed and kept; live where there is no room for them.

    While the block runs nobody makes room by deleting them.

    Args:
        folder: of all soft labels, `.soft-labels/` beside the studies.
        collection: the data.
        regions: what crops are taken from; see `regions_of`.
        teacher: its networks are asked; they are on `device`.
        checkpoints: files of these networks, in their order.
        hardware: `cache_gb`, `cache_views` and `readers`.
        device: where the teacher is.
        report: is told windows done and windows in all.
        log: is told sentences.
        should_stop: asked after each window.

    Raises:
        Stopped: `should_stop` said so; what is computed stays.
        KdcoreError: imagery or a network that cannot be read.
    """
    started = time.perf_counter()
    views = 8 if teacher.flips or hardware.cache_views == "eight" else 1
    members = [Member(member, collection.reader, device) for member in teacher.members]  # type: ignore[arg-type]
    stores = [
        Store(folder / key, collection.root, regions, member.channels, views)
        for key, member in zip(keys(checkpoints, collection, views, device), members, strict=True)
    ]
    size = sum(store.bytes for store in stores)
    windows = Windows(stores, size, report, should_stop)
    with ExitStack() as stack:
        try:
            for store in stores:
                store.remove_damaged(log)
            missing = make_room(folder, stores, hardware.cache_gb, stack)
            if missing:
                log(
                    f"soft labels of {windows.total} windows of the scenes, {views} view{'s' if views > 1 else ''} each: "
                    f"{in_words(missing)} of {in_words(size)} are still to be computed, in {folder}{former(folder)}"
                )
            build(stores, members, hardware.readers, windows)
            kept = [Stored(store) for store in stores]
        except (NoRoomError, OSError) as error:
            for store in stores:
                store.give_up()
            stack.close()
            reason = why(error)
            log(f"soft labels are computed live, which is slower and changes no result: {reason}")
            live = [Live(member, regions) for member in members]
            served = Served(SoftLabels(regions, live, views, teacher.flips), "live", size, views, reason=reason)
        else:
            served = Served(SoftLabels(regions, kept, views, teacher.flips), "cache", size, views)
            served.seconds = round(time.perf_counter() - started, 2)
            compared, other = (sum(both) for both in zip(*(store.other_class() for store in stores), strict=True))
            served.other_class = other / compared if compared else None
            log(str(served))
        yield served


def keys(checkpoints: Sequence[Path], collection: Collection, views: int, device: torch.device | str) -> Iterator[str]:
    """Names of the networks' folders: they change with the file and what describes it, the data, and how the network is asked."""
    asked = (seen.WINDOW, seen.HALO, views, torch.device(device).type, FORMAT)
    for checkpoint in checkpoints:
        beside = described_by(checkpoint)
        described = (sha256(beside),) if is_onnx(checkpoint) and beside.is_file() else ()
        yield fingerprint(sha256(checkpoint), *described, collection.content_hash, *asked)


def former(folder: Path) -> str:
    """What to say where soft labels of an older version lie."""
    older = folder.with_name(FORMER_FOLDER)
    return f"; {older} is of an older version and not read any more: delete it" if older.is_dir() else ""


class Windows:
    """Tells how many windows are done, and stops the work when that is wished."""

    def __init__(
        self,
        stores: Sequence[Store],
        size: int,
        report: Report,
        should_stop: Callable[[], bool],
    ) -> None:
        self.stores, self.report, self.should_stop = stores, report, should_stop
        self.size = in_words(size)
        self.total = len(stores) * sum(len(tiles_of(region)) for region in stores[0].regions)
        self.done = 0

    def look(self) -> None:
        """Tell what is finished, by whoever.

        Raises:
            Stopped: that is wished.
        """
        missing = sum(
            len(tiles_of(store.regions[index])) - store.begun(index)[0]
            for store in self.stores
            for index in store.unfinished()
        )
        self._tell(self.total - missing)

    def one_more(self) -> None:
        """Tell of one more window.

        Raises:
            Stopped: that is wished.
        """
        self._tell(min(self.total, self.done + 1))

    def _tell(self, done: int) -> None:
        self.done = done
        self.report(Progress("", Stage.SOFT_LABELS, done, self.total, self.size))
        if self.should_stop():
            raise Stopped("stopped while soft labels were computed; they resume there.")


def build(stores: Sequence[Store], members: Sequence[Member], readers: int, windows: Windows) -> None:
    """Compute what nobody has computed yet, and wait for what others are working on."""
    while True:
        windows.look()
        finished = [
            store.build(member, readers, windows.one_more) for store, member in zip(stores, members, strict=True)
        ]
        if all(finished):
            windows.look()
            return
        time.sleep(ASK_EVERY)


def why(error: Exception) -> str:
    """The reason for which soft labels are not kept, in words."""
    if not isinstance(error, OSError):
        return f"{error}."
    if is_full(error):
        return f"the disk is full ({error.strerror})."
    return f"{error.filename or FOLDER} cannot be written to ({error.strerror or error})."
