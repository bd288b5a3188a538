"""Reading windows of scenes: what comes out is what GDAL, or arithmetic, says."""

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcore.data.rasters import ground_resolution, open_raster
from kdcore.data.scene import Box, SceneReader, describe_scene
from kdcore.errors import DataError
from tests.conftest import write_raster
from tests.data.two_classes import collection


def test_a_window_is_the_same_as_a_slice_of_the_whole(tmp_path):
    rng = np.random.default_rng(0)
    array = rng.integers(1, 255, (3, 700, 600), dtype=np.uint8)
    scene = describe_scene(write_raster(tmp_path / "s.tif", array), collection())
    reader = SceneReader(collection(), cache_mb=1)

    @settings(max_examples=40, deadline=None)
    @given(st.integers(-50, 720), st.integers(-50, 620), st.integers(1, 400), st.integers(1, 400))
    def check(row, column, height, width):
        crop = reader.read(scene, Box(row, column, height, width))
        padded = np.pad(array, ((0, 0), (500, 500), (500, 500)))
        np.testing.assert_array_equal(
            crop.image, padded[:, row + 500 : row + 500 + height, column + 500 : column + 500 + width]
        )
        outside = np.pad(np.ones((700, 600), bool), 500)
        np.testing.assert_array_equal(
            crop.valid, outside[row + 500 : row + 500 + height, column + 500 : column + 500 + width]
        )
        assert (crop.labels == 255).all()

    check()


def test_the_cache_stays_below_its_limit(tmp_path):
    array = np.ones((3, 2048, 2048), dtype=np.uint8)
    scene = describe_scene(write_raster(tmp_path / "s.tif", array), collection())
    reader = SceneReader(collection(), cache_mb=2)
    reader.read(scene, scene.box)
    assert 0 < reader._blocks.bytes <= 2_000_000


def test_a_coarser_resolution_is_the_mean_of_native_pixels(tmp_path):
    array = np.arange(16 * 16, dtype=np.float32).reshape(1, 16, 16)
    path = write_raster(tmp_path / "s.tif", array, resolution=0.5)
    # UTM stretches lengths by its scale factor (0.9996 at the central meridian), so 0.5 m on the map is 0.5002 m on the ground.
    scene = describe_scene(path, collection(metres_per_pixel=2 * 0.5 / 0.9996))
    assert (scene.height, scene.width) == (8, 8)
    crop = SceneReader(collection()).read(scene, scene.box)
    np.testing.assert_allclose(crop.image[0], array[0].reshape(8, 2, 8, 2).mean(axis=(1, 3)), atol=1e-3)


def test_blocks_meet_without_a_seam_at_a_fractional_scale(tmp_path):
    """A linear ramp resampled block by block must stay the same ramp across the blocks' borders."""
    rows = np.arange(1500, dtype=np.float32)
    array = np.broadcast_to(rows[:, None], (1500, 1300))[None].copy()
    path = write_raster(tmp_path / "s.tif", array, resolution=0.13)
    scene = describe_scene(path, collection(metres_per_pixel=0.3))
    crop = SceneReader(collection()).read(scene, scene.box)
    factor = scene.scale[0]
    expected = (np.arange(scene.height) + 0.5) * factor - 0.5
    np.testing.assert_allclose(crop.image[0, :, 5], expected, atol=0.26)
    assert np.diff(crop.image[0, :, 5]).min() > 0.5 * factor


@pytest.mark.parametrize(
    ("crs", "resolution", "latitude_scale"),
    [("EPSG:32633", 0.5, 1 / 0.9996), ("EPSG:3857", 1.0, None), ("EPSG:4326", 1e-5, None)],
)
def test_ground_resolution_is_in_metres_whatever_the_crs(crs, resolution, latitude_scale):
    from affine import Affine
    from pyproj import Geod, Transformer

    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(15.0, 45.0)
    transform = Affine(resolution, 0, x, 0, -resolution, y)
    across, down = ground_resolution(rasterio.crs.CRS.from_user_input(crs), transform, 2, 2)
    if latitude_scale:
        assert across == pytest.approx(resolution * latitude_scale, rel=1e-4)
        assert down == pytest.approx(resolution * latitude_scale, rel=1e-4)
    else:  # a degree of longitude at 45 degrees north is 78.85 km, one of latitude 111.13 km (WGS 84)
        metres = {"EPSG:3857": np.cos(np.radians(45)), "EPSG:4326": 1e-5 * 78_847}[crs]
        assert across == pytest.approx(metres, rel=5e-3)
        assert Geod(ellps="WGS84").inv(15, 45, 15, 45 + 1e-5)[2] == pytest.approx(1.111, rel=1e-3)


def test_nodata_is_not_valid_and_carries_no_label(tmp_path):
    image = np.full((3, 64, 64), 100, dtype=np.uint8)
    image[:, 10:20, 10:20] = 0
    image[0, 40, 40] = 0  # one band of a real pixel may be 0
    path = write_raster(tmp_path / "images/s.tif", image, nodata=0)
    mask = write_raster(tmp_path / "masks/s.tif", np.ones((64, 64), dtype=np.uint8))
    scene = describe_scene(path, collection(), mask)
    crop = SceneReader(collection()).read(scene, scene.box)
    assert (~crop.valid).sum() == 100
    assert (crop.labels[10:20, 10:20] == 255).all()
    assert crop.labels[40, 40] == 1


@pytest.mark.parametrize("declared", [None, -9999])
def test_nodata_is_that_of_the_bands_that_are_read(tmp_path, declared):
    """Whatever a band holds that nobody reads."""
    image = np.full((4, 8, 8), 7, dtype=np.int16)
    image[:3, 0] = -9999
    image[0, 5, 5] = -9999
    settings_ = collection(bands=(1, 2, 3), nodata=declared)
    scene = describe_scene(write_raster(tmp_path / "s.tif", image, nodata=-9999), settings_)
    crop = SceneReader(settings_).read(scene, scene.box)
    assert (~crop.valid).nonzero()[0].tolist() == [0] * 8


def test_nodata_can_be_declared_where_the_file_does_not(tmp_path):
    image = np.full((1, 8, 8), 7, dtype=np.int16)
    image[0, 0, 0] = -9999
    settings_ = collection(nodata=-9999)
    scene = describe_scene(write_raster(tmp_path / "s.tif", image), settings_)
    assert SceneReader(settings_).read(scene, scene.box).valid.sum() == 63


def test_nan_is_nodata(tmp_path):
    image = np.ones((2, 8, 8), dtype=np.float32)
    image[1, 3, 3] = np.nan
    scene = describe_scene(write_raster(tmp_path / "s.tif", image), collection())
    crop = SceneReader(collection()).read(scene, scene.box)
    assert not crop.valid[3, 3]
    assert np.isfinite(crop.image).all()


def test_transparency_is_no_band(tmp_path):
    image = np.full((4, 8, 8), 200, dtype=np.uint8)
    image[3, :, :4] = 0
    path = write_raster(tmp_path / "s.tif", image, photometric="RGB", alpha="YES")
    scene = describe_scene(path, collection())
    assert scene.bands == (1, 2, 3)
    assert SceneReader(collection()).read(scene, scene.box).valid.sum() == 32


def test_near_infrared_that_is_marked_as_transparency_can_be_used(tmp_path):
    """GDAL marks the fourth byte band of a file as alpha unless told otherwise; dark infrared is then no nodata."""
    image = np.full((4, 8, 8), 200, dtype=np.uint8)
    image[3, :, :4] = 0
    with_bands = collection(bands=(1, 2, 3, 4))
    scene = describe_scene(write_raster(tmp_path / "s.tif", image), with_bands)
    crop = SceneReader(with_bands).read(scene, scene.box)
    assert crop.valid.all()
    np.testing.assert_array_equal(crop.image, image)


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (b"", "no GeoTIFF"),
        (b"<VRTDataset rasterXSize='1' rasterYSize='1'/>", "no GeoTIFF"),
        (b"II*\0 but nothing else", "cannot be read"),
    ],
)
def test_what_is_no_image_is_refused_whatever_its_name(tmp_path, contents, words):
    (tmp_path / "s.tif").write_bytes(contents)
    with pytest.raises(DataError, match=words):
        open_raster(tmp_path / "s.tif")


def test_a_header_that_declares_120_gb_is_refused(tmp_path):
    path = tmp_path / "huge.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=200_000,
        height=200_000,
        count=3,
        dtype="uint8",
        tiled=True,
        sparse_ok=True,
        BIGTIFF="YES",
        compress="deflate",
    ):
        pass
    assert path.stat().st_size < 20e6
    with pytest.raises(DataError, match="120 GB"):
        open_raster(path)
    open_raster(path, max_declared_gb=200).close()


def test_a_large_raster_is_read_by_windows(tmp_path):
    """Four gigapixels that exist only in the header: reading a window must not allocate the whole."""
    import resource

    path = tmp_path / "sparse.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=65_536,
        height=65_536,
        count=1,
        dtype="uint8",
        tiled=True,
        sparse_ok=True,
        BIGTIFF="YES",
        compress="deflate",
    ) as dataset:
        dataset.write(
            np.full((1, 256, 256), 9, np.uint8),
            window=rasterio.windows.Window(60_000 // 256 * 256, 60_000 // 256 * 256, 256, 256),
        )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    scene = describe_scene(path, collection())
    crop = SceneReader(collection()).read(scene, Box(60_000, 60_000, 128, 128))
    assert (crop.image == 9).any()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kilobytes
