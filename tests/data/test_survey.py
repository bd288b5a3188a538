"""The survey: statistics of the train part only, and what it refuses."""

import numpy as np
import pytest
import rasterio

from kdcore.data.collection import Collection
from kdcore.data.survey import survey
from kdcore.errors import DataError
from kdcore.settings import SplitSettings
from tests.conftest import write_raster


def test_statistics_come_from_the_train_part(make_collection):
    path = make_collection()
    found = survey(Collection.open(path), 64)
    pixels, labels = [], []
    for name in "ab":
        with rasterio.open(path.parent / f"images/{name}.tif") as dataset:
            pixels.append(dataset.read().reshape(3, -1))
        with rasterio.open(path.parent / f"masks/{name}.tif") as dataset:
            labels.append(dataset.read(1).ravel())
    train = np.concatenate(pixels, axis=1).astype(np.float64)
    np.testing.assert_allclose(found.mean, train.mean(axis=1))
    np.testing.assert_allclose(found.std, train.std(axis=1))
    np.testing.assert_array_equal(found.class_pixels["train"], np.bincount(np.concatenate(labels), minlength=3))
    np.testing.assert_array_equal(found.cell_pixels.sum(axis=0), found.class_pixels["train"])


def test_large_collections_are_sampled(make_collection):
    found = survey(Collection.open(make_collection(size=600)), 64, most_blocks=4)
    assert 0 < found.class_pixels["train"].sum() <= 4 * 256 * 256


def test_a_class_that_the_train_part_lacks(make_collection):
    path = make_collection()
    for index, name in enumerate("ab"):
        write_raster(path.parent / f"masks/{name}.tif", np.eye(128, dtype=np.uint8), west=500_000 + 1000 * index)
    with pytest.raises(DataError, match="no pixel of class 'water'"):
        survey(Collection.open(path), 64)


def test_all_nodata(make_collection):
    path = make_collection()
    for index, name in enumerate("ab"):
        write_raster(
            path.parent / f"images/{name}.tif", np.zeros((3, 128, 128), np.uint8), west=500_000 + 1000 * index, nodata=0
        )
    with pytest.raises(DataError, match="all nodata"):
        survey(Collection.open(path), 64)


def test_a_wrong_label_in_the_test_part_is_found_before_training(make_collection):
    path = make_collection()
    write_raster(path.parent / "masks/d.tif", np.full((128, 128), 77, np.uint8), west=503_000)
    with pytest.raises(DataError, match=r"d\.tif: value 77 at row 0, column 0"):
        survey(Collection.open(path), 64)


def test_a_buffer_that_leaves_nothing(make_collection):
    split = SplitSettings(by="block", grid=(2, 2), train=("r1c1",), validation=("r1c2",), test=("r2c*",))
    with pytest.raises(DataError, match="leaves nothing to train on"):
        survey(Collection.open(make_collection(split=split)), 64)


def test_a_band_of_one_value(make_collection):
    path = make_collection()
    for index, name in enumerate("ab"):
        image = np.random.default_rng(0).integers(0, 255, (3, 128, 128), dtype=np.uint8)
        image[1] = 5
        write_raster(path.parent / f"images/{name}.tif", image, west=500_000 + 1000 * index)
    with pytest.raises(DataError, match="band 2 has one value everywhere"):
        survey(Collection.open(path), 64)
