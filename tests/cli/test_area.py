"""`kdcore area`: points from a map, labels as a person gives them, hectares with intervals."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from kdcore.cli import app
from tests.inference.test_area_sample import label, mapped, truth, write_map

__all__ = ["mapped", "truth"]  # fixtures


def kdcore(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], terminal_width=300)
    assert result.exit_code == code, result.output
    return result.stdout if "--json" in arguments else " ".join(result.output.split())


@pytest.fixture
def sample(tmp_path, truth, mapped):
    """A labelled sample of a map that shows too much water."""
    path = write_map(tmp_path / "town.classes.tif", mapped)
    said = kdcore("area", "sample", path, tmp_path / "s.gpkg", "--points", 600, "--least", 200)
    assert "600 points in the layer `points`" in said
    assert "water: 212 points of 72.06 ha on the map" in said  # 200 + 200 * 7,000 / 117,200
    label(tmp_path / "s.gpkg", truth)
    return tmp_path / "s.gpkg"


def test_areas_with_intervals_beside_counted_pixels(sample, tmp_path, truth):
    teacher = write_map(tmp_path / "teacher.classes.tif", truth)
    maps = ("--map", f"student={tmp_path / 'town.classes.tif'}", "--map", f"teacher={teacher}")
    found = json.loads(kdcore("area", "estimate", sample, *maps, "--json"))
    water = found["areas"]["water"]
    assert water["low"] < 60.05 < water["high"] < found["counted"]["student"]["water"]
    assert found["counted"]["teacher"]["water"] == pytest.approx(60.05, abs=0.01)
    assert found["maps"]["teacher"]["overall"] == {"value": 1.0, "error": 0.0, "low": 1.0, "high": 1.0}
    users = found["maps"]["student"]["users"]["water"]
    assert users["low"] < 60 / 72 < users["high"]
    shown = kdcore("area", "estimate", sample, *maps)
    assert "Hectares, from 600 labelled points" in shown
    assert "teacher: 100.0 % (100.0 to 100.0) of the area right" in shown


def test_a_narrower_confidence_gives_a_narrower_interval(sample):
    wide, narrow = (
        json.loads(kdcore("area", "estimate", sample, "--confidence", level, "--json"))["areas"]["water"]
        for level in (0.95, 0.5)
    )
    width = wide["high"] - wide["low"]
    assert np.isclose(width / (narrow["high"] - narrow["low"]), 1.959964 / 0.6744898)


@pytest.mark.parametrize("text", ["student", "=x.tif", "student="])
def test_a_map_without_a_name_is_refused(sample, text):
    assert "should be NAME=FILE" in kdcore("area", "estimate", sample, "--map", text, code=2)


def test_a_sample_without_labels_says_how_many_lack_one(tmp_path, truth):
    path = write_map(tmp_path / "town.classes.tif", truth)
    kdcore("area", "sample", path, tmp_path / "s.gpkg", "--points", 20, "--least", 5)
    assert "20 of 20 points have no label" in kdcore("area", "estimate", tmp_path / "s.gpkg", code=2)
