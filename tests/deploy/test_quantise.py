"""8-bit exports: small, nearly as good, judged on the validation split, and refused with numbers where they are not."""

from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import helper

from kdcore.deploy.export import export_onnx, parity
from kdcore.deploy.gate import Gate, gate, judge, without_filling
from kdcore.deploy.quantise import has_vnni, kept_in_float, quantise_onnx, sample_tiles
from kdcore.deploy.record import Difference
from kdcore.errors import CheckpointError, DataError, KdcoreError
from kdcore.evaluation.counting import ScoresBuilder
from kdcore.evaluation.levels import odds_of
from kdcore.inference.engines import open_engine
from kdcore.models.checkpoint import load_network
from kdcore.models.onnx import OnnxNetwork, read_info
from kdcore.settings import EvaluationSettings
from tests.deploy.networks import example_checkpoint

TILE = 256


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    """The example's distilled student as ONNX."""
    path = tmp_path_factory.mktemp("student") / "student.onnx"
    export_onnx(example_checkpoint(), path, tile=TILE, extra={"model_type": '"Segmentor"'})
    return path


def reference():
    """The network as it was trained."""
    return load_network(example_checkpoint())[0]


def calibration(area, path, most=100):
    return [image for image, _ in sample_tiles(area, "train", TILE, most, np.array(read_info(path).fill))]


@pytest.fixture(scope="module")
def eight_bits(student, area):
    path = student.with_name("student-int8.onnx")
    quantise_onnx(student, path, calibration(area, student))
    return path


def test_an_eight_bit_student_passes_its_gate(student, eight_bits, area):
    """Real weights, real tiles: the loss is measured in paired tiles, and is a tenth of a point."""
    found = gate(reference(), OnnxNetwork(eight_bits), area)
    assert found.tiles == 9  # 384 px in tiles of 128
    assert found.reference_ap > 0.5
    assert found.difference.points == pytest.approx(100 * (found.candidate_ap - found.reference_ap), abs=1e-6)
    assert found.difference.low < found.difference.points < found.difference.high
    assert abs(found.difference.points) < 1
    assert found.passes(margin=3)
    assert f"{found.difference.points:+.2f} points" in found.sentence(3)
    assert not found.passes(margin=0.001)  # its interval reaches below zero
    assert "refused" in found.sentence(0.001)


def test_it_is_small_and_says_the_same(student, eight_bits):
    assert eight_bits.stat().st_size < 0.45 * student.stat().st_size
    assert read_info(eight_bits) == read_info(student)
    metadata = {entry.key: entry.value for entry in onnx.load(str(eight_bits)).metadata_props}
    assert metadata["model_type"] == '"Segmentor"'


def test_weights_have_eight_bits_and_the_ends_are_float(eight_bits):
    graph = onnx.load(str(eight_bits)).graph
    types = {entry.name: entry.data_type for entry in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    scales = {entry.name: entry.dims for entry in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    weights = [makers.get(node.input[1]) for node in convolutions]
    quantised = [node for node in weights if node is not None and node.op_type == "DequantizeLinear"]
    assert len(quantised) == len(convolutions) - 1  # all but the head
    assert weights[-1] is None
    for node in quantised:
        assert types[node.input[0]] == onnx.TensorProto.INT8
        assert scales[node.input[1]] == [next(e for e in graph.initializer if e.name == node.input[0]).dims[0]]
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            assert types[node.input[2]] == onnx.TensorProto.UINT8  # activations
            assert node.input[0] != "image"
    assert makers[graph.output[0].name].op_type == "Softmax"
    enlarged = makers[makers[graph.output[0].name].input[0]]
    assert enlarged.op_type == "Resize"  # the network ends at a quarter of the resolution
    assert makers[enlarged.input[0]].op_type in ("Conv", "Cast")


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_both_engines_run_it(student, eight_bits, area, engine):
    tiles = list(sample_tiles(area, "validation", TILE, 2, np.array(read_info(student).fill)))
    images, valid = [image for image, _ in tiles], [known for _, known in tiles]
    found = parity(open_engine(student, "onnxruntime"), open_engine(eight_bits, engine), images, valid)
    assert 0 < found.flips < 0.05  # it differs, a little


def test_calibration_that_saw_nothing_is_noticed(student, area, tmp_path):
    """Ranges measured on black tiles cut off everything bright: the gate must see it."""
    path = tmp_path / "bad.onnx"
    quantise_onnx(student, path, [np.zeros((3, TILE, TILE), dtype=np.float32)])
    found = gate(reference(), OnnxNetwork(path), area)
    assert found.difference.points < -5
    assert not found.passes(1)
    assert found.sentence(1).startswith("The 8-bit form was refused, because it may lose 1 points or more: -")


def test_no_tiles_and_no_network_are_told(student, tmp_path):
    with pytest.raises(DataError, match="no tile"):
        quantise_onnx(student, tmp_path / "n.onnx", [])
    with pytest.raises(CheckpointError, match=r"student\.onnx: cannot be quantised"):
        quantise_onnx(student, tmp_path / "n.onnx", [np.zeros((7, TILE, TILE), dtype=np.float32)])
    assert list(tmp_path.iterdir()) == []


# --- which nodes stay in float


def node(kind, name, *inputs):
    return helper.make_node(kind, list(inputs), [name], name=name)


def test_a_full_disk_is_told_as_one_not_as_a_lack_of_tiles(student, tmp_path, monkeypatch):
    """The library writes files of its own before it asks for the first tile, and fails in its own words."""

    def full(*_):
        raise RuntimeError("Protobuf serialization failed.")

    monkeypatch.setattr("onnxruntime.quantization.shape_inference.quant_pre_process", full)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=0))
    with pytest.raises(KdcoreError, match="the disk is full"):
        quantise_onnx(student, tmp_path / "n.onnx", [np.zeros((3, TILE, TILE), dtype=np.float32)])


def test_nodes_before_the_first_and_from_the_last_convolution_stay_in_float():
    """image -> scale -> c1 -> relu -> c2 --+-> sum -> head -> up -> sigmoid, with a side way from relu through c3 to sum."""
    nodes = [
        node("Sub", "scale", "image", "mean"),
        node("Conv", "c1", "scale", "w1"),
        node("Relu", "relu", "c1"),
        node("Conv", "c2", "relu", "w2"),
        node("Conv", "c3", "relu", "w3"),
        node("Add", "sum", "c2", "c3"),
        node("Conv", "head", "sum", "w4"),
        node("Resize", "up", "head"),
        node("Sigmoid", "sigmoid", "up"),
    ]
    graph = helper.make_graph(nodes, "g", [], [])
    assert kept_in_float(graph) == ["scale", "head", "up", "sigmoid"]


def test_processors_without_eight_bit_sums_are_told_apart(tmp_path):
    for flags, expected in (("fpu avx2", False), ("avx2 avx512_vnni", True), ("avx_vnni", True), ("fp asimddp", True)):
        (tmp_path / "cpuinfo").write_text(f"flags : {flags}\n")
        assert has_vnni(tmp_path / "cpuinfo") is expected
    assert has_vnni(tmp_path / "absent") is False


# --- the gate


def scores(worse_tiles=0, tiles=20):
    """Two classes; half of each 32 x 32 tile is building. A perfect network, but for tiles in which it guesses."""
    builder = ScoresBuilder(("background", "building"), (1,), tile=32)
    labels = np.zeros((32, 32), dtype=np.uint8)
    labels[:16] = 1
    for index in range(tiles):
        sure = np.where(labels == 1, 0.9, 0.1)
        odds = odds_of((np.full((32, 32), 0.5) if index < worse_tiles else sure)[None]).astype(np.float32)
        builder.add_window("s", 0, 32 * index, odds, labels, 2, predicted=labels)
    return builder.build()


def test_equal_forms_pass_and_worse_ones_do_not():
    equal = judge(scores(), scores())
    assert equal.difference == Difference(points=0, low=0, high=0)
    assert equal.passes(0.01)
    assert not equal.passes(0)  # "less than nothing" is not shown by nothing
    # 2 of 20 tiles guess: 0.9 of the buildings at precision 1, the rest at precision 1/1.1 -> AP 0.9 + 0.1 / 1.1
    worse = judge(scores(), scores(worse_tiles=2))
    assert worse.candidate_ap == pytest.approx(0.9 + 0.1 / 1.1)
    assert worse.difference.points == pytest.approx(100 * (0.9 + 0.1 / 1.1 - 1))
    assert not worse.passes(0.5)
    assert not worse.passes(
        5
    )  # two neighbours in one scene are one place: how many such places there are is hardly known
    assert worse.passes(15)
    assert "20 tiles; 100.00 in float32, 99.09 with 8 bits" in worse.sentence(0.5)


def test_bfloat16_is_judged_by_the_same_margin_in_its_own_words():
    worse = judge(scores(), scores(worse_tiles=2), "bf16")
    assert worse.difference == judge(scores(), scores(worse_tiles=2)).difference
    assert worse.sentence(5).startswith("The bfloat16 form was refused, because it may lose 5 points or more: -")
    assert worse.sentence(5).endswith("20 tiles; 100.00 in float32, 99.09 in bfloat16).")
    assert worse.sentence(15).startswith("The bfloat16 form loses less than 15 points: -")


def test_one_tile_is_no_evidence():
    found = judge(scores(tiles=1), scores(tiles=1))
    assert found.difference is None
    assert not found.passes(100)
    assert "1 labelled tile," in found.sentence()


def test_a_wide_interval_does_not_pass():
    found = Gate(0.7, 0.699, Difference(points=-0.1, low=-1.2, high=1.0), tiles=3)
    assert not found.passes(1)
    assert found.passes(1.3)


@pytest.mark.parametrize("tile", [64, 96, 128, 192, 256, 320, 512, 1024])
def test_windows_at_a_scene_s_border_are_no_smaller_than_a_tile(tile):
    settings = without_filling(EvaluationSettings(), tile)
    assert settings.window % settings.tile == settings.halo % 32 == 0
    assert settings.halo >= tile
    assert settings.window + settings.halo >= tile
