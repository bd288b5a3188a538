"""What an ONNX file takes and gives, read from its graph, and from its own metadata or the YAML beside it."""

from collections import Counter
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from kdcore.errors import CheckpointError, SettingsError
from kdcore.models.onnx_graph import TYPES, End, Ending, Graph, Side, read_graph, show, type_name
from kdcore.models.onnx_info import OnnxInfo, Output, described_by
from kdcore.models.onnx_maps import channels_are_last, margin_of
from kdcore.reading import parse_json
from kdcore.settings import Frozen, read_yaml, validate

EXAMPLE = """\
classes: {background: 0, building: 1}  # each class of the collection: its output channel, a list of them, or `rest`
output: logits                         # or probabilities
bands: [1, 2, 3]                       # the image file's band that goes into each input channel
mean: [123.7, 116.3, 103.5]            # (value - mean) / std goes into the network, one number an input channel
std: [58.4, 57.1, 57.4]
"""
KEY = "kdcore"  # of the metadata in our own exports


class ForeignNetwork(Frozen):
    """The YAML beside a foreign ONNX file. See docs/teachers.md."""

    classes: dict[str, int | tuple[int, ...] | Literal["rest"]] = Field(min_length=2)
    output: Output
    output_name: str | None = None
    bands: tuple[int, ...] | None = None
    mean: tuple[float, ...] | float = 0.0
    std: tuple[float, ...] | float = 1.0
    divide_by: float = Field(default=1.0, gt=0)
    metres_per_pixel: float | None = Field(default=None, ge=0.001, le=1_000_000)
    dtype: str = "uint8"
    optimise: bool = True
    licence: str = Field(default="", max_length=200)
    source: str = Field(default="", max_length=500)

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


def read_info(path: Path) -> OnnxInfo:
    """Read what an ONNX file takes and gives.

    Raises:
        CheckpointError: missing, broken, no network from images to maps, or nothing says what its channels mean.
        SettingsError: the YAML beside it is wrong.
    """
    graph = read_graph(path)
    described = described_by(path)
    if KEY in graph.metadata:
        try:
            info = OnnxInfo.model_validate(parse_json(graph.metadata[KEY], path))
        except ValueError as error:
            raise CheckpointError(
                f"{path}: what it says about itself is broken or of another version of kdcore. Export it again."
            ) from error
        known = facts(graph, info.output_index, len(info.order), info.outputs or info.logits, path)
        if known.pop("inputs") != len(info.order):
            raise CheckpointError(f"{path}: says that it takes {len(info.order)} bands, but does not. Export it again.")
        # 8-bit weights do not look like parameters any more; the export counted them before.
        return info.model_copy(update=known | {"parameters": info.parameters or graph.parameters})
    if not described.is_file():
        raise CheckpointError(
            f"{path}: does not say what its channels mean. Write a file {described.name} beside it, with lines such as\n{EXAMPLE}"
        )
    return describe(graph, validate(ForeignNetwork, read_yaml(described), str(described)), path)


def describe(graph: Graph, foreign: ForeignNetwork, path: Path) -> OnnxInfo:
    """Put the graph and the YAML beside it together."""
    described = described_by(path)
    index = chosen_output(graph, foreign.output_name, path)
    check_ending(graph.endings[index], foreign.output, graph.outputs[index], path)
    listed = [channel for entry in foreign.classes.values() if entry != "rest" for channel in as_tuple(entry)]
    needed = max(listed, default=0) + 1
    known = facts(graph, index, len(foreign.bands) if foreign.bands else None, needed, path)
    check_input(known["input_type"], foreign, described)
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
        optimise=foreign.optimise,
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


def chosen_output(graph: Graph, name: str | None, path: Path) -> int:
    """Which of a file's outputs is used: the one that is named, or the only one that can be maps.

    Raises:
        CheckpointError: there is no output of this name, or several could be meant.
    """
    described = described_by(path)
    names = [end.name for end in graph.outputs]
    shown = ", ".join(f"{end.name} {show(end.shape)}" for end in graph.outputs)[:300]
    if name is not None:
        if name not in names:
            raise CheckpointError(
                f"{described}: output_name: {name[:100]!r} is no output of {path.name}; it has {shown}."
            )
        return names.index(name)
    maps = [index for index, end in enumerate(graph.outputs) if len(end.shape) == 4]
    if len(names) > 1 and len(maps) != 1:
        raise CheckpointError(
            f"{path}: has {len(names)} outputs: {shown}. Say which one is meant: write, for example, `output_name: {names[-1]}` in {described.name}."
        )
    return maps[0] if maps else 0


def check_ending(ending: Ending, output: Output, end: End, path: Path) -> None:
    """Refuse a graph whose last steps show that it gives something else than the YAML says.

    Raises:
        CheckpointError: says what it gives.
    """
    if ending == "labels":
        raise CheckpointError(
            f"{path}: its output {end.name} ({type_name(end.type)}) holds whole numbers, as if it named the class of each pixel. "
            "Export the network without its last arg-max or threshold, so that it gives logits or probabilities."
        )
    if ending == "scaled":
        raise CheckpointError(
            f"{path}: its output {end.name} is a sigmoid or softmax times a number. Export the network without that last multiplication, "
            "so that it gives probabilities from 0 to 1."
        )
    if ending == "probabilities" and output == "logits":
        raise CheckpointError(
            f"{path}: ends with a sigmoid or softmax, so it gives probabilities, not logits. "
            f"Write `output: probabilities` in {described_by(path).name}."
        )


def check_input(kind: str, foreign: ForeignNetwork, described: Path) -> None:
    """Refuse values that the network's type of numbers cannot hold.

    Raises:
        SettingsError: they would be cut off without a word.
    """
    plain = np.all(np.asarray(foreign.mean) == 0) and np.all(np.asarray(foreign.std) * foreign.divide_by == 1)
    if kind == "uint8" and not plain:
        raise SettingsError(
            f"{described}: mean, std and divide_by would make fractions of the values, but the network takes whole numbers (uint8). "
            "Leave them out: such a network scales by itself."
        )
    if kind == "uint8" and foreign.dtype != "uint8":
        raise SettingsError(f"{described}: dtype: {foreign.dtype} values do not fit into the network's input of uint8.")


def facts(graph: Graph, index: int, inputs: int | None, needed: int, path: Path) -> dict[str, Any]:
    """Layout, sizes and types of a graph from images to maps.

    Args:
        graph: what the file says.
        index: of the output.
        inputs: input channels, where they are known.
        needed: output channels, at least.
        path: for messages.

    Raises:
        CheckpointError: it is no network from images to maps.
    """
    shape, out = graph.image.shape, graph.outputs[index].shape
    for name, sizes in (("input", shape), ("output", out)):
        if len(sizes) != 4:
            raise CheckpointError(
                f"{path}: its {name} has the shape {show(sizes)}, but a network from images to maps has (batch, channels, height, width)."
            )
    last = has_channels_last(shape, inputs)
    channels, height, width = (shape[3], *shape[1:3]) if last else shape[1:]
    inputs = channels if isinstance(channels, int) else inputs
    if inputs is None:
        raise CheckpointError(
            f"{path}: does not say how many input channels it has (shape {show(shape)}). Add `bands` to {described_by(path).name}."
        )
    tile, other = (side if isinstance(side, int) else None for side in (height, width))
    if tile != other:
        raise CheckpointError(
            f"{path}: takes images of {show((height, width))} only. Export it with a square tile, for example 512 x 512."
        )
    maps_last = channels_are_last(out, height, width, needed)
    maps = (out[3], *out[1:3]) if (last if maps_last is None else maps_last) else out[1:]
    rows, columns = maps[1:]
    margin = 0
    if isinstance(rows, int) and isinstance(columns, int) and tile is not None:
        margin = margin_of((rows, columns), (tile, tile))
    return {
        "inputs": inputs,
        "tile": tile,
        "batch": shape[0] if isinstance(shape[0], int) else None,
        "channels_last": last,
        "maps_channels_last": maps_last,
        "output_index": index,
        "ending": graph.endings[index],
        "margin": margin,
        "input_type": TYPES[graph.image.type],
        "outputs": maps[0] if isinstance(maps[0], int) else None,
        "parameters": graph.parameters,
    }


def has_channels_last(shape: tuple[Side, ...], inputs: int | None) -> bool:
    """Whether images go in as (N, H, W, C): by the number of channels where it is known, else by the smaller side."""
    first, end = shape[1], shape[3]
    if inputs is not None:
        return end == inputs and first != inputs
    return isinstance(end, int) and end <= 32 and (not isinstance(first, int) or end < first) and end != shape[2]
