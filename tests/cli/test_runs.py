"""`kdcore runs` and what a study in a terminal shares with one in the background; the worker only pretends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from kdcore.cli import app
from kdcore.cli.output import duration
from kdcore.errors import Stopped
from kdcore.jobs import workspace as workspace_module
from kdcore.jobs.devices import host
from kdcore.jobs.plan import planned_runs
from kdcore.jobs.status import Status
from kdcore.jobs.store import RunDirectory, RunStatus
from kdcore.jobs.workspace import Workspace
from kdcore.settings import STUDY_PRESETS, Hardware, Recipe
from tests.jobs.studies import processes_of, put_study, wait_for
from tests.onnx_files import write_pixelwise

ROOT = Path(__file__).parents[2]


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.setattr(workspace_module, "EXAMPLE_FOLDER", tmp_path / "package/example")
    monkeypatch.setattr("kdcore.jobs.job.WORKER", "tests.jobs.pretend_worker")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("KDCORE_WORKSPACE", str(tmp_path / "studies"))
    monkeypatch.setenv("COLUMNS", "160")
    place = Workspace()
    yield place
    for study in place.folders():
        for process in processes_of(study):
            os.kill(process, signal.SIGKILL)


def kdcore(*arguments: str, code: int = 0, **options) -> str:
    """Run the command and give what it printed; its exit code must be `code`."""
    result = CliRunner().invoke(app, arguments, **options)
    assert result.exit_code == code, result.output
    return " ".join(result.output.split()) if "--json" not in arguments else result.stdout


class TestList:
    def test_of_nothing_says_what_to_do_next(self, workspace):
        assert "Start a study of your own: kdcore runs start demo" in kdcore("runs", "list")
        put_study(workspace_module.EXAMPLE_FOLDER, title="Example")
        shown = kdcore("runs", "list")
        assert "Example" in shown
        assert "Start a study of your own" in shown
        put_study(workspace.path / "mine")
        assert "Start a study of your own" not in kdcore("runs", "list")

    def test_shows_every_study_and_why_one_is_broken(self, workspace):
        put_study(workspace.path / "done", title="<b>Done</b> [red]", job=Status(state="finished", device="cpu"))
        put_study(workspace.path / "damaged").settings_file.write_text("steps: 3\n")
        shown = kdcore("runs", "list")
        assert "<b>Done</b> [red]" in shown  # a title is text, not markup
        assert "finished" in shown
        assert "damaged:" in shown
        assert "steps: is not a setting" in shown

    def test_leaves_archived_ones_out_until_asked(self, workspace):
        put_study(workspace.path / "old", archived=True)
        put_study(workspace.path / "new")
        assert [facts["id"] for facts in json.loads(kdcore("runs", "list", "--json"))] == ["new"]
        assert len(json.loads(kdcore("runs", "list", "--all", "--json"))) == 2

    def test_says_who_is_before_whom(self, workspace):
        for name, at in (("second", 20.0), ("first", 10.0)):
            job = Status(state="queued", queued=at, launched=time.time(), device="cpu", host=host())
            put_study(workspace.path / name, job=job)
        places = {facts["id"]: facts["queue_position"] for facts in json.loads(kdcore("runs", "list", "--json"))}
        assert places == {"first": 0, "second": 1}
        shown = kdcore("runs", "list")
        assert "queued, next" in shown
        assert "queued, 1 before it" in shown

    def test_takes_a_workspace_of_its_own(self, workspace, tmp_path):
        put_study(tmp_path / "elsewhere/other")
        assert "other" in kdcore("runs", "list", "--workspace", str(tmp_path / "elsewhere"))


class TestShow:
    def test_gives_programs_everything(self, workspace):
        study = put_study(workspace.path / "one", job=Status(state="stopped", seconds=12.5))
        run = RunDirectory(study.path / "runs/teacher-s0")
        run.path.mkdir(parents=True)
        run.write_status(RunStatus(state="stopped", step=3, steps=6, seconds=1.5))
        study.log("a line")
        facts = json.loads(kdcore("runs", "show", "one", "--json"))
        assert (facts["state"], facts["seconds"], facts["step"], facts["steps"]) == ("stopped", 12.5, 3, 18)
        assert [run["state"] for run in facts["runs"]] == ["stopped", "waiting", "waiting"]
        assert facts["settings"]["recipe"] == study.settings.recipe.model_dump()
        assert facts["log"].endswith("a line")

    def test_time_left_is_told_from_what_other_studies_took(self, workspace):
        """As on the Train page: a study that has just begun takes as long as the same one did, by the clock 2 x (30 + 6 + 16) s."""
        job = Status(state="finished", device="cpu", seconds=104)
        changes = {"hardware": Hardware(device="cpu"), "recipe": Recipe(teacher_sees="crop"), "seeds": (0,)}
        settings = STUDY_PRESETS["quick"].model_copy(update=changes)
        before = put_study(workspace.path / "before", settings, job, demo=0, collection=None)
        for run in planned_runs(before.settings):
            RunDirectory(before.path / "runs" / run.name).path.mkdir(parents=True)
            seconds = {"teacher": 30.0, "alone": 6.0, "distilled": 16.0}[run.arm]
            RunDirectory(before.path / "runs" / run.name).write_status(
                RunStatus(state="finished", step=run.steps, steps=run.steps, seconds=seconds, elapsed=2 * seconds)
            )
        put_study(
            workspace.path / "now", before.settings, Status(state="queued", device="cpu"), demo=0, collection=None
        )
        told = {facts["id"]: facts["seconds_left"] for facts in json.loads(kdcore("runs", "list", "--json"))}
        assert told["now"] == pytest.approx(104)

    def test_tells_people_why_it_failed(self, workspace):
        study = put_study(workspace.path / "one", job=Status(state="failed", message="the disk is full [sic]"))
        study.log("what came before")
        shown = kdcore("runs", "show", "one")
        assert "the disk is full [sic]" in shown
        assert "what came before" in shown
        assert "alone-s0 waiting 0 of 6" in shown.replace("│", "").replace("  ", " ")

    def test_of_a_broken_one_gives_the_reason(self, workspace):
        put_study(workspace.path / "one").settings_file.write_text("{")
        assert "is no valid YAML" in kdcore("runs", "show", "one")
        assert json.loads(kdcore("runs", "show", "one", "--json"))["settings"] is None

    @pytest.mark.parametrize("command", ["show", "stop", "resume", "delete"])
    @pytest.mark.parametrize("id", ["gone", "../one", "/etc/passwd"])
    def test_and_all_others_know_only_studies_of_the_workspace(self, workspace, command, id):
        put_study(workspace.path.parent / "one")
        shown = kdcore("runs", command, id, code=2)
        assert "Error:" in shown
        assert "there is no such study" in shown
        assert "Traceback" not in shown


class TestALife:
    def test_from_start_to_delete(self, workspace, make_collection):
        collection = make_collection()
        shown = kdcore(
            "runs", "start", str(collection), "--title", "A first one", "--temperature", "4", "--alpha", "0.25",
            "--seeds", "3,4", "--steps", "40", "--teacher-steps", "30", "--device", "cpu",
        )  # fmt: skip
        assert "Started a-first-one. Watch it: kdcore runs show a-first-one" in shown
        study = workspace.study("a-first-one")
        assert (study.settings.recipe.temperature, study.settings.recipe.alpha) == (4, 0.25)
        assert (study.settings.budget.steps, study.settings.teacher.budget.steps) == (40, 30)
        assert (study.settings.seeds, study.settings.hardware.device) == ((3, 4), "cpu")
        assert study.collection == collection
        wait_for(lambda: study.state == "running")

        assert "is running or waiting. Stop it first" in kdcore("runs", "delete", study.id, "--yes", code=2)
        assert "was asked to stop" in kdcore("runs", "stop", study.id)
        wait_for(lambda: study.state == "stopped" and not study.alive)
        assert "nothing to stop" in kdcore("runs", "stop", study.id, code=2)

        assert "goes on" in kdcore("runs", "resume", study.id)
        wait_for(lambda: study.state == "running")
        kdcore("runs", "stop", study.id)
        wait_for(lambda: study.state == "stopped" and not study.alive)

        kdcore("runs", "delete", study.id, code=1, input="n\n")
        assert study.settings_file.exists()
        assert "was deleted" in kdcore("runs", "delete", study.id, input="y\n")
        assert workspace.studies() == []

    def test_a_demo_is_called_after_its_area(self, workspace):
        facts = json.loads(kdcore("runs", "start", "demo", "--preset", "demo", "--demo-seed", "5", "--json"))
        study = workspace.study(facts["id"])
        assert (study.id, study.title) == ("demo-area-5", "Demo area 5")
        assert study.collection == workspace.areas / "demo-5"
        assert study.settings == STUDY_PRESETS["demo"]

    def test_a_teacher_that_exists_already_is_checked_and_kept(self, workspace, make_collection, tmp_path):
        text = "classes: {land: 0, building: 1}\noutput: logits\n"
        teacher = write_pixelwise(tmp_path / "mine.onnx", np.eye(2, 3), yaml=text)
        command = ["runs", "start", str(make_collection(classes=2)), "--teacher", str(teacher)]
        facts = json.loads(kdcore(*command, "--json"))
        assert workspace.study(facts["id"]).settings.teacher.checkpoints == (teacher,)
        teacher.with_suffix(".yaml").write_text(text.replace("building", "house"))
        assert "lacks building and names house" in kdcore(*command, code=2)
        assert len(workspace.studies()) == 1

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (["nowhere"], "there is no such folder or file"),
            (["demo", "--alpha", "1.5"], "recipe.alpha: Input should be less than or equal to 1"),
            (["demo", "--temperature", "0.5"], "recipe.temperature: Input should be greater than or equal to 1"),
            (["demo", "--preset", "best"], "there is no such preset"),
            (["demo", "--seeds", "1;2"], "write whole numbers with commas"),
            (["demo", "--title", " "], "needs a title"),
            (["demo", "--teacher", "absent.onnx"], "absent.onnx: there is no such file"),
        ],
    )
    def test_that_cannot_begin_leaves_nothing(self, workspace, tmp_path, monkeypatch, arguments, sentence):
        monkeypatch.chdir(tmp_path)
        assert sentence in kdcore("runs", "start", *arguments, code=2)
        assert workspace.studies() == []

    def test_a_finished_one_is_not_started_again(self, workspace):
        study = put_study(workspace.path / "one", job=Status(state="finished"))
        parts = {key: {} for key in ("arms", "data", "settings")} | {"comparison": {"sentence": "No difference."}}
        (study.path / "report.json").write_text(json.dumps(parts))
        assert "is finished; there is nothing to resume" in kdcore("runs", "resume", "one")
        assert processes_of(study) == []


class TestAStudyInTheTerminal:
    """`kdcore study` and a worker do the same; here, what only the terminal has."""

    @pytest.fixture
    def worked_on(self, monkeypatch):
        """What was worked on, instead of working."""
        found = []

        def work(study, report, in_queue, forget_stop):
            found.append((study, in_queue, forget_stop))
            raise Stopped(f"{study.path}: stopped.")

        monkeypatch.setattr("kdcore.training.worker.work", work)
        return found

    def test_waits_in_the_queue_of_the_workspace_only(self, workspace, worked_on, make_collection, tmp_path):
        collection = str(make_collection())
        for out in (workspace.path / "one", tmp_path / "outside"):
            shown = kdcore("study", collection, "--out", str(out), code=130)
            assert "Stopped. Start the same command again to go on." in shown
        assert [(study.path, in_queue) for study, in_queue, _ in worked_on] == [
            (workspace.path / "one", True),
            (tmp_path / "outside", False),
        ]
        assert all(forget_stop for *_, forget_stop in worked_on)
        (listed,) = workspace.studies()  # the dashboard finds it, with its name and data
        assert (listed.title, listed.collection) == ("one", Path(collection))

    def test_is_not_made_for_data_that_are_not_there(self, workspace, worked_on, tmp_path):
        shown = kdcore("study", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out"), code=2)
        assert "there is no such folder or file" in shown
        assert not (tmp_path / "out").exists()

    def test_never_becomes_another_one(self, workspace, worked_on, make_collection, tmp_path):
        collection, out = str(make_collection()), str(tmp_path / "out")
        kdcore("study", collection, "--out", out, code=130)
        assert "holds a study with other settings" in kdcore(
            "study", collection, "--out", out, "--alpha", "0.1", code=2
        )
        kdcore("study", collection, "--out", out, code=130)
        assert len(worked_on) == 2

    def test_on_a_demo_area_keeps_it_beside_the_studies(self, workspace, worked_on, tmp_path, monkeypatch):
        monkeypatch.delenv("KDCORE_WORKSPACE")
        monkeypatch.chdir(tmp_path)
        kdcore("demo", "--seed", "2", code=130)
        ((study, in_queue, _),) = worked_on
        assert (study.path, in_queue) == (tmp_path / "studies/demo", True)
        assert study.collection == tmp_path / "studies/.areas/demo-2"
        assert "began with other data" in kdcore("demo", "--seed", "3", code=2)


def test_the_command_starts_without_heavy_libraries():
    heavy = ("torch", "scipy", "geopandas", "plotly", "rasterio", "streamlit", "pandas")
    code = f"import kdcore.cli, sys; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "-"), (0.4, "0 s"), (99, "99 s"), (100, "2 min"), (3570, "1 h 0 min"), (7260, "2 h 1 min")],
)
def test_times_are_told_as_people_say_them(seconds, words):
    assert duration(seconds) == words
