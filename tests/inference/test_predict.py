"""Prediction over a raster of any size: nothing is lost, doubled or shifted at the seams."""

import numpy as np
import pytest
import rasterio
import torch
from torch import nn

from kdcore.data.collection import Collection
from kdcore.data.scene import SceneReader, describe_scene
from kdcore.inference.evaluate import evaluate, fill_values
from kdcore.inference.predict import predict_scene
from kdcore.models.networks import build_network
from kdcore.settings import ClassSettings, CollectionSettings, EvaluationSettings, SplitSettings
from tests.conftest import TINY, write_raster

SETTINGS = CollectionSettings(
    name="upload",
    classes=(ClassSettings(name="land"), ClassSettings(name="building")),
    split=SplitSettings(train=("x",), validation=("x",), test=("x",)),
)


class Identity(nn.Module):
    """Probability = the first band / 254: what is written must be the raster itself."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.logit(image[:, :1] / 254)


class Blur(nn.Module):
    """Mean of 61 x 61 pixels: needs 30 pixels of imagery around."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        mean = nn.functional.avg_pool2d(image[:, :1], 61, stride=1, padding=30, count_include_pad=False)
        return torch.logit(mean / 254)


def predict(tmp_path, array, network, **options) -> np.ndarray:
    scene = describe_scene(write_raster(tmp_path / "in.tif", array, nodata=options.pop("nodata", None)), SETTINGS)
    fill = np.zeros(len(scene.bands))
    predict_scene(network, SceneReader(SETTINGS), scene, tmp_path / "out.tif", maps=1, fill=fill, **options)
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert (dataset.nodata, dataset.dtypes[0]) == (255, "uint8")
        assert dataset.transform == scene.transform
        return dataset.read(1)


@pytest.mark.parametrize("shape", [(64, 64), (65, 130), (1, 1), (7, 200), (129, 63), (200, 31)])
@pytest.mark.parametrize("halo", [0, 32])
def test_every_pixel_is_written_where_it_belongs(tmp_path, shape, halo):
    values = np.random.default_rng(0).integers(1, 254, (3, *shape), dtype=np.uint8)
    calls = []
    written = predict(tmp_path, values, Identity(), window=64, halo=halo, progress=lambda *done: calls.append(done))
    assert (written == values[0]).all()
    windows = -(-shape[0] // 64) * -(-shape[1] // 64)
    assert calls == [(done + 1, windows) for done in range(windows)]


def test_seams_do_not_show_where_the_halo_reaches(tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (1, 150, 170), dtype=np.uint8)
    whole = predict(tmp_path, values, Blur(), window=512, halo=0)
    assert (predict(tmp_path, values, Blur(), window=64, halo=32) == whole).all()
    assert (predict(tmp_path, values, Blur(), window=64, halo=0) != whole).any()


def test_nodata_stays_nodata_and_nothing_else_becomes_it(tmp_path):
    values = np.random.default_rng(0).integers(1, 254, (1, 100, 100), dtype=np.uint8)
    values[:, :, 64:] = 0
    values[:, 30:40, 20:30] = 0
    written = predict(tmp_path, values, Identity(), window=64, halo=32, nodata=0)
    assert ((written == 255) == (values[0] == 0)).all()


def test_a_file_of_ones_own_is_marked_as_a_test_scene_is(make_collection, tmp_path):
    collection = Collection.open(make_collection(size=150))
    network = build_network(TINY, 3, 3, [100.0] * 3, [40.0] * 3, seed=0)
    settings = EvaluationSettings(tile=32, window=64, halo=32)
    evaluate(network, collection, "test", settings, fill=fill_values(network), maps=tmp_path / "maps")
    scene = next(scene for scene in collection.scenes if scene.id == "d")
    predict_scene(
        network, collection.reader, scene, tmp_path / "d.tif", maps=3, fill=fill_values(network), window=64, halo=32
    )
    with rasterio.open(tmp_path / "maps/d.tif") as a, rasterio.open(tmp_path / "d.tif") as b:
        assert (a.read() == b.read()).all()
        assert a.profile == b.profile


def test_stopping_leaves_no_file(tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(tmp_path, np.zeros((1, 200, 200), dtype=np.uint8), Identity(), window=64, halo=0, progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["in.tif"]
