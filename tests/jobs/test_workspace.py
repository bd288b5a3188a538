import os

import pytest

from kdcore.errors import RunError
from kdcore.jobs import workspace as module
from kdcore.jobs.status import Status
from kdcore.jobs.workspace import Workspace
from tests.jobs.studies import put_study


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "EXAMPLE_FOLDER", tmp_path / "package/example")
    return Workspace(tmp_path / "studies")


def test_its_place_is_the_argument_then_the_variable_then_studies(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KDCORE_WORKSPACE", raising=False)
    assert Workspace().path == tmp_path / "studies"
    monkeypatch.setenv("KDCORE_WORKSPACE", str(tmp_path / "elsewhere"))
    assert Workspace().path == tmp_path / "elsewhere"
    assert Workspace(tmp_path / "here").path == tmp_path / "here"


def test_one_that_does_not_exist_yet_holds_nothing(workspace):
    assert workspace.studies() == []
    assert not workspace.path.exists()


def test_studies_come_newest_first_and_hidden_folders_not_at_all(workspace):
    for name, created in (("old", 10.0), ("new", 30.0), ("middle", 20.0), (".deleted-1", 40.0)):
        put_study(workspace.path / name, created=created)
    (workspace.path / "notes").mkdir()
    (workspace.path / "letter.txt").touch()
    assert [study.id for study in workspace.studies()] == ["new", "middle", "old"]


def test_of_many_those_that_changed_last_are_read(workspace):
    """'a' is the oldest, but something has happened to it."""
    for number, name in enumerate("abcd"):
        study = put_study(workspace.path / f"study-{name}", created=10.0 * number, job=Status(state="finished"))
        for file in (study.settings_file, study.status_file):
            os.utime(file, (100 + number, 100 + number))
    os.utime(workspace.path / "study-a/job.json", (200, 200))
    assert [study.id for study in workspace.studies(2)] == ["study-d", "study-a"]
    assert [study.id for study in workspace.studies(2, "Y-B")] == ["study-b"]
    assert [study.id for study in workspace.studies(named="study")] == [f"study-{name}" for name in "dcba"]


def test_a_file_that_is_damaged_later_is_noticed(workspace):
    study = put_study(workspace.path / "one", job=Status(state="finished"))
    os.utime(study.about_file, (100, 100))
    assert (study.state, study.state) == ("finished", "finished")
    study.about_file.write_text("[]")
    assert study.state == "broken"


def test_broken_ones_are_listed_with_the_reason(workspace):
    put_study(workspace.path / "good", job=Status(state="finished"))
    put_study(workspace.path / "unknown-setting").settings_file.write_text("temprature: 3\n")
    put_study(workspace.path / "no-yaml").settings_file.write_text("a: [1\n")
    put_study(workspace.path / "binary").settings_file.write_bytes(b"\xff\xfe\x00")
    put_study(workspace.path / "job").status_file.write_text('{"state": "runn')
    put_study(workspace.path / "wrong-job").status_file.write_text('{"state": "dancing"}')
    put_study(workspace.path / "about").about_file.write_text("[]")
    (put_study(workspace.path / "data").path / "data.json").write_text("17")
    put_study(workspace.path / "with space")
    jobs = {study.id: study.job for study in workspace.studies()}
    assert jobs.pop("good").state == "finished"
    assert {job.state for job in jobs.values()} == {"broken"}
    assert "temprature: is not a setting" in jobs["unknown-setting"].message
    assert "is no valid YAML" in jobs["no-yaml"].message
    assert "is saved in UTF-16, not in UTF-8" in jobs["binary"].message
    assert "job.json: cannot be used" in jobs["job"].message
    assert "state: Input should be" in jobs["wrong-job"].message
    assert "about.json" in jobs["about"].message
    assert "data.json: should hold a JSON object" in jobs["data"].message
    assert "'with space' is no usable name" in jobs["with space"].message
    for study in workspace.studies():  # and whatever a page shows of them is there
        assert study.title
        assert study.created > 0
        assert study.archived is False


@pytest.mark.parametrize(
    "id", ["..", ".", "", "../secret", "/etc", "a/../../secret", ".hidden", "a\0b", "x" * 101, "gone"]
)
def test_an_id_leads_to_a_study_of_this_folder_or_nowhere(workspace, id):
    put_study(workspace.path.parent / "secret")
    put_study(workspace.path / ".hidden")
    put_study(workspace.path / "a")
    with pytest.raises(RunError, match="there is no such study"):
        workspace.study(id)


def test_an_id_finds_its_study(workspace):
    put_study(workspace.path / "banepa-2", title="Banepa, T = 4")
    assert workspace.study("banepa-2").title == "Banepa, T = 4"


def test_the_bundled_example_comes_last_and_cannot_be_shadowed(workspace):
    put_study(module.EXAMPLE_FOLDER, title="Example", created=9e9)
    put_study(workspace.path / "example", title="an impostor")
    put_study(workspace.path / "mine")
    assert [(study.id, study.read_only) for study in workspace.studies()] == [("mine", False), ("example", True)]
    assert workspace.study("example").title == "Example"


def test_a_folder_that_cannot_be_read_is_a_sentence(workspace):
    workspace.path.touch()
    with pytest.raises(RunError, match=r"the workspace cannot be read .*Set KDCORE_WORKSPACE"):
        workspace.studies()


def test_looking_writes_nothing(workspace):
    study = put_study(workspace.path / "study", job=Status(state="running"))
    before = sorted(path for path in workspace.path.rglob("*"))
    _ = [(found.job, found.progress(), found.runs(), found.log_tail()) for found in workspace.studies()]
    assert sorted(path for path in workspace.path.rglob("*")) == before
    assert study.state == "interrupted"


def test_listing_many_studies_parses_their_settings_once(workspace, monkeypatch):
    """A page of studies is drawn every few seconds for each onlooker."""
    for index in range(10):
        study = put_study(workspace.path / f"study-{index}", job=Status(state="finished"))
        for file in study.path.glob("*.*"):
            os.utime(file, (1000, 1000))  # what was written just now is read once more

    def look():
        return [(study.job, study.title, study.progress()) for study in workspace.studies()]

    first = look()
    assert len(first) == 10
    monkeypatch.setattr("kdcore.jobs.study_folder.load_study", lambda file: pytest.fail(f"{file} is parsed again"))
    assert look() == first
    os.utime(workspace.path / "study-0" / "study.yaml", (1, 1))  # what has changed is read
    with pytest.raises(pytest.fail.Exception, match="study-0"):
        look()
