"""How many square metres of ground each pixel of a raster covers, in any coordinate system."""

from typing import Any, Self

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio import DatasetReader
from rasterio.crs import CRS

from kdcore.data.rasters import GEOD, ground_resolution, own_metres, to_degrees
from kdcore.data.scene import Box

BETWEEN_POINTS = 10_000.0  # metres; the area of a pixel is worked out this far apart and interpolated, to 1 in 10⁶
ARM = 50.0  # metres to each side of such a point; long enough for the rounding of coordinates not to matter


class PixelAreas:
    """True ground area of pixels on the WGS 84 ellipsoid; a web-mercator or degree grid gets no distorted areas.

    Args:
        crs: of the raster.
        transform: pixels to coordinates.
        height, width: of the raster, pixels.
    """

    def __init__(self, crs: CRS, transform: Affine, height: int, width: int) -> None:
        size = ground_resolution(crs, transform, width, height)
        if size is None:
            raise ValueError("a raster without a place has no ground area")
        self.metres_per_pixel = max(size)
        self.step = max(1, int(BETWEEN_POINTS / self.metres_per_pixel))
        self._crs, self._transform = crs, transform
        self._to_degrees, self._unit = to_degrees(crs.to_wkt()), own_metres(crs.to_wkt())

    @classmethod
    def of(cls, dataset: DatasetReader) -> Self:
        """Of an open raster that has a place."""
        return cls(dataset.crs, dataset.transform, dataset.height, dataset.width)

    def __call__(self, box: Box) -> NDArray[np.float64]:
        """Square metres of each pixel of a window, (height, width); NaN where the coordinate system ends."""
        rows, down = _interpolation(box.row, box.height, self.step)
        columns, across = _interpolation(box.column, box.width, self.step)
        return down @ self._at(rows[:, None] * self.step, columns[None] * self.step) @ across.T

    def pixel_size(self, box: Box) -> tuple[float, float]:
        """Metres of a pixel's width and height at the middle of a window."""
        middle = Affine.translation(box.column + box.width // 2, box.row + box.height // 2)
        size = ground_resolution(self._crs, self._transform @ middle, 1, 1)
        assert size is not None
        return size

    def _at(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float64]:
        arm = max(0.5, ARM / self.metres_per_pixel)
        sides = [self._position(columns + x * arm, rows + y * arm) for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1))]
        area = np.cross(sides[0] - sides[1], sides[2] - sides[3]) / (2 * arm) ** 2
        return np.asarray(np.linalg.norm(area, axis=-1))

    def _position(self, columns: NDArray[Any], rows: NDArray[Any]) -> NDArray[np.float64]:
        """Places of pixels in metres from the centre of the Earth, (..., 3): no pole and no date line disturbs there."""
        a, b, c, d, e, f = tuple(self._transform)[:6]
        x, y = a * columns + b * rows + c, d * columns + e * rows + f
        if self._to_degrees is None:  # a local system is flat
            assert self._unit is not None
            return self._unit * np.stack([x, y, np.zeros_like(x)], -1)
        longitude, latitude = self._to_degrees.transform(x, y)
        longitude, latitude = np.radians(longitude), np.radians(latitude)
        with np.errstate(invalid="ignore"):
            normal = GEOD.a / np.sqrt(1 - GEOD.es * np.sin(latitude) ** 2)
            around = normal * np.cos(latitude)
            return np.stack(
                [around * np.cos(longitude), around * np.sin(longitude), normal * (1 - GEOD.es) * np.sin(latitude)], -1
            )


def _interpolation(start: int, length: int, step: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Points around pixels, counted in steps, and each pixel's weights of them: (points,), (length, points)."""
    places = (start + 0.5 + np.arange(length)) / step
    points = np.arange(int(places[0]), int(places[-1]) + 2)
    return points, np.maximum(0, 1 - np.abs(places[:, None] - points))
