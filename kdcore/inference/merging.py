"""From finished parts to the maps of a raster: Cloud-Optimized GeoTIFFs, polygons, and the manifest that says all is there."""

import errno
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError  # what copying raises is of no public kind
from rasterio.errors import RasterioError
from rasterio.windows import Window

from kdcore.data.writing import quick_tiles, without_place_warning
from kdcore.errors import RunError
from kdcore.evaluation.levels import LEVELS, NODATA
from kdcore.files import remove_half_written, replacing, unfinished, write_json
from kdcore.inference.class_maps import classes_tag, colour_table
from kdcore.inference.prediction import MAPS, MapKind, Plan, Prediction, finished_plan, remove_parts
from kdcore.jobs.progress import Report, Stage, counting, ignore
from kdcore.ownership import check_replaceable, is_ours, publish
from kdcore.reading import read_json

BLOCK = 512  # pixels: of the maps
PIECE_ROWS, PIECE_COLUMNS = BLOCK, 8 * BLOCK  # pixels: what is copied and compared at once


def merge(
    prediction: Prediction,
    incomplete: bool = False,
    report: Report = ignore,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Put the parts together, unless another process has done it.

    Args:
        prediction: the raster's; all parts must be finished.
        incomplete: make maps of what is finished, under the name `NAME.incomplete`, and keep the parts.
        report: is told what happens.
        overwrite: replace files of the same names that somebody else wrote.

    Returns:
        What the manifest holds.

    Raises:
        RunError: parts are missing; says how many.
        TakenError: another process is putting it together.
        NotOursError: a file of somebody else has the name of one of the results. The parts are kept.
        KdcoreError: the disk is full. The parts are kept.
    """
    with prediction.turn():
        if not prediction.plan_file.exists() and finished_plan(prediction) is not None:
            values: dict[str, Any] = read_json(prediction.manifest)
            return values
        return merge_in_turn(prediction, incomplete, report, overwrite)


def merge_in_turn(prediction: Prediction, incomplete: bool, report: Report, overwrite: bool) -> dict[str, Any]:
    """As `merge`, while nobody else does."""
    plan = prediction.plan
    there = prediction.finished_parts()
    missing = sorted(set(range(len(plan.parts))) - set(there))
    if missing and not incomplete:
        raise RunError(
            f"{prediction.parts}: {len(missing)} of {len(plan.parts)} parts are missing, the first of rows "
            f"{plan.rows[missing[0]][0]} to {plan.rows[missing[0]][1] - 1}. Start the same prediction again to make them, "
            "or make a map of what is there with --incomplete."
        )
    remove_half_written(prediction.parts)
    target = Prediction(prediction.folder, f"{prediction.name}.incomplete") if missing else prediction
    check_replaceable(target.results(plan), overwrite, inputs=[Path(plan.raster)])
    with unfinished(prediction.parts) as folder:
        made = Prediction(folder, target.name)  # moved to where people look at the very end
        values = make_results(prediction, made, plan, there, report)
        put_in_place(made, target, plan, overwrite)
    if not missing:
        remove_parts(prediction)
    return values


def make_results(
    prediction: Prediction, made: Prediction, plan: Plan, there: list[int], report: Report
) -> dict[str, Any]:
    """Write all that a finished prediction consists of from the parts that are there; gives what its manifest holds."""
    for kind in MAPS:
        write_map(prediction, plan, kind, there, made.map(kind), counting(report, Stage.WRITING_MAP, subject=kind))
    found = [read_part(prediction, index) for index in there]
    missing = sorted(set(range(len(plan.parts))) - set(there))
    objects = None
    if plan.polygons.format != "none":
        from kdcore.inference.polygons import write_polygons  # its libraries take 100 MB, which maps need not carry

        objects = write_polygons(
            made.map("classes"),
            made.folder / f"{made.name}.{plan.polygons.format}",
            layer=made.name,
            names=plan.classes,
            colours=plan.colours,
            background=0 if len(plan.classes) == 2 else None,
            probabilities=made.map("probabilities"),
            min_area_m2=plan.polygons.min_area,
            simplify_metres=plan.polygons.simplify,
            progress=counting(report, Stage.WRITING_POLYGONS),
        )
    pixels = [sum(part["class_pixels"][index] for part in found) for index in range(len(plan.classes))]
    metres = plan.metres_per_pixel
    values = {
        "files": [path.name for path in made.results(plan)[:-1]],
        "complete": not missing,
        "missing_rows": [list(plan.rows[index]) for index in missing],
        "classes": {
            name: {"pixels": count, "hectares": None if metres is None else round(count * metres**2 / 1e4, 4)}
            for name, count in zip(plan.classes, pixels, strict=True)
        },
        "nodata_pixels": sum(part["nodata_pixels"] for part in found),
        "passes": sum(part["passes"] for part in found),
        "objects": objects,
        "made": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "kdcore": version("kdcore"),
        "plan": plan.model_dump(mode="json"),
    }
    write_json(made.manifest, values)
    return values


def put_in_place(made: Prediction, target: Prediction, plan: Plan, overwrite: bool) -> None:
    """Move finished files to where people look, the manifest last; polygons of an earlier format are not left beside them."""
    results = target.results(plan)
    check_replaceable(results, overwrite)
    target.manifest.unlink(missing_ok=True)  # what it says is not true while maps are replaced
    publish(zip(made.results(plan), results, strict=True), overwrite)
    for format in ("gpkg", "geojson"):
        earlier = target.folder / f"{target.name}.{format}"
        if earlier not in results and is_ours(earlier):
            earlier.unlink(missing_ok=True)


def read_part(prediction: Prediction, index: int) -> dict[str, Any]:
    """What a part's manifest holds.

    Raises:
        RunError: it is broken.
    """
    path = prediction.part_manifest(index)
    try:
        values: dict[str, Any] = read_json(path)
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: is broken. Remove it and start the same prediction again.") from error
    return values


def write_map(
    prediction: Prediction, plan: Plan, kind: MapKind, there: list[int], out: Path, progress: Callable[[int, int], None]
) -> None:
    """Write one map as a Cloud-Optimized GeoTIFF and compare it with the parts.

    The parts are first gathered in one plain file, which GDAL's own driver then copies block by block, with overviews in files of
    their own: a raster of any size takes little memory. (From a virtual raster of the parts it took gigabytes.) Overviews
    average probabilities and take the most frequent class.
    """
    options = {
        "compress": "deflate",
        "predictor": "standard" if kind == "probabilities" else "no",
        "blocksize": BLOCK,
        "bigtiff": "if_safer",
        "overview_resampling": "average" if kind == "probabilities" else "mode",
        "sparse_ok": True,
        "num_threads": 2,
    }
    gathered = out.with_name(f"gathered-{out.name}")
    with replacing(out) as temporary, without_place_warning():
        try:
            gather(prediction, plan, kind, there, gathered)
            rasterio.shutil.copy(gathered, temporary, driver="COG", **options)
            compare(temporary, pieces(prediction, plan, kind, there), plan, progress)
        except (RasterioError, CPLE_BaseError) as error:
            raise OSError(errno.ENOSPC, "what was written cannot be read back") from error
        finally:
            gathered.unlink(missing_ok=True)


def gather(prediction: Prediction, plan: Plan, kind: MapKind, there: list[int], out: Path) -> None:
    """Write the parts into one file, with all that it says of itself."""
    classes = kind == "classes"
    profile = {
        "driver": "GTiff",
        "width": plan.width,
        "height": plan.height,
        "count": 1 if classes else plan.maps,
        "dtype": "uint8",
        "nodata": NODATA,
        "crs": plan.crs,
        "transform": Affine(*plan.transform),
        **quick_tiles(BLOCK),
        "photometric": "palette" if classes else "minisblack",
    }
    with rasterio.open(out, "w", **profile) as dataset:
        dataset.update_tags(
            MODEL=", ".join(Path(model).name for model in plan.model.split(", ")),
            MODEL_SHA256=plan.model_sha256,
            SOURCE=Path(plan.raster).name,
            CLASSES=classes_tag(plan.classes),
            MEANING=f"index of the class; {NODATA} is nodata"
            if classes
            else f"probability x {LEVELS - 1}; {NODATA} is nodata",
        )
        if classes:
            dataset.descriptions = ("class",)
            dataset.write_colormap(1, colour_table(plan.colours))
        else:
            dataset.descriptions = (plan.classes[1],) if plan.maps == 1 else plan.classes
            dataset.scales = (1 / (LEVELS - 1),) * plan.maps
        for window, values in pieces(prediction, plan, kind, there):
            if (values != NODATA).any():  # else it stays a hole in the file
                dataset.write(values, window=window)


def pieces(
    prediction: Prediction, plan: Plan, kind: MapKind, there: list[int]
) -> Iterator[tuple[Window, NDArray[np.uint8]]]:
    """The map in pieces of whole blocks, (bands, height, width); what is missing is nodata."""
    count = 1 if kind == "classes" else plan.maps
    with ExitStack() as opened:
        files: dict[int, Any] = {}
        for top in range(0, plan.height, PIECE_ROWS):
            end = min(top + PIECE_ROWS, plan.height)
            here = [index for index in there if plan.rows[index][0] < end and plan.rows[index][1] > top]
            for index in [index for index in files if index not in here]:
                files.pop(index).close()
            for index in here:
                if index not in files:
                    files[index] = opened.enter_context(rasterio.open(prediction.part(index, kind)))
            for left in range(0, plan.width, PIECE_COLUMNS):
                width = min(PIECE_COLUMNS, plan.width - left)
                values = np.full((count, end - top, width), NODATA, dtype=np.uint8)
                for index in here:
                    first, last = plan.rows[index]
                    from_, to = max(first, top), min(last, end)
                    window = Window(left, from_ - first, width, to - from_)
                    values[:, from_ - top : to - top] = files[index].read(window=window)
                yield Window(left, top, width, end - top), values


def compare(
    written: Path,
    expected: Iterable[tuple[Window, NDArray[np.uint8]]],
    plan: Plan,
    progress: Callable[[int, int], None],
) -> None:
    """Read a map back.

    Raises:
        OSError: it is not what the parts hold.
    """
    with rasterio.open(written) as file:
        for window, values in expected:
            if not np.array_equal(file.read(window=window), values):
                raise OSError(errno.ENOSPC, "what was written cannot be read back")
            progress(window.row_off + window.height, plan.height)
