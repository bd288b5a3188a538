"""What a study's process tells others while it works, and how others tell it to stop. Never imports torch."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from kdcore.errors import KdcoreError
from kdcore.runs.study_folder import JobState, JobStatus, StudyFolder
from kdcore.runs.sweep_folder import SweepFolder

WRITE_EVERY = 0.5  # seconds between versions of job.json
LOOK_EVERY = 0.2  # seconds between looks for the cancel file
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Journal:
    """Keeps `job.json` up to date, at most twice a second, from a thread of its own: a slow disk costs no training time."""

    def __init__(self, study: StudyFolder, status: JobStatus) -> None:
        self.study = study
        self.status = status
        self.seconds_before = status.seconds
        self.written: JobStatus | None = None
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._keep_writing, name="journal", daemon=True)

    def open(self) -> None:
        """Write the first status and keep writing.

        Raises:
            KdcoreError: the folder cannot be written to.
        """
        self.study.write_job(self.status)
        self.written = self.status
        self.thread.start()

    def update(self, **changes: Any) -> None:
        """Change some of the status; it is written soon."""
        with self.lock:
            self.status = self.status.model_copy(update=changes)

    def close(self, state: JobState, message: str) -> None:
        """Write the last status. On a full disk the old file is written over in place, which needs no space."""
        self.ended.set()
        self.thread.join()
        if state == "finished":
            self.update(stage="", done=0, total=0)
        self.update(state=state, message=message, ended=time.time(), seconds=self._seconds())
        try:
            self.study.write_job(self.status)
        except KdcoreError:
            final = self.status.model_copy(update={"updated": time.time()})
            with self.study.job_file.open("r+", encoding="utf-8") as file:
                file.write(final.model_dump_json())
                file.truncate()

    def _seconds(self) -> float:
        """Time spent working, not waiting, over all resumptions."""
        started = self.status.started
        return round(self.seconds_before + (0.0 if started is None else time.time() - started), 3)

    def _keep_writing(self) -> None:
        while not self.ended.wait(WRITE_EVERY):
            with self.lock:
                status = self.status
            if status is self.written:
                continue
            try:
                self.study.write_job(status.model_copy(update={"seconds": self._seconds()}))
                self.written = status
            except KdcoreError:
                continue  # a full disk stops the training, not its journal: perhaps there is room the next time


class StopWish:
    """Whether someone wants the study or sweep to stop: by its cancel file, by Ctrl-C, or because the machine shuts down."""

    def __init__(self, study: StudyFolder | SweepFolder) -> None:
        self.file = study.cancel_file
        self.since: float | None = None
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
        if self.since is not None:
            raise KeyboardInterrupt
        self.since = time.monotonic()
        os.write(2, b"Stopping: the state is being saved. Once more to stop at once.\n")
