"""A teacher that only exists as an ONNX file, from no framework at all, teaches a student in a whole study."""

import io
import json

import numpy as np
import onnx
import pytest
import rasterio

from kdcore.data.collection import Collection
from kdcore.errors import CheckpointError
from kdcore.inference.uploads import receive
from kdcore.jobs import worker
from kdcore.jobs.store import RunDirectory
from kdcore.jobs.study_folder import StudyFolder
from kdcore.jobs.workspace import Workspace
from kdcore.settings import NetworkSettings, Recipe, TeacherSettings
from kdcore.training.run import evaluate_ensemble
from kdcore.training.study import run_study
from tests.conftest import run_settings, write_collection
from tests.onnx_files import write_pixelwise
from tests.training.studies import study_settings

COLOURS = np.array([[90, 110, 60], [180, 120, 110], [60, 70, 120]])  # of `tests.conftest.paint`
NOISE = 12


def write_teacher(path, order=(0, 1, 2), **options):
    """The best network for imagery of three colours with noise: log-likelihoods, linear in a pixel's values.

    Its channels are building, water, land, and it wants red, green, blue in `order`.
    """
    colours = COLOURS[[1, 2, 0]] - 100
    weights, bias = colours[:, list(order)] / NOISE**2, -(colours**2).sum(axis=1) / (2 * NOISE**2)
    bands = [index + 1 for index in order]
    text = f"classes: {{building: 0, water: 1, land: 2}}\noutput: logits\nbands: {bands}\nmean: 100\n"
    return write_pixelwise(path, weights, bias, yaml=text, **options)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study without labels for the student: all it knows comes from the ONNX file, whose tile is not the crop."""
    folder = tmp_path_factory.mktemp("onnx")
    collection = write_collection(folder / "collection", unlabelled=True)
    file = write_teacher(folder / "likelihood.onnx", order=(2, 0, 1), size=96)
    settings = study_settings(
        teacher=TeacherSettings(
            checkpoints=(file,), network=NetworkSettings(architecture="onnx", encoder="likelihood")
        ),
        recipe=Recipe(alpha=1, temperature=2),
        budget=study_settings().budget.model_copy(update={"steps": 60, "validate_every": 30}),
        seeds=(0,),
    )
    report = run_study(collection, settings, folder / "study")
    return folder / "study", report


def test_the_file_is_scored_as_the_teacher(study):
    """Its IoU is what the likelihoods reach, computed here from the pixels of the test scene."""
    folder, report = study
    collection = Collection.open(folder.parent / "collection")
    scene = next(scene for scene in collection.scenes if scene.id == "d")
    crop = collection.reader.read(scene, scene.box)
    distances = ((crop.image.transpose(1, 2, 0)[:, :, None] - COLOURS) ** 2).sum(axis=-1)
    marked = distances.argmin(axis=-1)
    ious = [
        ((marked == index) & (crop.labels == index)).sum() / ((marked == index) | (crop.labels == index)).sum()
        for index in range(3)
    ]
    assert np.mean(ious) > 0.9
    assert report["arms"]["teacher"]["mean_iou"] == pytest.approx(np.mean(ious), abs=1e-3)
    assert report["arms"]["teacher"]["parameters"] == 3 * 3 + 3


def test_the_student_learns_from_it_without_labels(study):
    folder, report = study
    lines = [json.loads(line) for line in (folder / "runs/distilled-s0/metrics.jsonl").read_text().splitlines()]
    losses = [line["distillation"] for line in lines if "distillation" in line]
    assert losses[-1] < 0.5 * losses[0]
    assert all(line["task"] == 0 for line in lines if "task" in line)
    assert report["arms"]["distilled"]["agreement_with_teacher"] > 0.8
    assert report["arms"]["distilled"]["mean_ap"] > 0.8


def test_the_study_has_maps_of_it_and_a_report(study):
    folder, _ = study
    with rasterio.open(folder / "runs/teacher/maps/d.tif") as dataset:
        levels = dataset.read()
    assert levels.shape == (3, 128, 128)
    assert abs(levels.astype(int).sum(axis=0) - 254).max() <= 1  # probabilities of three classes
    assert (folder / "layers/layers.json").exists()
    assert RunDirectory(folder / "runs/teacher").settings.network.architecture == "onnx"


def test_marking_a_file_of_ones_own_asks_it_too(study):
    """Its classes are in another order than the collection's, and its bands in another than the file's."""
    folder, _ = study
    workspace = Workspace(folder.parent)
    image = folder.parent / "collection/images/d.tif"
    upload = receive(workspace, "study", "d.tif", io.BytesIO(image.read_bytes()))
    assert worker.main([upload.KIND, str(upload.path)]) == 0, upload.status.message
    with rasterio.open(upload.probabilities()["teacher"]) as dataset:
        marked = dataset.read()
    with rasterio.open(folder / "runs/teacher/maps/d.tif") as dataset:
        np.testing.assert_allclose(marked.astype(int), dataset.read().astype(int), atol=1)


def test_a_finished_study_needs_the_file_no_more(study):
    folder, report = study
    settings = StudyFolder(folder).settings
    (file,) = settings.teacher.checkpoints
    away = file.rename(file.with_suffix(".away"))
    try:
        assert run_study(folder.parent / "collection", settings, folder) == report
    finally:
        away.rename(file)


@pytest.mark.parametrize("broken", ["classes", "runtime"])
def test_a_file_that_does_not_fit_fails_before_anything_is_trained(tmp_path, make_collection, broken):
    path, file = make_collection(), write_teacher(tmp_path / "t.onnx")
    if broken == "classes":
        file.with_suffix(".yaml").write_text("classes: {house: 0, water: 1, land: 2}\noutput: logits\n")
    else:
        model = onnx.load(str(file))
        model.graph.node[0].op_type = "Unheard"
        onnx.save(model, str(file))
    settings = run_settings(path, "teacher", teacher=(file,))
    run = RunDirectory.create(tmp_path / "run", settings)
    with pytest.raises(CheckpointError, match=r"t\.(onnx|yaml)"):
        evaluate_ensemble(run, [file], Collection.open(path))
    assert not run.report.exists()
