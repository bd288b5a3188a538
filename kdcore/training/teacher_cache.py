"""The answers of a teacher about a collection's scenes, computed once and shared by all seeds, students, studies and sweeps.

They lie in `.teacher-answers/` beside the studies, in a folder for each network and data, named by their contents. What does not
fit on the disk is computed when it is asked for: slower, with the same numbers.
"""

import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from filelock import FileLock

from kdcore.data.answers import outermost
from kdcore.data.collection import Collection, Region
from kdcore.data.survey import Survey
from kdcore.errors import Stopped
from kdcore.files import is_full, sha256
from kdcore.models.teacher import Teacher
from kdcore.runs.locks import held
from kdcore.settings import Hardware, fingerprint
from kdcore.training import answers as asking
from kdcore.training.answer_store import Disagreement, Store, StoredSource
from kdcore.training.answers import LiveSource, SceneAnswers, Witness, tiles_of

FOLDER = ".teacher-answers"
FORMAT = 1  # changes when answers are computed or laid out in another way
STAGE = "teacher's answers"
SPARE_BYTES = 200_000_000  # of the disk that are left alone: trainings write there, too
ASK_EVERY = 0.2  # seconds between looks at what other processes have done
SAMPLES = 3  # windows that are compared with the live network at a start

_checked: set[str] = set()  # regions that this process has looked at


class NoRoomError(Exception):
    """Answers cannot be kept; the message says why."""


@dataclass
class Served:
    """How answers are served; `values` is for a run's report.

    Attributes:
        answers: for the batches.
        served: 'cache', or 'live' where they are not kept.
        bytes: on the disk; what they would take where they are live.
        seconds: that this process spent on building and checking.
        views: kept, 8 or 1.
        disagreement: of the networks with themselves, turned and mirrored.
        reason: why they are live.
    """

    answers: SceneAnswers
    served: Literal["cache", "live"]
    bytes: int
    views: int
    seconds: float = 0.0
    disagreement: Disagreement = field(default_factory=Disagreement)
    reason: str = ""

    @property
    def values(self) -> dict[str, Any]:
        """Plain values."""
        values = {"served": self.served, "bytes": self.bytes, "views": self.views, "build_seconds": self.seconds}
        return values | {"disagreement": self.disagreement.shares(), "reason": self.reason}


def regions_of(survey: Survey, unlabelled: bool) -> tuple[Region, ...]:
    """What a training asks its teacher about: what labelled crops are taken from, and those without labels."""
    return outermost((*survey.regions, *(survey.unlabelled if unlabelled else ())))


@contextmanager
def open_answers(
    folder: Path,
    collection: Collection,
    regions: Sequence[Region],
    teacher: Teacher,
    checkpoints: Sequence[Path],
    hardware: Hardware,
    *,
    device: torch.device | str = "cpu",
    report: Callable[[str, int, int], None] = lambda stage, done, total: None,
    log: Callable[[str], None] = lambda text: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Served]:
    """Answers about regions: those on the disk, checked, or else computed and kept; live where there is no room for them.

    While the block runs nobody makes room by deleting them.

    Args:
        folder: of all answers, `.teacher-answers/` beside the studies.
        collection: the data.
        regions: what crops are taken from; see `regions_of`.
        teacher: its networks are asked; they are on `device`.
        checkpoints: files of these networks, in their order.
        hardware: `cache_gb`, `cache_views` and `readers`.
        device: where the teacher is.
        report: is told stage, windows done and windows in all.
        log: is told sentences.
        should_stop: asked after each window.

    Raises:
        Stopped: `should_stop` said so; finished regions stay.
        KdcoreError: imagery or a network that cannot be read.
    """
    started = time.perf_counter()
    views = 8 if teacher.flips or hardware.cache_views == "eight" else 1
    witnesses = [Witness(member, collection.reader, device) for member in teacher.members]  # type: ignore[arg-type]
    stores = [
        Store(folder / key, collection.root, regions, witness.channels, views)
        for key, witness in zip(keys(checkpoints, collection, views, device), witnesses, strict=True)
    ]
    size = sum(store.bytes for store in stores)
    windows = Windows(stores, size, report, should_stop)
    reason = ""
    with ExitStack() as stack:
        try:
            missing = make_room(folder, stores, hardware.cache_gb, stack)
            if missing:
                text = f"{in_words(missing)} of {in_words(size)} are still to be computed"
                log(
                    f"the teacher's answers to {windows.total} windows of the scenes, {views} views each: {text}, in {folder}"
                )
            build(stores, witnesses, hardware.readers, windows)
            if not check(stores, witnesses, log):
                build(stores, witnesses, hardware.readers, windows)
                if not check(stores, witnesses, log):
                    raise NoRoomError("what is written and what the network says differ again and again")
            kept = [StoredSource(store) for store in stores]
            for source in kept:
                source.open()
        except (NoRoomError, OSError) as error:
            reason = why(error)
        if reason:
            for store in stores:
                store.give_up()
            stack.close()
            log(f"the teacher's answers are computed live, which is slower and changes no result: {reason}")
            live = [LiveSource(witness, regions) for witness in witnesses]
            answers = SceneAnswers(regions, live, views, teacher.flips)
            yield Served(answers, "live", size, views, reason=reason)
            return
        served = Served(SceneAnswers(regions, kept, views, teacher.flips), "cache", size, views)
        served.seconds = round(time.perf_counter() - started, 2)
        for store in stores:
            served.disagreement.merge(store.disagreement())
        log(in_a_sentence(served))
        yield served


def keys(checkpoints: Sequence[Path], collection: Collection, views: int, device: torch.device | str) -> Iterator[str]:
    """Names of the networks' folders: they change with the file, the data, and how the network is asked."""
    for checkpoint in checkpoints:
        yield fingerprint(
            sha256(checkpoint),
            collection.content_hash,
            asking.WINDOW,
            asking.HALO,
            views,
            torch.device(device).type,
            FORMAT,
        )


class Windows:
    """Tells how many windows are answered, and stops the work when that is wished."""

    def __init__(
        self,
        stores: Sequence[Store],
        size: int,
        report: Callable[[str, int, int], None],
        should_stop: Callable[[], bool],
    ) -> None:
        self.stores, self.report, self.should_stop = stores, report, should_stop
        self.stage = f"{STAGE} ({in_words(size)})"
        self.total = len(stores) * sum(len(tiles_of(region)) for region in stores[0].regions)
        self.done = 0

    def look(self) -> None:
        """Tell what is finished, by whoever.

        Raises:
            Stopped: that is wished.
        """
        self.done = sum(
            len(tiles_of(region))
            for store in self.stores
            for index, region in enumerate(store.regions)
            if store.about(index) is not None
        )
        self._tell()

    def one_more(self) -> None:
        """Tell of one more window.

        Raises:
            Stopped: that is wished.
        """
        self.done = min(self.total, self.done + 1)
        self._tell()

    def _tell(self) -> None:
        self.report(self.stage, self.done, self.total)
        if self.should_stop():
            raise Stopped("stopped while the teacher's answers were computed; those that are finished stay.")


def build(stores: Sequence[Store], witnesses: Sequence[Witness], readers: int, windows: Windows) -> None:
    """Answer what nobody has answered yet, and wait for what others are working on."""
    while True:
        windows.look()
        finished = [
            store.build(witness, readers, windows.one_more) for store, witness in zip(stores, witnesses, strict=True)
        ]
        if all(finished):
            windows.look()
            return
        time.sleep(ASK_EVERY)


def check(stores: Sequence[Store], witnesses: Sequence[Witness], log: Callable[[str], None]) -> bool:
    """Look at sizes, checksums, and at what the networks say about a few random windows now; remove what is wrong.

    A region is looked at once by a process.
    """
    rng = np.random.default_rng()
    good = True
    for store, witness in zip(stores, witnesses, strict=True):
        new = [index for index in range(len(store.regions)) if stamp(store, index) not in _checked]
        damaged = [index for index in new if store.damaged(index, rng)]
        for index in damaged:
            log(f"{store.file(index)}: is not what was written; it is computed again")
            store.remove(index)
        whole = [index for index in new if index not in damaged]
        sampled = [whole[int(number)] for number in rng.integers(len(whole), size=SAMPLES)] if whole else []
        if any(store.differs(index, witness, rng) for index in sampled):
            log(f"{store.folder}: the network says something else now; its answers are computed again")
            for index in range(len(store.regions)):
                store.remove(index)
            good = False
        else:
            _checked.update(stamp(store, index) for index in whole)
        good = good and not damaged
    return good


def stamp(store: Store, index: int) -> str:
    """Tells a region's file from any later one of its name."""
    try:
        found = store.file(index).stat()
    except OSError:
        return f"no {store.file(index)}"
    return f"{store.file(index)} {found.st_ino} {found.st_mtime_ns}"


def make_room(folder: Path, stores: Sequence[Store], limit_gb: float, stack: ExitStack) -> int:
    """Hold the folders of these networks, and delete what was not used for longest until the rest of them fits.

    Args:
        folder: of all answers.
        stores: what is wanted.
        limit_gb: for all answers together, 10^9 bytes.
        stack: releases the folders.

    Returns:
        Bytes that are still to be written.

    Raises:
        NoRoomError: they do not fit.
        OSError: the folder cannot be written to.
    """
    size = sum(store.bytes for store in stores)
    if size > limit_gb * 1e9:
        raise NoRoomError(
            f"they take {in_words(size)}, and hardware.cache_gb allows {limit_gb:g} GB. Raise it, or set cache_views: one"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "room.lock"):
        others = {place: taken(place) for place in folder.iterdir() if place.is_dir()}
        for store in stores:
            others.pop(store.folder, None)
        missing = sum(store.missing_bytes() for store in stores)
        for place in sorted(others, key=lambda place: last_use(place)):
            fits = size + sum(others.values()) <= limit_gb * 1e9
            if fits and shutil.disk_usage(folder).free >= missing + SPARE_BYTES:
                break
            if not in_use(place):
                shutil.rmtree(place, ignore_errors=True)
                del others[place]
        if size + sum(others.values()) > limit_gb * 1e9:
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
    """Say that a network's folder is used, and how large it will be."""
    users = store.folder / "users"
    users.mkdir(parents=True, exist_ok=True)
    lock = FileLock(users / f"{uuid.uuid4().hex}.lock")
    stack.enter_context(lock.acquire())
    stack.callback(Path(lock.lock_file).unlink, missing_ok=True)
    (store.folder / "planned").write_text(str(store.bytes))


def in_use(place: Path) -> bool:
    """Whether some process uses a network's folder."""
    return any(held(lock) for lock in (place / "users").glob("*.lock"))


def last_use(place: Path) -> float:
    """When a network's folder was last asked for."""
    try:
        return (place / "planned").stat().st_mtime
    except OSError:
        return 0.0


def taken(place: Path) -> int:
    """Bytes of a network's folder; while it is used, those that it will have."""
    size = sum(file.stat().st_size for file in place.iterdir() if file.suffix in (".f16", ".part"))
    if in_use(place):
        with suppress(OSError, ValueError):
            size = max(size, int((place / "planned").read_text()))
    return size


def why(error: Exception) -> str:
    """The reason for which answers are not kept, in words."""
    if not isinstance(error, OSError):
        return f"{error}."
    if is_full(error):
        return f"the disk is full ({error.strerror})."
    return f"{error.filename or FOLDER} cannot be written to ({error.strerror or error})."


def in_words(size: float) -> str:
    """Bytes as 1.2 MB."""
    for unit in ("kB", "MB"):
        size /= 1000
        if size < 999.5:
            return f"{size:.3g} {unit}"
    return f"{size / 1000:.3g} GB"


def in_a_sentence(served: Served) -> str:
    """What is served, for the log."""
    shares = served.disagreement.shares()
    text = f"the teacher's answers are kept: {in_words(served.bytes)}, {served.views} view{'s' if served.views > 1 else ''}"
    if shares is None:
        return text
    turned = "which one view cannot show" if served.views == 1 else "which all eight views keep"
    return f"{text}; turned and mirrored, the teacher names another class for {shares['other_class']:.2%} of the pixels, {turned}"
