"""The student with all labels on the pages: set up, watched, on the map, in curves and tables."""

import json

import pytest

from kdcore.evaluation.gap import gap_sentence
from kdcore.jobs.status import Status
from kdcore.jobs.study_folder import About, StudyFolder
from kdcore.jobs.workspace import Workspace
from tests.map_study import make_map_study
from tests.pages.conftest import text_of, words_of


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A workspace with one finished study whose students had a quarter of the labels; pages only look at it."""
    folder = tmp_path_factory.mktemp("labels") / "with few labels"
    study = StudyFolder(make_map_study(folder, "few", labels=0.25))
    study.write_about(About(title="Few labels", collection=folder / ".areas/few/collection.yaml", created=2e9))
    study.write_status(Status(state="finished", device="cpu", seconds=321.0))
    return study


@pytest.fixture
def few(made, tmp_path, monkeypatch):
    """The study in the workspace that the pages open."""
    monkeypatch.setenv("KDCORE_WORKSPACE", str(made.path.parent))
    monkeypatch.setattr("kdcore.jobs.workspace.EXAMPLE_FOLDER", tmp_path / "no example")
    return made


@pytest.mark.parametrize("page", ["start", "train", "curves"])
def test_the_gap_and_what_else_the_teacher_had_stand_beside_the_result(few, open_page, page):
    said = gap_sentence(few.report())
    assert "all labels (the students 25.0 % of them)" in said
    assert said in words_of(open_page(page, study="few"))


def test_the_start_page_has_it_in_its_table(few, open_page):
    mean_ap = few.report()["arms"]["all_labels"]["mean_ap"]
    assert f"| Student with all labels | {100 * mean_ap:.1f} |" in words_of(open_page("start", study="few"))


def test_the_train_page_lists_its_run(few, open_page):
    runs = open_page("train", study="few").table[-1].value
    assert "Student with all labels, seed 0" in runs.index


def test_the_map_has_its_mask(few, open_page):
    at = open_page("map", study="few")
    at.selectbox(key="right").select("all_labels").run()
    assert "right of it what the student with all labels marked" in words_of(at)
    (component,) = at.get("component_instance")
    assert "mask-all-labels-s0" in json.loads(component.proto.json_args)["feature_group"]


def test_the_runs_page_has_a_column_where_a_study_has_it(few, workspace, open_page, monkeypatch):
    """`workspace` is another one, in which no study has such a student."""
    assert "All labels" not in open_page("runs").dataframe[0].value
    monkeypatch.setenv("KDCORE_WORKSPACE", str(few.path.parent))
    row = open_page("runs").dataframe[0].value.set_index("Study").loc["Few labels"]
    assert row["All labels"] == round(100 * few.report()["arms"]["all_labels"]["mean_ap"], 1)


class TestTheForm:
    @pytest.mark.parametrize(("address", "wanted"), [({}, True), ({"upper_bound": "false"}, False)])
    def test_trains_it_unless_it_is_left_out(self, workspace, open_page, started, address, wanted):
        at = open_page("train", labels="25", **address)
        next(button for button in at.button if button.label == "Launch").click().run()
        assert Workspace().study(started[0]).settings.trains_all_labels is wanted

    def test_has_nothing_to_leave_out_where_students_have_all_labels(self, workspace, open_page):
        at = open_page("train")
        assert at.toggle(key="upper_bound").disabled
        at.number_input(key="labels").set_value(25).run()
        assert not at.toggle(key="upper_bound").disabled
        assert "Student with all labels" not in text_of(at)
