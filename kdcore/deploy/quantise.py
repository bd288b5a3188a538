"""An exported network with 8-bit integers: a quarter of the size, and several times faster on processors that are made for it.

Static quantisation in the QDQ format, which ONNX Runtime and OpenVINO both run: activations as uint8, with ranges measured on
real tiles, weights as int8 with a scale for each output channel. What is before the first convolution (the scaling of the
imagery) and from the last one on (the logits and their sigmoid or softmax) stays in float: there 256 steps would be seen.
The tiles are of the one size that an exported network takes; engines are compared on the same.
"""

import errno
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdcore.data.collection import Collection, positions
from kdcore.errors import CheckpointError, DataError, KdcoreError, in_short
from kdcore.files import explain_write_error, replacing, unfinished
from kdcore.settings import SplitName

CALIBRATION_TILES = 200  # at most; ranges hardly move after a hundred
CONVOLUTIONS = ("Conv", "ConvTranspose")


def quantise_onnx(model: Path, out: Path, calibration: Iterable[NDArray[Any]]) -> None:
    """Write an exported network with 8-bit integers, in one step. Whether it is good enough is for `gate` to say.

    Args:
        model: a file that `export_onnx` wrote.
        out: the file to write; it carries the same metadata.
        calibration: real tiles (bands, tile, tile) of the train split, 100 to 300 of them where there are so many.

    Raises:
        DataError: no tile at all.
        CheckpointError: the network cannot be quantised.
        KdcoreError: the disk is full, or the folder cannot be written to.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Tiles(CalibrationDataReader):  # type: ignore[misc]
        """One tile after the other, in the shape that ONNX Runtime asks for."""

        def __init__(self) -> None:
            self.tiles = iter(calibration)
            self.seen, self.over = 0, False

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            tile = next(self.tiles, None)
            if tile is None:
                self.over = True
                return None
            self.seen += 1
            return {name: np.ascontiguousarray(tile[None], dtype=np.float32)}

    metadata = onnx.load(str(model), load_external_data=False)
    name = metadata.graph.input[0].name
    tiles = Tiles()
    with quiet(), unfinished(out.parent) as folder:
        plain, quantised = folder / "plain.onnx", folder / "int8.onnx"
        try:
            quant_pre_process(str(model), str(plain))
            quantize_static(
                str(plain),
                str(quantised),
                tiles,
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
                reduce_range=not has_vnni(),
                nodes_to_exclude=kept_in_float(onnx.load(str(plain)).graph),
            )
        except KdcoreError:  # from the calibration tiles: a broken file, or a wish to stop
            raise
        except Exception as error:  # onnxruntime raises several kinds, plain Exception among them
            if tiles.over and not tiles.seen:
                raise DataError(
                    "there is no tile with data in the train split to measure ranges on, which 8-bit integers need. "
                    "Name a collection with imagery in its train split."
                ) from error
            if (
                shutil.disk_usage(folder).free < 2 * model.stat().st_size
            ):  # the library says so in many ways, or in none
                raise explain_write_error(out, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from error
            raise CheckpointError(
                f"{model}: cannot be quantised ({in_short(error)}). Use the file as it is."
            ) from error
        result = onnx.load(str(quantised))
    onnx.helper.set_model_props(result, {entry.key: entry.value for entry in metadata.metadata_props})
    onnx.checker.check_model(result)
    with replacing(out) as temporary:
        onnx.save(result, str(temporary))


def kept_in_float(graph: Any) -> list[str]:
    """Names of the nodes that no convolution precedes, and of the last convolution with everything that follows it."""
    makers = {output: node for node in graph.node for output in node.output}
    after: dict[str, int] = {}  # convolutions on the longest way to a node, by its name; nodes are in order
    for node in graph.node:
        before = [after[makers[name].name] for name in node.input if name in makers]
        after[node.name] = max(before, default=0) + (node.op_type in CONVOLUTIONS)
    most = max(after.values(), default=0)
    return [name for name, count in after.items() if count in (0, most)]


def has_vnni(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor adds up 8-bit products in 32 bits; others add pairs in 16, which 7-bit weights keep from overflowing."""
    try:
        flags = cpuinfo.read_text(encoding="utf-8").lower()
    except OSError:
        return False
    return "vnni" in flags or "asimddp" in flags  # the second on ARM


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the library's advice, which the code above follows, off the screen."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def sample_tiles(
    collection: Collection, split: SplitName, tile: int, most: int, fill: NDArray[np.floating[Any]]
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    """Tiles spread evenly over one part of the split, at most `most`; where the part is small they overlap by half.

    Args:
        collection: the imagery.
        split: which part.
        tile: side, pixels. A part of a scene that is smaller is filled up with its border: nothing of another split is seen.
        most: how many.
        fill: (bands,) values put where there is no data.

    Yields:
        Imagery (bands, tile, tile) and which of its pixels (tile, tile) have data and are no filling.
    """
    places = list(positions(collection, split, tile, tile))
    if len(places) < most:
        places = list(positions(collection, split, tile, tile // 2))
    chosen = places if len(places) <= most else [places[index * len(places) // most] for index in range(most)]
    for scene, inside in chosen:
        crop = collection.reader.read(scene, inside)
        if not crop.valid.any():
            continue
        image = np.where(crop.valid, crop.image, fill[:, None, None]).astype(np.float32)
        rest = ((0, tile - inside.height), (0, tile - inside.width))
        yield np.pad(image, ((0, 0), *rest), mode="edge"), np.pad(crop.valid, rest)
