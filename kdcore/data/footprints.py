"""The ground that imagery shows, as polygons, and which of them show the same ground: in two parts of the split, that leaks.

Two footprints of one CRS are compared in it, so that neighbours of one grid, rotated or not, share an edge and nothing else. Of
two CRSs the smaller footprint is brought into the larger one's. An R-tree finds the pairs worth comparing: n log n of n images.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer
from shapely import Polygon, STRtree

from kdcore.data.rasters import to_degrees, transformer
from kdcore.data.scene import Box, Scene
from kdcore.errors import DataError
from kdcore.files import hash_file
from kdcore.settings import SplitName

PIECES = 64  # that an outline is cut into before it is brought into another CRS, where its sides are curves
SLIVER_PIXELS = 1.01  # an overlap up to this wide comes from rounding a place to whole pixels
SLIVER_METRES = 1.0  # likewise, between two CRSs: what transformations of one survey differ by
MOST_OF = 0.5  # of the smaller footprint: an overlap that counts even where it is one pixel wide
Bounds = tuple[float, float, float, float]
Parts = Mapping[SplitName, Sequence[Box]]
"""The rectangles of a scene that belong to each part of the split."""
NOT_SPLIT: frozenset[SplitName] = frozenset()
HELD_BACK: tuple[SplitName, ...] = ("validation", "test")


class Footprint(NamedTuple):
    """The ground under a part of a raster.

    Attributes:
        wkt: of the CRS.
        outline: in it.
        pixel: the shorter side of a pixel, in the CRS's units.
        metres: of a pixel on the ground; None where unknown.
        boxes: that hold it: west, south, east, north in degrees, two where it crosses the date line; in the CRS's units where
            no way leads from the CRS to degrees.
    """

    wkt: str
    outline: Polygon
    pixel: float
    metres: float | None
    boxes: tuple[Bounds, ...]

    @property
    def space(self) -> str:
        """What the boxes can be compared within: the Earth, or the one CRS that leads nowhere else."""
        return self.wkt if to_degrees(self.wkt) is None else ""


def footprint(scene: Scene, box: Box | None = None) -> Footprint | None:
    """The ground under a scene or a rectangle of it; None for one that does not say where it lies."""
    if scene.crs is None or not scene.placed:
        return None
    row, column, height, width = box or scene.box
    corners = ((0, 0), (width, 0), (width, height), (0, height))
    outline = Polygon([scene.transform @ (column + x, row + y) for x, y in corners])
    a, b, _, d, e, _ = tuple(scene.transform)[:6]
    wkt = scene.crs.to_wkt()
    return Footprint(wkt, outline, min(np.hypot(a, d), np.hypot(b, e)), scene.metres_per_pixel, boxes_of(wkt, outline))


def boxes_of(wkt: str, outline: Polygon) -> tuple[Bounds, ...]:
    """Boxes that hold an outline, as in `Footprint`; a little too large rather than too small."""
    way = to_degrees(wkt)
    if way is None:
        return (outline.bounds,)
    longitude, latitude = bring(way, outline)
    known = np.isfinite(longitude) & np.isfinite(latitude)
    if not known.all():  # a picture of the whole Earth, whose corners are beside it
        return ((-180.0, -90.0, 180.0, 90.0),)
    longitude = np.unwrap(longitude, period=360)
    west, east = float(longitude.min()), float(longitude.max())
    south, north = float(latitude.min()), float(latitude.max())
    if abs(longitude[-1] - longitude[0]) > 180:  # it goes once around a pole
        return ((-180.0, south, 180.0, 90.0) if latitude.mean() > 0 else (-180.0, -90.0, 180.0, north),)
    margin = 0.01 * max(east - west, north - south)  # sides between the points are curves
    shift = 360 * np.floor((west + 180) / 360)
    box = (west - shift - margin, south - margin, east - shift + margin, north + margin)
    return (box, (box[0] - 360, box[1], box[2] - 360, box[3])) if box[2] > 180 else (box,)


def bring(way: Transformer, outline: Polygon) -> NDArray[np.float64]:
    """Points along an outline in another CRS, (2, points); infinite where it does not reach."""
    points = shapely.get_coordinates(shapely.segmentize(outline, outline.length / PIECES))
    return np.stack(way.transform(points[:, 0], points[:, 1]))


def same_ground(a: Footprint, b: Footprint) -> bool:
    """Whether two footprints overlap; a shared edge or a sliver of rounding is no overlap."""
    if a.wkt == b.wkt:
        return overlaps(a.outline, b.outline, SLIVER_PIXELS * min(a.pixel, b.pixel))
    if a.space or b.space:  # nobody knows where the two lie to each other
        return False
    small, large = sorted((a, b), key=lambda one: sum((box[2] - box[0]) * (box[3] - box[1]) for box in one.boxes))
    x, y = bring(transformer(small.wkt, large.wkt), small.outline)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return False
    if is_degrees(large.wkt):  # 179 degrees east and 181 west are one place
        x = np.unwrap(x, period=360)
        x += 360 * np.round((large.outline.centroid.x - x.mean()) / 360)
    moved = shapely.make_valid(Polygon(np.stack([x, y], axis=1)))
    pixel = small.pixel * np.sqrt(moved.area / small.outline.area)
    metre = large.pixel / large.metres if large.metres else 0.0
    return overlaps(moved, large.outline, max(SLIVER_PIXELS * min(pixel, large.pixel), SLIVER_METRES * metre))


def overlaps(a: Polygon, b: Polygon, sliver: float) -> bool:
    """Whether two polygons have a part in common that is wider than `sliver`, or most of one of them."""
    common = a.intersection(b)
    if common.is_empty or common.area == 0:
        return False
    return not common.buffer(-sliver / 2).is_empty or common.area > MOST_OF * min(a.area, b.area)


def is_degrees(wkt: str) -> bool:
    """Whether a CRS counts in longitude and latitude."""
    way = to_degrees(wkt)
    return way is not None and way.source_crs is not None and way.source_crs.is_geographic


class Footprints:
    """Many footprints that can be asked which of them show the ground of another one."""

    def __init__(self, footprints: Sequence[Footprint]) -> None:
        self.footprints = footprints
        boxes: dict[str, list[Bounds]] = defaultdict(list)
        self._owners: dict[str, list[int]] = defaultdict(list)
        for index, one in enumerate(footprints):
            boxes[one.space] += one.boxes
            self._owners[one.space] += [index] * len(one.boxes)
        self._trees = {space: STRtree(shapely.box(*np.array(found).T)) for space, found in boxes.items()}

    def showing(self, other: Footprint) -> Iterator[int]:
        """Indices of the footprints that show ground of another one, in order."""
        tree = self._trees.get(other.space)
        if tree is None:
            return
        owners = self._owners[other.space]
        hits = {owners[hit] for box in other.boxes for hit in tree.query(shapely.box(*box))}
        yield from (index for index in sorted(hits) if same_ground(self.footprints[index], other))


def ground_bounds(scene: Scene) -> Bounds | None:
    """West, south, east, north of a scene in degrees; None for one that does not say where on Earth it lies."""
    found = footprint(scene)
    if found is None or found.space:
        return None
    longitude, latitude = bring(transformer(found.wkt, "EPSG:4326"), found.outline)
    return float(longitude.min()), float(latitude.min()), float(longitude.max()), float(latitude.max())


def check_split(owners: Sequence[tuple[Scene, Parts]]) -> None:
    """Refuse scenes that show the same ground in different parts of the split.

    Args:
        owners: every scene that is used, with its rectangles.

    Raises:
        DataError: two scenes leak; names both.
    """
    used = [(scene, frozenset(name for name, boxes in parts.items() if boxes)) for scene, parts in owners]
    for scene, parts, other, others in same_contents(used):
        if parts != others:
            raise DataError(
                f"{scene.image}: has the same contents as {other.image.name} in another part of the split; that leaks. Remove one."
            )
    placed = [(scene, parts, found) for scene, parts in used if (found := footprint(scene)) is not None]
    # Of one part any number may show the same ground, as a time series does: these pairs are never looked at.
    by_parts: dict[frozenset[SplitName], list[int]] = defaultdict(list)
    for index, (_, parts, _) in enumerate(placed):
        by_parts[parts].append(index)
    trees = {parts: Footprints([placed[index][2] for index in found]) for parts, found in by_parts.items()}
    for scene, parts, place in placed:
        for against, tree in trees.items():
            if against == parts and len(parts) == 1:
                continue
            for hit in tree.showing(place):
                other = placed[by_parts[against][hit]][0]
                if other is not scene:
                    raise DataError(
                        f"{scene.image} and {other.image.name} show the same ground but are in different parts of the split; that leaks. "
                        "Put both in one part, or cut the overlap away."
                    )


def check_unlabelled(unlabelled: Iterable[Scene], owners: Sequence[tuple[Scene, Parts]]) -> None:
    """Refuse imagery without labels that shows ground of the validation or test part.

    Args:
        unlabelled: scenes that a student may train with.
        owners: every scene that is used, with its rectangles.

    Raises:
        DataError: a scene leaks; names it and what it shows.
    """
    mend = "Move it out of unlabelled/, or cut that ground away."
    loose = [(scene, NOT_SPLIT) for scene in unlabelled]
    used = [(scene, frozenset(part for part in HELD_BACK if parts[part])) for scene, parts in owners]
    for scene, parts, other, others in same_contents([*used, *loose]):
        if parts is NOT_SPLIT and others:
            raise DataError(
                f"{scene.image}: has the same contents as {other.image.name}, which is in the {min(others)} part; that leaks. {mend}"
            )
    held = [(scene, part, box) for scene, parts in owners for part in HELD_BACK for box in parts[part]]
    placed = [(scene, part, found) for scene, part, box in held if (found := footprint(scene, box)) is not None]
    tree = Footprints([found for _, _, found in placed])
    for scene, _ in loose:
        place = footprint(scene)
        for hit in tree.showing(place) if place else ():
            other, part, _ = placed[hit]
            raise DataError(
                f"{scene.image}: shows ground of {other.image.name}, which is in the {part} part; students would train with what they "
                f"are tested on. {mend}"
            )


def same_contents(
    scenes: Iterable[tuple[Scene, frozenset[SplitName]]],
) -> Iterable[tuple[Scene, frozenset[SplitName], Scene, frozenset[SplitName]]]:
    """Scenes whose files are equal to that of one before them, with that one. Only files of one size are read."""
    sizes: dict[int, list[tuple[Scene, frozenset[SplitName]]]] = defaultdict(list)
    for scene, parts in scenes:
        sizes[scene.image.stat().st_size].append((scene, parts))
    for same_size in sizes.values():
        seen: dict[str, tuple[Scene, frozenset[SplitName]]] = {}
        for scene, parts in same_size if len(same_size) > 1 else []:
            other = seen.setdefault(hash_file(scene.image), (scene, parts))
            if other[0] is not scene:
                yield scene, parts, *other
