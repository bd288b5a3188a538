"""The Deploy page: what it offers before an export, while it runs and after; what its numbers lead to."""

import time
from pathlib import Path

import pytest

from kdcore.deploy import folder as deploying
from kdcore.deploy.record import INDEX
from kdcore.errors import RunError
from kdcore.jobs.locks import holding
from kdcore.jobs.progress import Stage
from kdcore.jobs.status import Status
from kdcore.jobs.study_folder import StudyFolder
from tests.deployment import REFUSED, form, make_deployment, speed, with_bfloat16, write_deployment
from tests.pages.conftest import primary_buttons, text_of, words_of

BUTTON = "Export and measure"
EXAMPLE = Path(__file__).parents[2] / "kdcore/example"


@pytest.fixture
def folder(workspace) -> Path:
    """Where the deployment of 'town' lies."""
    return workspace / "town/deploy"


@pytest.fixture
def starts(monkeypatch) -> list[str]:
    """Ids of the studies whose export was started; none really is."""
    ids: list[str] = []
    monkeypatch.setattr("kdcore.deploy.folder.start", lambda workspace, study: ids.append(study.id))
    return ids


def write_status(folder: Path, state: str, **more) -> None:
    """The job's status as its process would leave it."""
    deploying.DeploymentFolder(folder).write_status(Status(state=state, queued=time.time(), **more))


def button(at, label):
    """The button with this label."""
    return next(each for each in at.button if each.label == label)


def cells(at, number):
    """A table's contents as rows of dictionaries."""
    return at.table[number].value.to_dict("records")


# ---- before and while ----


def test_before_an_export_there_is_one_sentence_and_one_button(workspace, open_page, starts):
    at = open_page("deploy", study="town")
    assert "Nothing of this study was exported and measured yet." in words_of(at)
    assert primary_buttons(at) == [BUTTON]
    assert not at.metric
    button(at, BUTTON).click().run()
    assert starts == ["town"]


def test_what_prevents_the_start_is_a_sentence(workspace, open_page, monkeypatch):
    def refuse(*given):
        raise RunError("The *disk* is full.")

    monkeypatch.setattr("kdcore.deploy.folder.start", refuse)
    at = open_page("deploy", study="town")
    button(at, BUTTON).click().run()
    assert [error.value for error in at.error] == [r"The \*disk\* is full\."]
    assert not at.exception


def test_while_it_works_it_tells_the_stage_and_can_be_stopped(folder, open_page):
    weights = folder.parent / "runs/distilled-s0/checkpoints/best.safetensors"
    weights.parent.mkdir(parents=True, exist_ok=True)
    weights.touch()  # the only network whose weights are here: twelve pieces, and two at the end
    what = {"run": "distilled-s0", "stage": Stage.SCORING_TEST, "subject": "distilled-s0.onnx"}
    write_status(folder, "running", **what, done=3, total=9, started=time.time() - 100)
    with holding(deploying.DeploymentFolder(folder).lock, "taken"):
        at = open_page("deploy", study="town")
        assert [each.label for each in at.button] == ["Stop"]
        (progress,) = at.get("progress")
        assert progress.proto.value == 100 * (4 + 3 / 9) // 14
        told = progress.proto.text.replace("\\", "")
        assert (
            "Distilled student, seed 0: scoring test (distilled-s0.onnx), 3 of 9. About 3 min 4" in told
        )  # 100 s for 0.310
        button(at, "Stop").click().run()
        assert (folder / "cancel").exists()
        assert button(at, "Stop").disabled


def test_the_rest_of_the_page_stays_while_it_is_measured_again(folder, open_page):
    write_deployment(folder, make_deployment())
    write_status(folder, "queued")
    at = open_page("deploy", study="town")
    assert at.metric
    assert [each.label for each in at.button if each.label in ("Stop", f"{BUTTON} again")] == ["Stop"]


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("failed", "No room: the *disk* is full."),
        ("stopped", "It was stopped. Start it again to go on."),
        (
            "running",
            "Its process ended without a word. Start it again; finished files are kept.",
        ),  # nobody holds the lock
    ],
)
def test_an_export_that_did_not_end_well_says_why_and_can_be_started_again(folder, open_page, starts, state, words):
    write_status(folder, state, message="no room: the *disk* is full.")
    (folder / "log.txt").write_text("first line\nlast line")
    at = open_page("deploy", study="town")
    assert words in words_of(at)
    assert bool(at.code) == (state != "stopped")
    button(at, BUTTON).click().run()
    assert starts == ["town"]


def test_a_broken_record_is_a_sentence(folder, open_page):
    write_deployment(folder, make_deployment())
    (folder / INDEX).write_text("{")
    at = open_page("deploy", study="town")
    assert "is broken. Remove it, then export again." in words_of(at)


# ---- results ----


def test_it_opens_with_what_is_gained(folder, open_page):
    write_deployment(folder, make_deployment())
    at = open_page("deploy", study="town")
    assert (
        "maps 3.3 times as many km² an hour as the teacher, both in OpenVINO int8, but loses 9.9 points of mean AP."
        in words_of(at)
    )
    assert [(each.label, each.value) for each in at.metric] == [
        ("Faster", "3.3 times"),
        ("Quality", "−9.9 points"),
        ("Smaller file", "41.7 times"),
        ("Less memory", "1.0 times"),
    ]
    assert not primary_buttons(at)
    assert len(at.dataframe[0].value) == 14


def test_without_teacher_it_says_what_is_compared(folder, open_page):
    write_deployment(folder, make_deployment(teacher=False))
    at = open_page("deploy", study="town")
    mean_ap = StudyFolder(folder.parent).report()["arms"]["teacher"]["mean_ap"]
    assert "The teacher was not measured here" in words_of(at)
    assert f"the teacher reached a mean AP of {100 * mean_ap:.1f}." in words_of(at)


def test_a_student_that_is_slower_and_larger_is_called_so(folder, open_page):
    teacher = form("teacher", "torch", speed("onnxruntime", 2.0))
    student = form("distilled", "torch", speed("torch", 0.5)).model_copy(update={"megabytes": 50.0})
    write_deployment(folder, make_deployment().model_copy(update={"forms": (teacher, student)}))
    at = open_page("deploy", study="town")
    labels = [(each.label, each.value) for each in at.metric]
    assert labels[0] == ("Slower", "4.0 times")
    assert labels[2:] == [("Larger file", "2.0 times"), ("More memory", "2.7 times")]
    assert "No exported file passed its checks." in words_of(at)


def test_the_chart_follows_the_choice_and_tells_what_it_leaves_out(folder, open_page):
    write_deployment(folder, make_deployment())
    at = open_page("deploy", study="town")
    assert "1 refused form is not in this chart" in words_of(at)
    at.segmented_control(key="against").select("size").run()
    assert "not in this chart" not in words_of(at)
    assert "Hollow ones are refused" in words_of(at)
    (chart,) = at.get("plotly_chart")
    assert "Megabytes (smaller" in chart.proto.spec


def test_a_deployment_of_which_nothing_was_measured_is_no_exception(folder, open_page):
    write_deployment(folder, make_deployment().model_copy(update={"forms": (form("distilled", "torch"),)}))
    at = open_page("deploy", study="town")
    assert "The distilled student was not measured" in words_of(at)


def test_what_the_job_found_worth_knowing_is_told_once(folder, open_page):
    write_deployment(folder, make_deployment())
    write_status(folder, "finished", message=f"alone-s0: {REFUSED} OpenVINO *failed* here.")
    at = open_page("deploy", study="town")
    assert "OpenVINO *failed* here." in words_of(at)
    assert words_of(at).lower().count(REFUSED.lower()) == 1


# ---- costs ----


def test_the_area_and_its_terms_change_the_costs(folder, open_page):
    """A tile of 512 px with 32 px cut on each side is (512 / 448)^2 = 1.31 times looked at."""
    write_deployment(folder, make_deployment())
    at = open_page("deploy", study="town")
    assert "each pixel is looked at 1.31 times on average" in words_of(at)
    before = cells(at, 0)
    at.selectbox(key="halo of town").select(0).run()
    at.number_input(key="km2").set_value(1395.0).run()
    at.number_input(key="watts").set_value(20.0).run()
    at.number_input(key="price").set_value(3.0).run()
    after = cells(at, 0)
    assert "Energy" not in before[0]
    assert [after[4][name] for name in ("km² an hour", "Time", "Price", "Energy")] == [
        "1,395",
        "1.0 h",
        "3.00",
        "20.0 Wh",
    ]
    at.number_input(key="metres of town").set_value(1.0).run()
    assert cells(at, 0)[4]["km² an hour"] == "5,580"


def test_without_a_ground_resolution_it_asks_for_it(folder, open_page):
    write_deployment(folder, make_deployment().model_copy(update={"metres_per_pixel": None}))
    at = open_page("deploy", study="town")
    assert "Type the ground sample distance of your imagery to see the costs." in words_of(at)
    at.number_input(key="metres of town").set_value(0.5).run()
    assert "For 100 km²" in words_of(at)


def test_the_map_is_drawn_when_it_is_asked_for(folder, open_page):
    write_deployment(folder, make_deployment())
    at = open_page("deploy", study="town")
    assert not at.get("component_instance")
    at.toggle(key="draw").set_value(True).run()
    (component,) = at.get("component_instance")
    assert "kdcoreArea.start" in component.proto.json_args
    assert "openstreetmap" not in component.proto.json_args
    assert "https://" not in component.proto.json_args


# ---- files ----


def test_files_are_offered_with_their_checks_and_refusals_with_their_reason(folder, open_page):
    write_deployment(folder, make_deployment())
    at = open_page("deploy", study="town")
    rows = cells(at, 1)
    assert [row["File"].replace("\\", "") for row in rows] == [
        "teacher.onnx",
        "teacher-int8.onnx",
        "alone.onnx",
        "distilled.onnx",
        "distilled-int8.onnx",
    ]
    assert rows[-1]["Pixels with another label"] == "1.2 %"
    assert rows[-1]["Mean AP gained, points"] == "−0.4 (−0.9 to 0.1)"
    assert f"Student alone, ONNX, int8: not offered. {REFUSED.replace('mean', 'Mean', 1)}" in words_of(at)
    labels = [each.proto.label for each in at.get("download_button")]
    assert len(labels) == 5 * 3 + 1
    assert labels[-1].startswith("Everything (ZIP")


def test_the_commands_name_the_study_s_own_files(folder, open_page):
    write_deployment(folder, make_deployment())
    at = open_page("deploy", study="town")
    code = at.code[-1].value
    study = StudyFolder(folder.parent)
    checkpoint = study.path / "runs/distilled-s0/checkpoints/best.safetensors"
    assert f"kdcore export {checkpoint} student.onnx --int8 --data {study.about.collection}\n" in code
    assert f"kdcore predict {folder}/distilled-int8.onnx imagery.tif --out maps --engine openvino" in code


def test_bfloat16_stands_beside_the_file_that_it_runs_and_refusals_with_their_numbers(folder, open_page):
    write_deployment(folder, with_bfloat16(make_deployment()))
    at = open_page("deploy", study="town")
    assert "The distilled student in OpenVINO bf16 maps 15.0 times as many" in words_of(at)
    rows = [row for row in cells(at, 1) if row["Form"] == "ONNX, run in bf16"]
    assert [(row["Network"], row["File"].replace("\\", "")) for row in rows] == [
        ("Distilled student", "distilled.onnx")
    ]
    assert rows[0]["Mean AP gained, points"] == "−0.2 (−0.7 to 0.3)"
    assert "in OpenVINO with the property `INFERENCE_PRECISION_HINT: bf16`" in text_of(at)
    assert f"Teacher, ONNX, run in bf16: not offered. {REFUSED.replace('mean', 'Mean', 1)}" in words_of(at)
    assert len(at.get("download_button")) == 5 * 3 + 1  # nothing new is there to take
    assert f"kdcore predict {folder}/distilled.onnx imagery.tif --out maps --engine openvino-bf16" in at.code[-1].value


def test_without_bfloat16_nothing_is_said_of_it(folder, open_page):
    """As in every older record, and where the processor does not compute in it."""
    write_deployment(folder, make_deployment())
    assert "bf16" not in text_of(open_page("deploy", study="town"))


def test_texts_of_the_record_are_text(folder, open_page):
    hostile = "<img src=x onerror=alert(1)> [link](http://example.com) $x$"
    forms = (*make_deployment().forms[:-1], form("distilled", "int8", refused=hostile))
    write_deployment(folder, make_deployment().model_copy(update={"machine": hostile, "forms": forms}))
    at = open_page("deploy", study="town")
    assert hostile in words_of(at)
    assert hostile not in text_of(at)


# ---- the bundled example ----


def test_the_example_brings_its_numbers_and_no_files(empty_workspace, open_page, monkeypatch):
    monkeypatch.setattr("kdcore.jobs.workspace.EXAMPLE_FOLDER", EXAMPLE)
    at = open_page("deploy", study="example")
    assert len(at.metric) == 4
    assert "The files themselves are not on this machine." in words_of(at)
    assert "Everything" not in " ".join(each.label for each in at.get("download_button"))
    assert [each.label for each in at.button] == [f"{BUTTON} again"]
