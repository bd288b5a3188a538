"""A sweep is a folder: what it searches, its trials (run directories like any other), and who works on it. Never imports torch.

Files: `sweep.yaml` (settings), `about.json` (title and data), `journal.log` (what Optuna knows of the trials, unless a database
keeps that), `teacher/` (runs that all trials share), `trials/0007/` (a run), `trials/.0007.lock` (held while somebody works on
that trial), `workers/0.json` and `.lock` (what each process does), `cancel` (asks all to stop), `log.txt`, `data.hash` (of the
data it began with), `steps.json` (how many fit into a budget in seconds), `confirm/` (the best setting against the default with
fresh seeds) and `report.json`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from kdcore.bounded import remembered
from kdcore.errors import KdcoreError, RunError
from kdcore.files import remove_half_written, write_json
from kdcore.jobs import slurm
from kdcore.jobs.job import Folder, Job
from kdcore.jobs.small_files import read_json, size_of
from kdcore.jobs.status import Status, lately
from kdcore.jobs.store import RunDirectory, list_runs
from kdcore.jobs.study_folder import About, beginning, check_goes_on
from kdcore.jobs.sweep_trials import TrialRecord, read_trial
from kdcore.settings import Frozen, SweepSettings, load, save

if TYPE_CHECKING:
    import optuna

SweepState = Literal["new", "running", "finished", "stopped", "failed", "broken"]
# Two processes whose threads wait for each other's cores are slower than two of one thread each.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True)
class SweepWorker(Job):
    """One of a sweep's processes; all lie in the sweep's folder, stop by one file and write one log."""

    index: int = 0

    KIND: ClassVar[str] = "kdcore.jobs.sweep_folder:SweepWorker"
    WORK: ClassVar[str] = "kdcore.training.sweep:work"
    SHARES_CANCEL: ClassVar[bool] = True

    @property
    def status_file(self) -> Path:
        """What it does."""
        return self.path / "workers" / f"{self.index}.json"

    @property
    def lock(self) -> Path:
        """Held while it lives."""
        return self.path / "workers" / f"{self.index}.lock"

    @property
    def launch_lock(self) -> Path:
        """Held by whoever starts it."""
        return self.path / "workers" / f"{self.index}.launch"

    def log(self, text: str) -> None:
        """Append to the sweep's log, with the time."""
        super().log(f"worker {self.index}: {text}")

    def arguments(self) -> list[str]:
        """Which worker it is."""
        return [str(self.index)]

    def environment(self) -> dict[str, str]:
        """Each worker has one core."""
        return ONE_THREAD


class SweepProgress(Frozen):
    """How far a sweep is.

    Attributes:
        state: 'stopped' also where its processes were killed: both go on when it is started again.
        message: why it failed.
        counts: trials by state; killed ones that were done again are not counted.
        over, trials: how many have a result, and how many there are to be.
        workers: processes that live.
    """

    state: SweepState
    message: str
    counts: dict[str, int]
    over: int
    trials: int
    workers: int


@dataclass(frozen=True)
class SweepFolder(Folder):
    """Reads and writes one sweep's folder."""

    @classmethod
    def begin(cls, path: Path, settings: SweepSettings, about: About) -> "SweepFolder":
        """Make the folder, or find the one that was made with the same settings; more trials extend it.

        Hardware may differ, as far as trials that were begun can go on with it.

        Raises:
            RunError: the folder holds something else; it is left alone.
        """
        with beginning(path):
            sweep, before = cls(path), None
            remove_half_written(path)
            if sweep.settings_file.exists() and sweep.about_file.exists():
                before = sweep.settings
                settings = settings.model_copy(update={"hardware": settings.hardware.as_begun(before.hardware)})
                changeable = {name: getattr(settings, name) for name in ("trials", "confirm", "hardware")}
                if before.model_copy(update=changeable) != settings:
                    raise RunError(
                        f"{path}: holds a sweep with other settings. Only trials, confirm and hardware may change; choose another --out."
                    )
                if sweep.teacher_runs() or list_runs(path / "trials"):
                    check_goes_on(path, before.hardware, settings.hardware)
                if (sweep.about.demo, data_name(sweep.about)) != (about.demo, data_name(about)):
                    raise RunError(f"{path}: this sweep began with other data. Choose another --out.")
                moved = {} if about.demo is not None else {"collection": about.collection}
                about = sweep.about.model_copy(update=moved)
            elif path.exists() and (
                not path.is_dir() or {file.name for file in path.iterdir()} - {sweep.about_file.name}
            ):
                raise RunError(f"{path}: is not empty and holds no sweep. Choose another --out.")
            elif sweep.about_file.exists():  # which is written first
                _ = sweep.about  # a person's file of that name is left alone
            write_json(sweep.about_file, about.model_dump(mode="json"))
            if before != settings:
                save(settings, sweep.settings_file)
            return sweep

    @property
    def settings_file(self) -> Path:
        """What is searched."""
        return self.path / "sweep.yaml"

    @property
    def about_file(self) -> Path:
        """Title and data."""
        return self.path / "about.json"

    @property
    def journal(self) -> Path:
        """Optuna's record of the trials."""
        return self.path / "journal.log"

    @property
    def report_file(self) -> Path:
        """The report; see `kdcore.evaluation.sweep_report`."""
        return self.path / "report.json"

    @property
    def settings(self) -> SweepSettings:
        """What is searched.

        Raises:
            SettingsError: the file is missing or broken.
        """
        return read_settings(self.settings_file)

    @property
    def about(self) -> About:
        """Title and data.

        Raises:
            RunError: the file is missing or broken.
        """
        about = read_json(About, self.about_file)
        if about is None:
            raise RunError(f"{self.path}: holds no sweep, or its about.json is lost. Name the folder given to --out.")
        return about

    @property
    def collection(self) -> Path:
        """Where the data are; a demo area may have to be made first.

        Raises:
            RunError: it is not known.
        """
        about = self.about
        if about.demo is not None:  # a workspace says where it keeps its areas
            return about.collection or self.path.parent / ".areas" / f"demo-{about.demo}"
        if about.collection is None:
            raise RunError(f"{self.path}: does not say on which data it is to run. Start it again with `kdcore sweep`.")
        return about.collection

    @property
    def name_in_storage(self) -> str:
        """What the storage calls it; it stays when the folder is renamed."""
        return f"kdcore-sweep-{round(self.about.created * 1000)}"

    def study(self) -> "optuna.Study":
        """The trials as Optuna keeps them; begun if there are none.

        Raises:
            KdcoreError: the storage cannot be used.
        """
        from kdcore.jobs.sweep_storage import open_study

        return open_study(self.journal, self.name_in_storage, self.settings)

    def run(self, number: int) -> RunDirectory:
        """The run of a trial."""
        return RunDirectory(self.path / "trials" / f"{number:04}")

    def trial_lock(self, number: int) -> Path:
        """Held while somebody works on a trial, from asking for it to telling its result."""
        return self.path / "trials" / f".{number:04}.lock"

    def teacher_runs(self) -> list[RunDirectory]:
        """The teacher's runs that were begun."""
        return list_runs(self.path / "teacher")

    def worker(self, index: int) -> SweepWorker:
        """One of its processes, whether it was ever started or not."""
        return SweepWorker(self.path, index)

    def workers(self) -> dict[int, Status]:
        """What every worker last said, by index."""
        numbers = sorted(int(file.stem) for file in (self.path / "workers").glob("*.json") if file.stem.isdigit())
        found = {number: self.worker(number).said() for number in numbers}
        return {number: status for number, status in found.items() if status is not None}

    @property
    def alive(self) -> list[int]:
        """Workers that live or were just started."""
        return [number for number in self.workers() if self.worker(number).active]

    def trials(self, study: "optuna.Study | None" = None) -> list[TrialRecord]:
        """All trials in the order in which they were asked for or planned.

        Args:
            study: to read from; opened anew without.

        Raises:
            KdcoreError: the storage cannot be used.
        """
        if study is None and self.settings.storage is None and not size_of(self.journal):
            return []  # nobody has begun it; a look must write nothing
        study = study or self.study()
        frozen = study.get_trials(deepcopy=False)
        retries = {t.user_attrs["retry_of"]: t.number for t in frozen if "retry_of" in t.user_attrs}
        settings = self.settings
        return [read_trial(trial, settings, self.trial_lock(trial.number), retries) for trial in frozen]

    def progress(self, trials: list[TrialRecord] | None = None) -> SweepProgress:
        """How far it is; never raises for a broken sweep, which has the state 'broken'."""
        try:
            settings = self.settings
            trials = self.trials() if trials is None else trials
            workers, alive, about = self.workers(), self.alive, self.about
        except KdcoreError as error:
            return SweepProgress(state="broken", message=str(error), counts={}, over=0, trials=0, workers=0)
        shown = [trial for trial in trials if trial.retried_as is None]
        states: list[str] = [trial.state for trial in shown]
        counts = {state: states.count(state) for state in dict.fromkeys(states)}
        over = sum(trial.over for trial in shown)
        unconfirmed = settings.confirm and "finished" in states and not (self.path / "confirm" / "report.json").exists()
        failures = [status.message for status in workers.values() if status.state == "failed"]
        state: SweepState = "stopped" if trials or workers else "new"
        over_all = over >= settings.trials and not unconfirmed
        on_their_way = (state == "new" and lately(about.created)) or (not over_all and slurm.queued(self.path))
        if alive or on_their_way:
            state = "running"
        elif over_all:
            state = "finished"
        elif failures:
            state = "failed"
        return SweepProgress(
            state=state,
            message=failures[0] if state == "failed" else "",
            counts=counts,
            over=over,
            trials=settings.trials,
            workers=len(alive),
        )


@remembered(256)
def read_settings(file: Path) -> SweepSettings:
    """A sweep's settings; pages ask for them every few seconds."""
    return load(SweepSettings, file)


def list_sweeps(folder: Path) -> list[SweepFolder]:
    """The sweeps in a folder, the last begun first; broken ones are among them."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if not path.name.startswith(".") and (path / "sweep.yaml").is_file()]
    return [SweepFolder(path) for path in sorted(found, key=lambda path: (-begun(path), path.name))]


def begun(path: Path) -> float:
    """When a sweep was begun, seconds since 1970; 0 where that cannot be read."""
    try:
        return SweepFolder(path).about.created
    except RunError:
        return 0.0


def data_name(about: About) -> str:
    """What tells one data set from another when it may lie elsewhere now."""
    if about.demo is not None or about.collection is None:
        return ""
    return str(Path(about.collection.parent.name, about.collection.name))
