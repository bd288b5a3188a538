"""A prediction on disk: the map of one raster, made in parts that are finished one by one, and put together at the end.

In the folder OUT, for a raster called NAME, while it is being made: `NAME.parts/plan.json` (what is to be done), and for each part
`00007.probabilities.tif`, `00007.classes.tif` and, last, `00007.json`, which says that the part is finished. At the end:
`NAME.probabilities.tif`, `NAME.classes.tif` (Cloud-Optimized GeoTIFFs), `NAME.gpkg`, and, last, `NAME.json`. They are made in `NAME.parts`
and then moved, see `kdcore.ownership`: a file that somebody else put there is never replaced without being asked to.

So a process may die at any moment, and what has its name is whole. Several processes share the work: each part has a lock,
`NAME.parts/00007.lock`, and so has the prediction as a whole, `.kdcore-NAME.lock`, while it is begun or put together.
"""

import re
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from kdcore.errors import RunError
from kdcore.files import HALF_WRITTEN, remove_half_written, write_text
from kdcore.inference.mapping import MappingOptions
from kdcore.jobs.locks import held, turn
from kdcore.ownership import check_replaceable
from kdcore.reading import ReadingError, read_bytes, read_json
from kdcore.settings import Frozen

OWN_PART = re.compile(
    rf"plan\.json|shard-\d+-of-\d+\.lock|\d{{5,}}\.((probabilities|classes)\.tif|json|lock)|(probabilities|classes)\.tif|{re.escape(HALF_WRITTEN)}.*"
)
"""What a prediction calls its files in the folder of parts."""
MapKind = Literal["probabilities", "classes"]
MAPS: tuple[MapKind, ...] = ("probabilities", "classes")


class PolygonOptions(Frozen):
    """What becomes of the classes as polygons; see `kdcore.inference.polygons`.

    Attributes:
        format: 'gpkg', 'geojson', or 'none'.
        min_area: smallest object, square metres; smaller ones are left out.
        simplify: how far a line may move, metres; None leaves the pixels' edges.
    """

    format: Literal["gpkg", "geojson", "none"] = "gpkg"
    min_area: float = Field(default=0.0, ge=0)
    simplify: float | None = Field(default=None, gt=0)


class Plan(Frozen):
    """What is to be done, and all that finishing it needs. Two processes with equal plans may share the work.

    Attributes:
        raster, raster_bytes, raster_changed: the file, its size, and when it was changed (nanoseconds since 1970).
        model, model_sha256: the network's file; several with commas where it is an ensemble.
        engine: which library runs it.
        options, polygons: how.
        bands: numbers of the bands that are read.
        height, width: of the map, pixels.
        crs: WKT; None without one.
        transform: column and row to the CRS, (a, b, c, d, e, f).
        metres_per_pixel: of the map, on the ground; None where unknown.
        classes, colours: of all classes.
        maps: bands of probabilities: one for two classes, else one a class.
        parts: the rows of tiles of each part, first and behind the last.
        rows: the map's rows of each part, first and behind the last.
    """

    raster: str
    raster_bytes: int
    raster_changed: int
    model: str
    model_sha256: str
    engine: str
    options: MappingOptions
    polygons: PolygonOptions
    bands: tuple[int, ...]
    height: int
    width: int
    crs: str | None
    transform: tuple[float, float, float, float, float, float]
    metres_per_pixel: float | None
    classes: tuple[str, ...]
    colours: tuple[str, ...]
    maps: int
    parts: tuple[tuple[int, int], ...]
    rows: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Prediction:
    """Where the files of one raster's prediction are."""

    folder: Path
    name: str

    @property
    def parts(self) -> Path:
        """Folder of what is not put together yet."""
        return self.folder / f"{self.name}.parts"

    @property
    def plan_file(self) -> Path:
        """What is to be done."""
        return self.parts / "plan.json"

    @property
    def manifest(self) -> Path:
        """Says that everything is there, and what it is."""
        return self.folder / f"{self.name}.json"

    def map(self, kind: MapKind) -> Path:
        """A finished map."""
        return self.folder / f"{self.name}.{kind}.tif"

    def results(self, plan: "Plan") -> list[Path]:
        """Everything that a finished prediction consists of, the manifest last."""
        objects = [] if plan.polygons.format == "none" else [self.folder / f"{self.name}.{plan.polygons.format}"]
        return [*(self.map(kind) for kind in MAPS), *objects, self.manifest]

    def part(self, index: int, kind: MapKind) -> Path:
        """A part's map."""
        return self.parts / f"{index:05}.{kind}.tif"

    def part_manifest(self, index: int) -> Path:
        """Says that a part is finished, and what it holds."""
        return self.parts / f"{index:05}.json"

    def part_lock(self, index: int) -> Path:
        """Held while a process makes a part."""
        return self.parts / f"{index:05}.lock"

    @property
    def lock(self) -> Path:
        """Held while the prediction is begun or put together."""
        return self.folder / f".kdcore-{self.name}.lock"

    def turn(self) -> AbstractContextManager[None]:
        """Hold the prediction as a whole: to begin it, or to put it together.

        Raises:
            TakenError: another process does so at this moment.
        """
        return turn(self.lock, f"{self.folder / self.name}: another process is putting it together.", patience=0)

    @property
    def plan(self) -> Plan:
        """What is to be done.

        Raises:
            RunError: there is no such prediction, or the file is broken.
        """
        try:
            return Plan.model_validate_json(read_bytes(self.plan_file))
        except (OSError, ValidationError, ReadingError) as error:
            raise RunError(
                f"{self.plan_file}: is missing or broken. Remove the folder {self.parts.name} and predict again."
            ) from error

    def finished_parts(self) -> list[int]:
        """The parts that are finished, in order."""
        return sorted(int(path.stem) for path in self.parts.glob("[0-9]*.json"))


def begin(prediction: Prediction, plan: Plan, overwrite: bool = False) -> bool:
    """Write the plan, or find that the same was begun before.

    Returns:
        Whether everything is finished already.

    Raises:
        RunError: another prediction is there; it is left alone.
        TakenError: another process begins it at this moment, or puts it together.
        NotOursError: a file of somebody else has the name of one of the results.
    """
    with prediction.turn():
        return begin_in_turn(prediction, plan, overwrite)


def begin_in_turn(prediction: Prediction, plan: Plan, overwrite: bool) -> bool:
    """As `begin`, while nobody else does."""
    before = None if overwrite else finished_plan(prediction)
    if before == plan:
        if not prediction.plan_file.exists() or prediction.plan == plan:
            remove_parts(prediction)  # where a process was killed between its results and this
        return True
    if before is not None:
        raise RunError(
            f"{prediction.manifest}: holds another prediction (another raster, network or other options). "
            "Choose another --out, or replace it with --overwrite."
        )
    check_replaceable(
        prediction.results(plan), overwrite, inputs=[Path(plan.raster), *map(Path, plan.model.split(", "))]
    )
    if prediction.plan_file.exists():
        if prediction.plan == plan:
            return False
        if not overwrite:
            raise RunError(
                f"{prediction.parts}: holds an unfinished prediction of another raster or network, with other options, or of a "
                "raster that was changed since. Choose another --out, or start anew with --overwrite."
            )
        busy = [index for index in range(len(prediction.plan.parts)) if held(prediction.part_lock(index))]
        if busy:
            raise RunError(
                f"{prediction.parts}: another process is making part {busy[0]} of another prediction. Stop it first, or choose another --out."
            )
    elif not overwrite:
        check_parts(prediction)
    remove_parts(prediction)  # parts without a plan are of nothing that is known
    write_text(prediction.plan_file, plan.model_dump_json(indent=1))
    return False


def finished_plan(prediction: Prediction) -> Plan | None:
    """What a finished prediction was made from; None where its manifest is broken."""
    try:
        return Plan.model_validate(read_json(prediction.manifest)["plan"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def begun_plan(prediction: Prediction) -> Plan | None:
    """What was begun or is finished; None where neither can be read."""
    try:
        return prediction.plan
    except RunError:
        return finished_plan(prediction)


def own_parts(prediction: Prediction) -> list[Path]:
    """The files in the parts' folder that a prediction wrote; a person may keep others there."""
    if not prediction.parts.is_dir():
        return []
    return [file for file in prediction.parts.iterdir() if OWN_PART.fullmatch(file.name) and not file.is_dir()]


def check_parts(prediction: Prediction) -> None:
    """Refuse a folder that only has the name of a folder of parts.

    Raises:
        RunError: it holds something else.
    """
    own = {file.name for file in own_parts(prediction)}
    found = prediction.parts.iterdir() if prediction.parts.is_dir() else ()
    others = sorted({file.name for file in found if not file.name.startswith(HALF_WRITTEN)} - own)
    if others:
        raise RunError(
            f"{prediction.parts}: holds {others[0]!r}, which is no part of a prediction, so nothing is written there. "
            "Choose another --out."
        )


def remove_parts(prediction: Prediction) -> None:
    """Delete the parts, the plan first: without it the rest is nothing. What somebody else put among them stays, with the folder."""
    prediction.plan_file.unlink(missing_ok=True)
    remove_half_written(prediction.parts)
    for file in own_parts(prediction):
        file.unlink(missing_ok=True)
    with suppress(OSError):  # it is not there, or not empty
        prediction.parts.rmdir()
