"""A run is a directory: settings, status, metrics, log, lock, checkpoints, scores and report.

It is the job protocol, the store, and the thing that a person zips and sends. This module never imports torch.
"""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from kdcore.bounded import remembered
from kdcore.errors import RunError
from kdcore.files import explain_write_error, remove_half_written, write_json, write_text
from kdcore.jobs.locks import held, holding
from kdcore.jobs.small_files import append_log
from kdcore.reading import ReadingError, read_bytes, read_json
from kdcore.settings import Frozen, RunSettings, Seconds, load, save

MOST_METRICS = 1_000_000_000  # bytes
LARGEST = 1e15  # no measurement is larger; charts cannot show infinity
SHOWN_METRICS = 4000  # lines of a run that a chart is drawn from
State = Literal["queued", "running", "finished", "failed", "stopped"]


class RunStatus(Frozen):
    """How far a run is.

    Attributes:
        state: what it last said of itself; a run that says 'running' while nobody holds its lock was interrupted.
        step, steps: optimiser steps done and planned.
        seconds: spent on those steps, validation left out, over all resumptions.
        elapsed: seconds by the clock that processes worked on the run, reading and scoring included, over all resumptions.
        message: why it failed, or what it is doing.
        updated: when this was written, seconds since 1970.
    """

    state: State = "queued"
    step: int = 0
    steps: int = 0
    seconds: Seconds = 0.0
    elapsed: Seconds = 0.0
    message: str = ""
    updated: Seconds = 0.0


class RunDirectory:
    """Reads and writes one run's directory.

    Files: `settings.yaml`, `status.json` (replaced atomically), `metrics.jsonl` (appended), `log.txt`, `alive.lock` (held
    while the process lives), `checkpoints/`, `watched/` (a crop as the network sees it), `scores.npz`, `scores-validation.npz`,
    `maps/`, `report.json`.
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
        self.watched = path / "watched"
        self._elapsed_before = 0.0
        self._working_since: float | None = None

    @classmethod
    def create(cls, path: Path, settings: RunSettings) -> "RunDirectory":
        """Make the directory, or find the one that was made with the same settings.

        Raises:
            RunError: there is a run with other settings; it is left alone.
        """
        run = cls(path)
        remove_half_written(path)
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
    def trained_teacher(self) -> bool:
        """Whether it trained a network of the teacher; what only scores a teacher names the checkpoints that it consists of."""
        settings = self.settings
        return settings.arm == "teacher" and not settings.teacher

    @property
    def status(self) -> RunStatus:
        """How far it is.

        Raises:
            RunError: the file is broken.
        """
        try:
            return RunStatus.model_validate_json(read_bytes(self.path / "status.json"))
        except FileNotFoundError:
            return RunStatus()
        except (ValidationError, ReadingError, OSError) as error:
            raise RunError(
                f"{self.path / 'status.json'}: cannot be read. Remove it to run again from the last state."
            ) from error

    def write_status(self, status: RunStatus) -> None:
        """Replace the status, stamped with the time and, by the process that works on the run, with the time spent."""
        stamps = {"updated": time.time()}
        if self._working_since is not None:
            stamps["elapsed"] = round(self._elapsed_before + time.monotonic() - self._working_since, 3)
        write_json(self.path / "status.json", status.model_copy(update=stamps).model_dump())

    def set_state(self, state: State, message: str = "") -> None:
        """Change the state and message and keep the rest."""
        self.write_status(self.status.model_copy(update={"state": state, "message": message}))

    @property
    def alive(self) -> bool:
        """Whether a process works on this run now."""
        return held(self.path / "alive.lock")

    @contextmanager
    def working(self) -> Iterator[None]:
        """Hold the run's lock; the system releases it when the process dies, however it dies.

        Raises:
            RunError: another process works on this run.
        """
        taken = f"{self.path}: another process is working on this run. Wait for it, or stop it first."
        with holding(self.path / "alive.lock", taken):
            self._elapsed_before, self._working_since = self.status.elapsed, time.monotonic()
            try:
                yield
            finally:
                self._working_since = None

    def add_metrics(self, values: dict[str, Any]) -> None:
        """Append one line of measurements."""
        try:
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")
        except OSError as error:
            raise explain_write_error(self.metrics, error) from error

    @property
    def shown_metrics(self) -> list[dict[str, Any]]:
        """The lines that a chart is drawn from."""
        return shown_metrics(self.metrics)

    def read_metrics(self, most: int | None = None) -> list[dict[str, Any]]:
        """Lines of measurements; what is none, as a last line that is still being written, is left out. A step can have two: loss, and validation.

        Args:
            most: of a longer file about so many lines, evenly spread, and with them the last one and all with a validation.
        """
        try:
            lines = read_bytes(self.metrics, MOST_METRICS).splitlines()
        except (OSError, ReadingError):
            return []
        if most is not None and len(lines) > most:
            stride, last = -(-len(lines) // most), len(lines) - 2  # the very last one may be cut
            lines = [
                line
                for index, line in enumerate(lines)
                if index % stride == 0 or index >= last or b"validation" in line
            ]
        found: list[dict[str, Any]] = []
        for line in lines:
            try:
                values = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if is_measurement(values):
                found.append(values)
        return found

    def forget_metrics_after(self, step: int) -> None:
        """Drop the measurements of steps that will be done again after a resume."""
        kept = [line for line in self.read_metrics() if line["step"] <= step]
        if self.metrics.exists():
            write_text(self.metrics, "".join(json.dumps(line) + "\n" for line in kept))

    def log(self, text: str) -> None:
        """Append a line to the log, with the time."""
        append_log(self.path / "log.txt", text)

    def read_report(self) -> dict[str, Any]:
        """The finished run's report.

        Raises:
            RunError: it has none yet.
        """
        try:
            report: dict[str, Any] = read_json(self.report)
        except FileNotFoundError as error:
            raise RunError(
                f"{self.path}: is not finished, so it has no report. Its state is {self.status.state!r}."
            ) from error
        except (ValueError, OSError) as error:
            raise RunError(f"{self.report}: is broken. Remove it and run again; training is not repeated.") from error
        known = {"parameters": int, "steps": int, "seconds": int | float}
        whole = isinstance(report, dict) and all(isinstance(report.get(key), kind) for key, kind in known.items())
        if not whole or not isinstance(report.get("test") or {}, dict):  # a sweep's trials do not read the test part
            raise RunError(f"{self.report}: is no report of a run. Remove it and run again; training is not repeated.")
        return report

    def own_threshold(self, classes: Sequence[str]) -> float:
        """The threshold that the run chose on its validation split for the second class of two, or 0.5."""
        if len(classes) == 2 and self.report.exists():
            found = self.read_report().get("at_threshold", {}).get(classes[1], {}).get("threshold")
            if isinstance(found, float) and 0 < found < 1:
                return found
        return 0.5


def is_measurement(values: Any) -> bool:
    """Whether a line of `metrics.jsonl` is what runs write: numbers by name, and the step among them."""
    return (
        isinstance(values, dict)
        and isinstance(values.get("step"), int)
        and all(
            value is None or (isinstance(value, (int, float)) and not abs(value) > LARGEST) for value in values.values()
        )
    )


def without_place(settings: RunSettings) -> RunSettings:
    """Settings without what may differ between machines: where files lie and how they are computed."""
    return settings.model_copy(
        update={
            "collection": Path(settings.collection.name),
            "teacher": tuple(Path(path.parent.parent.name) for path in settings.teacher),
            "start": settings.start and Path(settings.start.parent.parent.name),
            "hardware": settings.hardware.anywhere,
        }
    )


@remembered(200)
def shown_metrics(file: Path) -> list[dict[str, Any]]:
    """See `RunDirectory.shown_metrics`; parsed again only when there are more, since a page asks every two seconds."""
    return RunDirectory(file.parent).read_metrics(SHOWN_METRICS)


def list_runs(folder: Path) -> list[RunDirectory]:
    """The runs in a folder, by name."""
    if not folder.is_dir():
        return []
    return [
        RunDirectory(path)
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".") and (path / "settings.yaml").is_file()
    ]
