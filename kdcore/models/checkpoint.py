"""Checkpoints: weights as safetensors with the settings in the same file. Never pickle."""

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, cast

import torch
from pydantic import Field, ValidationError, field_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kdcore.errors import CheckpointError, SettingsError
from kdcore.files import replacing
from kdcore.models.networks import SegmentationNetwork, without_weights
from kdcore.reading import parse_json
from kdcore.settings import MOST_BANDS, Frozen, NetworkSettings, check_colour

FILLS = {Tensor.uniform_, Tensor.normal_, Tensor.fill_, Tensor.zero_} | {
    getattr(nn.init, name) for name in ("uniform_", "normal_", "trunc_normal_", "constant_", "kaiming_uniform_")
}
KEY = "kdcore"
SUM = "kdcore-sha256"


class CheckpointInfo(Frozen):
    """What a network is and what it was trained for.

    Attributes:
        network: architecture and encoder.
        bands: bands of its imagery; `band_numbers` are their numbers (from 1) in the source files.
        classes: names of all classes; two classes have one logit.
        colours: of all classes as the collection has them, '#RRGGBB' or None; empty in checkpoints of earlier versions.
        metres_per_pixel: ground sample distance of its imagery, None where unknown.
        dtype: of the source imagery.
        arm, seed, step: where it comes from.
    """

    network: NetworkSettings
    bands: int = Field(ge=1, le=MOST_BANDS)
    band_numbers: tuple[Annotated[int, Field(ge=1, lt=2**31)], ...] = Field(max_length=MOST_BANDS)
    classes: tuple[Annotated[str, Field(max_length=100)], ...] = Field(min_length=2, max_length=255)
    colours: tuple[str | None, ...] = ()
    metres_per_pixel: float | None = Field(default=None, ge=0.001, le=1_000_000)
    dtype: str = Field(default="uint8", max_length=30)
    arm: str = Field(default="", max_length=30)
    seed: int = 0
    step: int = 0

    @field_validator("colours")
    @classmethod
    def _colours(cls, colours: tuple[str | None, ...]) -> tuple[str | None, ...]:
        return tuple(None if colour is None else check_colour(colour) for colour in colours)

    @property
    def logits(self) -> int:
        """Number of maps that the network gives."""
        return 1 if len(self.classes) == 2 else len(self.classes)


def save_network(path: Path, network: SegmentationNetwork, info: CheckpointInfo) -> None:
    """Write weights and settings in one file, in one step."""
    save_tensors(path, dict(network.state_dict()), info.model_dump(mode="json"))


def load_network(path: Path) -> tuple[SegmentationNetwork, CheckpointInfo]:
    """Read a network written by `save_network`.

    Raises:
        CheckpointError: missing, broken, or not written by kdcore.
    """
    tensors, values = load_tensors(path)
    try:
        info = CheckpointInfo.model_validate(values)
    except ValidationError as error:
        raise CheckpointError(
            f"{path}: its settings are not those of a kdcore checkpoint ({error.error_count()} problems)."
        ) from error
    # Weights are about to be replaced: do not download any.
    plain = without_weights(info.network)
    return build_like(plain, info, tensors, path), info


def build_like(
    settings: NetworkSettings, info: CheckpointInfo, tensors: dict[str, Tensor], path: Path
) -> SegmentationNetwork:
    """The network that a file describes, with the file's weights: nothing is made before it is clear that they are there.

    Raises:
        CheckpointError: the weights are another network's.
    """
    order = tensors["band_order"].flatten().tolist() if "band_order" in tensors else None
    if order is not None and (len(order) > MOST_BANDS or not all(isinstance(index, int) for index in order)):
        raise CheckpointError(f"{path}: its band order is broken. Copy it again, or train anew.")
    shapes: Any = None
    with (
        suppress(RuntimeError, NotImplementedError, SettingsError),
        torch.device("meta"),
        Unfilled(),
    ):  # which a few architectures cannot be built on
        shapes = SegmentationNetwork(settings, info.bands, info.logits, band_order=order)
    if shapes is not None:
        check_weights(shapes, tensors, path)
        copies = {name: tensors[name].to(entry.dtype, copy=True) for name, entry in shapes.state_dict().items()}
        shapes.load_state_dict(copies, assign=True)
        if not any(tensor.is_meta for module in shapes.modules() for tensor in tensors_of(module)):
            return cast(SegmentationNetwork, shapes.to(memory_format=torch.channels_last))
    network = SegmentationNetwork(settings, info.bands, info.logits, band_order=order)
    put_weights(network, tensors, path)
    return network


class Unfilled(TorchFunctionMode):
    """Leaves out what fills a tensor in place: first weights, while only their shapes are wanted."""

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        """Called by torch instead of each of its functions."""
        options = options or {}
        if function in FILLS:
            return arguments[0] if arguments else options["tensor"]
        return function(*arguments, **options)


def tensors_of(module: nn.Module) -> list[Tensor]:
    """All tensors that a module holds itself, those that are neither weight nor buffer included."""
    held = (*module.parameters(recurse=False), *module.buffers(recurse=False), *vars(module).values())
    return [entry for entry in held if isinstance(entry, Tensor)]


def put_weights(network: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Load a state dict, or say what does not fit."""
    check_weights(network, tensors, path)
    network.load_state_dict(tensors)


def check_weights(network: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Refuse weights of other names or shapes than a network's.

    Raises:
        CheckpointError: says what differs.
    """
    own = network.state_dict()
    missing, extra = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    wrong = [name for name in own.keys() & tensors.keys() if own[name].shape != tensors[name].shape]
    if missing or extra or wrong:
        details = [f"{len(missing)} weights are missing ({missing[0]} ...)"] if missing else []
        details += [f"{len(extra)} are unknown ({extra[0]} ...)"] if extra else []
        details += [
            f"{name} is {tuple(tensors[name].shape)} instead of {tuple(own[name].shape)}" for name in sorted(wrong)[:1]
        ]
        raise CheckpointError(
            f"{path}: does not fit the network: {'; '.join(details)}. Use the architecture and classes it was trained with."
        )


def save_tensors(path: Path, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
    """Write tensors and JSON values in one safetensors file, in one step."""
    plain = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    text = json.dumps(values)
    with replacing(path) as temporary:
        try:
            save_file(plain, temporary, metadata={KEY: text, SUM: checksum(plain, text)})
        except SafetensorError as error:
            raise OSError(
                28 if "space" in str(error).lower() else 27 if "large" in str(error).lower() else 5, str(error)
            ) from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors and JSON values written by `save_tensors`.

    Raises:
        CheckpointError: missing, broken, or not written by kdcore.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safe_open is no dict
        text = metadata[KEY]
        intact = SUM not in metadata or metadata[SUM] == checksum(tensors, text)  # earlier versions wrote none
        values = parse_json(text, path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: is broken or no safetensors file ({error}). Copy it again, or train anew."
        ) from error
    except KeyError as error:
        raise CheckpointError(
            f"{path}: was not written by kdcore; nothing says which network it is. Export that network as ONNX, see docs/teachers.md."
        ) from error
    if not intact:
        raise CheckpointError(
            f"{path}: its contents have changed since it was written (damaged on the disk or on the way). Copy it again, or train anew."
        )
    if not isinstance(values, dict):
        raise CheckpointError(
            f"{path}: its settings are not those of a kdcore checkpoint. Copy it again, or train anew."
        )
    return tensors, values


def checksum(tensors: dict[str, Tensor], text: str) -> str:
    """SHA-256 of settings and weights, names and shapes among them; hexadecimal."""
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_fits(info: CheckpointInfo, classes: tuple[str, ...], bands: int, path: Path) -> None:
    """Refuse a checkpoint of other classes or bands than the collection's.

    Raises:
        CheckpointError: says what differs.
    """
    if info.classes != classes:
        raise CheckpointError(
            f"{path}: was trained for the classes {', '.join(info.classes)}, but the collection has {', '.join(classes)}. "
            "Use a checkpoint of the same class list in the same order."
        )
    if info.bands != bands:
        raise CheckpointError(
            f"{path}: expects {info.bands} bands, but the collection gives {bands}. Set `bands` in collection.yaml."
        )
