"""What a study's process does: wait for a device, make the demo area where one is asked for, run the study, write its page.

Torch is imported only when a device is free: a waiting process is small.
"""

import time
from typing import Any

from kdcore.errors import RunError, Stopped
from kdcore.jobs.devices import Devices, take
from kdcore.jobs.launch import queue_position
from kdcore.jobs.progress import Progress, Report, Stage, ignore
from kdcore.jobs.study_folder import StudyFolder
from kdcore.jobs.worker import Session, do
from kdcore.jobs.workspace import Workspace
from kdcore.ownership import RECORD, NotOursError
from kdcore.training.processes import threads

ASK_EVERY = 0.3  # seconds between looks at the queue


def work(
    study: StudyFolder, report: Report = ignore, in_queue: bool = True, forget_stop: bool = False
) -> dict[str, Any]:
    """Do whatever of a study is not done yet, in this process.

    Args:
        study: made by `kdcore.jobs.launch.create` or `StudyFolder.begin`.
        report: is told what happens.
        in_queue: wait until the device is free.
        forget_stop: an earlier wish to stop was not for this process.

    Returns:
        The study's report.

    Raises:
        TakenError: another process works on it.
        Stopped: someone asked for it.
        KdcoreError: anything the user can mend.
    """
    found: list[dict[str, Any]] = []
    do(study, lambda job, session: found.append(in_turn(study, session, in_queue)), report, forget_stop)
    return found[0]


def work_on_study(study: StudyFolder, session: Session) -> None:
    """The work of a study's own process."""
    in_turn(study, session)


def in_turn(study: StudyFolder, session: Session, in_queue: bool = True) -> dict[str, Any]:
    """Compute a study once its device is free."""
    devices = wait_for_devices(study, session) if in_queue and not all_done(study) else None
    try:
        return compute(study, devices, session)
    finally:
        if devices is not None:
            devices.release()


def all_done(study: StudyFolder) -> bool:
    """Whether every run is finished, so that no device is needed."""
    return all(run.state == "finished" for run in study.progress().runs)


def wait_for_devices(study: StudyFolder, session: Session) -> Devices:
    """Wait for this study's turn, first come first served, and take its devices.

    Raises:
        Stopped: while it waited.
        RunError: this machine does not have them.
    """
    last: int | None = None
    while True:
        if session.stop():
            raise Stopped(f"{study.path}: stopped while it was waiting.")
        position = queue_position(study) or 0
        if position == 0:
            devices = take(Workspace(study.path.parent).devices, study.settings.hardware)
            if devices is not None:
                return devices
        if position != last:
            last = position
            session(Progress("", Stage.WAITING, 0, position, session.journal.status.device))
        time.sleep(ASK_EVERY)


def compute(study: StudyFolder, devices: Devices | None, session: Session) -> dict[str, Any]:
    """Import torch, make the demo area where one is asked for, and run the study."""
    if devices is not None:
        devices.show_only_these()
    name = devices.name if devices else session.journal.status.device
    session.update(state="running", message="", started=time.time(), device=name)
    session(Progress("", Stage.STARTING))
    use_torch_on(study, session)
    from kdcore.data.demo import write_demo
    from kdcore.training.study import run_study
    from kdcore.views.page import write_page

    study.log(f"computes on {session.journal.status.device}")
    about, collection = study.about, study.collection
    earlier = study.page.exists() and not (study.path / RECORD).exists()  # by a version that did not say what it wrote
    if about.demo is not None:
        collection = write_demo(collection, about.demo, session)
    values = run_study(collection, study.settings, study.path, session, session.stop)
    session(Progress("", Stage.REPORT, 0, 1))
    try:
        write_page(study.path, values, overwrite=earlier)
    except NotOursError as error:
        study.log(f"{error} `kdcore report` does so.")
    return values


def use_torch_on(study: StudyFolder, session: Session) -> None:
    """Import torch, let it use the cores that this process has, and check that it finds the GPU it was given.

    Raises:
        RunError: the study asks for a GPU that torch cannot use.
    """
    import torch

    torch.set_num_threads(threads())
    if session.journal.status.device != "cpu" and not torch.cuda.is_available():
        if study.settings.hardware.device == "cuda":
            raise RunError(
                f"{study.path}: asks for a GPU, but the installed torch {torch.__version__} cannot use one here. "
                "Install a build for this machine's driver, or choose the device auto or cpu."
            )
        session.update(device="cpu")
