"""`kdcore predict` on real files with networks that fit them: 3 and 4 bands of 8 bits, 13 of 16, three kinds of place on Earth."""

import json

import geopandas
import numpy as np
import pytest
import rasterio
from rio_cogeo.cogeo import cog_validate
from typer.testing import CliRunner

from kdcore.cli import app
from kdcore.models.checkpoint import CheckpointInfo, save_network
from kdcore.models.networks import build_network
from tests.conftest import TINY

FILES = {
    "banepa_east": ("banepa-buildings/unlabelled/banepa_east.tif", 3, "uint8", 0.3),
    "naip_4band_utm": ("format-traps/naip_4band_utm.tif", 4, "uint8", 5.0),
    "sentinel2_13band": ("format-traps/sentinel2_13band.tif", 13, "int16", 9.0),
}


@pytest.fixture(params=FILES)
def predicted(request, real_data, tmp_path):
    """A file, and the folder of its maps by a network that knows its bands and their statistics, but nothing else."""
    name, bands, dtype, metres = FILES[request.param]
    with rasterio.open(real_data / name) as dataset:
        sample = dataset.read(range(1, bands + 1), out_shape=(bands, 256, 256)).reshape(bands, -1).astype(float)
    network = build_network(TINY, bands, 1, sample.mean(axis=1).tolist(), (sample.std(axis=1) + 1).tolist(), seed=0)
    info = CheckpointInfo(
        network=TINY,
        bands=bands,
        band_numbers=tuple(range(1, bands + 1)),
        classes=("land", "building"),
        metres_per_pixel=metres,
        dtype=dtype,
    )
    save_network(tmp_path / "model.safetensors", network, info)
    arguments = [tmp_path / "model.safetensors", real_data / name, "--out", tmp_path / "maps", "--resample"]
    result = CliRunner().invoke(app, ["predict", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return real_data / name, tmp_path / "maps", request.param


def test_maps_are_cloud_optimized_and_lie_on_the_imagery(predicted):
    raster, maps, name = predicted
    with rasterio.open(raster) as source:
        bounds, nodata = source.bounds, source.read_masks(1, out_shape=(64, 64)) == 0
    for kind in ("probabilities", "classes"):
        path = maps / f"{name}.{kind}.tif"
        assert cog_validate(path)[0]
        with rasterio.open(path) as dataset:
            assert np.allclose(dataset.bounds, bounds, atol=2 * dataset.res[0])  # whole pixels of another resolution
            assert ((dataset.read(1, out_shape=(64, 64)) == 255) == nodata).mean() > 0.99


def test_polygons_open_and_cover_what_the_map_counts(predicted):
    _, maps, name = predicted
    found = json.loads((maps / f"{name}.json").read_bytes())
    objects = geopandas.read_file(maps / f"{name}.gpkg")
    assert len(objects) == found["objects"] > 0
    hectares = objects["area_m2"].sum() / 1e4
    assert hectares == pytest.approx(found["classes"]["building"]["hectares"], rel=0.01)
