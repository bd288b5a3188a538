"""Streets and a river of a demo district, as lines that follow a direction which turns over the ground."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from shapely import LineString, Polygon
from shapely.ops import unary_union

from kdcore.data.procedural.shapes import Points, Waves
from kdcore.data.procedural.styles import District

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
    river_line: LineString
    base: float
    waves: Waves
    bend: float

    def direction(self, places: Points) -> Points:
        """Angle of the main direction at (..., 2) places, in radians."""
        return self.base + self.bend * self.waves(places)


def lay_out_streets(district: District, side: float, rng: np.random.Generator) -> Network:
    """Draw the river, then main streets and minor ones in two crossing families.

    Args:
        district: the style.
        side: width and height of the district in metres.
        rng: all randomness.
    """
    base, waves = float(rng.uniform(0, np.pi)), Waves(rng)
    river, river_line = draw_river(district.river[0], side, rng)
    empty = Network([], river, river_line, base, waves, district.bend)
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
    return Network(streets, river, river_line, base, waves, district.bend)


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


def draw_river(width: float, side: float, rng: np.random.Generator) -> tuple[Polygon, LineString]:
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
    return Polygon(np.concatenate([centre + half * normal, (centre - half * normal)[::-1]])).buffer(0), LineString(
        centre
    )
