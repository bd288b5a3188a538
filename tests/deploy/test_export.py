"""An exported network answers as the checkpoint does, says what it is, and appears whole or not at all."""

import hashlib
import json

import numpy as np
import onnx
import pytest
import torch

from kdcore.deploy.export import MOST_FLIPS, Parity, export_onnx, parity
from kdcore.deploy.quantise import sample_tiles
from kdcore.errors import CheckpointError, KdcoreError, SettingsError
from kdcore.inference.engines import open_engine
from kdcore.models.checkpoint import CheckpointInfo, load_network, save_network
from kdcore.models.networks import SegmentationNetwork, build_network, count_parameters, probabilities
from kdcore.models.onnx import OnnxNetwork, open_session, read_info
from kdcore.settings import PRESETS, NetworkSettings
from kdcore.teacher.teacher import Teacher
from tests.conftest import TINY
from tests.deploy.networks import example_checkpoint

CLASSES = ("a", "b", "c")


def save(path, settings=TINY, classes=CLASSES, **values):
    """A checkpoint of random weights, for imagery of three bands around 100."""
    logits = 1 if len(classes) == 2 else len(classes)
    network = build_network(settings, 3, logits, [100.0, 90.0, 80.0], [40.0, 35.0, 30.0], seed=0).eval()
    info = CheckpointInfo(network=settings, bands=3, band_numbers=(1, 2, 3), classes=classes, **values)
    save_network(path, network, info)
    return path, network


def imagery(count, side, bands=3):
    return np.random.default_rng(0).integers(0, 256, (count, bands, side, side)).astype(np.float32)


@pytest.fixture(scope="module")
def exported(tmp_path_factory, request):
    """An example's student and its export."""
    checkpoint, file = example_checkpoint(request.param), tmp_path_factory.mktemp(request.param) / "student.onnx"
    return checkpoint, file, export_onnx(checkpoint, file, tile=256)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("exported", ["distilled", "alone"], indirect=True)
def test_the_examples_students_answer_alike_on_real_tiles(area, exported, engine):
    checkpoint, file, info = exported
    tiles = list(sample_tiles(area, "validation", 256, 9, np.array(info.fill)))
    found = parity(
        open_engine(checkpoint, device="cpu"),
        open_engine(file, engine),
        [image for image, _ in tiles],
        [valid for _, valid in tiles],
    )
    assert found.pixels == 4 * 256**2
    assert found.flips <= MOST_FLIPS
    assert found.largest_difference < 1e-4


ARCHITECTURES = {
    **PRESETS,
    "deeplabv3plus": NetworkSettings(architecture="deeplabv3plus", encoder="resnet18"),
    "fpn": NetworkSettings(architecture="fpn", encoder="resnet18"),
    "segformer": NetworkSettings(architecture="segformer", encoder="mit_b0"),
}


@pytest.mark.parametrize(
    "name",
    # torch needs ten seconds to trace the large one
    [pytest.param(name, marks=pytest.mark.slow) if name == "large" else name for name in ARCHITECTURES],
)
def test_every_architecture_takes_any_number_of_tiles(tmp_path, name):
    checkpoint, network = save(tmp_path / "n.safetensors", ARCHITECTURES[name])
    export_onnx(checkpoint, tmp_path / "n.onnx", tile=64)
    session = open_session(tmp_path / "n.onnx", 1)
    for count in (1, 3):
        images = imagery(count, 64)
        with torch.no_grad():
            expected = probabilities(network(torch.from_numpy(images))).numpy()
        (got,) = session.run(["probabilities"], {"image": images})
        np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize("classes", [("background", "building"), CLASSES])
def test_the_file_says_what_it_is(tmp_path, classes):
    checkpoint, network = save(
        tmp_path / "n.safetensors", classes=classes, metres_per_pixel=0.5, arm="distilled", step=7
    )
    told = export_onnx(checkpoint, tmp_path / "sub/n.onnx", tile=96, extra={"model_type": '"Segmentor"'})
    info = read_info(tmp_path / "sub/n.onnx")
    assert info == told
    assert (info.classes, info.bands, info.tile, info.batch, info.output) == (classes, 3, 96, None, "probabilities")
    assert info.parameters == count_parameters(network)
    assert info.sha256 == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert info.checkpoint_info == load_network(checkpoint)[1]
    assert info.fill == (100.0, 90.0, 80.0)
    model = onnx.load(str(tmp_path / "sub/n.onnx"))
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["model_type"] == '"Segmentor"'
    assert json.loads(metadata["kdcore"])["classes"] == list(classes)
    assert str(tmp_path.home()).encode() not in (tmp_path / "sub/n.onnx").read_bytes()  # no paths of this machine


@pytest.mark.parametrize("classes", [("background", "building"), CLASSES])
def test_an_export_teaches_like_its_checkpoint(tmp_path, classes):
    """On images of another size than its tile, too."""
    checkpoint, _ = save(tmp_path / "n.safetensors", classes=classes)
    export_onnx(checkpoint, tmp_path / "n.onnx", tile=64)
    one, other = (Teacher.load([path], classes, 3) for path in (checkpoint, tmp_path / "n.onnx"))
    assert one.parameters_count == other.parameters_count
    np.testing.assert_allclose(one.fill, other.fill)
    image = torch.from_numpy(imagery(2, 64))
    torch.testing.assert_close(probabilities(other(image)), probabilities(one(image)), atol=1e-5, rtol=0)
    assert other(torch.from_numpy(imagery(1, 100))).shape == one(torch.from_numpy(imagery(1, 100))).shape


def test_band_order_is_inside(tmp_path):
    network = SegmentationNetwork(TINY, 4, 3, [90.0, 80.0, 70.0], [30.0] * 3, band_order=[2, 0, 1]).eval()
    info = CheckpointInfo(network=TINY, bands=4, band_numbers=(4, 3, 2, 1), classes=CLASSES)
    save_network(tmp_path / "n.safetensors", network, info)
    export_onnx(tmp_path / "n.safetensors", tmp_path / "n.onnx", tile=64)
    image = torch.from_numpy(imagery(1, 64, bands=4))
    got = OnnxNetwork.load(tmp_path / "n.onnx", CLASSES, 4, (4, 3, 2, 1))(image)
    with torch.no_grad():
        torch.testing.assert_close(probabilities(got), probabilities(network(image)), atol=1e-5, rtol=0)


class Fixed:
    """An engine that gives what it is told."""

    def __init__(self, answers):
        self.answers = iter(answers)

    def __call__(self, images):
        return next(self.answers)[None]


def test_parity_counts_the_pixels_with_data():
    """Of six valid pixels one crosses 0.5; a hundredfold difference outside the data says nothing."""
    one = np.array([[[0.1, 0.6, 0.4]], [[0.2, 0.9, 0.49]]], dtype=np.float32).reshape(1, 2, 3)
    other = one + np.array([[0.0, 0.0, 0.05], [0.0, 0.0, 0.04]], dtype=np.float32)
    outside = np.array([[[5.0]]], dtype=np.float32)
    tiles = [np.zeros((3, 2, 3)), np.zeros((3, 1, 1))]
    valid = [np.ones((2, 3), dtype=bool), np.zeros((1, 1), dtype=bool)]
    found = parity(Fixed([one, outside]), Fixed([other, -outside]), tiles, valid)
    assert found.pixels == 6
    assert found.flips == pytest.approx(1 / 6)
    assert found.largest_difference == pytest.approx(0.05)
    three = np.array([0.5, 0.3, 0.2], dtype=np.float32)[:, None, None]
    found = parity(Fixed([three]), Fixed([three[[1, 0, 2]]]), [np.zeros((3, 1, 1))], [np.ones((1, 1), dtype=bool)])
    assert found == Parity(largest_difference=pytest.approx(0.2), flips=1.0, pixels=1)


def test_tiles_see_nothing_of_another_split(make_collection):
    from kdcore.data.collection import Collection
    from kdcore.settings import SplitSettings

    split = SplitSettings(by="block", grid=(2, 2), train=("r1c1",), validation=("r1c2",), test=("r2c1", "r2c2"))
    collection = Collection.open(make_collection(split=split))
    tiles = list(sample_tiles(collection, "validation", 96, 100, np.zeros(3)))
    assert len(tiles) == 4  # one block of 64 x 64 in each of the four scenes
    for scene, (image, valid) in zip(collection.scenes, tiles, strict=True):
        whole = collection.reader.read(scene, scene.box).image
        assert valid.sum() == 64 * 64
        np.testing.assert_array_equal(image[:, :64, :64], whole[:, :64, 64:])
        np.testing.assert_array_equal(image[:, :64, 64:], np.repeat(whole[:, :64, 127:], 32, axis=2))


def test_many_tiles_are_thinned_out_evenly(area):
    assert len(list(sample_tiles(area, "train", 128, 1000, np.zeros(3)))) == 4 * 25  # 384 px: every 64 px up to 256
    assert len(list(sample_tiles(area, "train", 128, 30, np.zeros(3)))) == 30


# --- what cannot be exported


@pytest.mark.parametrize(("tile", "name"), [(100, "n.onnx"), (0, "n.onnx"), (64, "n.pt")])
def test_wrong_names_and_tiles_are_refused(tmp_path, tile, name):
    checkpoint, _ = save(tmp_path / "n.safetensors")
    with pytest.raises(SettingsError, match=r"multiple of 32|\.onnx"):
        export_onnx(checkpoint, tmp_path / name, tile=tile)
    assert not (tmp_path / name).exists()


def test_a_tile_that_is_too_small_for_a_network_is_told(tmp_path):
    """PAN pools its deepest map by 8 in steps of 2, which 2 x 2 pixels do not allow."""
    checkpoint, _ = save(tmp_path / "n.safetensors", NetworkSettings(architecture="pan", encoder="resnet18"))
    with pytest.raises(CheckpointError, match=r"pan with the encoder resnet18.*tile of 64.*another --tile"):
        export_onnx(checkpoint, tmp_path / "n.onnx", tile=64)
    assert list(tmp_path.iterdir()) == [checkpoint]


def test_a_broken_checkpoint_leaves_nothing(tmp_path):
    (tmp_path / "n.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError):
        export_onnx(tmp_path / "n.safetensors", tmp_path / "n.onnx")
    assert not (tmp_path / "n.onnx").exists()


def test_an_export_that_answers_otherwise_is_not_kept(tmp_path, monkeypatch):
    """As if the exporter had lost the last layer's bias: the file is there, valid and wrong."""
    checkpoint, _ = save(tmp_path / "n.safetensors")
    from kdcore.deploy import export

    def wrong(network, tile, where):
        with torch.no_grad():
            list(network.parameters())[-1].add_(torch.tensor([1.0, 0.0, 0.0]))
        model = right(network, tile, where)
        with torch.no_grad():
            list(network.parameters())[-1].sub_(torch.tensor([1.0, 0.0, 0.0]))
        return model

    right = export.to_onnx
    monkeypatch.setattr(export, "to_onnx", wrong)
    with pytest.raises(CheckpointError, match="answers otherwise"):
        export_onnx(checkpoint, tmp_path / "n.onnx", tile=64)
    assert list(tmp_path.iterdir()) == [checkpoint]


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path):
    checkpoint, _ = save(tmp_path / "n.safetensors")
    (tmp_path / "file").write_text("")
    with pytest.raises(KdcoreError, match="file"):
        export_onnx(checkpoint, tmp_path / "file/n.onnx", tile=64)
