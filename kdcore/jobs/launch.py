"""Make studies, once for each launch, or once more with a longer teacher, and say when it is their turn. Never imports torch."""

import time
from pathlib import Path
from typing import Literal

from kdcore.errors import RunError
from kdcore.jobs import naming, slurm
from kdcore.jobs.devices import host, kind_of
from kdcore.jobs.locks import holding
from kdcore.jobs.plan import run_name
from kdcore.jobs.status import ACTIVE, Status
from kdcore.jobs.study_folder import About, StudyFolder
from kdcore.jobs.workspace import Workspace
from kdcore.settings import StudySettings

LONGER = 2  # times the steps of the teacher's training


def create(
    workspace: Workspace,
    title: str,
    collection: Path | Literal["demo"],
    settings: StudySettings,
    token: str,
    demo_seed: int = 0,
) -> StudyFolder:
    """Make a study's folder, once for each token; see `kdcore.jobs.naming.create`."""

    def begin(folder: Path, about: About) -> None:
        status = Status(queued=about.created, device=kind_of(settings.hardware), host=host())
        StudyFolder.begin(folder, settings, about).write_status(status)

    return workspace.study(naming.create(workspace, "study", title, collection, token, demo_seed, begin).name)


def wait_for_slurm(study: StudyFolder) -> None:
    """Let a study wait for processes of Slurm's.

    Raises:
        RunError: it is still stopping.
    """
    if study.alive:
        if study.cancel_file.exists():
            raise RunError(f"{study.path}: is still saving its state. Start it again when it has stopped.")
        return  # the new ones join in
    study.forget_stop()
    changes = {
        "state": "queued",
        "message": "",
        "queued": time.time(),
        "launched": None,
        "started": None,
        "ended": None,
    }
    status = study.said() or Status()
    study.write_status(status.model_copy(update=changes | {"host": "", "stage": None} | study.as_queued()))


def start_in_slurm(study: StudyFolder, tasks: int) -> None:
    """Submit as many processes as are to share a study; does nothing while some wait or run.

    Raises:
        SettingsError: Slurm is not offered, or refuses it.
        RunError: the study cannot be used, or is still stopping.
    """

    def refused(reason: str) -> None:
        study.write_status(study.status.model_copy(update={"state": "failed", "message": reason}))

    study.check_usable()
    with holding(study.launch_lock, f"{study.id}: is being started by somebody else."):
        if study.state in ACTIVE and slurm.queued(study.path):  # else those that Slurm still has are about to end
            return
        wait_for_slurm(study)
        if not study.alive:
            command = ["runs", "work", study.id, "--workspace", str(study.path.parent)]
            slurm.start_array(study.path, command, tasks, refused, study.settings.hardware.nodes)


def resume(study: StudyFolder) -> None:
    """Let a study that was stopped, interrupted or failed go on from where it was: in Slurm if it was there and that is offered.

    Raises:
        RunError: it cannot be used, or its process is still busy with stopping.
        SettingsError: Slurm refuses it.
    """
    tasks = slurm.tasks_of(study.path)
    if tasks is None:
        study.resume()
    else:
        start_in_slurm(study, tasks)


def queue_position(study: StudyFolder) -> int | None:
    """How many studies wait for the same device before this one: 0 is next; None if it does not wait."""
    own = study.status
    if own.state != "queued":
        return None
    before = 0
    for other in Workspace(study.path.parent).folders():
        if other.id == study.id:
            continue
        try:
            job = other.status
        except RunError:
            continue  # a broken neighbour waits for nothing
        same_device = (job.device, job.host) == (own.device, own.host)
        before += job.state == "queued" and same_device and (job.queued, other.id) < (own.queued, study.id)
    return before


def with_longer_teacher(study: StudyFolder) -> StudySettings:
    """The study's settings, with a teacher that begins from the existing one's weights and is trained for twice as many steps.

    Everything else stays the same, so that the two studies differ in the teacher only.

    Raises:
        RunError: the teacher's weights are gone, or they are an ONNX file, which cannot be trained.
    """
    settings = study.settings
    teacher = settings.teacher
    starts = teacher.checkpoints or tuple(study.run(run_name("teacher", seed)).best for seed in teacher.seeds)
    for file in starts:
        check_trainable(file)
    seeds = teacher.seeds if len(teacher.seeds) == len(starts) else tuple(range(len(starts)))
    budget = teacher.budget.model_copy(update={"steps": LONGER * teacher.budget.steps})
    longer = {"start": starts, "checkpoints": (), "seeds": seeds, "budget": budget}
    return settings.model_copy(update={"teacher": teacher.model_copy(update=longer)})


def check_trainable(file: Path) -> None:
    """Refuse weights that cannot be trained on.

    Raises:
        RunError: the file is gone, or an ONNX file.
    """
    if file.suffix.lower() == ".onnx":
        raise RunError(
            f"{file}: an ONNX file can only predict and cannot be trained here. Train it on where it was made, or train a teacher here."
        )
    if not file.is_file():
        raise RunError(f"{file}: the teacher's weights are not there any more, so it cannot be trained on.")
