"""Maps of classes and polygons from a run's probabilities, by hand."""

import geopandas
import numpy as np
import pytest
import rasterio

from kdcore.errors import DataError
from kdcore.inference.area_sample import class_names
from kdcore.inference.class_maps import write_class_map, write_objects
from tests.conftest import write_raster

COLOURS = ("#999999", "#E69F00", "#56B4E9")


@pytest.fixture
def binary(tmp_path):
    """A house of 20 x 30 px at 0.79 in land at 0.1, beside a shed of 4 x 5 px at 0.5; the last rows hold no data. Pixels of 0.5 m."""
    levels = np.full((1200, 64), 25, dtype=np.uint8)
    levels[10:30, 8:38] = 200
    levels[50:54, 8:13] = 127
    levels[1190:] = 255
    return write_raster(tmp_path / "town.tif", levels, nodata=255)


def classes_of(path):
    with rasterio.open(path) as dataset:
        return dataset.read(1), dataset


@pytest.mark.parametrize(("threshold", "marked"), [(0.5, 620), (0.51, 600), (0.8, 0)])
def test_of_two_classes_the_second_is_where_the_threshold_is_reached(tmp_path, binary, threshold, marked):
    """127 / 254 is 0.5 and 200 / 254 is 0.787."""
    write_class_map(binary, tmp_path / "out.tif", ("land", "roof"), COLOURS[:2], threshold)
    values, _ = classes_of(tmp_path / "out.tif")
    assert [(values == value).sum() for value in (0, 1, 255)] == [1190 * 64 - marked, marked, 10 * 64]


def test_of_several_the_most_probable_is_taken_and_the_file_says_what_it_means(tmp_path):
    levels = np.zeros((3, 32, 32), dtype=np.uint8)
    levels[0], levels[1, :8], levels[2, 8:12] = 100, 154, 101
    levels[:, 30:] = 255
    path = write_raster(tmp_path / "town.tif", levels, nodata=255)
    write_class_map(path, tmp_path / "out.tif", ("land", "water", "roof"), COLOURS)
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert np.bincount(dataset.read(1).ravel())[[0, 1, 2, 255]].tolist() == [18 * 32, 8 * 32, 4 * 32, 2 * 32]
        assert class_names(dataset) == ("land", "water", "roof")
        assert dataset.colormap(1)[1] == (0xE6, 0x9F, 0x00, 255)
        assert dataset.nodata == 255
        with rasterio.open(path) as source:
            assert (dataset.crs, dataset.transform) == (source.crs, source.transform)


def test_objects_of_two_classes_are_those_of_the_second(tmp_path, binary):
    write_class_map(binary, tmp_path / "out.tif", ("land", "roof"), COLOURS[:2])
    write_objects(tmp_path / "out.tif", binary, tmp_path / "town.gpkg", ("land", "roof"), COLOURS[:2])
    found = geopandas.read_file(tmp_path / "town.gpkg", layer="town").sort_values("area_m2")
    assert set(found["class"]) == {"roof"}
    # UTM's scale at its central meridian is 0.9996: a little more ground than 5 and 150 m2
    assert found["area_m2"].tolist() == pytest.approx([5 / 0.9996**2, 150 / 0.9996**2], rel=1e-3)
    assert found["probability"].tolist() == pytest.approx([0.5, 200 / 254], abs=1e-3)


def test_a_broken_map_gets_a_sentence(tmp_path):
    (tmp_path / "town.tif").write_bytes(b"II*\0 cut off")
    with pytest.raises(DataError, match=r"town\.tif: looks like GTiff but cannot be read"):
        write_class_map(tmp_path / "town.tif", tmp_path / "out.tif", ("land", "roof"), COLOURS[:2])
    assert not (tmp_path / "out.tif").exists()
