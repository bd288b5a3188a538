"""Validation blocks that touch test blocks: every kind of teacher is scored on the ground that the students are scored on."""

import numpy as np
import pytest

from kdcore.evaluation.scores import Scores
from kdcore.settings import NetworkSettings, SplitSettings, TeacherSettings
from kdcore.training.study import run_study
from tests.conftest import write_collection
from tests.onnx_files import write_pixelwise
from tests.training.studies import STUDENT_BUDGET, TEACHER, TEACHER_BUDGET, study_settings

SHORT = TEACHER_BUDGET.model_copy(update={"steps": 1, "validate_every": 1, "crop": 32})


@pytest.fixture(scope="module", params=[2, 6])
def collection(request, tmp_path_factory):
    """One scene of four rows of blocks: two train, one validates, one tests."""
    split = SplitSettings(by="block", grid=(4, 1), train=("r1c1", "r2c1"), validation=("r3c1",), test=("r4c1",))
    folder = tmp_path_factory.mktemp("blocks")
    path = write_collection(folder, classes=request.param, size=384, split=split)
    for other in "bcd":
        (folder / f"images/{other}.tif").unlink()
        (folder / f"masks/{other}.tif").unlink()
    return path, request.param


def teacher(kind: str, folder, classes: int) -> TeacherSettings:
    if kind == "onnx":
        names = ["land", "building", "water", "road", "shadow", "snow"][:classes]
        file = folder / "teacher.onnx"
        text = f"classes: {{{', '.join(f'{name}: {index}' for index, name in enumerate(names))}}}\noutput: logits\nmean: 100\n"
        rng = np.random.default_rng(0)
        write_pixelwise(file, rng.normal(size=(classes, 3)) / 50, rng.normal(size=classes), yaml=text, size=64)
        return TeacherSettings(checkpoints=(file,), network=NetworkSettings(architecture="onnx", encoder="teacher"))
    values = {
        "one network": {},
        "ensemble": {"seeds": (0, 1)},
        "flips": {"flips": True},
        "another crop": {"budget": SHORT.model_copy(update={"crop": 64})},
    }[kind]
    return TeacherSettings(**({"network": TEACHER, "budget": SHORT} | values))


@pytest.mark.parametrize("kind", ["one network", "ensemble", "flips", "another crop", "onnx"])
def test_a_study_runs_to_its_end_and_all_arms_share_their_tiles(tmp_path, collection, kind):
    path, classes = collection
    settings = study_settings(
        teacher=teacher(kind, tmp_path, classes),
        seeds=(0,),
        budget=STUDENT_BUDGET.model_copy(update={"steps": 1, "validate_every": 1, "crop": 32}),
    )
    report = run_study(path, settings, tmp_path / "study")
    assert report["comparison"]["tiles"] == 3 * 12
    assert report["teacher_advantage"]["points"]["mean"] is not None
    validation = [Scores.load(file) for file in (tmp_path / "study/runs").glob("*/scores-validation.npz")]
    kept_away = 64 if kind == "another crop" else 32  # of 96 rows
    assert {scores.pixels for scores in validation} == {(96 - kept_away) * 384}
    assert len({scores.tiles for scores in validation}) == 1
