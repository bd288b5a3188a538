"""Polygons of a map of classes, checked against the pixels, against numbers worked out by hand, and against pyproj's geodesics."""

import json
import shutil
import subprocess

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pyproj import Geod, Transformer
from rasterio.features import rasterize
from scipy import ndimage

from kdcore.errors import DataError, KdcoreError, Stopped
from kdcore.inference.polygons import write_polygons
from tests.conftest import UTM, write_raster
from tests.disks import small_disk

NAMES = ("land", "building", "water", "road")
GEOD = Geod(ellps="WGS84")


def square(size=40, top=10, left=10, side=20):
    classes = np.zeros((size, size), dtype=np.uint8)
    classes[top : top + side, left : left + side] = 1
    return classes


def polygons(folder, classes, suffix=".gpkg", raster=None, **options):
    """Write and read back; checks the number that is returned."""
    place = write_raster(folder / "classes.tif", classes, nodata=255, **(raster or {}))
    out = folder / f"out/map{suffix}"
    count = write_polygons(place, out, names=NAMES, **options)
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    frame = geopandas.read_file(out)
    assert len(frame) == count
    return frame


def test_a_square_in_utm_has_its_size(tmp_path):
    frame = polygons(tmp_path, square(), background=0)
    assert list(frame.columns) == ["class", "class_index", "area_m2", "geometry"]
    assert frame.loc[0, ["class", "class_index"]].tolist() == ["building", 1]
    assert frame.crs == UTM
    assert frame.geometry[0].equals(
        shapely.box(500_005, 4_999_985, 500_015, 4_999_995)
    )  # 10 px of 0.5 m from the corner
    # On the central meridian, where the raster lies, 1 m on the ground is 0.9996 m on the map.
    assert frame["area_m2"][0] == pytest.approx(100 / 0.9996**2, rel=1e-6)


def test_web_mercator_gives_the_true_area(tmp_path):
    north = Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True).transform(0, 60)[1]
    raster = {"crs": "EPSG:3857", "west": 1e6, "north": north + 200, "resolution": 10}
    (area,) = polygons(tmp_path, square(), background=0, raster=raster)["area_m2"]
    assert area == pytest.approx(0.25 * 200**2, rel=0.005)  # cos(60°)² on a sphere
    edge = Transformer.from_crs("EPSG:3857", "EPSG:4326", always_xy=True)
    corners = shapely.box(1e6 + 100, north - 100, 1e6 + 300, north + 100).exterior.coords
    longitudes, latitudes = edge.transform(*zip(*corners, strict=True))
    assert area == pytest.approx(abs(GEOD.polygon_area_perimeter(longitudes, latitudes)[0]), rel=1e-5)


@pytest.mark.parametrize("north", [0.0, 45.0, -70.0])
def test_degrees_give_the_true_area(tmp_path, north):
    raster = {"crs": "EPSG:4326", "west": 10.0, "north": north, "resolution": 0.001}
    frame = polygons(tmp_path, square(), background=0, raster=raster)
    assert frame["area_m2"][0] == pytest.approx(abs(GEOD.geometry_area_perimeter(frame.geometry[0])[0]), rel=1e-5)


def test_a_map_of_the_whole_earth_has_its_surface(tmp_path):
    raster = {"crs": "EPSG:4326", "west": -180.0, "north": 90.0, "resolution": 0.5}
    (area,) = polygons(tmp_path, np.ones((360, 720), dtype=np.uint8), raster=raster, piece=128)["area_m2"]
    assert area == pytest.approx(510_065_621.724e6, rel=1e-4)  # km² of the WGS 84 ellipsoid, NIMA TR8350.2


def test_a_map_around_the_pole_has_no_hole_in_its_area(tmp_path):
    raster = {"crs": "EPSG:3413", "west": -20_000.0, "north": 20_000.0, "resolution": 1000.0}
    (area,) = polygons(tmp_path, np.ones((40, 40), dtype=np.uint8), raster=raster)["area_m2"]
    scale = 0.9708  # of EPSG:3413 at the pole: (1 + sin 70°) / 2 on a sphere is 0.9698
    assert area == pytest.approx(40_000**2 / scale**2, rel=2e-3)


def test_what_lies_across_pieces_is_one_polygon(tmp_path):
    classes = square(64, 5, 5, 50)
    classes[20:40, 20:40] = 0  # a hole across four pieces of 32 px
    classes[8:10, 8:10] = 0  # and one inside of a piece
    classes[25:28, 25:28] = 1  # an island in the large hole
    frame = polygons(tmp_path, classes, background=0, piece=32, raster={"crs": None})
    outline = shapely.box(5, 5, 55, 55) - shapely.box(20, 20, 40, 40) - shapely.box(8, 8, 10, 10)
    assert sorted(len(one.interiors) for one in frame.geometry) == [0, 2]
    assert frame.geometry[frame.area.idxmax()].equals(outline)
    assert frame.geometry[frame.area.idxmin()].equals(shapely.box(25, 25, 28, 28))
    straight = shapely.get_num_coordinates(frame.geometry[frame.area.idxmax()])
    assert straight == 15  # three rings of four corners; the pieces' borders have left no points on the sides


def test_branches_that_meet_only_at_the_end_are_one_polygon(tmp_path):
    classes = np.zeros((48, 48), dtype=np.uint8)
    classes[:, ::4] = 1  # a comb whose back is in the last row
    classes[-1] = 1
    assert len(polygons(tmp_path, classes, background=0, piece=16)) == 1
    assert len(polygons(tmp_path, classes[::-1].copy(), background=0, piece=16)) == 1


def test_corners_do_not_join(tmp_path):
    classes = np.zeros((4, 4), dtype=np.uint8)
    classes[1, 1] = classes[2, 2] = 1
    assert len(polygons(tmp_path, classes, background=0, piece=2)) == 2


maps = arrays.arrays(
    np.uint8,
    arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24),
    elements=st.sampled_from([0, 0, 0, 1, 1, 2, 255]),
    fill=st.nothing(),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(classes=maps, piece=st.integers(3, 12))
def test_the_polygons_are_the_pixels_however_they_are_read(tmp_path, classes, piece):
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    whole = polygons(tmp_path, classes, raster={"crs": None})
    pieces = polygons(tmp_path, classes, raster={"crs": None}, piece=piece)
    assert pieces.geometry.is_valid.all()
    for index in (0, 1, 2):
        mine = pieces[pieces["class_index"] == index]
        assert mine.area.sum() == (classes == index).sum()
        assert len(mine) == ndimage.label(classes == index)[1]
        theirs = whole[whole["class_index"] == index].geometry
        assert set(mine.geometry.normalize().simplify(0).normalize().to_wkb()) == set(
            theirs.normalize().simplify(0).normalize().to_wkb()
        )
    if len(pieces):
        burnt = zip(pieces.geometry, pieces["class_index"], strict=True)
        assert (rasterize(burnt, out_shape=classes.shape, fill=255, dtype="uint8") == classes).all()


def blobs(size=96, seed=0):
    """Four classes with curved borders, and a corner without data."""
    rng = np.random.default_rng(seed)
    fields = [ndimage.gaussian_filter(rng.normal(size=(size, size)), 5) for _ in range(4)]
    classes = np.argmax(fields, axis=0).astype(np.uint8)
    classes[:20, :20] = 255
    return classes


@pytest.mark.parametrize("piece", [96, 32])
def test_simplified_neighbours_still_fit(tmp_path, piece):
    classes = blobs()
    exact = polygons(tmp_path, classes, piece=piece)
    frame = polygons(tmp_path, classes, piece=piece, simplify_metres=1.0)
    assert len(frame) == len(exact)
    assert shapely.get_num_coordinates(frame.geometry).sum() < 0.5 * shapely.get_num_coordinates(exact.geometry).sum()
    assert frame.geometry.is_valid.all()
    assert set(frame.geom_type) == {"Polygon"}
    together = shapely.union_all(frame.geometry.to_numpy())
    assert frame.area.sum() == pytest.approx(together.area, abs=1e-6)  # no overlap
    assert not together.interiors  # no gap
    assert together.area == pytest.approx(exact.area.sum(), rel=0.01)
    assert sorted(frame["area_m2"]) == pytest.approx(sorted(exact["area_m2"]), rel=1e-7)


def test_pixels_that_are_not_square_are_simplified_in_metres(tmp_path):
    classes = np.zeros((60, 60), dtype=np.uint8)
    classes[10:50, 10:30] = 1
    classes[20:40, 30] = 1  # a tooth of one pixel: 0.5 m wide at 60 degrees north, 10 m long
    raster = {"crs": "EPSG:4326", "west": 10.0, "north": 60.0, "resolution": 9e-6}  # 1.0 m down, 0.5 m across
    assert len(polygons(tmp_path, classes, background=0, raster=raster)["geometry"][0].exterior.coords) == 9
    kept = polygons(tmp_path, classes, background=0, raster=raster, simplify_metres=0.5)
    assert len(kept["geometry"][0].exterior.coords) == 9  # 0.5 m x 10 m / 2 is more than 0.5 m squared
    smooth = polygons(tmp_path, classes, background=0, raster=raster, simplify_metres=4.0)
    assert len(smooth["geometry"][0].exterior.coords) < 9


def test_small_objects_are_left_out_also_across_pieces(tmp_path):
    classes = square(64, 20, 20, 30)
    classes[2:4, 2:4] = 1  # 1 m²
    classes[30:34, 60:63] = 1  # 3 m², across the border of two pieces
    for least, left in ((0, [1, 3, 225.2]), (2, [3, 225.2]), (4, [225.2])):
        frame = polygons(tmp_path, classes, background=0, piece=32, min_area_m2=least)
        assert sorted(frame["area_m2"].round(1)) == left


def test_nodata_is_no_object_and_the_background_only_if_asked(tmp_path):
    classes = square()
    classes[:5] = 255
    assert sorted(polygons(tmp_path, classes)["class"]) == ["building", "land"]
    assert polygons(tmp_path, classes)["area_m2"].sum() == pytest.approx(35 * 40 * 0.25 / 0.9996**2, rel=1e-6)
    assert sorted(polygons(tmp_path, classes, background=0)["class"]) == ["building"]


def test_geojson_is_in_degrees_as_its_standard_asks(tmp_path):
    classes = square()
    classes[15:18, 15:18] = 0
    frame = polygons(tmp_path, classes, ".geojson", background=0, colours=["#000000", "#E69F00", "#ffffff", "#aaaaaa"])
    text = json.loads((tmp_path / "out/map.geojson").read_text())
    assert text["name"] == "map"
    assert "crs" not in text
    assert text["features"][0]["properties"]["colour"] == "#E69F00"
    outer, inner = (shapely.LinearRing(ring) for ring in text["features"][0]["geometry"]["coordinates"])
    assert outer.is_ccw
    assert not inner.is_ccw
    west, north = Transformer.from_crs(UTM, "EPSG:4326", always_xy=True).transform(500_005, 4_999_995)
    assert outer.bounds[0] == pytest.approx(west, abs=1e-6)
    assert outer.bounds[3] == pytest.approx(north, abs=1e-6)
    assert frame.crs == "EPSG:4326"


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
def test_a_map_without_objects_gives_a_file_without_polygons(tmp_path, suffix):
    frame = polygons(tmp_path, np.zeros((20, 20), dtype=np.uint8), suffix, background=0)
    assert frame.empty
    assert pyogrio.read_info(tmp_path / f"out/map{suffix}")["features"] == 0


def test_a_raster_without_a_place_gives_pixels(tmp_path):
    frame = polygons(tmp_path, square(), background=0, raster={"crs": None})
    assert frame.crs is None
    assert frame["area_m2"].isna().all()
    assert frame.geometry[0].equals(shapely.box(10, 10, 30, 30))


@pytest.mark.parametrize(
    ("suffix", "options"), [(".geojson", {}), (".gpkg", {"min_area_m2": 5}), (".gpkg", {"simplify_metres": 1.0})]
)
def test_metres_and_degrees_need_a_place(tmp_path, suffix, options):
    place = write_raster(tmp_path / "classes.tif", square(), crs=None)
    with pytest.raises(DataError, match="no coordinate system"):
        write_polygons(place, tmp_path / f"map{suffix}", names=NAMES, **options)
    assert not (tmp_path / f"map{suffix}").exists()


def test_the_mean_probability_of_each_object(tmp_path):
    classes = square()
    levels = np.full((40, 40), 51, dtype=np.uint8)
    levels[10:30, 10:20], levels[10:30, 20:30] = 254, 127  # 1 and 0.5, half of the object each
    place = write_raster(tmp_path / "classes.tif", classes)
    one = write_raster(tmp_path / "one.tif", levels)
    write_polygons(place, tmp_path / "map.gpkg", names=NAMES[:2], probabilities=one, piece=16)
    frame = geopandas.read_file(tmp_path / "map.gpkg").set_index("class")
    assert frame["probability"].to_dict() == pytest.approx({"building": 0.75, "land": 1 - 51 / 254}, abs=1e-5)
    several = write_raster(tmp_path / "several.tif", np.stack([254 - levels, levels, levels * 0]))
    write_polygons(place, tmp_path / "map.gpkg", names=NAMES[:3], probabilities=several, piece=16)
    frame = geopandas.read_file(tmp_path / "map.gpkg").set_index("class")
    assert frame["probability"].to_dict() == pytest.approx({"building": 0.75, "land": 1 - 51 / 254}, abs=1e-5)


def test_what_cannot_be_used_is_said(tmp_path):
    place = write_raster(tmp_path / "classes.tif", square())
    with pytest.raises(DataError, match=r"\.gpkg or \.geojson"):
        write_polygons(place, tmp_path / "map.shp", names=NAMES)
    with pytest.raises(DataError, match="class 1, but only 1"):
        write_polygons(place, tmp_path / "map.gpkg", names=NAMES[:1])
    with pytest.raises(DataError, match="float32"):
        write_polygons(write_raster(tmp_path / "f.tif", square() * np.float32(1)), tmp_path / "map.gpkg", names=NAMES)
    other = write_raster(tmp_path / "other.tif", square(50))
    with pytest.raises(DataError, match="50 x 50"):
        write_polygons(place, tmp_path / "map.gpkg", names=NAMES[:2], probabilities=other)
    large = np.random.default_rng(0).integers(0, 2, (256, 256)).astype(np.uint8)
    cut = write_raster(tmp_path / "cut.tif", large, tiled=True, blockxsize=16, blockysize=16)
    cut.write_bytes(cut.read_bytes()[:40_000])
    with pytest.raises(DataError, match=r"broken at rows .* Make the file anew"):
        write_polygons(cut, tmp_path / "map.gpkg", names=NAMES, piece=64)
    assert not [path for path in tmp_path.iterdir() if "map" in path.name]


def test_progress_counts_pieces_and_can_stop(tmp_path):
    place = write_raster(tmp_path / "classes.tif", square())
    (tmp_path / "out").mkdir()
    seen = []
    write_polygons(place, tmp_path / "out/map.gpkg", names=NAMES, piece=16, progress=lambda *now: seen.append(now))
    assert seen == [(done, 9) for done in range(1, 10)]
    before = (tmp_path / "out/map.gpkg").read_bytes()

    def stop(done, total):
        if done == 5:
            raise Stopped("by the user")

    with pytest.raises(Stopped, match="by the user"):
        write_polygons(place, tmp_path / "out/map.gpkg", names=NAMES, piece=16, progress=stop)
    assert (tmp_path / "out/map.gpkg").read_bytes() == before
    assert len(list((tmp_path / "out").iterdir())) == 1


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
def test_a_full_disk_leaves_nothing_behind(tmp_path, suffix):
    classes = np.random.default_rng(0).integers(0, 2, (256, 256)).astype(np.uint8)
    place = write_raster(tmp_path / "classes.tif", classes)
    with small_disk(tmp_path / "small", 400) as disk:
        with pytest.raises(KdcoreError, match="disk is full"):
            write_polygons(place, disk / f"map{suffix}", names=NAMES)
        assert not list(disk.iterdir())


def test_rotated_rasters_keep_their_place(tmp_path):
    place = write_raster(tmp_path / "classes.tif", square())
    turned = Affine.translation(500_000, 5_000_000) @ Affine.rotation(30) @ Affine.scale(0.5, -0.5)
    with rasterio.open(place, "r+") as dataset:
        dataset.transform = turned
    write_polygons(place, tmp_path / "map.gpkg", names=NAMES, background=0)
    frame = geopandas.read_file(tmp_path / "map.gpkg")
    corners = shapely.Polygon([turned @ corner for corner in ((10, 10), (30, 10), (30, 30), (10, 30))])
    assert frame.geometry[0].symmetric_difference(corners).area < 1e-6
    assert frame["area_m2"][0] == pytest.approx(100 / 0.9996**2, rel=1e-6)


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
def test_gdal_opens_it(tmp_path, suffix):
    if shutil.which("ogrinfo") is None:
        pytest.skip("GDAL's ogrinfo is not installed")
    polygons(tmp_path, square(), suffix)
    told = subprocess.run(
        ["ogrinfo", "-so", "-al", str(tmp_path / f"out/map{suffix}")], capture_output=True, text=True, check=True
    ).stdout
    assert "Feature Count: 2" in told
    assert "Geometry: Polygon" in told
