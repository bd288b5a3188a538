"""Studies of seconds, and the processes that work on them."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kdcore.jobs.status import Status
from kdcore.jobs.study_folder import About, StudyFolder
from kdcore.jobs.workspace import Workspace
from kdcore.settings import Budget, EvaluationSettings, Recipe, StudySettings, TeacherSettings
from tests.conftest import TINY

PATIENCE = 600.0  # seconds; only what hangs is ended
BUDGET = Budget(steps=6, batch_size=2, crop=64, validate_every=3, save_every=2)


def tiny_study(budget: Budget = BUDGET, **changes: Any) -> StudySettings:
    values = {
        "teacher": TeacherSettings(network=TINY, budget=BUDGET),
        "student": TINY,
        "budget": budget,
        "recipe": Recipe(temperature=2, alpha=0.5),
        "seeds": (0,),
        "evaluation": EvaluationSettings(tile=32, window=64, halo=32),
    }
    return StudySettings(**(values | changes))


def put_study(folder: Path, settings: StudySettings | None = None, job: Status | None = None, **about) -> StudyFolder:
    """A study's folder as a worker would have left it."""
    values = {"title": folder.name, "collection": Path("/nowhere"), "created": 1000.0} | about
    study = StudyFolder.begin(folder, settings or tiny_study(), About(**values))
    if job is not None:
        study.write_status(job)
    return study


def wait_for(condition: Callable[[], Any]) -> Any:
    """What `condition` gives as soon as it is true."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"not true within {PATIENCE} s")


def processes_of(study: StudyFolder) -> list[int]:
    """The processes whose command line names the study's folder, from /proc."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            number = int(entry.name)
            words = (entry / "cmdline").read_bytes().split(b"\0")
            alive = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
            if number != os.getpid() and alive and os.fsencode(study.path) in words:
                found.append(number)
    return found


@contextlib.contextmanager
def workspace_at(path: Path) -> Iterator[Workspace]:
    """A workspace whose workers end with the block."""
    place = Workspace(path)
    yield place
    for study in place.folders():
        for process in processes_of(study):
            os.kill(process, signal.SIGKILL)
