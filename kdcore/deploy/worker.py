"""`python -m kdcore.deploy.worker FOLDER`: the process that exports and measures a study's networks.

It takes its lock before torch is imported, so that everybody sees it live, and runs behind everything else on the processor.
"""

import sys
from pathlib import Path

from kdcore.deploy.folder import DeploymentFolder
from kdcore.runs.detached import go_last
from kdcore.runs.locks import TakenError
from kdcore.runs.task import Stage, perform

ALREADY_WORKED_ON = 3


def main(folder: Path) -> int:
    """Do the work of one deployment; 0 when it is finished or stopped, 1 when it failed, 3 when another process does it."""
    deployment = DeploymentFolder(folder)

    def work(stage: Stage) -> str:
        from kdcore.deploy.make import make

        return make(deployment, stage)

    try:
        return perform(deployment, work)
    except TakenError:
        return ALREADY_WORKED_ON


if __name__ == "__main__":
    go_last()
    sys.exit(main(Path(sys.argv[1]).absolute()))
