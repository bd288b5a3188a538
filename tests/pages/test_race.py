"""The Race page: recorded and live times, what it says of them, and the button that races."""

import json
import time
from pathlib import Path

import pytest

from kdcore.deploy.race import INDEX, Lane, Race, RaceFolder, tiles_over
from kdcore.files import write_json
from kdcore.jobs.locks import holding
from kdcore.jobs.progress import Stage
from kdcore.jobs.status import Status
from tests.deployment import make_deployment, write_deployment
from tests.pages.conftest import primary_buttons, words_of

BUTTON = "Race live now"
EXAMPLE = Path(__file__).parents[2] / "kdcore/example"


@pytest.fixture
def folder(workspace) -> RaceFolder:
    return RaceFolder(workspace / "town/race")


@pytest.fixture
def recorded(workspace) -> None:
    write_deployment(workspace / "town/deploy", make_deployment())


def write_live(folder: RaceFolder, stand_in: bool = False) -> None:
    """The teacher took 0.1 s for each of 20 tiles, the student 0.02 s."""
    tiles = tiles_over((0, 0, 480, 640), 128)
    lanes = {
        name: Lane(
            arm=arm, engine="torch", device="A processor", tiles=tiles, stand_in=stand_in and arm == "teacher",
            seconds=tuple(each * number for number in range(1, 21)),
        )
        for name, arm, each in (("teacher", "teacher", 0.1), ("student", "distilled", 0.02))
    }  # fmt: skip
    race = Race(scene="test-area", metres_per_pixel=0.5, measured=1.8e9, live=True, **lanes)
    write_json(folder.path / INDEX, race.model_dump(mode="json"))


def drawn(at) -> dict:
    """What the page's script is given."""
    (component,) = at.get("bidi_component")
    (data,) = json.loads(component.proto.json)
    return data


def button(at, label):
    return next(each for each in at.button if each.label == label)


def test_without_any_times_there_is_one_sentence_and_one_button(folder, open_page, monkeypatch):
    started = []
    monkeypatch.setattr(RaceFolder, "start", lambda folder: started.append(folder.id))
    at = open_page("race", study="town")
    assert "Measure it on the Deploy page, or let both" in words_of(at).replace("*", "")
    assert primary_buttons(at) == [BUTTON]
    button(at, BUTTON).click().run()
    assert not at.exception
    assert started == ["town"]


def test_recorded_times_are_those_of_the_deployment(recorded, workspace, open_page):
    at = open_page("race", study="town")
    assert at.segmented_control(key="timing").options[0] == "Recorded: OpenVINO int8"
    teacher, student = drawn(at)["lanes"]
    assert teacher["seconds"][-1] / student["seconds"][-1] == pytest.approx(6.2 / 1.9)
    assert student["seconds"][-1] == pytest.approx(480 * 640 * 64 / 49 / 6.2e6)
    report = json.loads((workspace / "town/report.json").read_text())
    assert [lane["score"] for lane in (teacher, student)] == [
        f"{100 * report['arms'][arm]['mean_ap']:.0f}" for arm in ("teacher", "distilled")
    ]
    said = words_of(at)
    assert "The apprentice maps 3.3 times as many km² an hour as the expert, both in OpenVINO int8." in said
    assert ":gray-badge[:material/history: Recorded] Measured by an export: OpenVINO on cpu" in said
    assert "an apprentice without expert scores" in said  # the verdict, as Start has it
    at.segmented_control(key="timing").set_value("PyTorch").run()
    teacher, student = drawn(at)["lanes"]
    assert teacher["seconds"][-1] / student["seconds"][-1] == pytest.approx(1.55 / 0.5)


def test_live_times_come_first_and_say_so(recorded, folder, open_page):
    write_live(folder)
    at = open_page("race", study="town")
    assert at.segmented_control(key="timing").options[:2] == ["Live, on this machine", "Recorded: OpenVINO int8"]
    data = drawn(at)
    assert [lane["seconds"][-1] for lane in data["lanes"]] == pytest.approx([2.0, 0.4])
    assert data["paceWords"] == "Slowed down 5 times, both alike; clocks show the true time."
    assert "Live] Both networks mapped every tile on this machine: PyTorch on A processor" in words_of(at)
    assert "other weights was timed" not in words_of(at)


def test_a_teacher_whose_weights_are_not_here_is_told(folder, open_page):
    write_live(folder, stand_in=True)
    assert "a network of the same architecture with other weights was timed" in words_of(
        open_page("race", study="town")
    )


def test_a_live_race_over_another_scene_is_not_shown(folder, open_page):
    write_live(folder)
    file = folder.path / INDEX
    write_json(file, json.loads(file.read_text()) | {"scene": "gone"})
    assert primary_buttons(open_page("race", study="town")) == [BUTTON]


def test_while_it_races_there_is_progress_and_a_way_to_stop(recorded, folder, open_page):
    folder.write_status(Status(state="running", stage=Stage.MAPPING, done=5, total=20, started=time.time()))
    with holding(folder.lock, "taken"):
        at = open_page("race", study="town")
        assert BUTTON not in [each.label for each in at.button]
        (progress,) = at.get("progress")
        assert progress.proto.value == 25
        button(at, "Stop").click().run()
        assert folder.cancel_file.exists()


def test_why_it_failed_is_a_sentence(folder, open_page):
    folder.write_status(Status(state="failed", message="the *disk* is full."))
    at = open_page("race", study="town")
    assert [error.value for error in at.error] == [r"The \*disk\* is full\."]
    assert primary_buttons(at) == [BUTTON]


def test_a_broken_record_of_a_race_is_a_sentence(folder, open_page):
    folder.path.mkdir(parents=True, exist_ok=True)
    (folder.path / INDEX).write_text("{")
    at = open_page("race", study="town")
    assert "Race again" in at.warning[0].value
    assert primary_buttons(at) == [BUTTON]


def test_the_button_of_a_new_race_shows_it(recorded, folder, open_page, monkeypatch):
    """What was chosen before does not hide the new times."""
    monkeypatch.setattr(RaceFolder, "start", lambda folder: write_live(folder))
    at = open_page("race", study="town", timing="PyTorch")
    button(at, BUTTON).click().run()
    assert not at.exception
    assert drawn(at)["lanes"][0]["seconds"][-1] == pytest.approx(2.0)


def test_start_leads_here(workspace, open_page):
    (link,) = [link for link in open_page("start").page_link if link.label == "Watch them race"]
    assert link.proto.query_string == "study=town"


def test_the_example_races_from_the_first_visit(empty_workspace, open_page, monkeypatch):
    monkeypatch.setattr("kdcore.jobs.workspace.EXAMPLE_FOLDER", EXAMPLE)
    at = open_page("race")
    assert "Recorded" in words_of(at)
    assert [len(lane["boxes"]) for lane in drawn(at)["lanes"]] == [49, 49]
