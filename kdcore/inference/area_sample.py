"""A sample of points to look up the truth at, drawn from a map of classes into a GeoPackage for QGIS, and read back with its labels.

The layer `points` is for people: a number and an empty `label` each, in an order that says nothing about the map. The layers `design` and
`strata` keep what makes it a probability sample: each point's stratum and place, and the size of each stratum. A sample that no longer is
what was drawn is refused.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import rasterio
from numpy.typing import NDArray
from rasterio import DatasetReader
from rasterio.windows import Window

from kdcore.data.rasters import open_raster
from kdcore.data.scene import Box
from kdcore.data.vectors import refuse_unsafe
from kdcore.errors import DataError
from kdcore.evaluation.area import Sample, allocate, report
from kdcore.files import sha256
from kdcore.inference.ground_area import PixelAreas
from kdcore.ownership import replacing_own
from kdcore.reading import visible

ROWS = 1024  # of a map that are read at a time
TOUCHES = 1e-6  # of a pixel: how far a point may lie from where it was drawn, for rounding
FORMAT = 1


@dataclass(frozen=True)
class Labelled:
    """A sample with its labels.

    Attributes:
        sample: see `kdcore.evaluation.area.Sample`; areas in hectares.
        classes: their names.
        xs, ys: (n,) places of the points.
        crs: of the places, WKT.
        counted: hectares of each class by counting the pixels of the map that was sampled.
    """

    sample: Sample
    classes: tuple[str, ...]
    xs: NDArray[np.float64]
    ys: NDArray[np.float64]
    crs: str
    counted: tuple[float, ...]


def class_names(dataset: DatasetReader) -> tuple[str, ...]:
    """The classes of a map that kdcore wrote.

    Raises:
        DataError: it does not say what its values mean, or has no place on the ground.
    """
    entries = [entry.strip().partition(" ") for entry in (dataset.tags().get("CLASSES") or "").split(",")]
    if dataset.count != 1 or not all(number == str(index) and name for index, (number, _, name) in enumerate(entries)):
        raise DataError(
            f"{dataset.name}: is no map of classes by kdcore. Name the NAME.classes.tif that `kdcore predict` wrote."
        )
    if dataset.crs is None:
        raise DataError(f"{dataset.name}: is not georeferenced, so its pixels have no area. Map a raster that is.")
    return tuple(visible(name) for _, _, name in entries)


def strips(dataset: DatasetReader) -> Iterator[tuple[Box, NDArray[np.uint8]]]:
    """A map's classes, some rows at a time."""
    for row in range(0, dataset.height, ROWS):
        box = Box(row, 0, min(ROWS, dataset.height - row), dataset.width)
        yield box, dataset.read(1, window=Window(box.column, box.row, box.width, box.height))


def count(dataset: DatasetReader, classes: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pixels and hectares of each class of a map."""
    areas, pixels, hectares = PixelAreas.of(dataset), np.zeros(classes, dtype=np.int64), np.zeros(classes)
    for box, values in strips(dataset):
        inside = values < classes
        pixels += np.bincount(values[inside], minlength=classes)
        hectares += np.bincount(values[inside], areas(box)[inside] / 1e4, minlength=classes)
    return pixels, hectares


def check_geopackage(path: Path) -> None:
    """Refuse another kind of file.

    Raises:
        DataError: the name does not end in .gpkg.
    """
    if path.suffix.lower() != ".gpkg":
        raise DataError(f"{path}: should end in .gpkg.")


def draw(map_file: Path, out: Path, points: int, least: int, seed: int, overwrite: bool = False) -> dict[str, Any]:
    """Draw a stratified random sample of a map's pixels; the strata are its classes.

    Args:
        map_file: `NAME.classes.tif` of a prediction.
        out: the GeoPackage to write.
        points: in all.
        least: for each class that occurs, or all its pixels.
        seed: of the draw.
        overwrite: replace a file that is somebody else's, for example a sample that was labelled.

    Returns:
        For each class its pixels, hectares and points.

    Raises:
        DataError: no map of classes, too few points, or a name that is no GeoPackage's.
        KdcoreError: the file cannot be written.
    """
    check_geopackage(out)
    with open_raster(map_file) as dataset:
        classes = class_names(dataset)
        areas = PixelAreas.of(dataset)
        pixels, hectares = count(dataset, len(classes))
        if not pixels.any():
            raise DataError(f"{map_file}: holds no data at all, so there is nothing to sample.")
        numbers = allocate(pixels.tolist(), points, least)
        rng = np.random.default_rng(seed)
        drawn = pd.concat(
            find(
                dataset,
                [np.sort(rng.choice(size, count, replace=False)) for size, count in zip(pixels, numbers, strict=True)],
            )
        )
        x, y = dataset.transform @ (drawn["column"].to_numpy() + 0.5, drawn["row"].to_numpy() + 0.5)
        at = [
            areas(Box(row, column, 1, 1)).item() / 1e4
            for row, column in zip(drawn["row"], drawn["column"], strict=True)
        ]
        design = drawn.assign(x=x, y=y, hectares=at).sample(frac=1, random_state=seed)
        design.insert(0, "id", range(1, len(design) + 1))
        crs = dataset.crs
    strata = pd.DataFrame(
        {"stratum": range(len(classes)), "name": classes, "pixels": pixels, "hectares": hectares, "points": numbers}
    )
    strata = strata.assign(format=FORMAT, map=visible(map_file.name), map_sha256=sha256(map_file), seed=seed)
    shown = geopandas.GeoDataFrame(
        {"id": design["id"], "label": pd.Series([None] * len(design), index=design.index, dtype=object)},
        geometry=geopandas.points_from_xy(design["x"], design["y"], crs=crs.to_wkt()),
    )
    with replacing_own(out, overwrite) as new:
        pyogrio.write_dataframe(shown, new, driver="GPKG", layer="points")
        for name, table in (("design", design), ("strata", strata)):
            pyogrio.write_dataframe(table, new, driver="GPKG", layer=name, append=True)
    return {
        name: {"pixels": int(p), "hectares": float(h), "points": n}
        for name, p, h, n in zip(classes, pixels, hectares, numbers, strict=True)
    }


def find(dataset: DatasetReader, ranks: Sequence[NDArray[np.int64]]) -> Iterator[pd.DataFrame]:
    """Rows and columns of the pixels that are the so-and-so-many-th of their class."""
    seen = np.zeros(len(ranks), dtype=np.int64)
    for box, values in strips(dataset):
        for stratum, wanted in enumerate(ranks):
            rows, columns = np.nonzero(values == stratum)
            here = wanted[(wanted >= seen[stratum]) & (wanted < seen[stratum] + len(rows))] - seen[stratum]
            seen[stratum] += len(rows)
            yield pd.DataFrame({"stratum": stratum, "row": rows[here] + box.row, "column": columns[here]})


def estimate(path: Path, maps: Mapping[str, Path], confidence: float = 0.95) -> dict[str, Any]:
    """Each class's area from a labelled sample, and how right maps of the same ground are.

    Args:
        path: the sample.
        maps: `NAME.classes.tif` of each map to judge, by any name.
        confidence: of the intervals.

    Returns:
        As `kdcore.evaluation.area.report`, areas in hectares, and `counted`: hectares of each class by counting pixels of the sampled
        map and of each of `maps`.

    Raises:
        DataError: see `read` and `read_maps`.
    """
    labelled = read(path)
    mapped, counted = read_maps(maps, labelled)
    found = report(labelled.sample, labelled.classes, mapped, confidence)
    counts = {"sampled map": labelled.counted} | counted
    found["counted"] = {name: dict(zip(labelled.classes, hectares, strict=True)) for name, hectares in counts.items()}
    return found


def read(path: Path) -> Labelled:
    """Read a sample back with the labels that somebody gave.

    Raises:
        DataError: it was not drawn by `draw`, or is no probability sample any more; points lack a label, or have one that is no class.
    """
    if path.is_file():
        refuse_unsafe(path)
    layers = {str(name) for name, _ in pyogrio.list_layers(path)} if path.is_file() else set()
    if not layers >= {"points", "design", "strata"}:
        raise DataError(
            f"{path}: is no sample that `kdcore area sample` drew. Areas can be estimated from such a one only."
        )
    points, design, strata = (pyogrio.read_dataframe(path, layer=name) for name in ("points", "design", "strata"))
    if int(strata["format"].iloc[0]) != FORMAT:
        raise DataError(f"{path}: was drawn by a later version of kdcore; use that one.")
    check_whole(path, points, design, strata)
    classes = tuple(strata["name"])
    labels = points.set_index("id").loc[design["id"], "label"]
    return Labelled(
        Sample(
            design["stratum"].to_numpy(np.int64),
            numbers_of(path, labels, classes),
            design["hectares"].to_numpy(np.float64),
            strata["pixels"].to_numpy(np.int64),
            len(classes),
        ),
        classes,
        design["x"].to_numpy(np.float64),
        design["y"].to_numpy(np.float64),
        points.crs.to_wkt(),
        tuple(strata["hectares"]),
    )


def check_whole(path: Path, points: geopandas.GeoDataFrame, design: pd.DataFrame, strata: pd.DataFrame) -> None:
    """Refuse a sample with points that were added, taken out or moved."""
    added, lost = set(points["id"]) - set(design["id"]), set(design["id"]) - set(points["id"])
    if added or lost or points["id"].duplicated().any():
        raise DataError(
            f"{path}: {len(lost)} points are gone and {len(added)} were added. A sample whose points somebody chose is no probability "
            "sample, and says nothing about the area. Label the points of the file that was drawn."
        )
    placed = points.set_index("id").loc[design["id"]].geometry
    step = min(
        np.ptp(design["x"]) / max(1, np.ptp(design["column"])), np.ptp(design["y"]) / max(1, np.ptp(design["row"]))
    )
    away = np.hypot(placed.x.to_numpy() - design["x"].to_numpy(), placed.y.to_numpy() - design["y"].to_numpy())
    moved = design["id"][away > TOUCHES * max(step, 1e-12)]
    if len(moved):
        raise DataError(
            f"{path}: {len(moved)} points were moved, for example {moved.iloc[0]}. Label them where they were drawn."
        )
    if strata["points"].tolist() != design["stratum"].value_counts().reindex(strata["stratum"], fill_value=0).tolist():
        raise DataError(f"{path}: the layer `design` was changed. Use the file that was drawn.")


def numbers_of(path: Path, labels: "pd.Series[Any]", classes: Sequence[str]) -> NDArray[np.int64]:
    """Class numbers of labels: names, in capitals or not."""
    known = {name.casefold(): index for index, name in enumerate(classes)}
    texts = labels.fillna("").astype(str).str.strip()
    missing = texts.index[texts == ""]
    if len(missing):
        raise DataError(
            f"{path}: {len(missing)} of {len(texts)} points have no label, for example {missing[0]}. Give each one: points that are left out "
            "because they are hard make the estimate wrong."
        )
    strange = texts[~texts.str.casefold().isin(known)]
    if len(strange):
        raise DataError(
            f"{path}: point {strange.index[0]} has the label {strange.iloc[0][:60]!r}; the classes are {', '.join(classes)}."
        )
    return texts.str.casefold().map(known).to_numpy().astype(np.int64)


def read_maps(
    maps: Mapping[str, Path], sample: Labelled
) -> tuple[dict[str, NDArray[np.int64]], dict[str, tuple[float, ...]]]:
    """Classes of other maps at the points, and the hectares of each class by counting their pixels.

    Raises:
        DataError: other classes, another coordinate system, or a map that has no data at a point.
    """
    found, counted = {}, {}
    for name, file in maps.items():
        with open_raster(file) as dataset:
            if class_names(dataset) != sample.classes:
                raise DataError(
                    f"{file}: has the classes {', '.join(class_names(dataset))}, the sample {', '.join(sample.classes)}."
                )
            if dataset.crs != rasterio.crs.CRS.from_wkt(sample.crs):
                raise DataError(
                    f"{file}: lies in another coordinate system than the sample. Map the same raster with both networks."
                )
            values = np.array(
                [value.item() for value in dataset.sample(zip(sample.xs, sample.ys, strict=True))], dtype=np.int64
            )
            if (values >= len(sample.classes)).any():
                raise DataError(
                    f"{file}: has no data at {np.count_nonzero(values >= len(sample.classes))} of the points. Map the whole area."
                )
            _, hectares = count(dataset, len(sample.classes))
        found[name], counted[name] = values, tuple(hectares.tolist())
    return found, counted
