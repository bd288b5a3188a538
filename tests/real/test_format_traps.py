"""Files that break naive readers. What is expected was read off with GDAL (`rio info`), not with kdcore."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio

from kdcore.data.batches import Batches
from kdcore.data.collection import Collection
from kdcore.data.inspect import inspect
from kdcore.data.survey import survey
from kdcore.jobs.store import RunDirectory
from kdcore.settings import (
    Budget,
    ClassSettings,
    CollectionSettings,
    EvaluationSettings,
    Hardware,
    Recipe,
    RunSettings,
    SplitSettings,
    save,
)
from kdcore.training.run import execute
from tests.conftest import TINY

# file: width, height, bands, type, driver, CRS, nodata
HEADERS = {
    "OAM-386690-220241-19.tif": (512, 512, 3, "uint8", "JPEG", "EPSG:4326", None),
    "naip_4band_utm.tif": (934, 723, 4, "uint8", "GTiff", "EPSG:26914", 0.0),
    "panchromatic_uint16_utm.tif": (900, 900, 1, "uint16", "GTiff", "EPSG:32616", 0.0),
    "sentinel2_13band.tif": (512, 512, 13, "int16", "GTiff", "EPSG:4326", 0.0),
    "sentinel2_water_mask.tif": (512, 512, 1, "int16", "GTiff", "EPSG:4326", None),
}
BLOCKS = SplitSettings(by="block", grid=(2, 4), train=("r*c[12]",), validation=("r*c3",), test=("r*c4",))


@pytest.fixture
def traps(real_data: Path) -> Path:
    return real_data / "format-traps"


@pytest.mark.parametrize("name", HEADERS)
def test_headers_are_read_as_gdal_reads_them(traps, name):
    facts = inspect(traps / name).images[0]
    found = (facts.width, facts.height, facts.bands, facts.dtype, facts.driver, facts.crs, facts.nodata)
    assert found == HEADERS[name]


@pytest.mark.parametrize(
    ("name", "metres"),
    [
        ("naip_4band_utm.tif", 5.0),  # UTM: its own pixel, but for the scale of the projection
        ("panchromatic_uint16_utm.tif", 0.5),
        # Degrees: 111,320 m x cos(latitude) across and 110,990 m down for one degree at 38.1 N.
        ("sentinel2_13band.tif", 8.98315e-05 * (111_320 * np.cos(np.radians(38.106)) * 110_990) ** 0.5),
    ],
)
def test_ground_resolution_is_in_metres_whatever_the_crs(traps, name, metres):
    assert inspect(traps / name).images[0].metres_per_pixel == pytest.approx(metres, rel=0.003)


def test_a_jpeg_called_tif_whose_crs_lies_beside_it_is_read_and_noted(traps):
    notes = " ".join(inspect(traps / "OAM-386690-220241-19.tif").notes)
    assert "JPEG file in spite of its name" in notes
    assert ".aux.xml" in notes


def test_without_its_side_file_it_has_no_georeference_and_says_so(traps, tmp_path):
    alone = tmp_path / "OAM-386690-220241-19.tif"
    shutil.copy(traps / alone.name, alone)
    found = inspect(alone)
    assert found.images[0].crs is None
    assert any("no georeference" in note for note in found.notes)


def test_the_water_mask_is_seen_to_be_a_mask_with_its_three_values(traps):
    found = inspect(traps / "sentinel2_water_mask.tif")
    with rasterio.open(traps / "sentinel2_water_mask.tif") as dataset:
        values, pixels = np.unique(dataset.read(1), return_counts=True)
    assert found.masks[0].pixels == dict(zip(map(str, values), pixels, strict=True))
    assert any("may be a mask" in note for note in found.notes)


def test_polygons_tell_their_crs_and_number(traps):
    facts = inspect(traps / "panchromatic_buildings.geojson").polygons[0]
    assert (facts.polygons, facts.crs) == (43, "EPSG:32616")


def test_a_folder_of_loose_files_is_explained_and_nothing_is_proposed(traps):
    found = inspect(traps)
    assert found.proposal is None
    assert "has no images/ folder" in found.problems[0]


def sentinel2(traps: Path, root: Path) -> Path:
    """Thirteen bands of int16 with a mask of -1 (ignore), 0 and 1, as a collection of one scene."""
    for folder, name in (("images", "sentinel2_13band.tif"), ("masks", "sentinel2_water_mask.tif")):
        (root / folder).mkdir(parents=True)
        shutil.copy(traps / name, root / folder / "spain.tif")
    settings = CollectionSettings(
        name="water",
        classes=(ClassSettings(name="dry", value=0), ClassSettings(name="water", value=1)),
        ignore=(-1,),
        split=BLOCKS,
    )
    save(settings, root / "collection.yaml")
    return root / "collection.yaml"


def panchromatic(traps: Path, root: Path) -> Path:
    """One band of uint16 in UTM with polygons, as a collection of one scene."""
    for folder, name in (("images", "panchromatic_uint16_utm.tif"), ("labels", "panchromatic_buildings.geojson")):
        (root / folder).mkdir(parents=True)
        shutil.copy(traps / name, root / folder / f"atlanta{Path(name).suffix}")
    settings = CollectionSettings(
        name="atlanta", classes=(ClassSettings(name="background"), ClassSettings(name="building")), split=BLOCKS
    )
    save(settings, root / "collection.yaml")
    return root / "collection.yaml"


def test_statistics_and_batches_of_thirteen_bands(traps, tmp_path):
    collection = Collection.open(sentinel2(traps, tmp_path / "water"))
    found = survey(collection, 64)
    with rasterio.open(traps / "sentinel2_13band.tif") as dataset:
        data = dataset.read().astype(float)
    train = data[:, :, : 256 - 64]  # columns 1 and 2 of 4, less the buffer of one crop
    valid = (train != 0).any(axis=0)
    np.testing.assert_allclose(found.mean, train[:, valid].mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(found.std, train[:, valid].std(axis=1), rtol=1e-6)
    batch = Batches(collection, found, seed=0, batch_size=2, crop=64).batch(0)
    assert batch.image.shape == (2, 13, 64, 64)
    assert set(np.unique(batch.labels)) <= {0, 1, 255}


@pytest.mark.parametrize("make", [sentinel2, panchromatic])
def test_a_network_can_be_trained_on_it(traps, tmp_path, make):
    run = RunDirectory.create(
        tmp_path / "run",
        RunSettings(
            arm="alone",
            seed=0,
            collection=make(traps, tmp_path / "data"),
            network=TINY,
            recipe=Recipe(alpha=0),
            budget=Budget(steps=2, batch_size=2, crop=64, validate_every=2),
            evaluation=EvaluationSettings(tile=64, window=128, halo=32),
            hardware=Hardware(device="cpu"),
        ),
    )
    execute(run)
    assert 0 < run.read_report()["test"]["mean_ap"] <= 1
