"""Small geometry in metres; y points south, angles turn from x (east) to y (south)."""

from typing import Any, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import Polygon

Points = NDArray[np.float64]


class Waves:
    """A smooth random function of the place, about -1 to 1: a sum of sine waves of 150 to 500 metres by default."""

    def __init__(self, rng: np.random.Generator, shortest: float = 150.0, longest: float = 500.0) -> None:
        angle = rng.uniform(0, 2 * np.pi, 5)
        number = 2 * np.pi / rng.uniform(shortest, longest, 5)
        self.vectors = np.stack([np.cos(angle), np.sin(angle)]) * number
        self.phases = rng.uniform(0, 2 * np.pi, 5)

    def __call__(self, places: Points) -> Points:
        """Values at (..., 2) places in metres."""
        return np.asarray(np.sin(places @ self.vectors + self.phases).sum(axis=-1) / 2.5)


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
        cos, sin = float(np.cos(self.angle)), float(np.sin(self.angle))
        return self.x + along * cos - across * sin, self.y + along * sin + across * cos


def blobs(places: Points, rng: np.random.Generator, corners: int, roughness: float) -> list[Polygon]:
    """Round outlines with smooth dents, on whole centimetres; `places` are (blobs, 3): x, y, radius."""
    angle = np.arange(corners) * 2 * np.pi / corners
    around = np.ones((len(places), corners))
    for waves in (2, 3, 4, 5):
        size, turn = rng.normal(0, roughness / waves, len(places)), rng.uniform(0, 2 * np.pi, len(places))
        around += size[:, None] * np.cos(waves * angle + turn[:, None])
    around = places[:, 2:] * np.clip(around, 0.5, 1.5)
    corner = places[:, None, :2] + around[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return list(shapely.polygons(np.round(corner, 2)))


def scatter(area: Any, number: float, rng: np.random.Generator) -> list[tuple[float, float]]:
    """About `number` random places inside `area`."""
    if area.is_empty or number <= 0:
        return []
    west, north, east, south = area.bounds
    share = area.area / max((east - west) * (south - north), 1e-9)
    tries = rng.poisson(number / max(share, 1e-3))
    return inside(area, rng.uniform(west, east, tries), rng.uniform(north, south, tries))


def lattice(area: Any, angle: float, along: float, across: float) -> list[tuple[float, float]]:
    """A regular grid of places inside `area`, turned by `angle`."""
    if area.is_empty:
        return []
    x, y = area.centroid.coords[0]
    reach = shapely.minimum_bounding_radius(area) * 1.5
    u, v = np.meshgrid(np.arange(-reach, reach, along), np.arange(-reach, reach, across))
    cos, sin = np.cos(angle), np.sin(angle)
    return inside(area, x + u.ravel() * cos - v.ravel() * sin, y + u.ravel() * sin + v.ravel() * cos)


def inside(area: Any, xs: Points, ys: Points) -> list[tuple[float, float]]:
    """Those of the places that lie in `area`."""
    kept = shapely.contains_xy(area, xs, ys)
    return list(zip(xs[kept].tolist(), ys[kept].tolist(), strict=True))


def beside(line: Any, position: float, offset: float) -> tuple[float, float]:
    """The place `offset` metres beside a line at `position` along it."""
    position = min(max(float(position), 0.0), line.length)
    here = line.interpolate(position)
    dx, dy = heading(line, position)
    return here.x - dy * offset, here.y + dx * offset


def heading(line: Any, position: float) -> tuple[float, float]:
    """Unit vector along a line at `position`."""
    a, b = line.interpolate(max(position - 1, 0)), line.interpolate(min(position + 1, line.length))
    length = max(float(np.hypot(b.x - a.x, b.y - a.y)), 1e-6)
    return (b.x - a.x) / length, (b.y - a.y) / length
