"""What the Data page is told of a collection."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from kdcore.errors import RunError
from kdcore.jobs.progress import Progress, Stage, ignore
from kdcore.jobs.question import DataLook
from kdcore.settings import SplitSettings
from kdcore.ui import data_source
from kdcore.views.data_overview import overview
from tests.conftest import write_collection
from tests.jobs.studies import wait_for


@pytest.fixture(scope="module")
def by_block(tmp_path_factory):
    """Four scenes of 512 px, cut into 2 x 4 blocks of 256 x 128 px: the left half trains, the right one tests."""
    split = SplitSettings(by="block", grid=(2, 4), train=("r*c1",), validation=("r1c4",), test=("r2c4",), buffer=16)
    return write_collection(tmp_path_factory.mktemp("blocks"), size=512, split=split)


def area(rectangles, part):
    return sum(box["height"] * box["width"] for box in rectangles if box["part"] == part)


def test_rectangles_tell_what_each_part_uses(by_block):
    found = overview(by_block)
    assert found["error"] is None
    rectangles = found["collection"]["scenes"][0]["rectangles"]
    # two blocks train; a crop's distance (128 px) from the right quarter does not reach them
    assert area(rectangles, "train") == 512 * 128
    assert area(rectangles, "test") == 256 * 128
    assert area(rectangles, "validation") == (256 - 128) * 128  # keeps a crop's distance from the test block below
    assert area(rectangles, "buffer") == 512 * 128 + 2 * 256 * 128  # all that is named in the split


def test_pictures_show_imagery_and_its_labels(by_block):
    pictures = overview(by_block)["collection"]["pictures"]
    assert [picture["part"] for picture in pictures] == ["train", "validation", "test"]
    imagery, labels = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(pictures[0][key].partition(",")[2]))))
        for key in ("imagery", "labels")
    )
    assert imagery.shape == labels.shape
    assert (imagery != labels).any()


def test_a_folder_without_settings_comes_with_a_proposal(by_block):
    (by_block.parent / "copy").mkdir()
    for folder in ("images", "masks"):
        (by_block.parent / "copy" / folder).symlink_to(by_block.parent / folder)
    found = overview(by_block.parent / "copy")
    assert "split:" in found["proposal"]
    assert len(found["collection"]["scenes"]) == 4


def test_a_look_says_what_it_does(by_block):
    told = []
    overview(by_block, told.append)
    assert Progress("", Stage.DRAWING, subject="test") in told


def test_a_job_answers_and_leaves_nothing_behind(by_block, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    told = []
    assert DataLook.ask({"path": str(by_block), "demo": None}, told.append)["collection"]["name"] == "small"
    assert told[0].stage in Stage
    wait_for(lambda: list(tmp_path.iterdir()) == [])


def test_a_job_ends_with_whoever_asked(by_block, monkeypatch, tmp_path):
    """As when a viewer leaves the page: Streamlit raises in what is told."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    class Left(BaseException):
        pass

    def leave(progress):
        raise Left

    with pytest.raises(Left):
        DataLook.ask({"path": str(by_block), "demo": None}, leave)
    wait_for(lambda: list(tmp_path.iterdir()) == [])


def test_the_dashboard_asks_once_until_a_file_changes(by_block, monkeypatch):
    asked = []
    ask = DataLook.ask
    monkeypatch.setattr(DataLook, "ask", lambda *a: asked.append(1) or ask(*a))
    said = []
    first = data_source.overview(by_block.parent, said.append)
    assert data_source.overview(by_block.parent, said.append) is first
    assert (len(asked), bool(said)) == (1, True)
    (by_block.parent / "images/a.tif").touch()
    data_source.overview(by_block.parent, said.append)
    assert len(asked) == 2


def test_an_error_of_the_user_s_comes_back_as_one(tmp_path):
    with pytest.raises(RunError, match="there is no such file or folder"):
        data_source.overview(tmp_path / "nothing", ignore)


def test_a_process_that_breaks_down_is_told_in_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr("kdcore.jobs.job.WORKER", "kdcore.no_such_module")
    with pytest.raises(RunError, match=r"could not start: .*No module named"):
        data_source.overview(tmp_path, ignore)
