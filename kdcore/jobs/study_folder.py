"""A study is a folder, and a job: one process works through its runs in order. Never imports torch.

Files: `study.yaml` (settings), `about.json` (title, data, note, tags, archived or not), `job.json` (how far it is; replaced atomically),
`alive.lock` (held while its process lives), `cancel` (asks the process to stop), `log.txt`, `data.json` (what the data are),
`runs/` (a directory for each run), `advantage.json` (whether the teacher can teach), `steps.json` (of the student alone, with
`match: seconds`), `layers/` (what the map shows), `report.json`, `report.html` and `curves.npz`
(once it is finished).
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from kdcore.bounded import remembered, stamp
from kdcore.errors import KdcoreError, RunError
from kdcore.files import remove_half_written, write_json
from kdcore.jobs.about import About as About
from kdcore.jobs.devices import kind_of
from kdcore.jobs.job import Job
from kdcore.jobs.locks import held, turn
from kdcore.jobs.plan import StudyProgress, measure_progress, read_alone_steps, teacher_run
from kdcore.jobs.small_files import modified, read_dict, read_json
from kdcore.jobs.status import State, Status
from kdcore.jobs.store import RunDirectory, list_runs
from kdcore.reading import visible_all
from kdcore.settings import SLUG, Hardware, StudySettings, load_study, save, validate

SMALL_FILES = ("study.yaml", "about.json", "job.json", "data.json", "advantage.json", "steps.json", "report.json")
SEVERAL = "kdcore.training.rank"
REPORT_PARTS = ("arms", "comparison", "data", "settings")


@dataclass(frozen=True)
class StudyFolder(Job):
    """Reads and writes one study's folder. The properties `job`, `state`, `title` and `problem` never raise."""

    read_only: bool = False

    KIND: ClassVar[str] = "kdcore.jobs.study_folder:StudyFolder"
    WORK: ClassVar[str] = "kdcore.training.worker:work_on_study"
    FILE: ClassVar[str] = "job.json"
    WAITS: ClassVar[bool] = True
    RUNNING: ClassVar[str] = "{id}: is running or waiting. Stop it first: kdcore runs stop {id}"
    TAKEN: ClassVar[str] = (
        "{path}: another process is working on this study. Wait for it, or stop it: kdcore runs stop {id}"
    )

    @classmethod
    def begin(cls, path: Path, settings: StudySettings, about: About | None = None) -> "StudyFolder":
        """Make the folder, or find the one that was made with the same settings.

        Hardware may differ, as far as runs that were begun can go on with it, and so may whether the student with all labels is
        trained, and where else networks are tested: that changes no other run.

        Raises:
            RunError: the folder holds something else; it is left alone.
        """
        with beginning(path):
            study, before = cls(path), None
            remove_half_written(path)
            if study.settings_file.exists() and study.holds_work():
                before = study.settings
                settings = settings.model_copy(update={"hardware": settings.hardware.as_begun(before.hardware)})
                free = {"hardware": settings.hardware, "upper_bound": settings.upper_bound, "test_on": settings.test_on}
                if before.model_copy(update=free) != settings:
                    raise RunError(
                        f"{path}: holds a study with other settings; a study is never overwritten. Choose another --out."
                    )
                if study.runs():
                    check_goes_on(path, before.hardware, settings.hardware)
            elif path.exists() and not path.is_dir():
                raise RunError(f"{path}: is a file, not a folder. Choose another --out.")
            elif path.exists() and {file.name for file in path.iterdir()} - {study.about_file.name}:  # written first
                raise RunError(f"{path}: is not empty and holds no study. Choose another --out.")
            if about is not None:
                study.write_about(study.same_data(about))
            if before != settings:
                save(settings, study.settings_file)
            return study

    def holds_work(self) -> bool:
        """Whether kdcore began a study here; a `study.yaml` alone may be settings that a person keeps."""
        return any(
            (self.path / name).exists() for name in ("about.json", "data.json", "job.json", "runs", "report.json")
        )

    @property
    def settings_file(self) -> Path:
        """The study's settings, as YAML."""
        return self.path / "study.yaml"

    @property
    def about_file(self) -> Path:
        """Title and data."""
        return self.path / "about.json"

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
        return read_settings(self.settings_file)

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
    def source(self) -> Path | Literal["demo"]:
        """What it is trained on: 'demo', or its collection's path.

        Raises:
            RunError: it is not known.
        """
        return "demo" if self.about.demo is not None else self.collection

    @property
    def data(self) -> dict[str, Any] | None:
        """Name, classes, colours and hash of the data, from `data.json`; None until they have been read."""
        values: dict[str, Any] | None = visible_all(read_dict(self.path / "data.json"))
        return values

    @property
    def problem(self) -> str:
        """Why this folder cannot be used, as a sentence; empty where it can."""
        if not SLUG.fullmatch(self.id):
            return (
                f"the folder's name {self.id!r} is no usable name. "
                "Rename it, with letters, digits, '.', '_' and '-' only (at most 100)."
            )
        return trouble_with(self, tuple(stamp(self.path / name) for name in SMALL_FILES))

    @property
    def job(self) -> Status:
        """How far it is, with what the files do not say of themselves: interrupted or broken."""
        if self.problem:
            return Status(state="broken", message=self.problem)
        return self.status

    def without_status(self) -> Status:
        """A study that was made by `kdcore study` of an early version, or whose files were copied without its status."""
        if (self.path / "report.json").exists():
            return Status(state="finished")
        return super().without_status()

    @property
    def state(self) -> State:
        """Its state."""
        return self.job.state

    @property
    def finished(self) -> bool:
        """Whether all is done and the report is there."""
        return self.state == "finished" and (self.path / "report.json").exists()

    def as_queued(self) -> dict[str, Any]:
        """Its device, so that it waits for its turn behind those of the same device."""
        return {"device": kind_of(self.settings.hardware)}

    def program(self) -> str:
        """One that starts torchrun, where several processes share each batch."""
        return SEVERAL if self.settings.hardware.processes > 1 else super().program()

    def check_usable(self) -> None:
        """Refuse the bundled example and broken folders.

        Raises:
            RunError: says which.
        """
        self.check_own()
        if self.problem:
            raise RunError(self.problem)

    def check_own(self) -> None:
        """Refuse the bundled example, which is not ours to change.

        Raises:
            RunError: it is that.
        """
        if self.read_only:
            raise RunError(f"{self.id}: comes with the program and cannot be changed. Start a study of your own.")

    def check_deletable(self) -> None:
        """Refuse the bundled example, and a study that is running, waiting, or being exported.

        Raises:
            RunError: says which.
        """
        self.check_own()
        if self.alive or self.state == "queued":
            raise self.still_running()
        if held(self.path / "deploy" / "alive.lock"):
            raise RunError(
                f"{self.id}: its networks are being exported and measured. Stop that on the Deploy page first."
            )
        if held(self.path / "race" / "alive.lock"):
            raise RunError(f"{self.id}: its networks are racing. Stop that on the Race page first.")

    def archive(self, archived: bool) -> None:
        """Put it aside, or take it back.

        Raises:
            RunError: it is read-only or broken.
        """
        self.check_usable()
        with beginning(self.path):
            self.write_about(self.about.model_copy(update={"archived": archived}))

    def annotate(self, note: str, tags: Sequence[str]) -> None:
        """Replace its note and its tags.

        Raises:
            RunError: it is read-only or broken.
            SettingsError: too long, or too many.
        """
        self.check_usable()
        with beginning(self.path):
            values = self.about.model_dump() | {"note": note, "tags": tuple(tags)}
            self.write_about(validate(About, values, "the note"))

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

    def teacher_run(self) -> RunDirectory:
        """The run that stands for the teacher: the one that scores it as it is asked, or else its only training.

        Raises:
            RunError: it was not begun.
        """
        return self.run(teacher_run(self.settings).name)

    def progress(self) -> StudyProgress:
        """Every planned run with its steps. Cheap: reads one small file a run.

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
        report: dict[str, Any] | None = visible_all(read_report(self.path / "report.json"))
        if report is None:
            raise RunError(f"{self.path}: is not finished, so it has no report. Its state is {self.state!r}.")
        return report


def check_goes_on(path: Path, before: Hardware, now: Hardware) -> None:
    """Refuse hardware with which runs that were begun could not go on, nor be compared with those to come.

    Raises:
        RunError: names the setting.
    """
    for name, kept in before.anywhere:
        wanted = getattr(now.anywhere, name)
        if wanted != kept:
            raise RunError(
                f"{path}: hardware.{name} was {kept} when its runs were begun. Those with {wanted} could not be compared with them. "
                "Leave it as it was, or choose another --out."
            )


def beginning(path: Path) -> AbstractContextManager[None]:
    """Hold what is being made under a name, for several processes may begin it at one moment.

    Raises:
        TakenError: another process has been doing so for seconds.
    """
    return turn(path.with_name(f".kdcore-{path.name}.lock"), f"{path}: is being begun by another process.")


def read_report(file: Path) -> dict[str, Any] | None:
    """A study's report; None where there is none.

    Raises:
        RunError: it is broken, or lacks a part that everybody reads.
    """
    report = read_dict(file)
    if report is not None:
        lost = [name for name in REPORT_PARTS if not isinstance(report.get(name), dict)]
        if lost:
            raise RunError(f"{file}: lacks the part {lost[0]!r}. Remove the file, then resume.")
        if not isinstance(report["comparison"].get("sentence"), str):
            raise RunError(f"{file}: lacks the part 'comparison.sentence'. Remove the file, then resume.")
    return report


@remembered(256)
def read_settings(file: Path) -> StudySettings:
    """A study's settings; pages ask for them every few seconds."""
    return load_study(file)


@lru_cache(maxsize=1024)
def trouble_with(study: StudyFolder, stamps: tuple[tuple[int, ...], ...]) -> str:
    """Why a study's files cannot be used; empty where they can. Looked at once for each of their states."""
    try:
        _ = study.settings, study.about, study.said(), study.data
        _ = study.advantage, read_alone_steps(study.path), read_report(study.path / "report.json")
    except KdcoreError as error:
        return str(error)
    return ""
