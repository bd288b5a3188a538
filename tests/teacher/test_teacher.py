"""The teacher: frozen whatever is called on it, and for an ensemble the average of probabilities."""

import math

import pytest
import torch
from torch import nn

from kdcore.errors import CheckpointError
from kdcore.models.checkpoint import CheckpointInfo, save_network
from kdcore.models.networks import build_network, probabilities
from kdcore.settings import NetworkSettings
from kdcore.teacher.teacher import Teacher
from tests.conftest import TINY


class Says(nn.Module):
    """A network that gives the same logits everywhere."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = len(logits)
        self.register_buffer("values", torch.tensor(logits))

    def forward(self, image):
        return self.values[None, :, None, None].expand(len(image), -1, *image.shape[-2:])


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


@pytest.mark.parametrize("network", [TINY, NetworkSettings(architecture="fpn", encoder="resnet18")])
def test_it_stays_frozen_whatever_is_called_on_it(network):
    """Batch norm would drift and dropout (FPN's decoder has it) would roll dice in train mode."""
    member = build_network(network, 3, 3, seed=0)
    has_dropout = any(isinstance(module, nn.Dropout2d) and module.p > 0 for module in member.modules())
    assert has_dropout == (network.architecture == "fpn")
    teacher = Teacher([member])
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    assert any("running_mean" in name for name in before)
    parent = nn.ModuleList([teacher])
    image = torch.randn(4, 3, 64, 64) * 50
    first = teacher(image)
    for wake in (parent.train, teacher.train, member.train, teacher.members.train):
        wake()
        assert torch.equal(teacher(image), first)
        assert not any(module.training for module in teacher.modules())
    assert not first.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_no_gradient_reaches_it_through_its_input():
    teacher = Teacher([build_network(TINY, 3, 3, seed=0)])
    image = torch.randn(1, 3, 64, 64, requires_grad=True)
    assert not teacher(image).requires_grad


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_probabilities_are_averaged_by_hand(temperature):
    """At T: the average of 0.2 and 0.6 is 0.4, where the average of the logits would say 0.38."""
    image = torch.zeros(1, 3, 2, 2)
    members = [Says(temperature * logit(0.2)), Says(temperature * logit(0.6))]
    got = torch.sigmoid(Teacher(members)(image, temperature) / temperature)
    torch.testing.assert_close(got, torch.full((1, 1, 2, 2), 0.4))
    members = [
        Says(*(temperature * math.log(p) for p in (0.7, 0.2, 0.1))),
        Says(*(temperature * math.log(p) + 5 for p in (0.1, 0.2, 0.7))),  # a constant on all logits says nothing
    ]
    got = torch.softmax(Teacher(members)(image, temperature) / temperature, dim=1)
    torch.testing.assert_close(got[0, :, 0, 0], torch.tensor([0.4, 0.2, 0.4]))


@pytest.mark.parametrize("logits", [1, 3])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_an_ensemble_averages_probabilities_at_the_temperature(logits, temperature):
    members = [build_network(TINY, 3, logits, seed=seed) for seed in range(3)]
    image = torch.randn(2, 3, 64, 64)
    expected = torch.stack([probabilities(member.eval()(image) / temperature) for member in members]).mean(dim=0)
    got = probabilities(Teacher(members)(image, temperature) / temperature)
    torch.testing.assert_close(got, expected.detach(), atol=1e-6, rtol=1e-5)


def test_an_ensemble_of_sure_networks_stays_finite():
    image = torch.zeros(1, 3, 2, 2)
    for members in (
        [Says(200.0), Says(300.0)],
        [Says(-200.0), Says(200.0)],
        [Says(500.0, 0.0, 0.0), Says(0.0, 0.0, 500.0)],
    ):
        assert torch.isfinite(Teacher(members)(image)).all()


def test_one_member_gives_its_own_logits():
    member = build_network(TINY, 3, 3, seed=0).eval()
    image = torch.randn(1, 3, 64, 64)
    for temperature in (1.0, 7.0):
        assert torch.equal(Teacher([member])(image, temperature), member(image))


def test_each_member_brings_its_own_normalisation(tmp_path):
    """Two members trained on other statistics, read from files, each see the imagery as they did in training."""
    info = CheckpointInfo(network=TINY, bands=3, band_numbers=(1, 2, 3), classes=("a", "b", "c"))
    members = [
        build_network(TINY, 3, 3, [mean] * 3, [std] * 3, seed=seed).eval()
        for seed, (mean, std) in enumerate([(100.0, 20.0), (8.0, 3.0)])
    ]
    for seed, member in enumerate(members):
        save_network(tmp_path / f"{seed}.safetensors", member, info)
    teacher = Teacher.load([tmp_path / "0.safetensors", tmp_path / "1.safetensors"], ("a", "b", "c"), 3)
    image = torch.rand(1, 3, 64, 64) * 255
    expected = sum(probabilities(member(image)) for member in members) / 2
    torch.testing.assert_close(probabilities(teacher(image)), expected.detach(), atol=1e-6, rtol=1e-5)
    assert teacher.parameters_count == 2 * sum(parameter.numel() for parameter in members[0].parameters())
    with pytest.raises(CheckpointError, match=r"1\.safetensors|0\.safetensors"):
        Teacher.load([tmp_path / "0.safetensors"], ("a", "b"), 3)


def test_a_teacher_of_two_kinds_is_refused():
    with pytest.raises(CheckpointError, match="same maps"):
        Teacher([build_network(TINY, 3, 2), build_network(TINY, 3, 3)])
    with pytest.raises(CheckpointError, match="at least one"):
        Teacher([])
