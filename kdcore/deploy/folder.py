"""Where a study's deployment lies, how far it is, how it is started and stopped. No torch here: pages ask."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from kdcore.errors import RunError
from kdcore.files import explain_write_error
from kdcore.runs.locks import TakenError, holding
from kdcore.runs.study_folder import StudyFolder
from kdcore.runs.task import Task, TaskStatus
from kdcore.runs.workspace import Workspace

FOLDER = "deploy"
READ_ONLY = ".deploy"  # in the workspace: deployments of studies that cannot be written to


@dataclass(frozen=True)
class DeploymentFolder(Task):
    """Reads and writes one deployment's folder. Beside the job's files: the exported networks and `deploy.json`."""

    WORKER: ClassVar[str] = "kdcore.deploy.worker"
    GONE: ClassVar[str] = "The state of this deployment cannot be read. Start it again."
    ENDED: ClassVar[str] = "its process ended without a word. Start it again; finished files are kept."
    WORK: ClassVar[str] = "The process that exports and measures the networks"

    @property
    def workspace(self) -> Workspace:
        """The workspace that it belongs to."""
        return Workspace(self.path.parents[1])

    @property
    def study(self) -> StudyFolder:
        """The study whose networks are deployed.

        Raises:
            RunError: it is gone.
        """
        return self.workspace.study(self.path.name if self.path.parent.name == READ_ONLY else self.path.parent.name)


def deployment_folder(workspace: Workspace, study: StudyFolder) -> Path:
    """The folder of a study's deployment, which need not exist yet: inside the study, or in the workspace if it is read-only."""
    return workspace.path / READ_ONLY / study.id if study.read_only else study.path / FOLDER


def status(folder: Path) -> TaskStatus | None:
    """How far a deployment is; None where it was never started.

    A status that cannot be read is told as a failure, so that a page need not care.
    """
    deployment = DeploymentFolder(folder)
    if not (folder / deployment.FILE).exists():
        return None
    try:
        return deployment.status
    except RunError as error:
        return TaskStatus(state="failed", message=str(error))


def start(workspace: Workspace, study: StudyFolder) -> DeploymentFolder:
    """Start the process that exports and measures a study's networks; it survives this one.

    Raises:
        RunError: it runs already, the study is not finished, or the process could not be started.
        KdcoreError: the disk is full or the workspace cannot be written to.
    """
    if not (study.path / "report.json").is_file():
        raise RunError(f"{study.id}: is not finished, so there is nothing to deploy yet. Its state is {study.state!r}.")
    deployment = DeploymentFolder(deployment_folder(workspace, study))
    running = f"{study.id}: its networks are being exported and measured already."
    before = status(deployment.path)
    if before is not None and before.state == "waiting":
        raise RunError(running)
    try:
        with holding(deployment.lock, running):  # so that a second click is told, and no worker reads half a start
            deployment.cancel.unlink(missing_ok=True)
            deployment.write_status(TaskStatus(created=time.time()))
    except TakenError as error:
        raise RunError(running) from error
    except OSError as error:
        raise explain_write_error(deployment.path, error) from error
    deployment.start()
    return deployment


def stop(folder: Path) -> None:
    """Ask the process to end; what it finished is kept for the next time."""
    if folder.is_dir():
        DeploymentFolder(folder).stop()
