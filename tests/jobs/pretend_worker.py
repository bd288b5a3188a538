"""A worker without a training: it lives until it is asked to stop. `python -m tests.jobs.pretend_worker KIND STUDY`."""

import sys
import time
from pathlib import Path

from kdcore.jobs.locks import TakenError
from kdcore.jobs.study_folder import StudyFolder

study = StudyFolder(Path(sys.argv[2]))
if "cannot start" in study.title:
    sys.exit("ImportError: no torch here")
try:
    with study.working():
        with (study.path / "lives").open("a") as lives:
            lives.write("one more\n")
        study.write_status(study.status.model_copy(update={"state": "running"}))
        deadline = time.monotonic() + 300
        while not study.cancel_file.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        study.cancel_file.unlink(missing_ok=True)
        study.write_status(study.status.model_copy(update={"state": "stopped"}))
except TakenError:
    sys.exit(3)
