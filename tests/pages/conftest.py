"""Pages run in this process, without a browser, on a workspace that needed no training."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from kdcore.files import write_json
from kdcore.jobs.status import Status
from kdcore.jobs.study_folder import About, StudyFolder
from tests.map_study import make_map_study

FRAME = Path(__file__).parents[2] / "pages/frame.py"
HOSTILE = "<img src=x onerror=alert(1)> **bold** [link](http://example.com) $x$"


@pytest.fixture(scope="session")
def finished_studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with two finished studies: 'town', and 'hostile' with a title full of markup."""
    folder = tmp_path_factory.mktemp("pages") / "studies"
    for name, title, created in (("town", "Town, first try", 2e9), ("hostile", HOSTILE, 1e9)):
        study = StudyFolder(make_map_study(folder, name, classes=("land", "building", "water")))
        collection = folder / ".areas" / name / "collection.yaml"
        study.write_about(About(title=title, collection=collection, created=created))
        study.write_status(Status(state="finished", device="cpu", seconds=321.0))
        report = json.loads((study.path / "report.json").read_text())
        for arm, speed in (("teacher", 0.5), ("alone", 2.0), ("distilled", 2.0)):
            report["arms"][arm]["megapixels_per_second"] = speed
        write_json(study.path / "report.json", report)
    return folder


@pytest.fixture
def workspace(finished_studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished studies that a test may change; the pages look into it."""
    folder = tmp_path / "studies"
    shutil.copytree(finished_studies, folder)
    monkeypatch.setenv("KDCORE_WORKSPACE", str(folder))
    monkeypatch.setattr("kdcore.jobs.workspace.EXAMPLE_FOLDER", tmp_path / "no example")
    return folder


@pytest.fixture
def empty_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace that does not exist yet, and no bundled example."""
    folder = tmp_path / "nothing"
    monkeypatch.setenv("KDCORE_WORKSPACE", str(folder))
    monkeypatch.setattr("kdcore.jobs.workspace.EXAMPLE_FOLDER", tmp_path / "no example")
    return folder


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Ids of the studies whose worker was started; none really is."""
    ids: list[str] = []
    monkeypatch.setattr(StudyFolder, "start", lambda study: ids.append(study.id))
    return ids


@pytest.fixture
def open_page() -> Callable[..., AppTest]:
    """Open a page, with an address, as a browser would; it must not end in an exception."""

    def open_it(page: str, **address: str) -> AppTest:
        at = AppTest.from_file(str(FRAME), default_timeout=600)
        for key, value in address.items():
            at.query_params[key] = value
        at.run()
        at.switch_page(f"{page}.py")
        for key, value in address.items():
            at.query_params[key] = value
        at.run()
        assert not at.exception, at.exception[0].value
        return at

    return open_it


def text_of(at: AppTest) -> str:
    """All sentences on a page, as Markdown."""
    kinds = (at.title, at.subheader, at.markdown, at.caption, at.error, at.warning, at.info, at.success)
    return "\n".join(str(element.value) for elements in kinds for element in elements)


def words_of(at: AppTest) -> str:
    """All sentences on a page, as people read them."""
    return re.sub(r"\\(.)", r"\1", text_of(at))


def primary_buttons(at: AppTest) -> list[str]:
    """Labels of the primary buttons on a page."""
    return [button.label for button in at.button if button.proto.type == "primary"]
