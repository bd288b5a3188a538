"""The process that works through a study: `python -m kdcore.training.worker STUDY`. `kdcore study` does the same in a terminal.

Torch is imported only when a device is free: a waiting worker is small.
"""

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from kdcore.errors import KdcoreError, RunError, Stopped
from kdcore.runs.devices import Devices, host, kind_of, take
from kdcore.runs.launch import ALREADY_WORKED_ON, queue_position
from kdcore.runs.locks import TakenError
from kdcore.runs.quota import available_cores
from kdcore.runs.study_folder import JobStatus, StudyFolder
from kdcore.runs.workspace import Workspace
from kdcore.training.journal import Journal, StopWish

Report = Callable[[str, int, int], None]

ASK_EVERY = 0.3  # seconds between looks at the queue
VALIDATION_PATIENCE = 10.0  # seconds that a stop waits for a validation to end, so that no step is lost
STOPPED = "stopped on request; resuming goes on exactly there"


class StopNow(KeyboardInterrupt):
    """Ends what is not a training: nothing of it is worth saving. Runs take it as they take Ctrl-C."""


def work(
    study: StudyFolder,
    report: Report = lambda stage, done, total: None,
    in_queue: bool = True,
    forget_stop: bool = False,
) -> dict[str, Any]:
    """Do whatever of a study is not done yet, with `job.json`, locks and log as everybody expects them.

    Args:
        study: made by `kdcore.runs.launch.create` or `StudyFolder.begin`.
        report: is told stage, done and total.
        in_queue: wait until the device is free.
        forget_stop: an earlier wish to stop was not for this process. A worker cannot know: it may have been stopped while it
            was still being started.

    Returns:
        The study's report.

    Raises:
        TakenError: another process works on it.
        Stopped: someone asked for it.
        KdcoreError: anything the user can mend.
    """
    stop = StopWish(study)
    with study.working(), stop.listening():
        before = study.derived_job()
        if forget_stop:
            study.cancel_file.unlink(missing_ok=True)
        journal = Journal(
            study,
            JobStatus(
                state="queued",
                queued=before.queued if before.state == "queued" and before.queued else time.time(),
                launched=before.launched if before.state == "queued" else None,
                device=kind_of(study.settings.hardware),
                host=host(),
                seconds=before.seconds,
            ),
        )
        journal.open()
        devices = None
        try:
            if in_queue and not all_done(study):
                devices = wait_for_devices(study, journal, stop, report)
            values = compute(study, devices, journal, stop, report)
        except (Stopped, KeyboardInterrupt) as error:
            journal.close("stopped", STOPPED)
            study.cancel_file.unlink(missing_ok=True)
            raise Stopped(f"{study.path}: {STOPPED}.") from error
        except KdcoreError as error:
            journal.close("failed", str(error))
            raise
        except Exception as error:
            journal.close("failed", f"{type(error).__name__}: {error}")
            study.log(traceback.format_exc())
            raise
        finally:
            if devices is not None:
                devices.release()
        study.cancel_file.unlink(missing_ok=True)  # it came too late
        journal.close("finished", "")
        return values


def all_done(study: StudyFolder) -> bool:
    """Whether every run is finished, so that no device is needed."""
    return all(run.state == "finished" for run in study.progress().runs)


def wait_for_devices(study: StudyFolder, journal: Journal, stop: StopWish, report: Report) -> Devices:
    """Wait for this study's turn, first come first served, and take its devices.

    Raises:
        Stopped: while it waited.
        RunError: this machine does not have them.
    """
    told: int | None = None
    while True:
        if stop():
            raise Stopped(f"{study.path}: stopped while it was waiting.")
        position = queue_position(study) or 0
        if position == 0:
            devices = take(Workspace(study.path.parent).devices, study.settings.hardware)
            if devices is not None:
                return devices
        if position != told:
            told = position
            kind = journal.status.device
            waiting = f"waits for {kind}; " + ("it is next" if position == 0 else f"{position} before it")
            journal.update(stage="waiting", message=waiting)
            report(waiting, 0, 1)
        time.sleep(ASK_EVERY)


def compute(
    study: StudyFolder, devices: Devices | None, journal: Journal, stop: StopWish, report: Report
) -> dict[str, Any]:
    """Import torch, make the demo area where one is asked for, and run the study."""
    if devices is not None:
        devices.show_only_these()
    journal.update(
        state="running",
        stage="starting",
        message="",
        started=time.time(),
        device=devices.name if devices else journal.status.device,
    )

    def tell(stage: str, done: int, total: int) -> None:
        journal.update(stage=stage, done=done, total=total)
        report(stage, done, total)
        if stop() and threading.current_thread() is threading.main_thread() and may_break_off(stage, stop):
            raise StopNow

    use_torch_on(study, journal)
    from kdcore.data.demo import write_demo
    from kdcore.training.run import Reporter
    from kdcore.training.study import run_study
    from kdcore.views.page import write_page

    study.log(f"started on {host()}, {journal.status.device}, process {os.getpid()}")
    about, collection = study.about, study.collection
    if about.demo is not None:
        collection = write_demo(collection, about.demo, tell)
    values = run_study(collection, study.settings, study.path, Reporter(tell), stop)
    tell("writing the report", 0, 1)
    write_page(study.path, values)
    return values


def may_break_off(stage: str, stop: StopWish) -> bool:
    """Whether a stop need not wait: a training saves its state after the step, a validation is worth a few seconds."""
    if stage.endswith("training"):
        return False
    waited = time.monotonic() - (stop.since or 0.0)
    return not stage.endswith("scoring validation") or waited > VALIDATION_PATIENCE


def use_torch_on(study: StudyFolder, journal: Journal) -> None:
    """Import torch, let it use the cores that this process has, and check that it finds the GPU it was given.

    Raises:
        RunError: the study asks for a GPU that torch cannot use.
    """
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(available_cores())
    if journal.status.device != "cpu" and not torch.cuda.is_available():
        if study.settings.hardware.device == "cuda":
            raise RunError(
                f"{study.path}: asks for a GPU, but the installed torch {torch.__version__} cannot use one here. "
                "Install a build for this machine's driver, or choose the device auto or cpu."
            )
        journal.update(device="cpu")


def main() -> int:
    """Work on the study named on the command line; what it says goes to the study's log."""
    if len(sys.argv) != 2:
        print("usage: python -m kdcore.training.worker STUDY", file=sys.stderr)  # noqa: T201
        return 2
    study = StudyFolder(Path(sys.argv[1]))
    stages: list[str] = []

    def note(stage: str, done: int, total: int) -> None:
        if stages[-1:] != [stage]:
            stages.append(stage)
            with suppress(KdcoreError):  # a full disk ends the training with a sentence of its own
                study.log(stage)

    try:
        work(study, note)
    except TakenError:
        return ALREADY_WORKED_ON
    except Stopped:
        study.log("stopped on request")
    except KdcoreError as error:
        study.log(f"failed: {error}")
        return 2
    except Exception:  # its traceback is in the log
        return 1
    else:
        study.log("finished")
    return 0


if __name__ == "__main__":
    sys.exit(main())
