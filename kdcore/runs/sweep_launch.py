"""Start and stop a sweep's workers, from any process; none of it depends on the process that asked. Never imports torch."""

import subprocess
import threading

from kdcore.errors import KdcoreError, RunError, SettingsError
from kdcore.files import explain_write_error
from kdcore.runs.detached import start_detached
from kdcore.runs.locks import held, holding
from kdcore.runs.sweep_folder import SweepFolder, WorkerStatus

WORKER = "kdcore.training.sweep_worker"  # by its name: this module never imports torch
MOST_WORKERS = 64
# Two processes whose threads wait for each other's cores are slower than two of one thread each.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def start(sweep: SweepFolder, workers: int) -> list[int]:
    """Start as many workers as are missing; also resumes a sweep that was stopped or killed.

    Args:
        sweep: made by `SweepFolder.begin`.
        workers: how many there are to be.

    Returns:
        The indices of those that were started.

    Raises:
        SettingsError: an unreasonable number of workers.
        RunError: the sweep is still stopping, or no process could be started.
        KdcoreError: the storage cannot be used, or the folder cannot be written to.
    """
    if not 1 <= workers <= MOST_WORKERS:
        raise SettingsError(f"{workers} workers: give a number from 1 to {MOST_WORKERS}.")
    sweep.study()  # a storage that does not answer is told here, not by each worker
    with holding(sweep.path / "launch.lock", f"{sweep.id}: is being started by somebody else."):
        if sweep.cancel_file.exists():
            if sweep.alive:
                raise RunError(f"{sweep.id}: is still saving its state. Start it again when it has stopped.")
            sweep.cancel_file.unlink(missing_ok=True)
        missing = [index for index in range(workers) if not sweep.worker_alive(index)]
        for index in missing:
            start_one(sweep, index)
    return missing


def start_one(sweep: SweepFolder, index: int) -> None:
    """Start one worker, detached from this process."""
    sweep.write_worker(index, WorkerStatus())
    try:
        worker = start_detached(WORKER, sweep.path, sweep.log_file, str(index), environment=ONE_THREAD)
    except OSError as error:
        message = f"{sweep.path}: worker {index} could not be started ({error.strerror or error})."
        sweep.write_worker(index, WorkerStatus(state="failed", message=message))
        raise RunError(message) from error
    threading.Thread(target=see_off, args=(worker, sweep, index), daemon=True).start()


def see_off(worker: "subprocess.Popen[bytes]", sweep: SweepFolder, index: int) -> None:
    """Wait for a worker so that no zombie is left, and say so if it died before it could say anything."""
    if worker.wait() == 0:
        return
    try:
        status = sweep.worker(index)
        if status is not None and status.state == "launched" and not held(sweep.worker_lock(index)):
            message = f"worker {index} could not start: {sweep.log_tail(1)}"
            sweep.write_worker(index, WorkerStatus(state="failed", message=message))
    except KdcoreError:
        return  # the folder is gone or cannot be written to


def stop(sweep: SweepFolder) -> None:
    """Ask all workers to save their state and end; `start` goes on exactly there.

    Raises:
        RunError: none is running.
    """
    if not sweep.alive:
        raise RunError(f"{sweep.id}: no worker is running, so there is nothing to stop.")
    try:
        sweep.cancel_file.touch()
    except OSError as error:
        raise explain_write_error(sweep.cancel_file, error) from error
