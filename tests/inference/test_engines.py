"""What runs a network: the same file gives the same answers in every engine."""

import numpy as np
import pytest
import torch

from kdcore.errors import CheckpointError, SettingsError
from kdcore.inference.engines import TorchEngine, faster, open_engine
from kdcore.inference.quiet_openvino import has_bfloat16
from kdcore.models.checkpoint import CheckpointInfo, save_network
from kdcore.models.networks import build_network
from tests.conftest import TINY
from tests.inference.engines import Known, first_band
from tests.onnx_files import write_pixelwise

YAML = "classes: {land: rest, building: 0}\noutput: logits\n"
ONNX = ["onnxruntime", "openvino"]


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


@pytest.fixture
def imagery():
    return np.random.default_rng(0).integers(0, 255, (3, 2, 64, 64), dtype=np.uint8)


@pytest.mark.parametrize("engine", ONNX)
@pytest.mark.parametrize("batch", ["n", 1, 2])
def test_an_onnx_file_answers_for_every_image_whatever_its_batch(tmp_path, imagery, engine, batch):
    path = write_pixelwise(tmp_path / "sum.onnx", [[0.02, -0.01]], [-1.0], size=64, batch=batch, yaml=YAML)
    opened = open_engine(path, engine, threads=1)
    assert (opened.tile, opened.info.classes, opened.name) == (64, ("land", "building"), engine)
    expected = sigmoid(imagery[:, :1] * 0.02 - imagery[:, 1:] * 0.01 - 1.0)
    np.testing.assert_allclose(opened(imagery), expected, atol=1e-5)


@pytest.mark.parametrize(("engine", "precision"), [("openvino", "f32"), ("openvino-bf16", "bf16")])
def test_openvino_computes_in_what_was_asked_for(tmp_path, imagery, engine, precision):
    """bfloat16 keeps 8 bits of a number: 0.02 * 200 is off by up to 0.4 %, a probability by less than 0.01."""
    if precision == "bf16" and not has_bfloat16():
        pytest.skip("this processor does not compute in bfloat16")
    path = write_pixelwise(tmp_path / "sum.onnx", [[0.02, -0.01]], [-1.0], size=64, yaml=YAML)
    opened = open_engine(path, engine, threads=1)
    assert opened.name == engine
    assert opened.model.get_property("INFERENCE_PRECISION_HINT").to_string() == precision
    expected = sigmoid(imagery[:, :1] * 0.02 - imagery[:, 1:] * 0.01 - 1.0)
    np.testing.assert_allclose(opened(imagery), expected, atol=1e-5 if precision == "f32" else 0.01)


@pytest.mark.parametrize("engine", ONNX)
def test_maps_of_a_lower_resolution_are_brought_to_the_imagerys(tmp_path, engine):
    path = write_pixelwise(tmp_path / "small.onnx", [[0.01]], stride=4, yaml=YAML)
    flat = np.full((1, 1, 64, 96), 50, dtype=np.uint8)
    answer = open_engine(path, engine, threads=1)(flat)
    assert answer.shape == (1, 1, 64, 96)
    np.testing.assert_allclose(answer, sigmoid(0.5), atol=1e-5)


def test_a_checkpoint_runs_in_torch_and_answers_as_the_network_does(tmp_path):
    network = build_network(TINY, 3, 1, [100.0] * 3, [50.0] * 3, seed=0).eval()
    info = CheckpointInfo(network=TINY, bands=3, band_numbers=(1, 2, 3), classes=("land", "building"))
    save_network(tmp_path / "a.safetensors", network, info)
    engine = open_engine(tmp_path / "a.safetensors", device="cpu")
    assert (engine.name, engine.tile, engine.fill.tolist()) == ("torch", None, [100.0] * 3)
    imagery = np.random.default_rng(0).integers(0, 255, (1, 3, 64, 96), dtype=np.uint8)
    with torch.no_grad():
        expected = network(torch.from_numpy(imagery.astype(np.float32))).sigmoid().numpy()
    np.testing.assert_allclose(engine(imagery), expected, atol=1e-5)


def test_auto_measures_what_is_faster_for_an_onnx_file(tmp_path):
    path = write_pixelwise(tmp_path / "sum.onnx", [[0.02]], size=64, yaml=YAML)
    assert open_engine(path, threads=1).name in ONNX


def test_the_faster_engine_is_the_one_that_takes_less_time(monkeypatch):
    slow, quick = Known(first_band), Known(first_band)
    seconds = {id(slow): [0.1, 3.0, 3.0], id(quick): [9.0, 2.0, 2.0]}  # the first time only warms up
    monkeypatch.setattr("kdcore.inference.engines.tile_seconds", lambda engine: seconds[id(engine)].pop(0))
    assert faster(slow, quick) is quick


@pytest.mark.parametrize(
    ("name", "options", "error", "words"),
    [
        ("a.safetensors", {"engine": "openvino"}, CheckpointError, "runs ONNX files only. Make one: kdcore export"),
        ("sum.onnx", {"engine": "torch"}, CheckpointError, "torch runs kdcore checkpoints only"),
        ("sum.onnx", {"engine": "tensorrt"}, SettingsError, "there is no such engine"),
        ("a.safetensors", {"engine": "openvino-bf16"}, CheckpointError, "openvino-bf16 runs ONNX files only"),
        ("sum.onnx", {"engine": "openvino-bf16"}, SettingsError, "does not compute in bfloat16.*Use --engine openvino"),
        ("gone.onnx", {}, CheckpointError, "gone.onnx"),
        ("gone.safetensors", {}, CheckpointError, "there is no such file"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, monkeypatch, name, options, error, words):
    monkeypatch.setattr("kdcore.inference.quiet_openvino.capabilities", lambda: ["FP32", "INT8"])
    write_pixelwise(tmp_path / "sum.onnx", [[0.02]], size=64, yaml=YAML)
    with pytest.raises(error, match=words):
        open_engine(tmp_path / name, **options)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_answers_as_the_processor_does_up_to_bfloat16():
    network = build_network(TINY, 3, 3, [100.0] * 3, [50.0] * 3, seed=0)
    info = Known(first_band, bands=3, classes=("a", "b", "c")).info
    imagery = np.random.default_rng(0).integers(0, 255, (8, 3, 128, 128), dtype=np.uint8)
    fill = np.zeros(3, np.float32)
    here, there = TorchEngine(network, info, fill, "cpu")(imagery), TorchEngine(network, info, fill, "cuda")(imagery)
    assert np.abs(here - there).max() < 0.05
