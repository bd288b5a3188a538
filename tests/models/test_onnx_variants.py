"""ONNX files as other tools export them: each gives the right map, or one sentence that says what to do. None is silently wrong.

All follow one rule, so that the right answer is known without a network: logit = (mean of three bands - 130) / 8.
"""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from kdcore.errors import CheckpointError, SettingsError
from kdcore.inference.engines import open_engine
from kdcore.models.onnx import OnnxNetwork
from kdcore.models.onnx_reading import read_info

CLASSES = ("background", "building")
ONE = "classes: {background: rest, building: 0}\noutput: %s\n"
TWO = "classes: {background: 0, building: 1}\noutput: %s\n"
WEIGHT, BIAS = np.full((1, 3, 1, 1), 1 / 24, np.float32), np.array([-130 / 8], np.float32)
WEIGHTS, BIASES = np.concatenate([-WEIGHT / 2, WEIGHT / 2]), np.concatenate([-BIAS / 2, BIAS / 2])
OPEN = ["n", 3, "h", "w"]
FLOAT = TensorProto.FLOAT


def node(kind, inputs, output, **attributes):
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def conv(output="y", source="x"):
    return node("Conv", f"{source} w b", output)


def write(
    folder: Path, nodes, takes, gives, yaml, one=True, input_type=FLOAT, type=FLOAT, functions=(), **fixed
) -> Path:
    """Write a graph; `gives` is the shape of `y`, or shapes by name."""
    outputs = gives if isinstance(gives, dict) else {"y": gives}
    weights = {"w": WEIGHT, "b": BIAS} if one else {"w": WEIGHTS, "b": BIASES}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", input_type, takes)],
        [helper.make_tensor_value_info(name, type, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights | fixed).items()],
    )
    path = folder / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    path.with_suffix(".yaml").write_text(yaml)
    return path


def imagery(height=300, width=260):
    values = np.random.default_rng(3).normal(80, 12, (1, 3, height, width)) + 90 * (np.arange(width) % 50 > 30)
    return np.clip(values, 1, 254).astype(np.uint8)


def expected(image):
    return (image.astype(np.float64).mean(axis=1, keepdims=True) - 130) / 8


def answer(path, image):
    """Logits of the second class."""
    return OnnxNetwork.load(path, CLASSES, 3, (1, 2, 3))(torch.from_numpy(image.astype(np.float32))).numpy()


def sentence(path, image=None) -> str:
    with pytest.raises((CheckpointError, SettingsError)) as caught:
        answer(path, imagery() if image is None else image)
    text = str(caught.value)
    assert "net." in text
    assert len(text) < 600
    return text


class TestLayouts:
    @pytest.mark.parametrize("first", [True, False], ids=["images first", "images last"])
    @pytest.mark.parametrize("last", [True, False], ids=["maps last", "maps first"])
    @pytest.mark.parametrize("channels", [1, 2])
    @pytest.mark.parametrize("sides", [(128, 128), ("h", "w")], ids=["fixed", "open"])
    def test_images_and_maps_have_each_their_own(self, tmp_path, first, last, channels, sides):
        nodes = [] if first else [node("Transpose", "x", "t", perm=[0, 3, 1, 2])]
        nodes += [conv("z" if last else "y", "x" if first else "t")]
        nodes += [node("Transpose", "z", "y", perm=[0, 2, 3, 1])] if last else []
        takes = ["n", 3, *sides] if first else ["n", *sides, 3]
        gives = ["n", *sides, channels] if last else ["n", channels, *sides]
        path = write(tmp_path, nodes, takes, gives, (ONE if channels == 1 else TWO) % "logits", channels == 1)
        image = imagery()
        np.testing.assert_allclose(answer(path, image), expected(image), atol=1e-4)

    def test_maps_of_which_nothing_is_known_are_recognised_when_they_come(self, tmp_path):
        nodes = [conv("z"), node("Transpose", "z", "y", perm=[0, 2, 3, 1])]
        path = write(tmp_path, nodes, OPEN, [None] * 4, TWO % "logits", one=False)
        image = imagery()
        np.testing.assert_allclose(answer(path, image), expected(image), atol=1e-4)

    def test_maps_of_an_odd_size_are_not_stretched(self, tmp_path):
        nodes = [conv("z"), node("Slice", "z from to axes", "y")]
        cut = {"from": np.array([0]), "to": np.array([99]), "axes": np.array([3])}
        path = write(tmp_path, nodes, ["n", 3, 128, 128], [None] * 4, ONE % "logits", **cut)
        assert "maps of 128 x 99 px for images of 128 x 128 px" in sentence(path)


class TestConvolutionsWithoutPadding:
    """Their maps are smaller and lie in the middle; here by `margin` pixels on each side."""

    def network(self, folder, takes, gives, margin=5):
        kernel = np.zeros((1, 3, 2 * margin + 1, 2 * margin + 1), np.float32)
        kernel[:, :, margin, margin] = 1 / 24  # the pixel itself: the right answer is that of the rule
        return write(folder, [node("Conv", "x k b", "y")], takes, gives, ONE % "logits", k=kernel)

    @pytest.mark.parametrize(
        ("takes", "gives"),
        [
            (OPEN, ["n", 1, "hh", "ww"]),
            (["n", 3, 96, 96], ["n", 1, 86, 86]),
            (["n", 3, 96, 96], ["n", 1, None, None]),
        ],
    )
    @pytest.mark.parametrize("size", [(300, 260), (96, 96), (40, 50)])
    def test_every_pixel_has_its_own_answer(self, tmp_path, takes, gives, size):
        image = imagery(*size)
        np.testing.assert_allclose(answer(self.network(tmp_path, takes, gives), image), expected(image), atol=1e-4)

    def test_a_prediction_needs_a_halo_as_wide(self, tmp_path):
        from kdcore.inference.mapping import MappingOptions
        from kdcore.inference.parts import plan_prediction
        from kdcore.inference.prediction import PolygonOptions
        from kdcore.inference.source import open_source
        from tests.conftest import write_raster

        path = self.network(tmp_path, ["n", 3, 96, 96], ["n", 1, 86, 86])
        raster = write_raster(tmp_path / "a.tif", imagery()[0])
        engine = open_engine(path, "onnxruntime")
        source = open_source(raster, engine.info)
        with pytest.raises(SettingsError, match=r"--halo 0: .*outer 5 px.*5 or more"):
            plan_prediction(raster, source, [path], engine, MappingOptions(halo=0), PolygonOptions())
        image = imagery(96, 96)
        inner = (slice(None), slice(None), slice(5, -5), slice(5, -5))
        chances = 1 / (1 + np.exp(-expected(image)))
        np.testing.assert_allclose(engine(image)[inner], chances[inner], atol=1e-5)

    def test_a_hidden_margin_of_a_fixed_tile_is_told(self, tmp_path):
        engine = open_engine(self.network(tmp_path, ["n", 3, 96, 96], ["n", 1, None, None]), "onnxruntime")
        with pytest.raises(CheckpointError, match=r"net\.onnx: gives no answer for the outer 5 px"):
            engine(imagery(96, 96))

    @pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
    def test_engines_see_around_open_tiles(self, tmp_path, name):
        image = imagery(96, 64)
        got = open_engine(self.network(tmp_path, OPEN, ["n", 1, "hh", "ww"]), name)(image)
        np.testing.assert_allclose(got, 1 / (1 + np.exp(-expected(image))), atol=1e-5)


class TestKindsOfValues:
    def ended(self, folder, nodes, output, one=True, **fixed):
        shape = ["n", 1 if one else 2, "h", "w"]
        return write(folder, [conv("z"), *nodes], OPEN, shape, (ONE if one else TWO) % output, one, **fixed)

    @pytest.mark.parametrize("kind", ["Sigmoid", "Softmax", "HardSigmoid"])
    def test_a_squashing_end_gives_no_logits(self, tmp_path, kind):
        attributes = {"axis": 1} if kind == "Softmax" else {}
        path = self.ended(
            tmp_path, [node(kind, "z", "s", **attributes), node("Identity", "s", "y")], "logits", one=kind != "Softmax"
        )
        assert "ends with a sigmoid or softmax" in sentence(path)

    def test_a_sigmoid_written_out_is_found_by_its_values(self, tmp_path):
        nodes = [node("Neg", "z", "m"), node("Exp", "m", "e"), node("Add", "e 1", "d"), node("Reciprocal", "d", "y")]
        path = self.ended(tmp_path, nodes, "logits", **{"1": np.float32([1])})
        assert "as if they were probabilities already" in sentence(path)
        path.with_suffix(".yaml").write_text(ONE % "probabilities")
        image = imagery()
        np.testing.assert_allclose(answer(path, image), expected(image), atol=0.05, rtol=1e-3)

    def test_a_softmax_written_out_is_found_by_its_sum(self, tmp_path):
        nodes = [node("Exp", "z", "e"), node("ReduceSum", "e axes", "d"), node("Div", "e d", "y")]
        path = self.ended(tmp_path, nodes, "logits", one=False, axes=np.array([1]))
        assert "sum over the channels is always 1: probabilities, not logits" in sentence(path)

    @pytest.mark.parametrize("output", ["logits", "probabilities"])
    def test_a_softmax_over_the_wrong_axis_is_told(self, tmp_path, output):
        nodes = [node("Exp", "z", "e"), node("ReduceSum", "e axes", "d"), node("Div", "e d", "y")]
        path = self.ended(tmp_path, nodes, output, one=False, axes=np.array([3]))
        assert "a softmax over the wrong axis" in sentence(path)

    @pytest.mark.parametrize("output", ["logits", "probabilities"])
    def test_probabilities_from_0_to_255_are_told(self, tmp_path, output):
        nodes = [node("Sigmoid", "z", "s"), node("Mul", "s most", "y")]
        path = self.ended(tmp_path, nodes, output, most=np.float32(255))
        assert "is a sigmoid or softmax times a number" in sentence(path)

    def test_a_softmax_from_0_to_100_in_unknown_steps_is_told(self, tmp_path):
        nodes = [node("Softmax", "z", "s", axis=1), node("Abs", "s", "a"), node("Mul", "a most", "y")]
        path = self.ended(tmp_path, nodes, "logits", one=False, most=np.float32(100))
        assert "sum over the channels is always 100" in sentence(path)

    @pytest.mark.parametrize("last", ["Cast", "Round"])
    def test_labels_are_no_probabilities(self, tmp_path, last):
        named = [node("Greater", "z nought", "g"), node("Cast", "g", "y", to=FLOAT)]
        rounded = [node("Sigmoid", "z", "s"), node("Round", "s", "y")]
        path = self.ended(tmp_path, named if last == "Cast" else rounded, "probabilities", nought=np.float32(0))
        assert "named the class of each pixel" in sentence(path)

    def test_logits_that_are_added_to_probabilities_stay_logits(self, tmp_path):
        """The last step counts: a sum of two maps is no sigmoid, though a sigmoid is in it."""
        path = self.ended(tmp_path, [node("Sigmoid", "z", "s"), node("Add", "z s", "y")], "logits")
        image = imagery()
        logits = expected(image)
        np.testing.assert_allclose(answer(path, image), logits + 1 / (1 + np.exp(-logits)), atol=1e-4)

    def test_one_minus_a_sigmoid_is_a_probability(self, tmp_path):
        path = self.ended(
            tmp_path, [node("Sigmoid", "z", "s"), node("Sub", "1 s", "y")], "logits", **{"1": np.float32([1])}
        )
        assert "gives probabilities, not logits" in sentence(path)

    def test_numbers_that_are_none_are_told(self, tmp_path):
        path = self.ended(tmp_path, [node("Log", "z", "y")], "logits")
        assert "no numbers (NaN or infinite)" in sentence(path)

    def test_fractions_do_not_go_into_whole_numbers(self, tmp_path):
        path = write(
            tmp_path,
            [node("Cast", "x", "f", to=FLOAT), conv(source="f")],
            OPEN,
            ["n", 1, "h", "w"],
            ONE % "logits" + "divide_by: 255\n",
            input_type=TensorProto.UINT8,
        )
        assert "would make fractions" in sentence(path)
        path.with_suffix(".yaml").write_text(ONE % "logits" + "dtype: uint16\n")
        assert "uint16 values do not fit" in sentence(path)


class TestSeveralOutputs:
    @pytest.fixture
    def path(self, tmp_path):
        nodes = [conv("z"), node("Neg", "z", "aux"), node("Identity", "z", "y")]
        shapes = {"aux": ["n", 1, "h", "w"], "y": ["n", 1, "h", "w"]}
        return write(tmp_path, nodes, OPEN, shapes, ONE % "logits")

    def test_one_must_be_named(self, path):
        assert "has 2 outputs: aux (?, 1, ?, ?), y (?, 1, ?, ?)" in sentence(path)
        path.with_suffix(".yaml").write_text(ONE % "logits" + "output_name: main\n")
        assert "'main' is no output" in sentence(path)

    @pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
    def test_the_named_one_is_used(self, path, engine):
        path.with_suffix(".yaml").write_text(ONE % "logits" + "output_name: y\n")
        image = imagery()
        np.testing.assert_allclose(answer(path, image), expected(image), atol=1e-4)
        cut = image[..., :96, :96]
        np.testing.assert_allclose(open_engine(path, engine)(cut), 1 / (1 + np.exp(-expected(cut))), atol=1e-5)

    def test_the_only_one_that_can_be_maps_needs_no_name(self, tmp_path):
        nodes = [conv("y"), node("ReduceMean", "y", "score", axes=[1, 2, 3], keepdims=0)]
        path = write(tmp_path, nodes, OPEN, {"score": ["n"], "y": ["n", 1, "h", "w"]}, ONE % "logits")
        image = imagery()
        np.testing.assert_allclose(answer(path, image), expected(image), atol=1e-4)


class TestOtherFiles:
    def save(self, folder):
        path = write(folder, [conv()], OPEN, ["n", 1, "h", "w"], ONE % "logits")
        onnx.save(onnx.load(str(path)), str(path), save_as_external_data=True, location="net.bin", size_threshold=0)
        return path

    def test_weights_beside_it_are_read(self, tmp_path):
        image = imagery()
        np.testing.assert_allclose(answer(self.save(tmp_path), image), expected(image), atol=1e-4)

    def test_weights_that_are_missing_or_cut_off_are_named(self, tmp_path):
        path = self.save(tmp_path)
        (tmp_path / "net.bin").write_bytes((tmp_path / "net.bin").read_bytes()[:8])
        assert "net.bin, which is too short (8 bytes)" in sentence(path)
        (tmp_path / "net.bin").unlink()
        assert "its weights are in net.bin, which is not beside it" in sentence(path)

    @pytest.mark.parametrize("place", ["../net.bin", "/etc/passwd", "a/../../net.bin"])
    def test_weights_elsewhere_are_not_read(self, tmp_path, place):
        path = self.save(tmp_path)
        model = onnx.load(str(path), load_external_data=False)
        for entry in model.graph.initializer:
            entry.external_data[0].value = place
        path.write_bytes(model.SerializeToString())
        assert "is not a file beside it" in sentence(path)

    def test_the_yaml_may_be_called_yml(self, tmp_path):
        path = write(tmp_path, [conv()], OPEN, ["n", 1, "h", "w"], ONE % "logits")
        path.with_suffix(".yaml").rename(tmp_path / "net.yml")
        assert read_info(path).classes == CLASSES
        (tmp_path / "net.yml").write_text(ONE % "scores")
        assert "net.yml: output" in sentence(path)

    def test_two_inputs_are_told(self, tmp_path):
        path = write(tmp_path, [conv()], OPEN, ["n", 1, "h", "w"], ONE % "logits")
        model = onnx.load(str(path))
        model.graph.input.append(helper.make_tensor_value_info("place", FLOAT, ["n", 2]))
        onnx.save(model, str(path))
        assert "takes 2 inputs (x, place)" in sentence(path)
