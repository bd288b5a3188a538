"""Start, stop, resume and delete studies, from any process; none of it depends on the process that asked.

A worker is a detached process: it survives the end, however it comes, of the server or terminal that started it.
"""

import subprocess
import threading
import time
from pathlib import Path
from typing import Literal

from kdcore.errors import KdcoreError, RunError
from kdcore.files import explain_write_error
from kdcore.runs.detached import start_detached
from kdcore.runs.devices import host, kind_of
from kdcore.runs.locks import TakenError, held, holding
from kdcore.runs.naming import appear, clean_title, hide, once, remove_hidden
from kdcore.runs.study_folder import LAUNCH_SECONDS, About, JobStatus, StudyFolder
from kdcore.runs.workspace import RESERVED, Workspace
from kdcore.settings import StudySettings

WORKER = "kdcore.training.worker"  # by its name: this module never imports torch, and training comes after it
ALREADY_WORKED_ON = 3  # exit code of a worker that found another one


def create(
    workspace: Workspace,
    title: str,
    collection: Path | Literal["demo"],
    settings: StudySettings,
    token: str,
    demo_seed: int = 0,
) -> StudyFolder:
    """Make a study's folder, once for each token.

    Args:
        workspace: where.
        title: any text; the folder's name is made from it.
        collection: a collection's folder or YAML file, or 'demo' for a procedural area.
        settings: of the study.
        token: of this launch, made when the form was shown: a second call with it gives the same study.
        demo_seed: of the procedural area.

    Raises:
        SettingsError: no title, or a token that is no slug.
        RunError: the workspace cannot be written to, or the other call with this token failed.
    """
    about = About(
        title=clean_title(title),
        collection=None if collection == "demo" else Path(collection).expanduser().absolute(),
        demo=demo_seed if collection == "demo" else None,
        created=time.time(),
    )

    def make() -> str:
        def fill(folder: Path) -> None:
            job = JobStatus(state="queued", queued=about.created, device=kind_of(settings.hardware), host=host())
            StudyFolder.begin(folder, settings, about).write_job(job)

        return appear(workspace.path, about.title, "study", RESERVED, fill).name

    return workspace.study(once(workspace, token, make))


def start(study: StudyFolder) -> None:
    """Start a worker for a study. Nothing happens if one lives or was started a moment ago.

    Raises:
        RunError: the study is read-only or broken, or no process could be started.
        KdcoreError: the folder cannot be written to.
    """
    check_usable(study)
    with holding(study.path / "launch.lock", f"{study.id}: is being started by somebody else."):
        job = study.derived_job()
        launched = job.launched is not None and time.time() - job.launched < LAUNCH_SECONDS
        if not study.alive and not (job.state == "queued" and launched):
            spawn(study, job)


def resume(study: StudyFolder) -> None:
    """Let a study that was stopped, interrupted or failed go on from its last saved state; it queues anew.

    Raises:
        RunError: as for `start`, or its worker is still busy with stopping.
    """
    check_usable(study)
    if study.alive and study.cancel_file.exists():
        raise RunError(f"{study.id}: is still saving its state. Resume it when it has stopped.")
    study.cancel_file.unlink(missing_ok=True)
    start(study)


def spawn(study: StudyFolder, before: JobStatus) -> None:
    """Put the study at the end of the queue and start its worker, detached from this process."""
    now = time.time()
    hardware = study.settings.hardware
    study.write_job(
        JobStatus(
            state="queued",
            device=kind_of(hardware),
            host=host(),
            queued=before.queued if before.state == "queued" else now,
            launched=now,
            seconds=before.seconds,
        )
    )
    try:
        worker = start_detached(WORKER, study.path, study.log_file)
    except OSError as error:
        message = f"{study.path}: its worker could not be started ({error.strerror or error})."
        study.write_job(JobStatus(state="failed", message=message, queued=now, seconds=before.seconds))
        raise RunError(message) from error
    threading.Thread(target=see_off, args=(worker, study, now), daemon=True).start()


def see_off(worker: "subprocess.Popen[bytes]", study: StudyFolder, launched: float) -> None:
    """Wait for a worker so that no zombie is left, and say so if it died before it could say anything."""
    code = worker.wait()
    if code in (0, ALREADY_WORKED_ON):
        return
    try:
        job = study.derived_job()
        if job.state == "queued" and job.launched == launched and not study.alive:
            last = study.log_tail(1)
            study.write_job(
                job.model_copy(update={"state": "failed", "message": f"its worker could not start: {last}"})
            )
    except KdcoreError:
        return  # the folder is gone or cannot be written to


def stop(study: StudyFolder) -> None:
    """Ask the worker to save its state and end; one that only waits ends at once. Resume goes on exactly there.

    Raises:
        RunError: nothing of this study is running or waiting.
    """
    check_usable(study)
    state = study.state
    if state not in ("queued", "running"):
        raise RunError(f"{study.id}: is not running (its state is {state!r}), so there is nothing to stop.")
    try:
        study.cancel_file.touch()
    except OSError as error:
        raise explain_write_error(study.cancel_file, error) from error
    if state == "queued" and not study.alive:
        job = study.derived_job()
        study.write_job(job.model_copy(update={"state": "stopped", "message": "stopped while it was waiting"}))


def delete(study: StudyFolder) -> None:
    """Remove a study with everything in it.

    Raises:
        RunError: it is read-only, or a process works on it.
        KdcoreError: the workspace cannot be written to.
    """
    check_deletable(study)
    try:
        with study.working():  # so that no worker comes to life in it
            hide(study.path)
    except TakenError as error:
        raise still_alive(study) from error
    except OSError as error:
        raise explain_write_error(study.path, error) from error
    remove_hidden(study.path.parent)


def check_deletable(study: StudyFolder) -> None:
    """Refuse the bundled example, and a study that is running, waiting, or being exported.

    Raises:
        RunError: says which.
    """
    if study.read_only:
        raise read_only(study)
    if study.alive or study.state == "queued":
        raise still_alive(study)
    if held(study.path / "deploy" / "alive.lock"):
        raise RunError(f"{study.id}: its networks are being exported and measured. Stop that on the Deploy page first.")


def archive(study: StudyFolder, archived: bool) -> None:
    """Put a study aside, or take it back.

    Raises:
        RunError: it is read-only or broken.
    """
    check_usable(study)
    study.write_about(study.about.model_copy(update={"archived": archived}))


def queue_position(study: StudyFolder) -> int | None:
    """How many studies wait for the same device before this one: 0 is next; None if it does not wait."""
    own = study.derived_job()
    if own.state != "queued":
        return None
    before = 0
    for other in Workspace(study.path.parent).folders():
        if other.id == study.id:
            continue
        try:
            job = other.derived_job()
        except RunError:
            continue  # a broken neighbour waits for nothing
        same_device = (job.device, job.host) == (own.device, own.host)
        before += job.state == "queued" and same_device and (job.queued, other.id) < (own.queued, study.id)
    return before


def check_usable(study: StudyFolder) -> None:
    """Refuse the bundled example and broken folders.

    Raises:
        RunError: says which.
    """
    if study.read_only:
        raise read_only(study)
    if study.problem:
        raise RunError(study.problem)


def read_only(study: StudyFolder) -> RunError:
    """The example is not ours to change."""
    return RunError(f"{study.id}: comes with the program and cannot be changed. Start a study of your own.")


def still_alive(study: StudyFolder) -> RunError:
    """A study at work is not deleted."""
    return RunError(f"{study.id}: is running or waiting. Stop it first: kdcore runs stop {study.id}")
