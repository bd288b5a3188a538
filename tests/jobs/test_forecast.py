"""How long a study would take, by hand."""

import json
from contextlib import nullcontext

import pytest

from kdcore.jobs.forecast import (
    Forecast,
    Left,
    Probe,
    forecast,
    measured_costs,
    pieces,
    read_probes,
    save_probe,
    sweep_left,
    sweep_seconds,
    time_left,
)
from kdcore.jobs.locks import holding
from kdcore.jobs.progress import Stage
from kdcore.jobs.status import Status
from kdcore.jobs.study_folder import About, StudyFolder
from kdcore.jobs.sweep_trials import TrialRecord
from kdcore.jobs.workspace import Workspace
from kdcore.settings import (
    PRESETS,
    Budget,
    Hardware,
    Recipe,
    SearchSpace,
    StudySettings,
    SweepSettings,
    TeacherSettings,
)

CPU = Hardware(device="cpu")
SMALL = Budget(steps=100, batch_size=2, crop=64)  # 8192 pixels a step


def settings(**values) -> StudySettings:
    base = {
        "teacher": TeacherSettings(network=PRESETS["base"], budget=SMALL),
        "student": PRESETS["tiny"],
        "recipe": Recipe(teacher_sees="crop"),  # it is asked at every step
        "budget": SMALL,
        "seeds": (0, 1),
        "hardware": CPU,
    }
    return StudySettings(**(base | values))


def measured(folder, seconds: dict[str, float], elapsed: float = 1.0, **values) -> StudyFolder:
    """A study whose runs took so many seconds for their 100 steps, `elapsed` times as long by the clock."""
    study = StudyFolder.begin(folder / "before", settings(**values), About(title="Before", demo=0))
    study.write_status(Status(state="finished", device="cpu"))
    for name, spent in seconds.items():
        run = study.path / "runs" / name
        run.mkdir(parents=True)
        status = {"state": "finished", "step": 100, "steps": 100, "seconds": spent, "elapsed": spent * elapsed}
        (run / "status.json").write_text(json.dumps(status))
    return study


def test_the_same_study_takes_as_long_again(tmp_path):
    before = measured(tmp_path, {"teacher-s0": 30, "alone-s0": 6, "distilled-s0": 16})
    # teacher 30, two students alone 12, two distilled 32
    assert forecast(settings(), measured_costs([before])) == Forecast(pytest.approx(74), True, True)


def test_time_grows_with_steps_and_pixels_and_scoring(tmp_path):
    before = measured(tmp_path, {"teacher-s0": 30, "alone-s0": 6, "distilled-s0": 16}, elapsed=1.5)
    longer = SMALL.model_copy(update={"steps": 300, "crop": 128})  # 3 times the steps, 4 times the pixels
    expected = forecast(settings(budget=longer), measured_costs([before]))
    assert expected.seconds == pytest.approx(1.5 * (30 + 12 * 12 + 12 * 32))


def test_a_distilled_student_that_never_ran_is_put_together_from_the_others(tmp_path):
    before = measured(tmp_path, {"teacher-s0": 30, "alone-s0": 6})
    # a step of the teacher's forward pass is taken as a third of its training step: 6 + 10
    assert forecast(settings(), measured_costs([before])) == Forecast(pytest.approx(30 + 12 + 32), False, True)


def test_a_network_that_never_ran_is_not_guessed(tmp_path):
    before = measured(tmp_path, {"teacher-s0": 30, "alone-s0": 6, "distilled-s0": 16})
    assert forecast(settings(student=PRESETS["small"]), measured_costs([before])) is None
    assert forecast(settings(), measured_costs([])) is None


def test_a_given_teacher_is_not_trained_and_alpha_zero_asks_none(tmp_path):
    before = measured(tmp_path, {"teacher-s0": 30, "alone-s0": 6, "distilled-s0": 16})
    costs = measured_costs([before])
    given = TeacherSettings(network=PRESETS["base"], checkpoints=(tmp_path / "best.safetensors",))
    assert forecast(settings(teacher=given), costs).seconds == pytest.approx(12 + 32)
    assert forecast(settings(recipe=Recipe(alpha=0)), costs).seconds == pytest.approx(30 + 4 * 6)


def test_with_equal_seconds_the_student_alone_takes_as_long_as_the_distilled_one(tmp_path):
    before = measured(tmp_path, {"teacher-s0": 30, "alone-s0": 6, "distilled-s0": 16})
    assert forecast(settings(match="seconds"), measured_costs([before])) == Forecast(pytest.approx(94), True, True)
    nobody = settings(match="seconds", recipe=Recipe(alpha=0))
    assert forecast(nobody, measured_costs([before])).seconds == pytest.approx(30 + 4 * 6)


def test_the_student_with_all_labels_takes_as_long_as_the_student_alone(tmp_path):
    before = measured(tmp_path, {"teacher-s0": 30, "alone-s0": 6, "distilled-s0": 16})
    costs = measured_costs([before])
    assert forecast(settings(labels=0.25), costs) == Forecast(pytest.approx(74 + 12), True, True)
    assert forecast(settings(labels=0.25, upper_bound=False), costs).seconds == pytest.approx(74)
    assert forecast(settings(labels=0.25, match="seconds"), costs).seconds == pytest.approx(94 + 32)


def test_what_ran_elsewhere_or_is_broken_does_not_count(tmp_path):
    before = measured(tmp_path, {"teacher-s0": 30, "alone-s0": 6, "distilled-s0": 16})
    assert not measured_costs([StudyFolder(before.path, read_only=True)]).alone
    before.settings_file.write_text("[")
    assert not measured_costs([before]).alone


def a_probe(**values) -> Probe:
    """Costs for each step of 8192 pixels: teacher 0.3 s, alone 0.06 s, distilled 0.16 s."""
    costs = {"teacher_cost": 0.3 / 8192, "alone_cost": 0.06 / 8192, "taught_cost": 0.16 / 8192, "members": 1}
    return Probe(device="cpu", teacher=PRESETS["base"], student=PRESETS["tiny"], **(costs | values))


def test_a_probe_tells_of_networks_that_no_study_trained():
    assert forecast(settings(), measured_costs([], [a_probe()])) == Forecast(pytest.approx(74), True, False)


def test_what_a_study_took_counts_more_than_a_probe(tmp_path):
    before = measured(tmp_path, {"teacher-s0": 30, "alone-s0": 6, "distilled-s0": 16})
    costs = measured_costs([before], [a_probe(alone_cost=1.0)])
    assert forecast(settings(), costs).seconds == pytest.approx(74)


def test_probes_are_kept_and_broken_ones_ignored(tmp_path):
    workspace = Workspace(tmp_path)
    save_probe(workspace, a_probe())
    save_probe(workspace, a_probe(alone_cost=2.0))  # the same networks again
    (tmp_path / ".probes/broken.json").write_text("{")
    assert read_probes(workspace) == [a_probe(alone_cost=2.0)]


def test_crops_without_labels_take_their_time_too(tmp_path):
    """A study that had none tells what one with as many as labelled crops takes, and the other way round."""
    more = Recipe(alpha=0.9, unlabelled=1, teacher_sees="crop")
    before = measured(tmp_path / "a", {"teacher-s0": 30, "alone-s0": 6, "distilled-s0": 16})
    assert forecast(settings(recipe=more), measured_costs([before])).seconds == pytest.approx(30 + 12 + 64)
    before = measured(tmp_path / "b", {"teacher-s0": 30, "alone-s0": 6, "distilled-s0": 32}, recipe=more)
    assert forecast(settings(), measured_costs([before])).seconds == pytest.approx(74)
    assert forecast(settings(recipe=more), measured_costs([before])).seconds == pytest.approx(30 + 12 + 64)
    unknown = measured(tmp_path / "c", {"teacher-s0": 30, "alone-s0": 6})
    assert forecast(settings(recipe=more), measured_costs([unknown])).seconds == pytest.approx(30 + 12 + 64)


def test_without_a_finished_run_scoring_is_a_forward_pass_over_all_that_is_scored():
    """Two validations and one at the end of 1,000 px, and 2,000 px of test, in windows of 512 px seen with 32 px around."""
    budget = SMALL.model_copy(update={"validate_every": 50})
    wanted = settings(budget=budget, teacher=TeacherSettings(network=PRESETS["base"], budget=budget), seeds=(0,))
    seen = (3 * 1000 + 2000) * (576 / 512) ** 2 / 3  # a forward pass is a third of a step
    probe = a_probe()
    costs = measured_costs([], [probe])
    without, expected = forecast(wanted, costs), forecast(wanted, costs, (1000, 2000), 7.0)
    scoring = seen * (probe.teacher_cost + 2 * probe.alone_cost)
    assert expected.seconds == pytest.approx(without.seconds + scoring + 7)
    assert (without.scoring, expected.scoring) == (False, True)


class TestLeft:
    """A finished study took 100 s, of which 1.5 times 30 + 6 + 16 belong to its runs: 22 s beside them. Two seeds: 133 s in all."""

    @pytest.fixture
    def costs(self, tmp_path):
        before = measured(
            tmp_path / "a", {"teacher-s0": 30, "alone-s0": 6, "distilled-s0": 16}, elapsed=1.5, seeds=(0,)
        )
        before.write_status(Status(state="finished", device="cpu", seconds=100))
        return measured_costs([before])

    @pytest.fixture
    def study(self, tmp_path):
        return StudyFolder.begin(tmp_path / "now", settings(), About(title="Now", demo=0))

    def put(self, study, name, step, seconds, state="running"):
        run = study.path / "runs" / name
        run.mkdir(parents=True, exist_ok=True)
        elapsed = 1.5 * seconds if state == "finished" else seconds
        status = {"state": state, "step": step, "steps": 100, "seconds": seconds, "elapsed": elapsed, "updated": 1000.0}
        (run / "status.json").write_text(json.dumps(status))

    def left(self, study, costs, stage, run="", done=0, total=1):
        study.write_status(Status(state="running", device="cpu", stage=stage, run=run, done=done, total=total))
        with holding(study.lock, "taken"):
            return time_left(study, costs, None, 0.0, now=1000.0)

    def test_before_the_launch_and_at_its_beginning_it_is_the_same(self, study, costs):
        assert forecast(settings(), costs).seconds == pytest.approx(133)
        assert self.left(study, costs, "reading") == Left(pytest.approx(0), pytest.approx(133), True)

    def test_half_of_a_training_is_done(self, study, costs):
        self.put(study, "teacher-s0", 100, 30, "finished")
        self.put(study, "alone-s0", 50, 3)
        left = self.left(study, costs, "training", "alone-s0", 50, 100)
        assert left.seconds == pytest.approx(3 + 3 + 24 + 9 + 24 + 22)
        assert left.share == pytest.approx(1 - 85 / 133)

    def test_scoring_still_takes_time(self, study, costs):
        self.put(study, "teacher-s0", 100, 30, "finished")
        self.put(study, "alone-s0", 100, 6)
        left = [
            self.left(study, costs, stage, "alone-s0", 3, 4).seconds for stage in ("scoring validation", "scoring test")
        ]
        assert left == pytest.approx([79 + 3 * (1 - 0.75 / 2), 79 + 3 * 0.25 / 2])

    def test_the_map_comes_last(self, study, costs):
        for name, seconds in {
            "teacher-s0": 30,
            "alone-s0": 6,
            "distilled-s0": 16,
            "alone-s1": 6,
            "distilled-s1": 16,
        }.items():
            self.put(study, name, 100, seconds, "finished")
        assert self.left(study, costs, "map layers", "", 1, 2).seconds == pytest.approx(11)

    def test_soft_labels_count_as_far_as_they_are_computed(self, study, costs):
        study = StudyFolder.begin(study.path.parent / "kept", settings(recipe=Recipe()), About(title="Kept", demo=0))
        study.write_status(
            Status(state="running", device="cpu", stage="soft labels", run="distilled-s0", done=1, total=4)
        )
        whole = [piece for piece in pieces(study.settings, costs, None, 40.0) if piece.stage is Stage.SOFT_LABELS]
        assert [(piece.run, piece.seconds) for piece in whole] == [("distilled-s0", 40.0)]
        with holding(study.lock, "taken"):
            computed, none = (time_left(study, costs, None, seconds, now=1000.0).seconds for seconds in (40.0, 0.0))
        assert computed - none == pytest.approx(30)


class TestLeftByItsOwnRuns:
    """Nothing else was measured in this workspace: what is left is told from the study's own runs. One seed; 8,192 pixels a step."""

    @pytest.fixture
    def left(self, tmp_path):
        def told(*runs, now=1000.0, working=False, **values) -> Left | None:
            """Of each run its name, steps done, seconds of them and seconds by the clock; it is finished with its 100th step."""
            study = StudyFolder.begin(
                tmp_path / "now", settings(**{"seeds": (0,)} | values), About(title="Now", demo=0)
            )
            for name, step, seconds, elapsed in runs:
                state = "finished" if step == 100 else "running" if working else "stopped"
                status = {"state": state, "step": step, "steps": 100, "seconds": seconds, "elapsed": elapsed}
                run = study.path / "runs" / name
                run.mkdir(parents=True)
                (run / "status.json").write_text(json.dumps(status | {"updated": 1000.0}))
            at = {"stage": "training", "run": runs[-1][0]} if working else {}
            study.write_status(Status(state="running" if working else "stopped", device="cpu", **at))
            with holding(study.lock, "taken") if working else nullcontext():
                return time_left(study, measured_costs([]), None, 0.0, now)

        return told

    def test_before_anything_was_measured_nothing_is_known(self, left):
        assert left() is None

    def test_the_first_step_is_no_measure(self, left):
        assert left(("teacher-s0", 1, 9.0, 9.0)) is None

    def test_the_first_arm_stands_for_those_that_have_not_run(self, left):
        found = left(("teacher-s0", 50, 100.0, 100.0))
        # 50 steps of 2 s; the student alone as slow as that: 200 s; the distilled one with a third more: 266.7 s
        assert found.seconds == pytest.approx(100 + 200 + 200 * 4 / 3)
        assert not found.measured

    def test_measured_arms_stand_for_themselves(self, left):
        found = left(("teacher-s0", 100, 300, 300), ("alone-s0", 100, 100, 100), ("distilled-s0", 20, 30, 30))
        assert found.seconds == pytest.approx(80 * 1.5)
        assert found.measured

    def test_the_distilled_student_is_guessed_from_the_other_two(self, left):
        found = left(("teacher-s0", 100, 300, 300), ("alone-s0", 100, 100, 100))
        assert found.seconds == pytest.approx(100 * (1.0 + 3.0 / 3))
        assert not found.measured

    def test_a_teacher_whose_predictions_are_cached_is_not_asked_at_each_step(self, left):
        cached = Recipe(teacher_sees="scene", unlabelled=1.0)
        found = left(("teacher-s0", 100, 300, 300), ("alone-s0", 100, 100, 100), recipe=cached)
        assert found.seconds == pytest.approx(2 * 100)

    def test_unlabelled_crops_and_ensembles_cost_more(self, left):
        runs = (("teacher-s0", 100, 300, 300), ("teacher-s1", 100, 300, 300), ("alone-s0", 100, 100, 100))
        two = TeacherSettings(network=PRESETS["base"], budget=SMALL, seeds=(0, 1))
        found = left(*runs, teacher=two, recipe=Recipe(alpha=0.5, unlabelled=1.0, teacher_sees="crop"))
        assert found.seconds == pytest.approx(2 * 100 * (1.0 + 2 * 3.0 / 3))

    def test_reading_and_scoring_are_added_as_they_were_measured(self, left):
        found = left(("teacher-s0", 100, 300, 300), ("alone-s0", 100, 100, 150))
        assert found.seconds == pytest.approx(200 * (1.0 + 1.5) / 2)

    def test_larger_crops_cost_more(self, left):
        teacher = TeacherSettings(network=PRESETS["base"], budget=SMALL.model_copy(update={"crop": 128}))
        found = left(("teacher-s0", 100, 400, 400), teacher=teacher, recipe=Recipe(alpha=0))
        assert found.seconds == pytest.approx(100.0 + 100.0)  # a quarter of the pixels, twice

    def test_other_seeds_of_an_arm_are_averaged(self, left):
        runs = (("teacher-s0", 100, 100, 100), ("alone-s0", 100, 100, 100), ("distilled-s0", 100, 200, 200))
        found = left(*runs, ("alone-s1", 100, 140, 140), seeds=(0, 1, 2))
        assert found.seconds == pytest.approx(200.0 + 120.0 + 200.0)
        assert found.measured

    def test_the_student_with_all_labels_costs_what_the_student_alone_does(self, left):
        runs = (("teacher-s0", 100, 300, 300), ("alone-s0", 100, 100, 100), ("distilled-s0", 100, 200, 200))
        found = left(*runs, labels=0.25)
        assert (found.seconds, found.measured) == (pytest.approx(100.0), True)

    def test_it_counts_down_between_two_words_of_the_run(self, left):
        runs = (("teacher-s0", 100, 100, 100), ("alone-s0", 100, 100, 100), ("distilled-s0", 50, 50, 50))
        assert left(*runs, working=True, now=1020.0).seconds == pytest.approx(50 - 20)

    def test_all_done_leaves_nothing(self, left):
        found = left(("teacher-s0", 100, 1, 1), ("alone-s0", 100, 1, 1), ("distilled-s0", 100, 1, 1))
        assert (found.share, found.seconds) == (1, 0)

    def test_given_checkpoints_are_not_trained_and_cost_no_less_than_the_student(self, left, tmp_path):
        given = TeacherSettings(network=PRESETS["base"], checkpoints=(tmp_path / "best.safetensors",))
        found = left(("alone-s0", 100, 100, 100), teacher=given)
        assert found.seconds == pytest.approx(
            100 * 4 / 3
        )  # the distilled student, with a forward pass as slow as its own
        assert not found.measured


class TestSweepLeft:
    """A teacher of 30 s and trials of 16 s on two workers; two seeds confirm, each with two trainings."""

    @pytest.fixture
    def sweep(self):
        return SweepSettings(
            space=SearchSpace(student="tiny"), trials=10, confirm=2, budget=SMALL, hardware=CPU, repeats=2,
            teacher=TeacherSettings(network=PRESETS["base"], budget=SMALL),
        )  # fmt: skip

    def trial(self, number, started, ended=None):
        state = "running" if ended is None else "finished"
        return TrialRecord(number=number, state=state, started=started, ended=ended)

    def test_before_the_first_trial_all_of_it_is_left(self, sweep):
        costs = measured_costs([], [a_probe(members=0)])
        left = sweep_left(sweep, costs, 2, [], confirmed=False)
        assert left.seconds == pytest.approx(30 + (10 + 4) * 16 / 2) == sweep_seconds(sweep, costs, 2)
        assert (left.share, left.measured) == (0, False)

    def test_trials_that_have_ended_tell_how_long_the_rest_takes(self, sweep):
        trials = [self.trial(number, 100.0, 120.0) for number in range(4)]
        left = sweep_left(sweep, measured_costs([], [a_probe(members=0)]), 2, trials, confirmed=False)
        assert left.seconds == pytest.approx((6 + 4) * 20 / 2)
        assert left.share == pytest.approx(1 - 100 / (30 + 14 * 10))
        assert left.measured
        assert sweep_left(sweep, measured_costs([]), 2, trials, confirmed=True).seconds == pytest.approx(60)

    def test_without_any_measurement_nothing_is_told(self, sweep):
        assert sweep_left(sweep, measured_costs([]), 2, [], confirmed=False) is None
