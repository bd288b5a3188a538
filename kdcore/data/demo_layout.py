"""What stands where in a demo district: blocks and their use, buildings, ponds, trees, cars. Metres, y points south."""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import LineString, Polygon, STRtree
from shapely.ops import unary_union

from kdcore.data.demo_streets import Network, Waves, lay_out_streets
from kdcore.data.demo_styles import (
    ASPHALT,
    CONCRETE,
    GRASS,
    ROOFS,
    SOILS,
    Colour,
    Difficulty,
    District,
    Zone,
)

Roof = Literal["flat", "gable", "hip"]
Mixed = NDArray[np.float64]


class Rectangle(NamedTuple):
    """A rectangle anywhere in the plane; `half_length` lies along `angle`."""

    x: float
    y: float
    angle: float
    half_length: float
    half_width: float

    @property
    def polygon(self) -> Polygon:
        """Its outline, with corners on whole centimetres."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (self.half_length, self.half_width)
        return Polygon(np.round(corners @ np.array([[cos, sin], [-sin, cos]]) + (self.x, self.y), 2))

    def place(self, along: float, across: float) -> tuple[float, float]:
        """A point given by its distances from the centre along the two axes."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return self.x + along * cos - across * sin, self.y + along * sin + across * cos


class Building(NamedTuple):
    """A house of one or two wings; `eave` in metres, `pitch` as rise over run, `ribs` the period of roof ribs (0: none)."""

    wings: tuple[Rectangle, ...]
    outline: Polygon
    roof: Roof
    eave: float
    pitch: float
    colour: Colour
    ribs: float


class Box(NamedTuple):
    """A small thing that is not mapped: a car, a crate, a unit on a roof. `top` is its height in metres."""

    rectangle: Rectangle
    top: float
    colour: Colour


class Tree(NamedTuple):
    """A crown; `shade` varies its colour, 0..1."""

    x: float
    y: float
    radius: float
    outline: Polygon
    shade: float
    kind: int


class Block(NamedTuple):
    """Ground between streets with one use."""

    outline: Polygon
    zone: Zone
    angle: float
    tone: float


@dataclass
class Layout:
    """All that a district is painted from, and what its labels are made of."""

    side: float
    network: Network
    paved: Any
    unpaved: Any
    blocks: list[Block] = field(default_factory=list)
    buildings: list[Building] = field(default_factory=list)
    ponds: list[tuple[Polygon, str]] = field(default_factory=list)
    pools: list[Polygon] = field(default_factory=list)
    trees: list[Tree] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)


class Plot(NamedTuple):
    """How a zone is built up: sizes in metres as (least, most)."""

    front: tuple[float, float]
    depth: tuple[float, float]
    gap: tuple[float, float]
    setback: tuple[float, float]
    floors: tuple[int, int]
    vacant: float
    wing: float  # share of L-shapes
    rows: int  # rows of buildings from the street inwards
    pitched: float


PLOTS: dict[Zone, Plot] = {
    "dense": Plot((8, 17), (9, 15), (0.0, 2.5), (1.5, 3.5), (2, 5), 0.08, 0.3, 3, 0.65),
    "houses": Plot((9, 16), (8, 12), (5, 13), (4, 9), (1, 2), 0.1, 0.35, 1, 0.9),
    "towers": Plot((28, 55), (12, 16), (14, 26), (6, 12), (4, 8), 0.1, 0.3, 1, 0.05),
    "industry": Plot((22, 58), (18, 36), (5, 14), (5, 10), (2, 3), 0.15, 0.25, 2, 0.25),
    "field": Plot((10, 24), (8, 13), (40, 160), (6, 14), (1, 2), 0.5, 0.3, 1, 0.9),
    "orchard": Plot((8, 14), (7, 10), (60, 160), (6, 12), (1, 1), 0.6, 0.2, 1, 0.9),
    "waste": Plot((10, 25), (8, 16), (30, 80), (5, 20), (1, 2), 0.6, 0.2, 1, 0.2),
}


def lay_out(district: District, side: float, difficulty: Difficulty, rng: np.random.Generator) -> Layout:
    """Draw one district of `side` metres."""
    network = lay_out_streets(district, side, rng)
    ground = shapely.box(0, 0, side, side)
    carriageways = {
        paved: unary_union(
            [street.line.buffer(street.width / 2) for street in network.streets if street.paved == paved]
        ).intersection(ground)
        for paved in (True, False)
    }
    layout = Layout(side, network, carriageways[True], carriageways[False])
    streets = unary_union(list(carriageways.values()))
    for piece in shapely.get_parts(ground.difference(streets).difference(network.river.buffer(4))):
        layout.blocks += divide(piece, district, network, rng)
    for block in layout.blocks:
        add_pond(layout, block, district, difficulty, rng)
        build(layout, block, district, difficulty, rng)
    plant(layout, district, difficulty, rng)
    park_cars(layout, difficulty, rng)
    return layout


def divide(piece: Polygon, district: District, network: Network, rng: np.random.Generator) -> list[Block]:
    """Give a block its use; large ones are cut into parcels with uses of their own."""
    centre = np.array(piece.centroid.coords[0])
    angle = float(network.direction(centre)) + rng.choice([0, np.pi / 2])
    names = list(district.zones)
    weights = np.array(list(district.zones.values()))
    zone: Zone = names[rng.choice(len(names), p=weights / weights.sum())]
    if piece.area < 500:
        zone = "park"
    most = {"field": 7000, "vineyard": 6000, "orchard": 5000, "park": 9000}.get(zone, 16000)
    if piece.area > most * rng.uniform(0.8, 1.6):
        cut = centre + rng.uniform(-0.12, 0.12, 2) * np.sqrt(piece.area)
        across = angle if rng.random() < 0.5 else angle + np.pi / 2
        reach = 2000 * np.array([np.cos(across), np.sin(across)])
        parts = shapely.get_parts(shapely.ops.split(piece, LineString([cut - reach, cut + reach])))
        if len(parts) > 1:
            return [block for part in parts for block in divide(part, district, network, rng)]
    return [Block(piece, zone, angle, float(rng.uniform(-1, 1)))]


def build(layout: Layout, block: Block, district: District, difficulty: Difficulty, rng: np.random.Generator) -> None:
    """Put buildings along a block's edge in rows, then sheds and pools behind them."""
    plot = PLOTS.get(block.zone)
    if plot is None:
        return
    blocked = [pond.buffer(4) for pond, _ in layout.ponds if pond.intersects(block.outline)]
    free = block.outline.difference(unary_union(blocked)) if blocked else block.outline
    inset = rng.uniform(*plot.setback)
    placed: list[Building] = []
    palette = roof_palette(district, rng)
    for _ in range(plot.rows):
        for ring in shapely.get_parts(free.buffer(-inset, join_style="mitre")):
            if ring.area > 60:
                placed += line_up(ring, free.buffer(-0.8), plot, palette, placed, district, difficulty, rng)
        inset += plot.depth[1] + rng.uniform(1, 6)
    layout.buildings += placed
    if block.zone == "houses":
        add_sheds_and_pools(layout, block, free, placed, palette, district, difficulty, rng)
    if block.zone in ("industry", "towers", "dense"):
        for building in placed:
            add_roof_units(layout, building, difficulty, rng)


def line_up(
    ring: Polygon,
    free: Any,
    plot: Plot,
    palette: str,
    before: list[Building],
    district: District,
    difficulty: Difficulty,
    rng: np.random.Generator,
) -> list[Building]:
    """Buildings along the outline of `ring`, fronts parallel to it, inside `free` and clear of each other."""
    edge = shapely.segmentize(ring.exterior, 400)
    position, placed = rng.uniform(0, plot.gap[1]), []
    while position < edge.length - plot.front[0]:
        front, depth = rng.uniform(*plot.front), rng.uniform(*plot.depth)
        a = np.array(edge.interpolate(position).coords[0])
        b = np.array(edge.interpolate(min(position + front, edge.length)).coords[0])
        position += 3.0
        tangent = (b - a) / max(np.hypot(*(b - a)), 1e-6)
        if np.hypot(*(b - a)) < front * 0.97:
            continue
        for side in (1, -1):
            normal = side * np.array([-tangent[1], tangent[0]])
            x, y = (a + b) / 2 + normal * depth / 2
            body = Rectangle(x, y, float(np.arctan2(tangent[1], tangent[0])), front / 2, depth / 2)
            wings = (body,)
            if rng.random() < plot.wing:
                wings = (body, back_wing(body, side, rng))
            outline = unary_union([wing.polygon for wing in wings])
            near = [
                other for other in (*before, *placed) if other.outline.distance(outline) < max(plot.gap[0], 0.6) - 0.5
            ]
            if not near and free.contains(outline):
                break
        else:
            continue
        position += front - 3.0 + rng.uniform(*plot.gap)
        if rng.random() >= plot.vacant:
            placed.append(furnish(wings, outline, plot, palette, district, difficulty, rng))
    return placed


def back_wing(body: Rectangle, side: int, rng: np.random.Generator) -> Rectangle:
    """A wing at right angles that starts inside `body` and reaches out behind it."""
    half = body.half_length * rng.uniform(0.3, 0.45)
    reach = body.half_width * rng.uniform(0.8, 1.4)
    along = (body.half_length - half) * rng.choice([-1, 1])
    x, y = body.place(along, side * reach * 0.5 + side * body.half_width * 0.5)
    return Rectangle(x, y, body.angle, half, body.half_width * 0.5 + reach * 0.5)


def furnish(
    wings: tuple[Rectangle, ...],
    outline: Polygon,
    plot: Plot,
    palette: str,
    district: District,
    difficulty: Difficulty,
    rng: np.random.Generator,
) -> Building:
    """Choose height, roof and colour. A roof's ridge follows the longer side of each wing."""
    turned = tuple(
        wing
        if wing.half_length >= wing.half_width
        else Rectangle(wing.x, wing.y, wing.angle + np.pi / 2, wing.half_width, wing.half_length)
        for wing in wings
    )
    eave = 2.9 * rng.integers(plot.floors[0], plot.floors[1] + 1) + rng.uniform(0, 1.5)
    pitched = rng.random() < plot.pitched and palette != "flat"
    roof: Roof = "flat" if not pitched else "gable" if rng.random() < 0.65 else "hip"
    wide = turned[0].half_width > 9
    pitch = 0.0 if roof == "flat" else rng.uniform(0.12, 0.25) if wide or palette == "metal" else rng.uniform(0.4, 0.85)
    ribs = {"metal": rng.uniform(1.2, 2.6), "tile": rng.uniform(1.1, 1.6)}.get(palette, 0.0)
    return Building(turned, outline, roof, float(eave), pitch, roof_colour(palette, district, difficulty, rng), ribs)


def roof_palette(district: District, rng: np.random.Generator) -> str:
    """Neighbours have similar roofs: the palette is drawn once for each block."""
    weights = np.array(list(district.roofs.values()), dtype=float)
    return list(district.roofs)[rng.choice(len(weights), p=weights / weights.sum())]


def roof_colour(palette: str, district: District, difficulty: Difficulty, rng: np.random.Generator) -> Colour:
    """A roof's colour, for some the colour of the ground around them."""
    if rng.random() < difficulty.lookalike_roofs:
        grass = tuple(0.6 * g + 0.4 * s for g, s in zip(GRASS[district.season], SOILS[district.soil], strict=True))
        like = [SOILS[district.soil], *ASPHALT, *CONCRETE[:2], SOILS[district.soil], grass]
        colour = np.array(like[rng.integers(len(like))]) * rng.uniform(0.9, 1.1)
    else:
        choice = ROOFS[palette if rng.random() < 0.8 else roof_palette(district, rng)]
        painted = np.array(choice[rng.integers(len(choice))]) * rng.uniform(0.85, 1.12) + rng.normal(0, 4, 3)
        middle = np.array(CONCRETE[1], dtype=float)
        colour = middle + (painted - middle) * difficulty.contrast
    red, green, blue = np.clip(colour, 20, 245)
    return float(red), float(green), float(blue)


def add_sheds_and_pools(
    layout: Layout,
    block: Block,
    free: Any,
    placed: list[Building],
    palette: str,
    district: District,
    difficulty: Difficulty,
    rng: np.random.Generator,
) -> None:
    """Sheds, and a pool here and there, in the gardens behind the houses."""
    tree = STRtree([building.outline for building in placed]) if placed else None
    inner = free.buffer(-3)
    if inner.is_empty:
        return
    shed = Plot((3, 6), (2.5, 4.5), (0, 0), (0, 0), (1, 1), 0, 0, 1, 0.5)
    for x, y in scatter(inner, len(placed) * 1.2, rng):
        pool = rng.random() < 0.12
        length, width = (
            (rng.uniform(7, 11), rng.uniform(3.5, 5)) if pool else (rng.uniform(3, 7), rng.uniform(2.5, 4.5))
        )
        body = Rectangle(x, y, block.angle, length / 2, width / 2)
        outline = body.polygon
        if not inner.contains(outline) or (tree and len(tree.query(outline.buffer(1.5), "intersects"))):
            continue
        if pool:
            layout.pools.append(outline)
        else:
            building = furnish((body,), outline, shed, palette, district, difficulty, rng)
            layout.buildings.append(building._replace(eave=2.4))
            placed.append(building)
        tree = STRtree([*(building.outline for building in placed), *layout.pools])


def add_roof_units(layout: Layout, building: Building, difficulty: Difficulty, rng: np.random.Generator) -> None:
    """Ventilation, stairs and skylights on flat roofs."""
    body = building.wings[0]
    if building.roof != "flat":
        return
    for _ in range(rng.poisson(difficulty.clutter * body.half_length * body.half_width / 40)):
        x, y = body.place(*(rng.uniform(-0.7, 0.7, 2) * (body.half_length, body.half_width)))
        size = rng.uniform(0.6, 2.0, 2)
        value = float(rng.choice([200, 170, 110, 70])) * rng.uniform(0.9, 1.1)
        layout.boxes.append(
            Box(Rectangle(x, y, body.angle, *size), building.eave + rng.uniform(0.6, 2.2), (value, value, value))
        )


def add_pond(
    layout: Layout, block: Block, district: District, difficulty: Difficulty, rng: np.random.Generator
) -> None:
    """A pond in some of the open blocks."""
    chance = {"park": 0.5, "field": 0.22, "waste": 0.3, "orchard": 0.15}.get(block.zone, 0.0)
    if block.outline.area < 1500 or rng.random() > chance:
        return
    radius = rng.uniform(0.15, 0.32) * np.sqrt(block.outline.area)
    x, y = scatter(block.outline.buffer(-radius * 0.7), 1, rng, exactly=True)[0] if radius > 4 else (0, 0)
    pond = blob(x, y, min(radius, 24), rng, 28, 0.25).intersection(block.outline.buffer(-5))
    if isinstance(pond, Polygon) and pond.area > 80:
        like = ["lawn", "dark", "green"] if rng.random() < difficulty.lookalike_water else ["blue", "green", "brown"]
        layout.ponds.append((pond, str(rng.choice(like))))


def plant(layout: Layout, district: District, difficulty: Difficulty, rng: np.random.Generator) -> None:
    """Trees along streets and the river, in gardens, parks, orchards and between fields."""
    places: list[tuple[float, float, float]] = []
    for street in layout.network.streets:
        if rng.random() < 0.6 * min(1.0, district.trees * difficulty.canopy):
            for sign in (-1, 1):
                position = rng.uniform(0, 8)
                while position < street.line.length:
                    x, y = beside(street.line, position, sign * (street.width / 2 + rng.uniform(-0.6, 2.2)))
                    places.append((x, y, rng.uniform(1.8, 4.6)))
                    position += rng.uniform(5, 16)
    for block in layout.blocks:
        places += plant_block(block, district, rng)
    bank = layout.network.river.buffer(3).exterior
    grove = Waves(rng, 40, 140)
    for position in np.arange(0, bank.length, 4.5):
        x, y = beside(bank, position, rng.normal(0, 2.5))
        if grove(np.array([x, y])) > 0.35 - 0.5 * district.trees:
            places.append((x, y, rng.uniform(1.8, 5.0)))
    keep_clear(layout, places, rng)


def plant_block(block: Block, district: District, rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Trees of one block as (x, y, radius)."""
    area, trees = block.outline.area, district.trees
    places: list[tuple[float, float, float]] = []
    if block.zone == "orchard":
        step, radius = rng.uniform(5.2, 7.0), rng.uniform(1.6, 2.4)
        for x, y in lattice(block.outline.buffer(-3), block.angle, step, step * rng.uniform(0.8, 1.1)):
            if rng.random() < 0.92:
                places.append((x + rng.normal(0, 0.2), y + rng.normal(0, 0.2), radius * rng.uniform(0.8, 1.15)))
    density = {"park": 1 / 90, "houses": 1 / 170, "dense": 1 / 420, "towers": 1 / 300, "waste": 1 / 600}
    grove = Waves(rng, 30, 120)
    for x, y in scatter(block.outline, area * density.get(block.zone, 1 / 1500) * trees, rng):
        if block.zone != "park" or grove(np.array([x, y])) > -0.2:
            places.append((x, y, rng.gamma(7, 0.42)))
    if block.zone in ("field", "vineyard", "park", "houses") and rng.random() < 0.5 * trees:
        edge = block.outline.buffer(-1.5)
        for ring in shapely.get_parts(edge):
            start = rng.uniform(0, ring.exterior.length)
            for position in np.arange(0, ring.exterior.length * rng.uniform(0.2, 0.6), 2.8):
                point = ring.exterior.interpolate((start + position) % ring.exterior.length)
                places.append((point.x, point.y, rng.uniform(1.3, 2.8)))
    return places


def keep_clear(layout: Layout, places: list[tuple[float, float, float]], rng: np.random.Generator) -> None:
    """Drop trees that would stand in buildings, water or the middle of a carriageway; draw the crowns of the rest."""
    if not places:
        return
    points = shapely.points([(x, y) for x, y, _ in places])
    radii = np.array([radius for *_, radius in places])
    distance = np.full(len(places), np.inf)
    solids = [building.outline for building in layout.buildings]
    for shapes, share in ((solids, 0.55), ([p for p, _ in layout.ponds] + layout.pools + [layout.network.river], 0.3)):
        if shapes:
            near = STRtree(shapes).query_nearest(points, return_distance=True, all_matches=False)
            distance[near[0][0]] = np.minimum(distance[near[0][0]], near[1] - share * radii[near[0][0]])
    lines = [street.line for street in layout.network.streets]
    if lines:
        near = STRtree(lines).query_nearest(points, return_distance=True, all_matches=False)
        half = np.array([street.width / 2 for street in layout.network.streets])[near[0][1]]
        distance[near[0][0]] = np.minimum(distance[near[0][0]], near[1] - 0.75 * half)
    for index in np.flatnonzero(distance > 0):
        x, y, radius = places[index]
        crown = blob(x, y, radius, rng, 13, 0.14)
        layout.trees.append(Tree(x, y, radius, crown, float(rng.random()), int(rng.integers(4))))


def park_cars(layout: Layout, difficulty: Difficulty, rng: np.random.Generator) -> None:
    """Cars along streets and in rows on parking lots, crates in yards."""
    for street in layout.network.streets:
        if not street.paved:
            continue
        for _ in range(rng.poisson(difficulty.clutter * street.line.length / 28)):
            position = rng.uniform(0, street.line.length)
            x, y = beside(street.line, position, rng.choice([-1, 1]) * street.width * rng.uniform(0.2, 0.42))
            ahead = beside(street.line, position + 2, 0.0)
            behind = beside(street.line, position - 2, 0.0)
            layout.boxes.append(car(x, y, np.arctan2(ahead[1] - behind[1], ahead[0] - behind[0]), rng))
    for block in layout.blocks:
        if block.zone == "parking":
            for x, y in lattice(block.outline.buffer(-3), block.angle, 2.7, 8.2):
                if rng.random() < 0.55 * difficulty.clutter:
                    layout.boxes.append(car(x, y, block.angle + np.pi / 2, rng))
        density = {"industry": 1 / 130, "waste": 1 / 350, "dense": 1 / 160, "houses": 1 / 300}.get(block.zone, 0.0)
        for x, y in scatter(block.outline, density * block.outline.area * difficulty.clutter, rng):
            size = rng.gamma(4, 0.3, 2)
            value = rng.uniform(60, 210)
            colour = np.clip(value + rng.normal(0, 14, 3), 20, 240)
            layout.boxes.append(
                Box(Rectangle(x, y, block.angle, *size), rng.uniform(0.3, 2.6), (colour[0], colour[1], colour[2]))
            )


def car(x: float, y: float, angle: float, rng: np.random.Generator) -> Box:
    """A car: white, silver, black, now and then red or blue."""
    colours: list[Colour] = [(226, 226, 226), (170, 172, 174), (44, 44, 48), (150, 50, 46), (52, 76, 128)]
    colour = colours[rng.choice(5, p=[0.32, 0.26, 0.26, 0.09, 0.07])]
    return Box(Rectangle(x, y, float(angle) + rng.normal(0, 0.03), rng.uniform(2.0, 2.5), 0.95), 1.4, colour)


def scatter(area: Any, number: float, rng: np.random.Generator, exactly: bool = False) -> list[tuple[float, float]]:
    """About `number` random places inside `area`; with `exactly` that many, at its centre where none is found."""
    if area.is_empty:
        return [(0.0, 0.0)] * int(number) if exactly else []
    west, north, east, south = area.bounds
    share = area.area / max((east - west) * (south - north), 1e-9)
    tries = int(number) + 30 if exactly else rng.poisson(number / max(share, 1e-3))
    xs, ys = rng.uniform(west, east, tries), rng.uniform(north, south, tries)
    inside = shapely.contains_xy(area, xs, ys)
    found = list(zip(xs[inside].tolist(), ys[inside].tolist(), strict=True))
    if exactly:
        point = area.representative_point()
        return (found + [(point.x, point.y)] * int(number))[: int(number)]
    return found


def lattice(area: Any, angle: float, along: float, across: float) -> list[tuple[float, float]]:
    """A regular grid of places inside `area`, turned by `angle`."""
    if area.is_empty:
        return []
    x, y = area.centroid.coords[0]
    reach = shapely.minimum_bounding_radius(area) * 1.5
    u, v = np.meshgrid(np.arange(-reach, reach, along), np.arange(-reach, reach, across))
    cos, sin = np.cos(angle), np.sin(angle)
    xs, ys = x + u.ravel() * cos - v.ravel() * sin, y + u.ravel() * sin + v.ravel() * cos
    inside = shapely.contains_xy(area, xs, ys)
    return list(zip(xs[inside].tolist(), ys[inside].tolist(), strict=True))


def beside(line: Any, position: float, offset: float) -> tuple[float, float]:
    """The place `offset` metres beside a line at `position` along it."""
    position = float(np.clip(position, 0, line.length))
    a, b = line.interpolate(max(position - 1, 0)), line.interpolate(min(position + 1, line.length))
    length = max(float(np.hypot(b.x - a.x, b.y - a.y)), 1e-6)
    here = line.interpolate(position)
    return here.x - (b.y - a.y) / length * offset, here.y + (b.x - a.x) / length * offset


def blob(x: float, y: float, radius: float, rng: np.random.Generator, corners: int, roughness: float) -> Polygon:
    """A round outline with smooth dents, on whole centimetres."""
    angle = np.arange(corners) * 2 * np.pi / corners
    dents = sum(rng.normal(0, roughness / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 5))
    around = radius * (1 + np.clip(dents, -0.45, 0.45))
    return Polygon(np.round(np.stack([x + around * np.cos(angle), y + around * np.sin(angle)], axis=1), 2))
