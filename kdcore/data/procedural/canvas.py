"""What a district is painted on, the noise that gives surfaces their structure, and what a sensor delivers of it.

That is: sun, cast shadows, blue sky, haze, blur, noise, 8 bits.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from PIL import Image
from rasterio.features import rasterize
from scipy import ndimage
from shapely import Polygon

from kdcore.data.procedural.layout import Layout
from kdcore.data.procedural.styles import SKY, Difficulty, District

METRES = 0.5  # of a pixel
Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]
Thing = TypeVar("Thing")
SKYLIGHT = (0.30, 0.335, 0.39)  # red, green, blue in the shade, where full sun is 1
CONTRAST, LEVEL = 1.12, 126.0  # of the delivered product, like an operator's stretch
PENUMBRA = 0.6  # metres of height over which a shadow fades


class Canvas:
    """Colour in full sun, height above ground, and how the surface is lit; the painter adds layer on layer.

    Attributes:
        colour: (3, side, side) float32, 0..255.
        height: (side, side) float32 metres.
        shading: (side, side) float32, light of the sun on the surface relative to level ground.
        x, y: (side, side) float32, places of the pixels' centres in metres.
        fine, medium, broad: (side, side) float32 noise with spots of 1.2, 7 and 45 metres.
        to_sun: (3,) unit vector east, south, up.
    """

    def __init__(self, layout: Layout, district: District, difficulty: Difficulty, rng: np.random.Generator) -> None:
        self.layout, self.district, self.difficulty, self.rng = layout, district, difficulty, rng
        self.side = round(layout.side / METRES)
        shape = (self.side, self.side)
        self.colour = np.zeros((3, *shape), dtype=np.float32)
        self.height = np.zeros(shape, dtype=np.float32)
        self.shading = np.ones(shape, dtype=np.float32)
        centres = ((np.arange(self.side) + 0.5) * METRES).astype(np.float32)
        self.x, self.y = np.broadcast_to(centres, shape), np.broadcast_to(centres[:, None], shape)
        azimuth, elevation = np.radians(district.sun)
        flat = np.cos(elevation)
        self.to_sun = np.array([np.sin(azimuth) * flat, -np.cos(azimuth) * flat, np.sin(elevation)])
        self.fine, self.medium, self.broad = self.noise(1.2), self.noise(7), self.noise(45)

    def noise(self, metres: float) -> Plane:
        """Smooth random values of unit variance; `metres` is the size of a spot."""
        step = metres / METRES
        cells = int(np.ceil(self.side / step)) + 4
        coarse = Image.fromarray(self.rng.standard_normal((cells, cells), dtype=np.float32))
        size = round(cells * step)
        smooth = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32)
        start = (size - self.side) // 2
        smooth = smooth[start : start + self.side, start : start + self.side]
        return np.asarray((smooth - smooth.mean()) / smooth.std())

    def ids(self, shapes: Sequence[Any], touched: bool = False) -> NDArray[np.int32]:
        """(side, side) number of the last shape over each pixel's centre, from 1; 0 where there is none."""
        return burn(shapes, range(1, len(shapes) + 1), self.side, touched)

    def put(self, where: Mask, colour: Any, share: Any = 1.0) -> None:
        """Paint `colour` (3,) or (3, pixels) where the mask is set, mixed in by `share`."""
        colour = np.asarray(colour, dtype=np.float32)
        colour = colour[:, None] if colour.ndim == 1 else colour
        self.colour[:, where] += (colour - self.colour[:, where]) * share


def burn(shapes: Sequence[Any], values: Sequence[int], side: int, touched: bool = False) -> NDArray[np.int32]:
    """(side, side) value of the last shape over each pixel's centre; 0 where there is none.

    Plain outlines are handed over as coordinate lists: shapely's own way of doing so takes ten times longer.
    """
    out = np.zeros((side, side), dtype=np.int32)
    pairs = []
    for shape, value in zip(shapes, values, strict=True):
        if isinstance(shape, Polygon) and not shape.interiors and not shape.is_empty:
            shape = {"type": "Polygon", "coordinates": [shapely.get_coordinates(shape).tolist()]}
        elif shape.is_empty:
            continue
        pairs.append((shape, int(value)))
    if pairs:
        rasterize(pairs, out=out, transform=Affine.scale(METRES), all_touched=touched)
    return out


def soft_step(value: Any, width: float) -> Plane:
    """0 below, 1 above zero, smooth over about `width` on both sides."""
    return np.asarray(1 / (1 + np.exp(np.clip(-2.5 * value / width, -30, 30))), dtype=np.float32)


def mix(first: Any, second: Any, share: Any) -> Plane:
    """(3, ...) mixture of two colours, each (3,) or (3, ...)."""
    share = np.asarray(share, dtype=np.float32)
    first, second = (
        colour.reshape(3, *[1] * share.ndim) if colour.ndim == 1 else colour
        for colour in (np.asarray(first, dtype=np.float32), np.asarray(second, dtype=np.float32))
    )
    return np.asarray(first + (second - first) * share)


def each(things: Sequence[Thing], value: Callable[[Thing], Any]) -> Plane:
    """One value of each thing, float32."""
    return np.array([value(thing) for thing in things], dtype=np.float32)


def expose(canvas: Canvas) -> NDArray[np.uint8]:
    """(3, side, side) uint8 image of the canvas."""
    district, difficulty, rng = canvas.district, canvas.difficulty, canvas.rng
    skylight = np.array(SKYLIGHT, dtype=np.float32)[:, None, None]
    sun = canvas.shading * (1 - cast_shadows(canvas))
    above = np.maximum(canvas.height, 0)
    enclosed = np.clip((ndimage.gaussian_filter(above, 5) - above) / 8, 0, 1)
    light = (1 - skylight) * sun + skylight * (1 - 0.35 * enclosed)
    image = canvas.colour * light * np.array(district.tint, dtype=np.float32)[:, None, None]
    air = np.clip(district.haze * difficulty.haze * (1 + 0.35 * canvas.noise(140)), 0, 0.8)
    image = image * (1 - air) + air * np.array(SKY, dtype=np.float32)[:, None, None]
    image = (image - 128) * CONTRAST + LEVEL
    for band in image:
        band[:] = ndimage.gaussian_filter(band, difficulty.blur)
    spread = difficulty.noise * (0.6 + 0.4 * np.maximum(image, 0) / 128)  # more photons, more noise
    image += spread * rng.standard_normal(image.shape, dtype=np.float32)
    return np.asarray(np.clip(np.round(image), 1, 255), dtype=np.uint8)


def cast_shadows(canvas: Canvas) -> Plane:
    """(side, side) 0..1: how much of the sun each pixel loses to higher things between it and the sun."""
    height, side = canvas.height, canvas.side
    flat = float(np.hypot(canvas.to_sun[0], canvas.to_sun[1]))
    rise = METRES * float(canvas.to_sun[2]) / flat  # of the ray to the sun, for each pixel on the ground
    blocked = np.full(height.shape, -10.0, dtype=np.float32)
    for step in range(1, int(height.max() / rise) + 2):
        columns, rows = (round(float(step * part / flat)) for part in canvas.to_sun[:2])
        here = tuple(slice(max(0, -shift), side - max(0, shift)) for shift in (rows, columns))
        there = tuple(slice(max(0, shift), side - max(0, -shift)) for shift in (rows, columns))
        np.maximum(blocked[here], height[there] - np.float32(step * rise), out=blocked[here])
    return np.asarray(ndimage.gaussian_filter(np.clip((blocked - height) / PENUMBRA, 0, 1), 0.5))
