"""A prediction on disk: the map of one raster, made in parts that are finished one by one, and put together at the end.

In the folder OUT, for a raster called NAME, while it is being made: `NAME.parts/plan.json` (what is to be done), and for each part
`00007.probabilities.tif`, `00007.classes.tif` and, last, `00007.json`, which says that the part is finished. At the end:
`NAME.probabilities.tif`, `NAME.classes.tif` (Cloud-Optimized GeoTIFFs), `NAME.gpkg`, and, last, `NAME.json`. They are made in `NAME.parts`
and then moved, see `kdcore.ownership`: a file that somebody else put there is never replaced without being asked to.

So a process may die at any moment, several may share the work, and what has its name is whole.
"""

import ctypes
import gc
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from kdcore.data.palette import class_colours
from kdcore.data.scene import Scene
from kdcore.data.writing import writing_raster
from kdcore.errors import DataError, RunError, SettingsError
from kdcore.evaluation.levels import NODATA
from kdcore.files import HALF_WRITTEN, remove_half_written, sha256, write_json, write_text
from kdcore.inference.engines import Engine, Flipped
from kdcore.inference.mapping import Mapper, MappingOptions
from kdcore.inference.source import Source
from kdcore.jobs.locks import held, holding
from kdcore.jobs.store import RunDirectory
from kdcore.models.tiled import make_grid
from kdcore.ownership import check_replaceable
from kdcore.reading import ReadingError, read_bytes, read_json
from kdcore.settings import Frozen

PART_PIXELS = 8_000_000  # about: what a killed process may have to do again
BLOCK = 256  # pixels: of the parts' files
CACHE_MB = "128"  # of GDAL's, instead of a twentieth of the machine's memory
OWN_PART = re.compile(
    rf"plan\.json|(merge|shard-\d+-of-\d+)\.lock|\d{{5,}}\.((probabilities|classes)\.tif|json)|(probabilities|classes)\.tif|{re.escape(HALF_WRITTEN)}.*"
)
"""What a prediction calls its files in the folder of parts."""
Progress = Callable[[int, int], None]
"""Is told pixels done and pixels in all."""
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
    def merge_lock(self) -> Path:
        """Held by whoever puts the parts together."""
        return self.parts / "merge.lock"

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


def plan_prediction(
    raster: Path,
    source: Source,
    model: Sequence[Path],
    engine: Engine,
    options: MappingOptions,
    polygons: PolygonOptions,
) -> Plan:
    """Lay tiles over a raster and cut the work into parts.

    Args:
        raster: its file.
        source: the same, opened.
        model: the network's file, or those of an ensemble.
        engine: the network.
        options: how the raster is looked at.
        polygons: what becomes of the classes.

    Raises:
        SettingsError: a tile or halo that does not fit.
        DataError: polygons are asked for in metres or degrees, but the raster does not say where it lies.
    """
    if polygons.format == "geojson" and not source.scene.on_earth:
        raise DataError(
            f"{raster}: does not say where it lies on Earth, so its polygons have no longitude and latitude. Choose --polygons gpkg."
        )
    if source.scene.metres_per_pixel is None and (polygons.min_area or polygons.simplify):
        raise DataError(
            f"{raster}: does not say where it lies, so its polygons have no metres. Leave out --min-area and --simplify: in pixels."
        )
    margin = getattr(engine.info, "margin", 0)
    if margin > options.halo:
        raise SettingsError(
            f"--halo {options.halo}: the network gives no answer for the outer {margin} px of each tile. "
            f"Choose {margin} or more."
        )
    if engine.tile is not None:
        options = options.model_copy(update={"tile": engine.tile})
    scene, facts, stat = source.scene, engine.info, raster.stat()
    mapper = make_mapper(source, engine, options)
    rows = mapper.grid.rows.count
    step = max(1, round(PART_PIXELS / (mapper.grid.rows.stride * scene.width)))
    parts = tuple((first, min(first + step, rows)) for first in range(0, rows, step))
    colours = facts.colours if len(facts.colours) == len(facts.classes) else (None,) * len(facts.classes)
    return Plan(
        raster=str(raster.absolute()),
        raster_bytes=stat.st_size,
        raster_changed=stat.st_mtime_ns,
        model=", ".join(str(path.absolute()) for path in model),
        model_sha256=", ".join(sha256(path) for path in model),
        engine=engine.name,
        options=options,
        polygons=polygons,
        bands=scene.bands,
        height=scene.height,
        width=scene.width,
        crs=None if scene.crs is None else scene.crs.to_wkt(),
        transform=tuple(scene.transform)[:6],
        metres_per_pixel=scene.metres_per_pixel,
        classes=facts.classes,
        colours=tuple(class_colours(colours)),
        maps=1 if len(facts.classes) == 2 else len(facts.classes),
        parts=parts,
        rows=tuple(mapper.rows_of(first, end) for first, end in parts),
    )


def own_threshold(run: RunDirectory, classes: Sequence[str]) -> float:
    """The threshold that a run chose on its validation split for the second class of two, or 0.5."""
    if len(classes) == 2 and run.report.exists():
        found = run.read_report().get("at_threshold", {}).get(classes[1], {}).get("threshold")
        if isinstance(found, float) and 0 < found < 1:
            return found
    return 0.5


def make_mapper(source: Source, engine: Engine, options: MappingOptions) -> Mapper:
    """What maps a raster's rows of tiles."""
    scene = source.scene
    grid = make_grid(scene.height, scene.width, options.tile, options.halo, fixed=engine.tile is not None)
    return Mapper(Flipped(engine) if options.flips else engine, source.reader, scene, grid, options)


def begin(prediction: Prediction, plan: Plan, overwrite: bool = False) -> bool:
    """Write the plan, or find that the same was begun before.

    Returns:
        Whether everything is finished already.

    Raises:
        RunError: another prediction is there; it is left alone.
        NotOursError: a file of somebody else has the name of one of the results.
    """
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
    elif not overwrite:
        check_parts(prediction)
    if any(held(lock) for lock in prediction.parts.glob("*.lock")):
        raise RunError(
            f"{prediction.parts}: another process works on these parts. Wait for it, or choose another --out."
        )
    remove_parts(prediction)  # parts without a plan are of nothing that is known
    write_text(prediction.plan_file, plan.model_dump_json(indent=1))
    return False


def finished_plan(prediction: Prediction) -> Plan | None:
    """What a finished prediction was made from; None where its manifest is broken."""
    try:
        return Plan.model_validate(read_json(prediction.manifest)["plan"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


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


def make_parts(
    prediction: Prediction,
    plan: Plan,
    source: Source,
    engine: Engine,
    shard: tuple[int, int] = (1, 1),
    progress: Progress = lambda done, total: None,
) -> None:
    """Make what is not finished yet of the parts of one shard: a contiguous share of them.

    Args:
        prediction: where.
        plan: what `begin` wrote.
        source: the raster.
        engine: the network.
        shard: which share, from 1, of how many.
        progress: is told pixels done and pixels in all, of the shard, first of what was finished before; raise in it to stop.

    Raises:
        DataError: the raster is broken somewhere. What is finished stays.
        KdcoreError: the disk is full. What is finished stays.
        RunError: another process makes the same share.
    """
    os.environ.setdefault("GDAL_CACHEMAX", CACHE_MB)  # GDAL asks once, when it first reads or writes pixels
    mapper = make_mapper(source, engine, plan.options)
    mine = share(len(plan.parts), *shard)
    sizes = {index: (plan.rows[index][1] - plan.rows[index][0]) * plan.width for index in mine}
    total = sum(sizes.values())
    lock = prediction.parts / f"shard-{shard[0]}-of-{shard[1]}.lock"
    with holding(lock, f"{prediction.parts}: another process makes this share. Wait for it."):
        if not prediction.plan_file.exists() or prediction.plan != plan:
            raise RunError(
                f"{prediction.parts}: another process has finished or replaced this prediction meanwhile. Start it again to see."
            )
        remove_half_written(prediction.parts)
        unfinished = [index for index in mine if not prediction.part_manifest(index).exists()]
        done = total - sum(sizes[index] for index in unfinished)
        if total:  # a shard of more shards than parts may have nothing to do
            progress(done, total)
        for index in unfinished:

            def more(pixels: int) -> None:
                nonlocal done
                done += pixels
                progress(done, total)

            before = done
            try:
                make_part(prediction, plan, index, mapper, more)
            except DataError as error:
                kept = len(prediction.finished_parts())
                raise DataError(
                    f"{error} {kept} of {len(plan.parts)} parts are finished and kept in {prediction.parts}; "
                    "`kdcore merge --incomplete` makes a map of them."
                ) from error
            done = before + sizes[index]
            progress(done, total)
    give_back_memory()


def give_back_memory() -> None:
    """Return to the system what the allocator keeps of tiles: 0.2 GB that putting the map together would come on top of."""
    gc.collect()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # other C libraries have no such function
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def share(count: int, index: int, shards: int) -> range:
    """The parts of one shard, from 1: contiguous, and together all of them, each once."""
    return range(count * (index - 1) // shards, count * index // shards)


def make_part(prediction: Prediction, plan: Plan, index: int, mapper: Mapper, report: Callable[[int], None]) -> None:
    """Make one part; it is finished when its manifest is there."""
    top, end = plan.rows[index]
    profile = part_profile(mapper.scene, top, end)
    with (
        writing_raster(prediction.part(index, "probabilities"), count=plan.maps, **profile) as levels_file,
        writing_raster(prediction.part(index, "classes"), count=1, **profile) as classes_file,
    ):

        def write(levels: Any, classes: Any, row: int, column: int) -> None:
            levels_file.write(levels, row - top, column)
            classes_file.write(classes[None], row - top, column)

        facts = mapper.map_rows(*plan.parts[index], write, report)
    write_json(prediction.part_manifest(index), {"rows": [top, end]} | facts)


def part_profile(scene: Scene, top: int, end: int) -> dict[str, Any]:
    """How a part's rasters are written: quickly; they are compressed well when they are put together."""
    return {
        "width": scene.width,
        "height": end - top,
        "dtype": "uint8",
        "nodata": NODATA,
        "tiled": True,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
        "compress": "deflate",
        "zlevel": 1,
        "sparse_ok": True,
        "bigtiff": "if_safer",
    }
