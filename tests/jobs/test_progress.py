"""What a job says of itself is data: older files are still understood, and no word on a screen steers anything."""

import json
import time

import pytest

from kdcore.cli.output import Bars
from kdcore.deploy.folder import DeploymentFolder
from kdcore.inference.uploads import Upload
from kdcore.jobs import worker
from kdcore.jobs.progress import Progress, Stage, Told, told
from kdcore.jobs.status import FORMAT, Status
from kdcore.jobs.study_folder import StudyFolder
from kdcore.jobs.sweep_folder import SweepWorker
from kdcore.jobs.worker import StopWish
from kdcore.ui import own_file, stages
from kdcore.ui.sweep_tables import worker_in_words
from tests.jobs.studies import put_study


@pytest.fixture
def other_words(monkeypatch):
    """Every stage under a word that no program could know."""
    monkeypatch.setattr(stages, "STAGES", {stage: f"<{7 * number}>" for number, stage in enumerate(Stage)})


class TestOlderFiles:
    @pytest.mark.parametrize(
        ("text", "run", "stage"),
        [
            ("", "", None),
            ("starting", "", Stage.STARTING),
            ("waiting", "", Stage.WAITING),
            ("alone-s0: training", "alone-s0", Stage.TRAINING),
            ("all-labels-s12: scoring validation", "all-labels-s12", Stage.SCORING_VALIDATION),
            ("distilled-s0: teacher's answers (1.2 MB)", "distilled-s0", Stage.SOFT_LABELS),
            ("confirmation, best, seed 3: training", "confirmation, best, seed 3", Stage.TRAINING),
            ("marking: teacher-s0", "teacher-s0", Stage.MAPPING),
            ("teacher: writing classes", "teacher", Stage.WRITING_MAP),
            ("alone-s0: scoring alone-s0.onnx on validation", "alone-s0", Stage.SCORING_VALIDATION),
            ("alone-s0: comparing alone-s0.onnx with the original", "alone-s0", Stage.COMPARING),
            ("measuring how long steps take", "", Stage.TIMING_STEPS),
            ("measuring", "", Stage.MEASURING_SPEED),
            ("alone-s0: something of a later version", "alone-s0", Stage.OTHER),
        ],
    )
    def test_say_run_and_stage_in_one_string(self, text, run, stage):
        found = Told.model_validate({"stage": text, "done": 3, "total": 9})
        assert (found.run, found.stage, found.done, found.total) == (run, stage, 3, 9)

    def test_of_a_study_open_as_those_of_today_do(self, tmp_path):
        study = put_study(tmp_path / "old")
        values = {"state": "running", "stage": "alone-s0: training", "done": 120, "total": 300, "queued": 5.0}
        study.status_file.write_text(json.dumps(values))
        old = study.status
        assert old.progress == Progress("alone-s0", Stage.TRAINING, 120, 300)
        study.write_status(old)
        assert json.loads(study.status_file.read_text())["stage"] == "training"
        assert study.status.progress == old.progress

    def test_of_predictions_deployments_and_sweeps_had_other_names_for_the_same(self, tmp_path):
        now = {"stage": "", "done": 0, "total": 0, "message": ""}
        upload = Upload(tmp_path / "upload-1")
        upload.path.mkdir()
        upload.status_file.write_text(
            json.dumps(now | {"state": "finished", "created": 1000.0, "study": "town", "name": "a.tif", "file": None})
        )
        assert (upload.status.state, upload.status.queued, upload.status.name) == ("finished", 1000.0, "a.tif")
        deployment = DeploymentFolder(tmp_path / "deploy")
        deployment.path.mkdir()
        deployment.status_file.write_text(json.dumps(now | {"state": "waiting", "created": time.time()}))
        assert deployment.status.state == "queued"
        process = SweepWorker(tmp_path, 0)
        process.status_file.parent.mkdir()
        for before, today in (("launched", "queued"), ("ended", "finished")):
            process.status_file.write_text(json.dumps(now | {"state": before, "trial": 3, "updated": 5.0}))
            assert (process.said().state, process.said().trial) == (today, 3)

    def test_of_a_later_version_are_refused_and_not_misread(self, tmp_path):
        study = put_study(tmp_path / "new")
        study.status_file.write_text(json.dumps({"format": FORMAT + 1, "state": "running", "new": "part"}))
        assert study.state == "broken"
        assert "was written by a later version of kdcore" in study.job.message

    def test_say_from_now_on_which_format_they_have(self, tmp_path):
        study = put_study(tmp_path / "today", job=Status(state="finished"))
        assert json.loads(study.status_file.read_text())["format"] == FORMAT


EVENTS = [
    Progress("", Stage.STARTING),
    Progress("teacher-s0", Stage.TRAINING, 1, 9),
    Progress("teacher-s0", Stage.TRAINING, 9, 9),
    Progress("teacher-s0", Stage.SCORING_VALIDATION, 1, 2),
    Progress("teacher-s0", Stage.SCORING_TEST, 2, 2),
    Progress("alone-s0", Stage.TRAINING, 1, 9),
    Progress("", Stage.REPORT, 0, 1),
]


def written(folder) -> list[str]:
    """What a job's status file holds after each event."""
    study, lines = put_study(folder), []
    for event in EVENTS:
        study.write_status(Status(state="running").model_copy(update=told(event)))
        values = json.loads(study.status_file.read_text())
        lines.append(json.dumps(values | {"updated": 0}))
    return lines


def decided(study: StudyFolder) -> list[bool]:
    """At which of the stages a wish to stop ends the work at once."""
    study.cancel_file.touch()
    stop = StopWish(study)
    assert stop()
    stop.since = time.monotonic()
    return [worker.may_break_off(Progress("alone-s0", stage), stop) for stage in Stage]


def shown() -> list[tuple[bool, float]]:
    """Which bars a terminal still shows at the end, and how full each is."""
    bars = Bars()
    for event in EVENTS:
        bars(event)
    return [(task.visible, task.completed) for task in bars.bars.tasks]


class TestWords:
    def test_change_nothing_but_the_screen(self, tmp_path, request):
        study = put_study(tmp_path / "stopping")
        with_own = written(tmp_path / "own"), decided(study), shown(), [str(event) for event in EVENTS]
        request.getfixturevalue("other_words")
        assert stages.doing(EVENTS[1], "") == f"Teacher, seed 0: {stages.STAGES[EVENTS[1].stage]}, 1 of 9"
        assert (written(tmp_path / "other"), decided(study), shown(), [str(event) for event in EVENTS]) == with_own

    def test_a_training_and_a_validation_are_not_broken_off_at_once(self, tmp_path, other_words):
        ends_at_once = dict(zip(Stage, decided(put_study(tmp_path / "study")), strict=True))
        assert [stage for stage, ends in ends_at_once.items() if not ends] == [Stage.TRAINING, Stage.SCORING_VALIDATION]

    def test_bars_of_scorings_go_away_and_others_stay(self, other_words):
        assert [visible for visible, _ in shown()] == [True, True, False, False, True, True]

    def test_pixels_are_counted_while_a_raster_is_mapped(self, other_words, monkeypatch):
        monkeypatch.setattr(own_file.st, "session_state", {})
        values = {"study": "town", "name": "a.tif", "run": "alone-s0", "done": 1_500_000, "total": 4_000_000}
        mapping = own_file.UploadStatus(**values, stage=Stage.MAPPING)
        assert own_file.progress_in_words("one", mapping).endswith(": 1.5 of 4.0 MPx")
        writing = own_file.UploadStatus(**values, stage=Stage.WRITING_MAP)
        assert own_file.progress_in_words("one", writing).endswith(", 1,500,000 of 4,000,000")

    def test_starting_is_known_without_a_word(self, other_words):
        starting = Status(state="running", stage=Stage.STARTING)
        assert worker_in_words(0, starting) == "Worker 1: starting: loading the libraries that train"
