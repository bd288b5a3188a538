"""From a checkpoint to an ONNX file that any runtime reads: imagery in its own units in, probabilities out.

The file takes one size of tile and any number of them: with height and width left open, several architectures fail when they
are run. What it was trained for travels in its metadata, see `kdcore.models.onnx_info`, and for the QGIS plugin Deepness in keys of its own.
Deepness divides what it reads by 255, whatever its type, then gives (value - mean) / std to the network (its `model_base`). Our exports
take imagery in its own units; a mean of 0 and a standard deviation of 1 / 255 undo the division.
"""

import json
import logging
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kdcore.errors import CheckpointError, SettingsError, in_short
from kdcore.files import sha256
from kdcore.inference.engines import Engine
from kdcore.inference.source import Facts
from kdcore.models.checkpoint import CheckpointInfo, load_network
from kdcore.models.networks import SegmentationNetwork, count_parameters, probabilities
from kdcore.models.onnx import KEY, OnnxInfo, open_session
from kdcore.ownership import check_replaceable, replacing_own

INPUT, OUTPUT = "image", "probabilities"
OPSET = 18  # of 2022: runtimes of the last years know it
STEP = 32  # tiles are multiples of the coarsest stride
MOST_FLIPS = 0.001  # share of the pixels of real tiles whose label an export may change
TOLERANCE = 1e-3  # of a probability, on imagery without structure
DIVISOR = 255.0  # what Deepness divides by


class WithProbabilities(nn.Module):
    """A network that gives probabilities instead of logits."""

    def __init__(self, network: SegmentationNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """(N, bands, H, W) -> (N, K, H, W)."""
        return probabilities(self.network(image))


def export_onnx(
    checkpoint: Path,
    out: Path,
    *,
    tile: int = 512,
    extra: Mapping[str, str] = MappingProxyType({}),
    overwrite: bool = False,
) -> OnnxInfo:
    """Write a checkpoint as ONNX, in one step, after it was checked against the network on made-up imagery.

    Args:
        checkpoint: a `.safetensors` file written by kdcore.
        out: the file, `.onnx`.
        tile: height and width that it takes, pixels, a multiple of 32.
        extra: more metadata for it.
        overwrite: replace a file that kdcore did not write.

    Raises:
        CheckpointError: the checkpoint is missing or broken, or its network cannot be exported.
        SettingsError: no `.onnx` name, or a tile that does not fit.
        NotOursError: a file of somebody else has this name.
        KdcoreError: the disk is full, or the folder cannot be written to.
    """
    import onnx

    if out.suffix.lower() != ".onnx":
        raise SettingsError(f"{out}: give the exported file a name that ends with .onnx.")
    if tile < STEP or tile % STEP:
        raise SettingsError(f"--tile {tile}: must be a multiple of {STEP}, for example 512.")
    check_replaceable([out], overwrite, inputs=[checkpoint])
    network, about = load_network(checkpoint)
    network.eval()
    info = describe(network, about, tile, sha256(checkpoint))
    model = to_onnx(network, tile, checkpoint)
    onnx.helper.set_model_props(model, {**extra, KEY: info.model_dump_json(exclude_none=True)})
    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.checker.ValidationError as error:
        raise CheckpointError(f"{checkpoint}: its export is no valid ONNX ({in_short(error)}).") from error
    with replacing_own(out, overwrite) as temporary:
        onnx.save(model, str(temporary))
        check_answer(network, temporary, tile, checkpoint)
    return info


def describe(network: SegmentationNetwork, about: CheckpointInfo, tile: int, sha256: str) -> OnnxInfo:
    """What the exported file will say about itself: normalisation and band order are inside it."""
    return OnnxInfo(
        classes=about.classes,
        colours=about.colours,
        channels=((), (0,)) if network.logits == 1 else tuple((index,) for index in range(network.logits)),
        bands=about.bands,
        band_numbers=about.band_numbers,
        order=tuple(range(about.bands)),
        mean=(0.0,) * about.bands,
        std=(1.0,) * about.bands,
        output="probabilities",
        ending="probabilities",
        maps_channels_last=False,
        tile=tile,
        outputs=network.logits,
        metres_per_pixel=about.metres_per_pixel,
        dtype=about.dtype,
        fill=tuple(float(value) for value in network.fill),
        parameters=count_parameters(network),
        network=about.network,
        arm=about.arm,
        seed=about.seed,
        step=about.step,
        sha256=sha256,
    )


def to_onnx(network: SegmentationNetwork, tile: int, checkpoint: Path) -> Any:
    """The network as an `onnx.ModelProto`.

    Raises:
        CheckpointError: torch cannot write this architecture with this tile.
    """
    # Two images: a batch of one would be taken for a fixed one.
    example = torch.zeros(2, network.bands, tile, tile)
    with quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                WithProbabilities(network).eval(),
                (example,),
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes={"image": {0: torch.export.Dim("n", min=1)}},
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except Exception as error:  # the exporter passes on whatever a network raises while it is traced
            cause = error.__cause__ or error
            raise CheckpointError(
                f"{checkpoint}: {network.settings.architecture} with the encoder {network.settings.encoder} cannot be exported "
                f"with a tile of {tile} pixels ({in_short(cause)}). Try another --tile."
            ) from error
    assert program is not None
    model = program.model_proto
    # Where in the source files each node comes from: paths of this machine, and more bytes than a small network has weights.
    for part in (model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return model


def check_answer(network: SegmentationNetwork, exported: Path, tile: int, checkpoint: Path) -> None:
    """Refuse an export that answers otherwise than its network, on noise as bright as the imagery."""
    fill = torch.from_numpy(network.fill)[:, None, None]
    noise = torch.randn(1, network.bands, tile, tile, generator=torch.Generator().manual_seed(0))
    image = fill + noise * network.std.mean()
    with torch.no_grad():
        expected = probabilities(network(image)).numpy()
    got = open_session(exported, torch.get_num_threads()).run([OUTPUT], {INPUT: image.numpy()})[0]
    if got.shape != expected.shape or not np.abs(got - expected).max() <= TOLERANCE:
        raise CheckpointError(
            f"{checkpoint}: the exported file answers otherwise than the network (probabilities differ by up to "
            f"{np.abs(got - expected).max() if got.shape == expected.shape else float('nan'):.3g}), so it was not kept."
        )


@dataclass(frozen=True)
class Parity:
    """How far an export's answers are from those of the network that it was made from.

    Attributes:
        largest_difference: of two probabilities of one pixel.
        flips: share of pixels whose label differs.
        pixels: that were compared; those without data are not.
    """

    largest_difference: float
    flips: float
    pixels: int


def parity(
    reference: Engine, candidate: Engine, tiles: Iterable[NDArray[Any]], valid: Iterable[NDArray[np.bool_]]
) -> Parity:
    """Compare two engines on real tiles.

    Args:
        reference: the network.
        candidate: its export.
        tiles: imagery (bands, H, W) each, nodata filled, of the size that both take.
        valid: (H, W) each, which pixels have data.
    """
    largest, flips, pixels = 0.0, 0, 0
    for image, known in zip(tiles, valid, strict=True):
        one, other = (engine(image[None])[0][:, known] for engine in (reference, candidate))
        if not one.size:
            continue
        largest = max(largest, float(np.abs(one - other).max()))
        flips += int((labels(one) != labels(other)).sum())
        pixels += one.shape[1]
    return Parity(largest, flips / pixels if pixels else 0.0, pixels)


def labels(shares: NDArray[np.float32]) -> NDArray[Any]:
    """The label of each pixel from its probabilities (K, pixels)."""
    return np.asarray(shares[0] > 0.5 if len(shares) == 1 else shares.argmax(axis=0))


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporter's advice to programmers off the screen."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def deepness_keys(
    info: Facts, threshold: float | None = None, overlap_percent: int | None = None, *, tile: int = 512, halo: int = 32
) -> dict[str, str]:
    """Metadata of an exported network for Deepness: every value is JSON, as the plugin parses it.

    Args:
        info: of the network.
        threshold: probability from which a pixel is marked. Default: 0.5 for two classes. For more it is 0, so that the class
            is the arg-max: Deepness sets what lies below the threshold to 0 before it looks for the largest.
        overlap_percent: of neighbouring tiles; default: see `overlap_in_step`.
        tile: side of the tiles, pixels.
        halo: imagery around each tile whose predictions are cut away, pixels.

    Returns:
        Values by key. Without a known ground sample distance Deepness asks for it.
    """
    if threshold is None:
        threshold = 0.5 if len(info.classes) == 2 else 0.0
    if overlap_percent is None:
        overlap_percent = overlap_in_step(tile, 2 * halo)
    values = {
        "model_type": "Segmentor",
        "class_names": {str(index): name for index, name in enumerate(info.classes)},
        "tile_size": tile,  # what the plugin reads
        "tiles_size": tile,  # what its documentation says
        "tiles_overlap": overlap_percent,
        "standardization_mean": [0.0] * info.bands,
        "standardization_std": [1 / DIVISOR] * info.bands,
        "seg_thresh": threshold,
    }
    if info.metres_per_pixel is not None:
        values["resolution"] = round(100 * info.metres_per_pixel, 4)  # centimetres
    return {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}


def overlap_in_step(tile: int, least: int) -> int:
    """The smallest overlap of at least so many pixels, in whole per cent, with which all tiles begin at multiples of a network's stride.

    Where they do not, each tile is cut into the encoder's cells in another way, and labels differ from those of one tile with the same
    imagery (`benchmarks/tile_phase.py`). Where no whole per cent gives multiples of 32, those of 16, 8 and so on are next best.
    """
    lowest = math.ceil(100 * least / tile)
    for step in (32, 16, 8, 4, 2):
        for percent in range(lowest, max(lowest, 50) + 1):
            if (tile - int(tile * percent / 100)) % step == 0:
                return percent
    return lowest
