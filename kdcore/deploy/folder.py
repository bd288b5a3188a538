"""Where a study's deployment lies, how far it is, how it is started and stopped, what can be taken from it. No torch here: pages ask."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from kdcore.deploy.record import IN_BFLOAT16, Form, Kind
from kdcore.errors import KdcoreError, RunError
from kdcore.jobs.bundle import files_in
from kdcore.jobs.job import Job
from kdcore.jobs.progress import Stage
from kdcore.jobs.status import Status
from kdcore.jobs.study_folder import StudyFolder
from kdcore.jobs.workspace import Workspace

FOLDER = "deploy"
CHECKS = (Stage.SCORING_VALIDATION, Stage.COMPARING, Stage.SCORING_TEST)
PIECES: tuple[tuple[Stage, Kind], ...] = (
    (Stage.EXPORTING, "torch"),
    (Stage.SCORING_VALIDATION, "torch"),
    *((stage, "onnx") for stage in CHECKS),
    *((stage, "bf16") for stage in CHECKS),  # passed over where the processor does not compute in bfloat16
    (Stage.CALIBRATING, "torch"),
    *((stage, "int8") for stage in CHECKS),
)
"""What is done with a network, in order, and with which of its forms."""
SUBJECTS: dict[str, Kind] = {IN_BFLOAT16: "bf16", "-int8.onnx": "int8", ".onnx": "onnx", "": "torch"}
"""How what a job says that it looks at ends."""
LAST = (Stage.MEASURING_SPEED, Stage.DESCRIBING)
JOB_FILES = ("status.json", "alive.lock", "cancel", "log.txt")  # belong to the machine
TITLES = {".onnx": "ONNX network", ".json": "STAC item", ".md": "Model card"}
MIMES = {".onnx": "application/octet-stream", ".json": "application/geo+json", ".md": "text/markdown"}
READ_ONLY = ".deploy"  # in the workspace: deployments of studies that cannot be written to


@dataclass(frozen=True)
class StudyJob(Job):
    """A job that works on a finished study: its folder lies in the study, or in the workspace's `READ_ONLY` where the study is read-only."""

    READ_ONLY: ClassVar[str]

    @property
    def id(self) -> str:
        """The study's."""
        return self.path.name if self.path.parent.name == self.READ_ONLY else self.path.parent.name

    @property
    def workspace(self) -> Workspace:
        """The workspace that it belongs to."""
        return Workspace(self.path.parents[1])

    @property
    def study(self) -> StudyFolder:
        """The study whose networks it uses.

        Raises:
            RunError: it is gone.
        """
        return self.workspace.study(self.id)

    @property
    def told(self) -> Status | None:
        """How far it is; None where it was never started.

        A status that cannot be read is told as a failure, so that a page need not care.
        """
        if not self.status_file.exists():
            return None
        try:
            return self.status
        except KdcoreError as error:
            return Status(state="failed", message=str(error))


@dataclass(frozen=True)
class DeploymentFolder(StudyJob):
    """Reads and writes one deployment's folder. Beside the job's files: the exported networks and `deploy.json`."""

    KIND: ClassVar[str] = "kdcore.deploy.folder:DeploymentFolder"
    WORK: ClassVar[str] = "kdcore.deploy.make:make"
    GOES_LAST: ClassVar[bool] = True
    RUNNING: ClassVar[str] = "{id}: its networks are being exported and measured already."
    BROKEN: ClassVar[str] = "The state of this deployment cannot be read. Start it again."
    DIED: ClassVar[str] = "its process ended without a word. Start it again; finished files are kept."
    READ_ONLY: ClassVar[str] = READ_ONLY


def deployment_folder(workspace: Workspace, study: StudyFolder) -> Path:
    """The folder of a study's deployment, which need not exist yet: inside the study, or in the workspace if it is read-only."""
    return workspace.path / READ_ONLY / study.id if study.read_only else study.path / FOLDER


def status(folder: Path) -> Status | None:
    """How far a deployment is; None where it was never started."""
    return DeploymentFolder(folder).told


def start(workspace: Workspace, study: StudyFolder) -> DeploymentFolder:
    """Start the process that exports and measures a study's networks; it survives this one.

    Raises:
        RunError: it runs already, the study is not finished, or the process could not be started.
        KdcoreError: the disk is full or the workspace cannot be written to.
    """
    if not (study.path / "report.json").is_file():
        raise RunError(f"{study.id}: is not finished, so there is nothing to deploy yet. Its state is {study.state!r}.")
    deployment = DeploymentFolder(deployment_folder(workspace, study))
    if not deployment.start():
        raise deployment.still_running()
    return deployment


def files_of(folder: Path, form: Form) -> list[Path]:
    """A form's network and the descriptions that have its name, the network first; empty where it has no file of its own or is not offered."""
    if not form.file or form.kind == "bf16":
        return []
    network = folder / form.file
    beside = [
        path
        for path in files_in(folder, JOB_FILES)
        if path.parent == network.parent
        and path != network
        and path.name.partition(".")[0] == network.name.partition(".")[0]
    ]
    return [path for path in (network, *beside) if path.is_file() and path.suffix in TITLES]


def share_done(job: Status, networks: Sequence[str]) -> float:
    """How much of a deployment is done, in [0, 1]: the pieces of each network, then speeds and descriptions, each taken to be as long.

    Args:
        job: its status.
        networks: names of the runs that are exported, in order.
    """
    whole = len(networks) * len(PIECES) + len(LAST)
    inside = min(1.0, job.done / job.total) if job.total else 0.0
    if job.stage in LAST:
        return (len(networks) * len(PIECES) + LAST.index(job.stage) + inside) / whole
    kind = next(kind for ending, kind in SUBJECTS.items() if job.subject.endswith(ending))
    if job.run not in networks or job.stage is None or (job.stage, kind) not in PIECES:
        return 0.0
    return (networks.index(job.run) * len(PIECES) + PIECES.index((job.stage, kind)) + inside) / whole


def seconds_left(job: Status, share: float, now: float) -> float | None:
    """Seconds until a deployment is done, if it goes on as it did; None before a tenth of it is done."""
    return None if share < 0.1 or job.started is None else (now - job.started) * (1 - share) / share


def stop(folder: Path) -> None:
    """Ask the process to end; what it finished is kept for the next time."""
    with suppress(RunError):  # it has just ended
        DeploymentFolder(folder).stop()
