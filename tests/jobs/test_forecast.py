"""How long a study would take, by hand."""

import json

import pytest

from kdcore.jobs.forecast import Forecast, Probe, forecast, measured_costs, read_probes, save_probe
from kdcore.jobs.status import Status
from kdcore.jobs.study_folder import About, StudyFolder
from kdcore.jobs.workspace import Workspace
from kdcore.settings import PRESETS, Budget, Hardware, Recipe, StudySettings, TeacherSettings

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
    costs = {"teacher_cost": 0.3 / 8192, "alone_cost": 0.06 / 8192, "taught_cost": 0.16 / 8192}
    return Probe(device="cpu", teacher=PRESETS["base"], student=PRESETS["tiny"], members=1, **(costs | values))


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
