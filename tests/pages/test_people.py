"""Roles on the pages: a viewer sees, a trainer starts, stops and deletes; and who did what is shown on Runs."""

import time

import pytest

from kdcore.jobs import team
from kdcore.jobs.actions import MOST_BYTES, Action, note_action, recent_actions
from kdcore.jobs.status import Status
from kdcore.jobs.study_folder import About, StudyFolder
from kdcore.jobs.team import Role, may_open, role_of
from kdcore.jobs.workspace import Workspace
from kdcore.settings import STUDY_PRESETS
from kdcore.ui import people, runs_actions
from kdcore.ui.people import NotAllowedError, Person
from tests.conftest import write_collection
from tests.pages.conftest import words_of

VIEWER, TRAINER = Person("bob@example.org", Role.VIEWER), Person("ann@example.org", Role.TRAINER)


@pytest.fixture
def as_person(monkeypatch):
    def become(someone, *, forging=False):
        monkeypatch.setattr(people, "person", lambda: someone)
        if forging:  # the browser's buttons are made to work again
            for module in (
                "runs_actions",
                "watching",
                "launching",
                "deploy_job",
                "own_file",
                "sweep_watching",
                "runs_notes",
            ):
                monkeypatch.setattr(f"kdcore.ui.{module}.locked", lambda: False)

    return become


def button(at, label):
    return next(one for one in at.button if one.label == label)


@pytest.mark.parametrize("page", ["start", "train", "runs", "deploy", "map", "data"])
def test_everything_that_changes_something_is_disabled_for_a_viewer(open_page, workspace, as_person, page):
    free = {"Look again", "Train on this", "Open", "Up", "Choose another folder", "See the map", "Start another study",
            "Next worst tile", "Show", "Log out", "Back to the proposal", "Continue training the teacher", "Keep",
            "Draw points", "Choose tiles"}  # fmt: skip
    as_person(VIEWER)
    address = {"studies": "town"} if page == "runs" else {} if page in ("train", "data") else {"study": "town"}
    at = open_page(page, **address)
    acting = [one for one in at.button if one.label not in free]
    assert all(one.disabled for one in acting), [one.label for one in acting if not one.disabled]
    as_person(TRAINER)
    assert any(not one.disabled for one in open_page(page, **address).button)


def test_a_viewer_is_refused_also_where_the_button_works(open_page, workspace, as_person, started):
    as_person(VIEWER, forging=True)
    at = open_page("start", study="town")
    button(at, "Run it live").click().run()
    assert "Only a trainer" in words_of(at)
    assert started == []
    assert {path.name for path in workspace.iterdir() if not path.name.startswith(".")} == {"town", "hostile"}
    assert recent_actions(Workspace(workspace)) == []


def test_a_viewer_cannot_change_a_note(open_page, workspace, as_person):
    as_person(VIEWER, forging=True)
    at = open_page("runs", studies="town")
    at.text_area[0].set_value("mine")
    button(at, "Save").click().run()
    assert "Only a trainer" in words_of(at)
    assert StudyFolder(workspace / "town").about.note == ""


def test_what_a_trainer_does_is_told_with_name(open_page, workspace, as_person):
    as_person(TRAINER)
    at = open_page("runs", studies="hostile")
    button(at, "Archive").click().run()
    assert StudyFolder(workspace / "hostile").archived
    (done,) = recent_actions(Workspace(workspace))
    assert (done.who, done.what) == (TRAINER.name, "archived")
    assert done.subject.endswith("(hostile)")
    shown = open_page("runs").dataframe[-1].value
    assert list(shown["Who"]) == [TRAINER.name]


def test_deleting_is_refused_and_told(workspace, as_person, monkeypatch):
    """A dialog's button cannot be clicked here, so what it calls is called."""
    study = StudyFolder(workspace / "hostile")
    monkeypatch.setattr(runs_actions.st, "rerun", lambda: None)
    as_person(VIEWER)
    runs_actions.act("deleted", [study], StudyFolder.delete)
    assert study.path.exists()
    as_person(TRAINER)
    runs_actions.act("deleted", [study], StudyFolder.delete)
    assert not study.path.exists()
    assert [(action.who, action.what) for action in recent_actions(Workspace(workspace))] == [(TRAINER.name, "deleted")]


def test_a_viewer_cannot_stop_a_training(open_page, workspace, as_person):
    study = StudyFolder.begin(workspace / "begun", STUDY_PRESETS["quick"], About(title="Begun", demo=0))
    study.write_status(Status(state="queued", device="cpu", queued=1.0, launched=time.time()))
    as_person(VIEWER, forging=True)
    at = open_page("runs", studies="begun")
    button(at, "Stop training").click().run()
    assert not study.cancel_file.exists()
    assert "Only a trainer" in words_of(at)


def test_without_a_login_the_user_of_this_machine_does_it(open_page, workspace, started):
    at = open_page("start", study="town")
    button(at, "Run it live").click().run()
    (done,) = recent_actions(Workspace(workspace))
    assert (done.what, done.subject) == ("started", "Demo, run live")
    assert done.who
    assert len(started) == 1


@pytest.mark.parametrize(
    ("email", "role"),
    [
        ("ann@example.org", Role.TRAINER), ("ANN@Example.org ", Role.TRAINER), ("x@friends.example", Role.VIEWER),
        ("x@sub.friends.example", None), ("friends.example", None), ("@friends.example", None), ("", None),
        ("ann@example.org.evil.example", None), ("eve@example.org", None), (None, None), (["ann@example.org"], None),
    ],
)  # fmt: skip
def test_roles_by_address(workspace, email, role):
    (workspace / "team.yaml").write_text(
        "trainers: [ann@example.org]\nviewers: ['@friends.example', ann@example.org]\n"
    )
    assert role_of({"email": email}, Workspace(workspace)) is role
    assert role_of({"email": email, "email_verified": False}, Workspace(workspace)) is None


def test_no_file_and_a_broken_file_let_nobody_in(workspace, monkeypatch, tmp_path):
    somebody = {"email": "ann@example.org"}
    assert role_of(somebody, Workspace(workspace)) is None
    (workspace / "team.yaml").write_text("trainer: [ann@example.org]\n")  # no such field
    assert role_of(somebody, Workspace(workspace)) is None
    other = tmp_path / "roles.yaml"
    other.write_text("viewers: [ann@example.org]\n")
    monkeypatch.setenv(team.VARIABLE, str(other))
    assert role_of(somebody, Workspace(workspace)) is Role.VIEWER


def test_a_teams_trainers_open_their_folders_only(workspace, monkeypatch, tmp_path):
    (tmp_path / "data/town").mkdir(parents=True)
    (tmp_path / "data/out").symlink_to("/")
    (workspace / "team.yaml").write_text(f"folders: [{tmp_path / 'data'}]\n")
    here = Workspace(workspace)
    assert may_open(tmp_path / "data/town", here)
    assert may_open(workspace / ".areas", here)
    for path in ("/", "/etc/passwd", str(tmp_path), f"{tmp_path}/data/../x", f"{tmp_path}/data/out/etc", "~"):
        assert not may_open(people.Path(path), here)
    monkeypatch.setattr(people, "login_configured", lambda: True)
    with pytest.raises(NotAllowedError, match="outside the folders"):
        people.confined(people.Path("/etc"))
    assert people.confined(None) is None


def test_the_log_is_bounded_and_survives_what_is_broken(tmp_path):
    here = Workspace(tmp_path)
    note_action(here, "ann", "deleted", "a\nb \u202e" + "x" * 5_000)
    with (tmp_path / ".actions.jsonl").open("ab") as file:
        file.write(b'{"time": "never"}\n\xff\xfe\n[]\n{"time"')
    assert [action.who for action in recent_actions(here)] == ["ann"]
    (tmp_path / ".actions.jsonl").write_bytes(b"x" * (MOST_BYTES + 1))
    note_action(here, "bob", "stopped", "town")
    (last,) = recent_actions(here)
    assert last == Action(last.time, "bob", "stopped", "town")
    assert (tmp_path / ".actions.jsonl").stat().st_size < 1_000


def test_edited_settings_cannot_name_a_folder_elsewhere(open_page, workspace, as_person, monkeypatch):
    """A proposal is a text that can be edited; `root:` in it is a path like one that is typed."""
    folder = workspace / "unknown"
    write_collection(folder)
    (folder / "collection.yaml").unlink()
    monkeypatch.setattr(people, "login_configured", lambda: True)
    as_person(TRAINER)
    at = open_page("data", collection="other")
    at.text_input(key="folder").set_value(str(folder)).run()
    area = at.text_area[0]
    assert "root: /etc" not in area.value
    area.set_value(f"root: /etc\n{area.value}").run()
    assert "outside the folders" in words_of(at)
