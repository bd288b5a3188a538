"""What a study's process does: wait for a device, make the demo area where one is asked for, run the study, write its page.

Torch is imported only when a device is free: a waiting process is small.
"""

import time
from collections.abc import Callable
from typing import Any

from kdcore.errors import Preempted, RunError, Stopped
from kdcore.imports import large_imports
from kdcore.jobs.devices import Devices, take
from kdcore.jobs.launch import queue_position
from kdcore.jobs.locks import TakenError
from kdcore.jobs.progress import Progress, Report, Stage, ignore
from kdcore.jobs.study_folder import StudyFolder
from kdcore.jobs.worker import Session, StopWish, do
from kdcore.jobs.workspace import Workspace
from kdcore.ownership import RECORD, NotOursError
from kdcore.training.processes import threads

ASK_EVERY = 0.3  # seconds between looks at the queue
LOOK_EVERY = 1.0  # seconds between looks whether another process has left a run


def work(
    study: StudyFolder, report: Report = ignore, in_queue: bool = True, forget_stop: bool = False
) -> dict[str, Any]:
    """Do whatever of a study is not done yet, in this process; where another process leads, take runs that it has not begun.

    Args:
        study: made by `kdcore.jobs.launch.create` or `StudyFolder.begin`.
        report: is told what happens.
        in_queue: wait until the device is free.
        forget_stop: an earlier wish to stop was not for this process.

    Returns:
        The study's report.

    Raises:
        Stopped: someone asked for it.
        KdcoreError: anything the user can mend.
    """
    found: list[dict[str, Any]] = []
    while not found:
        try:
            do(study, lambda job, session: found.append(in_turn(study, session, in_queue)), report, forget_stop)
        except TakenError:
            help_out(study, report, in_queue)
            if study.finished:
                return study.report()
    return found[0]


def help_out(study: StudyFolder, report: Report, in_queue: bool) -> None:
    """Take runs of a study that another process leads, until that one has ended; its status and log are the leader's.

    Raises:
        Stopped: someone asked for it, here or of the leader.
        KdcoreError: what ends the study.
    """
    stop = StopWish(study)

    def should_stop() -> bool:
        return stop() or (not study.alive and study.status.state == "stopped")

    devices: Devices | None = None
    try:
        with stop.listening():
            report(Progress("", Stage.WAITING_FOR_RUNS, 0, 1))
            while study.alive and not should_stop() and not (study.data and (devices or not in_queue)):
                time.sleep(ASK_EVERY)  # the leader reads the data first
                devices = take(Workspace(study.path.parent).devices, study.settings.hardware) if in_queue else None
            if study.alive and not should_stop():
                help_with_runs(study, devices, report, should_stop)
            while study.alive and not should_stop():
                time.sleep(ASK_EVERY)
            if should_stop():
                raise (Preempted if stop.preempted else Stopped)(f"{study.path}: was stopped.")
    finally:
        if devices is not None:
            devices.release()


def help_with_runs(
    study: StudyFolder, devices: Devices | None, report: Report, should_stop: Callable[[], bool]
) -> None:
    """Do every run that is free, also one that is given up, until all are finished or the leader has ended."""
    if devices is not None:
        devices.show_only_these()
    with large_imports():
        import torch

        from kdcore.data.collection import Collection
        from kdcore.training.study import work_on_runs

    torch.set_num_threads(threads())
    collection = Collection.open(study.collection)
    while study.alive and not should_stop():
        if work_on_runs(study.path, study.settings, collection, report, should_stop):
            break
        time.sleep(LOOK_EVERY)


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
    with large_imports():
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
