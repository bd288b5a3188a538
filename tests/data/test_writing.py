"""Writing rasters: what gets its name is whole, and a full disk is noticed although GDAL does not say so."""

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling
from rasterio.windows import Window

from kdcore.data.writing import read_back, writing_raster
from kdcore.errors import KdcoreError
from tests.disks import small_disk

PROFILE = {
    "width": 600, "height": 500, "count": 2, "dtype": "uint8", "nodata": 255, "tiled": True, "blockxsize": 256,
    "blockysize": 256, "compress": "deflate", "sparse_ok": True,
}  # fmt: skip


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (2, height, width), dtype=np.uint8)


def overviews(path):
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4], Resampling.nearest)


def test_windows_come_back_and_the_rest_is_nodata(tmp_path):
    with writing_raster(tmp_path / "a.tif", overviews, **PROFILE) as raster:
        raster.write(noise(100, 200, 1), 0, 0)
        raster.write(noise(300, 90, 2), 200, 510)
        assert not (tmp_path / "a.tif").exists()
    with rasterio.open(tmp_path / "a.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(window=Window(0, 0, 200, 100)), noise(100, 200, 1))
        np.testing.assert_array_equal(dataset.read(window=Window(510, 200, 90, 300)), noise(300, 90, 2))
        assert (dataset.read() != 255).sum() == 2 * (100 * 200 + 300 * 90)
        assert dataset.overviews(1) == [2, 4]


def test_nothing_is_left_of_what_failed(tmp_path):
    def fail_after_writing(path):
        raise ValueError("no")

    with (
        pytest.raises(ValueError, match="no"),
        writing_raster(tmp_path / "a.tif", fail_after_writing, **PROFILE) as raster,
    ):
        raster.write(noise(100, 200), 0, 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("finish", [overviews, lambda path: None], ids=["with overviews", "without"])
def test_a_full_disk_is_noticed_wherever_it_strikes(tmp_path, finish, share):
    def write(folder):
        with writing_raster(folder / "a.tif", finish, **PROFILE) as raster:
            for row in range(0, 500, 100):
                raster.write(noise(100, 600, row), row, 0)

    write(tmp_path)
    size = (tmp_path / "a.tif").stat().st_size
    with small_disk(tmp_path / "disk", int(share * size / 1024) // 4 * 4 or 4) as disk:
        with pytest.raises(KdcoreError, match=r"a\.tif: the disk is full.*Free space, then resume"):
            write(disk)
        assert list(disk.iterdir()) == []


def test_pixels_that_are_not_what_was_written_are_noticed(tmp_path):
    with writing_raster(tmp_path / "a.tif", **PROFILE) as raster:
        raster.write(noise(100, 200), 0, 0)
    read_back(tmp_path / "a.tif", raster.sums)
    with rasterio.open(tmp_path / "a.tif", "r+") as dataset:
        dataset.write(np.zeros((2, 1, 1), np.uint8), window=Window(150, 50, 1, 1))
    with pytest.raises(OSError, match="cannot be read back"):
        read_back(tmp_path / "a.tif", raster.sums)
