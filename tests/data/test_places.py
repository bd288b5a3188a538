"""Where a raster lies: by its grid, by ground control points, in a local system, or nowhere that could be."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from kdcore.data.facts import Inspection, note_raster, raster_facts
from kdcore.data.rasters import georeference, ground_resolution, open_raster
from kdcore.data.scene import Box, describe_scene
from kdcore.errors import DataError
from kdcore.inference.ground_area import PixelAreas
from tests.conftest import write_raster
from tests.data.test_scene import collection

IMAGE = np.full((3, 64, 64), 100, dtype=np.uint8)
LOCAL = 'LOCAL_CS["Local",UNIT["metre",1]]'
FEET = 'ENGCRS["site",EDATUM["u"],CS[Cartesian,2],AXIS["e",east],AXIS["n",north],LENGTHUNIT["foot",0.3048]]'
MARS = (
    'GEOGCS["Mars 2000",DATUM["D_Mars_2000",SPHEROID["Mars_2000_IAU_IAG",3396190.0,169.8944]],'
    'PRIMEM["Greenwich",0],UNIT["Degree",0.0174532925199433]]'
)
MARS_METRES = (
    f'PROJCS["Mars plain",{MARS},PROJECTION["Equirectangular"],PARAMETER["False_Easting",0],PARAMETER["False_Northing",0],'
    'PARAMETER["Central_Meridian",0],PARAMETER["Standard_Parallel_1",0],UNIT["Meter",1]]'
)


def raster(path, crs="EPSG:32633", transform=None, gcps=None):
    """A raster at any place."""
    place = {"gcps": gcps, "crs": crs} if gcps else {"crs": crs, "transform": transform}
    with rasterio.open(path, "w", driver="GTiff", width=64, height=64, count=3, dtype="uint8", **place) as file:
        file.write(IMAGE)
    return path


def points(transform, off=0.0):
    """Ground control points at the corners and in the middle of a grid; the last one misses it by so many pixels."""
    found = [(row, column) for row in (0, 64) for column in (0, 64)] + [(32, 32)]
    places = [transform @ (column, row) for row, column in found[:-1]] + [transform @ (32 + off, 32)]
    return [
        GroundControlPoint(row=row, col=column, x=x, y=y) for (row, column), (x, y) in zip(found, places, strict=True)
    ]


GRID = Affine.translation(500_000, 5_000_000) @ Affine.rotation(20) @ Affine.scale(0.5, -0.5)


def test_ground_control_points_place_a_raster(tmp_path):
    scene = describe_scene(raster(tmp_path / "s.tif", gcps=points(GRID)), collection())
    assert scene.crs.to_epsg() == 32633
    np.testing.assert_allclose(tuple(scene.transform), tuple(GRID), atol=1e-6)
    assert scene.metres_per_pixel == pytest.approx(0.5 / 0.9996, rel=1e-4)
    half = describe_scene(tmp_path / "s.tif", collection(metres_per_pixel=1 / 0.9996))
    np.testing.assert_allclose(tuple(half.transform)[:6], tuple(GRID @ Affine.scale(2))[:6], atol=1e-4)


def test_control_points_that_fit_no_grid_are_told(tmp_path):
    """The middle point of five lies 10 px off: the best grid moves by a fifth of it, which leaves 8."""
    path = raster(tmp_path / "s.tif", gcps=points(GRID, off=10))
    with open_raster(path) as dataset:
        assert georeference(dataset).off == pytest.approx(8, abs=0.01)
    found = Inspection("x")
    note_raster(found, raster_facts(path))
    assert any("s.tif: Its ground control points miss the grid" in note and "8.0 px" in note for note in found.notes)


def test_two_control_points_place_nothing(tmp_path):
    assert describe_scene(raster(tmp_path / "s.tif", gcps=points(GRID)[:2]), collection()).crs is None


@pytest.mark.parametrize(("crs", "metres"), [(LOCAL, 0.5), (FEET, 0.5 * 0.3048), (MARS_METRES, 0.5)])
def test_a_system_that_leads_nowhere_on_earth_still_has_metres(tmp_path, crs, metres):
    scene = describe_scene(raster(tmp_path / "s.tif", crs, Affine(0.5, 0, 10, 0, -0.5, 90)), collection())
    assert scene.metres_per_pixel == pytest.approx(metres)
    assert scene.placed
    assert not scene.on_earth
    areas = PixelAreas(scene.crs, scene.transform, 64, 64)(Box(3, 4, 5, 6))
    np.testing.assert_allclose(areas, np.full((5, 6), metres**2))


def test_degrees_of_another_planet_have_no_known_metres(tmp_path):
    scene = describe_scene(raster(tmp_path / "s.tif", MARS, Affine(0.01, 0, 10, 0, -0.01, 40)), collection())
    assert (scene.metres_per_pixel, scene.on_earth) == (None, False)
    assert ground_resolution(CRS.from_wkt(MARS), scene.transform, 64, 64) is None


@pytest.mark.parametrize(
    ("crs", "transform", "words"),
    [
        ("EPSG:4326", Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000), r"x 500016, y 4999984 in EPSG:4326; there is no such"),
        ("EPSG:4326", Affine(0.001, 0, 15, 0, -0.001, 5_000), "there is no such place"),
        ("EPSG:3857", Affine(np.nan, 0, 0, 0, -1, 0), "there is no such place"),
        ("EPSG:32633", Affine(1, 1, 0, 1, 1, 0), "there is no such place"),
        ("EPSG:32633", Affine(0.5, 0, 1e12, 0, -0.5, 5e12), "there is no such place"),
        ("EPSG:32633", Affine(4.5e-6, 0, 15, 0, -4.5e-6, 45), r"pixels would be 4\.\d+e-06 x .* in EPSG:32633"),
    ],
)  # fmt: skip
def test_a_place_that_cannot_be_is_refused(tmp_path, crs, transform, words):
    """Metres called degrees, a latitude of 5,000, no numbers, no area, beyond the zone, degrees called metres."""
    path = raster(tmp_path / "s.tif", crs, transform)
    for look in (lambda: describe_scene(path, collection()), lambda: raster_facts(path)):
        with pytest.raises(DataError, match=rf"s\.tif.*{words}.*gdal_edit\.py -a_srs"):
            look()


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:4326", Affine(360 / 64, 0, -180, 0, -180 / 64, 90)),
        ("EPSG:4326", Affine(360 / 64, 0, 0, 0, -181 / 64, 90.5)),  # from 0 to 360, with pixels around the poles
        ("EPSG:4326", Affine(1e-5, 0, 179.9997, 0, -1e-5, 0)),
        ("EPSG:3857", Affine(626_172.1357, 0, -20_037_508.34, 0, -626_172.1357, 20_037_508.34)),
        ("EPSG:3413", Affine(100_000, 0, -3_200_000, 0, -100_000, 3_200_000)),
    ],
)
def test_places_at_the_ends_of_the_earth_are_places(tmp_path, crs, transform):
    assert describe_scene(raster(tmp_path / "s.tif", crs, transform), collection()).on_earth


@pytest.mark.parametrize(("metres", "fine"), [(0.02, True), (0.01, False), (0.001, False)])
def test_pixels_are_not_blown_up_without_end(tmp_path, metres, fine):
    """0.5 m at 0.02 m is 25 times; 32 is the most."""
    path = write_raster(tmp_path / "s.tif", IMAGE)
    if fine:
        assert describe_scene(path, collection(metres_per_pixel=metres)).height == pytest.approx(64 * 25, rel=1e-3)
        return
    with pytest.raises(DataError, match=r"s\.tif: its pixels are 0\.5\d* m large.*Leave it out"):
        describe_scene(path, collection(metres_per_pixel=metres))
