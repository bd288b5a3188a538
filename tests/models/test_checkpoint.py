"""Checkpoints: they give the same network back, are refused with a sentence, and never run code."""

import pickle
import resource

import pytest
import torch
from safetensors.torch import save_file

from kdcore.errors import CheckpointError, KdcoreError
from kdcore.models.checkpoint import CheckpointInfo, check_fits, load_network, save_network, save_tensors
from kdcore.models.networks import SegmentationNetwork, build_network
from tests.conftest import TINY


def info(**values) -> CheckpointInfo:
    return CheckpointInfo(
        **({"network": TINY, "bands": 3, "band_numbers": (1, 2, 3), "classes": ("a", "b", "c")} | values)
    )


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_checkpoint_gives_the_network_back(tmp_path):
    network = build_network(TINY, 3, 3, [1, 2, 3], [4, 5, 6], seed=0)
    save_network(tmp_path / "n.safetensors", network, info(metres_per_pixel=0.3))
    again, told = load_network(tmp_path / "n.safetensors")
    assert told == info(metres_per_pixel=0.3)
    image = torch.randn(1, 3, 64, 64)
    assert torch.equal(network.eval()(image), again.eval()(image))


@pytest.mark.parametrize("order", [[2, 1, 0], [3, 0, 1, 2], [3, 1]])
def test_the_band_order_travels_with_the_weights(tmp_path, order):
    """A network that expects BGR, or some of the bands, must see them so after loading too."""
    bands = 4
    network = SegmentationNetwork(TINY, bands, 3, [10.0] * len(order), [5.0] * len(order), order).eval()
    save_network(tmp_path / "n.safetensors", network, info(bands=bands, band_numbers=(1, 2, 3, 4)))
    again, _ = load_network(tmp_path / "n.safetensors")
    image = torch.rand(1, bands, 64, 64) * 20
    assert torch.equal(network(image), again.eval()(image))


def test_two_classes_have_one_logit():
    assert info(classes=("a", "b")).logits == 1
    assert info(classes=("a", "b", "c")).logits == 3


def test_broken_and_foreign_checkpoints_are_refused(tmp_path):
    path = tmp_path / "n.safetensors"
    with pytest.raises(CheckpointError, match="no such file"):
        load_network(path)
    path.write_bytes(b"not safetensors")
    with pytest.raises(CheckpointError, match="broken or no safetensors"):
        load_network(path)
    save_file({"w": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="was not written by kdcore"):
        load_network(path)
    save_tensors(path, {"w": torch.zeros(2)}, {"step": 3})  # the state of a training is no network
    with pytest.raises(CheckpointError, match="not those of a kdcore checkpoint"):
        load_network(path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointError, match="no such file"):
        load_network(tmp_path / "folder")


@pytest.mark.parametrize("metadata", ["not JSON", "[1, 2]", "3"])
def test_settings_that_are_no_settings_are_refused(tmp_path, metadata):
    path = tmp_path / "n.safetensors"
    save_file({"w": torch.zeros(2)}, path, metadata={"kdcore": metadata})
    with pytest.raises(CheckpointError, match=r"n\.safetensors"):
        load_network(path)


def test_a_truncated_checkpoint_is_refused(tmp_path):
    path = tmp_path / "n.safetensors"
    save_network(path, build_network(TINY, 3, 3), info())
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="broken"):
        load_network(path)


def test_a_checkpoint_that_cannot_be_written_whole_leaves_the_old_one(tmp_path):
    """The limit on a file's size stands for a full disk: the same call fails at the same place."""
    path = tmp_path / "n.safetensors"
    save_network(path, build_network(TINY, 3, 3, seed=0), info(seed=1))
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(KdcoreError, match="disk is full or the size limit is reached"):
            save_network(path, build_network(TINY, 3, 3, seed=1), info(seed=2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["n.safetensors"]


def test_a_checkpoint_of_other_classes_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="trained for the classes a, b, c, but the collection has a, b"):
        check_fits(info(), ("a", "b"), 3, tmp_path)
    with pytest.raises(CheckpointError, match="trained for the classes a, b, c, but the collection has a, c, b"):
        check_fits(info(), ("a", "c", "b"), 3, tmp_path)
    with pytest.raises(CheckpointError, match="expects 3 bands, but the collection gives 4"):
        check_fits(info(), ("a", "b", "c"), 4, tmp_path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_foreign_files_never_run_code(tmp_path):
    network = build_network(TINY, 3, 3, seed=0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    ran, weights = tmp_path / "ran", network.inner.state_dict()
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Bomb(ran)))
    torch.save(Bomb(ran), tmp_path / "zipped.pt")
    torch.save({"state_dict": weights, "hyper_parameters": Bomb(ran)}, tmp_path / "beside-weights.pt")
    for name in ("plain", "zipped", "beside-weights"):
        (tmp_path / f"{name}.pt").rename(tmp_path / f"{name}.safetensors")
        with pytest.raises(CheckpointError, match="no safetensors file"):
            load_network(tmp_path / f"{name}.safetensors")
    assert not ran.exists()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    pickle.loads(pickle.dumps(Bomb(ran))).close()
    assert ran.exists()  # the bomb is live: it was the reader that did not set it off
