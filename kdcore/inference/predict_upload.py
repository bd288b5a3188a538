"""`python -m kdcore.inference.predict_upload FOLDER`: the process that marks an uploaded GeoTIFF.

It takes its lock before torch is imported, which can take a minute on a busy machine, so that everybody sees it live.
"""

import sys
from pathlib import Path

from kdcore.errors import KdcoreError
from kdcore.inference.uploads import Upload
from kdcore.runs.detached import go_last
from kdcore.runs.task import Stage, perform
from kdcore.runs.workspace import Workspace


def main(folder: Path) -> int:
    """Do the work of one upload; 0 when it is finished or stopped, 1 when it failed."""
    upload = Upload(folder)

    def work(stage: Stage) -> str:
        from kdcore.inference.marking import mark

        return mark(upload, Workspace(folder.parents[1]), stage)

    def in_words(error: KdcoreError) -> str:
        """An error's sentence with the file's own name instead of the path it is kept under."""
        return str(error).replace(str(upload.source), upload.status.name)

    return perform(upload, work, in_words)


if __name__ == "__main__":
    go_last()
    sys.exit(main(Path(sys.argv[1])))
