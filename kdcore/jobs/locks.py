"""Locks on files: they tell that a process lives, and the system releases them however it dies.

A process number would not do: it is given again after a while, and a zombie answers to it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from kdcore.errors import RunError
from kdcore.files import explain_write_error

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

PATIENCE = 2.0  # seconds: onlookers hold a lock for microseconds while they look
TURN = 60.0  # seconds: a short piece of work takes that long on a busy machine, or on a slow disk


class TakenError(RunError):
    """Another process holds the lock."""


def held(file: Path) -> bool:
    """Whether a living process holds the lock `file`. Nothing is written, so a read-only folder can be looked at.

    On Linux and macOS onlookers share the lock for the moment, so that two of them never take each other for its holder.
    """
    if not file.is_file():
        return False
    if fcntl is None:
        return not _can_take(file)
    try:
        with file.open("rb") as opened:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # it went away, or may not be read: then it is no lock that this user's processes hold
    return False


def _can_take(file: Path) -> bool:
    """Try with filelock where there is no fcntl."""
    try:
        with FileLock(file).acquire(timeout=0.05):
            return True
    except Timeout:
        return False


@contextmanager
def trying(file: Path) -> Iterator[bool]:
    """Hold the lock `file` during the block if it is free at this moment; gives whether it is ours.

    Where its folder is gone there is nothing left to lock, so it is not ours either.

    Raises:
        KdcoreError: the folder cannot be written to.
    """
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except (Timeout, FileNotFoundError):
        pass
    except OSError as error:
        raise explain_write_error(file, error) from error
    try:
        yield lock.is_locked
    finally:
        lock.release()


@contextmanager
def holding(file: Path, taken: str, patience: float | None = None) -> Iterator[None]:
    """Hold the lock `file` during the block.

    Args:
        file: of the lock; its folder is made.
        taken: what is said where another process holds it.
        patience: seconds that it is waited for; `PATIENCE` if not given.

    Raises:
        TakenError: another process holds it; the message is `taken`.
        KdcoreError: the folder cannot be written to.
    """
    lock = FileLock(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=PATIENCE if patience is None else patience, poll_interval=0.02)
    except Timeout as error:
        raise TakenError(taken) from error
    except OSError as error:
        raise explain_write_error(file, error) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def turn(file: Path, taken: str, patience: float | None = None) -> Iterator[None]:
    """As `holding`, for a short piece of work; the lock's file goes with the block, and whoever waits (`TURN`) then takes a new one."""
    with holding(file, taken, TURN if patience is None else patience):
        try:
            yield
        finally:
            file.unlink(missing_ok=True)
