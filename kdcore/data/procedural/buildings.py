"""Buildings along the edges of blocks, and the flat things between them that look like roofs."""

from typing import Any, NamedTuple

import numpy as np
import shapely
from shapely import Polygon, STRtree
from shapely.ops import unary_union

from kdcore.data.procedural.layout import Block, Box, Building, Layout, Slab
from kdcore.data.procedural.shapes import Rectangle, lattice, scatter
from kdcore.data.procedural.styles import (
    ASPHALT,
    CONCRETE,
    GRASS,
    ROOFS,
    SOILS,
    Colour,
    Difficulty,
    District,
    Roof,
    Zone,
)

FLOOR = 2.9  # metres


class Plot(NamedTuple):
    """How a zone is built up: sizes in metres as (least, most).

    `wing` is the share of L-shapes, `rows` the rows of buildings from the street inwards, `pitched` the share of roofs
    that are not flat, `slabs` the number of look-alikes per building.
    """

    front: tuple[float, float]
    depth: tuple[float, float]
    gap: tuple[float, float]
    setback: tuple[float, float]
    floors: tuple[int, int]
    vacant: float
    wing: float
    rows: int
    pitched: float
    slabs: float
    slab: tuple[float, float]


PLOTS: dict[Zone, Plot] = {
    "dense": Plot((8, 17), (9, 15), (0.0, 2.5), (1.5, 3.5), (2, 5), 0.08, 0.3, 3, 0.65, 0.25, (4, 11)),
    "houses": Plot((9, 16), (8, 12), (5, 13), (4, 9), (1, 2), 0.1, 0.35, 1, 0.9, 0.7, (4, 11)),
    "towers": Plot((28, 55), (12, 16), (14, 26), (6, 12), (4, 8), 0.1, 0.3, 1, 0.05, 1.0, (12, 28)),
    "industry": Plot((22, 58), (18, 36), (5, 14), (5, 10), (2, 3), 0.15, 0.25, 2, 0.25, 0.9, (10, 32)),
    "field": Plot((10, 24), (8, 13), (40, 160), (6, 14), (1, 2), 0.5, 0.3, 1, 0.9, 0.5, (8, 16)),
    "orchard": Plot((8, 14), (7, 10), (60, 160), (6, 12), (1, 1), 0.6, 0.2, 1, 0.9, 0.5, (5, 12)),
    "waste": Plot((10, 25), (8, 16), (30, 80), (5, 20), (1, 2), 0.6, 0.2, 1, 0.2, 3.0, (8, 26)),
    "park": Plot((8, 14), (6, 10), (80, 200), (5, 15), (1, 1), 0.7, 0.1, 1, 0.7, 2.0, (14, 32)),
}
SHED = Plot((3, 7), (2.5, 4.5), (0, 0), (0, 0), (1, 1), 0, 0, 1, 0.5, 0, (0, 0))


class Builder:
    """Builds in one district; keeps what every step needs."""

    def __init__(self, layout: Layout, district: District, difficulty: Difficulty, rng: np.random.Generator) -> None:
        self.layout, self.district, self.difficulty, self.rng = layout, district, difficulty, rng

    def build(self, block: Block) -> None:
        """Rows of buildings, then sheds, pools, slabs and units on roofs."""
        plot = PLOTS.get(block.zone)
        if plot is None:
            return
        blocked = [pond.buffer(4) for pond, _ in self.layout.ponds if pond.intersects(block.outline)]
        free = block.outline.difference(unary_union(blocked)) if blocked else block.outline
        inset = self.rng.uniform(*plot.setback)
        palette = self.palette()
        placed: list[Building] = []
        for _ in range(plot.rows):
            for ring in shapely.get_parts(free.buffer(-inset, join_style="mitre")):
                if ring.area > 60:
                    self.line_up(ring, free.buffer(-0.8), plot, palette, placed)
            inset += plot.depth[1] + self.rng.uniform(1, 6)
        if block.zone == "houses":
            self.furnish_gardens(block, free.buffer(-3), placed, palette)
        self.layout.buildings += placed
        self.lay_slabs(block, free.buffer(-1), placed, plot, palette)
        for building in placed:
            if building.roof == "flat" and building.eave > 4:
                self.add_roof_units(building)

    def line_up(self, ring: Polygon, free: Any, plot: Plot, palette: str, placed: list[Building]) -> None:
        """Buildings along the outline of `ring`, fronts parallel to it, inside `free` and clear of those in `placed`."""
        rng, edge = self.rng, ring.exterior
        shapely.prepare(free)
        position = rng.uniform(0, plot.gap[1])
        while position < edge.length - plot.front[0]:
            front, depth = rng.uniform(*plot.front), rng.uniform(*plot.depth)
            ends = shapely.line_interpolate_point(edge, [position, min(position + front, edge.length)])
            a, b = shapely.get_coordinates(ends)
            width = float(np.hypot(*(b - a)))
            fits = None if width < front * 0.97 else self.fit(a, b, front, depth, free, plot, placed)
            if fits is None:
                position += 3.0
                continue
            position += front + rng.uniform(*plot.gap)
            if rng.random() >= plot.vacant:
                placed.append(self.furnish(*fits, plot, palette))

    def fit(
        self, a: Any, b: Any, front: float, depth: float, free: Any, plot: Plot, placed: list[Building]
    ) -> tuple[tuple[Rectangle, ...], Polygon] | None:
        """Wings and outline of a building on the front from `a` to `b`, on the side where there is room."""
        tangent = (b - a) / np.hypot(*(b - a))
        with_wing = self.rng.random() < plot.wing
        for side in (1, -1):
            x, y = (a + b) / 2 + side * np.array([-tangent[1], tangent[0]]) * depth / 2
            body = Rectangle(float(x), float(y), float(np.arctan2(tangent[1], tangent[0])), front / 2, depth / 2)
            wings: tuple[Rectangle, ...] = (body, self.back_wing(body, side)) if with_wing else (body,)
            outline = unary_union([wing.polygon for wing in wings]) if with_wing else body.polygon
            if not free.contains(outline):
                continue
            reach = front + depth + 60 + plot.gap[0]  # those whose centres are farther apart keep their distance
            others = [
                other.outline for other in placed if abs(other.wings[0].x - x) + abs(other.wings[0].y - y) < reach
            ]
            if not others or shapely.distance(others, outline).min() > max(plot.gap[0] - 0.5, 0.1):
                return wings, outline
        return None

    def back_wing(self, body: Rectangle, side: int) -> Rectangle:
        """A wing at right angles that starts inside `body` and reaches out behind it."""
        half = body.half_length * self.rng.uniform(0.3, 0.45)
        reach = body.half_width * self.rng.uniform(0.8, 1.4)
        along = (body.half_length - half) * float(self.rng.choice([-1, 1]))
        x, y = body.place(along, side * (reach + body.half_width) / 2)
        return Rectangle(x, y, body.angle, half, (body.half_width + reach) / 2)

    def furnish(self, wings: tuple[Rectangle, ...], outline: Polygon, plot: Plot, palette: str) -> Building:
        """Choose height, roof and colour. A roof's ridge follows the longer side of each wing."""
        rng = self.rng
        turned = tuple(
            wing
            if wing.half_length >= wing.half_width
            else Rectangle(wing.x, wing.y, wing.angle + np.pi / 2, wing.half_width, wing.half_length)
            for wing in wings
        )
        eave = FLOOR * int(rng.integers(plot.floors[0], plot.floors[1] + 1)) + rng.uniform(0, 1.5)
        pitched = rng.random() < plot.pitched and palette != "flat"
        roof: Roof = "flat" if not pitched else "gable" if rng.random() < 0.65 else "hip"
        shallow = turned[0].half_width > 9 or palette == "metal"
        pitch = 0.0 if roof == "flat" else rng.uniform(0.12, 0.25) if shallow else rng.uniform(0.4, 0.85)
        return Building(turned, outline, roof, float(eave), pitch, self.colour(palette), self.ribs(palette))

    def furnish_gardens(self, block: Block, inner: Any, placed: list[Building], palette: str) -> None:
        """Sheds, and a pool here and there, behind the houses."""
        for x, y in scatter(inner, len(placed) * 1.2, self.rng):
            pool = self.rng.random() < 0.12
            length, width = (
                (self.rng.uniform(7, 11), self.rng.uniform(3.5, 5)) if pool else self.rng.uniform(2.5, 6.5, 2)
            )
            body = Rectangle(x, y, block.angle, length / 2, width / 2)
            outline = body.polygon
            taken = [building.outline for building in placed] + self.layout.pools
            if not inner.contains(outline) or (taken and shapely.distance(taken, outline).min() < 1.5):
                continue
            if pool:
                self.layout.pools.append(outline)
            else:
                placed.append(self.furnish((body,), outline, SHED, palette)._replace(eave=2.4))

    def lay_slabs(self, block: Block, free: Any, placed: list[Building], plot: Plot, palette: str) -> None:
        """Courts, terraces, foundations and foil: what has a roof's shape and colour but no height."""
        rng, factor = self.rng, self.difficulty.decoys
        number = factor * plot.slabs * max(len(placed), 0.6 if block.zone in ("park", "waste", "field") else 0)
        places = [(*place, *rng.uniform(*plot.slab, 2), block.angle) for place in scatter(free, number, rng)]
        if block.zone == "field" and rng.random() < 0.2 * factor:
            strips = lattice(free.buffer(-12), block.angle, 40, rng.uniform(5, 8))
            places += [(x, y, 34.0, 3.6, block.angle) for x, y in strips]
        taken = STRtree([building.outline for building in placed] + [water.buffer(2) for water in self.layout.water])
        for x, y, length, width, angle in places:
            body = Rectangle(x, y, angle, max(length, width) / 2, min(length, width) / 2)
            outline = body.polygon
            if free.contains(outline) and not len(taken.query(outline, "intersects")):
                court = block.zone in ("park", "towers")
                self.layout.slabs.append(
                    Slab(body, self.colour(palette), self.ribs(palette) if rng.random() < 0.5 else 0.0, court)
                )

    def add_roof_units(self, building: Building) -> None:
        """Ventilation, stairs and skylights."""
        rng, body = self.rng, building.wings[0]
        for _ in range(rng.poisson(self.difficulty.clutter * body.half_length * body.half_width / 30)):
            x, y = body.place(*(rng.uniform(-0.75, 0.75, 2) * (body.half_length, body.half_width)))
            value = float(rng.choice([200, 170, 110, 70]) * rng.uniform(0.9, 1.1))
            size = rng.uniform(0.6, 2.2, 2)
            top = building.eave + float(rng.uniform(0.6, 2.6))
            self.layout.boxes.append(Box(Rectangle(x, y, body.angle, *size), top, (value, value, value)))

    def palette(self) -> str:
        """Neighbours have similar roofs: drawn once for each block."""
        weights = np.array(list(self.district.roofs.values()), dtype=float)
        return list(self.district.roofs)[int(self.rng.choice(len(weights), p=weights / weights.sum()))]

    def colour(self, palette: str) -> Colour:
        """A roof's colour, for some the colour of the ground around them."""
        rng, soil = self.rng, SOILS[self.district.soil]
        if rng.random() < self.difficulty.lookalike_roofs:
            lawn = tuple(0.6 * g + 0.4 * s for g, s in zip(GRASS[self.district.season], soil, strict=True))
            like = [soil, soil, *ASPHALT, *CONCRETE[:2], lawn]
            colour = np.array(like[int(rng.integers(len(like)))]) * rng.uniform(0.9, 1.1)
        else:
            choice = ROOFS[palette if rng.random() < 0.8 else self.palette()]
            painted = np.array(choice[int(rng.integers(len(choice)))]) * rng.uniform(0.85, 1.12) + rng.normal(0, 4, 3)
            middle = np.array(CONCRETE[1])
            colour = middle + (painted - middle) * self.difficulty.contrast
        red, green, blue = np.clip(colour, 20, 245).tolist()
        return red, green, blue

    def ribs(self, palette: str) -> float:
        """Period of the ribs or tile courses in metres; 0 where there are none."""
        least, most = {"metal": (1.2, 2.6), "tile": (1.1, 1.6)}.get(palette, (0.0, 0.0))
        return float(self.rng.uniform(least, most))
