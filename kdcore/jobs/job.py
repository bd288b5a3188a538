"""A job is a folder: how far it is, whether its process lives, how it is started, stopped, resumed and deleted. Never imports torch.

Files: the status (JSON, replaced atomically), `alive.lock` (held while its process lives), `cancel` (asks it to stop while it
exists), `log.txt`, `launch.lock` (held by whoever starts it). Studies, a sweep's workers, deployments and predictions are such
jobs; they differ in their settings and in the function that does the work.
"""

import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from kdcore.errors import KdcoreError, RunError
from kdcore.files import explain_write_error, write_json
from kdcore.jobs import slurm
from kdcore.jobs.devices import host
from kdcore.jobs.locks import TakenError, held, holding
from kdcore.jobs.small_files import append_log, last_lines, read_json
from kdcore.jobs.status import ACTIVE, Status

WORKER = "kdcore.jobs.worker"
ALREADY_WORKED_ON = 3  # exit code of a process that found another one
NICE = 10  # trainings and pages go first


@dataclass(frozen=True)
class Folder:
    """What every job's folder has, and that of a sweep, which several jobs share."""

    path: Path

    @property
    def id(self) -> str:
        """The folder's name; the same in addresses, commands and file names."""
        return self.path.name

    @property
    def cancel_file(self) -> Path:
        """Asks the process to stop while it exists."""
        return self.path / "cancel"

    @property
    def log_file(self) -> Path:
        """What the process printed."""
        return self.path / "log.txt"

    def log(self, text: str) -> None:
        """Append a line to the log, with the time."""
        append_log(self.log_file, text)

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of the log; empty where there is none."""
        return last_lines(self.log_file, lines)


@dataclass(frozen=True)
class Job(Folder):
    """Reads and writes one job's folder.

    Attributes:
        KIND: 'module:class' that opens the folder in its process.
        WORK: 'module:function' that does the work, given the job and a `kdcore.jobs.worker.Session`; imported once the lock is
            held, for it may import torch, which can take a minute on a busy machine.
        FILE: name of the status file.
        STATUS: what that file holds.
        WAITS: whether it is 'queued' until its work says that it is running.
        GOES_LAST: whether trainings and pages go first on the processor.
        SHARES_CANCEL: whether other processes stop by the same file, so that none removes it.
        RUNNING, TAKEN, BROKEN: sentences about a job at work, one whose lock is held, and a status that cannot be read; with its
            id and path.
        DIED: what is said of one whose process is gone.
    """

    KIND: ClassVar[str]
    WORK: ClassVar[str]
    FILE: ClassVar[str] = "status.json"
    STATUS: ClassVar[type[Status]] = Status
    WAITS: ClassVar[bool] = False
    GOES_LAST: ClassVar[bool] = False
    SHARES_CANCEL: ClassVar[bool] = False
    RUNNING: ClassVar[str] = "{id}: is running or waiting. Stop it first."
    TAKEN: ClassVar[str] = "{path}: another process is working on this. Wait for it, or stop it first."
    BROKEN: ClassVar[str] = ""
    DIED: ClassVar[str] = (
        "its process ended without a word (killed, or the machine was restarted). Resume to go on from the last saved state."
    )

    @property
    def status_file(self) -> Path:
        """How far it is."""
        return self.path / self.FILE

    @property
    def lock(self) -> Path:
        """Held while its process lives."""
        return self.path / "alive.lock"

    @property
    def launch_lock(self) -> Path:
        """Held by whoever starts its process."""
        return self.path / "launch.lock"

    @property
    def alive(self) -> bool:
        """Whether a process works on it now, or waits for a device."""
        return held(self.lock)

    @property
    def active(self) -> bool:
        """Whether a process works on it or is on its way; a broken one is worked on by nobody."""
        try:
            status = self.status
        except RunError:
            return self.alive
        return self.alive or status.state == "running" or (status.state == "queued" and status.just_launched)

    def said(self) -> Status | None:
        """What the status file says; None where there is none.

        Raises:
            RunError: it is broken.
        """
        try:
            return read_json(self.STATUS, self.status_file)
        except RunError as error:
            raise RunError(self.BROKEN or str(error)) from error

    @property
    def status(self) -> Status:
        """How far it is, with what the file does not say of itself: interrupted.

        Raises:
            RunError: the file is broken.
        """
        found = self.said()
        if found is None:
            return self.without_status()
        if found.needs_process and not self.alive:
            found = self.said() or found  # it may have ended between the two looks
            if found.needs_process and slurm.queued(self.path):
                return found.model_copy(update={"state": "queued"})
            if found.needs_process:
                return found.model_copy(update={"state": "interrupted", "message": self.DIED})
        return found

    def without_status(self) -> Status:
        """What is made of a folder without a status file."""
        return self.STATUS(state="running" if self.alive else "interrupted")

    def write_status(self, status: Status) -> None:
        """Replace the status, stamped with the time."""
        write_json(self.status_file, status.model_copy(update={"updated": time.time()}).model_dump(mode="json"))

    def working(self) -> AbstractContextManager[None]:
        """Hold the lock.

        Raises:
            TakenError: another process works on it.
        """
        return holding(self.lock, self.TAKEN.format(path=self.path, id=self.id))

    def in_words(self, error: KdcoreError) -> str:
        """An error's sentence as it is shown to people."""
        return str(error)

    def check_usable(self) -> None:
        """Refuse what cannot be started or stopped.

        Raises:
            RunError: says why.
        """

    def check_deletable(self) -> None:
        """Refuse what cannot be deleted now.

        Raises:
            RunError: a process works on it, or is on its way.
        """
        if self.active:
            raise self.still_running()

    def still_running(self) -> RunError:
        """A job at work is not deleted, nor started once more."""
        return RunError(self.RUNNING.format(id=self.id))

    def as_queued(self) -> dict[str, Any]:
        """What its status says from the launch on, beside the times."""
        return {}

    def program(self) -> str:
        """The module that its process runs; it is given `KIND`, the folder and `arguments`."""
        return WORKER

    def arguments(self) -> list[str]:
        """Of its process, behind the folder."""
        return []

    def environment(self) -> dict[str, str]:
        """Variables of its process beside those of this one."""
        return {}

    def on_start(self) -> None:
        """What its process does first."""

    def start(self) -> bool:
        """Start its process, detached from this one: it survives the end, however it comes, of the server or terminal.

        Returns:
            False where a process lives or was started a moment ago; then nothing happens.

        Raises:
            RunError: it cannot be used, or no process could be started.
            KdcoreError: the folder cannot be written to.
        """
        self.check_usable()
        with holding(self.launch_lock, f"{self.id}: is being started by somebody else."):
            before = self.said() or self.STATUS(state="stopped")
            if self.alive or (before.state == "queued" and before.just_launched):
                return False
            if not self.SHARES_CANCEL:
                self.forget_stop()
            self._spawn(before)
        return True

    def _spawn(self, before: Status) -> None:
        now = time.time()
        place = before.queued if before.state == "queued" and before.queued else now  # its place in the queue stays
        changes = {"state": "queued", "message": "", "queued": place, "launched": now, "started": None, "ended": None}
        status = before.model_copy(
            update={"run": "", "stage": None, "done": 0, "total": 0, "host": host(), **changes, **self.as_queued()}
        )
        self.write_status(status)
        try:
            worker = start_detached(
                self.program(),
                [self.KIND, str(self.path.absolute()), *self.arguments()],
                self.log_file,
                self.environment(),
            )
        except OSError as error:
            message = f"{self.path}: its worker could not be started ({error.strerror or error})."
            self.write_status(status.model_copy(update={"state": "failed", "message": message}))
            raise RunError(message) from error
        watcher = threading.Thread(target=self._see_off, args=(worker, now), daemon=True)
        watcher.start()
        self._remember(worker, watcher)

    def _remember(self, worker: "subprocess.Popen[bytes]", watcher: threading.Thread) -> None:
        """For jobs that end their process themselves."""

    def _see_off(self, worker: "subprocess.Popen[bytes]", launched: float) -> None:
        """Wait for a process so that no zombie is left, and say so if it died before it could say anything."""
        if worker.wait() in (0, ALREADY_WORKED_ON):
            return
        try:
            status = self.said()
            if status and status.state == "queued" and status.launched == launched and not self.alive:
                message = f"its worker could not start: {self.log_tail(1)}"
                self.write_status(status.model_copy(update={"state": "failed", "message": message}))
        except KdcoreError:
            return  # the folder is gone or cannot be written to

    def resume(self) -> None:
        """Let a job that was stopped, interrupted or failed go on from where it was; it queues anew.

        Raises:
            RunError: as for `start`, or its process is still busy with stopping.
        """
        self.check_usable()
        if self.alive and self.cancel_file.exists():
            raise RunError(f"{self.id}: is still saving its state. Resume it when it has stopped.")
        self.start()

    def stop(self) -> None:
        """Ask the process to save its state and end; one that only waits ends at once. Resume goes on exactly there.

        Raises:
            RunError: nothing of it is running or waiting.
        """
        self.check_usable()
        status = self.status
        slurm.cancel_waiting(self.path)
        if status.state not in ACTIVE:
            raise RunError(f"{self.id}: is not running (its state is {status.state!r}), so there is nothing to stop.")
        try:
            self.cancel_file.touch()
        except OSError as error:
            raise explain_write_error(self.cancel_file, error) from error
        on_its_way = self.alive or status.just_launched  # such a process sees the wish itself
        if status.state == "queued" and not on_its_way:
            changes = {"state": "stopped", "message": "stopped while it was waiting"}
            self.write_status(self.status.model_copy(update=changes))

    def forget_stop(self) -> None:
        """An earlier wish to stop is not for the process that comes next."""
        self.cancel_file.unlink(missing_ok=True)

    def delete(self) -> None:
        """Remove it with everything in it.

        Raises:
            RunError: a process works on it, or it may not be deleted.
            KdcoreError: the folder cannot be written to.
        """
        self.check_deletable()
        try:
            with self.working():  # so that no process comes to life in it
                hide(self.path)
        except TakenError as error:
            raise self.still_running() from error
        except OSError as error:
            raise explain_write_error(self.path, error) from error
        remove_hidden(self.path.parent)


def hide(folder: Path) -> None:
    """Take a folder that is to be deleted out of sight, in one step; `remove_hidden` does the rest.

    Raises:
        OSError: it cannot be renamed.
    """
    folder.rename(folder.with_name(f".deleted-{secrets.token_hex(8)}"))


def remove_hidden(parent: Path) -> None:
    """Delete what `hide` took out of sight, also where an earlier deletion was killed."""
    for remains in parent.glob(".deleted-*"):
        shutil.rmtree(remains, ignore_errors=True)


def go_last() -> None:
    """Let this process run behind the others on the processor as long as it lives: only where it has nothing else to do."""
    if hasattr(os, "nice"):  # not on Windows
        os.nice(NICE)


def start_detached(
    module: str, arguments: Sequence[str], log: Path, environment: Mapping[str, str]
) -> "subprocess.Popen[bytes]":
    """Run `python -m MODULE ARGUMENTS`; what it prints is appended to `log`.

    Args:
        module: by its name.
        arguments: of the command.
        log: file for its output.
        environment: variables that it gets beside those of this process.

    Raises:
        OSError: the log cannot be written, or the system starts no more processes.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C and the end of the terminal are not for it
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | dict(environment),
        )
