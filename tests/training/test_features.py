"""Decoder features: the same network, told in two steps; compared after a projection; refused where there are none."""

import pytest
import torch

from kdcore.errors import SettingsError
from kdcore.models.networks import SegmentationNetwork, build_network
from kdcore.settings import NetworkSettings
from kdcore.teacher.teacher import Teacher
from kdcore.training.objective import FeatureStudent, FeatureTeacher
from tests.conftest import TINY

LARGER = NetworkSettings(encoder="tu-test_resnet", depth=3, decoder_channels=(24, 16, 12))


@pytest.mark.parametrize(
    "architecture", ["unet", "unetplusplus", "manet", "linknet", "fpn", "pspnet", "deeplabv3plus", "pan", "segformer"]
)
def test_the_logits_of_both_ways_are_the_same(architecture):
    network = build_network(NetworkSettings(architecture=architecture, encoder="resnet18"), 3, 2, seed=0).eval()
    image = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features, logits = network.features_and_logits(image)
        assert torch.equal(logits, network(image))
    assert features.shape[:2] == (2, network.feature_channels)


def test_imagery_is_normalised_and_put_in_order_for_both():
    settings = NetworkSettings(encoder="tu-test_resnet", depth=3, decoder_channels=(16, 8, 8))
    network = SegmentationNetwork(settings, 4, 2, [10.0, 20.0], [2.0, 4.0], band_order=[3, 1]).eval()
    image = 100 * torch.rand(1, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features, logits = network.features_and_logits(image)
        assert torch.equal(logits, network(image))
        # By hand: bands 4 and 2, in standard deviations.
        values = torch.stack([(image[:, 3] - 10) / 2, (image[:, 1] - 20) / 4], dim=1)
        torch.testing.assert_close(features, network.inner.decoder(network.inner.encoder(values)))


def test_other_sizes_and_architectures_are_refused():
    network = build_network(TINY, 3, 2)
    with pytest.raises(SettingsError, match="60 x 64 pixels: choose multiples of 8"):
        network.features_and_logits(torch.zeros(1, 3, 60, 64))
    network.inner = torch.nn.Identity()
    with pytest.raises(SettingsError, match=r"features of 'unet' cannot be compared.*Set features: 0.*or choose unet"):
        _ = network.feature_channels


class TestTheTeacher:
    def test_gives_its_own_logits_and_no_gradient(self):
        teacher = Teacher([build_network(LARGER, 3, 2, [100.0] * 3, [50.0] * 3, seed=1)])
        image = 200 * torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        pair = FeatureTeacher(teacher).train()  # a parent's training mode does not reach it
        before = {name: value.clone() for name, value in teacher.state_dict().items()}
        logits, features = pair(image.requires_grad_(), 7.0)
        assert torch.equal(logits, teacher(image, 7.0))
        assert features.shape == (2, 12, 64, 64)
        assert not logits.requires_grad
        assert not features.requires_grad
        assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())

    def test_that_is_an_average_has_no_features(self):
        members = [build_network(TINY, 3, 2, seed=seed) for seed in range(2)]
        for teacher in (Teacher(members), Teacher(members[:1], flips=True)):
            with pytest.raises(
                SettingsError, match=r"Set features: 0, hint: 0 and use `channels`.*, or let one trained network teach"
            ):
                FeatureTeacher(teacher)


class TestTheStudent:
    def test_is_projected_to_the_teachers_channels_and_learns_with_its_projection(self):
        student = FeatureStudent(build_network(TINY, 3, 2, seed=0), 12, seed=0)
        logits, projected = student(torch.randn(2, 3, 64, 64))
        assert logits.shape == (2, 2, 64, 64)
        assert projected.shape == (2, 12, 64, 64)
        projected.square().mean().backward()
        assert student.projection.weight.grad.abs().sum() > 0
        assert next(student.network.inner.encoder.parameters()).grad.abs().sum() > 0

    def test_begins_as_a_function_of_the_seed(self):
        network = build_network(TINY, 3, 2, seed=0)
        weights = []
        for noise, seed in ((1, 5), (2, 5), (1, 6)):
            torch.manual_seed(noise)
            weights.append(FeatureStudent(network, 12, seed).projection.weight)
        assert torch.equal(weights[0], weights[1])
        assert not torch.equal(weights[0], weights[2])
