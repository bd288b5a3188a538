"""`python -m kdcore.training.rank KIND FOLDER`: the process of a study whose batches several processes share.

It starts them, and each of them is this program again: rank 0 is the study's worker, and the others train with it.
"""

import sys
from pathlib import Path

from kdcore.jobs.study_folder import StudyFolder
from kdcore.jobs.worker import main as work
from kdcore.training.processes import led_by_rank_zero, start, wants_start


def main(arguments: list[str]) -> int:
    """Start the processes of a study, or be one of them."""
    hardware = StudyFolder(Path(arguments[1])).settings.hardware
    if wants_start(hardware):
        return start(hardware, ["-m", "kdcore.training.rank", *arguments])
    return led_by_rank_zero(lambda: work(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
