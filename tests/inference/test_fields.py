"""Where tiles of several files lie to each other: distances by hand, in pixels."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import Transformer

from kdcore.data.scene import describe_scene
from kdcore.inference.fields import place_tiles
from kdcore.settings import ClassSettings, CollectionSettings, SplitSettings
from tests.conftest import write_raster

SETTINGS = CollectionSettings(
    name="c",
    classes=(ClassSettings(name="a", value=0), ClassSettings(name="b", value=1)),
    split=SplitSettings(train=("a",), validation=("b",), test=("c",)),
)


def scene(folder, name, west=500_000.0, north=5_000_000.0, crs="EPSG:32633", group=None, transform=None, size=256):
    file = write_raster(folder / f"{name}.tif", np.ones((1, size, size), np.uint8), crs, west, north)
    if transform is not None:
        with rasterio.open(file, "r+") as dataset:
            dataset.transform = transform
    return describe_scene(file, SETTINGS, group=group)


def tiles_of(*scenes, side=128):
    return [
        (one.id, row, column)
        for one in scenes
        for row in range(0, one.height, side)
        for column in range(0, one.width, side)
    ]


def distances(places):
    at = np.array([(place.row, place.column) for place in places])
    return np.hypot(*(at[:, None] - at[None]).transpose(2, 0, 1))


def test_neighbours_of_one_grid_are_a_field_and_distances_cross_the_border(tmp_path):
    left, right = scene(tmp_path, "left"), scene(tmp_path, "right", west=500_128.0)  # 256 px of half a metre
    places = place_tiles([left, right], tiles_of(left, right), 128)
    assert {place.field for place in places} == {"left"}
    found = distances(places)
    assert found[0, 4] == pytest.approx(256, rel=0.005)  # the same corner of both
    assert found[1, 4] == pytest.approx(128, rel=0.005)
    assert found[2, 5] == pytest.approx(np.hypot(128, 384), rel=0.005)


def test_scenes_that_are_far_apart_are_fields_of_their_own(tmp_path):
    # Sixteen tiles of 128 px of half a metre are 1,024 m.
    near, far = scene(tmp_path, "near", west=501_100.0), scene(tmp_path, "far", west=502_500.0)
    first = scene(tmp_path, "first")
    places = place_tiles([first, near, far], tiles_of(first, near, far), 128)
    assert [place.field for place in places[::4]] == ["first", "first", "far"]
    assert (places[8].row, places[8].column) == (0, 0)  # alone: its own rows and columns


def test_another_crs_and_a_rotated_grid_are_brought_to_the_same_plane(tmp_path):
    first = scene(tmp_path, "first")
    lon, lat = Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True).transform(500_128.0, 5_000_000.0)
    degrees = Affine(0.5 / (111_195 * np.cos(np.radians(lat))), 0, lon, 0, -0.5 / 111_195, lat)
    second = scene(tmp_path, "second", crs="EPSG:4326", transform=degrees)
    turned = scene(
        tmp_path,
        "turned",
        transform=Affine.translation(500_000, 4_999_800) @ Affine.rotation(30) @ Affine.scale(0.5, -0.5),
    )
    places = place_tiles([first, second, turned], tiles_of(first, second, turned), 128)
    assert len({place.field for place in places}) == 1
    found = distances(places)
    assert found[0, 4] == pytest.approx(256, rel=0.01)
    assert found[0, 8] == pytest.approx(400, rel=0.01)  # 200 m
    assert found[8, 9] == pytest.approx(128, rel=0.01)


def test_the_date_line_is_no_border(tmp_path):
    west = scene(tmp_path, "west", crs="EPSG:4326", transform=Affine(1e-5, 0, 179.9990, 0, -1e-5, 0.0))
    east = scene(tmp_path, "east", crs="EPSG:4326", transform=Affine(1e-5, 0, -179.9990, 0, -1e-5, 0.0))
    places = place_tiles([west, east], tiles_of(west, east), 128)
    assert len({place.field for place in places}) == 1
    assert distances(places)[0, 4] == pytest.approx(200, rel=0.01)  # 0.002 degrees


def test_parts_that_do_not_say_where_they_lie_stay_apart_and_name_their_scene(tmp_path):
    parts = [scene(tmp_path, f"s_{number}", crs=None, group="s") for number in (1, 2)]
    alone = scene(tmp_path, "other", crs=None)
    places = place_tiles([*parts, alone], tiles_of(*parts, alone), 128)
    assert [(place.field, place.whole) for place in places[::4]] == [("s_1", "s"), ("s_2", "s"), ("other", "other")]
    assert (places[7].row, places[7].column) == (128, 128)
