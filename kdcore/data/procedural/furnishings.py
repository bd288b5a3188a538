"""Trees along streets, in gardens, orchards, parks and hedges; cars and crates."""

import numpy as np
import shapely
from shapely import STRtree

from kdcore.data.procedural.layout import Block, Box, Layout, Tree
from kdcore.data.procedural.shapes import Rectangle, Waves, beside, blobs, heading, lattice, scatter
from kdcore.data.procedural.styles import Colour, Difficulty, District, Zone

Place = tuple[float, float, float]  # x, y and radius of a crown

TREES: dict[Zone, float] = {  # for each square metre
    "park": 1 / 90,
    "houses": 1 / 170,
    "dense": 1 / 420,
    "towers": 1 / 300,
    "waste": 1 / 600,
    "forest": 1 / 22,
}
CRATES: dict[Zone, float] = {"industry": 1 / 130, "waste": 1 / 500, "dense": 1 / 140, "houses": 1 / 300}
CARS: list[Colour] = [(226, 226, 226), (170, 172, 174), (44, 44, 48), (150, 50, 46), (52, 76, 128)]


def plant(layout: Layout, district: District, difficulty: Difficulty, rng: np.random.Generator) -> None:
    """All trees of a district."""
    places = [place for block in layout.blocks for place in plant_block(block, district.trees, rng)]
    for street in layout.network.streets:
        if rng.random() < 0.6 * min(1.0, district.trees) * difficulty.canopy:
            for sign in (-1, 1):
                position = rng.uniform(0, 8)
                while position < street.line.length:
                    x, y = beside(street.line, position, sign * (street.width / 2 + rng.uniform(-0.8, 2.0)))
                    places.append((x, y, rng.uniform(1.8, 4.8)))
                    position += rng.uniform(5, 16)
    bank, grove = layout.network.river.buffer(3).exterior, Waves(rng, 40, 140)
    for position in np.arange(0, bank.length, 4.5):
        x, y = beside(bank, position, rng.normal(0, 2.5))
        if grove(np.array([x, y])) > 0.35 - 0.5 * district.trees:
            places.append((x, y, rng.uniform(1.8, 5.0)))
    kept = keep_clear(layout, places)
    outlines = blobs(np.array(kept).reshape(-1, 3), rng, 14, 0.16)
    for place, outline in zip(kept, outlines, strict=True):
        layout.trees.append(Tree(*place, outline, float(rng.random()), int(rng.integers(4))))


def plant_block(block: Block, leafy: float, rng: np.random.Generator) -> list[Place]:
    """Trees of one block."""
    places: list[Place] = []
    outline = block.outline
    if block.zone == "orchard":
        step, radius = rng.uniform(5.2, 7.0), rng.uniform(1.6, 2.4)
        for x, y in lattice(outline.buffer(-3), block.angle, step, step * rng.uniform(0.8, 1.1)):
            if rng.random() < 0.92:
                places.append((x + rng.normal(0, 0.2), y + rng.normal(0, 0.2), radius * rng.uniform(0.8, 1.15)))
    grove = Waves(rng, 30, 120)
    density = TREES.get(block.zone, 1 / 1500) * (1 if block.zone == "forest" else leafy)
    for x, y in scatter(outline, outline.area * density, rng):
        if block.zone not in ("park", "forest") or grove(np.array([x, y])) > (-0.2 if block.zone == "park" else -0.7):
            places.append((x, y, min(rng.gamma(5, 0.6), 7.0)))
    if block.zone in ("field", "vineyard", "park", "houses") and rng.random() < 0.5 * leafy:
        for ring in shapely.get_parts(outline.buffer(-1.5)):
            edge, start = ring.exterior, rng.uniform(0, ring.exterior.length)
            for position in np.arange(0, edge.length * rng.uniform(0.2, 0.6), 2.8):
                point = edge.interpolate((start + position) % edge.length)
                places.append((point.x, point.y, rng.uniform(1.3, 2.8)))
    return places


def keep_clear(layout: Layout, places: list[Place]) -> list[Place]:
    """Drop trees that would stand in buildings, water or the middle of a carriageway; crowns may reach over them."""
    xy = np.array(places).reshape(-1, 3)
    points, radii = shapely.points(xy[:, :2]), xy[:, 2]
    free = np.ones(len(places), dtype=bool)
    streets = layout.network.streets
    for shapes, share, halves in (
        ([building.outline for building in layout.buildings], 0.55, None),
        (layout.water, 0.3, None),
        ([street.line for street in streets], 0.0, np.array([0.75 * street.width / 2 for street in streets])),
    ):
        if not shapes or not len(points):
            continue
        (tree_index, shape_index), distance = STRtree(shapes).query_nearest(
            points, return_distance=True, all_matches=False
        )
        needed = share * radii[tree_index] if halves is None else halves[shape_index]
        free[tree_index] &= distance > needed
    return [place for place, stays in zip(places, free, strict=True) if stays]


def park_cars(layout: Layout, difficulty: Difficulty, rng: np.random.Generator) -> None:
    """Cars along streets and in rows on parking lots, crates in yards."""
    for street in layout.network.streets:
        for _ in range(rng.poisson(difficulty.clutter * street.line.length / 28) if street.paved else 0):
            position = rng.uniform(0, street.line.length)
            x, y = beside(street.line, position, rng.choice([-1, 1]) * street.width * rng.uniform(0.2, 0.42))
            dx, dy = heading(street.line, position)
            layout.boxes.append(car(x, y, float(np.arctan2(dy, dx)), rng))
    for block in layout.blocks:
        if block.zone == "parking":
            full = rng.uniform(0.15, 0.8) * difficulty.clutter
            for x, y in lattice(block.outline.buffer(-3), block.angle, 2.7, 8.2):
                if rng.random() < full:
                    layout.boxes.append(car(x, y, block.angle + np.pi / 2, rng))
        number = CRATES.get(block.zone, 0.0) * block.outline.area * difficulty.clutter
        for x, y in scatter(block.outline, number, rng):
            red, green, blue = np.clip(rng.uniform(60, 210) + rng.normal(0, 14, 3), 20, 240).tolist()
            crate = Rectangle(x, y, block.angle, *rng.gamma(4, 0.3, 2))
            layout.boxes.append(Box(crate, float(rng.uniform(0.3, 2.6)), (red, green, blue)))


def car(x: float, y: float, angle: float, rng: np.random.Generator) -> Box:
    """A car: white, silver, black, now and then red or blue."""
    colour = CARS[int(rng.choice(5, p=[0.32, 0.26, 0.26, 0.09, 0.07]))]
    return Box(Rectangle(x, y, angle + rng.normal(0, 0.03), rng.uniform(2.0, 2.5), 0.95), 1.4, colour)
