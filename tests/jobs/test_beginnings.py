"""A command that is killed at its very beginning can be given again."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from kdcore.data.demo import write_demo
from kdcore.errors import KdcoreError
from kdcore.files import HALF_WRITTEN
from kdcore.jobs.store import RunDirectory
from kdcore.jobs.study_folder import About, StudyFolder
from kdcore.jobs.sweep_folder import SweepFolder
from tests.conftest import run_settings
from tests.faults.process import Fault, watch
from tests.jobs.studies import tiny_study
from tests.training.sweeps import sweep_settings

ABOUT = About(title="town", collection=Path("/data/collection.yaml"), created=1000.0)


def study(path: Path) -> None:
    StudyFolder.begin(path, tiny_study(), ABOUT)


def sweep(path: Path) -> None:
    SweepFolder.begin(path, sweep_settings(), ABOUT)


def run(path: Path) -> None:
    RunDirectory.create(path, run_settings(Path("/data/collection.yaml")))


def demo(path: Path) -> None:
    write_demo(path, size=64)


def killed(begin: Callable[[Path], None], place: Path, number: int) -> bool:
    """Whether a process was killed before its operation of this number; else it came to its end."""

    def work() -> None:
        watch(place, Fault(number))
        begin(place / "out")
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


@pytest.mark.parametrize(("begin", "most"), [(study, 99), (sweep, 99), (run, 99), (demo, 20)])
def test_a_command_that_was_killed_at_any_moment_can_be_given_again(tmp_path, monkeypatch, begin, most):
    for name in ("make_district", "write_district"):  # which take their time, and come later
        monkeypatch.setattr(f"kdcore.data.demo.{name}", lambda *_: (None, None, None))
    for number in range(1, most):
        place = tmp_path / str(number)
        place.mkdir()
        if not killed(begin, place, number):
            break
        begin(place / "out")
        assert not list(place.rglob(f"{HALF_WRITTEN}*"))
    assert number >= 8


@pytest.mark.parametrize("begin", [study, sweep])
def test_a_persons_own_about_is_left_alone(tmp_path, begin):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/about.json").write_text('{"me": "and my farm"}')
    with pytest.raises(KdcoreError, match=r"about\.json"):
        begin(tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["about.json"]
    assert "farm" in (tmp_path / "out/about.json").read_text()
