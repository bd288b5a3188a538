"""Which runs a study consists of, how many steps each has, and how far they are."""

import pytest

from kdcore.errors import RunError
from kdcore.jobs.plan import StudyProgress, measure_progress, parse_run, planned_runs, read_alone_steps, with_steps
from kdcore.jobs.store import RunDirectory, RunStatus
from kdcore.settings import Budget, Recipe, StudySettings, TeacherSettings
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


@pytest.fixture
def settings():
    asked_at_each_step = Recipe(teacher_sees="crop")
    return tiny_study(budget=BUDGET, teacher=TeacherSettings(network=TINY, budget=BUDGET), recipe=asked_at_each_step)


@pytest.fixture
def measure(tmp_path, settings):
    def write(*, working: bool = True, of: StudySettings = settings, **runs: RunStatus) -> StudyProgress:
        for name, status in runs.items():
            run = RunDirectory(tmp_path / name.replace("_", "-"))
            run.path.mkdir(exist_ok=True)
            run.write_status(status)
        return measure_progress(of, tmp_path, working)

    return write


def test_before_anything_is_begun_all_runs_wait(measure):
    progress = measure()
    assert [run.name for run in progress.runs] == ["teacher-s0", "alone-s0", "distilled-s0"]
    assert {run.state for run in progress.runs} == {"waiting"}
    assert (progress.step, progress.steps) == (0, 300)


def test_all_done_is_all_steps(measure):
    done = RunStatus(state="finished", step=100, steps=100, seconds=1.0, elapsed=1.0)
    assert measure(teacher_s0=done, alone_s0=done, distilled_s0=done, working=False).step == 300


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
    progress = measure(of=settings.model_copy(update={"teacher": teacher}))
    assert (progress.runs[0].name, progress.runs[0].steps) == ("teacher", 0)
