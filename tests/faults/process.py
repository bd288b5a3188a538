"""Processes that a fault meets at a chosen moment: before their n-th operation on files, or at any time from outside.

Python tells of each operation on a file before it is done (audit events), so that a moment is the same on a fast and a slow machine. What
libraries in C write (GDAL, safetensors, SQLite) lies between these moments; a kill from outside meets that, too.
"""

import importlib
import itertools
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND
OPERATIONS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink")
PATIENCE = 240.0  # seconds; only what hangs is ended
PRELOAD = ["kdcore.training.study", "kdcore.training.sweep", "kdcore.deploy.make", "kdcore.inference.merging"]


@dataclass(frozen=True)
class Fault:
    """What happens to a process.

    Attributes:
        before: the number of the operation, from 1, before which it happens; None for one without a fault.
        what: 'kill' it, 'stop' it before this and later operations, 'pause' it once, or turn its 'clock'.
        seconds: by which the clock is turned.
        clock_before: the operation before which it is turned where something else happens, too.
        every: of how many operations it is stopped before one.
    """

    before: int | None = None
    what: Literal["kill", "stop", "pause", "clock"] = "kill"
    seconds: float = 0.0
    clock_before: int | None = None
    every: int = 1


def processes() -> Any:
    """Starts processes that have all libraries at hand already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    return context


NO_FAULT = Fault()


def begin(work: Callable[[Path], int | None], place: Path, fault: Fault = NO_FAULT, log: Path | None = None) -> Any:
    """A process, with a group of its own, that does the work in a folder; what it prints goes to `place.log` beside it."""
    log = log or place.with_name(f"{place.name}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    process = processes().Process(target=_child, args=(work, place, fault, log))
    process.start()
    return process


def _child(work: Callable[[Path], int | None], place: Path, fault: Fault, log: Path) -> None:
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(output, number)
    os.fsync = lambda file: None  # processes are killed here, machines are not
    importlib.import_module("kdcore.teacher.store").SPARE_BYTES = 0  # type: ignore[attr-defined] # else every small disk is too full for soft labels
    watch(place, fault)
    code: int | None = 1
    try:
        code = work(place)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(2, f"{numbers['last']} operations\n".encode())
    os._exit(code or 0)


numbers = {"last": 0}


def watch(place: Path, fault: Fault) -> None:
    """Count the operations on files in a folder from now on, and let the fault happen."""
    count, inside = itertools.count(1), f"{place}{os.sep}"

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            if not isinstance(arguments[2], int) or not arguments[2] & WRITING:
                return
        elif event not in OPERATIONS:
            return
        if not isinstance(arguments[0], str | bytes | os.PathLike) or not os.fsdecode(arguments[0]).startswith(inside):
            return
        numbers["last"] = number = next(count)
        if number == (fault.before if fault.what == "clock" else fault.clock_before):
            turn_clock(fault.seconds)
        if fault.before is None or number < fault.before:
            return
        if (fault.what == "stop" and (number - fault.before) % fault.every == 0) or (
            fault.what == "pause" and number == fault.before
        ):
            os.kill(os.getpid(), signal.SIGSTOP)
        elif fault.what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(note)


def turn_clock(seconds: float) -> None:
    """Let this process's clock jump, as a person or a time server does."""
    real = time.time
    time.time = lambda: real() + seconds


def operations(place: Path) -> int:
    """How many operations the last process that ended by itself did."""
    return int(log_of(place).rpartition(" operations")[0].rpartition("\n")[2])


def log_of(place: Path) -> str:
    """What the processes in a folder printed."""
    return place.with_name(f"{place.name}.log").read_text(errors="replace")


def stopped(process: Any) -> bool:
    """Wait until a process is stopped by a signal, or has ended.

    Returns:
        Whether it is stopped.
    """
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with suppress(OSError):
            if Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
                return True
        if process.exitcode is not None:
            return False
        time.sleep(0.0005)
    raise AssertionError("went on without end")


def ended(process: Any) -> int:
    """Wait for the end of a process; its exit code, or minus the signal that ended it."""
    process.join(PATIENCE)
    if process.exitcode is None:
        os.killpg(process.pid, signal.SIGKILL)
        raise AssertionError("went on without end")
    return int(process.exitcode)
