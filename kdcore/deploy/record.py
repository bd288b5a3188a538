"""What is known about using a study's networks, in `deploy.json` of a deployment's folder. Never imports torch."""

from pathlib import Path
from typing import Literal

from kdcore.bounded import remembered
from kdcore.errors import RunError
from kdcore.reading import read_bytes
from kdcore.settings import Arm, Frozen

INDEX = "deploy.json"

EngineName = Literal["torch", "onnxruntime", "openvino", "openvino-bf16"]
Kind = Literal["torch", "onnx", "bf16", "int8"]
IN_BFLOAT16 = " in bfloat16"
"""What follows a file's name where its network is run in bfloat16."""


class EngineSpeed(Frozen):
    """One engine, measured on this machine.

    Attributes:
        milliseconds: median for one tile.
        megapixels_per_second: of the tile, reading and writing left out.
        slowest, fastest: the same of single rounds, whose spread is what a disturbed machine makes of it; None in older records.
        peak_mb: largest memory of a process that does nothing else, the engine's libraries included.
        watts: mean power of the processor or GPU meanwhile; None where the machine does not tell.
    """

    engine: EngineName
    device: str
    milliseconds: float
    megapixels_per_second: float
    slowest: float | None = None
    fastest: float | None = None
    peak_mb: float
    watts: float | None = None


class Difference(Frozen):
    """Mean AP of a form minus that of the torch network it was made from, in points, with a 95 % interval."""

    points: float
    low: float
    high: float


class Form(Frozen):
    """One network in one file format, or in one kind of numbers.

    Attributes:
        arm, run: where it comes from, for example 'distilled', 'distilled-s0'.
        kind: the checkpoint itself, its ONNX export, the same file as OpenVINO runs it in bfloat16, or an export with 8-bit integers.
        file: its name in the deployment's folder, for bfloat16 that of the export; empty for a checkpoint, and for a form that was refused.
        megabytes: of the file.
        parameters: of the network.
        macs_per_pixel: multiply-accumulates for one pixel.
        mean_ap, mean_iou: on the test split; None where there was none to score on.
        difference: against the torch form on the validation split; None for the torch form itself.
        flips: share of pixels whose label differs from the torch form's on real tiles; None for the torch form itself.
        largest_difference: of the probabilities on those tiles.
        refused: why this form is not offered, with the numbers; empty where it is.
        speeds: of each engine that ran it, fastest first.
    """

    arm: Arm
    run: str
    kind: Kind
    file: str = ""
    megabytes: float
    parameters: int
    macs_per_pixel: float
    mean_ap: float | None = None
    mean_iou: float | None = None
    difference: Difference | None = None
    flips: float | None = None
    largest_difference: float | None = None
    refused: str = ""
    speeds: tuple[EngineSpeed, ...] = ()


class Deployment(Frozen):
    """Every form of a study's networks: of the teacher, and of the first seed's students.

    Attributes:
        study: its id.
        machine: the processor or GPU in words; `threads` that were used.
        tile: side of the tiles, pixels.
        metres_per_pixel: ground sample distance of the imagery; None where unknown.
        measured: seconds since 1970.
        versions: of torch, onnxruntime, openvino.
        margin: points of mean AP that an int8 or a bfloat16 form may lose.
        forms: all of them, refused ones too.
    """

    study: str
    machine: str
    threads: int
    tile: int
    metres_per_pixel: float | None
    measured: float
    versions: dict[str, str]
    margin: float
    forms: tuple[Form, ...]

    @classmethod
    def load(cls, folder: Path) -> "Deployment":
        """Read a deployment's folder.

        Raises:
            RunError: nothing was exported yet, or the file is broken.
        """
        try:
            return read_index(folder / INDEX)
        except FileNotFoundError as error:
            raise RunError("Nothing of this study was exported and measured yet.") from error
        except (OSError, ValueError) as error:
            raise RunError(f"{folder / INDEX}: is broken. Remove it, then export again.") from error


@remembered(64)
def read_index(file: Path) -> Deployment:
    """Read a deployment's `deploy.json`, which a page asks for at each click."""
    return Deployment.model_validate_json(read_bytes(file))
