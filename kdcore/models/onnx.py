"""Any ONNX file as a segmentation network: imagery in its own units goes in, logits of the collection's classes come out."""

from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from kdcore.errors import CheckpointError
from kdcore.models.onnx_info import KEY, OnnxInfo, read_info
from kdcore.runs.quota import available_cores

__all__ = ["KEY", "OnnxInfo", "OnnxNetwork", "open_session", "read_info", "to_network_input", "to_probabilities"]

SMALLEST = 1e-7  # of a probability whose logarithm is taken
STRIDE = 32  # the height and width that networks without a fixed tile are given are multiples of this
OVERLAP = 64  # pixels, of neighbouring tiles; half of it is cut away on each side
Pixels = NDArray[np.float32]


def to_network_input(info: OnnxInfo, images: NDArray[Any]) -> NDArray[Any]:
    """Imagery (N, bands, H, W) in its own units, in any dtype -> what the graph takes: ordered, scaled, laid out."""
    if info.order != tuple(range(images.shape[1])):
        images = images[:, list(info.order)]
    if any(info.mean) or any(value != 1 for value in info.std):
        mean, std = (np.asarray(values, dtype=np.float32)[:, None, None] for values in (info.mean, info.std))
        images = (images.astype(np.float32) - mean) / std
    if info.channels_last:
        images = images.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images, dtype=info.input_type)


def to_probabilities(info: OnnxInfo, outputs: NDArray[Any], size: tuple[int, int] | None = None) -> Pixels:
    """What the graph gives -> probabilities (N, K, H, W) float32 of the classes; with two classes K = 1, of the second.

    Args:
        info: of the file.
        outputs: the first output.
        size: height and width of what went in; maps of another size are resized to it. Default: the fixed tile.

    Raises:
        CheckpointError: other channels than `info` names, or probabilities outside 0..1.
    """
    values = to_maps(info, outputs, size)
    if info.output == "logits":
        logits = class_logits(info, values)
        if info.logits == 1:
            return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)), dtype=np.float32)  # sigmoid, without overflow
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))
    if values.shape[1] == 1:
        return values if info.channels[1] else 1 - values
    shares = np.stack([added_up(values, channels) for channels in info.channels], axis=1)
    shares /= np.maximum(shares.sum(axis=1, keepdims=True), SMALLEST)
    return shares[:, 1:] if info.logits == 1 else shares


def class_logits(info: OnnxInfo, values: Pixels) -> Pixels:
    """Maps (N, C, H, W) of the output channels -> logits (N, K, H, W) of the classes; channels of one class are added up."""
    if values.shape[1] == 1:
        if info.output == "probabilities":
            values = np.clip(values, SMALLEST, 1 - SMALLEST)
            values = np.log(values) - np.log1p(-values)
        return values if info.channels[1] else -values
    if info.output == "probabilities":
        shares = [np.log(np.maximum(added_up(values, channels), SMALLEST)) for channels in info.channels]
    else:
        shares = [
            values[:, channels[0]]
            if len(channels) == 1
            else np.logaddexp.reduce(values[:, list(channels)], axis=1)  # the logarithm of the sum of their powers
            for channels in info.channels
        ]
    logits = shares[1][:, None] - shares[0][:, None] if info.logits == 1 else np.stack(shares, axis=1)
    return np.asarray(logits, dtype=np.float32)


def added_up(values: Pixels, channels: tuple[int, ...]) -> Pixels:
    """Some channels of (N, C, H, W), added up: (N, H, W)."""
    return values[:, channels[0]] if len(channels) == 1 else values[:, list(channels)].sum(axis=1)


def to_maps(info: OnnxInfo, outputs: NDArray[Any], size: tuple[int, int] | None) -> Pixels:
    """The first output as (N, C, H, W) float32 of a size, after a look at whether it is what it should be."""
    values = np.asarray(outputs, dtype=np.float32)
    if info.channels_last:
        values = values.transpose(0, 3, 1, 2)
    highest = max(channel for channels in info.channels for channel in channels)
    if values.shape[1] <= highest or (values.shape[1] > 1 and not all(info.channels)):
        raise CheckpointError(
            f"the ONNX network gave {values.shape[1]} output channels, which does not fit its classes "
            f"({', '.join(f'{name}: {list(where)}' for name, where in zip(info.classes, info.channels, strict=True))}). "
            "Correct `classes` in the YAML beside it."
        )
    if info.output == "probabilities" and not info.sha256 and (values.min() < -1e-3 or values.max() > 1.001):
        raise CheckpointError(
            f"the ONNX network gave values from {values.min():.3g} to {values.max():.3g}, which are no probabilities. "
            "Write `output: logits` in the YAML beside it."
        )
    if size is None and info.tile is not None:
        size = info.tile, info.tile
    if size is not None and values.shape[2:] != size:
        resized = functional.interpolate(torch.from_numpy(np.ascontiguousarray(values)), size, mode="bilinear")
        values = resized.numpy()
    return values


def open_session(path: Path, threads: int | None = None) -> Any:
    """Open a file in ONNX Runtime, on a GPU where its CUDA provider is at hand.

    Args:
        path: the file.
        threads: of the processor; None for as many as this process may use.

    Returns:
        An `onnxruntime.InferenceSession`.

    Raises:
        CheckpointError: the file is broken, or needs something that this ONNX Runtime has not.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available_cores()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    at_hand = onnxruntime.get_available_providers()
    providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in at_hand]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # ONNX Runtime has a dozen kinds without a common one
        raise CheckpointError(f"{path}: cannot be opened in ONNX Runtime ({in_short(error)}).") from error


class OnnxNetwork(nn.Module):
    """An ONNX file that behaves like a `SegmentationNetwork` that is never trained.

    Args:
        path: the file.
        info: what it takes and gives; read from the file if not given.
        threads: of the processor; torch's number if not given.

    Shape:
        forward: (N, bands, H, W) any float, imagery in its own units -> logits (N, K, H, W) float32 on the same device.
        H and W may be any size: a fixed tile in the file is laid over them with overlap.
    """

    def __init__(self, path: Path, info: OnnxInfo | None = None, threads: int | None = None) -> None:
        super().__init__()
        self.path = path
        self.info = info or read_info(path)
        self.bands, self.logits = self.info.bands, self.info.logits
        self.foreign_parameters = self.info.parameters
        self.session = open_session(path, threads or torch.get_num_threads())
        self.input_name = self.session.get_inputs()[0].name
        self.output_name = self.session.get_outputs()[0].name

    @classmethod
    def load(
        cls, path: Path, classes: tuple[str, ...], bands: int, band_numbers: tuple[int, ...] | None = None
    ) -> Self:
        """Open a file for a collection's classes and bands.

        Raises:
            CheckpointError: missing, broken, of other classes, or it wants bands that the collection does not give.
        """
        return cls(path, read_info(path).fitted(classes, bands, band_numbers, path))

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, image: Tensor) -> Tensor:
        """Logits of a batch of imagery. No gradient flows through it.

        Raises:
            CheckpointError: ONNX Runtime cannot run the file, or it gives something else than it says.
        """
        height, width = image.shape[-2:]
        pixels = image.detach().float().cpu().numpy()
        tile = self.info.tile
        below, right = (padded(size, tile) - size for size in (height, width))
        if below or right:
            pixels = np.pad(pixels, ((0, 0), (0, 0), (0, below), (0, right)), mode="edge")
        fits = tile is None or pixels.shape[-2:] == (tile, tile)
        logits = self.run(pixels) if fits else self.run_tiles(pixels)
        return torch.from_numpy(np.ascontiguousarray(logits[..., :height, :width])).to(image.device)

    def run_tiles(self, pixels: Pixels) -> Pixels:
        """Logits of imagery larger than the fixed tile: overlapping tiles, each of which keeps its middle."""
        tile = self.info.tile
        assert tile is not None
        overlap = min(OVERLAP, tile // 2 // STRIDE * STRIDE)
        logits = np.empty((len(pixels), self.logits, *pixels.shape[2:]), dtype=np.float32)
        for row, rows, inner_rows in spans(pixels.shape[2], tile, overlap):
            for column, columns, inner_columns in spans(pixels.shape[3], tile, overlap):
                part = self.run(pixels[:, :, row : row + tile, column : column + tile])
                logits[:, :, rows, columns] = part[:, :, inner_rows, inner_columns]
        return logits

    def run(self, pixels: Pixels) -> Pixels:
        """Logits of imagery of a size that the file takes; a fixed batch is filled up with the last image."""
        count, batch = len(pixels), self.info.batch
        if batch is not None and count != batch:
            parts = [self.run(filled(pixels[start : start + batch], batch)) for start in range(0, count, batch)]
            return np.concatenate(parts)[:count]
        try:
            (outputs,) = self.session.run([self.output_name], {self.input_name: to_network_input(self.info, pixels)})
        except Exception as error:  # ONNX Runtime has a dozen kinds without a common one
            raise CheckpointError(
                f"{self.path}: ONNX Runtime could not run it on {pixels.shape[2]} x {pixels.shape[3]} pixels ({in_short(error)}). "
                "Export it with a fixed height and width if it does not take every size."
            ) from error
        try:
            return class_logits(self.info, to_maps(self.info, outputs, pixels.shape[2:]))
        except CheckpointError as error:
            raise CheckpointError(f"{self.path}: {error}") from error


def padded(size: int, tile: int | None) -> int:
    """The height or width that a side is filled up to."""
    if tile is not None and (size <= tile or tile % STRIDE):
        return max(size, tile)
    return -(-size // STRIDE) * STRIDE


def filled(pixels: Pixels, batch: int) -> Pixels:
    """A batch of a fixed size, its last image repeated."""
    return np.concatenate([pixels, np.repeat(pixels[-1:], batch - len(pixels), axis=0)])


def spans(size: int, tile: int, overlap: int) -> list[tuple[int, slice, slice]]:
    """Tiles along one side: origin, what each of them writes, and where that is inside the tile.

    The last one is moved back to the border, so origins stay multiples of 32 where size, tile and overlap are.
    """
    origins = [*range(0, size - tile, tile - overlap), size - tile]
    found = []
    start = 0
    for index, origin in enumerate(origins):
        end = size if index == len(origins) - 1 else (origin + tile + origins[index + 1]) // 2
        found.append((origin, slice(start, end), slice(start - origin, end - origin)))
        start = end
    return found


def in_short(error: Exception) -> str:
    """The beginning of what a library said, on one line."""
    return " ".join(str(error).split())[:200]
