"""From finished parts to the maps of a raster: Cloud-Optimized GeoTIFFs, polygons, and the manifest that says all is there."""

import errno
import json
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import rasterio
import rasterio.shutil
from rasterio._err import CPLE_BaseError  # what copying raises is of no public kind
from rasterio.errors import RasterioError
from rasterio.windows import Window

from kdcore.data.writing import without_place_warning
from kdcore.errors import RunError
from kdcore.evaluation.scores import LEVELS, NODATA
from kdcore.files import replacing, write_json, write_text
from kdcore.inference.polygons import write_polygons
from kdcore.inference.prediction import MAPS, MapKind, Plan, Prediction, remove_parts

PIECE = 2048  # pixels: what is compared at once

Stage = Callable[[str], Callable[[int, int], None]]
"""Gives a callback for a stage with this name."""


def merge(
    prediction: Prediction, incomplete: bool = False, stage: Stage = lambda name: lambda done, total: None
) -> dict[str, Any]:
    """Put the parts together.

    Args:
        prediction: the raster's; all parts must be finished.
        incomplete: make maps of what is finished, under the name `NAME.incomplete`, and keep the parts.
        stage: is told what happens.

    Returns:
        What the manifest holds.

    Raises:
        RunError: parts are missing; says how many.
        KdcoreError: the disk is full. The parts are kept.
    """
    plan = prediction.plan
    there = prediction.finished_parts()
    missing = sorted(set(range(len(plan.parts))) - set(there))
    if missing and not incomplete:
        raise RunError(
            f"{prediction.parts}: {len(missing)} of {len(plan.parts)} parts are missing, the first of rows "
            f"{plan.rows[missing[0]][0]} to {plan.rows[missing[0]][1] - 1}. Start the same prediction again to make them, "
            "or make a map of what is there with --incomplete."
        )
    target = Prediction(prediction.folder, f"{prediction.name}.incomplete") if missing else prediction
    for kind in MAPS:
        write_map(prediction, plan, kind, there, target.map(kind), stage(f"writing {kind}"))
    found = [read_part(prediction, index) for index in there]
    files = [target.map(kind).name for kind in MAPS]
    objects = None
    if plan.polygons.format != "none":
        out = target.folder / f"{target.name}.{plan.polygons.format}"
        objects = write_polygons(
            target.map("classes"),
            out,
            names=plan.classes,
            colours=plan.colours,
            background=0 if len(plan.classes) == 2 else None,
            probabilities=target.map("probabilities"),
            min_area_m2=plan.polygons.min_area,
            simplify_metres=plan.polygons.simplify,
            progress=stage("writing polygons"),
        )
        files.append(out.name)
    pixels = [sum(part["class_pixels"][index] for part in found) for index in range(len(plan.classes))]
    metres = plan.metres_per_pixel
    values = {
        "files": files,
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
    write_json(target.manifest, values)
    if not missing:
        remove_parts(prediction)
    return values


def read_part(prediction: Prediction, index: int) -> dict[str, Any]:
    """What a part's manifest holds.

    Raises:
        RunError: it is broken.
    """
    path = prediction.part_manifest(index)
    try:
        values: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: is broken. Remove it and start the same prediction again.") from error
    return values


def write_map(
    prediction: Prediction, plan: Plan, kind: MapKind, there: list[int], out: Path, progress: Callable[[int, int], None]
) -> None:
    """Write one map as a Cloud-Optimized GeoTIFF and compare it with the parts.

    GDAL's own driver makes it from a virtual raster of the parts, block by block, with overviews in files of their own: a
    raster of any size takes little memory. Overviews average probabilities and take the most frequent class.
    """
    virtual = prediction.parts / f"{kind}.vrt"
    write_text(virtual, virtual_raster(prediction, plan, kind, there))
    options = {
        "compress": "deflate",
        "predictor": "standard" if kind == "probabilities" else "no",
        "blocksize": 512,
        "bigtiff": "if_safer",
        "overview_resampling": "average" if kind == "probabilities" else "mode",
        "sparse_ok": True,
        "num_threads": 2,
    }
    with replacing(out) as temporary, without_place_warning():
        try:
            rasterio.shutil.copy(virtual, temporary, driver="COG", **options)
            compare(virtual, temporary, progress)
        except (RasterioError, CPLE_BaseError) as error:
            raise OSError(errno.ENOSPC, "what was written cannot be read back") from error
        finally:
            for left in out.parent.glob(f"{temporary.name}*.tmp*"):  # GDAL's own overviews, after an error
                left.unlink(missing_ok=True)


def compare(virtual: Path, written: Path, progress: Callable[[int, int], None]) -> None:
    """Read a map back.

    Raises:
        OSError: it is not what the parts hold.
    """
    with rasterio.open(virtual) as parts, rasterio.open(written) as file:
        windows = [
            Window(column, row, min(PIECE, file.width - column), min(PIECE, file.height - row))
            for row in range(0, file.height, PIECE)
            for column in range(0, file.width, PIECE)
        ]
        for done, window in enumerate(windows):
            if not np.array_equal(parts.read(window=window), file.read(window=window)):
                raise OSError(errno.ENOSPC, "what was written cannot be read back")
            progress(done + 1, len(windows))


def virtual_raster(prediction: Prediction, plan: Plan, kind: MapKind, there: list[int]) -> str:
    """A GDAL virtual raster (VRT) of the parts; what is missing is nodata."""
    bands = range(1, plan.maps + 1) if kind == "probabilities" else (1,)
    names = [plan.classes[1]] if plan.maps == 1 else list(plan.classes)
    place = ""
    if plan.crs is not None:
        a, b, c, d, e, f = plan.transform
        place = f"<SRS>{escape(plan.crs)}</SRS><GeoTransform>{c!r},{a!r},{b!r},{f!r},{d!r},{e!r}</GeoTransform>"
    tags = {
        "KDCORE_MODEL": ", ".join(Path(model).name for model in plan.model.split(", ")),
        "KDCORE_MODEL_SHA256": plan.model_sha256,
        "KDCORE_SOURCE": Path(plan.raster).name,
        "KDCORE_CLASSES": ", ".join(f"{index} {name}" for index, name in enumerate(plan.classes)),
        "KDCORE_MEANING": (
            f"probability x {LEVELS - 1}; {NODATA} is nodata"
            if kind == "probabilities"
            else "index of the class; 255 is nodata"
        ),
    }
    metadata = "".join(f"<MDI key={quoteattr(key)}>{escape(value)}</MDI>" for key, value in tags.items())
    parts = []
    for band in bands:
        if kind == "probabilities":
            about = f"<Description>{escape(names[band - 1])}</Description><Scale>{1 / (LEVELS - 1)!r}</Scale>"
        else:
            about = f"<Description>class</Description><ColorInterp>Palette</ColorInterp>{colour_table(plan.colours)}"
        sources = "".join(
            f'<SimpleSource><SourceFilename relativeToVRT="1">{escape(prediction.part(index, kind).name)}</SourceFilename>'
            f"<SourceBand>{band}</SourceBand>"
            f'<SrcRect xOff="0" yOff="0" xSize="{plan.width}" ySize="{end - top}"/>'
            f'<DstRect xOff="0" yOff="{top}" xSize="{plan.width}" ySize="{end - top}"/></SimpleSource>'
            for index in there
            for top, end in [plan.rows[index]]
        )
        parts.append(
            f'<VRTRasterBand dataType="Byte" band="{band}" blockXSize="512" blockYSize="512">'
            f"<NoDataValue>{NODATA}</NoDataValue>{about}{sources}</VRTRasterBand>"
        )
    return (
        f'<VRTDataset rasterXSize="{plan.width}" rasterYSize="{plan.height}">{place}<Metadata>{metadata}</Metadata>'
        f"{''.join(parts)}</VRTDataset>"
    )


def colour_table(colours: tuple[str, ...]) -> str:
    """The classes' colours; what is no class is transparent."""
    entries = []
    for index in range(256):
        colour = colours[index] if index < len(colours) else "#000000"
        red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
        opacity = 255 if index < len(colours) else 0
        entries.append(f'<Entry c1="{red}" c2="{green}" c3="{blue}" c4="{opacity}"/>')
    return f"<ColorTable>{''.join(entries)}</ColorTable>"
