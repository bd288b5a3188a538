"""ONNX files of strangers that want hours, gigabytes or other files."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

import kdcore.models.onnx_trial as trial
from kdcore.cli import app
from kdcore.errors import CheckpointError
from kdcore.inference.engines import open_engine
from kdcore.models.onnx import KEY, OnnxNetwork
from tests.conftest import write_raster

FLOAT = TensorProto.FLOAT
YAML = "classes: {background: rest, building: 0}\noutput: logits\n"


def node(kind, inputs, outputs, **attributes):
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


def write(folder, nodes, takes=("n", 3, "h", "w"), gives=("n", 1, "h", "w"), metadata=None, **fixed):
    weights = {"w": np.full((1, 3, 1, 1), 1 / 3, np.float32)} | fixed
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", FLOAT, takes)],
        [helper.make_tensor_value_info("y", FLOAT, gives)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    if metadata:
        helper.set_model_props(model, metadata)
    onnx.save(model, str(folder / "net.onnx"))
    (folder / "net.yaml").write_text(YAML)
    return folder / "net.onnx"


def refused(path) -> str:
    """Every door says the same sentence."""
    with pytest.raises(CheckpointError) as caught:
        OnnxNetwork.load(path, ("background", "building"), 3, (1, 2, 3))
    with pytest.raises(CheckpointError):
        open_engine(path)
    raster = write_raster(path.parent / "a.tif", np.ones((3, 64, 64), np.uint8))
    for command in (["predict", path, raster, "--out", path.parent / "o"], ["profile", path, "--tile", "64"]):
        result = CliRunner().invoke(app, [str(part) for part in command])
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.output
    assert "net.onnx" in str(caught.value)
    return str(caught.value)


def test_a_loop_without_end_is_never_run(tmp_path):
    body = helper.make_graph(
        [node("Identity", "go", "on"), node("Identity", "v", "v2")],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", FLOAT, None),
        ],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []), helper.make_tensor_value_info("v2", FLOAT, None)],
    )
    nodes = [node("Conv", "x w", "z"), helper.make_node("Loop", ["", "true", "z"], ["y"], body=body)]
    assert "holds a step 'Loop'" in refused(write(tmp_path, nodes, true=np.array(True)))


def test_a_loop_in_a_branch_is_found(tmp_path):
    inner = helper.make_graph([node("Scan", "z", "q")], "inner", [], [helper.make_tensor_value_info("q", FLOAT, None)])
    nodes = [node("Conv", "x w", "z"), helper.make_node("If", ["true"], ["y"], then_branch=inner, else_branch=inner)]
    assert "holds a step 'Scan'" in refused(write(tmp_path, nodes, true=np.array(True)))


BOMBS = {
    "ConstantOfShape": [node("ConstantOfShape", "huge", "c"), node("ReduceSum", "c", "s", keepdims=0)],
    "Expand": [node("Expand", "one huge", "c"), node("ReduceMax", "c", "s", keepdims=0)],
    "Tile": [node("Tile", "ones huge", "c"), node("ReduceMax", "c", "s", keepdims=0)],
}


@pytest.mark.parametrize("name", BOMBS)
def test_gigabytes_out_of_nothing_are_refused_by_a_process_with_limits(tmp_path, name):
    nodes = [*BOMBS[name], node("Conv", "x w", "z"), node("Add", "z s", "y")]
    fixed = {"huge": np.array([900, 1_000_000]), "one": np.float32(1), "ones": np.ones((1, 1), np.float32)}
    assert "asked for more than" in refused(write(tmp_path, nodes, **fixed))


def test_a_bomb_that_calls_itself_our_export_is_run_with_limits_too(tmp_path):
    from kdcore.models.onnx_reading import read_info

    plain = write(tmp_path, [node("Conv", "x w", "y")])
    about = read_info(plain).model_copy(update={"sha256": "0" * 64}).model_dump_json(exclude_none=True)
    nodes = [*BOMBS["ConstantOfShape"], node("Conv", "x w", "z"), node("Add", "z s", "y")]
    path = write(tmp_path, nodes, metadata={KEY: about}, huge=np.array([900, 1_000_000]))
    assert "asked for more than" in refused(path)


def test_what_takes_too_long_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "SECONDS", 0.01)
    assert "took more than 0 s and was stopped" in refused(write(tmp_path, [node("Conv", "x w", "y")]))


@pytest.mark.parametrize(
    ("takes", "words"),
    [
        (("n", 3, 10**9, 10**9), "sides up to 8192"),
        ((1, 3, 100_000, 100_000), "sides up to 8192"),
        ((10**9, 3, 64, 64), "takes 1,000,000,000 images at once"),
        ((1, 10**9, 64, 64), "sides up to 8192"),
        ((), "has the shape"),
        ((1,), "has the shape"),
        ((1, 3, 64, 64, 64), "has the shape"),
    ],
)
def test_sizes_beyond_every_network_are_refused_before_memory_is_asked_for(tmp_path, takes, words):
    assert words in refused(write(tmp_path, [node("Identity", "x", "y")], takes=takes, gives=takes))


@pytest.mark.parametrize("text", ["[" * 50_000, "{}", "null", '{"classes": 1}', '{"tile": 1e400}', "9" * 6_000])
def test_what_a_file_says_about_itself_is_checked(tmp_path, text):
    assert "what it says about itself is broken" in refused(
        write(tmp_path, [node("Conv", "x w", "y")], metadata={KEY: text})
    )


def test_a_file_that_lies_about_its_weights_is_refused(tmp_path):
    path = write(tmp_path, [node("Conv", "x w", "y")])
    model = onnx.load(str(path))
    model.graph.initializer[0].dims[:] = [1, 3, 10**9, 10**9]
    path.write_bytes(model.SerializeToString())
    assert "cannot be opened in ONNX Runtime" in refused(path)


def test_an_honest_file_is_tried_out_once_and_runs(tmp_path):
    path = write(tmp_path, [node("Conv", "x w", "y")])
    before = trial.run_once.cache_info().misses
    for _ in range(3):
        OnnxNetwork.load(path, ("background", "building"), 3, (1, 2, 3))
    assert trial.run_once.cache_info().misses == before + 1
