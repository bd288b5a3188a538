"""Small ONNX files whose answers can be computed by hand, which the tests of models, training and deployment share."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write_pixelwise(
    path: Path,
    weights,
    bias=None,
    *,
    size: int | str = "side",
    batch: int | str = "n",
    end: str | None = None,
    channels_last: bool = False,
    stride: int = 1,
    input_type: int = TensorProto.FLOAT,
    yaml: str | None = None,
) -> Path:
    """Write a network whose output channels are weighted sums of a pixel's input channels.

    Args:
        path: the file.
        weights: (outputs, inputs).
        bias: (outputs,).
        size, batch: numbers for a fixed tile or batch.
        end: 'Sigmoid', 'Softmax' or 'ArgMax' after it.
        channels_last: takes and gives (N, H, W, C).
        stride: gives maps that are so many times smaller.
        input_type: of the numbers it takes.
        yaml: text of the file beside it.
    """
    weights = np.asarray(weights, dtype=np.float32)
    outputs, inputs = weights.shape
    bias = np.zeros(outputs, dtype=np.float32) if bias is None else np.asarray(bias, dtype=np.float32)
    nodes, last = [], "image"

    def add(kind: str, name: str, *others: str, **attributes) -> None:
        nonlocal last
        nodes.append(helper.make_node(kind, [last, *others], [name], **attributes))
        last = name

    if input_type != TensorProto.FLOAT:
        add("Cast", "floats", to=TensorProto.FLOAT)
    if channels_last:
        add("Transpose", "first", perm=[0, 3, 1, 2])
    add("Conv", "sums", "weights", "bias", strides=[stride, stride])
    if end == "Sigmoid":
        add("Sigmoid", "squashed")
    elif end == "Softmax":
        add("Softmax", "squashed", axis=1)
    elif end == "ArgMax":
        add("ArgMax", "named", axis=1, keepdims=1)
    if channels_last:
        add("Transpose", "last", perm=[0, 2, 3, 1])
    small = size // stride if isinstance(size, int) else "small"

    def shape(channels: int, side: int | str) -> list[int | str]:
        return [batch, side, side, channels] if channels_last else [batch, channels, side, side]

    out_type = TensorProto.INT64 if end == "ArgMax" else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "pixelwise",
        [helper.make_tensor_value_info("image", input_type, shape(inputs, size))],
        [helper.make_tensor_value_info(last, out_type, shape(1 if end == "ArgMax" else outputs, small))],
        [numpy_helper.from_array(weights[:, :, None, None], "weights"), numpy_helper.from_array(bias, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    if yaml is not None:
        path.with_suffix(".yaml").write_text(yaml, encoding="utf-8")
    return path
