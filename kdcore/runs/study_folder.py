"""A study is a folder, and a job: one process works through its runs in order. Never imports torch.

Files: `study.yaml` (settings), `about.json` (title, data, archived or not), `job.json` (how far it is; replaced atomically),
`alive.lock` (held while its process lives), `cancel` (asks the process to stop), `log.txt`, `data.json` (what the data are),
`runs/` (a directory for each run), `advantage.json` (whether the teacher can teach), `steps.json` (of the student alone, with
`match: seconds`), `layers/` (what the map shows), `report.json` and `report.html` (once it is finished).
"""

import json
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError

from kdcore.errors import KdcoreError, RunError
from kdcore.files import explain_write_error, write_json
from kdcore.runs.locks import held, holding
from kdcore.runs.plan import read_alone_steps
from kdcore.runs.progress import StudyProgress, measure_progress
from kdcore.runs.store import RunDirectory, list_runs
from kdcore.settings import SLUG, Frozen, StudySettings, load, load_study, save

JobState = Literal["queued", "running", "finished", "failed", "stopped", "interrupted", "broken"]
LAUNCH_SECONDS = 30.0  # after which a worker that has not come to life is not expected any more
LOG_BYTES = 64 * 1024  # that are looked at for the log's last lines
KILLED = "its process ended without a word (killed, or the machine was restarted). Resume to go on from the last saved state."

Kind = TypeVar("Kind", bound=Frozen)


class JobStatus(Frozen):
    """How far a study's job is.

    Attributes:
        state: 'interrupted' and 'broken' are never written: they are what a reader makes of the files.
        stage: what is being done now, for example 'alone-s0: training'; done and total: how much of it.
        message: a sentence for a person: why it failed, what it waits for.
        device: 'cpu' or 'cuda' while queued, then the devices it got, for example 'cuda:0'.
        host: the machine it runs on.
        queued, started, ended, updated: seconds since 1970; `queued` is its place in the queue.
        launched: when a worker was last started for it, None if it runs in a terminal.
        seconds: spent working on it, by the clock, over all resumptions.
    """

    state: JobState = "queued"
    stage: str = ""
    done: int = 0
    total: int = 0
    message: str = ""
    device: str = ""
    host: str = ""
    queued: float = 0.0
    launched: float | None = None
    started: float | None = None
    ended: float | None = None
    updated: float = 0.0
    seconds: float = 0.0


class About(Frozen):
    """What a person calls a study, and where its data come from: a collection's path, or the seed of a demo area."""

    title: str = Field(max_length=200)
    collection: Path | None = None
    demo: int | None = Field(default=None, ge=0)
    created: float = 0.0
    archived: bool = False


@dataclass(frozen=True)
class StudyFolder:
    """Reads and writes one study's folder. The properties `job`, `state`, `title` and `problem` never raise."""

    path: Path
    read_only: bool = False

    @classmethod
    def begin(cls, path: Path, settings: StudySettings, about: About | None = None) -> "StudyFolder":
        """Make the folder, or find the one that was made with the same settings.

        Hardware may differ, and so may whether the student with all labels is trained: it changes no other run.

        Raises:
            RunError: the folder holds something else; it is left alone.
        """
        study = cls(path)
        if study.settings_file.exists():
            before = study.settings
            free = {"hardware": settings.hardware, "upper_bound": settings.upper_bound}
            if before.model_copy(update=free) != settings:
                raise RunError(
                    f"{path}: holds a study with other settings; a study is never overwritten. Choose another --out."
                )
        elif path.exists() and not path.is_dir():
            raise RunError(f"{path}: is a file, not a folder. Choose another --out.")
        elif path.exists() and any(path.iterdir()):
            raise RunError(f"{path}: is not empty and holds no study. Choose another --out.")
        if about is not None:
            study.write_about(study.same_data(about))
        save(settings, study.settings_file)
        return study

    @property
    def id(self) -> str:
        """The folder's name; the same in addresses, commands and file names."""
        return self.path.name

    @property
    def settings_file(self) -> Path:
        """The study's settings, as YAML."""
        return self.path / "study.yaml"

    @property
    def about_file(self) -> Path:
        """Title and data."""
        return self.path / "about.json"

    @property
    def job_file(self) -> Path:
        """How far the job is."""
        return self.path / "job.json"

    @property
    def cancel_file(self) -> Path:
        """Asks the worker to stop while it exists."""
        return self.path / "cancel"

    @property
    def log_file(self) -> Path:
        """What the worker printed."""
        return self.path / "log.txt"

    @property
    def advantage_file(self) -> Path:
        """Whether the teacher can teach: written once it and the student alone of the first seed are trained."""
        return self.path / "advantage.json"

    @property
    def advantage(self) -> dict[str, Any] | None:
        """How much better the teacher is than the student alone on validation (`kdcore.evaluation.advantage`); None until it is known.

        Raises:
            RunError: the file is broken.
        """
        values: dict[str, Any] | None = read_dict(self.advantage_file)
        return values

    @property
    def layers(self) -> Path:
        """Folder of what the map shows."""
        return self.path / "layers"

    @property
    def page(self) -> Path:
        """The report as a page that opens without a network."""
        return self.path / "report.html"

    @property
    def settings(self) -> StudySettings:
        """What the study is to do.

        Raises:
            SettingsError: the file is missing or broken.
        """
        settings: StudySettings = load_settings(StudySettings, self.settings_file, modified(self.settings_file))
        return settings

    @property
    def about(self) -> About:
        """Title, data, archived or not.

        Raises:
            RunError: the file is broken.
        """
        about = read_json(About, self.about_file)
        if about is None:
            return About(title=self.id[:200], created=modified(self.settings_file) / 1e9)
        return about

    def write_about(self, about: About) -> None:
        """Replace title, data and archived."""
        write_json(self.about_file, about.model_dump(mode="json"))

    def same_data(self, about: About) -> About:
        """What `about.json` is to hold when the study is begun again: a collection may lie elsewhere now.

        Raises:
            RunError: it was begun on a demo area and is now to run on a collection, or the other way round.
        """
        if not self.about_file.exists():
            return about
        before = self.about
        if before.demo != about.demo:
            raise RunError(f"{self.path}: this study began with other data. Choose another --out.")
        return before.model_copy(update={"collection": about.collection})

    @property
    def title(self) -> str:
        """What a person called it: any text, so escape it before it is shown."""
        try:
            return self.about.title
        except RunError:
            return self.id

    @property
    def archived(self) -> bool:
        """Whether it was put aside."""
        try:
            return self.about.archived
        except RunError:
            return False

    @property
    def created(self) -> float:
        """When it was made, seconds since 1970."""
        try:
            return self.about.created
        except RunError:
            return modified(self.about_file) / 1e9

    @property
    def collection(self) -> Path:
        """Where the data are; a demo area may have to be made first.

        Raises:
            RunError: it is not known.
        """
        about = self.about
        if about.demo is not None:
            return self.path.parent / ".areas" / f"demo-{about.demo}"
        if about.collection is not None:
            return about.collection
        if self.data is not None:
            return Path(self.data["collection"])
        raise RunError(f"{self.path}: does not say on which data it was to run. Start it again with `kdcore study`.")

    @property
    def data(self) -> dict[str, Any] | None:
        """Name, classes, colours and hash of the data, from `data.json`; None until they have been read."""
        values: dict[str, Any] | None = read_dict(self.path / "data.json")
        return values

    @property
    def problem(self) -> str:
        """Why this folder cannot be used, as a sentence; empty where it can."""
        if not SLUG.fullmatch(self.id):
            return (
                f"the folder's name {self.id!r} is no usable name. "
                "Rename it, with letters, digits, '.', '_' and '-' only (at most 100)."
            )
        try:
            _ = self.settings, self.about, read_json(JobStatus, self.job_file), self.data
            _ = self.advantage, read_alone_steps(self.path)
        except KdcoreError as error:
            return str(error)
        return ""

    @property
    def alive(self) -> bool:
        """Whether a process works on it now, or waits for a device."""
        return held(self.path / "alive.lock")

    @property
    def job(self) -> JobStatus:
        """How far it is, with what the files do not say of themselves: interrupted or broken."""
        if self.problem:
            return JobStatus(state="broken", message=self.problem)
        return self.derived_job()

    def derived_job(self) -> JobStatus:
        """`job` without looking for problems first; raises RunError where `job.json` is broken."""
        job = read_json(JobStatus, self.job_file)
        if job is None:
            done = (self.path / "report.json").exists()
            return JobStatus(state="finished" if done else "running" if self.alive else "interrupted")
        if needs_process(job) and not self.alive:
            job = read_json(JobStatus, self.job_file) or job  # it may have ended between the two looks
            if needs_process(job):
                return job.model_copy(update={"state": "interrupted", "message": KILLED})
        return job

    def write_job(self, job: JobStatus) -> None:
        """Replace the job's status, stamped with the time."""
        write_json(self.job_file, job.model_copy(update={"updated": time.time()}).model_dump())

    @property
    def state(self) -> JobState:
        """The job's state."""
        return self.job.state

    @property
    def finished(self) -> bool:
        """Whether all is done and the report is there."""
        return self.state == "finished" and (self.path / "report.json").exists()

    def working(self) -> AbstractContextManager[None]:
        """Hold `alive.lock`.

        Raises:
            RunError: another process works on this study.
        """
        taken = f"{self.path}: another process is working on this study. Wait for it, or stop it: kdcore runs stop {self.id}"
        return holding(self.path / "alive.lock", taken)

    def runs(self) -> list[RunDirectory]:
        """The runs that were begun, by name."""
        return list_runs(self.path / "runs")

    def run(self, name: str) -> RunDirectory:
        """One run by its name.

        Raises:
            RunError: there is none.
        """
        run = RunDirectory(self.path / "runs" / name)
        if not SLUG.fullmatch(name) or not (run.path / "settings.yaml").is_file():
            raise RunError(f"the study {self.id} has no run {name[:100]!r}.")
        return run

    def progress(self) -> StudyProgress:
        """Every planned run with its steps, and the seconds left. Cheap: reads one small file a run.

        Raises:
            SettingsError: `study.yaml` is broken.
            RunError: `steps.json` is broken.
        """
        return measure_progress(self.settings, self.path / "runs", working=self.alive)

    def report(self) -> dict[str, Any]:
        """The finished study's report; see `kdcore.evaluation.report`.

        Raises:
            RunError: it is not finished.
        """
        report = read_dict(self.path / "report.json")
        if report is None:
            raise RunError(f"{self.path}: is not finished, so it has no report. Its state is {self.state!r}.")
        return report

    def log(self, text: str) -> None:
        """Append to the log, with the time."""
        append_log(self.log_file, text)

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of the log; empty where there is none."""
        return last_lines(self.log_file, lines)


def needs_process(job: JobStatus) -> bool:
    """Whether a process must be alive if what the job says of itself is still true."""
    just_launched = time.time() - max(job.queued, job.launched or 0.0) < LAUNCH_SECONDS
    return job.state == "running" or (job.state == "queued" and not just_launched)


def modified(file: Path) -> int:
    """When a file was last changed, in nanoseconds since 1970; 0 where there is none."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=256)
def load_settings(kind: type[Kind], file: Path, changed: int) -> Kind:
    """Read settings from YAML; parsed once for each time the file changed, since pages ask every few seconds."""
    return load_study(file) if kind is StudySettings else load(kind, file)  # type: ignore[return-value]


def append_log(file: Path, text: str) -> None:
    """Append a line to a log, with the time.

    Raises:
        KdcoreError: the disk is full or the folder cannot be written to.
    """
    try:
        with file.open("a", encoding="utf-8") as log:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
    except OSError as error:
        raise explain_write_error(file, error) from error


def last_lines(file: Path, lines: int) -> str:
    """The last lines of a log; empty where there is none."""
    try:
        with file.open("rb") as log:
            log.seek(max(0, log.seek(0, 2) - LOG_BYTES))
            text = log.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def read_json(kind: type[Kind], file: Path) -> Kind | None:
    """Read a small JSON file; None where there is none.

    Raises:
        RunError: it is broken.
    """
    try:
        return kind.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except (ValidationError, OSError) as error:
        raise RunError(f"{file}: {what_is_wrong(error)}. Remove the file, then resume the study.") from error


def read_dict(file: Path) -> dict[str, Any] | None:
    """Read a JSON object; None where there is none.

    Raises:
        RunError: it is broken.
    """
    try:
        values = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        raise RunError(f"{file}: {what_is_wrong(error)}. Remove the file, then resume the study.") from error
    if not isinstance(values, dict):
        raise RunError(f"{file}: should hold a JSON object. Remove the file, then resume the study.")
    return values


def what_is_wrong(error: Exception) -> str:
    """A broken file's trouble in a few words."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return f"cannot be used ({place + ': ' if place else ''}{first['msg']})"
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror or error})"
    return f"is no valid JSON ({error})"
