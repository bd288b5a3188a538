"""Steps of the student alone that take as long as the distilled student's."""

import json

import pytest

from kdcore.errors import Stopped
from kdcore.jobs.store import RunDirectory
from kdcore.settings import Recipe
from kdcore.training import probe
from kdcore.training.probe import seconds_of_step
from kdcore.training.study import run_study
from tests.training.studies import study_settings
from tests.training.test_study import begun, collection, runs_of  # noqa: F401


@pytest.fixture
def measured(monkeypatch):
    """A machine on which a step of the distilled student takes 1.5 times as long, and other work disturbs every second round."""
    asked = []

    def seconds(folder, settings, should_stop):
        asked.append(settings.arm)
        return (0.3 if settings.recipe.alpha else 0.2) * (1 if len(asked) > 2 else 2 + len(asked))

    monkeypatch.setattr(probe, "seconds_of_step", seconds)
    return asked


def test_the_student_alone_trains_as_long_as_the_distilled_one(begun, collection, measured):  # noqa: F811
    report = run_study(collection, study_settings(match="seconds"), begun / "matched")
    assert measured == ["alone", "distilled", "alone", "distilled"]  # once for both seeds
    # 6 steps of 0.3 s are 9 of 0.2 s; validated after each 3 x 9 / 6 = 4.5, rounded to 4.
    assert {arm: values["steps"] for arm, values in report["arms"].items()} == {
        "teacher": 24,
        "alone": 9,
        "distilled": 6,
    }
    runs = runs_of(begun / "matched")
    assert [runs[f"alone-s{seed}"].settings.budget.steps for seed in (0, 1)] == [9, 9]
    assert [line["step"] for line in runs["alone-s0"].read_metrics() if "validation_mean_ap" in line] == [4, 8, 9]
    # What was measured stays, whatever this machine is doing when the study goes on.
    steps = json.loads((begun / "matched/steps.json").read_text())
    assert steps == {"alone": 9, "distilled": 6, "seconds_of_a_step": {"alone": 0.2, "distilled": 0.3}}
    run_study(collection, study_settings(match="seconds"), begun / "matched")
    assert len(measured) == 4


def test_a_student_that_asks_nobody_needs_no_measuring(begun, collection, measured):  # noqa: F811
    report = run_study(collection, study_settings(match="seconds", seeds=(0,), recipe=Recipe(alpha=0)), begun / "zero")
    assert measured == []
    assert report["arms"]["alone"]["steps"] == 6
    assert not (begun / "zero/steps.json").exists()


def test_steps_are_timed_in_the_very_training(tiny_study, tmp_path):
    run = RunDirectory(tiny_study / "runs/distilled-s0")
    assert 0 < seconds_of_step(tmp_path / "timing", run.settings) < 10
    timed = RunDirectory(tmp_path / "timing")
    assert max(line["step"] for line in timed.read_metrics()) == 10
    assert not timed.best.exists()


def test_a_wish_to_stop_is_heard(tiny_study, tmp_path):
    run = RunDirectory(tiny_study / "runs/alone-s0")
    with pytest.raises(Stopped):
        seconds_of_step(tmp_path / "timing", run.settings, lambda: True)
