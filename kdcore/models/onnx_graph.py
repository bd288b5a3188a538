"""What an ONNX file itself says: shapes, types, how it ends, where its weights are. Nothing is run here."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from kdcore.errors import CheckpointError
from kdcore.settings import Frozen

TYPES = {1: "float32", 10: "float16", 2: "uint8"}  # numbers of onnx.TensorProto
LARGEST_TILE = 8192  # pixels
MOST_CHANNELS = 4096
MOST_IMAGES = 64  # at once
MOST_STEPS = 64  # that are followed back from the end
Side = int | str | None
"""Of a shape: a number, the name of an open one, or nothing known."""
Ending = Literal["probabilities", "scaled", "labels", "values", "unknown"]

UNCHANGED = {  # what may come after the last step that matters
    *(
        "Identity",
        "Cast",
        "Transpose",
        "Reshape",
        "Squeeze",
        "Unsqueeze",
        "Slice",
        "Resize",
        "Upsample",
        "Flatten",
        "Dropout",
    ),
    *("QuantizeLinear", "DequantizeLinear", "Pad", "AveragePool", "DepthToSpace", "SpaceToDepth"),
}
SQUASHING = {"Sigmoid", "Softmax", "HardSigmoid"}
NAMING = {
    "ArgMax",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Equal",
    "And",
    "Or",
    "Not",
    "Hardmax",
    "TopK",
    "Round",
}
ENDLESS = {"Loop", "Scan", "SequenceMap"}
SUMMING = {
    *(
        "Conv",
        "ConvTranspose",
        "Gemm",
        "MatMul",
        "Einsum",
        "BatchNormalization",
        "InstanceNormalization",
        "QLinearConv",
    ),
    *("Relu", "LeakyRelu", "PRelu", "Elu", "LogSoftmax", "Log"),
}


class End(Frozen):
    """One input or output of a graph."""

    name: str
    type: int
    shape: tuple[Side, ...]


class Graph(Frozen):
    """What the file says.

    Attributes:
        image: the input; there is one.
        outputs: all of them, and `endings` how each comes about: as probabilities (after a sigmoid or softmax), as these times a
            number, as the number of a class, as sums or their like, or nobody knows how.
        parameters: numbers in it that were learnt.
        metadata: texts by name.
    """

    image: End
    outputs: tuple[End, ...]
    endings: tuple[Ending, ...]
    parameters: int
    metadata: dict[str, str]


def read_graph(path: Path) -> Graph:
    """Read the graph's ends and metadata.

    Raises:
        CheckpointError: missing, broken, of several inputs, with sides beyond every network's, or weights in a file that is not there.
    """
    import onnx

    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file.")
    try:
        model = onnx.load(str(path), load_external_data=False)
        weights = {entry.name for entry in model.graph.initializer}
        inputs = [read_end(entry) for entry in model.graph.input if entry.name not in weights]
        outputs = tuple(read_end(entry) for entry in model.graph.output)
        image = inputs[0]
        outputs[0]
    except Exception as error:  # protobuf raises several kinds
        raise CheckpointError(f"{path}: is broken or no ONNX file. Copy it again, or export it anew.") from error
    if len(inputs) > 1:
        raise CheckpointError(
            f"{path}: takes {len(inputs)} inputs ({', '.join(end.name for end in inputs)[:200]}); a network here takes images only. "
            "Export it with the images as its only input."
        )
    if image.type not in TYPES:
        raise CheckpointError(
            f"{path}: takes {type_name(image.type)} numbers; supported are {', '.join(TYPES.values())}."
        )
    check_sides(image, path)
    check_steps(model, path)
    check_external(model, path)
    learnt = [entry for entry in model.graph.initializer if entry.data_type in (1, 10, 11, 16)]
    return Graph(
        image=image,
        outputs=outputs,
        endings=tuple(ending(model.graph, end) for end in outputs),
        parameters=sum(product(entry.dims) for entry in learnt),
        metadata={entry.key: entry.value for entry in model.metadata_props},
    )


def read_end(entry: Any) -> End:
    """An input or output of the graph."""
    tensor = entry.type.tensor_type
    sides: list[Side] = []
    for size in tensor.shape.dim:
        number = size.dim_value if size.HasField("dim_value") and size.dim_value > 0 else None
        sides.append(number if number is not None else size.dim_param or None)
    return End(name=entry.name, type=tensor.elem_type, shape=tuple(sides))


def product(sizes: Any) -> int:
    """Of the sides of a tensor; 0 where one is negative."""
    found = 1
    for size in sizes:
        found *= max(0, int(size))
    return found


def type_name(number: int) -> str:
    """What ONNX calls a type of numbers."""
    import onnx

    names = {value: name for name, value in onnx.TensorProto.DataType.items()}
    return str(names.get(number, f"unknown ({number})"))


def check_sides(image: End, path: Path) -> None:
    """Refuse images that no network takes, before memory is asked for."""
    numbers = [side for side in image.shape if isinstance(side, int)]
    if len(image.shape) == 4 and isinstance(image.shape[0], int) and image.shape[0] > MOST_IMAGES:
        raise CheckpointError(
            f"{path}: takes {image.shape[0]:,} images at once; at most {MOST_IMAGES} are given. Export it with an open batch or a small one."
        )
    if numbers and max(numbers) > LARGEST_TILE:
        raise CheckpointError(
            f"{path}: takes images of the shape {show(image.shape)}; sides up to {LARGEST_TILE} px are run. "
            "Export it with a smaller tile, for example 512 x 512."
        )


def check_steps(model: Any, path: Path) -> None:
    """Refuse steps that may go on without end, wherever in the graph they stand.

    Raises:
        CheckpointError: names the step.
    """
    for part in parts_of(model):
        for node in part.node:
            if node.op_type in ENDLESS:
                raise CheckpointError(
                    f"{path}: holds a step {node.op_type!r}, which may go on without end; networks from images to maps need none. "
                    "Export it without loops (in PyTorch by tracing, not by scripting)."
                )


def parts_of(model: Any) -> Iterator[Any]:
    """The graph, its functions, and the graphs inside their steps."""
    waiting = [model.graph, *model.functions]
    while waiting:
        part = waiting.pop()
        yield part
        for node in part.node:
            for attribute in node.attribute:
                waiting += [attribute.g] if attribute.HasField("g") else []
                waiting += list(attribute.graphs)


def tensors_of(model: Any) -> Iterator[Any]:
    """Every tensor that is written down: weights, and constants of steps, dense and sparse, wherever they stand."""
    for part in parts_of(model):
        yield from getattr(part, "initializer", ())
        sparse = list(getattr(part, "sparse_initializer", ()))
        for node in part.node:
            for attribute in node.attribute:
                yield from ([attribute.t] if attribute.HasField("t") else [])
                yield from attribute.tensors
                sparse += [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
                sparse += list(attribute.sparse_tensors)
        for entry in sparse:
            yield from (entry.values, entry.indices)


def external_files(path: Path) -> list[Path]:
    """The files beside a graph that hold its weights."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    names = {
        item.value
        for entry in tensors_of(model)
        if entry.data_location == onnx.TensorProto.EXTERNAL
        for item in entry.external_data
        if item.key == "location"
    }
    return [path.parent / name for name in sorted(names)]


def check_external(model: Any, path: Path) -> None:
    """Refuse weights in other files that are missing, cut off or elsewhere: each runtime says that in its own way.

    Raises:
        CheckpointError: names the other file.
    """
    for entry in tensors_of(model):
        if entry.data_location != 1:  # onnx.TensorProto.EXTERNAL
            continue
        said = {item.key: item.value for item in entry.external_data}
        name = said.get("location", "")
        if not name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name:
            raise CheckpointError(
                f"{path}: says that its weights are in {name[:100]!r}, which is not a file beside it. Export it anew, with the weights inside."
            )
        file = path.parent / name
        if not file.is_file():
            raise CheckpointError(
                f"{path}: its weights are in {name[:100]}, which is not beside it. Copy that file into the same folder, or export the "
                "network with its weights inside."
            )
        if {path.resolve().parent, path.parent.resolve()}.isdisjoint(file.resolve().parents):
            raise CheckpointError(
                f"{path}: its weights are in {name[:100]}, a link that leads out of the folder. Copy that file into the same folder."
            )
        numbers = [said.get(key, "0") for key in ("offset", "length")]
        end = sum(int(text) for text in numbers) if all(text.isdigit() and len(text) < 19 for text in numbers) else -1
        if end < 0 or end > file.stat().st_size:
            raise CheckpointError(
                f"{path}: its weights are in {name[:100]}, which is too short ({file.stat().st_size:,} bytes). Copy it again."
            )


def ending(graph: Any, end: End) -> Ending:
    """How an output comes about, as far as the last steps tell: what is done to every value alike is followed back."""
    made_by = {name: node for node in graph.node for name in node.output}
    fixed = {entry.name for entry in graph.initializer} | {
        node.output[0] for node in graph.node if node.op_type == "Constant" and node.output
    }
    if end.type not in (1, 10, 11, 16):
        return "labels"
    name, scaled = end.name, False
    for _ in range(MOST_STEPS):
        node = made_by.get(name)
        if node is None or (node.domain not in ("", "ai.onnx")):
            return "unknown"
        kind = node.op_type
        if kind in NAMING:
            return "labels"
        if kind in SQUASHING:
            return "scaled" if scaled else "probabilities"
        if kind in SUMMING:
            return "values"
        if kind in ("Mul", "Div", "Add", "Sub"):
            moving = [entry for entry in node.input if entry not in fixed]
            if len(moving) != 1:
                return "values" if kind in ("Add", "Sub") else "unknown"
            name, scaled = moving[0], scaled or kind in ("Mul", "Div")
        elif kind in UNCHANGED and node.input:
            name = node.input[0]
        else:
            return "unknown"
    return "unknown"


def show(sizes: tuple[Side, ...]) -> str:
    """A shape for messages, '?' where any size will do."""
    return f"({', '.join(str(size) if isinstance(size, int) else '?' for size in sizes)})"
