"""Small pictures of scenes."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from kdcore.data.scene import describe_scene
from kdcore.settings import ClassSettings, CollectionSettings, SplitSettings
from kdcore.views.data_overview import thumbnails
from tests.conftest import write_raster

SETTINGS = CollectionSettings(
    name="x",
    classes=(ClassSettings(name="a"), ClassSettings(name="b")),
    split=SplitSettings(train=("a",), validation=("b",), test=("c",)),
)


def picture(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_a_picture_shows_the_whole_scene_in_its_shape(tmp_path):
    image = np.zeros((3, 512, 1024), np.uint8)
    image[0, :, 512:] = 200  # the right half is red
    (uri,) = thumbnails([describe_scene(write_raster(tmp_path / "a.tif", image), SETTINGS)], SETTINGS)
    shown = picture(uri)
    assert shown.shape == (128, 256, 3)
    assert shown[64, 200] == pytest.approx([200, 0, 0], abs=8)  # JPEG
    assert shown[64, 50] == pytest.approx([0, 0, 0], abs=8)


def test_no_data_is_white_whoever_declares_it(tmp_path):
    image = np.full((1, 64, 64), 50.0, np.float32)
    image[:, :32] = np.nan
    scene = describe_scene(write_raster(tmp_path / "a.tif", image), SETTINGS)
    assert picture(thumbnails([scene], SETTINGS)[0])[8, 8] == pytest.approx([255] * 3, abs=8)
    image = np.full((3, 64, 64), 50, np.uint8)
    image[:, :32] = 7
    scene = describe_scene(write_raster(tmp_path / "b.tif", image), SETTINGS)
    shown = picture(thumbnails([scene], SETTINGS.model_copy(update={"nodata": 7}))[0])
    assert shown[8, 8] == pytest.approx([255] * 3, abs=8)
    assert shown[50, 8] == pytest.approx([50] * 3, abs=8)


def test_the_pixels_that_are_read_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("kdcore.views.data_overview.MOST_PIXELS", 150)
    scenes = [
        describe_scene(write_raster(tmp_path / f"{name}.tif", np.ones((3, 10, 10), np.uint8)), SETTINGS)
        for name in "ab"
    ]
    first, second = thumbnails(scenes, SETTINGS)
    assert first is not None
    assert second is None
