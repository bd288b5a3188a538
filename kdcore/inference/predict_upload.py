"""`python -m kdcore.inference.predict_upload FOLDER`: the process that marks an uploaded GeoTIFF.

It takes its lock before torch is imported, which can take a minute on a busy machine, so that everybody sees it live.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from kdcore.errors import KdcoreError, Stopped
from kdcore.inference.uploads import Upload, UploadStatus
from kdcore.runs.locks import holding
from kdcore.runs.workspace import Workspace

EVERY = 0.5  # seconds between reports


def main(folder: Path) -> int:
    """Do the work of one upload; 0 when it is finished or stopped, 1 when it failed."""
    upload = Upload(folder)
    with holding(upload.lock, f"{folder}: another process works on this."):
        status = upload.status
        reporter = Reporter(upload, status)
        try:
            reporter.stage("starting")(0, 0)
            from kdcore.inference.marking import mark

            note = mark(upload, Workspace(folder.parents[1]), reporter.stage)
            upload.write_status(status.model_copy(update={"state": "finished", "message": note}))
        except Stopped:
            upload.write_status(status.model_copy(update={"state": "stopped"}))
        except KdcoreError as error:
            upload.write_status(status.model_copy(update={"state": "failed", "message": named(error, upload, status)}))
            return 1
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            upload.write_status(status.model_copy(update={"state": "failed", "message": message}))
            raise
    return 0


def named(error: KdcoreError, upload: Upload, status: UploadStatus) -> str:
    """An error's sentence with the file's own name instead of the path it is kept under."""
    return str(error).replace(str(upload.source), status.name)


class Reporter:
    """Writes how far the work is, at most twice a second, and looks whether a person asked to stop."""

    def __init__(self, upload: Upload, status: UploadStatus) -> None:
        self.upload = upload
        self.status = status.model_copy(update={"state": "running"})
        self.written = 0.0

    def stage(self, name: str) -> Callable[[int, int], None]:
        """Reports one stage."""

        def report(done: int, total: int) -> None:
            if self.upload.cancel.exists():
                raise Stopped(f"{self.upload.path}: stopped on request.")
            if done == total or time.monotonic() - self.written > EVERY:
                self.written = time.monotonic()
                self.upload.write_status(self.status.model_copy(update={"stage": name, "done": done, "total": total}))

        return report


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
