"""Runs: the table, comparing, archiving, deleting, stopping, downloading."""

import io
import json
import os
import re
import time
import zipfile

import pytest

from kdcore.errors import SettingsError
from kdcore.jobs.actions import recent_actions
from kdcore.jobs.bundle import zipped
from kdcore.jobs.status import Status
from kdcore.jobs.study_folder import About, StudyFolder
from kdcore.jobs.sweep_folder import SweepFolder
from kdcore.jobs.workspace import Workspace
from kdcore.settings import STUDY_PRESETS, SweepSettings
from tests.pages.conftest import HOSTILE, text_of, words_of


def button(at, label):
    return next(button for button in at.button if button.label == label)


def figure_of(at) -> dict:
    (chart,) = at.get("plotly_chart")
    return json.loads(chart.proto.spec)


def labels(at):
    return {button.label for button in at.button}


def test_the_table_tells_of_every_study(workspace, open_page):
    table = open_page("runs").dataframe[0].value
    report = json.loads((workspace / "town/report.json").read_text())
    row = table.set_index("Study").loc["Town, first try"]
    assert list(table["Study"]) == ["Town, first try", HOSTILE]  # newest first, as typed: cells are plain text
    assert (row["State"], row["T"], row["Alpha"]) == ("finished", 2, 0.5)
    assert row["Distilled"] == round(100 * report["arms"]["distilled"]["mean_ap"], 1)
    assert row["Verdict"] == report["comparison"]["verdict"]
    assert row["Time"] == "5 min 21 s"


def test_a_broken_study_is_listed_and_breaks_nothing(workspace, open_page):
    (workspace / "town/study.yaml").write_text("budget: [")
    table = open_page("runs", studies="town").dataframe[0].value
    assert table.set_index("Study").loc["Town, first try"]["State"] == "cannot be read"


def test_one_chosen_study_can_be_opened_and_downloaded(workspace, open_page):
    (workspace / "town/report.html").write_text("<p>report</p>")
    at = open_page("runs", studies="town")
    assert at.subheader[0].value == "Town, first try"
    assert [link.value for link in at.page_link] == ["Progress and settings", "Map", "Curves", "Deploy"]
    assert [element.proto.label.split(" (")[0] for element in at.get("download_button")] == ["Report", "Everything"]


def test_two_chosen_studies_stand_side_by_side(workspace, open_page):
    other = workspace / "hostile/data.json"
    other.write_text(json.dumps(json.loads(other.read_text()) | {"hash": "another"}))
    at = open_page("runs", studies="town,hostile")
    table = at.dataframe[1].value
    report = json.loads((workspace / "hostile/report.json").read_text())
    assert list(table.columns) == ["town", "hostile"]
    mean, low, high = map(float, re.findall(r"[\d.]+", table["hostile"]["Teacher, mean AP"]))
    assert mean == round(100 * report["arms"]["teacher"]["mean_ap"], 1)
    assert low < mean < high
    assert table["town"]["Student, parameters"] == "600,000"
    assert "tested on different data" in words_of(at)


def test_of_the_settings_only_those_that_differ_are_compared(workspace, open_page):
    file = workspace / "hostile/report.json"
    report = json.loads(file.read_text())
    report["settings"]["recipe"] |= {"temperature": 4.0, "alpha": 0.25}
    report["settings"]["seeds"] = [0, 1]
    file.write_text(json.dumps(report))
    table = open_page("runs", studies="town,hostile").dataframe[1].value
    assert list(table.index[:5]) == ["Data", "recipe.temperature", "recipe.alpha", "seeds", "Teacher, parameters"]
    assert list(table["town"][1:4]) == ["2", "0.5", "0"]
    assert list(table["hostile"][1:4]) == ["4", "0.25", "0, 1"]


def test_curves_of_chosen_studies_lie_over_each_other(workspace, open_page):
    at = open_page("runs", studies="town,hostile")
    names = [trace["name"] for trace in figure_of(at)["data"] if "name" in trace]
    assert names[0].startswith("Town, first try: AP ")
    assert "<img" not in names[1]
    table = at.dataframe[1].value
    assert f"Town, first try: AP {table['town']['Distilled, mean AP']}" in names
    at.segmented_control(key="compared").set_value("teacher").run()
    assert f"Town, first try: AP {table['town']['Teacher, mean AP']}" in [
        trace.get("name") for trace in figure_of(at)["data"]
    ]


def test_a_study_whose_scores_are_gone_is_compared_without_its_curve(workspace, open_page):
    (workspace / "hostile/runs/teacher-s0/scores.npz").write_bytes(b"broken")
    at = open_page("runs", studies="town,hostile")
    assert re.fullmatch(r"[\d.]+", at.dataframe[1].value["hostile"]["Teacher, mean AP"])
    assert not at.get("plotly_chart")
    assert len(at.warning) == 1


def test_a_note_and_tags_are_kept_with_the_study_and_found_again(workspace, open_page):
    at = open_page("runs", studies="town")
    assert "Tags" not in at.dataframe[0].value
    at.text_area[0].set_value("Roofs of the *old* town.")
    at.multiselect(key="tags of town").set_value(["roofs", "  for   the report "])
    button(at, "Save").click().run()
    about = StudyFolder(workspace / "town").about
    assert (about.note, about.tags) == ("Roofs of the *old* town.", ("for the report", "roofs"))
    assert about.title == "Town, first try"
    row = at.dataframe[0].value.set_index("Study").loc["Town, first try"]
    assert (list(row["Tags"]), row["Note"]) == (["for the report", "roofs"], about.note)
    at.multiselect(key="tags").set_value(["roofs"]).run()
    assert list(at.dataframe[0].value["Study"]) == ["Town, first try"]
    (done,) = recent_actions(Workspace(workspace))
    assert (done.what, done.subject) == ("changed the note of", "Town, first try (town)")


def test_a_note_that_is_too_long_is_refused_with_the_others_kept(workspace):
    study = StudyFolder(workspace / "town")
    study.annotate("first", ["a"])
    with pytest.raises(SettingsError, match=r"the note: note: .* at most 2000 characters"):
        study.annotate("x" * 2001, [])
    assert (study.about.note, study.about.tags) == ("first", ("a",))


def test_what_was_archived_can_be_taken_back_at_once(workspace, open_page):
    at = open_page("runs", studies="town,hostile")
    button(at, "Archive").click().run()
    assert "Archived 2 studies." in words_of(at)
    button(at, "Undo").click().run()
    assert not StudyFolder(workspace / "town").archived
    assert "Undo" not in labels(at)


def test_sweeps_are_listed_with_the_way_to_them(workspace, open_page):
    sweep = SweepFolder(workspace / "sweeps/first")
    SweepFolder.begin(sweep.path, SweepSettings(trials=12), About(title=HOSTILE, demo=0, created=1e9))
    at = open_page("runs")
    assert f"{HOSTILE} · not running, 12 trials" in words_of(at)
    assert HOSTILE not in text_of(at)
    (link,) = [link for link in at.page_link if link.label == "Open"]
    assert "sweep=first" in link.proto.query_string


def test_several_studies_are_judged_as_a_family(workspace, open_page):
    for name, p in (("town", 0.03), ("hostile", 0.2)):
        file = workspace / name / "report.json"
        report = json.loads(file.read_text())
        report["comparison"] |= {"p": p, "verdict": "better" if p < 0.05 else "no detectable difference"}
        file.write_text(json.dumps(report))
    table = open_page("runs", studies="town,hostile").dataframe[1].value
    assert table["town"]["Verdict"] == "better"
    row = "Verdict among these studies (Holm, exploratory)"  # 2 * 0.03 is more than 0.05
    assert (table["town"][row], table["hostile"][row]) == ("no detectable difference", "no detectable difference")


def test_of_many_studies_the_last_are_shown_and_others_are_found_by_name(workspace, open_page, monkeypatch):
    monkeypatch.setattr("kdcore.ui.study_picker.LISTED", 1)
    for name, when in (("town", 200), ("hostile", 100)):
        for file in ("study.yaml", "job.json"):
            os.utime(workspace / name / file, (when, when))
    at = open_page("runs")
    assert list(at.dataframe[0].value["Study"]) == ["Town, first try"]
    at.text_input(key="find").set_value("HOST").run()
    assert list(at.dataframe[0].value["Study"]) == [HOSTILE]
    at.text_input(key="find").set_value("nowhere").run()
    assert "No study's name holds “nowhere”." in words_of(at)
    both = open_page("runs", studies="hostile").dataframe[0].value
    assert list(both["Study"]) == ["Town, first try", HOSTILE]


def test_archiving_hides_a_study_until_it_is_asked_for(workspace, open_page):
    at = open_page("runs", studies="town")
    button(at, "Archive").click().run()
    assert list(at.dataframe[0].value["Study"]) == [HOSTILE]
    at.toggle(key="archived").set_value(True).run()
    assert "Town, first try" in list(at.dataframe[0].value["Study"])


def test_a_study_at_work_can_be_stopped_but_not_deleted(workspace, open_page, monkeypatch):
    stopped = []
    monkeypatch.setattr(StudyFolder, "stop", lambda study: stopped.append(study.id))
    study = StudyFolder.begin(workspace / "begun", STUDY_PRESETS["quick"], About(title="Begun", demo=0))
    study.write_status(Status(state="queued", device="cpu", queued=1.0, launched=time.time()))
    at = open_page("runs", studies="begun")
    assert {"Stop training"} == labels(at) & {"Stop training", "Resume", "Delete …"}
    button(at, "Stop training").click().run()
    assert stopped == ["begun"]


def test_deleting_asks_first(workspace, open_page):
    at = open_page("runs", studies="town")
    button(at, "Delete …").click().run()
    assert "cannot be undone" in words_of(at)
    assert Workspace().study("town").finished  # nothing happened yet
    assert {"Delete", "Keep"} <= labels(at)


def test_the_example_cannot_be_changed(workspace, open_page, monkeypatch, tmp_path):
    (workspace / "town").rename(tmp_path / "example")
    monkeypatch.setattr("kdcore.jobs.workspace.EXAMPLE_FOLDER", tmp_path / "example")
    at = open_page("runs", studies="example")
    assert not labels(at) & {"Archive", "Delete …", "Stop training", "Resume"}


def test_a_bundle_holds_the_study_without_what_belongs_to_this_machine(workspace):
    study = StudyFolder(workspace / "town")
    state = study.path / "runs/alone-s0/checkpoints/state.safetensors"
    state.parent.mkdir(exist_ok=True, parents=True)
    state.write_bytes(b"to resume from")
    (study.path / "alive.lock").touch()
    names = zipfile.ZipFile(io.BytesIO(zipped(study.path, study.id))).namelist()
    assert {"town/study.yaml", "town/report.json", "town/runs/alone-s0/scores.npz"} <= set(names)
    assert not [name for name in names if name.endswith(("state.safetensors", ".lock", "job.json"))]
