"""`kdcore data inspect`: for people, for programs, and never over anything that is there."""

import json
import re

import numpy as np
import pytest
import rasterio
from typer.testing import CliRunner

from kdcore.cli import app
from kdcore.data.collection import Collection
from tests.conftest import write_collection, write_raster


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def folder(tmp_path):
    path = write_collection(tmp_path / "collection")
    path.unlink()
    return path.parent


def inspected(*arguments, code=0):
    result = CliRunner().invoke(app, ["data", "inspect", *map(str, arguments), "--crop", "64"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def test_a_folder_gets_settings_that_open_it(folder):
    out = " ".join(inspected(folder).stdout.split())
    assert "No problems found." in out
    assert f"Proposed settings are in {folder / 'collection.yaml'}" in out
    assert len(Collection.open(folder).scenes) == 4


def test_settings_may_be_written_elsewhere(folder, tmp_path):
    inspected(folder, "--out", tmp_path / "elsewhere.yaml")
    assert not (folder / "collection.yaml").exists()
    assert len(Collection.open(tmp_path / "elsewhere.yaml").scenes) == 4


def test_nothing_is_overwritten(folder, tmp_path):
    (tmp_path / "mine.yaml").write_text("mine")
    result = inspected(folder, "--out", tmp_path / "mine.yaml", code=2)
    assert "mine.yaml: exists already, and was not written by kdcore" in result.stderr
    assert (tmp_path / "mine.yaml").read_text() == "mine"
    assert not (folder / "collection.yaml").exists()


def test_settings_that_are_there_are_used_and_kept(folder):
    inspected(folder)
    before = (folder / "collection.yaml").read_bytes()
    out = inspected(folder).stdout
    assert "Share of labelled pixels" in out
    assert (folder / "collection.yaml").read_bytes() == before


def test_programs_get_json(folder):
    values = json.loads(inspected(folder, "--json").stdout)
    assert values["written"] == str(folder / "collection.yaml")
    assert [facts["file"] for facts in values["images"]] == ["a.tif", "b.tif", "c.tif", "d.tif"]
    assert values["problems"] == []
    assert values["proposal"]["classes"][0]["value"] == 0


def test_problems_are_told_with_their_mend(folder):
    write_raster(folder / "masks/b.tif", np.zeros((64, 100), np.uint8))
    out = " ".join(inspected(folder).stdout.split())
    assert "Problem: " in out
    assert (
        "masks/b.tif: the mask is 100 x 64 px but its image is 128 x 128 px. Export the mask on the image's grid."
        in out
    )
    assert "No problems found." not in out


def test_a_single_file_is_described(folder):
    out = inspected(folder / "images/a.tif").stdout
    for words in ("128 x 128", "uint8", "GTiff", "EPSG:32633"):
        assert words in out


@pytest.mark.parametrize("name", ["nowhere", "notes.tif"])
def test_what_cannot_be_read_is_one_sentence(tmp_path, name):
    (tmp_path / "notes.tif").write_text("not an image")
    result = inspected(tmp_path / name, code=2)
    assert result.stdout == ""
    assert next(line for line in result.stderr.splitlines() if line.startswith("Error: ")).startswith(
        f"Error: {tmp_path / name}"
    )


def test_images_of_almost_one_ground_resolution_share_a_row(folder):
    """Pixels in degrees differ on the ground with their latitude; 31 rows for 45 alike images say nothing."""
    for index, name in enumerate("abcd"):
        with rasterio.open(folder / f"images/{name}.tif") as image:
            array = image.read()
        north = 10 + 0.5 * index
        write_raster(folder / f"images/{name}.tif", array, crs="EPSG:4326", west=20, north=north, resolution=1e-4)
    out = inspected(folder).stdout
    rows = [line for line in out.splitlines() if "EPSG:4326" in line and "│" in line]
    assert len(rows) == 1
    # A ten-thousandth of a degree: 11.06 m from south to north, 11.13 m x cos(latitude) from west to east.
    assert re.split(r"\s*│\s*", rows[0])[1:3] == ["4", "128 x 128"]
    assert re.split(r"\s*│\s*", rows[0])[7] == "11"


def test_images_of_different_ground_resolution_have_their_own_row(folder):
    with rasterio.open(folder / "images/d.tif") as image:
        array = image.read()
    write_raster(folder / "images/d.tif", array, west=503_000, resolution=1.0)
    rows = [line for line in inspected(folder).stdout.splitlines() if "EPSG:32633" in line]
    assert [re.split(r"\s*│\s*", row)[7] for row in rows] == ["0.5", "1"]
