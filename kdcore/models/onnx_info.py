"""What an ONNX file takes and gives: read from its graph, and from its own metadata or a YAML file beside it."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from kdcore.errors import CheckpointError, SettingsError
from kdcore.models.checkpoint import CheckpointInfo
from kdcore.settings import Frozen, NetworkSettings, read_yaml, validate

KEY = "kdcore"  # of the metadata in our own exports
EXAMPLE = """\
classes: {background: 0, building: 1}  # each class of the collection: its output channel, a list of them, or `rest`
output: logits                         # or probabilities
bands: [1, 2, 3]                       # the image file's band that goes into each input channel
mean: [123.7, 116.3, 103.5]            # (value - mean) / std goes into the network, one number an input channel
std: [58.4, 57.1, 57.4]
"""
TYPES = {1: "float32", 10: "float16", 2: "uint8"}  # numbers of onnx.TensorProto
Output = Literal["probabilities", "logits"]


class OnnxInfo(Frozen):
    """What an ONNX network was made for, and how to talk to it.

    Attributes:
        classes: names of all classes.
        channels: the output channels of each class, added up. An empty one is what a single channel leaves of 1.
        bands: bands of the imagery that it is given; `band_numbers` are their numbers (from 1) in the image files.
        order: for each input channel its index in the imagery given.
        mean, std: for each input channel, in the imagery's units: (value - mean) / std goes in.
        output: whether it gives probabilities or logits.
        tile: the only height and width that it takes, pixels; None for any.
        batch: the only number of images that it takes at once; None for any.
        channels_last: input and output are (N, H, W, C).
        input_type: of the numbers that go in.
        outputs: output channels; None where the graph does not say.
        metres_per_pixel: ground resolution of its imagery, None where unknown.
        dtype: of the source imagery.
        fill: (bands,) values that stand for nodata, in the imagery's units.
        parameters: numbers in it that were learnt.
        network, arm, seed, step, sha256: where our own exports come from; the last is of the checkpoint's file.
    """

    classes: tuple[str, ...]
    channels: tuple[tuple[int, ...], ...]
    bands: int
    band_numbers: tuple[int, ...]
    order: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    output: Output
    tile: int | None = None
    batch: int | None = None
    channels_last: bool = False
    input_type: str = "float32"
    outputs: int | None = None
    metres_per_pixel: float | None = None
    dtype: str = "uint8"
    fill: tuple[float, ...]
    parameters: int = 0
    network: NetworkSettings | None = None
    arm: str = ""
    seed: int = 0
    step: int = 0
    sha256: str = ""

    @property
    def logits(self) -> int:
        """Number of maps after the classes were put together: one for two classes, else one a class."""
        return 1 if len(self.classes) == 2 else len(self.classes)

    @property
    def checkpoint_info(self) -> CheckpointInfo:
        """The same facts as of a checkpoint; a foreign network has the architecture 'onnx'."""
        return CheckpointInfo(
            network=self.network or NetworkSettings(architecture="onnx", encoder="foreign"),
            bands=self.bands,
            band_numbers=self.band_numbers,
            classes=self.classes,
            metres_per_pixel=self.metres_per_pixel,
            dtype=self.dtype,
            arm=self.arm,
            seed=self.seed,
            step=self.step,
        )

    def fitted(self, classes: tuple[str, ...], bands: int, band_numbers: tuple[int, ...] | None, path: Path) -> Self:
        """The same network with a collection's classes, by name, and fed with the collection's bands.

        Args:
            classes: of the collection, in its order.
            bands: how many the collection gives.
            band_numbers: their numbers in its image files; None where only their count is known.
            path: for messages.

        Raises:
            CheckpointError: other classes, or a band that the collection does not give.
        """
        where = path if self.network else path.with_suffix(".yaml")
        missing = [name for name in classes if name not in self.classes]
        extra = [name for name in self.classes if name not in classes]
        if missing or extra:
            said = [f"lacks {', '.join(missing)}"] if missing else []
            said += [f"names {', '.join(extra)}, which the collection has not"] if extra else []
            raise CheckpointError(
                f"{where}: `classes` {' and '.join(said)}. The collection has {', '.join(classes)}: give each of them its "
                "output channels, a list of channels where several belong to it, or the word `rest`."
            )
        channels = tuple(self.channels[self.classes.index(name)] for name in classes)
        if band_numbers is None or (self.network is not None and bands == self.bands):  # as with checkpoints
            if bands != self.bands:
                raise CheckpointError(
                    f"{path}: expects {self.bands} bands, but the collection gives {bands}. Set `bands` in collection.yaml."
                )
            band_numbers = self.band_numbers
        wanted = [self.band_numbers[index] for index in self.order]
        absent = sorted(set(wanted) - set(band_numbers))
        if absent:
            raise CheckpointError(
                f"{where}: wants band {', '.join(map(str, absent))} of the image files, but the collection gives the bands "
                f"{', '.join(map(str, band_numbers))}. Set `bands` in collection.yaml or in {where.name}."
            )
        order = tuple(band_numbers.index(number) for number in wanted)
        fill = dict(zip(self.band_numbers, self.fill, strict=True))
        return self.model_copy(
            update={
                "classes": classes,
                "channels": channels,
                "bands": len(band_numbers),
                "band_numbers": band_numbers,
                "order": order,
                "fill": tuple(fill.get(number, 0.0) for number in band_numbers),
            }
        )


class ForeignNetwork(Frozen):
    """The YAML beside a foreign ONNX file. See docs/teachers.md."""

    classes: dict[str, int | tuple[int, ...] | Literal["rest"]] = Field(min_length=2)
    output: Output
    bands: tuple[int, ...] | None = None
    mean: tuple[float, ...] | float = 0.0
    std: tuple[float, ...] | float = 1.0
    divide_by: float = Field(default=1.0, gt=0)
    metres_per_pixel: float | None = Field(default=None, gt=0)
    dtype: str = "uint8"

    @field_validator("bands")
    @classmethod
    def _from_one(cls, bands: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if bands is not None and (not bands or min(bands) < 1):
            raise ValueError("bands are numbered from 1, for example [3, 2, 1]")
        return bands

    @field_validator("std")
    @classmethod
    def _divides(cls, std: tuple[float, ...] | float) -> tuple[float, ...] | float:
        if np.min(np.asarray(std)) <= 0:
            raise ValueError("every number must be above 0")
        return std

    @model_validator(mode="after")
    def _channels(self) -> Self:
        listed = [channel for entry in self.classes.values() if entry != "rest" for channel in as_tuple(entry)]
        if () in self.classes.values():
            raise ValueError("classes: an empty list; name at least one output channel, or write `rest`")
        if listed and min(listed) < 0:
            raise ValueError(f"classes: output channels are numbered from 0, not {min(listed)}")
        twice = [channel for channel, times in Counter(listed).items() if times > 1]
        if twice:
            raise ValueError(f"classes: output channel {twice[0]} belongs to two classes; each needs its own")
        if sum(entry == "rest" for entry in self.classes.values()) > 1:
            raise ValueError("classes: only one class can be the `rest`")
        return self


def as_tuple(value: Any) -> tuple[Any, ...]:
    """One value or several, as several."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


class Graph(Frozen):
    """What the file itself says about its first input and first output."""

    input_shape: tuple[int | None, ...]
    output_shape: tuple[int | None, ...]
    input_type: str
    parameters: int
    metadata: dict[str, str]


def read_info(path: Path) -> OnnxInfo:
    """Read what an ONNX file takes and gives.

    Raises:
        CheckpointError: missing, broken, no network from images to maps, or nothing says what its channels mean.
        SettingsError: the YAML beside it is wrong.
    """
    graph = read_graph(path)
    if KEY in graph.metadata:
        try:
            info = OnnxInfo.model_validate(json.loads(graph.metadata[KEY]))
        except ValueError as error:
            raise CheckpointError(
                f"{path}: what it says about itself is broken or of another version of kdcore. Export it again."
            ) from error
        known = facts(graph, len(info.order), path)
        if known.pop("inputs") != len(info.order):
            raise CheckpointError(f"{path}: says that it takes {len(info.order)} bands, but does not. Export it again.")
        # 8-bit weights do not look like parameters any more; the export counted them before.
        return info.model_copy(update=known | {"parameters": info.parameters or graph.parameters})
    described = path.with_suffix(".yaml")
    if not described.is_file():
        raise CheckpointError(
            f"{path}: does not say what its channels mean. Write a file {described.name} beside it, with lines such as\n{EXAMPLE}"
        )
    return describe(graph, validate(ForeignNetwork, read_yaml(described), str(described)), path)


def describe(graph: Graph, foreign: ForeignNetwork, path: Path) -> OnnxInfo:
    """Put the graph and the YAML beside it together."""
    described = path.with_suffix(".yaml")
    known = facts(graph, len(foreign.bands) if foreign.bands else None, path)
    inputs = known.pop("inputs")
    wanted = foreign.bands or tuple(range(1, inputs + 1))
    if len(wanted) != inputs:
        raise CheckpointError(
            f"{described}: `bands` names {len(wanted)} bands, but {path.name} has {inputs} input channels."
        )
    numbers = tuple(sorted(set(wanted)))
    statistics = {}
    for name, values in (("mean", foreign.mean), ("std", foreign.std)):
        each = as_tuple(values) if isinstance(values, tuple) else (values,) * inputs
        if len(each) != inputs:
            raise SettingsError(f"{described}: {name}: {len(each)} numbers for {inputs} input channels.")
        statistics[name] = tuple(value * foreign.divide_by for value in each)
    fill = dict(zip(wanted, statistics["mean"], strict=True))
    return OnnxInfo(
        classes=tuple(foreign.classes),
        channels=channels_of(foreign, known["outputs"], described, path),
        bands=len(numbers),
        band_numbers=numbers,
        order=tuple(numbers.index(number) for number in wanted),
        mean=statistics["mean"],
        std=statistics["std"],
        output=foreign.output,
        metres_per_pixel=foreign.metres_per_pixel,
        dtype=foreign.dtype,
        fill=tuple(fill[number] for number in numbers),
        **known,
    )


def channels_of(
    foreign: ForeignNetwork, outputs: int | None, described: Path, path: Path
) -> tuple[tuple[int, ...], ...]:
    """The output channels of each class; those of `rest` are all that no other class has."""
    listed = {channel for entry in foreign.classes.values() if entry != "rest" for channel in as_tuple(entry)}
    if outputs is None:
        outputs = max(listed, default=0) + 1
    if max(listed, default=0) >= outputs:
        raise CheckpointError(
            f"{described}: `classes` names the output channel {max(listed)}, but {path.name} has {outputs}, numbered from 0 to {outputs - 1}."
        )
    rest = tuple(channel for channel in range(outputs) if channel not in listed)
    if outputs == 1 and len(foreign.classes) != 2:
        raise CheckpointError(f"{described}: {path.name} has one output channel, so `classes` needs two names.")
    if "rest" in foreign.classes.values() and not rest and outputs > 1:
        raise CheckpointError(
            f"{described}: no output channel is left for the class that is the `rest`; {path.name} has {outputs}."
        )
    return tuple(rest if entry == "rest" else as_tuple(entry) for entry in foreign.classes.values())


def facts(graph: Graph, inputs: int | None, path: Path) -> dict[str, Any]:
    """Layout, sizes and types of a graph from images to maps.

    Args:
        graph: what the file says.
        inputs: input channels, where they are known.
        path: for messages.

    Raises:
        CheckpointError: it is no network from images to maps.
    """
    shape, out = graph.input_shape, graph.output_shape
    for name, sizes in (("input", shape), ("output", out)):
        if len(sizes) != 4:
            raise CheckpointError(
                f"{path}: its first {name} has the shape {show(sizes)}, but a network from images to maps has (batch, channels, height, width)."
            )
    last = has_channels_last(shape, inputs)
    channels, height, width = (shape[3], *shape[1:3]) if last else shape[1:]
    inputs = channels or inputs
    if inputs is None:
        raise CheckpointError(
            f"{path}: does not say how many input channels it has (shape {show(shape)}). Add `bands` to {path.stem}.yaml."
        )
    if height != width:
        raise CheckpointError(
            f"{path}: takes images of {show((height, width))} only. Export it with a square tile, for example 512 x 512."
        )
    return {
        "inputs": inputs,
        "tile": height,
        "batch": shape[0],
        "channels_last": last,
        "input_type": graph.input_type,
        "outputs": out[3] if last else out[1],
        "parameters": graph.parameters,
    }


def has_channels_last(shape: tuple[int | None, ...], inputs: int | None) -> bool:
    """Whether images go in as (N, H, W, C): by the number of channels where it is known, else by the smaller side."""
    first, end = shape[1], shape[3]
    if inputs is not None:
        return end == inputs and first != inputs
    return end is not None and end <= 32 and (first is None or end < first) and end != shape[2]


def show(sizes: tuple[int | None, ...]) -> str:
    """A shape for messages, '?' where any size will do."""
    return f"({', '.join('?' if size is None else str(size) for size in sizes)})"


def read_graph(path: Path) -> Graph:
    """Read an ONNX file's first input and output, and its metadata.

    Raises:
        CheckpointError: missing, broken, or without tensors that are images and maps.
    """
    import onnx

    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file.")
    try:
        model = onnx.load(str(path), load_external_data=False)
        weights = {entry.name for entry in model.graph.initializer}
        inputs = [entry for entry in model.graph.input if entry.name not in weights]
        ends = [entry.type.tensor_type for entry in (inputs[0], model.graph.output[0])]
    except Exception as error:  # protobuf raises several kinds, and an empty file is a model without a graph
        raise CheckpointError(f"{path}: is broken or no ONNX file. Copy it again, or export it anew.") from error
    if ends[0].elem_type not in TYPES:
        raise CheckpointError(
            f"{path}: takes {onnx.TensorProto.DataType.Name(ends[0].elem_type)} numbers; supported are {', '.join(TYPES.values())}."
        )
    if ends[1].elem_type not in (1, 10):
        raise CheckpointError(
            f"{path}: gives {onnx.TensorProto.DataType.Name(ends[1].elem_type)} numbers, as if it named the class of each pixel. "
            "Export the network without its last arg-max, so that it gives logits or probabilities."
        )
    shapes = [
        tuple(size.dim_value if size.HasField("dim_value") and size.dim_value > 0 else None for size in end.shape.dim)
        for end in ends
    ]
    learnt = [entry for entry in model.graph.initializer if entry.data_type in (1, 10, 11, 16)]
    return Graph(
        input_shape=shapes[0],
        output_shape=shapes[1],
        input_type=TYPES[ends[0].elem_type],
        parameters=int(sum(np.prod(entry.dims, dtype=np.int64) for entry in learnt)),
        metadata={entry.key: entry.value for entry in model.metadata_props},
    )
