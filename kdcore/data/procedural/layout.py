"""What stands where in a district: streets first, then the use of the blocks between them, then all that stands there."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import shapely
from shapely import LineString, Polygon
from shapely.ops import split, unary_union

from kdcore.data.procedural.shapes import Rectangle, blobs
from kdcore.data.procedural.streets import Network, lay_out_streets
from kdcore.data.procedural.styles import Colour, Difficulty, District, Roof, Zone

LARGEST = {"field": 5500, "vineyard": 6000, "orchard": 5000, "park": 9000, "forest": 9000}  # square metres of a block
APRON = 20.0  # metres of land around the district, so that its edge cuts through houses as a scene's edge does


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
