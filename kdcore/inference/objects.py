"""The objects of a map of classes, as polygons in pixels: found piece by piece, and joined where a piece's border cuts them.

An object is a set of pixels of one class that touch along their sides. Memory holds one piece and the objects that are still
cut by a border beyond which nothing was read yet.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import shapes
from scipy import ndimage

from kdcore.data.scene import Box

NOBODY = -1


@dataclass
class Object:
    """One object, or what is known of it so far.

    Attributes:
        class_index: its class.
        pixels: how many it has.
        area: square metres; NaN where the raster has no place.
        level: sum of its pixels' probabilities.
        parts: polygons (x = column, y = row) that it consists of, in pixels.
        holes: rings that are cut out of it and that no border of a piece touches.
    """

    class_index: int
    pixels: int
    area: float
    level: float
    parts: list[Any]
    holes: list[Any] = field(default_factory=list)

    def swallow(self, other: "Object") -> None:
        """Take over what belongs to the same object."""
        self.pixels += other.pixels
        self.area += other.area
        self.level += other.level
        self.parts += other.parts
        self.holes += other.holes

    @property
    def outline(self) -> Any:
        """Its polygon; holes are holes."""
        whole = self.parts[0]
        if len(self.parts) > 1:
            whole = shapely.simplify(shapely.union_all(self.parts), 0)  # 0: points on straight sides go
        return shapely.Polygon(whole.exterior, [*whole.interiors, *self.holes]) if self.holes else whole

    @property
    def points(self) -> int:
        """How many points its polygon has, about."""
        return int(shapely.get_num_coordinates([*self.parts, *self.holes]).sum())


class Objects:
    """Takes the pieces of a raster row by row and gives the objects that are complete.

    Args:
        height, width: of the raster, pixels.
        skipped: classes that are no objects, such as nodata and the background.
        least_area: objects with fewer square metres are left out.
    """

    def __init__(self, height: int, width: int, skipped: Sequence[int], least_area: float = 0.0) -> None:
        self.height, self.width = height, width
        self.skipped, self.least_area = tuple(skipped), least_area
        self._above = np.full(width, NOBODY, dtype=np.int64)  # whose the lowest pixels are that were read
        self._left = np.empty(0, dtype=np.int64)  # whose the pixels left of the next piece are
        self._parents: dict[int, int] = {}
        self._open: dict[int, Object] = {}
        self._next = 0

    def add(
        self,
        box: Box,
        classes: NDArray[np.uint8],
        areas: NDArray[np.float64] | None = None,
        levels: NDArray[np.float64] | None = None,
        grid: tuple[float, float] | None = None,
    ) -> Iterator[Object]:
        """Give the objects that lie inside a piece, and keep those that its borders cut.

        Args:
            box: where the piece lies; pieces come from left to right, then from top to bottom, all of a row equally high.
            classes: (height, width) class of each pixel.
            areas: (height, width) square metres of each pixel.
            levels: (height, width) probability of each pixel's class.
            grid: width and height of a pixel in tolerances of the simplification; None keeps the pixels' outlines.
        """
        labels, class_of = components(classes, () if grid else self.skipped)
        count = len(class_of)
        edge = self._on_edge(box, labels, count)
        pixels = np.bincount(labels.ravel(), minlength=count)
        area = np.full(count, np.nan) if areas is None else np.bincount(labels.ravel(), areas.ravel(), count)
        level = np.zeros(count) if levels is None else np.bincount(labels.ravel(), levels.ravel(), count)
        kept = ~np.isin(class_of, self.skipped) & (edge | ~(area < self.least_area))
        kept[0] = False
        names = np.full(count, NOBODY, dtype=np.int64)
        names[kept & edge] = self._next + np.arange((kept & edge).sum())
        self._next += int((kept & edge).sum())
        for label, outline in outlines(labels, kept, box, grid):
            found = Object(int(class_of[label]), int(pixels[label]), float(area[label]), float(level[label]), [outline])
            if names[label] == NOBODY:
                yield found
            else:
                self._open[int(names[label])] = put_holes_aside(found, box)
        self._join(box, names[labels[0]], names[labels[:, 0]])
        self._above[box.column : box.column + box.width] = names[labels[-1]]
        self._left = names[labels[:, -1]]

    def end_row(self, last: bool = False) -> Iterator[Object]:
        """Give the objects that reach no pixel any more that is still to be read; to be called after each row of pieces."""
        names, places = np.unique(self._above, return_inverse=True)
        owners = np.array([self._owner(int(name)) if name != NOBODY else NOBODY for name in names])
        self._above = owners[places]
        waiting = set() if last else set(owners.tolist())
        self._parents = {}  # all who are still open are their own owners now
        for name in [name for name in self._open if name not in waiting]:
            found = self._open.pop(name)
            if not found.area < self.least_area:
                yield found

    def _on_edge(self, box: Box, labels: NDArray[np.int32], count: int) -> NDArray[np.bool_]:
        """Which components lie on a border behind which the raster goes on."""
        edge = np.zeros(count, dtype=bool)
        if box.row > 0:
            edge[labels[0]] = True
        if box.row + box.height < self.height:
            edge[labels[-1]] = True
        if box.column > 0:
            edge[labels[:, 0]] = True
        if box.column + box.width < self.width:
            edge[labels[:, -1]] = True
        return edge

    def _join(self, box: Box, top: NDArray[np.int64], left: NDArray[np.int64]) -> None:
        pairs = [np.stack([self._above[box.column : box.column + box.width], top])]
        if box.column > 0:
            pairs.append(np.stack([self._left, left]))
        both = np.concatenate(pairs, axis=1)
        for one, other in np.unique(both[:, (both != NOBODY).all(axis=0)], axis=1).T.tolist():
            first, second = self._owner(one), self._owner(other)
            if first == second or self._open[first].class_index != self._open[second].class_index:
                continue
            if len(self._open[first].parts) < len(self._open[second].parts):
                first, second = second, first
            self._open[first].swallow(self._open.pop(second))
            self._parents[second] = first

    def _owner(self, name: int) -> int:
        owner = name
        while owner in self._parents:
            owner = self._parents[owner]
        while name != owner:  # shorten the way for the next time
            self._parents[name], name = owner, self._parents[name]
        return owner


def components(classes: NDArray[np.uint8], skipped: Sequence[int]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Number the sets of pixels of one class that touch along their sides.

    Returns:
        (H, W) numbers from 1, 0 for skipped classes; and the class of each number, that of 0 being -1.
    """
    labels = np.zeros(classes.shape, dtype=np.int32)
    class_of = [np.array([-1])]
    count = 0
    for index in np.flatnonzero(np.bincount(classes.ravel(), minlength=256)):
        if int(index) in skipped:
            continue
        found, number = ndimage.label(classes == index)
        np.add(found, count, out=labels, where=found > 0)
        class_of.append(np.full(number, index))
        count += number
    return labels, np.concatenate(class_of)


def outlines(
    labels: NDArray[np.int32], kept: NDArray[np.bool_], box: Box, grid: tuple[float, float] | None
) -> Iterator[tuple[int, Any]]:
    """Numbers and polygons, in pixels of the raster, of a piece's components that are kept.

    They are simplified together, so that neighbours still fit, where `grid` is given: the size of a pixel in tolerances.
    The piece's border and the places where components meet on it stay as they are.
    """
    if not kept.any():
        return
    found = [(one["coordinates"], int(number)) for one, number in shapes(labels, mask=None if grid else kept[labels])]
    numbers = np.array([number for _, number in found])
    rings = [ring for one, _ in found for ring in one]
    points = np.fromiter(chain.from_iterable(chain.from_iterable(rings)), dtype=np.float64).reshape(-1, 2)
    ring_ends, polygon_ends = np.cumsum([0, *map(len, rings)]), np.cumsum([0, *(len(one) for one, _ in found)])
    polygons = shapely.from_ragged_array(shapely.GeometryType.POLYGON, points, (ring_ends, polygon_ends))
    if grid:
        scale = np.array(grid)
        # A corner of one must be a point of its neighbours too, hence a point at each pixel.
        polygons = shapely.transform(shapely.segmentize(polygons, 1.0), lambda points: np.rint(points) * scale)
        polygons = shapely.coverage_simplify(polygons, 1.0, simplify_boundary=False)
        polygons = shapely.transform(polygons, lambda points: np.rint(points / scale))
    corner = np.array([box.column, box.row])
    polygons = shapely.transform(polygons[kept[numbers]], lambda points: points + corner)
    yield from zip(numbers[kept[numbers]].tolist(), polygons, strict=True)


def put_holes_aside(cut: Object, box: Box) -> Object:
    """Keep the holes that no border of the piece touches out of what is joined later: there may be very many."""
    (whole,) = cut.parts
    holes = np.array(whole.interiors)
    left, top, right, bottom = shapely.bounds(holes).reshape(-1, 4).T
    touching = (left == box.column) | (top == box.row)
    touching |= (right == box.column + box.width) | (bottom == box.row + box.height)
    cut.parts = [shapely.Polygon(whole.exterior, holes[touching])]
    cut.holes = holes[~touching].tolist()
    return cut
