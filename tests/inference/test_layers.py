"""Imagery and truth that the map is drawn from, checked against the files they were made of."""

import shutil

import numpy as np
import pytest
import rasterio
from pyproj import Transformer
from rio_cogeo.cogeo import cog_validate

from kdcore.data.collection import Collection
from kdcore.errors import KdcoreError, RunError, SettingsError
from kdcore.inference.layer_index import StudyLayers, slugs
from kdcore.inference.layers import add_overviews, overview_levels, write_layers
from kdcore.settings import SplitSettings
from tests.conftest import UTM, write_raster
from tests.disks import mounted, small_disk


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read(), dataset.dataset_mask()


def test_layers_are_optimised_tiffs_of_the_test_scenes(make_collection, tmp_path):
    collection = Collection.open(make_collection(size=600))
    layers = write_layers(tmp_path / "study", collection)
    assert [scene.name for scene in layers.scenes] == ["d"]
    folder = tmp_path / "study/layers/d"
    assert sorted(path.name for path in folder.iterdir()) == ["imagery.tif", "truth.tif"]
    valid, problems, _ = cog_validate(folder / "imagery.tif", strict=True)
    assert valid, problems
    with rasterio.open(folder / "truth.tif") as truth, rasterio.open(collection.root / "masks/d.tif") as mask:
        assert (truth.read() == mask.read()).all()
        assert (truth.crs, truth.transform, truth.nodata) == (mask.crs, mask.transform, 255)
        assert truth.overviews(1) == [2, 4]
    shown, _ = read(folder / "imagery.tif")
    original, _ = read(collection.root / "images/d.tif")
    smooth = [image.reshape(3, 150, 4, 150, 4).mean(axis=(2, 4)) for image in (shown, original)]
    assert np.abs(smooth[0] - smooth[1]).mean() < 3  # compressed with loss: noise of single pixels goes


def test_bounds_and_pixels_agree_with_pyproj(make_collection, tmp_path):
    collection = Collection.open(make_collection())
    (scene,) = write_layers(tmp_path / "study", collection).scenes
    to_degrees = Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
    west, south = to_degrees.transform(503_000, 5_000_000 - 64)  # 128 px of 0.5 m
    east, north = to_degrees.transform(503_064, 5_000_000)
    assert np.array(scene.bounds) == pytest.approx(np.array([[south, west], [north, east]]), abs=1e-6)
    lng, lat = to_degrees.transform(503_000 + 0.5 * 40.5, 5_000_000 - 0.5 * 17.5)
    assert scene.pixel_at(lat, lng) == (17, 40)
    assert scene.pixel_at(lat + 1, lng) is None
    assert scene.pixel_at(0, -120) is None
    assert scene.zoom == 18  # 0.6 m per pixel at the equator, 0.42 m at 45 degrees north; a UTM pixel has 0.5 m


def test_only_the_tested_part_of_a_scene_is_shown(make_collection, tmp_path):
    split = SplitSettings(by="block", grid=(2, 3), train=("r*c1",), validation=("r1c3",), test=("r1c2", "r2c3"))
    collection = Collection.open(make_collection(size=192, split=split))
    layers = write_layers(tmp_path / "study", collection)
    scene = layers.scenes[0]
    assert scene.part == (0, 64, 192, 128)  # the box around both blocks
    truth, _ = read(tmp_path / "study/layers/a/truth.tif")
    labels, _ = read(collection.root / "masks/a.tif")
    expected = np.full((192, 192), 255, dtype=np.uint8)
    expected[:96, 64:128] = labels[0, :96, 64:128]
    expected[96:, 128:] = labels[0, 96:, 128:]
    assert (truth[0] == expected).all()  # on the pixels of the runs' maps
    assert read(tmp_path / "study/layers/a/imagery.tif")[0].shape == (3, 192, 128)
    to_degrees = Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
    lng, lat = to_degrees.transform(500_000 + 0.5 * 64.5, 5_000_000 - 0.25)
    assert scene.pixel_at(lat, lng) == (0, 64)
    lng, lat = to_degrees.transform(500_000 + 0.5 * 63.5, 5_000_000 - 0.25)
    assert scene.pixel_at(lat, lng) is None


def test_scenes_without_georeference_lie_around_zero(make_collection, tmp_path):
    path = make_collection(native_metres_per_pixel=2.0)
    for file in (*path.parent.glob("images/*"), *path.parent.glob("masks/*")):
        array, _ = read(file)
        write_raster(file, array, crs=None)
    (scene,) = write_layers(tmp_path / "study", Collection.open(path)).scenes
    assert (scene.georeferenced, scene.unit, scene.metres_per_pixel) == (False, "metres", 2.0)
    assert scene.transform == (2, 0, -128, 0, -2, 128)
    (south, west), (north, east) = scene.bounds
    assert (east, north) == pytest.approx(
        (128 / 111319.49, 128 / 111319.49), rel=1e-3
    )  # metres per degree at the equator
    assert (west, south) == pytest.approx((-east, -north))
    with rasterio.open(tmp_path / "study/layers/d/imagery.tif") as imagery:
        assert imagery.transform[:6] == scene.transform
        assert imagery.crs.to_epsg() == 3857


def test_dark_sixteen_bit_bands_are_stretched_alike_in_all_scenes(make_collection, tmp_path):
    split = SplitSettings(train=("a",), validation=("b",), test=("c", "d"))
    path = make_collection(split=split)
    for index, name in enumerate("abcd"):
        image = np.full((4, 128, 128), 300 + 100 * index, dtype=np.uint16)
        image[:, :64] = 1000
        image[:, :4] = 0
        write_raster(path.parent / f"images/{name}.tif", image, west=500_000 + 1000 * index, nodata=0)
    write_layers(tmp_path / "study", Collection.open(path))
    shown = {name: read(tmp_path / f"study/layers/{name}/imagery.tif") for name in "cd"}
    for name, value in (("c", 500), ("d", 600)):
        image, mask = shown[name]
        assert image.shape == (4, 128, 128)
        assert (mask[:4] == 0).all()
        assert (mask[8:] == 255).all()
        expected = (value - 300) / 700 * 255  # black at 300 and white at 1000, the ends of the whole collection
        assert np.abs(image[:, 100:].astype(float) - expected).max() < 6


def write_many(path, names=("B1", "B2", "B3", "B4", "B8A")):
    """Make the images of a collection ones of five bands of 16 bits; gives those of scene d."""
    for index, name in enumerate("abcd"):
        image = np.random.default_rng(index).integers(0, 4000, (5, 16, 16)).repeat(8, 1).repeat(8, 2).astype("uint16")
        with rasterio.open(
            write_raster(path.parent / f"images/{name}.tif", image, west=500_000 + 1000 * index), "r+"
        ) as file:
            file.descriptions = names
    return image


def test_all_of_many_bands_can_be_looked_at(make_collection, tmp_path):
    path = make_collection()
    image = write_many(path)
    (scene,) = write_layers(tmp_path / "study", Collection.open(path)).scenes
    assert [(band.number, band.name, band.meaning) for band in scene.bands] == [
        *((1, "B1", "coastal"), (2, "B2", "blue"), (3, "B3", "green"), (4, "B4", "red"), (5, "B8A", "nir08"))
    ]
    assert (scene.shown, scene.stored()) == ((4, 3, 2), (4, 3, 2))
    shown, _ = read(tmp_path / "study/layers/d/imagery.tif")
    for band, values in zip(shown.astype(float), image.astype(float), strict=True):
        low, high = np.percentile(values, (2, 98))  # of scene d; the collection's differ a little
        assert np.abs(band - np.clip((values - low) / (high - low) * 255, 0, 255)).mean() < 8


def test_bands_that_no_network_sees_can_be_looked_at(make_collection, tmp_path):
    path = make_collection(bands=(5, 1, 2), band_names=("red", "green", "blue", "nir", "<i>"))
    write_many(path)
    (scene,) = write_layers(tmp_path / "study", Collection.open(path)).scenes
    assert ([band.number for band in scene.bands], scene.shown) == ([1, 2, 3, 4, 5], (5, 1, 2))
    assert [band.label for band in scene.bands[3:]] == ["band 4 (near infrared)", "band 5 (<i>)"]
    assert scene.stored((4,)) == (4,)
    with pytest.raises(SettingsError, match="no band 6; its bands are 1, 2, 3, 4, 5"):
        scene.stored((4, 6, 1))


@pytest.mark.parametrize(("dtype", "nothing", "nodata"), [("float32", np.nan, None), ("int16", -9999, -9999)])
def test_a_band_that_lacks_data_takes_nothing_from_the_others(make_collection, tmp_path, dtype, nothing, nodata):
    """Networks see three bands; a fourth is empty, and a fifth has data in the lower half."""
    path = make_collection(bands=(1, 2, 3))
    ramp = np.broadcast_to(np.arange(-640, 640, 10), (3, 128, 128))
    image = np.concatenate([ramp, np.full((2, 128, 128), nothing)]).astype(dtype)
    image[4, 64:] = 5 * np.arange(128)
    for index, name in enumerate("abcd"):
        write_raster(path.parent / f"images/{name}.tif", image, west=500_000 + 1000 * index, nodata=nodata)
    (scene,) = write_layers(tmp_path / "study", Collection.open(path)).scenes
    assert [band.number for band in scene.bands] == [1, 2, 3, 4, 5]
    shown, mask = read(tmp_path / "study/layers/d/imagery.tif")
    assert (mask == 255).all()
    grey = np.interp(
        np.arange(128), (0.02 * 127, 0.98 * 127), (0, 255)
    )  # black and white at the 2nd and 98th percentile
    for band in (0, 1, 2):
        assert np.abs(shown[band].mean(axis=0) - grey).max() < 6
    assert shown[3].max() < 6
    assert shown[4, :56].max() < 6
    assert np.abs(shown[4, 72:].mean(axis=0) - grey).max() < 6


def test_names_of_bands_change_no_hash_and_are_renewed(make_collection, tmp_path):
    path = make_collection()
    write_many(path)
    before = Collection.open(path)
    write_layers(tmp_path / "study", before)
    path.write_text(path.read_text() + "band_names: [a, b, c, d, nir]\n")
    named = Collection.open(path)
    assert named.content_hash == before.content_hash
    (scene,) = write_layers(tmp_path / "study", named).scenes
    assert [band.name for band in scene.bands] == ["a", "b", "c", "d", "nir"]
    assert scene.shown == (1, 2, 3)


def test_of_very_many_bands_some_can_be_looked_at(make_collection, tmp_path):
    path = make_collection(bands=(40, 20, 10))
    for index, name in enumerate("abcd"):
        image = np.random.default_rng(index).integers(0, 255, (50, 128, 128), dtype=np.uint8)
        write_raster(path.parent / f"images/{name}.tif", image, west=500_000 + 1000 * index)
    (scene,) = write_layers(tmp_path / "study", Collection.open(path)).scenes
    assert len(scene.bands) == 32
    assert {40, 20, 10} <= {band.number for band in scene.bands}
    assert read(tmp_path / "study/layers/d/imagery.tif")[0].shape[0] == 32


def test_of_a_huge_scene_only_the_usual_bands_are_kept(make_collection, tmp_path, monkeypatch):
    monkeypatch.setattr("kdcore.inference.layers.MOST_VALUES", 128 * 128 * 5 - 1)
    path = make_collection()
    write_many(path)
    (scene,) = write_layers(tmp_path / "study", Collection.open(path)).scenes
    assert (scene.bands, scene.shown) == ((), (4, 3, 2))
    assert read(tmp_path / "study/layers/d/imagery.tif")[0].shape == (3, 128, 128)


def test_one_band_is_shown_grey(make_collection, tmp_path):
    path = make_collection(bands=(2,))
    write_layers(tmp_path / "study", Collection.open(path))
    image, _ = read(tmp_path / "study/layers/d/imagery.tif")
    assert image.shape == (1, 128, 128)
    assert image.std() > 20


def test_layers_are_written_once_and_again_when_the_data_change(make_collection, tmp_path):
    path = make_collection()
    study = tmp_path / "study"
    write_layers(study, Collection.open(path))
    truth = study / "layers/d/truth.tif"
    before = truth.stat().st_mtime_ns
    write_layers(study, Collection.open(path))
    assert truth.stat().st_mtime_ns == before
    shutil.copy(path.parent / "masks/a.tif", path.parent / "masks/d.tif")
    labels, _ = read(path.parent / "masks/a.tif")
    write_raster(path.parent / "masks/d.tif", labels[0], west=503_000)
    write_layers(study, Collection.open(path))
    assert (read(truth)[0] == labels).all()


@pytest.mark.parametrize("kilobytes", [64, 400, 900, 1300])
def test_a_full_disk_is_noticed_and_leaves_nothing_half_written(make_collection, tmp_path, kilobytes):
    collection = Collection.open(make_collection(size=600))
    with small_disk(tmp_path / "disk", kilobytes) as disk:
        with pytest.raises(KdcoreError, match="disk is full"):
            write_layers(disk / "study", collection)
        assert {path.name for path in disk.rglob("*") if path.is_file()} <= {"truth.tif"}  # whole, if it is there
        with pytest.raises(RunError, match="no map yet"):
            StudyLayers.load(disk / "study")
        assert mounted(disk, 20_000)
        write_layers(disk / "study", collection)
        with rasterio.open(disk / "study/layers/d/truth.tif") as truth:
            assert (truth.read() == read(collection.root / "masks/d.tif")[0]).all()


def test_overviews_of_a_probability_map_repeat_pixels(tmp_path):
    levels = np.random.default_rng(0).integers(0, 255, (2, 600, 1030), dtype=np.uint8)
    path = write_raster(tmp_path / "map.tif", levels, tiled=True, blockxsize=256, blockysize=256, nodata=255)
    add_overviews(path)
    with rasterio.open(path) as dataset:
        assert dataset.overviews(1) == [2, 4, 8]
        assert (dataset.read() == levels).all()
    with rasterio.open(path, overview_level=0) as dataset:
        smaller = dataset.read()
    quarters = np.stack([levels[:, row::2, column::2] for row in (0, 1) for column in (0, 1)])
    assert (quarters == smaller).any(axis=0).all()


@pytest.mark.parametrize(("width", "height", "levels"), [(256, 100, 0), (257, 100, 1), (100, 1024, 2), (1025, 3, 3)])
def test_sizes_are_halved_until_they_fit_one_tile(width, height, levels):
    assert overview_levels(width, height) == levels


def test_slugs_are_distinct_and_plain():
    assert slugs(["Tile_1", "tile 1", "tile-1", "<img src=x>", "", "æøå"]) == [
        *("tile-1", "tile-1-2", "tile-1-3", "img-src-x", "scene", "scene-2")
    ]
