"""Any ONNX file as a network: classes by name, bands by number, whatever its size, layout and kind of output."""

import math

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from scipy.special import expit, logit, softmax

from kdcore.errors import CheckpointError, KdcoreError, SettingsError
from kdcore.models.networks import count_parameters, probabilities
from kdcore.models.onnx import OnnxNetwork, class_probabilities, open_session, read_info, to_maps, to_network_input
from kdcore.models.onnx_reading import EXAMPLE
from kdcore.teacher.teacher import Teacher
from tests.onnx_files import write_pixelwise

TWO = ("background", "building")
WEIGHTS = [[0.5, -0.25, 0.0], [0.0, 0.25, 0.5]]
BINARY = "classes: {background: 0, building: 1}\noutput: logits\n"


def images(count=1, height=6, width=5, bands=3):
    return np.random.default_rng(0).uniform(-4, 4, (count, bands, height, width)).astype(np.float32)


def weighted(weights, pixels):
    return np.einsum("oc,nchw->nohw", np.asarray(weights, dtype=np.float64), pixels)


def run(path, pixels):
    """What the graph itself gives, through the two pure functions."""
    info, session = read_info(path), open_session(path, 1)
    outputs = session.run(None, {session.get_inputs()[0].name: to_network_input(info, pixels)})[0]
    return class_probabilities(info, to_maps(info, outputs, pixels.shape[2:])[0])


# --- classes


@pytest.mark.parametrize("end", [None, "Softmax"])
def test_two_softmax_channels_are_one_map_of_the_second_class(tmp_path, end):
    output = "probabilities" if end else "logits"
    path = write_pixelwise(tmp_path / "n.onnx", WEIGHTS, end=end, yaml=BINARY.replace("logits", output))
    pixels = images()
    expected = softmax(weighted(WEIGHTS, pixels), axis=1)[:, 1:]
    np.testing.assert_allclose(run(path, pixels), expected, atol=1e-6)
    got = OnnxNetwork.load(path, TWO, 3)(torch.from_numpy(pixels))
    np.testing.assert_allclose(got.numpy(), logit(expected), atol=1e-4)


@pytest.mark.parametrize("end", [None, "Sigmoid"])
@pytest.mark.parametrize("building", [True, False])
def test_one_sigmoid_channel_is_either_class(tmp_path, end, building):
    classes = "{background: rest, building: 0}" if building else "{background: 0, building: rest}"
    output = "probabilities" if end else "logits"
    path = write_pixelwise(tmp_path / "n.onnx", WEIGHTS[:1], end=end, yaml=f"classes: {classes}\noutput: {output}\n")
    pixels = images()
    expected = weighted(WEIGHTS[:1], pixels) * (1 if building else -1)
    np.testing.assert_allclose(run(path, pixels), expit(expected), atol=1e-6)
    got = OnnxNetwork.load(path, TWO, 3)(torch.from_numpy(pixels))
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("end", [None, "Softmax"])
def test_channels_of_one_class_are_added_up_and_the_order_is_the_collections(tmp_path, end):
    """Five channels, of which two are 'plants', one is nobody's and the rest are by name in another order."""
    weights = np.random.default_rng(1).normal(size=(5, 3))
    text = f"classes: {{water: 3, plants: [0, 4], ground: 1}}\noutput: {'probabilities' if end else 'logits'}\n"
    path = write_pixelwise(tmp_path / "n.onnx", weights, end=end, yaml=text)
    pixels = images()
    shares = softmax(weighted(weights, pixels), axis=1)
    named = np.stack([shares[:, 1], shares[:, 0] + shares[:, 4], shares[:, 3]], axis=1)  # ground, plants, water
    expected = named / named.sum(axis=1, keepdims=True)
    network = OnnxNetwork.load(path, ("ground", "plants", "water"), 3)
    assert network.logits == 3
    got = network(torch.from_numpy(pixels))
    np.testing.assert_allclose(probabilities(got).numpy(), expected, atol=1e-5)


def test_the_rest_is_every_channel_that_no_class_has(tmp_path):
    weights = np.random.default_rng(2).normal(size=(4, 3))
    path = write_pixelwise(
        tmp_path / "n.onnx", weights, yaml="classes: {background: rest, building: 2}\noutput: logits\n"
    )
    assert read_info(path).channels == ((0, 1, 3), (2,))
    pixels = images()
    np.testing.assert_allclose(run(path, pixels), softmax(weighted(weights, pixels), axis=1)[:, 2:3], atol=1e-6)


def test_sure_networks_keep_their_doubt_at_a_temperature(tmp_path):
    """Logits do not go through probabilities, which would round 1 - exp(-40) to 1."""
    path = write_pixelwise(
        tmp_path / "n.onnx", [[40.0], [0.0], [-40.0]], yaml="classes: {a: 0, b: 1, c: 2}\noutput: logits\n"
    )
    got = OnnxNetwork.load(path, ("a", "b", "c"), 1)(torch.ones(1, 1, 1, 1))[0, :, 0, 0]
    assert (got[0] - got[1]).item() == pytest.approx(40)
    assert (got[1] - got[2]).item() == pytest.approx(40)


# --- bands and scaling


def test_bands_are_found_by_their_number(tmp_path):
    """The network wants blue, green, red of the files; the collection gives near infrared, red, green, blue."""
    text = BINARY + "bands: [3, 2, 1]\nmean: [10, 20, 30]\nstd: [1, 2, 4]\n"
    path = write_pixelwise(tmp_path / "n.onnx", [[1, 0, 0], [0, 0, 1]], yaml=text)
    network = OnnxNetwork.load(path, TWO, 4, band_numbers=(4, 1, 2, 3))
    assert network.bands == 4
    pixel = torch.tensor([99.0, 38.0, 7.0, 12.0])[None, :, None, None]  # bands 4, 1, 2, 3
    # channel 0 sees band 3: (12 - 10) / 1 = 2; channel 2 sees band 1: (38 - 30) / 4 = 2
    assert network(pixel).item() == pytest.approx(0, abs=1e-6)
    assert network(pixel + torch.tensor([0.0, 4.0, 0.0, 0.0])[None, :, None, None]).item() == pytest.approx(1)
    assert network.fill.tolist() == [0, 30, 20, 10]


def test_statistics_can_be_given_for_divided_values(tmp_path):
    text = BINARY + "mean: [0.485, 0.456, 0.406]\nstd: [0.229, 0.224, 0.225]\ndivide_by: 255\n"
    info = read_info(write_pixelwise(tmp_path / "n.onnx", WEIGHTS, yaml=text))
    pixels = np.full((1, 3, 2, 2), 200, dtype=np.uint8)
    expected = (200 / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(to_network_input(info, pixels)[0, :, 0, 0], expected, rtol=1e-5)
    one = read_info(write_pixelwise(tmp_path / "m.onnx", WEIGHTS, yaml=BINARY + "mean: 127.5\nstd: 127.5\n"))
    assert one.mean == (127.5,) * 3
    assert one.std == (127.5,) * 3


def test_what_is_known_about_it(tmp_path):
    text = BINARY + "bands: [4, 2, 1]\nmean: [1, 2, 3]\nmetres_per_pixel: 0.3\ndtype: uint16\n"
    info = read_info(write_pixelwise(tmp_path / "n.onnx", WEIGHTS, size=64, yaml=text))
    assert (info.tile, info.batch, info.outputs, info.logits) == (64, None, 2, 1)
    facts = info.checkpoint_info
    assert facts.classes == TWO
    assert facts.bands == 3
    assert facts.band_numbers == (1, 2, 4)
    assert facts.metres_per_pixel == 0.3
    assert facts.dtype == "uint16"
    assert facts.logits == 1
    assert info.fill == (3, 2, 1)


# --- sizes, batches, layouts


class Blur:
    """A 5 x 5 mean as an ONNX file: what it says near a tile's border depends on the tile."""

    @staticmethod
    def write(path, size):
        from onnx import helper, numpy_helper

        kernel = np.full((1, 1, 5, 5), 1 / 25, dtype=np.float32)
        sizes = ["n", 1, size, size]
        graph = helper.make_graph(
            [helper.make_node("Conv", ["image", "kernel"], ["out"], pads=[2, 2, 2, 2])],
            "blur",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, sizes)],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, sizes)],
            [numpy_helper.from_array(kernel, "kernel")],
        )
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
        path.with_suffix(".yaml").write_text("classes: {background: rest, building: 0}\noutput: logits\n")
        return path


@pytest.mark.parametrize("tile", [64, 96, 100])
@pytest.mark.parametrize(("height", "width"), [(200, 130), (64, 300), (65, 64), (128, 128)])
def test_larger_imagery_is_tiled_without_seams(tmp_path, tile, height, width):
    whole = OnnxNetwork(Blur.write(tmp_path / "whole.onnx", "side"), threads=1)
    tiled = OnnxNetwork(Blur.write(tmp_path / "tiled.onnx", tile), threads=1)
    image = torch.from_numpy(images(2, height, width, bands=1))
    inner = (slice(None), slice(None), slice(4, height - 4), slice(4, width - 4))  # the border sees padding
    torch.testing.assert_close(tiled(image)[inner], whole(image)[inner], atol=1e-5, rtol=1e-5)
    assert tiled(image).shape == (2, 1, height, width)


def test_smaller_imagery_is_filled_up_with_its_border(tmp_path):
    tiled = OnnxNetwork(Blur.write(tmp_path / "tiled.onnx", 64), threads=1)
    image = torch.full((1, 1, 20, 33), 3.0)
    got = tiled(image)
    assert got.shape == (1, 1, 20, 33)
    torch.testing.assert_close(got[..., 2:, 2:], image[..., 2:, 2:])  # replication: no darker right and lower border


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("count", [1, 3, 5])
def test_a_fixed_batch_takes_any_number_of_images(tmp_path, batch, count):
    path = write_pixelwise(tmp_path / "n.onnx", WEIGHTS, batch=batch, size=32, yaml=BINARY)
    pixels = images(count, 32, 32)
    logits = weighted(WEIGHTS, pixels)
    got = OnnxNetwork(path, threads=1)(torch.from_numpy(pixels))
    np.testing.assert_allclose(got.numpy(), logits[:, 1:] - logits[:, :1], atol=1e-5)


@pytest.mark.parametrize("size", ["side", 32])
def test_channels_may_come_last(tmp_path, size):
    path = write_pixelwise(tmp_path / "n.onnx", WEIGHTS, channels_last=True, size=size, yaml=BINARY)
    assert read_info(path).channels_last
    pixels = images(2, 32, 32)
    logits = weighted(WEIGHTS, pixels)
    got = OnnxNetwork(path, threads=1)(torch.from_numpy(pixels))
    np.testing.assert_allclose(got.numpy(), logits[:, 1:] - logits[:, :1], atol=1e-5)


def test_maps_of_a_lower_resolution_are_resized(tmp_path):
    path = write_pixelwise(tmp_path / "n.onnx", WEIGHTS, stride=4, size=32, yaml=BINARY)
    got = OnnxNetwork(path, threads=1)(torch.full((1, 3, 32, 32), 2.0))
    assert got.shape == (1, 1, 32, 32)
    torch.testing.assert_close(got, torch.full_like(got, 2 * (0.75 - 0.25)))


@pytest.mark.parametrize("kind", [TensorProto.UINT8, TensorProto.FLOAT16])
def test_other_numbers_may_go_in(tmp_path, kind):
    path = write_pixelwise(tmp_path / "n.onnx", WEIGHTS, input_type=kind, yaml=BINARY)
    got = OnnxNetwork(path, threads=1)(torch.full((1, 3, 8, 8), 100.0))
    torch.testing.assert_close(got, torch.full_like(got, 50.0))


# --- as a member of a teacher


def test_it_teaches_with_its_parameters_counted(tmp_path):
    path = write_pixelwise(tmp_path / "n.onnx", WEIGHTS, yaml=BINARY)
    teacher = Teacher.load([path], TWO, 3)
    assert teacher.parameters_count == count_parameters(teacher) == 2 * 3 + 2
    pixels = images()
    logits = weighted(WEIGHTS, pixels)
    got = teacher(torch.from_numpy(pixels), 4.0)
    np.testing.assert_allclose(got.numpy(), logits[:, 1:] - logits[:, :1], atol=1e-5)
    assert not got.requires_grad
    assert not teacher.training


def test_two_files_are_averaged(tmp_path):
    text = "classes: {background: rest, building: 0}\noutput: logits\n"
    paths = [
        write_pixelwise(tmp_path / f"{value}.onnx", [[0.0]], [math.log(value / (1 - value))], yaml=text)
        for value in (0.2, 0.6)
    ]
    got = probabilities(Teacher.load(paths, TWO, 1)(torch.zeros(1, 1, 4, 4)))
    torch.testing.assert_close(got, torch.full((1, 1, 4, 4), 0.4))


# --- what does not fit is told


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("classes: {background: 0, building: 2}\noutput: logits\n", "channel 2.*has 2"),
        ("classes: {background: 0, building: 0}\noutput: logits\n", "belongs to two classes"),
        ("classes: {background: rest, building: rest}\noutput: logits\n", "only one class"),
        ("classes: {background: 0, building: 1, water: rest}\noutput: logits\n", "no output channel is left"),
        ("classes: {background: -1, building: 1}\noutput: logits\n", "numbered from 0"),
        ("classes: {building: 1}\noutput: logits\n", "classes"),
        ("classes: {background: 0, building: []}\noutput: logits\n", "empty"),
        ("classes: {background: 0, building: 1}\n", "output"),
        (BINARY.replace("logits", "scores"), "output"),
        (BINARY + "bands: [1, 2]\n", "names 2 bands.*3 input channels"),
        (BINARY + "bands: [0, 1, 2]\n", "numbered from 1"),
        (BINARY + "mean: [1, 2]\n", "mean: 2 numbers for 3"),
        (BINARY + "std: [1, 0, 1]\n", "above 0"),
        (BINARY + "size: 3\n", "size"),
        ("- a\n", "key: value"),
        ("classes: {", "no valid YAML"),
    ],
)
def test_mistakes_in_the_yaml_are_told_with_their_place(tmp_path, text, words):
    path = write_pixelwise(tmp_path / "net.onnx", WEIGHTS, yaml=text)
    with pytest.raises((CheckpointError, SettingsError), match=rf"(?s)net\.yaml.*{words}"):
        read_info(path)


def test_a_missing_yaml_is_told_with_lines_to_write(tmp_path):
    path = write_pixelwise(tmp_path / "net.onnx", WEIGHTS)
    with pytest.raises(CheckpointError, match=r"net\.yaml") as caught:
        read_info(path)
    lines = str(caught.value).partition("such as\n")[2]
    assert lines == EXAMPLE
    path.with_suffix(".yaml").write_text(lines)
    assert read_info(path).classes == TWO


def test_files_that_are_no_networks_are_refused(tmp_path):
    broken = tmp_path / "broken.onnx"
    for content in (b"", b"not a protobuf at all", write_pixelwise(tmp_path / "a.onnx", WEIGHTS).read_bytes()[:60]):
        broken.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"broken\.onnx.*broken"):
            read_info(broken)
    with pytest.raises(CheckpointError, match="no such file"):
        read_info(tmp_path / "absent.onnx")
    with pytest.raises(CheckpointError, match="arg-max"):
        read_info(write_pixelwise(tmp_path / "named.onnx", WEIGHTS, end="ArgMax", yaml=BINARY))


@pytest.mark.parametrize(("sizes", "words"), [((1, 3), "shape"), ((1, 3, 32, 64), "square")])
def test_other_shapes_are_refused(tmp_path, sizes, words):
    from onnx import helper

    graph = helper.make_graph(
        [helper.make_node("Relu", ["image"], ["out"])],
        "other",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, sizes)],
    )
    onnx.save(helper.make_model(graph, ir_version=8), str(tmp_path / "n.onnx"))
    (tmp_path / "n.yaml").write_text(BINARY)
    with pytest.raises(CheckpointError, match=words):
        read_info(tmp_path / "n.onnx")


def test_classes_and_bands_that_do_not_fit_the_collection_are_told(tmp_path):
    path = write_pixelwise(tmp_path / "net.onnx", WEIGHTS, yaml=BINARY)
    with pytest.raises(CheckpointError, match=r"net\.yaml.*lacks house.*names building"):
        Teacher.load([path], ("background", "house"), 3)
    with pytest.raises(CheckpointError, match=r"expects 3 bands.*gives 4"):
        Teacher.load([path], TWO, 4)
    with pytest.raises(CheckpointError, match=r"band 3 .*gives the bands 1, 2"):
        Teacher.load([path], TWO, 2, band_numbers=(1, 2))


def test_logits_that_are_called_probabilities_are_noticed(tmp_path):
    path = write_pixelwise(tmp_path / "net.onnx", WEIGHTS, yaml=BINARY.replace("logits", "probabilities"))
    with pytest.raises(CheckpointError, match=r"net\.onnx.*output: logits"):
        OnnxNetwork.load(path, TWO, 3)(torch.full((1, 3, 4, 4), 30.0))


def test_what_the_runtime_says_is_passed_on(tmp_path):
    """A graph that says that it takes any size, and does not."""
    from onnx import helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("Reshape", ["image", "shape"], ["out"])],
        "liar",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 2, "h", "w"])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 2, "h", "w"])],
        [numpy_helper.from_array(np.array([1, 2, 64, 64], dtype=np.int64), "shape")],
    )
    path = tmp_path / "liar.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    path.with_suffix(".yaml").write_text(BINARY)
    network = OnnxNetwork(path, threads=1)
    network(torch.zeros(1, 2, 64, 64))
    with pytest.raises(KdcoreError, match=r"liar\.onnx.*32 x 32.*fixed height and width"):
        network(torch.zeros(1, 2, 32, 32))
