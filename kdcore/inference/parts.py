"""Making the parts of a prediction: planned once, then made by any number of processes, each part under a lock of its own."""

import ctypes
import gc
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from kdcore.data.scene import Scene
from kdcore.data.writing import quick_tiles, writing_raster
from kdcore.errors import DataError, SettingsError
from kdcore.evaluation.levels import NODATA
from kdcore.files import remove_half_written, sha256, write_json
from kdcore.inference.engines import Engine, Flipped, TorchEngine
from kdcore.inference.mapping import Mapper, MappingOptions
from kdcore.inference.prediction import Plan, PolygonOptions, Prediction, finished_plan, remove_parts
from kdcore.inference.source import Source
from kdcore.jobs.locks import held, trying
from kdcore.models.checkpoint import CheckpointInfo
from kdcore.models.memory import check_room
from kdcore.models.tiled import make_grid
from kdcore.settings import class_colours

PART_PIXELS = 8_000_000  # about: what a killed process may have to do again
BLOCK = 256  # pixels: of the parts' files
LARGE_TILE = 2048  # pixels of the side up to which nobody asks whether there is memory
CACHE_MB = "128"  # of GDAL's, instead of a twentieth of the machine's memory
Progress = Callable[[int, int], None]
"""Is told pixels done and pixels in all."""


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
    check_tile(engine, min(options.tile, scene.height) * min(options.tile, scene.width), options.tile)
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


def check_tile(engine: Engine, pixels: int, side: int) -> None:
    """Refuse tiles that certainly do not fit into the memory, before anything is written.

    Raises:
        SettingsError: says how much it would be.
    """
    if isinstance(engine, TorchEngine) and isinstance(engine.info, CheckpointInfo) and pixels > LARGE_TILE**2:
        logits = engine.info.logits
        check_room(
            engine.info.network, engine.info.bands, logits, engine.batch * pixels, False, f"--tile {side}", engine.free
        )


def make_mapper(source: Source, engine: Engine, options: MappingOptions) -> Mapper:
    """What maps a raster's rows of tiles."""
    scene = source.scene
    grid = make_grid(scene.height, scene.width, options.tile, options.halo, fixed=engine.tile is not None)
    return Mapper(Flipped(engine) if options.flips else engine, source.reader, scene, grid, options)


def make_parts(
    prediction: Prediction,
    plan: Plan,
    source: Source,
    engine: Engine,
    progress: Progress = lambda done, total: None,
) -> bool:
    """Make every part that is neither finished nor being made by another process.

    Args:
        prediction: where.
        plan: what `begin` wrote.
        source: the raster.
        engine: the network.
        progress: is told pixels done, whoever did them, and pixels in all, first of what was finished before; raise in it to stop.

    Returns:
        Whether all parts are finished; if not, other processes make those that are missing.

    Raises:
        DataError: the raster is broken somewhere. What is finished stays.
        KdcoreError: the disk is full. What is finished stays.
    """
    os.environ.setdefault("GDAL_CACHEMAX", CACHE_MB)  # GDAL asks once, when it first reads or writes pixels
    mapper = make_mapper(source, engine, plan.options)
    remove_half_written(prediction.parts)
    sizes = [(end - top) * plan.width for top, end in plan.rows]
    done = sum(sizes[index] for index in prediction.finished_parts())
    progress(done, sum(sizes))

    def more(pixels: int) -> None:
        nonlocal done
        done += pixels
        progress(done, sum(sizes))

    for index in unfinished_parts(prediction, plan):
        with trying(prediction.part_lock(index)) as ours:
            if not ours or prediction.part_manifest(index).exists():
                continue
            if not prediction.plan_file.exists():  # all was put together and tidied up a moment ago
                remove_parts(prediction)
                return True
            try:
                make_part(prediction, plan, index, mapper, more)
            except DataError as error:
                raise DataError(
                    f"{error} {len(prediction.finished_parts())} of {len(plan.parts)} parts are finished and kept in "
                    f"{prediction.parts}; the same command with --incomplete makes a map of them."
                ) from error
        done = sum(sizes[index] for index in prediction.finished_parts())
        progress(done, sum(sizes))
    give_back_memory()
    return not unfinished_parts(prediction, plan)


def unfinished_parts(prediction: Prediction, plan: Plan) -> list[int]:
    """The parts that are not finished, in order; none once the prediction was put together."""
    if finished_plan(prediction) == plan:
        return []
    there = set(prediction.finished_parts())
    return [index for index in range(len(plan.parts)) if index not in there]


def something_to_do(prediction: Prediction, plan: Plan) -> bool:
    """Whether some part is neither finished nor being made, or all are finished and nobody puts them together."""
    missing = unfinished_parts(prediction, plan)
    locks = [prediction.part_lock(index) for index in missing] or [prediction.lock]
    return not all(held(lock) for lock in locks)


def give_back_memory() -> None:
    """Return to the system what the allocator keeps of tiles: 0.2 GB that putting the map together would come on top of."""
    gc.collect()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # other C libraries have no such function
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def make_part(prediction: Prediction, plan: Plan, index: int, mapper: Mapper, report: Callable[[int], None]) -> None:
    """Make one part, whose lock is ours; it is finished when its manifest is there."""
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
        **quick_tiles(BLOCK),
    }
