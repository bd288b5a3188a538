"""Train and Sweep where whoever runs the dashboard offers Slurm."""

import pytest

from kdcore.jobs.sweep_folder import SweepFolder
from kdcore.jobs.workspace import Workspace
from tests.pages.test_train import button


@pytest.fixture
def submitted(monkeypatch):
    """What was submitted; no Slurm is asked."""
    calls = []
    monkeypatch.setattr("kdcore.jobs.slurm.offered", lambda: "--partition=gpu")
    monkeypatch.setattr(
        "kdcore.jobs.slurm.start_array",
        lambda path, arguments, tasks, *others: calls.append((path, arguments, tasks)),
    )
    return calls


@pytest.mark.parametrize("page", ["train", "sweep"])
def test_slurm_is_not_mentioned_where_it_is_not_offered(workspace, open_page, monkeypatch, page):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("KDCORE_SLURM_OPTIONS", "--partition=gpu")
    assert "Where" not in [control.label for control in open_page(page).segmented_control]


def test_a_study_is_shared_by_as_many_processes_as_were_chosen(workspace, open_page, started, submitted):
    at = open_page("train", preset="quick", seeds="3")
    at.segmented_control(key="place of train").set_value("Slurm").run()
    assert at.number_input(key="processes of train").max == 7  # a teacher, and two students for each of three seeds
    at.number_input(key="processes of train").set_value(3).run()
    button(at, "Launch").click().run()
    assert not at.exception
    ((path, arguments, tasks),) = submitted
    study = Workspace().study(path.name)
    assert arguments == ["runs", "work", study.id, "--workspace", str(workspace)]
    assert (tasks, started, study.state) == (3, [], "queued")


def test_a_study_starts_here_unless_slurm_was_chosen(workspace, open_page, started, submitted):
    button(open_page("train"), "Launch").click().run()
    assert len(started) == 1
    assert not submitted


def test_a_sweep_has_as_many_workers_as_were_chosen(workspace, open_page, submitted):
    at = open_page("sweep")
    at.segmented_control(key="place of sweep").set_value("Slurm").run()
    button(at, "Start the sweep").click().run()
    assert not at.exception
    ((path, arguments, tasks),) = submitted
    assert arguments == ["sweep", "demo", "--demo-seed", "0", "--out", str(path)]
    assert tasks == 4
    assert SweepFolder(path).workers() == {}
