"""Any ONNX file as a segmentation network: imagery in its own units goes in, logits of the collection's classes come out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kdcore.data.scene import Box
from kdcore.errors import CheckpointError, in_short
from kdcore.jobs.quota import thread_count
from kdcore.models.onnx_info import OnnxInfo
from kdcore.models.onnx_maps import Pixels, to_maps
from kdcore.models.onnx_reading import KEY, read_info
from kdcore.models.onnx_trial import try_out
from kdcore.models.tiled import STRIDE, Axis, Grid

__all__ = [
    "KEY",
    "OnnxInfo",
    "OnnxNetwork",
    "class_probabilities",
    "open_session",
    "read_info",
    "to_maps",
    "to_network_input",
]

SMALLEST = 1e-7  # of a probability whose logarithm is taken
OVERLAP = 64  # pixels, of neighbouring tiles; half of it is cut away on each side
Ask = Callable[[NDArray[Any]], NDArray[Any]]
"""Gives what a graph gives, maps of its chosen output, for what it takes."""


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


def class_probabilities(info: OnnxInfo, values: Pixels) -> Pixels:
    """Maps (N, C, H, W) of the output channels -> probabilities (N, K, H, W) of the classes; with two classes K = 1, of the second."""
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


def whole(info: OnnxInfo, images: NDArray[Any], run: Ask) -> tuple[Pixels, int]:
    """Maps (N, C, H, W) of imagery (N, bands, H, W), also where the network gives no answer for the border of what it is given.

    Args:
        info: of the file.
        images: of a size that it takes.
        run: what the graph gives for what it takes.

    Returns:
        The maps, and how many pixels at each side are only continued from within: 0 unless the tile is fixed.

    Raises:
        CheckpointError: what the graph gives does not fit `info`.
    """
    height, width = images.shape[2:]
    maps, margin = to_maps(info, run(to_network_input(info, images)), (height, width))
    if not margin or info.tile is not None:
        return maps, margin
    wide = -(-margin // STRIDE) * STRIDE
    around = np.pad(images, ((0, 0), (0, 0), (wide, wide), (wide, wide)), mode="edge")
    maps, _ = to_maps(info, run(to_network_input(info, around)), (height + 2 * wide, width + 2 * wide))
    return maps[:, :, wide:-wide, wide:-wide], 0


def open_session(path: Path, threads: int | None = None, optimise: bool = True) -> Any:
    """Open a file in ONNX Runtime, on a GPU where its CUDA provider is at hand.

    Args:
        path: the file.
        threads: of the processor; None for as many as this process may use.
        optimise: whether the graph may be rewritten first: faster, and for a few files with other numbers.

    Returns:
        An `onnxruntime.InferenceSession`.

    Raises:
        CheckpointError: the file is broken, or needs something that this ONNX Runtime has not.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or thread_count()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    at_hand = onnxruntime.get_available_providers()
    providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in at_hand]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # ONNX Runtime has a dozen kinds without a common one
        raise CheckpointError(f"{path}: cannot be opened in ONNX Runtime ({in_short(error)}).") from error


def in_onnxruntime(path: Path, info: OnnxInfo, threads: int) -> Ask:
    """What asks a file's graph in ONNX Runtime.

    Raises:
        CheckpointError: see `open_session`.
    """
    session = open_session(path, threads, info.optimise)
    given, wanted = session.get_inputs()[0].name, session.get_outputs()[info.output_index].name
    return lambda values: np.asarray(session.run([wanted], {given: values})[0])


class OnnxNetwork(nn.Module):
    """An ONNX file that behaves like a `SegmentationNetwork` that is never trained.

    Args:
        path: the file.
        info: what it takes and gives; read from the file if not given.
        threads: of the processor; torch's number if not given.
        ask: gives what the graph gives for what it takes; ONNX Runtime does if it is not given.

    Shape:
        forward: (N, bands, H, W) any float, imagery in its own units -> logits (N, K, H, W) float32 on the same device.
        H and W may be any size: a fixed tile in the file is laid over them with overlap.
    """

    def __init__(
        self, path: Path, info: OnnxInfo | None = None, threads: int | None = None, ask: Ask | None = None
    ) -> None:
        super().__init__()
        self.path = path
        self.info = info or read_info(path)
        self.bands, self.logits = self.info.bands, self.info.logits
        self.foreign_parameters = self.info.parameters
        self.ask = ask or in_onnxruntime(path, self.info, threads or torch.get_num_threads())
        self.margin: int | None = None  # pixels at each side that it gives no answer for; known after the first batch

    @classmethod
    def load(
        cls, path: Path, classes: tuple[str, ...], bands: int, band_numbers: tuple[int, ...] | None = None
    ) -> Self:
        """Open a file for a collection's classes and bands.

        Raises:
            CheckpointError: missing, broken, of other classes, or it wants bands that the collection does not give.
        """
        info = read_info(path).fitted(classes, bands, band_numbers, path)
        try_out(path, info)
        return cls(path, info)

    @property
    def fill(self) -> NDArray[np.float32]:
        """What stands for nodata in its imagery: (bands,), its own mean of each band."""
        return np.array(self.info.fill, dtype=np.float32)

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
        if fits and tile is not None and self.margin:
            logits = self.run_tiles(pixels)
        return torch.from_numpy(np.ascontiguousarray(logits[..., :height, :width])).to(image.device)

    def run_tiles(self, pixels: Pixels) -> Pixels:
        """Logits of imagery larger than the fixed tile: overlapping tiles, each of which keeps its middle."""
        tile = self.info.tile
        assert tile is not None
        if self.margin is None:
            self.run(pixels[:, :, :tile, :tile])
        margin = self.margin or 0  # is continued around the imagery, so that the network has an answer for its border
        if margin:
            pixels = np.pad(pixels, ((0, 0), (0, 0), (margin, margin), (margin, margin)), mode="edge")
            return self.put_together(pixels, tile)[:, :, margin:-margin, margin:-margin]
        return self.put_together(pixels, tile)

    def put_together(self, pixels: Pixels, tile: int) -> Pixels:
        """Logits of overlapping tiles, of each of them its middle."""
        halo = max(min(OVERLAP, tile // 2 // STRIDE * STRIDE) // 2, self.margin or 0)
        logits = np.empty((len(pixels), self.logits, *pixels.shape[2:]), dtype=np.float32)
        rows, columns = (Axis(side, tile, halo, snug=True) for side in pixels.shape[2:])
        whole_image = Box(0, 0, *pixels.shape[2:])
        for part in Grid(rows, columns).tiles():
            said = self.run(pixels[:, :, *part.window.within(whole_image)])
            logits[:, :, *part.kept.within(whole_image)] = said[:, :, *part.inner]
        return logits

    def run(self, pixels: Pixels) -> Pixels:
        """Logits of imagery of a size that the file takes; a fixed batch is filled up with the last image."""
        count, batch = len(pixels), self.info.batch
        if batch is not None and count != batch:
            parts = [self.run(filled(pixels[start : start + batch], batch)) for start in range(0, count, batch)]
            return np.concatenate(parts)[:count]
        try:
            maps, self.margin = whole(self.info, pixels, self.ask)
        except CheckpointError as error:
            raise CheckpointError(f"{self.path}: {error}") from error
        except Exception as error:  # ONNX Runtime has a dozen kinds without a common one
            raise CheckpointError(
                f"{self.path}: ONNX Runtime could not run it on {pixels.shape[2]} x {pixels.shape[3]} pixels ({in_short(error)}). "
                "Export it with a fixed height and width if it does not take every size."
            ) from error
        return class_logits(self.info, maps)


def padded(size: int, tile: int | None) -> int:
    """The height or width that a side is filled up to."""
    if tile is not None and (size <= tile or tile % STRIDE):
        return max(size, tile)
    return -(-size // STRIDE) * STRIDE


def filled(pixels: Pixels, batch: int) -> Pixels:
    """A batch of a fixed size, its last image repeated."""
    return np.concatenate([pixels, np.repeat(pixels[-1:], batch - len(pixels), axis=0)])
