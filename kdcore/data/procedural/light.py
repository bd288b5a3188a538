"""From a painted canvas to what a sensor delivers: sun, cast shadows, blue sky, haze, blur, noise, 8 bits."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from kdcore.data.procedural.canvas import METRES, Canvas, Plane
from kdcore.data.procedural.styles import SKY

SKYLIGHT = (0.30, 0.335, 0.39)  # red, green, blue in the shade, where full sun is 1
CONTRAST, LEVEL = 1.12, 126.0  # of the delivered product, like an operator's stretch
PENUMBRA = 0.6  # metres of height over which a shadow fades


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
