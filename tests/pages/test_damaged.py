"""Damaged studies beside a good one: every page shows the good one, and Runs says which ones are broken."""

import shutil

import pytest

from kdcore.jobs.study_folder import StudyFolder
from kdcore.jobs.sweep_claims import Claims
from tests.jobs.test_damaged import DAMAGE, damage
from tests.pages.conftest import words_of
from tests.training.sweeps import put_sweep


@pytest.fixture
def damaged(workspace):
    """Beside the good study 'town' newer ones, each with another file of it damaged, in turn in every way."""
    ways = list(DAMAGE.values())
    names = ("study.yaml", "about.json", "job.json", "data.json", "report.json", "layers/layers.json")
    for number, name in enumerate(names):
        content = ways[number % 4]
        folder = workspace / f"bad-{number}"
        shutil.copytree(workspace / "town", folder)
        damage(folder / name, content)
    shutil.rmtree(workspace / "hostile")
    return workspace


@pytest.mark.parametrize("page", ["start", "map", "curves", "deploy", "train"])
def test_every_page_shows_the_good_one(damaged, open_page, page):
    at = open_page(page, study="town")
    assert not at.exception
    assert not at.error


def test_runs_names_them(damaged, open_page):
    at = open_page("runs")
    assert not at.exception
    states = at.dataframe[0].value["State"].tolist()
    assert states.count("cannot be read") == 5  # what the map shows is no file of the study's own
    assert len(states) == 7
    for folder in damaged.glob("bad-[0-4]"):
        assert StudyFolder(folder).problem.startswith(str(folder))


def test_a_broken_one_that_an_address_names_says_what_is_wrong(damaged, open_page):
    at = open_page("train", study="bad-4")
    assert not at.exception
    assert "report.json" in words_of(at) + " ".join(error.value for error in at.error)


@pytest.mark.parametrize("name", ["sweep.yaml", "about.json", "journal.log", "workers/0.json", "report.json"])
def test_a_damaged_sweep_is_told_on_its_page_and_disturbs_no_other(workspace, open_page, name):
    for number, content in enumerate(DAMAGE.values()):
        bad = put_sweep(workspace / f"sweeps/bad-{number}")
        (bad.path / name).parent.mkdir(exist_ok=True)
        damage(bad.path / name, content)
    good = put_sweep(workspace / "sweeps/good")
    Claims(good).next().lock.release()
    for address in ("good", "bad-0", "bad-3", "bad-7"):
        at = open_page("sweep", sweep=address)
        assert not at.exception
        if address == "good":
            assert not at.error
