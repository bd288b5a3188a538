"""A study once more with a teacher that is trained on."""

import pytest

from kdcore.errors import RunError
from kdcore.jobs.launch import with_longer_teacher
from kdcore.jobs.study_folder import About, StudyFolder
from kdcore.settings import Budget, TeacherSettings
from tests.conftest import TINY
from tests.jobs.studies import tiny_study


def begun(path, **teacher) -> StudyFolder:
    """A study with the teachers' runs that its settings plan."""
    settings = tiny_study(teacher=TeacherSettings(network=TINY, budget=Budget(steps=300), **teacher))
    study = StudyFolder.begin(path / "study", settings, About(title="Before", demo=0))
    for seed in settings.teacher.seeds:
        run = study.path / f"runs/teacher-s{seed}"
        (run / "checkpoints").mkdir(parents=True)
        (run / "settings.yaml").touch()
        (run / "checkpoints/best.safetensors").touch()
    return study


def test_each_teacher_begins_where_it_ended_and_trains_twice_as_long(tmp_path):
    study = begun(tmp_path, seeds=(3, 5))
    longer = with_longer_teacher(study)
    ends = [study.path / f"runs/teacher-s{seed}/checkpoints/best.safetensors" for seed in (3, 5)]
    assert longer.teacher == study.settings.teacher.model_copy(
        update={"start": tuple(ends), "budget": Budget(steps=600)}
    )
    assert longer.model_copy(update={"teacher": study.settings.teacher}) == study.settings


def test_teachers_that_were_reused_are_trained_on(tmp_path):
    files = (tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    for file in files:
        file.touch()
    longer = with_longer_teacher(begun(tmp_path, checkpoints=files))
    assert (longer.teacher.start, longer.teacher.checkpoints, longer.teacher.seeds) == (files, (), (0, 1))


def test_weights_that_are_gone_or_cannot_be_trained_are_named(tmp_path):
    study = begun(tmp_path)
    (study.path / "runs/teacher-s0/checkpoints/best.safetensors").unlink()
    with pytest.raises(RunError, match="weights are not there any more"):
        with_longer_teacher(study)
    onnx = tmp_path / "teacher.onnx"
    onnx.touch()
    with pytest.raises(RunError, match="an ONNX file can only predict"):
        with_longer_teacher(begun(tmp_path / "other", checkpoints=(onnx,)))
