"""ONNX files that want hours, gigabytes or other files, and the YAML beside them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile.corpus.networks import DOORS
from tests.hostile.corpus.place import LONG, Case, Place, Right

KIND, BESIDE = "ONNX files", "YAML beside an ONNX file"
YAML = "classes: {land: 0, building: 1, water: 2}\noutput: logits\n"
Make = Callable[[Place], Path]


def network(
    nodes: list[tuple[Any, ...]] | None = None,
    takes: tuple[Any, ...] = ("n", 3, "h", "w"),
    gives: tuple[Any, ...] = ("n", 3, "h", "w"),
    more_inputs: tuple[str, ...] = (),
    yaml: str | bytes | None = YAML,
    metadata: dict[str, str] | None = None,
    change: Callable[[Any], None] = lambda model: None,
    **fixed: Any,
) -> Make:
    """A network of a few steps (kind, inputs, outputs, attributes), from x by the convolution w to y unless they say otherwise."""

    def make(place: Place) -> Path:
        from onnx import TensorProto, helper, numpy_helper

        steps = [("Conv", "x w", "y", {})] if nodes is None else nodes
        weights = {"w": np.eye(3, dtype=np.float32)[:, :, None, None]} | fixed
        graph = helper.make_graph(
            [helper.make_node(kind, ins.split(), outs.split(), **attributes) for kind, ins, outs, attributes in steps],
            "g",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, takes) for name in ("x", *more_inputs)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, gives)],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        if metadata:
            helper.set_model_props(model, metadata)
        change(model)
        if yaml is not None:
            place.write("net.yaml", yaml)
        return place.write("net.onnx", model.SerializeToString())

    return make


def bomb(*steps: tuple[Any, ...], **fixed: Any) -> Make:
    """A network that adds a number `s`, which the steps make out of nothing."""
    return network([*steps, ("Conv", "x w", "z", {}), ("Add", "z s", "y", {})], **fixed)


def external(location: str, **said: str) -> Callable[[Any], None]:
    """Weights in another file."""

    def change(model: Any) -> None:
        from onnx import TensorProto

        entry = model.graph.initializer[0]
        entry.ClearField("raw_data")
        entry.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **said}.items():
            item = entry.external_data.add()
            item.key, item.value = key, value

    return change


def shape(*sides: int) -> Callable[[Any], None]:
    """The weights declare another shape than they have numbers for."""

    def change(model: Any) -> None:
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend(sides)

    return change


def looped(kind: str) -> Make:
    def make(place: Place) -> Path:
        from onnx import TensorProto, helper

        def value(name: str, kind: int, sides: Any = None) -> Any:
            return helper.make_tensor_value_info(name, kind, sides)

        body = helper.make_graph(
            [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["v"], ["v2"])],
            "body",
            [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("v", TensorProto.FLOAT)],
            [value("on", TensorProto.BOOL, []), value("v2", TensorProto.FLOAT)],
        )

        def change(model: Any) -> None:
            loop = helper.make_node("Loop", ["", "true", "z"], ["y"], body=body)
            if kind == "plain":
                model.graph.node.append(loop)
            elif kind == "function":
                model.functions.append(helper.make_function("own", "F", ["z"], ["y"], [loop], model.opset_import))
                model.graph.node.append(helper.make_node("F", ["z"], ["y"], domain="own"))
            else:
                branch = helper.make_graph([loop], "branch", [], [value("y", TensorProto.FLOAT)])
                model.graph.node.append(helper.make_node("If", ["true"], ["y"], then_branch=branch, else_branch=branch))

        return network([("Conv", "x w", "z", {})], change=change, true=np.array(True))(place)

    return make


def raw(change: Callable[[bytes], bytes]) -> Make:
    return lambda place: (place.write("net.yaml", YAML), place.write("net.onnx", change((place.base / "net.onnx").read_bytes())))[1]  # fmt: skip


def flipped(seed: int) -> Make:
    def change(data: bytes) -> bytes:
        held, rng = bytearray(data), np.random.default_rng(seed)
        for at in rng.integers(0, len(data), 20):
            held[at] ^= int(rng.integers(1, 256))
        return bytes(held)

    return raw(change)


def beside(text: str | bytes) -> Make:
    return network(yaml=text)


def linked(target: str, yaml: bool = False) -> Make:
    def make(place: Place) -> Path:
        if yaml:
            path = network(yaml=None)(place)
            file = path.with_suffix(".yaml")
        else:
            path = file = place.folder / "net.onnx"
            place.write("net.yaml", YAML)
        if target == "fifo":
            os.mkfifo(file)
        else:
            file.symlink_to(target)
        return path

    return make


def nested(place: Place) -> Path:
    """A graph in a graph in a graph ..., 20 deep; protobuf itself refuses 34."""
    from onnx import helper

    def change(model: Any) -> None:
        inner = helper.make_graph([], "g", [], [])
        for _ in range(20):
            inner = helper.make_graph([helper.make_node("If", ["t"], ["y"], then_branch=inner)], "g", [], [])
        model.graph.node.append(helper.make_node("If", ["t"], ["q"], then_branch=inner, else_branch=inner))

    return network(change=change)(place)


HUGE = np.array([900, 1_000_000])
MADE: dict[str, tuple[Make, Right]] = {
    "a sound network": (network(), "works"),
    "a loop without end": (looped("plain"), "refused"),
    "a loop in a branch": (looped("branch"), "refused"),
    "a loop in a function": (looped("function"), "refused"),
    "ConstantOfShape of 3.6 GB": (bomb(("ConstantOfShape", "huge", "c", {}), ("ReduceSum", "c", "s", {"keepdims": 0}), huge=HUGE), "refused"),
    "ConstantOfShape of 10**18": (bomb(("ConstantOfShape", "huge", "c", {}), ("ReduceSum", "c", "s", {"keepdims": 0}), huge=np.array([10**9, 10**9])), "refused"),
    "ConstantOfShape of less than nothing": (bomb(("ConstantOfShape", "huge", "c", {}), ("ReduceSum", "c", "s", {"keepdims": 0}), huge=np.array([-5, 7])), "refused"),
    "Expand to 3.6 GB": (bomb(("Expand", "one huge", "c", {}), ("ReduceMax", "c", "s", {"keepdims": 0}), huge=HUGE, one=np.float32(1)), "refused"),
    "Tile to 3.6 GB": (bomb(("Tile", "ones huge", "c", {}), ("ReduceMax", "c", "s", {"keepdims": 0}), huge=HUGE, ones=np.ones((1, 1), np.float32)), "refused"),
    "Range of 900 million": (bomb(("Range", "zero many one", "c", {}), ("ReduceMax", "c", "s", {"keepdims": 0}), zero=np.float32(0), many=np.float32(9e8), one=np.float32(1)), "refused"),
    "Pad by a billion": (bomb(("Pad", "ones pads", "c", {}), ("ReduceMax", "c", "s", {"keepdims": 0}), ones=np.ones(1, np.float32), pads=np.array([0, 900_000_000])), "refused"),
    "Resize by 100,000": (network([("Conv", "x w", "z", {}), ("Resize", "z roi scales", "y", {})], roi=np.zeros(0, np.float32), scales=np.array([1, 1, 1e5, 1e5], np.float32)), "refused"),
    "sides of 10**9": (network(takes=("n", 3, 10**9, 10**9)), "refused"),
    "sides of 0": (network(takes=("n", 3, 0, 0)), "either"),
    "a batch of 10**9": (network(takes=(10**9, 3, 64, 64)), "refused"),
    "10**9 channels": (network(takes=("n", 10**9, 64, 64)), "refused"),
    "4,000 channels of 8192 x 8192": (network(takes=(64, 4000, 8192, 8192)), "refused"),
    "sides below zero": (network(takes=("n", 3, -5, -5)), "either"),
    "one side only": (network(takes=(3,)), "refused"),
    "300 sides": (network(takes=tuple(range(1, 301))), "refused"),
    "two inputs": (network([("Conv", "x w", "z", {}), ("Add", "z x2", "y", {})], more_inputs=("x2",)), "refused"),
    "no steps": (network([]), "refused"),
    "a step that nobody knows": (network([("NoSuchStep", "x w", "y", {})]), "refused"),
    "a step of another house": (network([("Conv", "x w", "z", {}), ("Own", "z", "y", {"domain": "own"})]), "refused"),
    "a step in a circle": (network([("Add", "x b", "a", {}), ("Add", "x a", "b", {}), ("Conv", "a w", "y", {})]), "refused"),
    "weights of a shape of 10**18": (network(change=shape(10**9, 10**9, 1, 1)), "refused"),
    "weights of a shape below zero": (network(change=shape(-3, -3, 1, 1)), "refused"),
    "external weights that are missing": (network(change=external("weights.bin")), "refused"),
    "external weights at ../../etc/passwd": (network(change=external("../../../../../../../../etc/passwd")), "refused"),
    "external weights at /etc/passwd": (network(change=external("/etc/passwd")), "refused"),
    "external weights at a device": (lambda place: ((place.folder / "w.bin").symlink_to("/dev/zero"), network(change=external("w.bin"))(place))[1], "refused"),
    "external weights by a link that leads out": (lambda place: ((place.folder / "w.bin").symlink_to("/etc/passwd"), network(change=external("w.bin"))(place))[1], "refused"),
    "external weights in a pipe": (lambda place: (os.mkfifo(place.folder / "w.bin"), network(change=external("w.bin"))(place))[1], "refused"),
    "external weights at an offset of 6,000 digits": (lambda place: (place.write("w.bin", b"\0" * 99), network(change=external("w.bin", offset=LONG))(place))[1], "refused"),
    "external weights of a length below zero": (lambda place: (place.write("w.bin", b"\0" * 99), network(change=external("w.bin", length="-1"))(place))[1], "refused"),
    "external weights behind an address": (lambda place: network(change=external(f"{place.address}/w.bin"))(place), "refused"),
    "external weights without a place": (network(change=external("")), "refused"),
    "external weights in a constant of a step": (lambda place: constant_outside(place), "refused"),
    "graphs in graphs, 20 deep": (nested, "refused"),
    "a million names": (network(change=lambda model: model.graph.value_info.extend([model.graph.input[0]] * 200_000)), "either"),
    "half a file": (raw(lambda data: data[: len(data) // 2]), "refused"),
    "an empty file": (raw(lambda data: b""), "refused"),
    "a text": (raw(lambda data: b"hello"), "refused"),
    "zeros": (raw(lambda data: b"\0" * 10_000), "refused"),
    "bytes of 255": (raw(lambda data: b"\xff" * 10_000), "refused"),
    "metadata of ours nested deeply": (network(metadata={"kdcore": "[" * 50_000}), "refused"),
    "metadata of ours with a number of 6,000 digits": (network(metadata={"kdcore": '{"bands": ' + LONG + "}"}), "refused"),
    "metadata of ours that are null": (network(metadata={"kdcore": "null"}), "refused"),
    "an endless device": (linked("/dev/zero"), "refused"),
    "a pipe": (linked("fifo"), "refused"),
    **{f"20 changed bytes, {seed}": (flipped(seed), "either") for seed in range(6)},
}  # fmt: skip
TEXTS: dict[str, str | bytes] = {
    "no classes": "output: logits\n",
    "aliases that multiply": "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefghi", "bcdefghij", strict=True)),
    "a channel of 6,000 digits": "classes: {land: 0, building: " + LONG + "}\noutput: logits\n",
    "channel 10**12": "classes: {land: 0, building: 1000000000000}\noutput: logits\n",
    "a channel below zero": "classes: {land: 0, building: -1}\noutput: logits\n",
    "a million channels": "classes: {land: " + str(list(range(100_000))) + ", building: 100000}\noutput: logits\n",
    "bands of 10**9": YAML + "bands: [1, 2, 1000000000]\n",
    "100,000 bands": YAML + "bands: " + str([1] * 100_000) + "\n",
    "a mean of no number": YAML + "mean: .nan\n",
    "a deviation of 0": YAML + "std: 0\n",
    "a deviation of no number": YAML + "std: .nan\n",
    "a deviation that is empty": YAML + "std: []\n",
    "a division by 1e-308": YAML + "divide_by: 1.0e-308\n",
    "a division without end": YAML + "divide_by: .inf\n",
    "pixels of 1e-9 m": YAML + "metres_per_pixel: 1.0e-9\n",
    "pixels of no number": YAML + "metres_per_pixel: .nan\n",
    "a type of 10,000 letters": YAML + "dtype: " + "x" * 10_000 + "\n",
    "an output of another name": YAML + "output_name: '" + "y" * 10_000 + "'\n",
    "bytes that are no text": b"\xff\xfe\xfa",
    "a class that is a date": "classes: {2024-13-45: 0, b: 1}\noutput: logits\n",
    "a class that is a list": "classes: {[a]: 0, b: 1}\noutput: logits\n",
    "classes that are merged": "x: &x {land: 0, building: 1, water: 2}\nclasses: {<<: *x}\noutput: logits\n",
}  # fmt: skip
MAY_WORK = {"pixels of 1e-9 m", "a type of 10,000 letters"}


def constant_outside(place: Place) -> Path:
    """A tensor of a Constant step, not an initializer, whose numbers are in another file."""
    from onnx import TensorProto, helper

    def change(model: Any) -> None:
        held = helper.make_tensor("k", TensorProto.FLOAT, [4], np.zeros(4, np.float32).tobytes(), raw=True)
        held.ClearField("raw_data")
        held.data_location = TensorProto.EXTERNAL
        item = held.external_data.add()
        item.key, item.value = "location", "../../../../../../../../etc/passwd"
        model.graph.node.insert(0, helper.make_node("Constant", [], ["k"], value=held))
        model.graph.node.append(helper.make_node("ReduceMax", ["k"], ["s"], keepdims=0))
        model.graph.node.append(helper.make_node("Add", ["z", "s"], ["y"]))

    return network([("Conv", "x w", "z", {})], change=change)(place)


def case(name: str, door: str, kind: str, make: Make, right: Right) -> Case:
    return Case(
        name if kind == KIND else f"beside ONNX: {name}",
        door,
        kind,
        lambda place: DOORS[door](place, make(place)),
        right,
    )


ALSO = ["evaluate", "profile", "study"]
CASES: list[Case] = [
    *(case(f"ONNX: {name}", "predict", KIND, make, right) for name, (make, right) in MADE.items()),
    *(case(f"ONNX: {name}", ALSO[index % 3], KIND, make, right) for index, (name, (make, right)) in enumerate(list(MADE.items())[1:-6:2]) if right == "refused"),
    *(case(name, "predict", BESIDE, beside(text), "either" if name in MAY_WORK else "refused") for name, text in TEXTS.items()),
    *(case(name, "predict", BESIDE, linked(target, yaml=True), "refused") for name, target in (("a pipe", "fifo"), ("an endless device", "/dev/zero"), ("nothing", "gone.yaml"))),
    case("an ONNX file for a checkpoint", "export", KIND, network(), "refused"),
]  # fmt: skip
