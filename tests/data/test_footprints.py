"""Which imagery shows the same ground: neighbours do not, whatever their coordinate system; the same ground twice does."""

from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from pyproj import Geod, Transformer
from rasterio.crs import CRS

from kdcore.data.footprints import Footprints, footprint, ground_bounds, overlaps, same_ground
from kdcore.data.scene import Box, Scene

DEGREE = 0.5 / 111_320  # of latitude: half a metre
TURNED = Affine.translation(500_000, 5_000_000) @ Affine.rotation(-25) @ Affine.scale(0.5, -0.5)
SYSTEMS = {
    "UTM, west of its middle": ("EPSG:32633", Affine(0.5, 0, 300_000, 0, -0.5, 5_000_000)),
    "UTM, in its middle": ("EPSG:32633", Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)),
    "UTM, turned": ("EPSG:32633", TURNED),
    "Lambert-93": ("EPSG:2154", Affine(0.5, 0, 350_000, 0, -0.5, 6_700_000)),
    "British grid": ("EPSG:27700", Affine(0.5, 0, 530_000, 0, -0.5, 180_000)),
    "Web Mercator": ("EPSG:3857", Affine(0.5, 0, 1e6, 0, -0.5, 6e6)),
    "degrees": ("EPSG:4326", Affine(DEGREE, 0, 10, 0, -DEGREE, 48)),
    "degrees at the date line": ("EPSG:4326", Affine(DEGREE, 0, 180 - 96 * DEGREE, 0, -DEGREE, 48)),
    "the North Pole": ("EPSG:3413", Affine(0.5, 0, -40, 0, -0.5, 40)),
    "south up": ("EPSG:32633", Affine(0.5, 0, 300_000, 0, 0.5, 5_000_000)),
    "a local system": ('LOCAL_CS["Local",UNIT["metre",1]]', Affine(0.5, 0, 0, 0, -0.5, 96)),
}


def scene(crs, transform, size=192, name="a"):
    """A scene of which only its place matters."""
    return Scene(
        id=name,
        group=name,
        image=Path(f"{name}.tif"),
        mask=None,
        polygons=None,
        height=size,
        width=size,
        native_shape=(size, size),
        bands=(1,),
        dtype="uint8",
        crs=None if crs is None else CRS.from_user_input(crs),
        transform=transform,
        metres_per_pixel=0.5,
        scale=(1.0, 1.0),
    )


def same(a, b):
    """Whether two scenes show the same ground, asked one of the other and through the tree, both ways."""
    first, second = footprint(a), footprint(b)
    answers = {same_ground(first, second), same_ground(second, first)}
    answers |= {list(Footprints([first]).showing(second)) == [0], list(Footprints([second]).showing(first)) == [0]}
    assert len(answers) == 1
    return answers.pop()


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("step", [(192, 0), (0, 192), (-192, 0), (192, 192), (191, 0), (500, 0)])
def test_neighbours_do_not_show_the_same_ground(system, step):
    """One row or column of pixels in common comes from rounding."""
    crs, transform = SYSTEMS[system]
    assert not same(scene(crs, transform), scene(crs, transform @ Affine.translation(*step)))


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("step", [(0, 0), (100, 0), (0, -150), (189, 0), (-160, 180)])
def test_the_same_ground_twice_is_found(system, step):
    """Three columns of 192 are enough, wherever they lie and however the grid is turned."""
    crs, transform = SYSTEMS[system]
    assert same(scene(crs, transform), scene(crs, transform @ Affine.translation(*step)))


def test_a_box_around_a_turned_grid_is_not_the_grid():
    """Two squares turned by 45 degrees, corner to corner: their boxes overlap by a quarter, they do not."""
    turned = Affine.translation(500_000, 5_000_000) @ Affine.rotation(-45) @ Affine.scale(0.5, -0.5)
    beside = turned @ Affine.translation(200, 0)
    one, other = footprint(scene("EPSG:32633", turned)), footprint(scene("EPSG:32633", beside))
    assert one.outline.envelope.intersection(other.outline.envelope).area > 0.2 * one.outline.envelope.area
    assert not same_ground(one, other)


@pytest.mark.parametrize(("metres", "shown"), [(96, False), (94, True), (0, True), (-96, False), (-50, True)])
def test_two_coordinate_systems_are_compared_on_the_ground(metres, shown):
    """A UTM scene of 96 m, and one in degrees whose west edge lies so many metres east of the other's along its upper edge."""
    west, north = 300_000, 5_000_000
    here = scene("EPSG:32633", Affine(0.5, 0, west, 0, -0.5, north))
    lon, lat = Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True).transform(west, north)
    across = Geod(ellps="WGS84").inv(lon, lat, lon + 1e-4, lat)[2] / 1e-4  # metres a degree of longitude
    there = scene("EPSG:4326", Affine(0.5 / across, 0, lon + metres / across, 0, -DEGREE, lat))
    turned = 96 * np.tan(np.radians(2))  # grid north is at most this much off within a scene, metres
    if abs(metres) == 96:
        there = scene("EPSG:4326", there.transform @ Affine.translation(np.sign(metres) * 2 * turned, 0))
    assert same(here, there) is shown


def test_places_that_cannot_be_compared_do_not_overlap():
    local, other = 'LOCAL_CS["Local",UNIT["metre",1]]', 'LOCAL_CS["Other",UNIT["metre",1]]'
    transform = Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)
    assert not same(scene(local, transform), scene(other, transform))
    assert not same(scene(local, transform), scene("EPSG:32633", transform))
    assert footprint(scene(None, transform)) is None
    assert footprint(scene("EPSG:32633", Affine.identity())) is None


def test_both_sides_of_the_date_line_are_one_place():
    """UTM zone 60 south and longitudes counted from 0 to 360 meet in the Pacific."""
    lon, lat = Transformer.from_crs("EPSG:32760", "EPSG:4326", always_xy=True).transform(833_915, 8_999_000)
    assert -180 < lon < -179.9  # a little beyond
    there = scene("EPSG:32760", Affine(0.5, 0, 833_915, 0, -0.5, 8_999_000))
    for around in (-360, 0, 360):
        assert same(there, scene("EPSG:4326", Affine(DEGREE, 0, lon % 360 + around, 0, -DEGREE, lat)))
    assert not same(there, scene("EPSG:4326", Affine(DEGREE, 0, lon % 360 + 1, 0, -DEGREE, lat)))


def test_a_picture_of_the_whole_earth_shows_everything():
    world = scene("EPSG:4326", Affine(2.0, 0, -180, 0, -1.0, 90), size=180)
    for crs, transform in SYSTEMS.values():
        if crs.startswith("EPSG"):
            assert same(world, scene(crs, transform))


def test_the_part_of_a_scene_is_its_rectangle():
    crs, transform = SYSTEMS["UTM, turned"]
    part = footprint(scene(crs, transform), Box(10, 20, 30, 40))
    assert part.outline.area == pytest.approx(30 * 40 * 0.25)
    assert next(iter(part.outline.exterior.coords)) == pytest.approx(transform @ (20, 10))


def test_a_point_in_common_is_no_overlap():
    one = footprint(scene("EPSG:32633", TURNED)).outline
    assert not overlaps(one, one.boundary.buffer(0.2), 1.0)
    assert overlaps(one, one, 1000.0)  # smaller than a pixel and yet the same


def test_bounds_are_those_of_all_corners():
    """The corners of a turned square lie left of, above, right of and below each other."""
    found = ground_bounds(scene("EPSG:32633", TURNED))
    lon, lat = Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True).transform(
        *np.transpose([TURNED @ corner for corner in ((0, 0), (192, 0), (0, 192), (192, 192))])
    )
    assert found == pytest.approx((min(lon), min(lat), max(lon), max(lat)))
    assert ground_bounds(scene('LOCAL_CS["Local",UNIT["metre",1]]', TURNED)) is None


def test_many_neighbours_are_each_compared_with_few_others(monkeypatch):
    """A mosaic of 900 tiles: each has at most eight neighbours, so no more than 8100 pairs are looked at, of 404,550."""
    tiles = [
        footprint(scene("EPSG:32633", TURNED @ Affine.translation(192 * column, 192 * row), name=f"{row}-{column}"))
        for row in range(30)
        for column in range(30)
    ]
    tree, looked = Footprints(tiles), 0

    def counted(a, b):
        nonlocal looked
        looked += 1
        return same_ground(a, b)

    monkeypatch.setattr("kdcore.data.footprints.same_ground", counted)
    assert [list(tree.showing(tile)) for tile in tiles] == [[index] for index in range(900)]
    assert looked <= 900 * 25  # boxes of turned tiles reach a little further than the tiles
