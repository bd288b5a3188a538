"""The tiles to label next: the largest disagreement, spread over the area."""

import geopandas
import numpy as np
import pytest
from typer.testing import CliRunner

from kdcore.cli import app
from kdcore.errors import DataError
from kdcore.inference.label_next import disagreeing_tiles, spread, write_next
from tests.inference.test_area_sample import write_map


@pytest.fixture
def maps(tmp_path):
    """12 x 12 tiles of 10 px. They disagree most in the upper left corner, less in its neighbours, and a little at the lower right."""
    first = np.zeros((120, 120), dtype=np.uint8)
    second = first.copy()
    second[0:10, 0:10] = 1  # 100 %
    second[0:10, 10:19] = 1  # 90 %
    second[10:18, 0:10] = 1  # 80 %
    second[110:112, 110:120] = 1  # 20 %
    first[0:7, 50:60] = 255  # 30 px are left of that tile: not enough
    second[0:10, 50:60] = 1
    second[60, 60:63] = 255
    return write_map(tmp_path / "a.tif", first), write_map(tmp_path / "b.tif", second)


def test_disagreement_of_each_tile(maps):
    tiles = {(tile.row, tile.column): tile.disagreement for tile in disagreeing_tiles(*maps, side=10)}
    assert len(tiles) == 143
    assert (0, 50) not in tiles
    assert {place: value for place, value in tiles.items() if value} == {
        (0, 0): 1.0,
        (0, 10): 0.9,
        (10, 0): 0.8,
        (110, 110): 0.2,
    }


def test_tiles_at_the_border_are_smaller(tmp_path):
    paths = [write_map(tmp_path / name, np.zeros((25, 20), dtype=np.uint8)) for name in ("a.tif", "b.tif")]
    assert [(tile.row, tile.height) for tile in disagreeing_tiles(*paths, side=10)] == [
        (0, 10),
        (0, 10),
        (10, 10),
        (10, 10),
        (20, 5),
        (20, 5),
    ]


def test_neighbours_of_the_worst_tile_wait_for_the_rest_of_the_area(maps):
    """Evenly spread, two tiles of 14,300 px are 84.6 px apart: half of that keeps neighbours out."""
    chosen = spread(disagreeing_tiles(*maps, side=10), wanted=2)
    assert [(tile.row, tile.column) for tile in chosen] == [(0, 0), (110, 110)]


def test_all_tiles_are_given_where_so_many_are_wanted(maps):
    tiles = disagreeing_tiles(*maps, side=10)
    assert len(spread(tiles, wanted=500)) == len(tiles)
    assert spread([], wanted=3) == []


def test_a_geopackage_for_qgis(maps, tmp_path):
    said = CliRunner().invoke(
        app, ["data", "next", *map(str, maps), str(tmp_path / "n.gpkg"), "--tiles", "2", "--side", "10"]
    )
    assert said.exit_code == 0, said.output
    assert "100 %" in said.output
    frame = geopandas.read_file(tmp_path / "n.gpkg")
    assert frame["rank"].tolist() == [1, 2]
    assert frame.geometry.iloc[0].bounds == (500_000, 4_999_900, 500_100, 5_000_000)
    assert frame.crs.to_epsg() == 32632


def test_maps_that_do_not_belong_together_are_refused(maps, tmp_path):
    with pytest.raises(DataError, match="is no map of the same raster"):
        write_next(
            maps[0], write_map(tmp_path / "c.tif", np.zeros((99, 120), dtype=np.uint8)), tmp_path / "n.gpkg", 2, 10
        )
    with pytest.raises(DataError, match="has the classes land, sea"):
        write_next(
            maps[0],
            write_map(tmp_path / "d.tif", np.zeros((120, 120), dtype=np.uint8), classes="0 land, 1 sea"),
            tmp_path / "n.gpkg",
            2,
            10,
        )
    with pytest.raises(DataError, match="no tile of 1000 px holds enough data"):
        write_next(*maps, tmp_path / "n.gpkg", 2, 1000)
