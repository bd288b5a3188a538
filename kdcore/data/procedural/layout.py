"""What stands where in a district: streets first, then the use of the blocks between them, then all that stands there.

Streets and a river are lines that follow a direction which turns over the ground.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import shapely
from shapely import LineString, Polygon
from shapely.ops import split, unary_union

from kdcore.data.procedural.shapes import Points, Rectangle, Waves, blobs
from kdcore.data.procedural.styles import Colour, Difficulty, District, Roof, Zone

LARGEST = {"field": 5500, "vineyard": 6000, "orchard": 5000, "park": 9000, "forest": 9000}  # square metres of a block
APRON = 20.0  # metres of land around the district, so that its edge cuts through houses as a scene's edge does
STEP = 3.0  # metres between the points of a street
MARGIN = 40.0  # metres that streets reach over the district's edge, so that the edge shows cut blocks


@dataclass(frozen=True)
class Street:
    """A piece of street between two junctions; widths in metres."""

    line: LineString
    width: float
    paved: bool
    main: bool


@dataclass(frozen=True)
class Network:
    """Streets and river of a district, and the direction that they and the buildings follow."""

    streets: list[Street]
    river: Any
    base: float
    waves: Waves
    bend: float

    def direction(self, places: Points) -> Points:
        """Angle of the main direction at (..., 2) places, in radians."""
        return self.base + self.bend * self.waves(places)


class Block(NamedTuple):
    """Ground between streets with one use; `tone` (-1..1) tells it from its neighbours."""

    outline: Polygon
    zone: Zone
    angle: float
    tone: float


class Building(NamedTuple):
    """A house of one or two wings; `eave` in metres, `pitch` as rise over run, `ribs` the period of roof ribs (0: none)."""

    wings: tuple[Rectangle, ...]
    outline: Polygon
    roof: Roof
    eave: float
    pitch: float
    colour: Colour
    ribs: float


class Slab(NamedTuple):
    """A flat rectangle on the ground that looks like a roof: a court, a terrace, a foundation, foil over a crop."""

    rectangle: Rectangle
    colour: Colour
    ribs: float
    marked: bool


class Box(NamedTuple):
    """A small thing that is not mapped: a car, a crate, a unit on a roof. `top` is its height in metres."""

    rectangle: Rectangle
    top: float
    colour: Colour


class Tree(NamedTuple):
    """A crown; `shade` varies its colour, 0..1, and `kind` chooses it."""

    x: float
    y: float
    radius: float
    outline: Polygon
    shade: float
    kind: int


@dataclass
class Layout:
    """All that a district is painted from, and what its labels are made of."""

    side: float
    network: Network
    paved: Any
    unpaved: Any
    blocks: list[Block] = field(default_factory=list)
    buildings: list[Building] = field(default_factory=list)
    slabs: list[Slab] = field(default_factory=list)
    ponds: list[tuple[Polygon, str]] = field(default_factory=list)
    pools: list[Polygon] = field(default_factory=list)
    trees: list[Tree] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)

    @property
    def water(self) -> list[Polygon]:
        """Outlines of everything wet."""
        return [self.network.river, *(pond for pond, _ in self.ponds), *self.pools]


def divide_ground(district: District, side: float, difficulty: Difficulty, rng: np.random.Generator) -> Layout:
    """Streets, river, blocks and ponds of a district of `side` metres; nothing stands on it yet."""
    network = lay_out_streets(district, side, rng)
    ground = shapely.box(-APRON, -APRON, side + APRON, side + APRON)
    paved, unpaved = (
        unary_union([s.line.buffer(s.width / 2) for s in network.streets if s.paved == kind]).intersection(ground)
        for kind in (True, False)
    )
    layout = Layout(side, network, paved, unpaved)
    for piece in shapely.get_parts(ground.difference(paved).difference(unpaved).difference(network.river.buffer(4))):
        layout.blocks += divide(piece, district, network, rng)
    for block in layout.blocks:
        add_pond(layout, block, difficulty, rng)
    return layout


def divide(piece: Polygon, district: District, network: Network, rng: np.random.Generator) -> list[Block]:
    """Give a block its use; large ones are cut into parcels with uses of their own."""
    centre = np.array(piece.centroid.coords[0])
    angle = float(network.direction(centre)) + float(rng.choice([0, np.pi / 2]))
    names = list(district.zones)
    weights = np.array(list(district.zones.values()))
    zone: Zone = names[int(rng.choice(len(names), p=weights / weights.sum()))]
    if piece.area < 500:
        zone = "park"
    if piece.area > LARGEST.get(zone, 16000) * rng.uniform(0.7, 1.6):
        cut = centre + rng.uniform(-0.12, 0.12, 2) * np.sqrt(piece.area)
        across = angle if rng.random() < 0.5 else angle + np.pi / 2
        reach = 2000 * np.array([np.cos(across), np.sin(across)])
        parts = shapely.get_parts(split(piece, LineString([cut - reach, cut + reach])))
        if len(parts) > 1:
            return [block for part in parts for block in divide(part, district, network, rng)]
    return [Block(piece, zone, angle, float(rng.uniform(-1, 1)))]


def add_pond(layout: Layout, block: Block, difficulty: Difficulty, rng: np.random.Generator) -> None:
    """A pond in some of the open blocks."""
    chance = {"park": 0.5, "field": 0.12, "waste": 0.3, "orchard": 0.12, "forest": 0.3}.get(block.zone, 0.0)
    if block.outline.area < 1500 or rng.random() > chance:
        return
    radius = min(rng.uniform(0.15, 0.32) * np.sqrt(block.outline.area), 24.0)
    middle = block.outline.representative_point()
    (shape,) = blobs(np.array([[middle.x, middle.y, radius]]), rng, 40, 0.5)
    pond = shape.intersection(block.outline.buffer(-5))
    if isinstance(pond, Polygon) and pond.area > 80:
        like = ["lawn", "dark", "green"] if rng.random() < difficulty.lookalike_water else ["blue", "green", "brown"]
        layout.ponds.append((pond, str(rng.choice(like))))


def lay_out_streets(district: District, side: float, rng: np.random.Generator) -> Network:
    """Draw the river, then main streets and minor ones in two crossing families.

    Args:
        district: the style.
        side: width and height of the district in metres.
        rng: all randomness.
    """
    base, waves = float(rng.uniform(0, np.pi)), Waves(rng)
    river = draw_river(district.river[0], side, rng)
    empty = Network([], river, base, waves, district.bend)
    families = []
    for turn, spacing in enumerate(district.spacing):
        lines = fill_with_streamlines(empty, turn * np.pi / 2, spacing, side, rng)
        families.append(lines)
    mains = [choose_main(family, river, 3 * district.river[0]) for family in families]
    lines = [line for family in families for line in family]
    streets = []
    near_river = river.buffer(9)
    for piece in shapely.get_parts(unary_union(lines)):
        middle = piece.interpolate(0.5, normalized=True)
        main = any(line.distance(middle) < 0.01 for line in mains)
        if not main:
            if piece.length < 120 and rng.random() < district.missing:
                continue
            piece = piece.difference(near_river)
        width = rng.uniform(10.5, 13) if main else float(rng.choice([5.0, 6.0, 7.0, 7.5]))
        paved = main or rng.random() >= district.unpaved
        streets += [
            Street(part, width if paved else min(width, 5.5), paved, main)
            for part in shapely.get_parts(piece)
            if part.length > 8
        ]
    return Network(streets, river, base, waves, district.bend)


def choose_main(family: list[LineString], river: Polygon, longest: float) -> LineString:
    """The first long line of a family that crosses the river by a short bridge, or not at all."""
    half = max(line.length for line in family) / 2
    for line in family:
        if line.length > half and line.intersection(river).length < longest:
            return line
    return min(family, key=lambda line: line.intersection(river).length)


def fill_with_streamlines(
    network: Network, turn: float, spacing: float, side: float, rng: np.random.Generator
) -> list[LineString]:
    """Lines along the direction turned by `turn`, about `spacing` apart; the first one crosses the middle."""
    lines: list[LineString] = []
    points = np.empty((0, 2))
    seeds = np.concatenate([[[side / 2, side / 2]], rng.uniform(0, side, (500, 2))])
    seeds[0] += rng.uniform(-0.15, 0.15, 2) * side
    for seed in seeds:
        if len(points) and np.hypot(*(points - seed).T).min() < spacing * 0.85:
            continue
        line = trace(network, turn, seed, points, spacing * 0.5, side)
        if len(line) * STEP > spacing * 0.8:
            lines.append(LineString(line))
            points = np.concatenate([points, line])
    return lines


def trace(network: Network, turn: float, seed: Points, others: Points, closest: float, side: float) -> Points:
    """Follow the direction both ways until the edge, or until another line of the family comes closer than allowed."""
    halves = []
    for sign in (-1.0, 1.0):
        half, place, heading = [seed], seed, np.zeros(2)
        for _ in range(int(2.5 * side / STEP)):
            angle = network.direction(place) + turn
            step = np.array([np.cos(angle), np.sin(angle)]) * sign
            if heading @ step < 0:
                step = -step
            heading, place = step, place + step * STEP
            if min(place) < -MARGIN or max(place) > side + MARGIN:
                break
            half.append(place)
            if len(others):
                distances = np.hypot(*(others - place).T)
                if distances.min() < closest:
                    half.append(others[distances.argmin()])  # ends as a junction
                    break
        halves.append(half)
    return np.array(halves[0][:0:-1] + halves[1])


def draw_river(width: float, side: float, rng: np.random.Generator) -> Polygon:
    """A winding river from edge to edge, off the middle, of varying width."""
    angle = rng.uniform(0, 2 * np.pi)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    position = np.arange(-0.8 * side, 0.8 * side, 6.0)
    winding, widening = Waves(rng, 220, 600), Waves(rng, 60, 200)
    flat = np.stack([position, np.zeros_like(position)], axis=1)
    offset = rng.uniform(0.12, 0.3) * side + 0.1 * side * winding(flat)
    centre = side / 2 + position[:, None] * along + offset[:, None] * across
    tangent = np.gradient(centre, axis=0)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1) / np.hypot(*tangent.T)[:, None]
    half = (width / 2 * (1 + 0.25 * widening(flat)))[:, None]
    return Polygon(np.concatenate([centre + half * normal, (centre - half * normal)[::-1]])).buffer(0)
