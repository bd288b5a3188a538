"""Whether locks reach from one machine to another: on some shared file systems they do not, and work would be done twice.

Whoever submits a command to a scheduler holds a lock and gives signs of life until the first process has answered. A process that
sees the signs but not the lock is on a file system whose locks stay on one machine. Never imports torch.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kdcore.errors import KdcoreError, RunError
from kdcore.files import write_json
from kdcore.jobs.devices import host
from kdcore.jobs.locks import held, turn

FIRST = "first.json"  # the answer of a process: its machine, and whether it sees the lock
LOCK = "submitter.lock"
BEAT = 0.5  # seconds between signs of life
PATIENCE = 10.0  # seconds in which one must be seen


@contextmanager
def submitting(folder: Path) -> Iterator[None]:
    """Hold the submitter's lock and give signs of life, so that the processes can see whether locks work.

    Raises:
        TakenError: somebody else is submitting the same.
    """
    file, over = folder / LOCK, threading.Event()

    def beat() -> None:
        number = 0
        while not over.wait(BEAT):
            number += 1
            with suppress(OSError):
                file.write_text(str(number), encoding="utf-8")

    with turn(file, f"{folder.parent}: is being submitted by somebody else."):  # the file goes while it is held
        thread = threading.Thread(target=beat, name="signs of life", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def check_locks(folder: Path) -> None:
    """Tell whoever submitted this process that it runs, and whether it sees their lock.

    Args:
        folder: `.slurm`.

    Raises:
        RunError: the submitter lives, but holds no lock that is seen here.
    """
    file = folder / LOCK
    works = held(file)
    if not works and lives(file):
        works = held(file)
    elif not works:
        file.unlink(missing_ok=True)  # of a submitter that was killed
        works = True
    with suppress(KdcoreError):
        write_json(folder / FIRST, {"host": host(), "locks": works})
    if not works:
        raise RunError(no_locks(folder.parent, host()))


def no_locks(folder: Path, machine: str) -> str:
    """The sentence about a file system without locks."""
    return (
        f"{folder}: locks on this file system do not reach from one machine to another ({machine} does not see the submitter's), so "
        "processes would do the same work twice. Use a folder on NFS 4, or Lustre mounted with the option flock."
    )


def lives(file: Path) -> bool:
    """Whether whoever writes signs of life into a file does so now; asks for a few seconds where nothing changes."""
    first, deadline = read(file), time.monotonic() + PATIENCE
    while first is not None and time.monotonic() < deadline:
        time.sleep(BEAT / 2)
        now = read(file)
        if now is None:
            return False
        if now != first:
            return True
    return False


def read(file: Path) -> str | None:
    """What a small file holds; None where it is gone."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return None
