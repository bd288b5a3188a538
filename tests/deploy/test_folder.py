"""Where a deployment lies, and what a page is told about it."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock

from kdcore.deploy import folder
from kdcore.deploy.folder import DeploymentFolder, deployment_folder
from kdcore.errors import KdcoreError, RunError, Stopped
from kdcore.files import write_json
from kdcore.jobs import worker
from kdcore.jobs.progress import Progress, Stage, counting
from kdcore.jobs.status import Status
from kdcore.jobs.worker import do
from kdcore.jobs.workspace import Workspace
from kdcore.settings import StudySettings, save
from tests.jobs.studies import wait_for


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "studies")


@pytest.fixture
def study(workspace):
    save(StudySettings(), workspace.path / "town/study.yaml")
    write_json(workspace.path / "town/report.json", {})
    return workspace.study("town")


@pytest.fixture
def launched(monkeypatch):
    """Folders for which a process would have been started."""
    started = []

    def start(module, arguments, log, environment):
        started.append(Path(arguments[1]))
        return SimpleNamespace(wait=lambda: 0)

    monkeypatch.setattr("kdcore.jobs.job.start_detached", start)
    return started


def test_own_studies_hold_their_deployment_and_the_example_is_left_alone(workspace, study):
    own = deployment_folder(workspace, study)
    assert own == workspace.path / "town/deploy"
    assert DeploymentFolder(own).study == study
    assert DeploymentFolder(own).workspace.path == workspace.path
    example = deployment_folder(workspace, workspace.example())
    assert example == workspace.path / ".deploy/example"
    assert DeploymentFolder(example).study == workspace.example()
    assert DeploymentFolder(example).workspace.path == workspace.path


def test_from_never_started_to_started(workspace, study, launched):
    place = deployment_folder(workspace, study)
    assert folder.status(place) is None
    deployment = folder.start(workspace, study)
    assert launched == [place]
    assert folder.status(place).state == "queued"
    assert not folder.status(place).over
    with pytest.raises(RunError, match="already"):
        folder.start(workspace, study)
    assert launched == [place]
    with FileLock(deployment.lock):
        deployment.write_status(Status(state="running", stage=Stage.EXPORTING))
        assert folder.status(place).state == "running"
        with pytest.raises(RunError, match="already"):
            folder.start(workspace, study)
    assert folder.status(place).state == "interrupted"  # its process is gone
    folder.start(workspace, study)
    assert launched == [place, place]


def test_a_process_that_never_came_to_life_can_be_started_again(workspace, study, launched):
    place = deployment_folder(workspace, study)
    DeploymentFolder(place).write_status(Status(queued=time.time() - 3600))
    assert folder.status(place).state == "interrupted"
    folder.start(workspace, study)
    assert folder.status(place).state == "queued"


def test_a_study_that_is_not_finished_is_refused(workspace, study, launched):
    (study.path / "report.json").unlink()
    with pytest.raises(RunError, match="town: is not finished"):
        folder.start(workspace, study)
    assert launched == []


def test_an_old_wish_to_stop_is_forgotten_by_the_next_start(workspace, study, launched):
    place = deployment_folder(workspace, study)
    folder.stop(place)  # nothing there yet: nothing happens
    assert not place.exists()
    deployment = folder.start(workspace, study)
    folder.stop(place)
    assert deployment.cancel_file.exists()
    with pytest.raises(Stopped):
        do(deployment, lambda job, session: "never told")
    assert folder.status(place).state == "stopped"
    folder.start(workspace, study)
    assert not deployment.cancel_file.exists()


def test_a_broken_status_is_told_as_a_failure(workspace, study):
    place = deployment_folder(workspace, study)
    place.mkdir()
    (place / "status.json").write_text("{")
    assert folder.status(place).state == "failed"
    assert "Start it again" in folder.status(place).message


def test_a_job_says_how_it_ended(workspace, study, launched):
    deployment = folder.start(workspace, study)
    seen = []

    def work(job, session):
        session(Progress("", Stage.EXPORTING, 1, 3))
        wait_for(lambda: folder.status(deployment.path).stage is Stage.EXPORTING)
        seen.append(folder.status(deployment.path))
        return "one form was refused"

    do(deployment, work)
    assert (seen[0].state, seen[0].stage, seen[0].done, seen[0].total) == ("running", Stage.EXPORTING, 1, 3)
    status = folder.status(deployment.path)
    assert (status.state, status.message) == ("finished", "one form was refused")

    def fail(job, session):
        raise KdcoreError("the disk is full")

    with pytest.raises(KdcoreError, match="the disk is full"):
        do(deployment, fail)
    assert (folder.status(deployment.path).state, folder.status(deployment.path).message) == (
        "failed",
        "the disk is full",
    )
    with pytest.raises(ZeroDivisionError):
        do(deployment, lambda job, session: 1 / 0)
    assert folder.status(deployment.path).message == "ZeroDivisionError: division by zero"


def test_reports_are_written_at_most_twice_a_second_and_stop_when_asked(workspace, study, launched, monkeypatch):
    monkeypatch.setattr(worker, "LOOK_EVERY", 0.0)
    deployment = folder.start(workspace, study)
    written = []
    real = DeploymentFolder.write_status
    monkeypatch.setattr(
        DeploymentFolder, "write_status", lambda self, status: (written.append(status), real(self, status))
    )

    def work(job, session):
        report = counting(session, Stage.SCORING_TEST)
        began = time.monotonic()
        while time.monotonic() - began < 1.2:
            for done in range(400):
                report(done, 1000)
        assert 2 <= len(written) <= 1 + (time.monotonic() - began) / 0.5
        folder.stop(deployment.path)
        report(1000, 1000)
        raise AssertionError("it was to stop")

    with pytest.raises(Stopped):
        do(deployment, work)
    assert (deployment.status.state, deployment.status.done) == ("stopped", 1000)


def test_one_bar_counts_every_piece_of_every_network():
    """Two networks of twelve pieces, then speeds and descriptions: 26 in all."""
    networks = ("teacher-s0", "distilled-s0")

    def share(stage, run="", subject="", done=0, total=1):
        told = Status(state="running", stage=stage, run=run, subject=subject, done=done, total=total)
        return folder.share_done(told, networks)

    assert share(Stage.READING) == 0
    in_order = [
        share(Stage.EXPORTING, "teacher-s0"),
        share(Stage.SCORING_VALIDATION, "teacher-s0", "", 1, 2),
        share(Stage.SCORING_VALIDATION, "teacher-s0", "teacher-s0.onnx"),
        share(Stage.COMPARING, "teacher-s0", "teacher-s0.onnx in bfloat16", 1, 2),
        share(Stage.SCORING_TEST, "teacher-s0", "teacher-s0-int8.onnx", 1, 4),
        share(Stage.CALIBRATING, "distilled-s0"),
        share(Stage.MEASURING_SPEED, done=2, total=5),
        share(Stage.DESCRIBING, done=1, total=2),
    ]
    assert in_order == pytest.approx([part / 26 for part in (0, 1.5, 2, 6.5, 11.25, 12 + 8, 24.4, 25.5)])


def test_what_is_left_of_a_deployment_follows_from_what_it_took():
    job = Status(state="running", started=1000.0)
    assert folder.seconds_left(job, 0.25, now=1030.0) == pytest.approx(90)
    assert folder.seconds_left(job, 0.05, now=1030.0) is None
