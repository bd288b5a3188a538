"""Files beside a raster: what may show the pixels of something else is refused, and nothing that never ends is opened."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from kdcore.data.inspect import inspect
from kdcore.data.rasters import open_raster, read_header
from kdcore.errors import DataError
from tests.conftest import write_raster

MINE, OTHER = np.full((1, 256, 256), 100, dtype=np.uint8), np.full((1, 128, 128), 7, dtype=np.uint8)


@pytest.fixture
def mine(tmp_path):
    return write_raster(tmp_path / "mine.tif", MINE)


@pytest.fixture
def virtual(tmp_path):
    """A virtual raster that shows another file."""
    other = write_raster(tmp_path / "other" / "other.tif", OTHER)
    return (
        '<VRTDataset rasterXSize="128" rasterYSize="128"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f"<SourceFilename>{other}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )


def named(path: Path, key: str = "OVERVIEW_FILE") -> str:
    return f'<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="{key}">{path}</MDI></Metadata></PAMDataset>'


def half(path) -> float:
    """The mean of a raster read at half its size, as GDAL reads it: from overviews where there are any."""
    with rasterio.open(path) as dataset:
        return float(dataset.read(out_shape=(1, 128, 128)).mean())


def test_an_overview_that_is_a_virtual_raster_is_refused(mine, virtual):
    Path(f"{mine}.ovr").write_text(virtual)
    assert half(mine) == 7  # what it would do
    with pytest.raises(DataError, match=r"mine\.tif\.ovr: is no TIFF.*gdaladdo -ro mine\.tif"):
        open_raster(mine)


def test_a_mask_that_is_a_virtual_raster_is_refused(mine, virtual):
    Path(f"{mine}.msk").write_text(virtual)
    with pytest.raises(DataError, match=r"mine\.tif\.msk: is no TIFF"):
        open_raster(mine)


@pytest.mark.parametrize("target", ["other/other.tif", "/vsicurl/http://127.0.0.1:9/x.tif", "other/x.vrt"])
@pytest.mark.parametrize("key", ["OVERVIEW_FILE", "overview_file"])
def test_metadata_beside_a_file_that_name_another_are_refused(mine, virtual, target, key):
    target = target if target.startswith("/vsi") else mine.parent / target
    (mine.parent / "other/x.vrt").write_text(virtual)
    Path(f"{mine}.aux.xml").write_text(named(target, key))
    with pytest.raises(DataError, match=r"mine\.tif: its metadata name '.*(other\.tif|x\.tif|x\.vrt)'"):
        open_raster(mine)


def test_metadata_inside_a_file_that_name_another_are_refused(mine, virtual):
    with rasterio.open(mine, "r+") as dataset:
        dataset.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=str(mine.parent / "other/other.tif"))
    assert not Path(f"{mine}.aux.xml").exists()
    assert half(mine) == 7  # what it would do
    with pytest.raises(DataError, match=r"mine\.tif: its metadata name"):
        open_raster(mine)


def test_other_formats_have_side_files_too(tmp_path, mine, virtual):
    with rasterio.open(tmp_path / "p.png", "w", driver="PNG", width=256, height=256, count=1, dtype="uint8") as dataset:
        dataset.write(MINE)
    (tmp_path / "p.png.aux.xml").write_text(named(tmp_path / "other/other.tif"))
    with pytest.raises(DataError, match=r"p\.png: its metadata name"):
        open_raster(tmp_path / "p.png")


def test_real_overviews_masks_and_metadata_are_read(mine):
    """Overviews beside the file, a mask beside it, and statistics with a place as many programs write them."""
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(mine, "r+") as dataset:
        dataset.write_mask(np.arange(256) < np.full((256, 1), 64))
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(mine, "r+") as dataset:
        dataset.build_overviews([2])
    Path(f"{mine}.aux.xml").write_text(
        "<PAMDataset><SRS>EPSG:32634</SRS><Metadata><MDI key='x' xmlns:t='http://www.opengis.net/'>1</MDI></Metadata></PAMDataset>"
    )
    assert {path.name for path in mine.parent.glob("mine*")} >= {"mine.tif.ovr", "mine.tif.msk", "mine.tif.aux.xml"}
    with open_raster(mine) as dataset:
        assert dataset.overviews(1) == [2]
        assert (dataset.dataset_mask() > 0).sum() == 64 * 256


@pytest.mark.parametrize("end", [".tif.ovr", ".tif.aux.xml", ".tif.msk", ".tfw", ".TFW", ".wld"])
def test_a_pipe_beside_a_raster_is_not_waited_for(mine, end):
    os.mkfifo(mine.parent / f"mine{end}")
    with pytest.raises(DataError, match=rf"mine{end}: is no regular file"):
        open_raster(mine)


def test_a_pipe_or_a_device_called_tif_is_not_waited_for(tmp_path, mine):
    os.mkfifo(tmp_path / "pipe.tif")
    (tmp_path / "zero.tif").symlink_to("/dev/zero")
    for name in ("pipe.tif", "zero.tif"):
        for look in (open_raster, inspect):
            with pytest.raises(DataError, match=rf"{name}: is no regular file but a folder, pipe or device"):
                look(tmp_path / name)
    found = inspect(tmp_path)  # in a folder they are passed over
    assert [facts.file for facts in found.images] == ["mine.tif"]


def test_a_name_that_is_not_utf_8_is_told_in_letters_that_can_be_printed(tmp_path, mine):
    odd = tmp_path / os.fsdecode(b"caf\xe9.tif")
    shutil.copy(mine, odd)
    with pytest.raises(DataError, match=r"caf\\xe9\.tif: this name is not written in UTF-8") as refused:
        open_raster(odd)
    str(refused.value).encode()
    assert [facts.file for facts in inspect(tmp_path).images] == ["mine.tif"]


def test_a_raster_in_one_giant_piece_is_refused(tmp_path):
    """40,000 x 40,000 px in strips of 30,000 rows: 1.2 GB that GDAL would unpack for the first pixel; the file is nearly empty."""
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "height": 40_000, "width": 40_000, "sparse_ok": True}
    with rasterio.open(tmp_path / "bomb.tif", "w", blockysize=30_000, compress="deflate", **profile):
        pass
    with pytest.raises(DataError, match=r"bomb\.tif: is stored in pieces of 1\.2 GB.*TILED=YES"):
        open_raster(tmp_path / "bomb.tif")
    with rasterio.open(tmp_path / "strips.tif", "w", blockysize=64, compress="deflate", **profile):
        pass
    assert open_raster(tmp_path / "strips.tif").shape == (40_000, 40_000)


def test_of_a_giant_few_pieces_are_looked_at(tmp_path, monkeypatch):
    """Three scenes of 3,000 px: 144 pieces of 256 px each; as if 100 were the most that are read in full."""
    for index, name in enumerate("abc"):
        labels = np.tile(np.array([[0, 1]], np.uint8), (3000, 1500))
        image = np.random.default_rng(index).integers(1, 255, (3, 3000, 3000), dtype=np.uint8)
        for folder, values in (("images", image), ("masks", labels)):
            write_raster(tmp_path / f"{folder}/{name}.tif", values, west=500_000 + 3000 * index, tiled=True)
    assert sum(inspect(tmp_path).class_pixels["test"].values()) == 3000 * 3000
    for name, value in (("MOST_BLOCKS", 100), ("MOST_LOOKED", 9)):
        monkeypatch.setattr(f"kdcore.data.inspect.{name}", value)
    monkeypatch.setattr("kdcore.data.inspect.LEAST_LOOKED", 1)
    found = inspect(tmp_path)
    assert sum(found.class_pixels["test"].values()) <= 9 * 256 * 256
    assert found.class_pixels["test"]["class-1"] == sum(found.class_pixels["test"].values()) / 2
    assert any("has 144 pieces of 256 px; 9 of them" in note for note in found.notes)


def test_a_header_is_kept_until_a_file_beside_the_raster_changes(tmp_path):
    """A CRS that is assigned to a PNG stands in its .aux.xml: written, and written anew, it counts at once."""
    path = tmp_path / "a.png"
    with rasterio.open(path, "w", driver="PNG", width=8, height=8, count=3, dtype="uint8") as dataset:
        dataset.write(np.zeros((3, 8, 8), np.uint8))
    assert read_header(path).place.crs is None
    for code in (32633, 32634):
        with rasterio.open(path, "r+") as dataset:
            dataset.crs, dataset.transform = f"EPSG:{code}", Affine(1, 0, 500_000, 0, -1, 5_000_000)
        assert read_header(path).place.crs.to_epsg() == code
    assert read_header(path) is read_header(path)
