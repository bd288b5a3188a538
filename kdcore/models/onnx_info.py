"""What an ONNX file takes and gives."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from kdcore.errors import CheckpointError
from kdcore.models.checkpoint import CheckpointInfo
from kdcore.models.onnx_graph import Ending
from kdcore.settings import Frozen, NetworkSettings, check_colour

Output = Literal["probabilities", "logits"]


class OnnxInfo(Frozen):
    """What an ONNX network was made for, and how to talk to it.

    Attributes:
        classes: names of all classes.
        colours: of all classes, '#RRGGBB' or None; empty where nobody said.
        channels: the output channels of each class, added up. An empty one is what a single channel leaves of 1.
        bands: bands of the imagery that it is given; `band_numbers` are their numbers (from 1) in the image files.
        order: for each input channel its index in the imagery given.
        mean, std: for each input channel, in the imagery's units: (value - mean) / std goes in.
        output: whether it gives probabilities or logits.
        tile: the only height and width that it takes, pixels; None for any.
        batch: the only number of images that it takes at once; None for any.
        channels_last: the input is (N, H, W, C).
        maps_channels_last: the output is; None where its shape does not say, and it is taken to be as the input.
        output_index: which of the file's outputs is used.
        ending: how its values come about; see `kdcore.models.onnx_graph.Graph`.
        margin: pixels at each side of a tile that it gives no answer for.
        input_type: of the numbers that go in.
        outputs: output channels; None where the graph does not say.
        optimise: whether ONNX Runtime may rewrite the graph before it runs it.
        metres_per_pixel: ground sample distance of its imagery, None where unknown.
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
    maps_channels_last: bool | None = None
    output_index: int = 0
    ending: Ending = "unknown"
    margin: int = 0
    input_type: str = "float32"
    outputs: int | None = None
    optimise: bool = True
    metres_per_pixel: float | None = Field(default=None, ge=0.001, le=1_000_000)
    dtype: str = "uint8"
    fill: tuple[float, ...]
    colours: tuple[str | None, ...] = ()
    parameters: int = 0
    network: NetworkSettings | None = None
    arm: str = ""
    seed: int = 0
    step: int = 0
    sha256: str = ""

    @model_validator(mode="after")
    def _one_each(self) -> Self:
        if self.colours and len(self.colours) != len(self.classes):
            raise ValueError(f"{len(self.colours)} colours for {len(self.classes)} classes")
        for colour in self.colours:
            if colour is not None:
                check_colour(colour)
        return self

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
            colours=self.colours,
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
        where = path if self.network else described_by(path)
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
                "colours": tuple(self.colours[self.classes.index(name)] for name in classes) if self.colours else (),
                "channels": channels,
                "bands": len(band_numbers),
                "band_numbers": band_numbers,
                "order": order,
                "fill": tuple(fill.get(number, 0.0) for number in band_numbers),
            }
        )


def described_by(path: Path) -> Path:
    """The file beside a foreign network that says what its channels mean: `.yaml`, or `.yml` where only that is there."""
    plain, short = path.with_suffix(".yaml"), path.with_suffix(".yml")
    return short if short.is_file() and not plain.is_file() else plain
