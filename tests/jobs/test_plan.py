"""Which runs a study consists of, and how many steps each has."""

import pytest

from kdcore.errors import RunError
from kdcore.jobs.plan import parse_run, planned_runs, read_alone_steps, with_steps
from kdcore.jobs.study_progress import measure_progress
from kdcore.settings import Budget, TeacherSettings
from tests.conftest import TINY
from tests.jobs.studies import tiny_study

BUDGET = Budget(steps=100, batch_size=2, crop=64, validate_every=25)


def names(settings):
    return [run.name for run in planned_runs(settings)]


def test_the_student_alone_comes_before_the_distilled_one():
    assert names(tiny_study(seeds=(3, 4))) == ["teacher-s0", "alone-s3", "distilled-s3", "alone-s4", "distilled-s4"]


def test_fewer_labels_for_the_students_bring_a_student_with_all_of_them():
    few = tiny_study(seeds=(3, 4), labels=0.25)
    with_it = ["teacher-s0", "alone-s3", "distilled-s3", "all-labels-s3", "alone-s4", "distilled-s4", "all-labels-s4"]
    assert names(few) == with_it
    assert names(few.model_copy(update={"upper_bound": False})) == [name for name in with_it if "all" not in name]
    assert [parse_run(name) for name in with_it[:4]] == [
        ("teacher", 0),
        ("alone", 3),
        ("distilled", 3),
        ("all_labels", 3),
    ]


def test_the_student_with_all_labels_takes_the_steps_of_the_student_alone():
    """Labels are the only thing in which the two differ."""
    steps = {run.name: run.steps for run in planned_runs(tiny_study(budget=BUDGET, labels=0.25), 160)}
    assert (steps["alone-s0"], steps["all-labels-s0"], steps["distilled-s0"]) == (160, 160, 100)


def test_a_teacher_that_is_not_one_network_as_it_is_gets_a_run_of_its_own():
    several = tiny_study(teacher=TeacherSettings(network=TINY, seeds=(0, 1)))
    assert names(several)[:3] == ["teacher-s0", "teacher-s1", "teacher"]
    assert names(tiny_study(teacher=TeacherSettings(network=TINY, flips=True)))[:2] == ["teacher-s0", "teacher"]


def test_more_steps_for_the_student_alone_leave_the_others_as_they_were():
    settings = tiny_study(budget=BUDGET)
    steps = {run.name: (run.steps, run.budget.validate_every) for run in planned_runs(settings, 160)}
    assert steps["alone-s0"] == (160, 40)
    assert steps["distilled-s0"] == (100, 25)
    assert steps["teacher-s0"] == (settings.teacher.budget.steps, settings.teacher.budget.validate_every)


def test_fewer_steps_are_still_validated():
    assert with_steps(Budget(steps=100, validate_every=10), 3).validate_every == 1


def test_progress_counts_the_measured_steps(tmp_path):
    settings = tiny_study(budget=BUDGET, teacher=TeacherSettings(network=TINY, budget=BUDGET))
    assert measure_progress(settings, tmp_path / "runs", False).steps == 300
    (tmp_path / "steps.json").write_text('{"alone": 160, "distilled": 100}')
    assert measure_progress(settings, tmp_path / "runs", False).steps == 360
    few = settings.model_copy(update={"labels": 0.25})
    assert measure_progress(few, tmp_path / "runs", False).steps == 520


def test_a_broken_file_of_steps_is_named(tmp_path):
    assert read_alone_steps(tmp_path) is None
    (tmp_path / "steps.json").write_text("{")
    with pytest.raises(RunError, match=r"steps\.json: does not hold the steps of the student alone"):
        read_alone_steps(tmp_path)
