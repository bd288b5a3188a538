"""What it costs to map an area, by hand."""

import math

import pytest
from pyproj import Geod

from kdcore.deploy.costs import box_km2, map_cost, overlap_factor
from kdcore.errors import SettingsError


def test_overlap_is_tile_over_stride_squared():
    assert overlap_factor(512, 0) == 1
    assert overlap_factor(4, 1) == 4  # tiles of 4 px that move on by 2: each pixel is looked at four times
    assert overlap_factor(512, 32) == pytest.approx(262144 / 200704)  # 512^2 / 448^2 = 1.306


def test_a_megapixel_a_second_of_one_metre_is_3600_square_kilometres_an_hour():
    cost = map_cost(7200, metres_per_pixel=1, megapixels_per_second=1, price_per_hour=0.25, watts=60)
    assert (cost.km2_per_hour, cost.hours, cost.price, cost.watt_hours) == (3600, 2, 0.5, 120)


def test_half_the_pixel_size_costs_four_times_as_much():
    coarse = map_cost(100, metres_per_pixel=1, megapixels_per_second=2)
    fine = map_cost(100, metres_per_pixel=0.5, megapixels_per_second=2)
    assert fine.hours == pytest.approx(4 * coarse.hours)
    assert fine.price is None
    assert fine.watt_hours is None


def test_one_core_with_tiles_of_512_and_a_halo_of_32():
    """0.55 MPx/s on 1-m pixels: 0.55 * 448^2 / 512^2 * 3600 km2/h."""
    cost = map_cost(1000, metres_per_pixel=1, megapixels_per_second=0.55, overlap=overlap_factor(512, 32))
    assert cost.km2_per_hour == pytest.approx(1516, abs=0.5)
    assert cost.hours == pytest.approx(0.6597, abs=1e-4)


def test_nothing_costs_nothing():
    cost = map_cost(0, metres_per_pixel=1, megapixels_per_second=1, price_per_hour=3)
    assert (cost.hours, cost.price) == (0, 0)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"km2": -1}, "The area is -1 km2"),
        ({"km2": math.inf}, "The area is inf km2"),
        ({"metres_per_pixel": 0}, "The ground sample distance is 0 m per pixel; give a number above 0"),
        ({"megapixels_per_second": 0}, "The speed is 0 MPx/s"),
        ({"megapixels_per_second": math.nan}, "The speed is nan MPx/s"),
        ({"overlap": 0.5}, "The overlap is 0.5"),
        ({"price_per_hour": -0.1}, "The price is -0.1 an hour; give a number of at least 0"),
        ({"watts": -5}, "The power is -5 W"),
    ],
)
def test_values_out_of_range_are_refused(values, words):
    good = {"km2": 1, "metres_per_pixel": 1, "megapixels_per_second": 1}
    with pytest.raises(SettingsError, match=words):
        map_cost(**(good | values))


@pytest.mark.parametrize(("tile", "halo"), [(64, 32), (0, 0), (64, -1)])
def test_a_halo_must_leave_something(tile, halo):
    with pytest.raises(SettingsError, match="leaves nothing"):
        overlap_factor(tile, halo)


@pytest.mark.parametrize("south", [-90, -30, 0, 47, 70])
def test_area_of_a_box_is_that_of_a_polygon_along_its_parallels(south):
    west, east, north, steps = 5.0, 8.0, south + 2.0, 3000
    along = [west + (east - west) * step / steps for step in range(steps + 1)]
    longitudes = [*along, *reversed(along)]
    latitudes = [south] * len(along) + [north] * len(along)
    area, _ = Geod(ellps="WGS84").polygon_area_perimeter(longitudes, latitudes)
    assert box_km2(west, south, east, north) == pytest.approx(area / 1e6, rel=1e-6)


def test_the_whole_earth_and_a_box_over_the_antimeridian():
    assert box_km2(-180, -90, 180, 90) == pytest.approx(510_065_622, rel=1e-8)  # surface of the WGS 84 ellipsoid
    assert box_km2(179, 0, -179, 1) == pytest.approx(box_km2(10, 0, 12, 1))
    assert box_km2(10, 5, 10, 6) == 0
    with pytest.raises(SettingsError, match="Draw it anew"):
        box_km2(0, 10, 1, 5)
