"""A prediction on disk: what is finished bears its name, what is not goes on where it was, and nothing else is touched."""

import json
import os
import signal
import subprocess
import sys

import geopandas
import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rio_cogeo.cogeo import cog_validate

from kdcore.cli.output import Speed
from kdcore.errors import DataError, KdcoreError, RunError
from kdcore.files import HALF_WRITTEN, unfinished
from kdcore.inference.merging import merge
from kdcore.inference.prediction import Prediction
from kdcore.ownership import RECORD
from tests.conftest import UTM, write_raster
from tests.disks import mounted, small_disk
from tests.inference.engines import Known, first_band, predict, stopping_after


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr("kdcore.inference.parts.PART_PIXELS", 1)  # a part for each row of tiles


def noise(*shape):
    return np.random.default_rng(0).integers(1, 254, shape, dtype=np.uint8)


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != RECORD)


def test_maps_are_cloud_optimized_and_say_what_they_are(tmp_path):
    raster = write_raster(tmp_path / "in.tif", noise(3, 1300, 700))
    engine = Known(lambda images: images / images.sum(axis=1, keepdims=True), bands=3, classes=("a", "b", "c & d"))
    prediction = predict(raster, tmp_path / "out", engine)
    assert names(tmp_path / "out") == ["in.classes.tif", "in.json", "in.probabilities.tif"]
    for kind, bands in (("probabilities", 3), ("classes", 1)):
        valid, problems, warnings = cog_validate(prediction.map(kind))
        assert (valid, problems, warnings) == (True, [], [])
        with rasterio.open(raster) as source, rasterio.open(prediction.map(kind)) as dataset:
            assert (dataset.crs, dataset.transform, dataset.shape) == (source.crs, source.transform, source.shape)
            assert (dataset.count, dataset.nodata, dataset.dtypes[0]) == (bands, 255, "uint8")
            assert dataset.overviews(1) == [2, 4]
            assert dataset.tags()["SOURCE"] == "in.tif"
    with rasterio.open(prediction.map("probabilities")) as dataset:
        assert dataset.descriptions == ("a", "b", "c & d")
        assert dataset.scales == pytest.approx((1 / 254,) * 3)
    with rasterio.open(prediction.map("classes")) as dataset:
        colours = dataset.colormap(1)
        assert len({colours[index] for index in range(3)}) == 3
        assert {colours[index][3] for index in range(3)} == {255}
        assert colours[255][3] == 0


def test_the_manifest_counts_what_the_map_shows(tmp_path):
    values = noise(1, 300, 200)
    values[:, :50] = 0
    raster = write_raster(tmp_path / "in.tif", values, nodata=0, resolution=2.0)
    engine = Known(first_band, metres=2.0)
    prediction = predict(raster, tmp_path / "out", engine, tile=128)
    found = json.loads(prediction.manifest.read_bytes())
    buildings = int((values >= 127).sum())
    assert found["classes"]["building"]["pixels"] == buildings
    assert found["classes"]["building"]["hectares"] == pytest.approx(
        buildings * 4 / 1e4, rel=2e-3
    )  # UTM is not true to scale
    assert found["nodata_pixels"] == 50 * 200
    assert found["complete"]


def test_polygons_lie_on_the_map(tmp_path):
    values = np.full((1, 100, 100), 1, dtype=np.uint8)
    values[:, 10:20, 30:50] = 200
    raster = write_raster(tmp_path / "in.tif", values)
    prediction = predict(raster, tmp_path / "out", Known(first_band), polygons="gpkg")
    objects = geopandas.read_file(prediction.folder / "in.gpkg")
    assert objects.crs == UTM
    assert list(objects["class"]) == ["building"]
    assert objects.total_bounds.tolist() == [500_015, 4_999_990, 500_025, 4_999_995]  # half a metre a pixel
    assert json.loads(prediction.manifest.read_bytes())["objects"] == 1


def test_the_same_again_does_nothing_and_another_is_refused(tmp_path):
    raster = write_raster(tmp_path / "in.tif", noise(1, 300, 200))
    prediction = predict(raster, tmp_path / "out", Known(first_band), tile=128)
    made = prediction.manifest.stat().st_mtime_ns
    again = Known(first_band)
    predict(raster, tmp_path / "out", again, tile=128)
    assert not again.shapes
    assert prediction.manifest.stat().st_mtime_ns == made
    with pytest.raises(RunError, match="--overwrite"):
        predict(raster, tmp_path / "out", again, tile=160)
    predict(raster, tmp_path / "out", again, tile=160, overwrite=True)
    assert again.shapes


def test_parts_in_float32_and_in_bfloat16_are_never_mixed(tmp_path):
    raster = write_raster(tmp_path / "in.tif", noise(1, 500, 200))
    begun, other = stopping_after(8), Known(first_band)
    begun.name, other.name = "openvino-bf16", "openvino"
    with pytest.raises(KeyboardInterrupt):
        predict(raster, tmp_path / "out", begun, tile=128)
    with pytest.raises(RunError, match="unfinished prediction"):
        predict(raster, tmp_path / "out", other, tile=128)
    other.name = "openvino-bf16"
    made = predict(raster, tmp_path / "out", other, tile=128)
    assert json.loads(made.manifest.read_bytes())["plan"]["engine"] == "openvino-bf16"


@pytest.mark.parametrize("blend", ["crop", "hann"])
def test_what_was_interrupted_goes_on_where_it_was(tmp_path, blend):
    values = noise(1, 500, 200)
    raster = write_raster(tmp_path / "in.tif", values)
    with pytest.raises(KeyboardInterrupt):
        predict(raster, tmp_path / "out", stopping_after(8), tile=128, blend=blend)  # three tiles a row
    prediction = Prediction(tmp_path / "out", "in")
    assert prediction.finished_parts() == [0, 1]
    assert names(tmp_path / "out") == ["in.parts"]
    engine = Known(first_band)
    predict(raster, tmp_path / "out", engine, tile=128, blend=blend)
    assert len(engine.shapes) == (7 - 2 + (blend == "hann")) * 3  # blending looks at the row above once more
    with rasterio.open(prediction.map("probabilities")) as dataset:
        assert (dataset.read() == values).all()
    assert not prediction.parts.exists()


def test_what_was_finished_before_is_told_first_and_counts_for_no_speed(tmp_path):
    raster = write_raster(tmp_path / "in.tif", noise(1, 500, 200))
    with pytest.raises(KeyboardInterrupt):
        predict(raster, tmp_path / "out", stopping_after(8), tile=128)
    told = []
    with Speed("in", Known(first_band)) as speed:

        def progress(done, total):
            told.append((done, total))
            speed(done, total)

        predict(raster, tmp_path / "out", Known(first_band), tile=128, progress=progress)
    assert told[0] == (160 * 200, 500 * 200)  # two parts: a tile answers for 96 rows at the border, the next one for 64
    assert told[-1] == (500 * 200, 500 * 200)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    made = speed.facts["megapixels_per_second"] * 1e6 * speed.facts["seconds"]
    assert made == pytest.approx(340 * 200, rel=0.2)  # both facts are rounded


def test_a_raster_that_changed_meanwhile_is_not_mixed(tmp_path):
    raster = write_raster(tmp_path / "in.tif", noise(1, 500, 200))
    with pytest.raises(KeyboardInterrupt):
        predict(raster, tmp_path / "out", stopping_after(8), tile=128)
    write_raster(raster, 255 - noise(1, 500, 200))
    with pytest.raises(RunError, match="changed since"):
        predict(raster, tmp_path / "out", Known(first_band), tile=128)


def test_a_killed_process_leaves_nothing_that_looks_finished(tmp_path):
    raster = write_raster(tmp_path / "in.tif", noise(1, 700, 200))
    code = (
        "import itertools, os, pathlib, signal, sys, kdcore.inference.parts as p; p.PART_PIXELS = 1\n"
        "from tests.inference.engines import Known, first_band, predict, stopping_after\n"
        "windows = itertools.count()\n"
        "dies = lambda images: os.kill(os.getpid(), signal.SIGKILL) if next(windows) == 19 else first_band(images)\n"
        "predict(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), Known(dies), tile=128)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(raster), str(tmp_path / "out")], check=False)
    assert killed.returncode == -signal.SIGKILL  # in the middle: at the 20th of 30 windows
    prediction = Prediction(tmp_path / "out", "in")
    before = prediction.finished_parts()
    assert 2 <= len(before) < 10
    assert names(tmp_path / "out") == ["in.parts"]
    engine = Known(first_band)
    predict(raster, tmp_path / "out", engine, tile=128)
    assert len(engine.shapes) == (10 - len(before)) * 3
    assert names(tmp_path / "out") == ["in.classes.tif", "in.json", "in.probabilities.tif"]


def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(tmp_path):
    raster = write_raster(tmp_path / "in.tif", noise(1, 500, 200))
    with pytest.raises(KeyboardInterrupt):
        predict(raster, tmp_path / "out", stopping_after(8), tile=128)
    parts = Prediction(tmp_path / "out", "in").parts
    (parts / f"{HALF_WRITTEN}of-a-dead-one").mkdir()
    (parts / f"{HALF_WRITTEN}of-a-dead-one/in.gpkg").write_text("half")
    with unfinished(parts) as living:
        (living / "in.classes.tif").write_text("half")
        predict(raster, tmp_path / "out", Known(first_band), tile=128)
        assert [path.name for path in parts.iterdir()] == [living.name]
        assert names(living) == ["alive.lock", "in.classes.tif"]
    predict(raster, tmp_path / "out", Known(first_band), tile=128)
    assert names(tmp_path / "out") == ["in.classes.tif", "in.json", "in.probabilities.tif"]


def test_parts_that_are_left_beside_results_are_removed_by_the_next_command(tmp_path):
    raster = write_raster(tmp_path / "in.tif", noise(1, 300, 200))
    prediction = predict(raster, tmp_path / "out", Known(first_band), tile=128)
    before = prediction.manifest.read_bytes()
    for name in ("00000.json", "00001.classes.tif", "00001.lock"):
        prediction.parts.mkdir(exist_ok=True)
        (prediction.parts / name).touch()  # as of a process that was killed after the results had their names
    predict(raster, tmp_path / "out", Known(first_band), tile=128)
    assert not prediction.parts.exists()
    assert prediction.manifest.read_bytes() == before


def test_a_truncated_raster_keeps_what_is_finished_and_says_where_it_breaks(tmp_path):
    values = noise(1, 1000, 200)
    raster = write_raster(tmp_path / "in.tif", values, tiled=True, blockxsize=256, blockysize=256)
    os.truncate(raster, raster.stat().st_size // 2 + 1000)
    with pytest.raises(DataError, match=r"in.tif: broken at rows .* parts are finished and kept"):
        predict(raster, tmp_path / "out", Known(first_band), tile=128)
    prediction = Prediction(tmp_path / "out", "in")
    kept = prediction.finished_parts()
    assert kept
    found = merge(prediction, incomplete=True)
    assert not found["complete"]
    assert names(tmp_path / "out") == [
        "in.incomplete.classes.tif",
        "in.incomplete.json",
        "in.incomplete.probabilities.tif",
        "in.parts",
    ]
    with rasterio.open(tmp_path / "out/in.incomplete.probabilities.tif") as dataset:
        whole = dataset.read()
    end = prediction.plan.rows[kept[-1]][1]
    assert (whole[:, :end] == values[:, :end]).all()
    assert (whole[:, end:] == 255).all()


def test_a_full_disk_is_noticed_and_what_is_finished_is_kept(tmp_path):
    values = np.random.default_rng(0).integers(1, 254, (1, 1500, 1500), dtype=np.uint8)
    raster = write_raster(tmp_path / "in.tif", values)
    with small_disk(tmp_path / "disk", 1200) as disk:
        with pytest.raises(KdcoreError, match="disk is full"):
            predict(raster, disk / "out", Known(first_band), tile=512)
        prediction = Prediction(disk / "out", "in")
        assert not prediction.manifest.exists()
        assert not prediction.map("probabilities").exists()
        before = prediction.finished_parts()
        assert before
        assert mounted(disk, 20_000)
        engine = Known(first_band)
        predict(raster, disk / "out", engine, tile=512)
        assert len(engine.shapes) == (4 - len(before)) * 4
        with rasterio.open(prediction.map("probabilities")) as dataset:
            assert (dataset.read() == values).all()


def test_a_disk_that_is_full_at_the_end_leaves_the_parts(tmp_path):
    values = np.random.default_rng(0).integers(1, 254, (1, 1500, 1500), dtype=np.uint8)
    raster = write_raster(tmp_path / "in.tif", values)
    with small_disk(tmp_path / "disk", 4000) as disk:
        with pytest.raises(KdcoreError, match="disk is full"):
            predict(raster, disk / "out", Known(first_band), tile=512)
        assert names(disk / "out") == ["in.parts"]
        assert len(Prediction(disk / "out", "in").finished_parts()) == 4


def test_a_raster_without_data_gives_maps_without_data(tmp_path):
    raster = write_raster(tmp_path / "in.tif", np.zeros((1, 300, 200), dtype=np.uint8), nodata=0)
    engine = Known(first_band)
    prediction = predict(raster, tmp_path / "out", engine, tile=128, polygons="gpkg")
    assert not engine.shapes
    with rasterio.open(prediction.map("classes")) as dataset:
        assert (dataset.read() == 255).all()
    assert json.loads(prediction.manifest.read_bytes())["nodata_pixels"] == 60_000
    assert not len(geopandas.read_file(prediction.folder / "in.gpkg"))


def test_a_raster_without_a_place_is_mapped_in_pixels(tmp_path):
    raster = write_raster(tmp_path / "in.tif", noise(1, 64, 64), crs=None)
    prediction = predict(raster, tmp_path / "out", Known(first_band), polygons="gpkg")
    with rasterio.open(prediction.map("classes")) as dataset:
        assert dataset.crs is None
    with pytest.raises(DataError, match="does not say where it lies"):
        predict(raster, tmp_path / "other", Known(first_band), polygons="geojson")


def test_a_local_system_is_kept_and_measured(tmp_path):
    """200 x 300 px of a quarter square metre; nobody knows their longitude."""
    local = 'LOCAL_CS["Local",UNIT["metre",1]]'
    raster = write_raster(tmp_path / "in.tif", noise(1, 200, 300), crs=local, west=0, north=100)
    prediction = predict(raster, tmp_path / "out", Known(first_band, metres=0.5), polygons="gpkg")
    with rasterio.open(prediction.map("classes")) as dataset:
        assert dataset.crs.to_wkt().startswith("LOCAL_CS")
        assert dataset.transform == Affine(0.5, 0, 0, 0, -0.5, 100)
    classes = json.loads(prediction.manifest.read_bytes())["classes"]
    assert sum(facts["hectares"] for facts in classes.values()) == pytest.approx(200 * 300 * 0.25 / 10_000)
    with pytest.raises(DataError, match="does not say where it lies on Earth"):
        predict(raster, tmp_path / "other", Known(first_band), polygons="geojson")


def test_ground_control_points_place_the_map(tmp_path):
    grid = Affine.translation(500_000, 5_000_000) @ Affine.rotation(30) @ Affine.scale(0.5, -0.5)
    corners = [(row, column) for row in (0, 64) for column in (0, 64)]
    points = [GroundControlPoint(row=y, col=x, x=(grid @ (x, y))[0], y=(grid @ (x, y))[1]) for y, x in corners]
    with rasterio.open(
        tmp_path / "in.tif", "w", driver="GTiff", width=64, height=64, count=1, dtype="uint8", gcps=points, crs=UTM
    ) as file:
        file.write(noise(1, 64, 64))
    prediction = predict(tmp_path / "in.tif", tmp_path / "out", Known(first_band, metres=0.5), polygons="geojson")
    with rasterio.open(prediction.map("classes")) as dataset:
        assert dataset.crs.to_epsg() == 32633
        np.testing.assert_allclose(tuple(dataset.transform), tuple(grid), atol=1e-6)


def test_pixels_of_a_degree_are_refused_with_and_without_resampling(tmp_path):
    raster = write_raster(tmp_path / "in.tif", noise(1, 90, 180), crs="EPSG:4326", west=-90, north=45, resolution=1.0)
    for resample in (True, False):
        with pytest.raises(DataError, match=r"its pixels are 1\.1\d*e\+05 m large"):
            predict(raster, tmp_path / "out", Known(first_band, metres=0.5), source={"resample": resample})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        (Known(first_band, bands=4), "has 3 bands, but the networks were trained on bands 1, 2, 3, 4"),
        (
            Known(first_band, bands=3, dtype="uint16"),
            "has values of type uint8, but the networks were trained on uint16",
        ),
        (
            Known(first_band, bands=3, metres=10.0),
            "has 0.5 m per pixel, but the network was trained on 10 m.*--resample",
        ),
    ],
)
def test_a_raster_of_another_kind_is_refused(tmp_path, engine, words):
    raster = write_raster(tmp_path / "in.tif", noise(3, 64, 64))
    with pytest.raises(DataError, match=words):
        predict(raster, tmp_path / "out", engine, source={"resample": False})
    assert not (tmp_path / "out").exists()


def test_another_resolution_is_read_at_the_networks_own_on_demand(tmp_path):
    raster = write_raster(tmp_path / "in.tif", noise(1, 200, 300))
    prediction = predict(raster, tmp_path / "out", Known(first_band, metres=2.0), source={"resample": True})
    with rasterio.open(prediction.map("classes")) as dataset:
        assert dataset.shape == (50, 75)
        assert dataset.res == pytest.approx((2.0, 2.0), rel=2e-3)


def test_bands_can_be_chosen(tmp_path):
    values = noise(4, 64, 64)
    raster = write_raster(tmp_path / "in.tif", values)
    prediction = predict(raster, tmp_path / "out", Known(first_band), source={"bands": (3,)})
    with rasterio.open(prediction.map("probabilities")) as dataset:
        assert (dataset.read(1) == values[2]).all()


@pytest.mark.slow  # 15 s: two processes each import torch, and the difference must be seen above their own memory
@pytest.mark.parametrize("blend", ["crop", "hann"])
def test_memory_does_not_grow_with_the_rasters_height(tmp_path, blend):
    used = []
    for height in (2_000, 40_000):
        raster = tmp_path / f"{height}.tif"
        profile = {"driver": "GTiff", "width": 1024, "height": height, "count": 1, "dtype": "uint8", "tiled": True}
        with rasterio.open(
            raster, "w", crs=UTM, transform=rasterio.Affine(1, 0, 5e5, 0, -1, 5e6), **profile
        ) as dataset:
            for row in range(0, height, 2000):
                window = rasterio.windows.Window(0, row, 1024, 2000)
                dataset.write(np.full((1, 2000, 1024), 1 + row // 200, dtype=np.uint8), window=window)
        command = [sys.executable, "-m", "tests.inference.use_memory", raster, tmp_path / f"out{height}", blend]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
        used.append(float(done.stdout))
    assert used[1] < 1.1 * used[0]  # 39 MPx more: 39 MB of imagery, 156 MB as float32
