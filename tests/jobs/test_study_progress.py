"""Seconds left, computed by hand: a step of 2 crops of 64 px is 8,192 pixels in every arm here."""

import time

import pytest

from kdcore.jobs.store import RunDirectory, RunStatus
from kdcore.jobs.study_progress import StudyProgress, measure_progress
from kdcore.settings import Budget, Recipe, StudySettings, TeacherSettings
from tests.conftest import TINY
from tests.jobs.studies import tiny_study

STEPS = Budget(steps=100, batch_size=2, crop=64)


@pytest.fixture
def settings():
    asked_at_each_step = Recipe(teacher_sees="crop")
    return tiny_study(budget=STEPS, teacher=TeacherSettings(network=TINY, budget=STEPS), recipe=asked_at_each_step)


@pytest.fixture
def measure(tmp_path, settings):
    def write(*, working: bool = True, of: StudySettings = settings, **runs: RunStatus) -> StudyProgress:
        for name, status in runs.items():
            run = RunDirectory(tmp_path / name.replace("_", "-"))
            run.path.mkdir(exist_ok=True)
            run.write_status(status)
        return measure_progress(of, tmp_path, working)

    return write


def finished(seconds: float, elapsed: float) -> RunStatus:
    return RunStatus(state="finished", step=100, steps=100, seconds=seconds, elapsed=elapsed)


def test_before_anything_was_measured_nothing_is_known(measure):
    progress = measure()
    assert [run.name for run in progress.runs] == ["teacher-s0", "alone-s0", "distilled-s0"]
    assert {run.state for run in progress.runs} == {"waiting"}
    assert (progress.step, progress.steps) == (0, 300)
    assert progress.seconds_left is None
    few = measure(teacher_s0=RunStatus(state="running", step=1, steps=100, seconds=9.0))
    assert few.seconds_left is None  # the first step is no measure


def test_the_first_arm_stands_for_those_that_have_not_run(measure):
    progress = measure(teacher_s0=RunStatus(state="stopped", step=50, steps=100, seconds=100.0, elapsed=100.0))
    # 50 steps of 2 s; the student alone as slow as that: 200 s; the distilled one with a third more: 266.7 s
    assert progress.seconds_left == pytest.approx(100 + 200 + 200 * 4 / 3)
    assert not progress.measured


def test_measured_arms_stand_for_themselves(measure):
    progress = measure(
        teacher_s0=finished(300.0, 300.0),
        alone_s0=finished(100.0, 100.0),
        distilled_s0=RunStatus(state="stopped", step=20, steps=100, seconds=30.0, elapsed=30.0),
    )
    assert progress.seconds_left == pytest.approx(80 * 1.5)
    assert progress.measured


def test_the_distilled_student_is_guessed_from_the_other_two(measure):
    progress = measure(teacher_s0=finished(300.0, 300.0), alone_s0=finished(100.0, 100.0))
    assert progress.seconds_left == pytest.approx(100 * (1.0 + 3.0 / 3))


def test_a_teacher_whose_answers_are_kept_is_not_asked_at_each_step(measure, settings):
    kept = settings.model_copy(update={"recipe": Recipe(teacher_sees="scene", unlabelled=1.0)})
    progress = measure(of=kept, teacher_s0=finished(300.0, 300.0), alone_s0=finished(100.0, 100.0))
    assert progress.seconds_left == pytest.approx(2 * 100)


def test_unlabelled_crops_and_ensembles_make_it_dearer(measure, settings):
    members = settings.teacher.model_copy(update={"seeds": (0, 1)})
    recipe = Recipe(alpha=0.5, unlabelled=1.0, teacher_sees="crop")
    progress = measure(
        of=settings.model_copy(update={"teacher": members, "recipe": recipe}),
        teacher_s0=finished(300.0, 300.0),
        teacher_s1=finished(300.0, 300.0),
        teacher=RunStatus(state="finished"),
        alone_s0=finished(100.0, 100.0),
    )
    assert progress.seconds_left == pytest.approx(2 * 100 * (1.0 + 2 * 3.0 / 3))


def test_reading_and_scoring_are_added_as_they_were_measured(measure):
    progress = measure(
        teacher_s0=finished(300.0, 300.0), alone_s0=finished(100.0, 150.0), distilled_s0=RunStatus(step=0, steps=100)
    )
    assert progress.seconds_left == pytest.approx(200 * (1.0 + 1.5) / 2)


def test_larger_crops_cost_more(measure, settings):
    teacher = settings.teacher.model_copy(update={"budget": STEPS.model_copy(update={"crop": 128})})
    progress = measure(
        of=settings.model_copy(update={"teacher": teacher, "recipe": Recipe(alpha=0)}),
        teacher_s0=finished(400.0, 400.0),
    )
    assert progress.seconds_left == pytest.approx(100.0 + 100.0)  # a quarter of the pixels, twice


def test_other_seeds_of_an_arm_are_averaged(measure, settings):
    progress = measure(
        of=settings.model_copy(update={"seeds": (0, 1, 2)}),
        teacher_s0=finished(100.0, 100.0),
        alone_s0=finished(100.0, 100.0),
        distilled_s0=finished(200.0, 200.0),
        alone_s1=finished(140.0, 140.0),
    )
    assert progress.seconds_left == pytest.approx(200.0 + 120.0 + 200.0)
    assert progress.measured


def test_the_student_with_all_labels_costs_what_the_student_alone_does(measure, settings):
    progress = measure(
        of=settings.model_copy(update={"labels": 0.25}),
        teacher_s0=finished(300.0, 300.0),
        alone_s0=finished(100.0, 100.0),
        distilled_s0=finished(200.0, 200.0),
    )
    assert progress.seconds_left == pytest.approx(100.0)
    assert progress.measured


def test_it_counts_down_between_two_words_of_the_run(measure, monkeypatch):
    before = measure(
        teacher_s0=finished(100.0, 100.0),
        alone_s0=finished(100.0, 100.0),
        distilled_s0=RunStatus(state="running", step=50, steps=100, seconds=50.0, elapsed=50.0),
    )
    later = time.time() + 20
    monkeypatch.setattr("kdcore.jobs.study_progress.time.time", lambda: later)
    after = measure(of=tiny_study(budget=STEPS, teacher=TeacherSettings(network=TINY, budget=STEPS)))
    assert before.seconds_left == pytest.approx(50.0, abs=1)
    assert after.seconds_left == pytest.approx(30.0, abs=1)


def test_all_done_leaves_nothing(measure):
    progress = measure(
        teacher_s0=finished(1.0, 1.0), alone_s0=finished(1.0, 1.0), distilled_s0=finished(1.0, 1.0), working=False
    )
    assert (progress.seconds_left, progress.step) == (0.0, 300)


def test_a_run_whose_process_died_was_interrupted(measure):
    running = RunStatus(state="running", step=20, steps=100, seconds=1.0)
    assert measure(teacher_s0=running).runs[0].state == "running"
    assert measure(teacher_s0=running, working=False).runs[0].state == "interrupted"


def test_a_run_that_was_killed_after_its_report_is_finished(measure, tmp_path):
    """Before it could say so itself; it is not worked on again."""
    killed = RunStatus(state="running", step=100, steps=100, seconds=50.0)
    assert measure(working=False, teacher_s0=killed).runs[0].state == "interrupted"
    (tmp_path / "teacher-s0/report.json").write_text("{}")
    assert measure(working=False, teacher_s0=killed).runs[0].state == "finished"


def test_a_broken_status_counts_as_not_begun(measure, tmp_path):
    measure(teacher_s0=RunStatus(state="running", step=20, steps=100))
    (tmp_path / "teacher-s0/status.json").write_text('{"step": ')
    assert measure().runs[0].state == "waiting"


def test_existing_checkpoints_are_scored_and_not_trained(measure, settings, tmp_path):
    teacher = settings.teacher.model_copy(update={"checkpoints": (tmp_path / "best.safetensors",)})
    progress = measure(of=settings.model_copy(update={"teacher": teacher}), alone_s0=finished(100.0, 100.0))
    assert (progress.runs[0].name, progress.runs[0].steps) == ("teacher", 0)
    assert progress.seconds_left == pytest.approx(100.0)
