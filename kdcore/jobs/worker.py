"""The one process of every job: `python -m kdcore.jobs.worker MODULE:CLASS FOLDER`. Never imports torch: the work does.

It takes the job's lock before anything else, so that everybody sees it live, tells how far it is, and ends when it is asked to.
"""

import importlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from kdcore.errors import KdcoreError, Preempted, Stopped, unexpected
from kdcore.files import remove_half_written
from kdcore.imports import large_imports
from kdcore.jobs.devices import host
from kdcore.jobs.job import ALREADY_WORKED_ON, Job, go_last
from kdcore.jobs.locks import TakenError
from kdcore.jobs.progress import Progress, Report, Stage, ignore, told
from kdcore.jobs.slurm import launched
from kdcore.jobs.status import State, Status

WRITE_EVERY = 0.5  # seconds between versions of the status
LOOK_EVERY = 0.2  # seconds between looks for the cancel file
VALIDATION_PATIENCE = 10.0  # seconds that a stop waits for a validation to end, so that no step is lost
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
STOPPED = "stopped on request; resuming goes on exactly there"
PREEMPTED = "stopped by the scheduler, which starts it again; it goes on exactly there"


class StopNow(KeyboardInterrupt):
    """Ends what is not a training: nothing of it is worth saving. Runs take it as they take Ctrl-C."""


class Journal:
    """Keeps the status up to date, at most twice a second, from a thread of its own: a slow disk costs no training time."""

    def __init__(self, job: Job, status: Status) -> None:
        self.job = job
        self.status = status
        self.seconds_before = status.seconds
        self.since = time.monotonic() if status.started is not None else None  # a clock may be set meanwhile
        self.written: Status | None = None
        self.guard = threading.Lock()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._keep_writing, name="journal", daemon=True)

    def open(self) -> None:
        """Write the first status and keep writing.

        Raises:
            KdcoreError: the folder cannot be written to.
        """
        self.job.write_status(self.status)
        self.written = self.status
        self.thread.start()

    def update(self, **changes: Any) -> None:
        """Change some of the status; it is written soon."""
        with self.guard:
            if changes.get("started") is not None:
                self.since = time.monotonic()
            self.status = self.status.model_copy(update=changes)

    def close(self, state: State, message: str) -> None:
        """Write the last status. On a full disk the old file is written over in place, which needs no space."""
        self.ended.set()
        self.thread.join()
        if state == "finished":
            self.update(run="", stage=None, done=0, total=0, subject="", trial=None)
        self.update(state=state, message=message, ended=time.time(), seconds=self._seconds())
        try:
            self.job.write_status(self.status)
        except KdcoreError:
            final = self.status.model_copy(update={"updated": time.time()})
            with suppress(OSError), self.job.status_file.open("r+", encoding="utf-8") as file:
                file.write(final.model_dump_json())
                file.truncate()

    def _seconds(self) -> float:
        """Time spent working, not waiting, over all resumptions."""
        return round(self.seconds_before + (0.0 if self.since is None else time.monotonic() - self.since), 3)

    def _keep_writing(self) -> None:
        while not self.ended.wait(WRITE_EVERY):
            with self.guard:
                status = self.status
            if status is self.written:
                continue
            try:
                self.job.write_status(status.model_copy(update={"seconds": self._seconds()}))
                self.written = status
            except KdcoreError:
                continue  # a full disk stops the training, not its journal: perhaps there is room the next time


class StopWish:
    """Whether someone wants the job to stop: by its cancel file, by Ctrl-C, or because the machine shuts down.

    Attributes:
        since: when that was first seen, None while nobody does.
        preempted: whether it is a scheduler's signal to one of its processes, which is then started again.
    """

    def __init__(self, job: Job) -> None:
        self.file = job.cancel_file
        self.since: float | None = None
        self.preempted = False
        self.looked = -LOOK_EVERY

    def __call__(self) -> bool:
        """Whether to stop; cheap enough to be asked after every step."""
        now = time.monotonic()
        if self.since is None and now - self.looked >= LOOK_EVERY:
            self.looked = now
            if self.file.exists():
                self.since = now
        return self.since is not None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take signals as a wish to stop during the block; a second one stops at once."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may listen
            return
        before = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        by_scheduler = number == signal.SIGTERM and launched() is not None
        if self.since is not None:
            if by_scheduler:
                return  # it tells torchrun and the processes of it, which torchrun then tells once more
            raise KeyboardInterrupt
        self.since = time.monotonic()
        self.preempted = by_scheduler
        os.write(2, b"Stopping: the state is being saved. Once more to stop at once.\n")


class Session:
    """What a job's work is given: it is told of progress, changes the status, and says whether to stop."""

    def __init__(self, journal: Journal, stop: StopWish, listener: Report) -> None:
        self.journal, self.stop, self.listener = journal, stop, listener
        self.update = journal.update

    def __call__(self, progress: Progress) -> None:
        """Tell how far the work is; where a wish to stop need not wait, that ends it here.

        Raises:
            StopNow: someone wants it to stop.
        """
        self.update(**told(progress))
        self.listener(progress)
        if self.stop() and threading.current_thread() is threading.main_thread() and may_break_off(progress, self.stop):
            raise StopNow


Work = Callable[[Any, Session], str | None]
"""Does a job's work, and gives what is worth knowing about the result, if anything is."""


def may_break_off(progress: Progress, stop: StopWish) -> bool:
    """Whether a stop need not wait: a training saves its state after the step, a validation is worth a few seconds."""
    if progress.stage is Stage.TRAINING:
        return False
    waited = time.monotonic() - (stop.since or 0.0)
    return progress.stage is not Stage.SCORING_VALIDATION or waited > VALIDATION_PATIENCE


def do(job: Job, work: Work, listener: Report = ignore, forget_stop: bool = False) -> None:
    """Do a job's work in this process, with its status, lock and log as everybody expects them.

    Args:
        job: what to do.
        work: see `Work`.
        listener: is told what happens.
        forget_stop: an earlier wish to stop was not for this process. A worker cannot know: it may have been stopped while it
            was still being started.

    Raises:
        TakenError: another process works on it.
        Stopped: someone asked for it; Preempted where that was a scheduler.
        KdcoreError: anything the user can mend; the status then says so, too.
    """
    stop = StopWish(job)
    with job.working(), stop.listening():
        before = job.said() or job.STATUS()
        remove_half_written(job.path)
        if forget_stop:
            job.forget_stop()
        journal = Journal(job, begun(job, before))
        journal.open()
        session = Session(journal, stop, listener)
        try:
            session(Progress("", Stage.STARTING))
            message = work(job, session)
        except (Stopped, KeyboardInterrupt) as error:
            if stop.preempted:
                journal.close("queued", PREEMPTED)
                raise Preempted(f"{job.path}: {PREEMPTED}.") from error
            journal.close("stopped", STOPPED)
            end_stop(job)
            raise Stopped(f"{job.path}: {STOPPED}.") from error
        except KdcoreError as error:
            journal.close("failed", job.in_words(error))
            raise
        except Exception as error:
            journal.close("failed", unexpected(error))
            log_last(job, traceback.format_exc())
            raise
        finally:
            journal.ended.set()
        end_stop(job)  # it came too late
        journal.close("finished", message or "")


def begun(job: Job, before: Status) -> Status:
    """The first status of a process; its place in the queue is the one it had."""
    now = time.time()
    waited = before.state == "queued"
    changes = {
        "state": "queued" if job.WAITS else "running",
        "message": "",
        "queued": before.queued if waited and before.queued else now,
        "launched": before.launched if waited else None,
        "started": None if job.WAITS else now,
        "ended": None,
        "host": host(),
        **told(Progress("", Stage.STARTING)),
    }
    return before.model_copy(update=changes | job.as_queued())


def end_stop(job: Job) -> None:
    """Remove the wish to stop that was followed, or came too late, unless it is for others, too."""
    if not job.SHARES_CANCEL:
        job.forget_stop()


def log_last(job: Job, text: str) -> None:
    """The last words of a process, which a full disk does not turn into a failure of its own."""
    try:
        job.log(text)
    except KdcoreError:
        print(text, file=sys.stderr)  # noqa: T201 - for whoever started it


def named(name: str) -> Any:
    """What 'module:name' stands for."""
    module, _, attribute = name.partition(":")
    with large_imports():
        return getattr(importlib.import_module(module), attribute)


def main(arguments: list[str]) -> int:
    """Work on the job named on the command line; what it says goes to the job's log."""
    if len(arguments) < 2:
        print("usage: python -m kdcore.jobs.worker MODULE:CLASS FOLDER", file=sys.stderr)  # noqa: T201
        return 2
    job: Job = named(arguments[0])(Path(arguments[1]), *map(int, arguments[2:]))
    job.on_start()
    last = ""

    def note(progress: Progress) -> None:
        nonlocal last
        if progress.stage is not Stage.STARTING and last != str(progress):
            last = str(progress)
            with suppress(KdcoreError):  # a full disk ends the work with a sentence of its own
                job.log(last)

    def work(job: Job, session: Session) -> str | None:
        job.log(f"started on {host()}, process {os.getpid()}")
        message: str | None = named(job.WORK)(job, session)
        return message

    try:
        do(job, work, note)
    except TakenError:
        return ALREADY_WORKED_ON
    except Stopped:
        log_last(job, "stopped on request")
    except KdcoreError as error:
        log_last(job, f"failed: {error}")
        return 2
    except Exception:  # its traceback is in the log
        return 1
    else:
        log_last(job, "finished")
    return 0


if __name__ == "__main__":
    if named(sys.argv[1]).GOES_LAST:
        go_last()
    sys.exit(main(sys.argv[1:]))
