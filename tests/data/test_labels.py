"""Labels from masks of every kind and from polygons."""

import geopandas
import numpy as np
import pytest
import rasterio
from rasterio.features import rasterize
from shapely import box

from kdcore.data.scene import Box, SceneReader, describe_scene
from kdcore.errors import DataError
from kdcore.settings import ClassSettings, CollectionSettings, SplitSettings
from tests.conftest import UTM, write_raster

SPLIT = SplitSettings(train=("*",), validation=("v",), test=("t",))
BY_VALUE = (ClassSettings(name="dry", value=0), ClassSettings(name="wet", value=1))
BY_COLOUR = (ClassSettings(name="land", colour="#8429F6"), ClassSettings(name="water", colour="#E2A929"))


def read(tmp_path, mask_array, classes, ignore=(), colormap=None, **options):
    settings = CollectionSettings(name="x", classes=classes, ignore=ignore, split=SPLIT)
    size = mask_array.shape[-1]
    image = write_raster(tmp_path / "images/s.tif", np.full((3, size, size), 9, np.uint8))
    mask = write_raster(tmp_path / "masks/s.tif", mask_array, colormap=colormap, **options)
    scene = describe_scene(image, settings, mask)
    return SceneReader(settings).read(scene, scene.box).labels


def test_index_mask_with_negative_ignore(tmp_path):
    mask = np.array([[-1, 0], [1, 1]], dtype=np.int16)
    np.testing.assert_array_equal(read(tmp_path, mask, BY_VALUE, ignore=(-1,)), [[255, 0], [1, 1]])


def test_the_masks_nodata_value_is_ignored_unless_it_is_a_class(tmp_path):
    np.testing.assert_array_equal(
        read(tmp_path, np.array([[9, 0], [1, 1]], np.uint8), BY_VALUE, nodata=9), [[255, 0], [1, 1]]
    )
    np.testing.assert_array_equal(
        read(tmp_path, np.array([[1, 0], [1, 1]], np.uint8), BY_VALUE, nodata=0), [[1, 0], [1, 1]]
    )


def test_rgb_mask(tmp_path):
    mask = np.zeros((3, 2, 2), dtype=np.uint8)
    mask[:, 0, 0] = 0x84, 0x29, 0xF6
    mask[:, 0, 1] = 0xE2, 0xA9, 0x29
    mask[:, 1, :] = 0x9B
    np.testing.assert_array_equal(read(tmp_path, mask, BY_COLOUR, ignore=("#9b9b9b",)), [[0, 1], [255, 255]])


def test_palette_mask_read_by_colour(tmp_path):
    mask = np.array([[3, 5], [5, 3]], dtype=np.uint8)
    colormap = {3: (0xE2, 0xA9, 0x29, 255), 5: (0x84, 0x29, 0xF6, 255)}
    np.testing.assert_array_equal(read(tmp_path, mask, BY_COLOUR, colormap=colormap), [[1, 0], [0, 1]])


def test_palette_mask_read_by_value(tmp_path):
    mask = np.array([[0, 1], [1, 0]], dtype=np.uint8)
    np.testing.assert_array_equal(read(tmp_path, mask, BY_VALUE, colormap={0: (1, 2, 3, 255)}), mask)


def test_a_colour_that_is_no_class_names_file_place_and_mend(tmp_path):
    mask = np.zeros((3, 4, 4), dtype=np.uint8)
    mask[:] = np.array([0x84, 0x29, 0xF6])[:, None, None]
    mask[:, 2, 3] = 1, 2, 3
    with pytest.raises(DataError, match=r"masks/s\.tif: colour #010203 at row 2, column 3 is no class.*`ignore`"):
        read(tmp_path, mask, BY_COLOUR)


def test_an_index_mask_without_palette_needs_values(tmp_path):
    with pytest.raises(DataError, match=r"no palette.*`value`"):
        read(tmp_path, np.zeros((2, 2), np.uint8), BY_COLOUR)


def test_image_and_mask_of_different_size(tmp_path):
    settings = CollectionSettings(name="x", classes=BY_VALUE, split=SPLIT)
    image = write_raster(tmp_path / "images/s.tif", np.full((3, 8, 8), 9, np.uint8))
    mask = write_raster(tmp_path / "masks/s.tif", np.zeros((7, 8), np.uint8))
    scene = describe_scene(image, settings, mask)
    with pytest.raises(DataError, match="mask is 8 x 7 px but its image is 8 x 8 px"):
        SceneReader(settings).read(scene, scene.box)


def polygon_scene(tmp_path, frame, classes, class_field=None, crs=UTM):
    settings = CollectionSettings(name="x", classes=classes, class_field=class_field, split=SPLIT)
    image = write_raster(tmp_path / "images/s.tif", np.full((1, 300, 300), 9, np.uint8), crs=crs)
    path = tmp_path / "labels/s.gpkg"
    path.parent.mkdir(exist_ok=True)
    frame.to_file(path)
    scene = describe_scene(image, settings, None, path)
    return SceneReader(settings), scene


BINARY = (ClassSettings(name="background"), ClassSettings(name="building"))


def test_polygons_of_another_crs_fall_on_the_right_pixels(tmp_path):
    boxes = [box(500_010, 4_999_980, 500_030, 4_999_990), box(500_120, 4_999_860, 500_140, 4_999_880)]
    frame = geopandas.GeoDataFrame(geometry=boxes, crs=UTM)
    reader, scene = polygon_scene(tmp_path, frame.to_crs("EPSG:4326"), BINARY)
    with rasterio.open(scene.image) as dataset:
        expected = rasterize(boxes, out_shape=(300, 300), transform=dataset.transform)
    labels = reader.read(scene, scene.box).labels
    assert expected.sum() == 800 + 1600
    assert (labels != expected).sum() <= 4  # reprojection moves an edge by micrometres


def test_polygons_read_by_windows_equal_those_read_at_once(tmp_path):
    rng = np.random.default_rng(1)
    corners = rng.uniform(0, 140, (60, 2))
    boxes = [box(500_000 + x, 5_000_000 - y - 9, 500_000 + x + 12, 5_000_000 - y) for x, y in corners]
    frame = geopandas.GeoDataFrame({"kind": rng.choice(["a", "b"], 60)}, geometry=boxes, crs=UTM)
    classes = (ClassSettings(name="none"), ClassSettings(name="a"), ClassSettings(name="b"))
    reader, scene = polygon_scene(tmp_path, frame, classes, "kind")
    whole = reader.read(scene, scene.box).labels
    np.testing.assert_array_equal(reader.read(scene, Box(37, 101, 90, 120)).labels, whole[37:127, 101:221])
    assert set(np.unique(whole)) == {0, 1, 2}


def test_a_polygon_of_no_class(tmp_path):
    frame = geopandas.GeoDataFrame({"kind": ["lava"]}, geometry=[box(500_000, 4_999_990, 500_010, 5_000_000)], crs=UTM)
    reader, scene = polygon_scene(tmp_path, frame, BINARY, "kind")
    with pytest.raises(DataError, match="'lava', which is no class"):
        reader.read(scene, scene.box)


def test_labels_without_a_crs(tmp_path):
    frame = geopandas.GeoDataFrame(geometry=[box(500_000, 4_999_990, 500_010, 5_000_000)])
    reader, scene = polygon_scene(tmp_path, frame, BINARY)
    with pytest.raises(DataError, match="no CRS"):
        reader.read(scene, scene.box)


def test_polygons_over_an_image_without_a_crs(tmp_path):
    frame = geopandas.GeoDataFrame(geometry=[box(500_000, 4_999_990, 500_010, 5_000_000)], crs=UTM)
    reader, scene = polygon_scene(tmp_path, frame, BINARY, crs=None)
    with pytest.raises(DataError, match="image of these polygons has no CRS"):
        reader.read(scene, scene.box)
