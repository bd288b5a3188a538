"""Whether labels lie where their image lies: masks by their georeference, polygons by their coordinates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import rasterio
import shapely
from pyproj import Transformer
from rasterio.crs import CRS

from kdcore.data.rasters import GEOD, open_raster
from kdcore.data.vectors import read_polygons
from kdcore.errors import DataError

if TYPE_CHECKING:
    import geopandas

    from kdcore.data.collection import Collection
    from kdcore.data.scene import Scene

MOST_PIXELS_APART = 1.0  # half a pixel is a usual difference of conventions
MOST_OF_A_CORNER = 0.4  # ten polygons at random places span more of an image
MOST_SENTENCES = 5


def outline(scene: Scene) -> shapely.Polygon:
    """A scene's footprint in its CRS."""
    height, width = scene.native_shape
    return shapely.Polygon(
        [scene.native_transform @ corner for corner in ((0, 0), (width, 0), (width, height), (0, height))]
    )


def refuse_misplaced_mask(mask: rasterio.DatasetReader, scene: Scene) -> None:
    """Refuse a mask of the image's size whose georeference puts its pixels elsewhere.

    Raises:
        DataError: names both origins, and how to put the mask onto the image's grid.
    """
    transform = scene.native_transform
    if mask.transform.is_identity or transform.is_identity or (scene.crs is None and mask.crs is not None):
        return
    height, width = scene.native_shape
    corners = [(0, 0), (width, 0), (width, height), (0, height)]
    points = [transform @ corner for corner in corners]
    if mask.crs is not None and scene.crs is not None and mask.crs != scene.crs:
        try:
            to_mask = Transformer.from_crs(scene.crs.to_wkt(), mask.crs.to_wkt(), always_xy=True)
            points = [to_mask.transform(x, y) for x, y in points]
        except Exception:  # pyproj raises several kinds; a CRS of no place cannot be compared
            return
    there = [~mask.transform @ point for point in points]
    apart = max(float(np.hypot(x - column, y - row)) for (x, y), (column, row) in zip(there, corners, strict=True))
    if apart <= MOST_PIXELS_APART:
        return
    origin, own = transform @ (0, 0), mask.transform @ (0, 0)
    raise DataError(
        f"{mask.name}: the mask does not lie on its image: its origin (first pixel) is {place(own, mask.crs)}, that of "
        f"{scene.image.name} is {place(origin, scene.crs)}; pixels are up to {apart:,.0f} px apart. "
        f"{on_grid(Path(mask.name).name, scene)} If the pixels do belong together as they are, take the mask's georeference "
        f"away: `gdal_edit.py -unsetgt -a_srs '' {Path(mask.name).name}`."
    )


def on_grid(name: str, scene: Scene) -> str:
    """The command that puts a raster onto a scene's grid."""
    transform = scene.native_transform
    if scene.crs is None or transform.b or transform.d:
        return "Export the mask on the image's grid."
    west, south, east, north = outline(scene).bounds
    height, width = scene.native_shape
    code = scene.crs.to_string()
    code = code if code.startswith("EPSG") else f"the CRS of {scene.image.name}"
    return (
        f"Put it onto the image's grid: `gdalwarp -r near -t_srs {code} -te {west:.10g} {south:.10g} {east:.10g} {north:.10g} "
        f"-ts {width} {height} {name} new.tif`."
    )


def place(point: tuple[float, float], crs: CRS | None) -> str:
    """A point and its CRS in words."""
    return f"({number(point[0])}, {number(point[1])}) in {'no CRS' if crs is None else crs_name(crs.to_wkt())}"


def number(value: float) -> str:
    """A coordinate, short."""
    return f"{value:.6f}".rstrip("0").rstrip(".") if abs(value) < 1000 else f"{value:.1f}"


def crs_name(wkt: str) -> str:
    """EPSG code of a CRS, or its name."""
    text = CRS.from_wkt(wkt).to_string()
    return text if text.startswith("EPSG") else wkt.partition('"')[2].partition('"')[0] or "an unknown CRS"


def misplaced(collection: Collection) -> list[str]:
    """Sentences for the labels of a collection that do not lie on their images; of many alike the first and their number."""
    sentences = [*misplaced_masks(collection), *misplaced_vectors(collection)]
    more = len(sentences) - MOST_SENTENCES
    rest = [f"{more} more label files do not lie on their images either."] if more > 0 else []
    return sentences[:MOST_SENTENCES] + rest


def misplaced_masks(collection: Collection) -> Iterator[str]:
    """One sentence for each mask whose georeference is not its image's."""
    for scene in collection.scenes:
        if scene.mask is not None:
            try:
                with open_raster(scene.mask, collection.settings.max_declared_gb) as mask:
                    if mask.shape == scene.native_shape:
                        refuse_misplaced_mask(mask, scene)
            except DataError as error:
                yield str(error)


def misplaced_vectors(collection: Collection) -> Iterator[str]:
    """One sentence for each vector file that lies on none of its images.

    It may serve several images and need not reach all of them. Files that cannot be read are left to the reader.
    """
    files: dict[tuple[Path, bool], list[Scene]] = {}
    for scene in collection.scenes:
        if scene.mask is None and scene.polygons is not None:
            files.setdefault((scene.polygons, False), []).append(scene)
        if scene.area is not None:
            files.setdefault((scene.area, True), []).append(scene)
    for (path, area), scenes in files.items():
        try:
            sources = (
                (scene, collection.reader.area(scene) if area else collection.reader.polygons(scene))
                for scene in scenes
            )
            if not any(source is not None and source.touches(outline(scene)) for scene, source in sources):
                yield elsewhere(path, scenes)
        except DataError:
            continue


def elsewhere(path: Path, scenes: list[Scene]) -> str:
    """Both places of polygons that lie on none of their images, and what would bring them there."""
    frame = read_polygons(path)
    scene = scenes[0]
    name = scene.image.name if len(scenes) == 1 else f"{scene.image.name} or any of {len(scenes) - 1} other images"
    west, south, east, north = frame.total_bounds
    crs = "no CRS" if frame.crs is None else crs_name(frame.crs.to_wkt())
    image = outline(scene).bounds
    distance = apart(frame, scene)
    return (
        f"{path}: none of its {len(frame)} polygons lies on {name}. The polygons are at x {number(west)} to {number(east)}, "
        f"y {number(south)} to {number(north)} in {crs}{degrees(frame)}; the image is at x {number(image[0])} to {number(image[2])}, "
        f"y {number(image[1])} to {number(image[3])} in {'no CRS' if scene.crs is None else crs_name(scene.crs.to_wkt())}"
        f"{degrees(footprint(scene))}{f', {distance / 1000:,.1f} km away' if distance is not None else ''}. {mend(path, frame, scene)}"
    )


class Reading(NamedTuple):
    """Another way to read the coordinates of a file, and how to make it so."""

    frame: geopandas.GeoDataFrame
    mend: str


def readings(path: Path, frame: geopandas.GeoDataFrame, scene: Scene) -> Iterator[Reading]:
    """Usual mistakes undone: axes exchanged, a CRS that is wrong or missing, the other hemisphere."""
    assert scene.crs is not None
    flipped = frame.set_geometry(shapely.transform(frame.geometry.to_numpy(), lambda xy: xy[:, ::-1]), crs=frame.crs)
    own = None if frame.crs is None else frame.crs.to_wkt()
    guesses = [
        scene.crs.to_wkt(),
        "EPSG:4326",
        "EPSG:3857",
        *twins(scene.crs),
        *([] if own is None else twins(CRS.from_wkt(own))),
    ]
    axes = "exchange x and y (QGIS: 'Swap X and Y coordinates')"
    if own is not None:
        yield Reading(
            flipped, f"Their axes are swapped: with x and y exchanged they lie on it; {axes} and save them again."
        )
    for guess in guesses:
        code = guess if guess.startswith("EPSG") else crs_name(guess)
        assign = f"`ogr2ogr -a_srs {code} new{path.suffix} {path.name}`"
        yield Reading(
            frame.set_crs(guess, allow_override=True),
            f"Their CRS is wrong or missing: read as {code} they lie on it; assign it: {assign}.",
        )
    for guess in guesses[:2]:
        code = guess if guess.startswith("EPSG") else crs_name(guess)
        yield Reading(
            flipped.set_crs(guess, allow_override=True),
            f"Read as {code} and with x and y exchanged they lie on it; {axes}, and assign that CRS.",
        )
    for signs, what in (((-1, 1), "x"), ((1, -1), "y"), ((-1, -1), "x and y")):
        if own is not None:
            turned = shapely.transform(frame.geometry.to_numpy(), lambda xy, signs=signs: xy * signs)
            yield Reading(
                frame.set_geometry(turned, crs=frame.crs),
                f"With the sign of {what} changed they lie on it (another hemisphere); correct the coordinates.",
            )


def mend(path: Path, frame: geopandas.GeoDataFrame, scene: Scene) -> str:
    """What would bring the polygons onto the image."""
    shape = outline(scene)
    if scene.crs is not None:
        for reading in readings(path, frame, scene):
            try:
                moved = reading.frame.to_crs(scene.crs.to_wkt())
            except Exception:  # coordinates that do not fit the guessed CRS
                continue
            if moved.geometry.intersects(shape).any():
                return reading.mend
    return "Give the image its own labels, or correct the CRS of one of the two."


def twins(crs: CRS) -> list[str]:
    """The same UTM zone on the other hemisphere, where the CRS is one of WGS 84."""
    code = crs.to_epsg() or 0
    if 32601 <= code <= 32660:
        return [f"EPSG:{code + 100}"]
    return [f"EPSG:{code - 100}"] if 32701 <= code <= 32760 else []


def footprint(scene: Scene) -> geopandas.GeoDataFrame:
    """A scene's outline as a frame of one polygon."""
    import geopandas

    return geopandas.GeoDataFrame(geometry=[outline(scene)], crs=None if scene.crs is None else scene.crs.to_wkt())


def centre(frame: geopandas.GeoDataFrame) -> tuple[float, float] | None:
    """Longitude and latitude of the middle; None where there is none."""
    if frame.crs is None:
        return None
    try:
        points = frame.to_crs("EPSG:4326").total_bounds
    except Exception:  # a CRS of no place
        return None
    x, y = (points[0] + points[2]) / 2, (points[1] + points[3]) / 2
    return (float(x), float(y)) if np.isfinite([x, y]).all() and abs(x) <= 360 and abs(y) <= 90 else None


def degrees(frame: geopandas.GeoDataFrame) -> str:
    """The middle in degrees, in words, where the coordinates are none themselves."""
    middle = centre(frame)
    if middle is None or (frame.crs is not None and frame.crs.is_geographic):
        return ""
    return f" (longitude {middle[0]:.4f}, latitude {middle[1]:.4f})"


def apart(frame: geopandas.GeoDataFrame, scene: Scene) -> float | None:
    """Metres between the middles of polygons and image; None where one has no place."""
    here, there = centre(frame), centre(footprint(scene))
    return None if here is None or there is None else float(GEOD.inv(*here, *there)[2])


def partly_labelled(collection: Collection) -> list[str]:
    """A note where all polygons lie in one corner of their images, which may mean that the rest was never looked at."""
    spans = []
    for scene in collection.scenes:
        if scene.polygons is None or scene.area is not None:
            continue
        try:
            frame = collection.reader.polygons(scene).frame
        except DataError:
            return []
        near = frame.geometry.iloc[frame.sindex.query(outline(scene), predicate="intersects")] if len(frame) else frame
        if near.empty:
            continue
        height, width = scene.native_shape
        corners = shapely.get_coordinates(shapely.box(*near.total_bounds))
        columns, rows = ~scene.native_transform @ (corners[:, 0], corners[:, 1])
        places = np.clip(np.column_stack([columns / width, rows / height]), 0, 1)
        spans.append([len(near), *places.min(axis=0), *places.max(axis=0)])
    if sum(span[0] for span in spans) < 10:
        return []
    low, high = np.array(spans)[:, 1:3].min(axis=0), np.array(spans)[:, 3:].max(axis=0)
    share = float(np.prod(high - low))
    if share > MOST_OF_A_CORNER:
        return []
    return [
        f"all polygons lie within the same {100 * share:.0f} % of their images; if the rest was not labelled, it is learnt as background: "
        "draw the area that was, and name that file in `area_of_interest:`."
    ]


def strays(collection: Collection) -> list[str]:
    """A note on polygons far from all images of their file, of which others lie on one."""
    files: dict[tuple[Path, Path | None], list[Scene]] = {}
    for scene in collection.scenes:
        if scene.mask is None and scene.polygons is not None:
            owner = scene.image if collection.settings.image_field else None  # whose polygons are those that name it
            files.setdefault((scene.polygons, owner), []).append(scene)
    count = total = 0
    worst: tuple[int, str] = (0, "")
    for (path, _), scenes in files.items():
        try:
            sources = [(scene, collection.reader.polygons(scene)) for scene in scenes]
        except DataError:
            return []
        near: set[int] = set()
        for scene, source in sources:
            near.update(source.close_to(outline(scene)))
        drawn = sources[0][1].drawn
        worst = max(worst, (drawn - len(near), path.name))
        count, total = count + drawn - len(near), total + drawn
    if count == 0:
        return []
    return [
        f"{count} of {total} polygons lie on no image of theirs and are not used; {worst[1]} has {worst[0]} of them."
    ]
