"""A rectangle of a scene holds the very pixels that were scored, read here with rasterio alone."""

import numpy as np
import pytest
import rasterio

from kdcore.errors import RunError
from kdcore.server.layers import crops_of

RECTANGLE = (352, 512, 128, 128)  # row, column, height, width: at the corner of 480 x 640


@pytest.fixture(autouse=True)
def look_there(workspace, monkeypatch):
    monkeypatch.setenv("KDCORE_WORKSPACE", str(workspace))


def pixels(path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read()[:, 352:480, 512:640]


@pytest.mark.parametrize("study", ["town", "flat"])
def test_photo_truth_and_decisions_are_those_of_the_files(workspace, study):
    photo, (truth, teacher) = crops_of(study, "test-area", RECTANGLE, ["teacher-s0"])
    assert (photo == np.moveaxis(pixels(workspace / f"{study}/layers/test-area/imagery.tif"), 0, -1)).all()
    assert (truth == pixels(workspace / f".areas/{study}/masks/test_area.tif")[0]).all()
    levels = pixels(workspace / f"{study}/runs/teacher-s0/maps/test_area.tif")
    decided = levels[0] >= 127 if len(levels) == 1 else levels.argmax(axis=0)
    assert (teacher == decided).mean() > 0.999  # equal levels are a matter of order
    assert teacher.shape == (128, 128)


def test_a_large_rectangle_can_be_made_smaller(workspace):
    photo, (teacher,) = crops_of("town", "test-area", (0, 0, 480, 640), ["teacher-s0"], 160, truth=False)
    assert photo.shape == (120, 160, 3)
    with rasterio.open(workspace / "town/runs/teacher-s0/maps/test_area.tif") as dataset:
        levels = dataset.read(1)
    assert teacher.shape == (120, 160)
    assert teacher.mean() == pytest.approx((levels >= 127).mean(), abs=0.01)


def test_what_is_not_there_is_told(workspace):
    with pytest.raises(RunError, match="no map of 'test-area' by a run 'gone'"):
        crops_of("town", "test-area", RECTANGLE, ["gone"])
