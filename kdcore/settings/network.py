"""Which network: a preset, a pair of names, or every field."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from kdcore.settings.fields import Described, own_path

MOST_CHANNELS = 1024  # of a decoder's step


class NetworkSettings(Described):
    """A segmentation-models-pytorch network by its architecture's and encoder's names."""

    architecture: str = "unet"
    """`unet`, `unetplusplus`, `fpn`, `deeplabv3plus`, `segformer` ..."""
    encoder: str = "resnet34"
    """`resnet34`, `tu-regnetx_002`, `mobilenet_v2` ..."""
    depth: int = Field(default=5, ge=3, le=5)
    """stages of the encoder; each halves height and width"""
    decoder_channels: tuple[Annotated[int, Field(ge=1, le=MOST_CHANNELS)], ...] | None = Field(
        default=None, max_length=5
    )
    """channels of the decoder's stages, from the coarsest to the finest; as many as `depth`, with `stride` 2 one less and with 4 two"""
    stride: Literal[1, 2, 4] = 1
    """where a U-Net's decoder ends: at every pixel, every second or every fourth; logits are then enlarged bilinearly. The last
    stages have the most pixels: parameters hardly change, operations do"""
    weights: Literal["imagenet"] | Path | None = None
    """what the encoder starts from: a file of weights (safetensors, or a torch state dict), or `imagenet`, which comes from the extra
    `pretrained` for the encoder `tu-tf_efficientnet_lite0` and is downloaded once for others; otherwise weights are random"""

    @property
    def pretrained_on(self) -> str | None:
        """Where the encoder's first weights came from, in a word; None where they were random."""
        return self.weights.name if isinstance(self.weights, Path) else self.weights and "ImageNet"

    @field_validator("weights")
    @classmethod
    def _whole_path(cls, weights: Path | str | None) -> Path | str | None:
        return own_path(weights).absolute() if isinstance(weights, Path) else weights

    @field_validator("architecture", "encoder")
    @classmethod
    def _no_address(cls, name: str) -> str:
        """A name, never a place: 'hf-hub:owner/x' would ask a host, 'local-dir:/x' read a folder."""
        if not name or len(name) > 200 or any(letter in name for letter in ":/\\") or not name.isprintable():
            raise ValueError(
                f"{name[:100]!r} is no name of a network; hubs and folders are not opened. "
                "Choose a name of segmentation-models-pytorch or, after 'tu-', of timm, for example 'resnet34' or 'tu-regnetx_002'"
            )
        return name


# Parameters with three bands and five classes, measured by `benchmarks/networks.py`.
PRESETS: dict[str, NetworkSettings] = {
    "large": NetworkSettings(architecture="unetplusplus", encoder="resnet50"),  # 49.0 M
    "base": NetworkSettings(architecture="unet", encoder="resnet34"),  # 24.4 M
    "medium": NetworkSettings(architecture="unet", encoder="resnet18"),  # 14.3 M
    # Learns fastest on a CPU: a teacher for short studies.
    "light": NetworkSettings(encoder="tu-resnet10t", decoder_channels=(128, 64, 48, 32, 16)),  # 6.3 M
    # The best of `benchmarks/front.py` for what it computes, from ImageNet's weights: needs the extra `pretrained`, or a download.
    "lite": NetworkSettings(  # 3.6 M
        encoder="tu-tf_efficientnet_lite0", decoder_channels=(96, 64, 48), stride=4, weights="imagenet"
    ),
    "lraspp": NetworkSettings(architecture="lraspp", encoder="mobilenet_v3_large"),  # 3.2 M, of torchvision
    "small": NetworkSettings(encoder="tu-regnetx_002", depth=4, decoder_channels=(96, 64, 32, 16)),  # 0.6 M
    "tiny": NetworkSettings(encoder="tu-regnetx_002", depth=3, decoder_channels=(64, 32, 16)),  # 0.15 M
    "fast": NetworkSettings(encoder="tu-regnetx_002", depth=3, decoder_channels=(64,), stride=4),  # 0.10 M
}


def parse_network(value: Any) -> Any:
    """Turn a preset's name or 'architecture/encoder' into NetworkSettings; leave mappings to pydantic."""
    if not isinstance(value, str):
        return value
    if value in PRESETS:
        return PRESETS[value]
    architecture, separator, encoder = value.partition("/")
    if not separator or not architecture or not encoder:
        raise ValueError(
            f"{value!r} is no network; choose a preset ({', '.join(PRESETS)}) or 'architecture/encoder', for example 'unet/resnet34'"
        )
    return NetworkSettings(architecture=architecture, encoder=encoder)


Network = Annotated[NetworkSettings, BeforeValidator(parse_network)]
