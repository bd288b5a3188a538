"""Counting multiply-accumulates: of a torch network by watching it run without numbers, of an ONNX file by its shapes."""

import copy
import math
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kdcore.errors import CheckpointError, in_short

SIDE = 256  # pixels of the picture that is counted; a multiple of every stride
COUNTED = ("Conv", "ConvTranspose", "MatMul", "Gemm")


def count_macs(network: nn.Module, bands: int, side: int = SIDE) -> float:
    """Multiply-accumulates of convolutions and matrix products for one pixel of imagery.

    Args:
        network: takes (1, bands, side, side); it is left as it is.
        bands: of the imagery.
        side: of the picture, pixels.
    """
    empty = copy.deepcopy(network).eval().to("meta")  # shapes without numbers: fast, whatever the size
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        empty(torch.empty(1, bands, side, side, device="meta"))
    return counter.get_total_flops() / 2 / side**2  # a multiplication and an addition each


def count_onnx_macs(path: Path, tile: int) -> float:
    """The same of an ONNX file, from the shapes that follow from its input's.

    Args:
        path: the file.
        tile: side of the picture where the file takes any, pixels.

    Raises:
        CheckpointError: its shapes cannot be followed.
    """
    import onnx

    try:
        model = onnx.load(path)
        given = model.graph.input[0]
        sides = [side.dim_value for side in given.type.tensor_type.shape.dim]
        open_sides = [1, *(side or tile for side in sides[1:])]
        for side, size in zip(given.type.tensor_type.shape.dim, open_sides, strict=True):
            side.dim_value = size
        for result in model.graph.output:
            result.type.tensor_type.ClearField("shape")  # it follows from the input's
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception as error:  # protobuf's, onnx's and the system's kinds
        raise CheckpointError(f"{path}: its operations cannot be counted ({in_short(error)}).") from error
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        shapes[value.name] = tuple(side.dim_value for side in value.type.tensor_type.shape.dim)
    total = sum(node_macs(node, shapes, path) for node in graph.node if node.op_type in COUNTED)
    return total / math.prod(sorted(open_sides[1:])[1:])  # the smallest side holds the bands


def node_macs(node: Any, shapes: dict[str, tuple[int, ...]], path: Path) -> int:
    """Multiply-accumulates of one convolution or matrix product.

    Raises:
        CheckpointError: a shape is not known.
    """
    try:
        image, weights, result = (shapes[name] for name in (node.input[0], node.input[1], node.output[0]))
    except KeyError as error:
        raise CheckpointError(
            f"{path}: its operations cannot be counted (the shape of {error} is not known)."
        ) from error
    if 0 in (*image, *weights, *result):
        raise CheckpointError(f"{path}: its operations cannot be counted (a shape of {node.name} is not fixed).")
    if (
        node.op_type == "Conv"
    ):  # weights (out, in / groups, height, width): one product for each of them and output pixel
        return math.prod(result) * math.prod(weights[1:])
    if node.op_type == "ConvTranspose":  # weights (in, out / groups, height, width): for each of them and input pixel
        return math.prod(image) * math.prod(weights[1:])
    transposed = node.op_type == "Gemm" and any(entry.name == "transA" and entry.i for entry in node.attribute)
    return math.prod(result) * image[-2 if transposed else -1]
