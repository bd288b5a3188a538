"""A worker without a training: it lives until it is asked to stop. `python -m tests.runs.pretend_worker STUDY`."""

import sys
import time
from pathlib import Path

from kdcore.runs.locks import TakenError
from kdcore.runs.study_folder import StudyFolder

study = StudyFolder(Path(sys.argv[1]))
if "cannot start" in study.title:
    sys.exit("ImportError: no torch here")
try:
    with study.working():
        with (study.path / "lives").open("a") as lives:
            lives.write("one more\n")
        study.write_job(study.derived_job().model_copy(update={"state": "running"}))
        deadline = time.monotonic() + 30
        while not study.cancel_file.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        study.cancel_file.unlink(missing_ok=True)
        study.write_job(study.derived_job().model_copy(update={"state": "stopped"}))
except TakenError:
    sys.exit(3)
