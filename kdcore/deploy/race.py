"""The race: how long teacher and student take to map the same ground, tile by tile. Arithmetic on measured times; never imports torch.

A recorded race follows from the speeds of a deployment; a live one is a job that runs both networks on this machine and notes the
time of every tile. Its folder is `race/` of the study, or lies in the workspace where the study is read-only.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import ClassVar, Self

from pydantic import model_validator

from kdcore.deploy.costs import overlap_factor
from kdcore.deploy.folder import StudyJob
from kdcore.deploy.record import EngineName, EngineSpeed
from kdcore.errors import RunError
from kdcore.inference.layer_index import Rectangle, SceneLayers
from kdcore.jobs.study_folder import StudyFolder
from kdcore.jobs.workspace import Workspace
from kdcore.reading import read_bytes
from kdcore.settings import Arm, Frozen

FOLDER, INDEX = "race", "race.json"
READ_ONLY = ".race"  # in the workspace: races of studies that cannot be written to
RACERS: tuple[Arm, Arm] = ("teacher", "distilled")
HALO = 32  # pixels that a network sees around a tile, as predictions have it by default
SIDES = range(128, 449, 64)  # pixels of a tile; the largest is what predictions keep of one of 512
MOST_TILES = 100  # that a person watches
ON_SCREEN = 12.0  # seconds that a race takes there, about


class Lane(Frozen):
    """One network's way over the ground.

    Attributes:
        arm: whose network.
        engine, device: what ran it.
        tiles: row, column, height and width in pixels of the scene, in the order in which they were mapped.
        seconds: at which each tile was finished, counted from the start.
        stand_in: whether a network of the same architecture but with other weights was timed, because the weights are not here.
    """

    arm: Arm
    engine: EngineName
    device: str
    tiles: tuple[Rectangle, ...]
    seconds: tuple[float, ...]
    stand_in: bool = False

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.tiles or len(self.tiles) != len(self.seconds):
            raise ValueError("a time for each tile, and one tile at least")
        if not all(math.isfinite(moment) for moment in self.seconds) or self.seconds[0] <= 0:
            raise ValueError("times are numbers above 0")
        if any(later < earlier for earlier, later in zip(self.seconds, self.seconds[1:], strict=False)):
            raise ValueError("times do not run backwards")
        return self

    @property
    def pixels(self) -> int:
        """Mapped in all."""
        return sum(height * width for _, _, height, width in self.tiles)

    @property
    def duration(self) -> float:
        """Seconds until the last tile is finished."""
        return self.seconds[-1]


class Race(Frozen):
    """Both networks on the same ground.

    Attributes:
        scene: its id.
        metres_per_pixel: on the ground; None where unknown.
        teacher, student: their lanes.
        measured: seconds since 1970.
        live: whether every tile was timed, and not only a speed.
    """

    scene: str
    metres_per_pixel: float | None
    teacher: Lane
    student: Lane
    measured: float
    live: bool = False

    @property
    def faster(self) -> float:
        """How many times as much ground the student maps in the same time; below 1 it is slower."""
        return (self.student.pixels / self.student.duration) / (self.teacher.pixels / self.teacher.duration)

    @property
    def duration(self) -> float:
        """Seconds until both are done."""
        return max(self.teacher.duration, self.student.duration)

    @classmethod
    def load(cls, folder: Path) -> "Race":
        """Read the live race of a folder.

        Raises:
            RunError: there was none yet, or the file is broken.
        """
        try:
            return cls.model_validate_json(read_bytes(folder / INDEX))
        except FileNotFoundError as error:
            raise RunError("No race was run live yet.") from error
        except (OSError, ValueError) as error:
            raise RunError(f"{folder / INDEX}: is broken. Race again.") from error


def course(scene: SceneLayers) -> Rectangle:
    """The ground that is raced over: what the map shows of a scene, and of a large one its middle."""
    row, column, height, width = scene.part
    most = math.isqrt(MOST_TILES) * SIDES[-1]
    tall, wide = min(height, most), min(width, most)
    return row + (height - tall) // 2, column + (width - wide) // 2, tall, wide


def side_of(ground: Rectangle) -> int:
    """Side of a tile in pixels: the smallest of `SIDES` that gives at most `MOST_TILES`."""
    _, _, height, width = ground
    return next(side for side in SIDES if math.ceil(height / side) * math.ceil(width / side) <= MOST_TILES)


def tiles_over(ground: Rectangle, side: int) -> tuple[Rectangle, ...]:
    """Squares of a side in pixels, row by row; those at the lower and right edge are cut off there."""
    top, left, height, width = ground
    return tuple(
        (row, column, min(side, top + height - row), min(side, left + width - column))
        for row in range(top, top + height, side)
        for column in range(left, left + width, side)
    )


def recorded_lane(arm: Arm, speed: EngineSpeed, ground: Rectangle, tile: int) -> Lane:
    """A lane at a speed that was measured once: each tile takes a time that is proportional to its pixels.

    Args:
        arm: whose speed.
        speed: megapixels of the network's own tiles a second.
        ground: what is raced over.
        tile: side in pixels of the tiles of which the speed was measured. They overlap by their halos, so that more pixels are
            looked at than are mapped, see `kdcore.deploy.costs.overlap_factor`.
    """
    squares = tiles_over(ground, side_of(ground))
    a_pixel = overlap_factor(tile, HALO) / (1e6 * speed.megapixels_per_second)
    mapped = accumulate(height * width for _, _, height, width in squares)
    return Lane(
        arm=arm,
        engine=speed.engine,
        device=speed.device,
        tiles=squares,
        seconds=tuple(pixels * a_pixel for pixels in mapped),
    )


def pace(seconds: float) -> float:
    """How many seconds of a race pass within one on screen: 1, 2 or 5 times a power of ten, so that all takes about `ON_SCREEN`."""
    wanted = seconds / ON_SCREEN
    power = math.floor(math.log10(wanted))
    steps = [digit * 10.0**exponent for exponent in (power, power + 1) for digit in (1, 2, 5)]
    return min(steps, key=lambda step: abs(math.log(step / wanted)))


def square_kilometres(pixels: float, metres_per_pixel: float) -> float:
    """Area of pixels of that side in metres."""
    return pixels * metres_per_pixel**2 / 1e6


@dataclass(frozen=True)
class RaceFolder(StudyJob):
    """Reads and writes a live race's folder. Beside the job's files: `race.json`."""

    KIND: ClassVar[str] = "kdcore.deploy.race:RaceFolder"
    WORK: ClassVar[str] = "kdcore.deploy.race_live:run"
    RUNNING: ClassVar[str] = "{id}: its networks are racing already."
    BROKEN: ClassVar[str] = "The state of this race cannot be read. Race again."
    DIED: ClassVar[str] = "its process ended without a word. Race again."
    READ_ONLY: ClassVar[str] = READ_ONLY


def race_folder(workspace: Workspace, study: StudyFolder) -> RaceFolder:
    """The folder of a study's live race, which need not exist yet: inside the study, or in the workspace if it is read-only."""
    return RaceFolder(workspace.path / READ_ONLY / study.id if study.read_only else study.path / FOLDER)


def moments(seconds: Sequence[float]) -> tuple[float, ...]:
    """When each tile was finished, of the time that each took."""
    return tuple(accumulate(seconds))
