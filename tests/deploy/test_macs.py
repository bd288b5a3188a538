"""Multiply-accumulates, by hand."""

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from kdcore.deploy.export import export_onnx
from kdcore.deploy.macs import count_macs, count_onnx_macs
from kdcore.errors import CheckpointError
from kdcore.models.checkpoint import CheckpointInfo, save_network
from kdcore.models.networks import build_network
from tests.conftest import TINY


def test_a_convolution_by_hand():
    assert count_macs(nn.Conv2d(3, 8, 3, padding=1), 3) == 3 * 8 * 9
    assert count_macs(nn.Conv2d(8, 8, 3, padding=1, groups=8), 8) == 8 * 9  # each band by itself
    halved = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, stride=2), nn.Conv2d(8, 4, 1))
    assert count_macs(halved, 3) == (3 * 8 * 9 + 8 * 4) / 4  # a quarter of the pixels


def test_counting_leaves_the_network_as_it_is():
    network = build_network(TINY, 3, 1, [1.0] * 3, [1.0] * 3, seed=0).train()
    before = network.state_dict()["mean"].clone()
    assert count_macs(network, 3) == count_macs(network, 3, side=128)  # for one pixel, so the picture's size is nothing
    assert network.training
    assert torch.equal(network.state_dict()["mean"], before)


def save(path, nodes, initialisers, shape, output):
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("maps", TensorProto.FLOAT, output)],
        [helper.make_tensor(name, TensorProto.FLOAT, sizes, [0.0] * size(sizes)) for name, sizes in initialisers],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def size(sizes):
    total = 1
    for side in sizes:
        total *= side
    return total


def test_an_onnx_file_by_hand(tmp_path):
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["half"], strides=[2, 2], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        helper.make_node("ConvTranspose", ["half", "w2"], ["maps"], strides=[2, 2], kernel_shape=[2, 2]),
    ]
    path = save(
        tmp_path / "a.onnx", nodes, [("w1", [8, 3, 3, 3]), ("w2", [8, 2, 2, 2])], ["n", 3, 64, 64], ["n", 2, 64, 64]
    )
    # 8 outputs of 27 products at a quarter of the pixels, and 8 x 2 x 4 products at each of those.
    assert count_onnx_macs(path, 512) == (8 * 27 + 8 * 2 * 4) / 4


def test_a_file_that_takes_any_size_is_counted_at_one(tmp_path):
    nodes = [helper.make_node("Conv", ["image", "w"], ["maps"], kernel_shape=[1, 1])]
    path = save(tmp_path / "a.onnx", nodes, [("w", [2, 3, 1, 1])], ["n", 3, "h", "w"], ["n", 2, "h", "w"])
    assert count_onnx_macs(path, 64) == 6


def test_a_product_of_matrices_by_hand(tmp_path):
    nodes = [helper.make_node("MatMul", ["image", "w"], ["maps"])]
    path = save(tmp_path / "a.onnx", nodes, [("w", [16, 4])], ["n", 32, 32, 16], ["n", 32, 32, 4])
    assert count_onnx_macs(path, 64) == 16 * 4


def test_what_is_no_onnx_file_is_refused(tmp_path):
    path = tmp_path / "a.onnx"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(CheckpointError, match="cannot be counted"):
        count_onnx_macs(path, 64)


def test_torch_and_onnx_agree_on_a_whole_network(tmp_path):
    network = build_network(TINY, 3, 1, [1.0] * 3, [1.0] * 3, seed=0).eval()
    info = CheckpointInfo(network=TINY, bands=3, band_numbers=(1, 2, 3), classes=("land", "water"))
    save_network(tmp_path / "tiny.safetensors", network, info)
    export_onnx(tmp_path / "tiny.safetensors", tmp_path / "tiny.onnx", tile=64)
    assert count_onnx_macs(tmp_path / "tiny.onnx", 64) == pytest.approx(count_macs(network, 3, side=64))
