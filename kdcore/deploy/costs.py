"""What it costs to map an area: arithmetic on measured speeds. Never imports torch.

A network's speed is in megapixels of its tiles a second. Tiles overlap by their halos, so more pixels are looked at than are
mapped; that factor, and the size of a pixel on the ground, turn the speed into square kilometres an hour.
"""

import math

from kdcore.data.rasters import GEOD
from kdcore.errors import SettingsError
from kdcore.settings import Frozen

SECONDS_PER_HOUR = 3600.0
STRIP = 0.01  # degrees of longitude


class MapCost(Frozen):
    """What it costs to map an area once.

    Attributes:
        km2_per_hour: mapped in an hour of computing.
        hours: of computing.
        price: in the currency of the price per hour; None without one.
        watt_hours: None where the power is not known.
    """

    km2_per_hour: float
    hours: float
    price: float | None = None
    watt_hours: float | None = None


def overlap_factor(tile: int, halo: int) -> float:
    """Pixels looked at for each pixel that is mapped, (tile / stride)^2 with a stride of tile - 2 halo.

    Args:
        tile: side of what the network sees at once, pixels.
        halo: cut away on each side, pixels.

    Raises:
        SettingsError: nothing would be left of a tile.
    """
    stride = tile - 2 * halo
    if tile < 1 or halo < 0 or stride < 1:
        raise SettingsError(
            f"A halo of {halo} px on each side leaves nothing of tiles of {tile} px. Choose a smaller halo."
        )
    return (tile / stride) ** 2


def map_cost(
    km2: float,
    *,
    metres_per_pixel: float,
    megapixels_per_second: float,
    overlap: float = 1.0,
    price_per_hour: float | None = None,
    watts: float | None = None,
) -> MapCost:
    """What it costs to map an area with one network in one engine. Reading and writing are left out: they overlap with it.

    Args:
        km2: area, square kilometres.
        metres_per_pixel: ground sample distance of the imagery as the network sees it.
        megapixels_per_second: of tiles, as measured.
        overlap: pixels looked at for each pixel mapped, from `overlap_factor`.
        price_per_hour: of the machine.
        watts: mean power while it computes.

    Raises:
        SettingsError: a value that is no number in its range.
    """
    check("The area", km2, "km2", zero=True)
    check("The ground sample distance", metres_per_pixel, "m per pixel")
    check("The speed", megapixels_per_second, "MPx/s")
    check("The price", price_per_hour, "an hour", zero=True)
    check("The power", watts, "W", zero=True)
    if not overlap >= 1:
        raise SettingsError(f"The overlap is {overlap:g}, but each pixel is looked at once at least. Give 1 or more.")
    km2_per_second = megapixels_per_second / overlap * metres_per_pixel**2  # a megapixel of 1 m is a square kilometre
    hours = km2 / km2_per_second / SECONDS_PER_HOUR
    return MapCost(
        km2_per_hour=km2_per_second * SECONDS_PER_HOUR,
        hours=hours,
        price=None if price_per_hour is None else hours * price_per_hour,
        watt_hours=None if watts is None else hours * watts,
    )


def check(what: str, value: float | None, unit: str, zero: bool = False) -> None:
    """Refuse a value that is no finite number above zero.

    Raises:
        SettingsError: says what it is and in which unit.
    """
    if value is not None and not (math.isfinite(value) and (value >= 0 if zero else value > 0)):
        raise SettingsError(f"{what} is {value:g} {unit}; give a number {'of at least' if zero else 'above'} 0.")


def box_km2(west: float, south: float, east: float, north: float) -> float:
    """Area between two meridians and two parallels on the WGS 84 ellipsoid, square kilometres.

    Args:
        west: longitude in degrees.
        south: latitude in degrees.
        east: longitude in degrees, less than `west` for a box over the antimeridian.
        north: latitude in degrees.

    Raises:
        SettingsError: latitudes that are out of range or the wrong way round.
    """
    if not -90 <= south <= north <= 90:
        raise SettingsError(f"The box goes from {south:g} to {north:g} degrees of latitude. Draw it anew.")
    # In so narrow a strip a geodesic is as good as a parallel.
    area = GEOD.polygon_area_perimeter([0, STRIP, STRIP, 0], [south, south, north, north])[0]
    degrees = (east - west) % 360 if east != west + 360 else 360.0
    return float(abs(area) * degrees / STRIP / 1e6)
