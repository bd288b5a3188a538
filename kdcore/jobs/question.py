"""Jobs of seconds whose answer somebody waits for: a look at data, a measurement of steps. Never imports torch.

Their folders lie among the system's temporary files: `question.json` (the settings), `answer.json`, and what every job has.
Heavy libraries stay out of the dashboard's process that way, and so does what a broken file can do to them.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from kdcore.errors import KdcoreError, RunError
from kdcore.files import write_json, write_text
from kdcore.jobs.job import Job
from kdcore.jobs.locks import held, holding
from kdcore.jobs.progress import Progress, Report, Stage
from kdcore.jobs.small_files import read_dict

LOOK_EVERY = 0.1  # seconds between looks how far it is
HEARTBEAT = 0.5  # seconds after which progress is told again, so that a viewer who left is noticed
PATIENCE = 5.0  # seconds that a process has to end by itself
NOTICE_EVERY = 0.5  # seconds between looks whether somebody still waits for the answer
PREFIX = "kdcore-question-"
YOUNG = 60.0  # seconds in which a folder may not have its locks yet
watched: "dict[Path, tuple[subprocess.Popen[bytes], threading.Thread]]" = {}  # by a question's folder


@dataclass(frozen=True)
class Question(Job):
    """Reads and writes one question's folder."""

    @property
    def asker_lock(self) -> Path:
        """Held by whoever waits for the answer: the system releases it when that process is killed."""
        return self.path / "asker.lock"

    @property
    def settings(self) -> dict[str, Any]:
        """What is asked."""
        return read_dict(self.path / "question.json") or {}

    def answer(self, values: dict[str, Any]) -> None:
        """Keep the answer for whoever asked."""
        write_text(self.path / "answer.json", json.dumps(values))

    @classmethod
    def ask(cls, settings: dict[str, Any], report: Report) -> dict[str, Any]:
        """Ask in a process of its own, and wait for the answer; it ends with the caller, as when a viewer leaves the page.

        Args:
            settings: JSON values.
            report: is told how far it is.

        Raises:
            RunError: why there is no answer, in a sentence.
        """
        forget_the_dead()
        question = cls(Path(tempfile.mkdtemp(prefix=PREFIX)))
        try:
            with holding(question.asker_lock, "this was asked before."):
                write_json(question.path / "question.json", settings)
                question.start()
                question._wait(report)
                return read_dict(question.path / "answer.json") or {}
        finally:
            with suppress(KdcoreError):
                question.stop()
            threading.Thread(target=question._clean, daemon=True).start()

    def on_start(self) -> None:
        """Look, as long as the process lives, whether somebody still waits for it."""
        threading.Thread(target=self._end_with_asker, name="asker", daemon=True).start()

    def _end_with_asker(self) -> None:
        """Once nobody waits, end this process and all that it has started, and remove the folder."""
        while held(self.asker_lock):
            time.sleep(NOTICE_EVERY)
        gone = self.path.with_name(f"{self.path.name}-gone")
        with suppress(OSError):  # what still writes into the folder must not keep it from being removed
            self.path.rename(gone)
        for place in (gone, self.path):
            shutil.rmtree(place, ignore_errors=True)
        os.killpg(0, signal.SIGKILL) if hasattr(os, "killpg") else os._exit(1)

    def _wait(self, report: Report) -> None:
        last, told = Progress("", Stage.STARTING), 0.0
        while not (status := self.status).over:
            now = time.monotonic()
            if (status.progress or last) != last or now - told > HEARTBEAT:
                last, told = status.progress or last, now
                report(last)  # ends this where the viewer has left, also while nothing new is told
            time.sleep(LOOK_EVERY)
        if status.state == "interrupted":
            raise RunError(f"the process that was asked broke down: {self.log_tail(1) or 'it ended without a word'}.")
        if status.state != "finished":
            raise RunError(status.message)

    def _remember(self, worker: "subprocess.Popen[bytes]", watcher: threading.Thread) -> None:
        watched[self.path] = worker, watcher

    def _clean(self) -> None:
        """Remove the folder once its process has ended, and end one that does not: with all that it has started."""
        end = time.monotonic() + PATIENCE
        while self.alive and time.monotonic() < end:
            time.sleep(LOOK_EVERY)
        if self.path in watched:
            worker, watcher = watched.pop(self.path)
            if worker.poll() is None:
                with suppress(OSError):
                    os.killpg(worker.pid, signal.SIGKILL) if hasattr(os, "killpg") else worker.kill()
            watcher.join()  # neither writes into a folder that is being removed
        shutil.rmtree(self.path, ignore_errors=True)


def forget_the_dead() -> None:
    """Remove the folders of questions whose asker and process were both killed."""
    for place in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        question = Question(place)
        with suppress(OSError):  # it was just removed, or is another user's
            young = time.time() - place.stat().st_mtime < YOUNG
            if not young and not held(question.asker_lock) and not question.alive:
                shutil.rmtree(place, ignore_errors=True)


@dataclass(frozen=True)
class DataLook(Question):
    """What data hold; see `kdcore.views.data_overview`."""

    KIND: ClassVar[str] = "kdcore.jobs.question:DataLook"
    WORK: ClassVar[str] = "kdcore.views.data_overview:look"


@dataclass(frozen=True)
class Measurement(Question):
    """What steps cost; see `kdcore.training.probe`."""

    KIND: ClassVar[str] = "kdcore.jobs.question:Measurement"
    WORK: ClassVar[str] = "kdcore.training.probe:measure"
