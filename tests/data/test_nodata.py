"""No-data: left out before pixels are resampled, and found where no file declares it."""

import json

import numpy as np
import pytest
import rasterio

from kdcore.data.collection import Collection
from kdcore.data.inspect import inspect
from kdcore.data.nodata import find_undeclared, read_without
from kdcore.data.propose import proposal_text
from kdcore.data.scene import SceneReader, describe_scene
from kdcore.data.survey import survey
from tests.conftest import write_raster
from tests.data.two_classes import collection

SCALE = 0.5 / 0.9996  # metres on the ground of half a metre on the map, in the middle of a UTM zone


def read(path, **values):
    settings = collection(**values)
    scene = describe_scene(path, settings)
    return SceneReader(settings).read(scene, scene.box)


def noise(*shape, seed=0, low=800, high=2500, dtype=np.int16):
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


class TestResampling:
    def test_to_coarser_pixels_takes_the_mean_of_what_has_data(self, tmp_path):
        image = noise(2, 32, 32)
        hole = np.zeros((32, 32), bool)
        hole[:, :9] = hole[20:23, 20:23] = True
        image[:, hole] = -9999
        crop = read(write_raster(tmp_path / "s.tif", image), nodata=-9999, metres_per_pixel=2 * SCALE)
        masked = np.ma.masked_array(image, np.broadcast_to(hole, image.shape)).astype(np.float64)
        parts = masked.reshape(2, 16, 2, 16, 2)
        np.testing.assert_array_equal(crop.valid, (~hole).reshape(16, 2, 16, 2).mean(axis=(1, 3)) >= 0.5)
        mean = parts.mean(axis=(2, 4)).filled(0)
        assert np.abs(crop.image - mean)[:, crop.valid].max() <= 0.51  # rounded to whole numbers
        assert (crop.image[:, ~crop.valid] == 0).all()

    def test_a_dark_band_of_a_pixel_with_data_counts(self, tmp_path):
        image = np.zeros((2, 4, 4), np.uint8)
        image[0] = 100
        crop = read(write_raster(tmp_path / "s.tif", image), nodata=0, metres_per_pixel=2 * SCALE)
        assert crop.valid.all()
        np.testing.assert_array_equal(crop.image[:, 0, 0], [100, 0])

    def test_to_finer_pixels_mixes_nothing_in(self, tmp_path):
        image = np.full((1, 16, 16), 500, np.int16)
        image[:, 4:9, 4:9] = -9999
        crop = read(write_raster(tmp_path / "s.tif", image), nodata=-9999, metres_per_pixel=SCALE / 2)
        assert crop.valid.shape == (32, 32)
        assert (crop.image[0][crop.valid] == 500).all()
        assert (~crop.valid).sum() == pytest.approx(100, abs=10)

    @pytest.mark.parametrize("scale", [1.7, 2.0, 3.3, 0.4])
    def test_equals_gdal_where_all_pixels_have_data(self, tmp_path, scale):
        image = noise(1, 60, 50, dtype=np.float32)
        path = write_raster(tmp_path / "s.tif", image)
        shape = (int(60 / scale), int(50 / scale))
        window = rasterio.windows.Window(0, 0, shape[1] * scale, shape[0] * scale)
        with rasterio.open(path) as dataset:
            got, valid = read_without(dataset, [1], window, shape, -9999.0)
            how = rasterio.enums.Resampling.average if scale > 1 else rasterio.enums.Resampling.bilinear
            wanted = dataset.read(window=window, out_shape=(1, *shape), resampling=how)
        assert valid.all()
        np.testing.assert_allclose(got, wanted, rtol=1e-4)

    def test_does_not_depend_on_how_much_is_read_at_once(self, tmp_path, monkeypatch):
        image = noise(3, 90, 70)
        image[:, noise(90, 70, low=0, high=3) == 0] = -9999
        path = write_raster(tmp_path / "s.tif", image)
        with rasterio.open(path) as dataset:
            window = rasterio.windows.Window(3.3, 5.1, 60, 80)
            whole = read_without(dataset, [3, 1], window, (33, 25), -9999)
            monkeypatch.setattr("kdcore.data.nodata.MOST_VALUES", 500)
            pieces = read_without(dataset, [3, 1], window, (33, 25), -9999)
        for one, other in zip(whole, pieces, strict=True):
            np.testing.assert_array_equal(one, other)

    @pytest.mark.parametrize("metres", [1.0, 0.25])
    def test_gives_the_statistics_of_what_has_data_whether_declared_or_named(self, make_collection, metres):
        found = []
        for declared in (False, True):
            path = make_collection(f"c{declared}", nodata=None if declared else -9999, metres_per_pixel=metres)
            for index, name in enumerate("abcd"):
                image = noise(3, 128, 128, seed=index)
                image[:, :, :42] = -9999  # a third
                options = {"nodata": -9999} if declared else {}
                write_raster(path.parent / f"images/{name}.tif", image, west=500_000 + 1000 * index, **options)
            found.append(survey(Collection.open(path), 32))
        spread = noise(1, 1000, 1000).std()  # of single pixels: 491; means of four have half of that
        assert max(found[0].std) < spread
        np.testing.assert_allclose(found[0].mean, found[1].mean, rtol=0.005)
        np.testing.assert_allclose(found[0].std, found[1].std, rtol=0.02)


def folder(tmp_path, change, dtype=np.uint8, names="abc", **options):
    """Images of 40 to 199 with `change(image, index)`, and masks of 0 and 1."""
    for index, name in enumerate(names):
        image = change(noise(3, 128, 128, seed=index, low=40, high=200, dtype=dtype), index)
        place = {"west": 500_000.0 + 1000 * index}
        write_raster(tmp_path / f"c/images/{name}.tif", image, **place, **options)
        write_raster(tmp_path / f"c/masks/{name}.tif", noise(128, 128, low=0, high=2, dtype=np.uint8), **place)
    return tmp_path / "c"


def framed(value):
    """A rotated image in a frame: the four corners, 6,480 px, hold `value`."""
    y, x = np.mgrid[:128, :128]
    corners = np.abs(x - 63.5) + np.abs(y - 63.5) > 90

    def change(image, index):
        image[:, corners] = value
        return image

    return change, int((~corners).sum())


class TestUndeclared:
    @pytest.mark.parametrize(
        ("value", "dtype"),
        [
            (0, np.uint8),
            (255, np.uint8),
            (0, np.uint16),
            (65535, np.uint16),
            (-9999, np.int16),
            (-32768, np.int16),
            (-1, np.float32),
            (7, np.uint8),
        ],
    )
    def test_borders_are_found_and_proposed(self, tmp_path, value, dtype):
        change, left = framed(value)
        path = folder(tmp_path, change, dtype)
        found = inspect(path, crop=32)
        assert found.proposal.nodata == value
        assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["undeclared"][0]["value"] == value
        assert any(f"hold {value} in every band over" in note and "`nodata: " in note for note in found.notes)
        assert sum(found.class_pixels["test"].values()) == left
        (path / "collection.yaml").write_text(proposal_text(found))
        assert Collection.open(path).settings.nodata == value

    def test_borders_that_jpeg_has_blurred_are_noted_with_the_command_that_masks_them(self, tmp_path):
        change, _ = framed(0)
        path = folder(tmp_path, change, compress="JPEG", photometric="YCBCR", tiled=True, blockxsize=64, blockysize=64)
        found = inspect(path, crop=32)
        assert found.proposal.nodata is None
        assert any("hold about 0 in every band" in note and "nearblack -setmask" in note for note in found.notes)

    def test_values_that_differ_from_image_to_image_are_all_said(self, tmp_path):
        fills = [framed(value)[0] for value in (-9999, -32768, -9999)]
        found = inspect(folder(tmp_path, lambda image, index: fills[index](image, index), np.int16), crop=32)
        assert found.proposal.nodata is None
        for value in (-9999, -32768):
            assert any(
                f"hold {value} in every" in text and f"-a_nodata {value} FILE" in text for text in found.problems
            )

    def test_fill_values_inside_are_found(self, tmp_path):
        def change(image, index):
            image[:, 50:55, 60:70] = -1e20
            return image

        path = folder(tmp_path, change, np.float32)
        found = inspect(path, crop=32)
        assert found.proposal.nodata == np.float32(-1e20)
        assert sum(found.class_pixels["test"].values()) == 128 * 128 - 50

    def test_in_a_collection_without_nodata_is_a_problem(self, tmp_path):
        change, _ = framed(-9999)
        path = folder(tmp_path, change, np.int16)
        (path / "collection.yaml").write_text(
            "name: x\nclasses: [{name: a, value: 0}, {name: b, value: 1}]\nsplit: {train: [a], validation: [b], test: [c]}\n"
        )
        assert any("write `nodata: -9999` into collection.yaml" in text for text in inspect(path, crop=32).problems)

    def test_in_some_images_of_which_others_declare_theirs_is_not_proposed(self, tmp_path):
        change, _ = framed(0)
        path = folder(tmp_path, change)
        image = change(noise(3, 128, 128, seed=9, low=40, high=200, dtype=np.uint8), 0)
        write_raster(path / "images/c.tif", image, west=502_000, nodata=7)
        found = inspect(path, crop=32)
        assert found.proposal.nodata is None
        assert any("gdal_edit.py -a_nodata 0" in text for text in found.problems)

    @pytest.mark.parametrize(
        "change",
        [
            lambda image, index: image,
            lambda image, index: np.where(image < 60, 0, image),  # dark pixels all over
            lambda image, index: np.where(
                np.arange(128) < 40, np.minimum(image, np.arange(128) // 2), image
            ),  # fades out
            lambda image, index: image * 0 + 7,
        ],
        ids=["plain", "dark pixels", "a shore that fades into black", "one value"],
    )
    def test_is_nothing_that_imagery_may_be(self, tmp_path, change):
        path = folder(tmp_path, lambda image, index: change(image, index).astype(np.uint8))
        assert find_undeclared(sorted((path / "images").iterdir())) == []

    def test_is_not_looked_for_in_files_that_declare_it(self, tmp_path):
        change, _ = framed(0)
        path = folder(tmp_path, change, nodata=0)
        assert find_undeclared(sorted((path / "images").iterdir())) == []

    def test_is_found_in_an_image_of_which_only_pieces_are_read(self, tmp_path, monkeypatch):
        monkeypatch.setattr("kdcore.data.nodata.WHOLE_PIXELS", 1000)
        image = noise(1, 1200, 1500, low=40, high=200, dtype=np.uint8)
        image[:, :, :375] = 0
        (found,) = find_undeclared([write_raster(tmp_path / "s.tif", image)])
        assert (found.value, found.images) == (0, (1, 1))
        assert found.share == pytest.approx(0.25, abs=0.03)
