"""Several processes are given one study: each run is done once, by whoever is free, and the result is that of one process."""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from kdcore.data.collection import Collection
from kdcore.errors import Stopped
from kdcore.jobs.locks import holding
from kdcore.jobs.progress import ignore
from kdcore.jobs.store import RunDirectory
from kdcore.jobs.study_folder import StudyFolder
from kdcore.settings import save
from kdcore.training.study import begin, work_on_runs
from kdcore.training.worker import help_out, work
from tests.jobs.studies import wait_for
from tests.training.studies import TEACHER_BUDGET, same_weights, study_settings


@pytest.fixture
def begun(tmp_path, make_collection):
    """A study of two seeds that was begun, and how its free runs are done."""
    collection, settings = Collection.open(make_collection()), study_settings()
    begin(tmp_path / "study", settings, collection)
    return tmp_path / "study", lambda: work_on_runs(tmp_path / "study", settings, collection, ignore, lambda: False)


@contextmanager
def done_elsewhere(study, run):
    """Another process works on a run."""
    with pytest.MonkeyPatch.context() as patch, holding(study / "runs" / run / "alive.lock", "taken"):
        patch.setattr("kdcore.jobs.locks.PATIENCE", 0.05)
        patch.setattr(RunDirectory, "create", creating(RunDirectory.create))
        yield


def creating(create):
    """The other process has made the folder already; here only its lock is there."""

    def make(path, settings):
        if (path / "alive.lock").exists() and not (path / "settings.yaml").exists():
            save(settings, path / "settings.yaml")
        return create(path, settings)

    return make


def finished(study):
    return {run.path.name for run in StudyFolder(study).runs() if run.report.exists()}


STUDENTS = {f"{arm}-s{seed}" for arm in ("alone", "distilled") for seed in (0, 1)}


def test_a_run_that_another_process_does_is_left_to_it(begun):
    study, work_on = begun
    with done_elsewhere(study, "distilled-s0"):
        assert not work_on()
        assert finished(study) == {"teacher-s0"} | STUDENTS - {"distilled-s0"}
    assert work_on()  # it was killed
    assert finished(study) == {"teacher-s0"} | STUDENTS


def test_only_who_listens_waits_for_a_teacher_that_is_trained_elsewhere(begun):
    study, work_on = begun
    with done_elsewhere(study, "teacher-s0"):
        assert not work_on()
        assert finished(study) == {"alone-s0", "alone-s1"}


def test_who_helps_stops_with_whoever_leads(begun):
    study = StudyFolder(begun[0])
    with study.working():
        study.cancel_file.touch()
        with pytest.raises(Stopped):
            help_out(study, ignore, in_queue=False)


@pytest.mark.slow  # 30 s: three processes that each import torch, two of which train
def test_two_processes_share_a_study_and_the_leader_may_be_killed(tmp_path, make_collection):
    longer = TEACHER_BUDGET.model_copy(update={"steps": 120})
    settings = study_settings()
    settings = settings.model_copy(update={"teacher": settings.teacher.model_copy(update={"budget": longer})})
    save(settings, tmp_path / "settings.yaml")
    collection = make_collection()
    folder = tmp_path / "shared/one"
    arguments = ("study", collection, "--out", folder, "--settings", tmp_path / "settings.yaml", "--json")
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "KDCORE_WORKSPACE": str(tmp_path / "elsewhere"),
    }

    def start():
        command = [sys.executable, "-m", "kdcore", *map(str, arguments)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    study = StudyFolder(folder)
    first = start()
    wait_for(lambda: RunDirectory(folder / "runs/teacher-s0").read_metrics())
    second, third = start(), start()
    wait_for(lambda: any((folder / f"runs/alone-s{seed}/settings.yaml").exists() for seed in (0, 1)))
    first.kill()
    first.communicate()
    said = [process.communicate(timeout=800) for process in (second, third)]
    assert [process.returncode for process in (second, third)] == [0, 0], "\n---\n".join(
        error[-2000:] for _, error in said
    )
    assert study.finished
    alone = StudyFolder.begin(tmp_path / "alone/one", settings, study.about)
    work(alone, in_queue=False)
    assert {run.path.name for run in alone.runs()} == {run.path.name for run in study.runs()}
    for run in alone.runs():
        assert same_weights(run.best, study.run(run.path.name).best)
    starts = sum((run.path / "log.txt").read_text().count("started on") for run in study.runs())
    assert starts <= len(study.runs()) + 1  # once more what the killed process was doing
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]
