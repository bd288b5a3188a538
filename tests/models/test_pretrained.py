"""First weights of an encoder: from a package, from files under other names, for other numbers of bands."""

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image

from kdcore.errors import CheckpointError
from kdcore.models.networks import build_network
from kdcore.models.pretrained import as_trained, names_of_timm, put_encoder_weights, read_state, weights_file
from kdcore.settings import NetworkSettings

LITE0 = NetworkSettings(encoder="tu-tf_efficientnet_lite0", weights="imagenet")


def photograph(name):
    """One of scikit-learn's two photographs, (1, 3, 224, 224) in 0..255."""
    image = torch.from_numpy(load_sample_image(name).copy()).permute(2, 0, 1)[None].float()
    return torch.nn.functional.interpolate(image, size=(224, 336), mode="bilinear", antialias=True)[..., 56:280]


@pytest.mark.parametrize(("name", "number"), [("china.jpg", 698), ("flower.jpg", 985)])  # a palace, a daisy
def test_weights_of_the_package_know_what_photographs_show(name, number):
    network = timm.create_model("tf_efficientnet_lite0").eval()
    put_encoder_weights(network, weights_file(LITE0))
    with torch.no_grad():
        assert int(network((photograph(name) - 127) / 128).argmax()) == number


def test_every_tensor_of_the_package_has_its_name_in_timm():
    given = names_of_timm(read_state(weights_file(LITE0)))
    wanted = timm.create_model("tf_efficientnet_lite0").state_dict()
    assert len(given) == 296
    assert {name: values.shape for name, values in given.items()} == {
        name: values.shape for name, values in wanted.items()
    }


@pytest.mark.parametrize("bands", [1, 3, 4, 6, 8])
def test_a_grey_picture_looks_the_same_in_any_number_of_bands(tmp_path, bands):
    three = smp.create_model("unet", encoder_name="resnet18", encoder_weights=None, in_channels=3).encoder.eval()
    save_file(three.state_dict(), tmp_path / "w.safetensors")
    other = smp.create_model("unet", encoder_name="resnet18", encoder_weights=None, in_channels=bands).encoder.eval()
    put_encoder_weights(other, tmp_path / "w.safetensors")
    grey = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for mine, theirs in zip(
            other(grey.repeat(1, bands, 1, 1))[1:], three(grey.repeat(1, 3, 1, 1))[1:], strict=True
        ):
            torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("prefix", ["", "module.", "encoder.", "state_dict.module.backbone."])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_names_may_be_wrapped_and_a_classifier_may_follow(tmp_path, prefix, suffix):
    source = timm.create_model("resnet18")
    state = {prefix + name: values for name, values in source.state_dict().items()}
    file = tmp_path / f"w{suffix}"
    save_file(state, file) if suffix == ".safetensors" else torch.save({"state_dict": state, "epoch": 3}, file)
    for encoder in ("resnet18", "tu-resnet18"):
        network = smp.create_model(
            "unet", encoder_name=encoder, encoder_weights=None, encoder_depth=3, decoder_channels=(32, 16, 8)
        )
        put_encoder_weights(network.encoder, file)
        own = {name.removeprefix("model."): values for name, values in network.encoder.state_dict().items()}
        torch.testing.assert_close(own["layer1.0.conv1.weight"], source.state_dict()["layer1.0.conv1.weight"])


def test_another_networks_weights_and_other_files_are_refused_by_name(tmp_path):
    encoder = smp.create_model("unet", encoder_name="resnet18", encoder_weights=None).encoder
    torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "text.safetensors").write_text("no weights")
    torch.save([1, 2], tmp_path / "list.pth")
    for name, said in (
        ("other.pth", "does not hold the weights of this encoder"),
        ("text.pth", "cannot be read as weights"),
        ("text.safetensors", "cannot be read as weights"),
        ("list.pth", "holds no state dict"),
        ("missing.pth", "there is no such file"),
    ):
        with pytest.raises(CheckpointError, match=said):
            put_encoder_weights(encoder, tmp_path / name)


def test_imagery_of_any_range_looks_as_photographs_did():
    # lite0 takes (x - 0.5) / 0.5 of shares of white: photographs have a mean of (0.449 - 0.5) / 0.5 there and spread 0.226 / 0.5.
    mean, std = as_trained("tu-tf_efficientnet_lite0", [1000.0, 30.0], [400.0, 2.0])
    values = np.array([[1000.0, 30.0], [1400.0, 32.0]])  # the mean, and one standard deviation above
    seen = (values - mean) / std
    np.testing.assert_allclose(seen[0], (0.449 - 0.5) / 0.5)
    np.testing.assert_allclose(seen[1] - seen[0], 0.226 / 0.5)
    assert as_trained("resnet18", [5.0], [2.0]) == (pytest.approx([5.0]), pytest.approx([2.0]))


def test_a_network_begins_with_the_weights_and_takes_imagery_as_its_encoder_knows_it(tmp_path):
    network = build_network(LITE0, 4, 1, mean=[1000.0] * 4, std=[200.0] * 4, seed=0)
    stem = read_state(weights_file(LITE0))["_conv_stem.weight"]
    torch.testing.assert_close(network.inner.encoder.model.conv_stem.weight[:, :3], stem * 3 / 4)
    np.testing.assert_allclose(
        network.normalised(torch.full((1, 4, 1, 1), 1000.0)).numpy(), (0.449 - 0.5) / 0.5, rtol=1e-5
    )


def test_settings_name_a_file_or_imagenet(tmp_path):
    assert NetworkSettings(encoder="resnet18", weights="imagenet").pretrained_on == "ImageNet"
    settings = NetworkSettings.model_validate({"encoder": "resnet18", "weights": str(tmp_path / "w.pth")})
    assert (settings.weights, settings.pretrained_on) == (tmp_path / "w.pth", "w.pth")
    assert NetworkSettings.model_validate_json(settings.model_dump_json()) == settings
    with pytest.raises(CheckpointError, match="there is no such file"):
        build_network(settings, 3, 1)
