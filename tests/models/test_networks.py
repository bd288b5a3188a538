"""Networks: any size, any bands, normalisation inside; checkpoints that never run code; teachers that never change."""

import pickle

import pytest
import torch
from torch import nn

from kdcore.errors import CheckpointError, SettingsError
from kdcore.models.checkpoint import CheckpointInfo, check_fits, load_foreign, load_network, save_network
from kdcore.models.networks import SegmentationNetwork, build_network, count_parameters, probabilities
from kdcore.models.teacher import Teacher
from kdcore.settings import PRESETS, NetworkSettings
from tests.conftest import TINY


@pytest.mark.parametrize("size", [(64, 64), (37, 50), (8, 8), (100, 33)])
@pytest.mark.parametrize("bands", [1, 3, 13])
def test_logits_have_the_size_of_the_imagery(size, bands):
    network = build_network(TINY, bands, 4).eval()
    assert network(torch.randn(2, bands, *size)).shape == (2, 4, *size)


def test_normalisation_lives_inside():
    """A network with statistics, on raw imagery, equals one without on normalised imagery."""
    raw = torch.rand(2, 3, 64, 64) * 200
    mean, std = [90.0, 100.0, 110.0], [40.0, 50.0, 60.0]
    inside = build_network(TINY, 3, 2, mean, std, seed=1).eval()
    outside = build_network(TINY, 3, 2, seed=1).eval()
    normalised = (raw - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(inside(raw), outside(normalised), atol=1e-5, rtol=1e-5)


def test_a_network_with_another_band_order_sees_its_own():
    torch.manual_seed(0)
    image = torch.randn(1, 4, 64, 64)
    bgr = SegmentationNetwork(TINY, 4, 2, band_order=[2, 1, 0]).eval()
    rgb = SegmentationNetwork(TINY, 3, 2).eval()
    rgb.inner.load_state_dict(bgr.inner.state_dict())
    torch.testing.assert_close(bgr(image), rgb(image[:, [2, 1, 0]]))
    with pytest.raises(SettingsError, match="does not fit imagery of 2 bands"):
        SegmentationNetwork(TINY, 2, 2, band_order=[2, 1, 0])


def test_initial_weights_depend_on_the_seed_only():
    torch.manual_seed(5)
    first = build_network(TINY, 3, 2, seed=3)
    torch.randn(100)
    second, other = build_network(TINY, 3, 2, seed=3), build_network(TINY, 3, 2, seed=4)
    values = [torch.cat([p.flatten() for p in network.parameters()]) for network in (first, second, other)]
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2])


def test_presets_have_the_sizes_that_are_promised():
    sizes = {name: count_parameters(build_network(PRESETS[name], 3, 5)) / 1e6 for name in ("base", "small", "tiny")}
    assert 0.1 < sizes["tiny"] < 0.3
    assert sizes["tiny"] < sizes["small"] < 1
    assert 24 < sizes["base"] < 25


@pytest.mark.parametrize("name", [("unet", "no-such-encoder"), ("no-such-architecture", "resnet18")])
def test_unknown_names_are_refused_with_a_mend(name):
    with pytest.raises(SettingsError, match="names of segmentation-models-pytorch"):
        build_network(NetworkSettings(architecture=name[0], encoder=name[1]), 3, 2)


def test_imagenet_weights_that_cannot_be_had(monkeypatch):
    """The download is made to fail as it does without a network; everything else is real."""
    import urllib.error

    import segmentation_models_pytorch as smp

    def offline(*args, **kwargs):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(smp, "create_model", offline)
    with pytest.raises(SettingsError, match=r"could not be downloaded.*weights: null"):
        build_network(NetworkSettings(encoder="resnet18", weights="imagenet"), 3, 2)


def info(**values) -> CheckpointInfo:
    return CheckpointInfo(
        **({"network": TINY, "bands": 3, "band_numbers": (1, 2, 3), "classes": ("a", "b", "c")} | values)
    )


def test_a_checkpoint_gives_the_network_back(tmp_path):
    network = build_network(TINY, 3, 3, [1, 2, 3], [4, 5, 6], seed=0)
    save_network(tmp_path / "n.safetensors", network, info(metres_per_pixel=0.3))
    again, told = load_network(tmp_path / "n.safetensors")
    assert told == info(metres_per_pixel=0.3)
    image = torch.randn(1, 3, 64, 64)
    assert torch.equal(network.eval()(image), again.eval()(image))


def test_broken_and_foreign_checkpoints_are_refused(tmp_path):
    path = tmp_path / "n.safetensors"
    with pytest.raises(CheckpointError, match="no such file"):
        load_network(path)
    path.write_bytes(b"not safetensors")
    with pytest.raises(CheckpointError, match="broken or no safetensors"):
        load_network(path)
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="was not written by kdcore"):
        load_network(path)


def test_a_truncated_checkpoint_is_refused(tmp_path):
    path = tmp_path / "n.safetensors"
    save_network(path, build_network(TINY, 3, 3), info())
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="broken"):
        load_network(path)


def test_a_checkpoint_of_other_classes_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="trained for the classes a, b, c, but the collection has a, b"):
        check_fits(info(), ("a", "b"), 3, tmp_path)
    with pytest.raises(CheckpointError, match="expects 3 bands, but the collection gives 4"):
        check_fits(info(), ("a", "b", "c"), 4, tmp_path)


def test_foreign_weights_are_read_but_never_run(tmp_path):
    network, donor = build_network(TINY, 3, 3, seed=0), build_network(TINY, 3, 3, seed=1)
    torch.save({"state_dict": donor.inner.state_dict()}, tmp_path / "foreign.pt")
    load_foreign(tmp_path / "foreign.pt", network)
    assert all(torch.equal(a, b) for a, b in zip(network.inner.parameters(), donor.inner.parameters(), strict=True))

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CheckpointError, match="more than tensors"):
        load_foreign(tmp_path / "evil.pt", network)
    assert not (tmp_path / "ran").exists()
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="does not fit the network"):
        load_foreign(tmp_path / "other.pt", network)


def test_a_teacher_stays_frozen_whatever_is_called_on_it():
    network = build_network(TINY, 3, 3, seed=0)
    teacher = Teacher([network])
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    parent = nn.ModuleList([teacher])
    parent.train()
    teacher.train()
    network.train()
    for _ in range(3):
        assert not teacher(torch.randn(4, 3, 64, 64) * 50).requires_grad
    assert not any(module.training for module in teacher.modules())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


@pytest.mark.parametrize("logits", [1, 3])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_an_ensemble_averages_probabilities_at_the_temperature(logits, temperature):
    members = [build_network(TINY, 3, logits, seed=seed) for seed in range(3)]
    image = torch.randn(2, 3, 64, 64)
    expected = torch.stack([probabilities(member.eval()(image) / temperature) for member in members]).mean(dim=0)
    got = probabilities(Teacher(members)(image, temperature) / temperature)
    torch.testing.assert_close(got, expected.detach(), atol=1e-6, rtol=1e-5)


def test_a_teacher_of_two_kinds_is_refused():
    with pytest.raises(CheckpointError, match="same maps"):
        Teacher([build_network(TINY, 3, 2), build_network(TINY, 3, 3)])
    with pytest.raises(CheckpointError, match="at least one"):
        Teacher([])
