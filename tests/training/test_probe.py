"""Measuring steps before a study."""

import pytest

from kdcore.errors import RunError
from kdcore.jobs.devices import take
from kdcore.jobs.forecast import forecast, measured_costs, read_probes
from kdcore.jobs.progress import ignore
from kdcore.jobs.question import Measurement
from kdcore.jobs.workspace import Workspace
from kdcore.settings import Hardware, Recipe
from kdcore.training.probe import probe
from tests.training.studies import study_settings


def test_a_probe_in_a_process_lets_the_study_be_forecast(tmp_path):
    settings = study_settings()
    told = []
    Measurement.ask({"workspace": str(tmp_path / "studies"), "study": settings.model_dump(mode="json")}, told.append)
    assert told
    (found,) = read_probes(Workspace(tmp_path / "studies"))
    assert (found.teacher, found.student) == (settings.teacher.network, settings.student)
    assert forecast(settings, measured_costs([], [found])).measured


def test_an_ensemble_of_teachers_costs_more_than_no_teacher(tmp_path):
    """Four teachers larger than the student, asked at each step: more than noise between steps."""
    teacher = study_settings().teacher.model_copy(update={"seeds": (0, 1, 2, 3)})
    settings = study_settings(teacher=teacher, recipe=Recipe(teacher_sees="crop"))
    found = probe(settings, tmp_path, ignore)
    assert found.members == 4
    assert found.taught_cost > found.alone_cost > 0


def test_kept_answers_are_not_asked_for_at_each_step(tmp_path):
    settings = study_settings(recipe=Recipe(teacher_sees="scene"))
    found = probe(settings, tmp_path, ignore)
    assert found.members == 0
    assert forecast(settings, measured_costs([], [found])).measured
    assert not forecast(
        settings.model_copy(update={"recipe": Recipe(teacher_sees="crop")}), measured_costs([], [found])
    ).measured


def test_a_device_at_work_is_not_measured(tmp_path):
    busy = take(tmp_path, Hardware(device="cpu"))
    with pytest.raises(RunError, match="A study uses the device now"):
        probe(study_settings(), tmp_path, ignore)
    busy.release()
