"""`python -m tests.training.together RUN`: a run in as many processes as its settings name; rank 0 prints the steps it has done."""

import signal
import sys
from pathlib import Path

from kdcore.errors import RunError
from kdcore.imports import large_imports
from kdcore.jobs.progress import Progress, Stage
from kdcore.jobs.store import RunDirectory
from kdcore.training.processes import PeerLostError, led_by_rank_zero, start, wants_start


def report(progress: Progress) -> None:
    if progress.stage is Stage.TRAINING:
        print(progress.done, flush=True)


def work(run: RunDirectory) -> int:
    with large_imports():
        from kdcore.training.run import execute

    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as a study's process, it ends when it has said why
    try:
        execute(run, report)
    except PeerLostError:
        raise
    except RunError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def main(arguments: list[str]) -> int:
    run = RunDirectory(Path(arguments[0]))
    if wants_start(run.settings.hardware):
        return start(run.settings.hardware, ["-m", "tests.training.together", *arguments])
    return led_by_rank_zero(lambda: work(run))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
