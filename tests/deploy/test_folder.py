"""Where a deployment lies, and what a page is told about it."""

import time

import pytest
from filelock import FileLock

from kdcore.deploy import folder
from kdcore.deploy.folder import DeploymentFolder, deployment_folder
from kdcore.errors import KdcoreError, RunError, Stopped
from kdcore.files import write_json
from kdcore.runs.task import Reporter, TaskStatus, perform
from kdcore.runs.workspace import Workspace
from kdcore.settings import StudySettings, save


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
    monkeypatch.setattr(DeploymentFolder, "start", lambda self: started.append(self.path))
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
    assert folder.status(place).state == "waiting"
    assert not folder.status(place).over
    with pytest.raises(RunError, match="already"):
        folder.start(workspace, study)
    assert launched == [place]
    with FileLock(deployment.lock):
        deployment.write_status(TaskStatus(state="running", stage="exporting"))
        assert folder.status(place).state == "running"
        with pytest.raises(RunError, match="already"):
            folder.start(workspace, study)
    assert folder.status(place).state == "interrupted"  # its process is gone
    folder.start(workspace, study)
    assert launched == [place, place]


def test_a_process_that_never_came_to_life_can_be_started_again(workspace, study, launched):
    place = deployment_folder(workspace, study)
    DeploymentFolder(place).write_status(TaskStatus(created=time.time() - 3600))
    assert folder.status(place).state == "interrupted"
    folder.start(workspace, study)
    assert folder.status(place).state == "waiting"


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
    assert deployment.cancel.exists()
    assert perform(deployment, lambda stage: "never told") == 0
    assert folder.status(place).state == "stopped"
    folder.start(workspace, study)
    assert not deployment.cancel.exists()


def test_a_broken_status_is_told_as_a_failure(workspace, study):
    place = deployment_folder(workspace, study)
    place.mkdir()
    (place / "status.json").write_text("{")
    assert folder.status(place).state == "failed"
    assert "Start it again" in folder.status(place).message


def test_a_job_says_how_it_ended(workspace, study, launched):
    deployment = folder.start(workspace, study)
    seen = []

    def work(stage):
        stage("exporting")(1, 3)
        seen.append(folder.status(deployment.path))
        return "one form was refused"

    assert perform(deployment, work) == 0
    assert (seen[0].state, seen[0].stage, seen[0].done, seen[0].total) == ("running", "exporting", 1, 3)
    status = folder.status(deployment.path)
    assert (status.state, status.message) == ("finished", "one form was refused")

    def fail(stage):
        raise KdcoreError("the disk is full")

    assert perform(deployment, fail) == 1
    assert (folder.status(deployment.path).state, folder.status(deployment.path).message) == (
        "failed",
        "the disk is full",
    )
    with pytest.raises(ZeroDivisionError):
        perform(deployment, lambda stage: 1 / 0)
    assert folder.status(deployment.path).message == "ZeroDivisionError: division by zero"


def test_reports_are_written_at_most_twice_a_second_and_stop_when_asked(workspace, study, launched):
    deployment = folder.start(workspace, study)
    report = Reporter(deployment, deployment.status).stage("scoring")
    report(0, 1000)  # a new stage is told at once
    with FileLock(deployment.lock):
        for done in range(1, 400):
            report(done, 1000)
        assert deployment.status.done < 399
        report(1000, 1000)  # and so is its end
        assert deployment.status.done == 1000
    folder.stop(deployment.path)
    with pytest.raises(Stopped):
        report(1000, 1000)
