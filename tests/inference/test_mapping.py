"""Prediction over a raster of any size: nothing is lost, doubled, shifted or made up at the seams."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import kdcore
from kdcore.inference.engines import Flipped, TorchEngine, open_engine
from kdcore.inference.mapping import MappingOptions
from kdcore.inference.prediction import Prediction
from kdcore.jobs.locks import holding
from kdcore.models.networks import build_network
from tests.conftest import TINY, write_raster
from tests.inference.engines import Known, first_band, predict

BLENDS = ["crop", "hann"]


def read(prediction, kind="probabilities"):
    with rasterio.open(prediction.map(kind)) as dataset:
        return dataset.read()


def noise(*shape, seed=0, low=1):
    return np.random.default_rng(seed).integers(low, 254, shape, dtype=np.uint8)


@pytest.mark.parametrize("blend", BLENDS)
def test_a_constant_network_gives_a_constant_map_up_to_the_corners(tmp_path, blend):
    raster = write_raster(tmp_path / "in.tif", noise(1, 333, 411))
    engine = Known(lambda images: np.full((len(images), 1, *images.shape[2:]), 0.5))
    assert (read(predict(raster, tmp_path / "out", engine, tile=128, blend=blend)) == 127).all()


@given(height=st.integers(1, 300), width=st.integers(1, 300), blend=st.sampled_from(BLENDS), fixed=st.booleans())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_network_that_repeats_the_imagery_writes_the_imagery(tmp_path_factory, height, width, blend, fixed):
    folder = tmp_path_factory.mktemp("any")
    values = noise(1, height, width)
    engine = Known(first_band, tile=128 if fixed else None)
    prediction = predict(write_raster(folder / "in.tif", values), folder / "out", engine, tile=128, blend=blend)
    assert (read(prediction) == values).all()


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("blend", BLENDS)
def test_the_network_looks_at_each_tile_once(tmp_path, blend, batch):
    engine = Known(first_band, batch=batch)
    predict(write_raster(tmp_path / "in.tif", noise(1, 300, 500)), tmp_path / "out", engine, tile=128, blend=blend)
    tiles = 4 * 7  # 64 px apart: (300 - 128) / 64 = 2.7 and (500 - 128) / 64 = 5.8, and the first
    assert sum(shape[0] for shape in engine.shapes) == tiles
    assert {shape[1:] for shape in engine.shapes} == {(1, 128, 128), (1, 108, 128), (1, 128, 116), (1, 108, 116)}
    assert max(shape[0] for shape in engine.shapes) == batch


def test_a_network_of_one_tile_size_never_sees_another(tmp_path):
    engine = Known(first_band, tile=128)
    predict(write_raster(tmp_path / "in.tif", noise(1, 300, 50)), tmp_path / "out", engine, tile=512)
    assert {shape[1:] for shape in engine.shapes} == {(1, 128, 128)}


class Blur(nn.Module):
    """Mean of 61 x 61 pixels: needs 30 pixels of imagery around."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        mean = nn.functional.avg_pool2d(image[:, :1], 61, stride=1, padding=30, count_include_pad=False)
        return torch.logit(mean / 254)


def test_tiles_are_the_whole_where_the_halo_reaches(tmp_path):
    raster = write_raster(tmp_path / "in.tif", noise(1, 320, 416, low=0))
    engine = TorchEngine(Blur(), Known(first_band).info, np.zeros(1, np.float32), "cpu")
    whole = read(predict(raster, tmp_path / "whole", engine, tile=416))
    tiled = read(predict(raster, tmp_path / "tiled", engine, tile=128, halo=32))
    assert np.abs(whole.astype(int) - tiled).max() <= 1  # 8 bits round
    without = read(predict(raster, tmp_path / "without", engine, tile=128, halo=0))
    assert np.abs(whole.astype(int) - without).max() >= 4


@pytest.mark.parametrize("blend", BLENDS)
def test_a_trained_network_in_tiles_says_what_it_says_about_the_whole(tmp_path, blend):
    """Its receptive field is larger than the halo, so the two differ, but by little."""
    example = Path(kdcore.__file__).parent / "example"
    engine = open_engine(example / "runs/distilled-s0/checkpoints/best.safetensors", device="cpu")
    raster = example / "layers/outskirts/imagery.tif"
    whole = read(predict(raster, tmp_path / "whole", engine, tile=896), "classes")
    tiled = read(predict(raster, tmp_path / "tiled", engine, tile=256, halo=64, blend=blend), "classes")
    assert (whole != tiled).mean() < 0.001


@pytest.mark.parametrize("blend", BLENDS)
def test_nodata_stays_nodata_and_nothing_else_becomes_it(tmp_path, blend):
    values = noise(1, 300, 300)
    values[:, :, 200:] = 0  # whole tiles without data
    values[:, 30:40, 20:30] = 0
    engine = Known(first_band)
    raster = write_raster(tmp_path / "in.tif", values, nodata=0)
    prediction = predict(raster, tmp_path / "out", engine, tile=128, blend=blend)
    for kind in ("probabilities", "classes"):
        assert ((read(prediction, kind)[0] == 255) == (values[0] == 0)).all()
    assert (read(prediction)[values != 0] == values[values != 0]).all()
    assert (
        sum(shape[0] for shape in engine.shapes) == 16
    )  # of 4 x 4: three columns reach data, and the third one's neighbour


def test_what_stands_for_nodata_is_the_engines_fill(tmp_path):
    values = noise(1, 64, 64)
    values[:, :10] = 0
    shown = []
    engine = Known(lambda images: shown.append(images.copy()) or first_band(images))
    predict(write_raster(tmp_path / "in.tif", values, nodata=0), tmp_path / "out", engine)
    assert (shown[0][0, 0, :10] == 100).all()


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_values_of_any_type_reach_the_network_as_they_are(tmp_path, dtype):
    values = np.random.default_rng(0).integers(0, 10_000, (1, 70, 80)).astype(dtype)
    engine = Known(lambda images: images / 10_000, dtype=dtype)
    prediction = predict(write_raster(tmp_path / "in.tif", values), tmp_path / "out", engine)
    assert (read(prediction)[0] == np.rint(values[0].astype(np.float32) / np.float32(10_000) * 254)).all()


def test_flips_average_four_views(tmp_path):
    ramp = np.linspace(0, 1, 64, dtype=np.float32)
    left_to_right = Known(lambda images: np.broadcast_to(ramp, (len(images), 1, 64, 64)))
    np.testing.assert_allclose(Flipped(left_to_right)(np.zeros((1, 1, 64, 64))), 0.5, atol=1e-6)
    assert len(left_to_right.shapes) == 4


def test_flips_leave_a_network_alone_that_repeats_the_imagery():
    image = noise(2, 1, 64, 96).astype(np.float32)
    np.testing.assert_allclose(Flipped(Known(first_band))(image), first_band(image), atol=1e-6)


def test_a_threshold_decides_between_two_classes(tmp_path):
    values = noise(1, 64, 64)
    raster = write_raster(tmp_path / "in.tif", values)
    decided = read(predict(raster, tmp_path / "out", Known(first_band), threshold=0.25), "classes")
    assert (decided == (values >= 64)).all()  # 0.25 x 254 = 63.5


def test_the_most_probable_of_several_classes_is_written(tmp_path):
    values = noise(3, 50, 60)
    engine = Known(lambda images: images / images.sum(axis=1, keepdims=True), bands=3, classes=("a", "b", "c"))
    prediction = predict(write_raster(tmp_path / "in.tif", values), tmp_path / "out", engine)
    assert (read(prediction, "classes")[0] == values.argmax(axis=0)).all()
    assert read(prediction).shape == (3, 50, 60)


@pytest.mark.parametrize("blend", BLENDS)
def test_parts_made_alone_are_those_made_one_after_another(tmp_path, blend, monkeypatch):
    """Blending needs what the row above a part says, whoever made it."""
    monkeypatch.setattr("kdcore.inference.parts.PART_PIXELS", 1)
    network = build_network(TINY, 1, 1, [128.0], [70.0], seed=0)
    engine = TorchEngine(network, Known(first_band).info, np.zeros(1, np.float32), "cpu")
    raster = write_raster(tmp_path / "in.tif", noise(1, 500, 200))
    whole = predict(raster, tmp_path / "whole", engine, tile=128, blend=blend)
    shared = Prediction(tmp_path / "shared", "in")

    def begun(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(raster, tmp_path / "shared", engine, tile=128, blend=blend, progress=begun)
    with holding(shared.part_lock(1), ""), holding(shared.part_lock(4), ""):  # by another process, which is then killed
        predict(raster, tmp_path / "shared", engine, tile=128, blend=blend)
    assert not shared.manifest.exists()
    predict(raster, tmp_path / "shared", engine, tile=128, blend=blend)
    assert (read(whole) == read(shared)).all()


def test_options_have_sensible_limits():
    with pytest.raises(ValueError, match="threshold"):
        MappingOptions(threshold=1.5)
