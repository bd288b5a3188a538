"""A small job that is a folder: how far it is, whether its process lives, and how it is asked to stop. Never imports torch.

Files: a JSON file with the status (replaced atomically), `alive.lock` (held while its process lives), `cancel` (asks it to stop
while it exists), `log.txt`. Marking an uploaded file and deploying a study are such jobs; a study's own job, which resumes and
waits in a queue, is a `StudyFolder`.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

from pydantic import ValidationError

from kdcore.errors import KdcoreError, RunError, Stopped
from kdcore.files import write_json
from kdcore.reading import ReadingError, read_bytes
from kdcore.runs.detached import start_detached
from kdcore.runs.locks import held, holding
from kdcore.settings import Frozen

LAUNCH_SECONDS = 60.0  # after which a process that has not come to life is not expected any more
EVERY = 0.5  # seconds between reports

TaskState = Literal["waiting", "running", "finished", "failed", "stopped", "interrupted"]

Stage = Callable[[str], Callable[[int, int], None]]
"""Gives a callback for a stage with this name, to be told done and total; the callback raises to stop the work."""


class TaskStatus(Frozen):
    """How far a job is.

    Attributes:
        state: as the process last said; 'interrupted' is what a reader makes of a process that is gone.
        stage: what is being done; done and total: how much of it.
        message: why it failed, or what is worth knowing about the result.
        created: seconds since 1970.
    """

    state: TaskState = "waiting"
    stage: str = ""
    done: int = 0
    total: int = 0
    message: str = ""
    created: float = 0.0

    @property
    def over(self) -> bool:
        """Whether no process works on it, or is expected to."""
        return self.state not in ("waiting", "running")


Status = TypeVar("Status", bound=TaskStatus)


@dataclass(frozen=True)
class Task:
    """Reads and writes one job's folder."""

    path: Path

    FILE: ClassVar[str] = "status.json"
    WORKER: ClassVar[str]  # module that does the work, with the folder as its argument
    GONE: ClassVar[str]  # a sentence for a folder that cannot be read
    ENDED: ClassVar[str]  # a sentence for a process that ended without a word
    WORK: ClassVar[str]  # what the process does, as a noun

    @property
    def lock(self) -> Path:
        """Held while its process lives."""
        return self.path / "alive.lock"

    @property
    def cancel(self) -> Path:
        """Asks the process to stop while it exists."""
        return self.path / "cancel"

    @property
    def log(self) -> Path:
        """What the process printed."""
        return self.path / "log.txt"

    @property
    def alive(self) -> bool:
        """Whether a process works on it now."""
        return held(self.lock)

    @property
    def status(self) -> TaskStatus:
        """How far it is.

        Raises:
            RunError: the folder is gone or broken.
        """
        return self.read_status(TaskStatus)

    def read_status(self, kind: type[Status]) -> Status:
        """How far it is, with what the file does not say of itself: interrupted.

        Raises:
            RunError: the folder is gone or broken.
        """
        try:
            status = kind.model_validate_json(read_bytes(self.path / self.FILE))
        except (OSError, ValidationError, ReadingError) as error:
            raise RunError(self.GONE) from error
        expected = status.state == "running" or (
            status.state == "waiting" and time.time() - status.created > LAUNCH_SECONDS
        )
        if expected and not self.alive:
            return status.model_copy(update={"state": "interrupted", "message": self.ENDED})
        return status

    def write_status(self, status: TaskStatus) -> None:
        """Replace the status."""
        write_json(self.path / self.FILE, status.model_dump(mode="json"))

    def start(self) -> None:
        """Start the process that does it; it survives this one.

        Raises:
            RunError: it could not be started.
        """
        try:
            process = start_detached(self.WORKER, self.path, self.log)
        except OSError as error:
            raise RunError(f"{self.WORK} could not be started ({error.strerror or error}).") from error
        threading.Thread(target=process.wait, daemon=True).start()  # so that no zombie is left

    def stop(self) -> None:
        """Ask the process to end."""
        self.cancel.touch()


class Reporter:
    """Writes how far the work is, at most twice a second, and looks whether a person asked to stop."""

    def __init__(self, task: Task, status: TaskStatus) -> None:
        self.task = task
        self.status = status.model_copy(update={"state": "running", "message": ""})
        self.written = 0.0
        self.last = ""

    def stage(self, name: str) -> Callable[[int, int], None]:
        """Reports one stage."""

        def report(done: int, total: int) -> None:
            if self.task.cancel.exists():
                raise Stopped(f"{self.task.path}: stopped on request.")
            if done == total or name != self.last or time.monotonic() - self.written > EVERY:
                self.written, self.last = time.monotonic(), name
                self.task.write_status(self.status.model_copy(update={"stage": name, "done": done, "total": total}))

        return report


def perform(task: Task, work: Callable[[Stage], str], in_words: Callable[[KdcoreError], str] = str) -> int:
    """Do a job's work in this process, with its lock held and its status as everybody expects it.

    Args:
        task: the job.
        work: gets `Reporter.stage`; gives what is worth knowing about the result. It imports torch itself, so that the lock is
            held before that, which can take a minute on a busy machine.
        in_words: an error's sentence as it is shown to people.

    Returns:
        0 when it is finished or stopped, 1 when it failed in a way that is told in the status.

    Raises:
        TakenError: another process works on it.
        Exception: a defect, after it was told in the status.
    """
    with holding(task.lock, f"{task.path}: another process works on this."):
        status = task.status
        reporter = Reporter(task, status)

        def close(state: TaskState, message: str = "") -> None:
            task.write_status(status.model_copy(update={"state": state, "message": message}))

        try:
            reporter.stage("starting")(0, 0)
            close("finished", work(reporter.stage))
        except Stopped:
            close("stopped")
        except KdcoreError as error:
            close("failed", in_words(error))
            return 1
        except Exception as error:
            close("failed", f"{type(error).__name__}: {error}")
            raise
    return 0
