"""One of a sweep's processes: `python -m kdcore.training.sweep_worker SWEEP INDEX`. Torch is imported once it holds its lock."""

import os
import sys
import time
import traceback
from pathlib import Path

from kdcore.errors import KdcoreError, Stopped
from kdcore.runs.devices import host
from kdcore.runs.locks import TakenError, holding
from kdcore.runs.sweep_folder import SweepFolder, WorkerStatus
from kdcore.training.journal import StopWish

WRITE_EVERY = 0.5  # seconds between versions of the status
ALREADY_WORKED_ON = 3


def work(sweep: SweepFolder, index: int) -> None:
    """Do a worker's share, with status and log as everybody expects them.

    Raises:
        TakenError: another process is this worker.
        Stopped: someone asked for it.
        KdcoreError: anything the user can mend.
    """
    stop = StopWish(sweep)
    taken = f"{sweep.path}: worker {index} is another process already."
    with holding(sweep.worker_lock(index), taken), stop.listening():
        status = WorkerStatus(state="running", stage="starting")
        sweep.write_worker(index, status)
        written = time.monotonic()

        def tell(trial: int | None, stage: str, done: int, total: int) -> None:
            nonlocal status, written
            new = stage != status.stage
            status = WorkerStatus(state="running", trial=trial, stage=stage, done=done, total=total)
            if new or time.monotonic() - written > WRITE_EVERY:
                sweep.write_worker(index, status)
                written = time.monotonic()

        def end(state: str, message: str = "") -> None:
            sweep.write_worker(index, WorkerStatus.model_validate({"state": state, "message": message}))

        sweep.log(f"worker {index} started on {host()}, process {os.getpid()}")
        try:
            from kdcore.training.sweep import work_on_sweep

            work_on_sweep(sweep, index, tell, stop)
        except (Stopped, KeyboardInterrupt) as error:
            end("stopped")
            raise Stopped(f"{sweep.path}: was stopped on request.") from error
        except KdcoreError as error:
            end("failed", str(error))
            raise
        except Exception as error:
            end("failed", f"{type(error).__name__}: {error}")
            sweep.log(traceback.format_exc())
            raise
        end("ended")


def main() -> int:
    """Work on the sweep named on the command line."""
    if len(sys.argv) != 3 or not sys.argv[2].isdigit():
        print("usage: python -m kdcore.training.sweep_worker SWEEP INDEX", file=sys.stderr)  # noqa: T201
        return 2
    sweep, index = SweepFolder(Path(sys.argv[1])), int(sys.argv[2])
    try:
        work(sweep, index)
    except TakenError:
        return ALREADY_WORKED_ON
    except Stopped:
        sweep.log(f"worker {index} stopped on request")
    except KdcoreError as error:
        sweep.log(f"worker {index} failed: {error}")
        return 2
    except Exception:  # its traceback is in the log
        return 1
    else:
        sweep.log(f"worker {index} ended")
    return 0


if __name__ == "__main__":
    sys.exit(main())
