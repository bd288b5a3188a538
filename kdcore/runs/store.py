"""A run is a directory: settings, status, metrics, log, lock, checkpoints, scores and report.

It is the job protocol, the store, and the thing that a person zips and sends. This module never imports torch.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from pydantic import ValidationError

from kdcore.errors import RunError
from kdcore.files import explain_write_error, write_json, write_text
from kdcore.settings import Frozen, RunSettings, load, save

State = Literal["queued", "running", "finished", "failed", "stopped"]


class RunStatus(Frozen):
    """How far a run is.

    Attributes:
        state: what it last said of itself; a run that says 'running' while nobody holds its lock was interrupted.
        step, steps: optimiser steps done and planned.
        seconds: spent on those steps, validation left out, over all resumptions.
        message: why it failed, or what it is doing.
        updated: when this was written, seconds since 1970.
    """

    state: State = "queued"
    step: int = 0
    steps: int = 0
    seconds: float = 0.0
    message: str = ""
    updated: float = 0.0


class RunDirectory:
    """Reads and writes one run's directory.

    Files: `settings.yaml`, `status.json` (replaced atomically), `metrics.jsonl` (appended), `log.txt`, `alive.lock` (held
    while the process lives), `checkpoints/`, `scores.npz`, `scores-validation.npz`, `maps/`, `report.json`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.best = self.checkpoints / "best.safetensors"
        self.state = self.checkpoints / "state.safetensors"
        self.scores = path / "scores.npz"
        self.validation_scores = path / "scores-validation.npz"
        self.maps = path / "maps"
        self.report = path / "report.json"
        self.metrics = path / "metrics.jsonl"

    @classmethod
    def create(cls, path: Path, settings: RunSettings) -> "RunDirectory":
        """Make the directory, or find the one that was made with the same settings.

        Raises:
            RunError: there is a run with other settings; it is left alone.
        """
        run = cls(path)
        file = path / "settings.yaml"
        if file.exists():
            if without_place(run.settings) != without_place(settings):
                raise RunError(
                    f"{path}: holds a run with other settings. Choose another --out, or remove the folder if it is no longer needed."
                )
            return run
        if path.exists() and any(path.iterdir()):
            raise RunError(f"{path}: is not empty and holds no run. Choose another --out.")
        save(settings, file)
        run.write_status(RunStatus(steps=settings.budget.steps))
        return run

    @property
    def settings(self) -> RunSettings:
        """What the run is to do."""
        return load(RunSettings, self.path / "settings.yaml")

    @property
    def status(self) -> RunStatus:
        """How far it is."""
        try:
            return RunStatus.model_validate_json((self.path / "status.json").read_text())
        except FileNotFoundError:
            return RunStatus()
        except ValidationError as error:
            raise RunError(
                f"{self.path / 'status.json'}: cannot be read. Remove it to run again from the last state."
            ) from error

    def write_status(self, status: RunStatus) -> None:
        """Replace the status, stamped with the time."""
        write_json(self.path / "status.json", status.model_copy(update={"updated": time.time()}).model_dump())

    def set_state(self, state: State, message: str = "") -> None:
        """Change the state and message and keep the rest."""
        self.write_status(self.status.model_copy(update={"state": state, "message": message}))

    @property
    def alive(self) -> bool:
        """Whether a process works on this run now."""
        lock = FileLock(self.path / "alive.lock")
        try:
            with lock.acquire(timeout=0):
                return False
        except Timeout:
            return True

    @contextmanager
    def working(self) -> Iterator[None]:
        """Hold the run's lock; the system releases it when the process dies, however it dies.

        Raises:
            RunError: another process works on this run.
        """
        lock = FileLock(self.path / "alive.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise RunError(
                f"{self.path}: another process is working on this run. Wait for it, or stop it first."
            ) from error
        except OSError as error:
            raise explain_write_error(self.path, error) from error
        try:
            yield
        finally:
            lock.release()

    def add_metrics(self, values: dict[str, Any]) -> None:
        """Append one line of measurements."""
        try:
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")
        except OSError as error:
            raise explain_write_error(self.metrics, error) from error

    def read_metrics(self) -> list[dict[str, Any]]:
        """All lines of measurements; a last line that is still being written is left out."""
        if not self.metrics.exists():
            return []
        lines = []
        for line in self.metrics.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return lines

    def forget_metrics_after(self, step: int) -> None:
        """Drop the measurements of steps that will be done again after a resume."""
        kept = [line for line in self.read_metrics() if line["step"] <= step]
        if self.metrics.exists():
            write_text(self.metrics, "".join(json.dumps(line) + "\n" for line in kept))

    def log(self, text: str) -> None:
        """Append a line to the log, with the time."""
        try:
            with (self.path / "log.txt").open("a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
        except OSError as error:
            raise explain_write_error(self.path / "log.txt", error) from error

    def read_report(self) -> dict[str, Any]:
        """The finished run's report.

        Raises:
            RunError: it has none yet.
        """
        try:
            report: dict[str, Any] = json.loads(self.report.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise RunError(
                f"{self.path}: is not finished, so it has no report. Its state is {self.status.state!r}."
            ) from error
        except json.JSONDecodeError as error:
            raise RunError(f"{self.report}: is broken. Remove it and run again; training is not repeated.") from error
        return report


def without_place(settings: RunSettings) -> RunSettings:
    """Settings without what may differ between machines: where files lie and how they are computed."""
    return settings.model_copy(
        update={
            "collection": Path(settings.collection.name),
            "teacher": tuple(Path(path.parent.parent.name) for path in settings.teacher),
            "hardware": settings.hardware.model_copy(update={"device": "auto", "readers": 1}),
        }
    )


def list_runs(folder: Path) -> list[RunDirectory]:
    """The runs in a folder, by name."""
    if not folder.is_dir():
        return []
    return [RunDirectory(path) for path in sorted(folder.iterdir()) if (path / "settings.yaml").is_file()]
