"""A sample of points drawn from a map, labelled as QGIS would, and read back; everything that makes it no sample is refused."""

from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import pytest
import rasterio
from rasterio.transform import from_origin

from kdcore.errors import DataError, KdcoreError
from kdcore.inference.area_sample import draw, read, read_maps

HEIGHT, WIDTH, METRES = 300, 400, 10.0


def write_map(path: Path, values: np.ndarray, crs: str = "EPSG:32632", classes: str = "0 land, 1 water") -> Path:
    with rasterio.open(
        path, "w", driver="GTiff", width=values.shape[1], height=values.shape[0], count=1, dtype="uint8", nodata=255,
        crs=crs, transform=from_origin(500_000, 5_000_000, METRES, METRES),
    ) as dataset:  # fmt: skip
        dataset.write(values, 1)
        dataset.update_tags(CLASSES=classes)
    return path


@pytest.fixture
def truth() -> np.ndarray:
    """A lake of 60 x 100 pixels in land of 294 x 400; the last rows hold no data."""
    values = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    values[100:160, 50:150] = 1
    values[-6:] = 255
    return values


@pytest.fixture
def mapped(truth) -> np.ndarray:
    """The lake seems 20 columns wider than it is."""
    values = truth.copy()
    values[100:160, 150:170] = 1
    return values


def label(path: Path, truth: np.ndarray, **changes: object) -> None:
    """Give each point its true class in the layer `points`, as QGIS saves it."""
    points = geopandas.read_file(path, layer="points")
    rows = ((5_000_000 - points.geometry.y) / METRES).astype(int)
    columns = ((points.geometry.x - 500_000) / METRES).astype(int)
    points["label"] = np.array(["land", "water"])[truth[rows, columns]]
    for name, value in changes.items():
        points[name] = value
    pyogrio.write_dataframe(points, path, driver="GPKG", layer="points")


def test_points_lie_in_the_middle_of_pixels_of_their_class_and_tell_nothing_of_it(tmp_path, mapped):
    drawn = draw(write_map(tmp_path / "m.classes.tif", mapped), tmp_path / "s.gpkg", points=120, least=40, seed=1)
    assert {name: (entry["pixels"], entry["points"]) for name, entry in drawn.items()} == {
        "land": (HEIGHT * WIDTH - 6 * WIDTH - 7200, 78),  # 40 + 40 * 110,360 / (110,360 + 7,160)
        "water": (7200, 42),
    }
    # UTM's scale at its central meridian is 0.9996, so a pixel of 10 m there covers a little more.
    assert drawn["water"]["hectares"] == pytest.approx(72 / 0.9996**2, rel=1e-4)
    points = geopandas.read_file(tmp_path / "s.gpkg", layer="points")
    assert list(points.columns) == ["id", "label", "geometry"]
    assert points["label"].isna().all()
    design = pyogrio.read_dataframe(tmp_path / "s.gpkg", layer="design")
    assert (mapped[design["row"], design["column"]] == design["stratum"]).all()
    assert len(set(zip(design["row"], design["column"], strict=True))) == 120
    assert ((points.geometry.x - 500_000) % METRES == METRES / 2).all()
    assert not design["stratum"].is_monotonic_increasing


def test_an_unbiased_area_where_counting_is_wrong(tmp_path, truth, mapped):
    """The map has 72 ha of water, the truth 60."""
    path = write_map(tmp_path / "m.classes.tif", mapped)
    draw(path, tmp_path / "s.gpkg", points=600, least=200, seed=0)
    label(tmp_path / "s.gpkg", truth)
    labelled = read(tmp_path / "s.gpkg")
    water = labelled.sample.areas_of_classes()[1]
    low, high = water.interval()
    assert low < 60 / 0.9996**2 < high < labelled.counted[1]
    found, counted = read_maps({"same": path}, labelled)
    assert (found["same"] == labelled.sample.strata).all()
    assert counted["same"] == pytest.approx(labelled.counted)


def test_a_map_in_degrees_has_the_same_area(tmp_path):
    """A degree is as long as the ellipsoid says: 0.01 x 0.01 degrees at 60 degrees north."""
    path = tmp_path / "d.classes.tif"
    with rasterio.open(path, "w", driver="GTiff", width=100, height=100, count=1, dtype="uint8", nodata=255, crs="EPSG:4326",
                       transform=from_origin(10, 60, 1e-4, 1e-4)) as dataset:  # fmt: skip
        dataset.write(np.repeat([[0], [1]], 50, axis=0).repeat(100, axis=1).astype(np.uint8), 1)
        dataset.update_tags(CLASSES="0 land, 1 water")
    drawn = draw(path, tmp_path / "s.gpkg", points=20, least=5, seed=0)
    # WGS 84 at 59.995 degrees: 111,412 m a degree of latitude and 55,808 m of longitude
    assert sum(entry["hectares"] for entry in drawn.values()) == pytest.approx(1114.12 * 558.08 / 1e4, rel=1e-3)


def change_points(path: Path, change) -> None:
    points = geopandas.read_file(path, layer="points")
    pyogrio.write_dataframe(change(points), path, driver="GPKG", layer="points")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.iloc[1:], "1 points are gone and 0 were added"),
        (lambda p: pd.concat([p, p.iloc[:1].assign(id=999)]), "0 points are gone and 1 were added"),
        (lambda p: p.assign(geometry=p.geometry.translate(3)), "points were moved"),
        (lambda p: p.assign(label=[None, *p["label"][1:]]), "1 of 20 points have no label"),
        (lambda p: p.assign(label=["  ", *p["label"][1:]]), "1 of 20 points have no label"),
        (lambda p: p.assign(label="forest"), "has the label 'forest'; the classes are land, water"),
    ],
)
def test_what_is_no_probability_sample_any_more_is_refused(tmp_path, truth, change, message):
    draw(write_map(tmp_path / "m.classes.tif", truth), tmp_path / "s.gpkg", points=20, least=5, seed=0)
    label(tmp_path / "s.gpkg", truth)
    change_points(tmp_path / "s.gpkg", change)
    with pytest.raises(DataError, match=message):
        read(tmp_path / "s.gpkg")


def test_labels_in_capitals_are_the_same_and_a_labelled_sample_is_not_overwritten(tmp_path, truth):
    path = write_map(tmp_path / "m.classes.tif", truth)
    draw(path, tmp_path / "s.gpkg", points=20, least=5, seed=0)
    label(tmp_path / "s.gpkg", truth, label="LAND ")
    assert (read(tmp_path / "s.gpkg").sample.reference == 0).all()
    with pytest.raises(KdcoreError, match=r"s\.gpkg"):
        draw(path, tmp_path / "s.gpkg", points=20, least=5, seed=0)


def test_other_files_are_refused_in_a_sentence(tmp_path, truth):
    path = write_map(tmp_path / "m.classes.tif", truth)
    other = write_map(tmp_path / "other.tif", truth, classes="")
    with pytest.raises(DataError, match="is no map of classes by kdcore"):
        draw(other, tmp_path / "s.gpkg", points=20, least=5, seed=0)
    with pytest.raises(DataError, match=r"should end in \.gpkg"):
        draw(path, tmp_path / "s.shp", points=20, least=5, seed=0)
    geopandas.GeoDataFrame({"label": ["land"]}, geometry=geopandas.points_from_xy([1], [2], crs=4326)).to_file(
        tmp_path / "mine.gpkg"
    )
    for name in ("mine.gpkg", "missing.gpkg"):
        with pytest.raises(DataError, match="is no sample that `kdcore area sample` drew"):
            read(tmp_path / name)
    draw(path, tmp_path / "s.gpkg", points=20, least=5, seed=0)
    label(tmp_path / "s.gpkg", truth)
    labelled = read(tmp_path / "s.gpkg")
    with pytest.raises(DataError, match="has the classes land, sea"):
        read_maps({"a": write_map(tmp_path / "sea.tif", truth, classes="0 land, 1 sea")}, labelled)
    with pytest.raises(DataError, match="lies in another coordinate system"):
        read_maps({"a": write_map(tmp_path / "utm33.tif", truth, crs="EPSG:32633")}, labelled)
    with pytest.raises(DataError, match="has no data at 20 of the points"):
        read_maps({"a": write_map(tmp_path / "empty.tif", np.full_like(truth, 255))}, labelled)
