"""Questions end with whoever asked, however that ends, and leave nothing behind."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from kdcore.jobs import question
from kdcore.jobs.locks import holding
from kdcore.jobs.progress import ignore
from kdcore.jobs.question import PREFIX, YOUNG, Question, forget_the_dead
from tests.jobs.studies import wait_for

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Endless(Question):
    """Nobody ever gets its answer."""

    KIND: ClassVar[str] = "tests.jobs.test_question:Endless"
    WORK: ClassVar[str] = "tests.jobs.test_question:go_on"


@dataclass(frozen=True)
class Answered(Question):
    """Its answer is what was asked."""

    KIND: ClassVar[str] = "tests.jobs.test_question:Answered"
    WORK: ClassVar[str] = "tests.jobs.test_question:give_back"


def give_back(job, session) -> None:
    job.answer(job.settings)


def go_on(job, session) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(job.settings["pids"]).write_text(f"{os.getpid()} {child.pid} {job.path}")
    time.sleep(600)


def lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    return tmp_path / "tmp"


def test_ends_with_children_and_folder_when_the_asker_is_killed(tmp_path):
    pids = tmp_path / "pids"
    code = f"""
from kdcore.jobs.progress import ignore
from tests.jobs.test_question import Endless
Endless.ask({{"pids": {str(pids)!r}}}, ignore)
"""
    asker = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    worker, child, folder = wait_for(lambda: pids.exists() and pids.read_text().split())
    assert lives(int(worker))
    assert lives(int(child))
    asker.send_signal(signal.SIGKILL)
    asker.wait()
    wait_for(lambda: not lives(int(worker)) and not lives(int(child)))
    assert not Path(folder).exists()


def test_is_answered_and_leaves_nothing(own_temporary_folder, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert Answered.ask({"a": [1]}, ignore) == {"a": [1]}
    wait_for(lambda: not list(own_temporary_folder.iterdir()))


def test_folders_of_the_dead_are_removed_and_those_of_the_living_stay(own_temporary_folder, monkeypatch):
    """An asker and its process that are both killed can remove nothing themselves."""
    dead, waited_for, worked_on, young = (Question(own_temporary_folder / f"{PREFIX}{name}") for name in "abcd")
    for one in (dead, waited_for, worked_on, young):
        one.path.mkdir()
        for lock in (one.asker_lock, one.lock):
            lock.touch()
    (own_temporary_folder / "kdcore-mine").mkdir()
    with holding(waited_for.asker_lock, ""), holding(worked_on.lock, ""):
        forget_the_dead()
        assert dead.path.exists()  # as young as the others
        monkeypatch.setattr(question, "YOUNG", 0.0)
        os.utime(young.path, (time.time() + YOUNG,) * 2)
        forget_the_dead()
        left = {path.name for path in own_temporary_folder.iterdir()}
        assert left == {*(one.path.name for one in (waited_for, worked_on, young)), "kdcore-mine"}
