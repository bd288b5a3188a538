"""Start: the numbers are the report's, and a double click runs the demo once."""

import json
import subprocess
import sys

import pytest

from kdcore.jobs.workspace import Workspace
from kdcore.settings import STUDY_PRESETS
from tests.pages.conftest import FRAME, words_of

OPEN = """
import sys
from streamlit.testing.v1 import AppTest
for page in ("start.py", "race.py"):
    at = AppTest.from_file(sys.argv[1], default_timeout=600).run().switch_page(page).run()
    assert not at.exception and at.get("bidi_component")
print(*(name for name in ("pandas", "pyarrow", "folium", "scipy", "geopandas", "pyogrio", "torch") if name in sys.modules))
"""


def test_the_first_pages_load_no_large_library(monkeypatch, tmp_path):
    """Streamlit itself imports pandas, 74 MB, where a component is given a dict."""
    monkeypatch.setenv("KDCORE_WORKSPACE", str(tmp_path / "studies"))  # the bundled example is shown
    command = [sys.executable, "-c", OPEN, str(FRAME)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == []


def test_the_three_numbers_and_the_verdict_are_those_of_the_report(workspace, open_page):
    report = json.loads((workspace / "town/report.json").read_text())
    teacher, student = report["arms"]["teacher"], report["arms"]["distilled"]
    quality, size, speed = open_page("start").metric
    assert quality.value == f"{100 * student['mean_ap']:.0f}"
    assert quality.delta == f"instead of {100 * teacher['mean_ap']:.0f}"
    assert (size.value, size.delta) == ("2.4 MB", "instead of 97.6 MB")  # 0.6 M and 24.4 M weights of four bytes
    on = "processor" if student["device"].startswith("CPU") else "GPU"
    assert (speed.value, speed.delta) == ("4.0 times as fast", f"both on the same {on}")
    assert speed.help.endswith(f"in PyTorch, without reading and writing files. Measured on: {student['device']}.")


def test_speeds_of_two_devices_are_told_to_be_so(workspace, open_page):
    file = workspace / "town/report.json"
    report = json.loads(file.read_text())
    report["arms"]["teacher"]["device"], report["arms"]["distilled"]["device"] = "NVIDIA H200", "NVIDIA A100"
    file.write_text(json.dumps(report))
    _, _, speed = open_page("start").metric
    assert speed.delta == "on different devices"
    assert speed.help.endswith("Measured on: NVIDIA A100, NVIDIA H200.")


def test_without_speeds_no_device_is_needed(workspace, open_page):
    file = workspace / "town/report.json"
    report = json.loads(file.read_text())
    for arm in report["arms"].values():
        arm.pop("device"), arm.pop("megapixels_per_second")
    file.write_text(json.dumps(report))
    _, _, speed = open_page("start").metric
    assert (speed.value, speed.delta or None) == ("not measured", None)


@pytest.mark.parametrize(
    ("verdict", "means", "said"),
    [
        ("better", (0.79, 0.70, 0.722), "loses 7 points to the expert. **Listening to the expert helped**"),
        (
            "no detectable difference",
            (0.79, 0.70, 0.702),
            "loses 9 points to the expert. **Listening to the expert made no",
        ),
        ("worse", (0.79, 0.74, 0.70), "loses 9 points to the expert. **Listening to the expert did harm**"),
        ("too early to say", (0.79, 0.7, 0.79), "is as good as the expert. **Whether listening"),
    ],
)
def test_the_sentence_agrees_with_the_numbers_above_it(workspace, open_page, verdict, means, said):
    file = workspace / "town/report.json"
    report = json.loads(file.read_text())
    for arm, mean in zip(("teacher", "alone", "distilled"), means, strict=True):
        report["arms"][arm]["mean_ap"] = mean
    report["comparison"] |= {"verdict": verdict, "mean_ap_points": {"mean": 1.0, "low": 0.04, "high": 2.04}}
    file.write_text(json.dumps(report))
    at = open_page("start")
    told = next(element.value for element in at.markdown if said in element.value)
    assert f"without expert scores {100 * means[1]:.0f}" in told
    assert next(metric.value for metric in at.metric) == f"{100 * means[2]:.0f}"
    assert "0\\.04 to \\+2\\.04 points" in told


def test_the_buttons_choose_what_is_right_of_the_line(workspace, open_page):
    at = open_page("start")
    buttons = at.segmented_control(key="picture")
    assert buttons.options == ["Photo", "Truth", "Expert", "Apprentice", "Who is right?"]
    for option, layer in (
        ("truth", "/truth/"),
        ("teacher", "/mask-teacher-s0/"),
        ("distilled", "/mask-distilled-s0/"),
        ("disagreement", "/disagreement-"),
    ):
        at.segmented_control(key="picture").set_value(option).run()
        (component,) = at.get("bidi_component")
        (picture,) = json.loads(component.proto.json)
        assert layer in picture["wanted"]["right"]["path"]
        assert picture["wanted"]["left"]["name"] == "Photo"
    assert [run["name"] for run in picture["base"]["runs"]] == ["Expert", "Apprentice without expert", "Apprentice"]
    assert [entry["name"] for entry in picture["wanted"]["right"]["legend"]][:2] == [
        "only the expert is right",
        "only the apprentice is right",
    ]


def test_the_verdict_is_told_as_it_was_found(workspace, open_page):
    sentence = json.loads((workspace / "town/report.json").read_text())["comparison"]["sentence"]
    badge, _, said = sentence.partition(": t")
    assert badge == "Too early to say"  # told once, as a badge
    assert f"T{said}" in words_of(open_page("start"))


def compared(workspace, **values):
    """Change the recorded comparison."""
    file = workspace / "town/report.json"
    report = json.loads(file.read_text())
    report["comparison"] |= values
    file.write_text(json.dumps(report))
    return report["comparison"]


def test_iou_has_a_badge_of_its_own_where_it_says_something_else(workspace, open_page):
    verdicts = {"mean_ap": "better", "mean_iou": "worse", "mean_boundary_iou": "better"}
    found = compared(workspace, verdict="better", verdicts=verdicts)
    words = words_of(open_page("start"))
    assert "Better]" in words
    assert "mean IoU: worse]" in words
    assert "Boundary IoU:" not in words.split("Better]")[1].split(found["sentence"])[0]


def test_a_metric_without_interval_has_no_badge(workspace, open_page):
    verdicts = {"mean_ap": "better", "mean_iou": "too early to say", "mean_boundary_iou": "better"}
    unknown = {"mean": 1.0, "low": None, "high": None}
    compared(workspace, verdict="better", verdicts=verdicts, mean_iou_points=unknown)
    assert "mean IoU: too early to say" not in words_of(open_page("start"))


def test_what_the_interval_does_not_cover_stands_beside_the_verdict(workspace, open_page):
    basis = compared(workspace)["basis"]
    assert "It does not cover the choice of the labelled places" in basis
    assert basis in words_of(open_page("start"))


def test_a_report_of_an_earlier_version_still_has_its_verdict(workspace, open_page):
    file = workspace / "town/report.json"
    report = json.loads(file.read_text())
    for name in ("verdicts", "basis", "classes", "ground", "p", "needed", "equivalence_margin"):
        del report["comparison"][name]
    file.write_text(json.dumps(report))
    assert f"T{report['comparison']['sentence'].partition(': t')[2]}" in words_of(open_page("start"))


def test_a_study_without_measured_speed_says_so(workspace, open_page):
    file = workspace / "town/report.json"
    report = json.loads(file.read_text())
    del report["arms"]["teacher"]["megapixels_per_second"]
    file.write_text(json.dumps(report))
    assert open_page("start").metric[2].value == "not measured"


def test_run_it_live_starts_the_demo_and_goes_to_watch_it(workspace, open_page, started):
    at = open_page("start")
    next(button for button in at.button if button.label == "Run it live").click().run()
    assert not at.exception
    assert started == ["demo-run-live"]
    study = Workspace().study("demo-run-live")
    assert study.settings == STUDY_PRESETS["demo"]
    assert study.about.demo == 0
    assert at.query_params["study"] == "demo-run-live"
    assert at.title[0].value == "Demo, run live"


def test_the_second_click_of_a_double_click_starts_nothing_new(workspace, open_page, started):
    at = open_page("start")
    token = at.session_state["launch token of live"]
    next(button for button in at.button if button.label == "Run it live").click().run()
    again = open_page("start")
    again.session_state["launch token of live"] = token  # a click that was sent before the first one was answered
    next(button for button in again.button if button.label == "Run it live").click().run()
    assert [path.name for path in workspace.iterdir() if path.name.startswith("demo")] == ["demo-run-live"]


def test_launching_again_later_makes_another_study(workspace, open_page, started):
    at = open_page("start")
    next(button for button in at.button if button.label == "Run it live").click().run()
    at.switch_page("start.py").run()
    next(button for button in at.button if button.label == "Run it live").click().run()
    assert started == ["demo-run-live", "demo-run-live-2"]


def test_without_a_finished_study_the_page_offers_to_make_one(empty_workspace, open_page):
    at = open_page("start")
    assert [button.label for button in at.button] == ["Run it live"]
    assert not at.metric
