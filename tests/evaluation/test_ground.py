"""The variance of sums over tiles, on random fields whose correlation is known."""

import numpy as np
import pytest
from scipy import spatial

from kdcore.evaluation.ground import Ground, _models
from kdcore.evaluation.scores import Place

TILE = 128


def tiles_of(*scenes):
    """Tiles of grids of rows x columns."""
    return [
        (f"scene {number}", TILE * row, TILE * column)
        for number, (rows, columns) in enumerate(scenes)
        for row in range(rows)
        for column in range(columns)
    ]


def fields(rng, count, tiles, length):
    """(count, T) contributions that are correlated as exp(-h / length) within a scene, each row centred."""
    places = np.array([(row / TILE, column / TILE) for _, row, column in tiles])
    scene = np.array([name for name, _, _ in tiles])
    matrix = np.eye(len(tiles))
    if length:
        same = scene[:, None] == scene
        matrix = np.where(same, np.exp(-spatial.distance.cdist(places, places) / length), 0)
    drawn = rng.normal(size=(count, len(tiles))) @ np.linalg.cholesky(matrix).T
    return drawn - drawn.mean(axis=1, keepdims=True), matrix


@pytest.mark.parametrize("length", [0.0, 1.0, 2.0])
def test_variance_is_that_of_the_population_whatever_the_correlation(length):
    tiles = tiles_of((16, 16))
    drawn, matrix = fields(np.random.default_rng(1), 200, tiles, length)
    found = Ground(tiles).spread(drawn)
    assert np.median(found.variance) == pytest.approx(matrix.sum(), rel=0.25)
    assert np.median(found.blocks) == pytest.approx(len(tiles) ** 2 / matrix.sum(), rel=0.25)
    assert np.median(found.length) == pytest.approx(length, abs=0.25 + 0.25 * length)


def test_variance_of_independent_tiles_is_the_textbooks_where_they_are_scenes():
    tiles = [(f"scene {number}", 0, 0) for number in range(12)]
    drawn = np.random.default_rng(2).normal(size=(5, 12))
    drawn -= drawn.mean(axis=1, keepdims=True)
    found = Ground(tiles).spread(drawn)
    np.testing.assert_allclose(found.variance, 12 * drawn.var(axis=1, ddof=1))  # of a sum of 12
    assert found.blocks.tolist() == [12] * 5
    assert (found.freedom <= 11).all()


def test_scenes_are_blocks_from_eight_equal_ones_on():
    assert not Ground(tiles_of(*[(3, 3)] * 7)).by_scene
    assert Ground(tiles_of(*[(3, 3)] * 8)).by_scene
    # One scene holds nearly all tiles: nine small ones beside it do not make ten blocks.
    assert not Ground(tiles_of((20, 20), *[(1, 2)] * 9)).by_scene


def test_a_sum_over_scenes_takes_nothing_for_granted_within_a_scene():
    # Every scene is of one piece, so that 10 scenes of 16 tiles say what 10 numbers say.
    drawn = np.random.default_rng(3).normal(size=(4, 10))
    drawn -= drawn.mean(axis=1, keepdims=True)
    found = Ground(tiles_of(*[(4, 4)] * 10)).spread(drawn.repeat(16, axis=1))
    np.testing.assert_allclose(found.variance, 16**2 * 10 * drawn.var(axis=1, ddof=1))


def test_heavy_tails_cost_degrees_of_freedom():
    tiles = tiles_of((10, 10))
    rng = np.random.default_rng(4)
    normal = rng.normal(size=100)
    single = np.where(np.arange(100) == 37, 50.0, 0.1 * normal)  # one tile decides
    found = Ground(tiles).spread(np.stack([normal, single]) - np.array([[normal.mean()], [single.mean()]]))
    assert found.freedom[0] > 20
    assert found.freedom[1] < 3


def test_large_ground_is_taken_in_windows_and_tells_the_same():
    tiles = tiles_of((40, 40))
    drawn, matrix = fields(np.random.default_rng(5), 6, tiles, 1.5)
    found = Ground(tiles).spread(drawn)
    assert np.median(found.variance) == pytest.approx(matrix.sum(), rel=0.3)


def test_pairs_of_all_lags_are_counted_once(monkeypatch):
    # A ground with holes and two scenes: the sum over all pairs, from the matrix of distances.
    tiles = [tile for number, tile in enumerate(tiles_of((6, 5), (4, 7))) if number % 4]
    ground = Ground(tiles)
    lengths, nuggets = _models(len(tiles))
    for length, nugget, found in zip(lengths, nuggets, ground._pairs(lengths, nuggets), strict=True):
        total = 0.0
        for scene in (0, 1):
            places = ground.places[ground.field == scene]
            distance = spatial.distance.cdist(places, places)
            alike = np.where(
                distance == 0, 1, 0 if length == 0 else (1 - nugget) * np.exp(-distance / max(length, 1e-9))
            )
            total += alike.sum()
        assert found == pytest.approx(total, rel=0.002)  # pairs are counted in distances 1 % apart


def test_patches_of_one_picture_are_one_field():
    # 16 x 16 tiles as one scene, and as 64 files of 2 x 2 tiles that know where they lie.
    tiles = tiles_of((16, 16))
    names = [f"patch {row // (2 * TILE)} {column // (2 * TILE)}" for _, row, column in tiles]
    files = [(name, row % (2 * TILE), column % (2 * TILE)) for name, (_, row, column) in zip(names, tiles, strict=True)]
    places = [Place("field", row, column, "field") for _, row, column in tiles]
    drawn, _ = fields(np.random.default_rng(1), 20, tiles, 2.0)
    together, apart = Ground(files, places), Ground(files)
    assert (together.scenes, together.by_scene, together.touching) == (64, False, False)
    whole = Ground(tiles).spread(drawn)
    for known, found in zip(whole, together.spread(drawn), strict=True):
        np.testing.assert_allclose(found, known)
    assert apart.by_scene  # as if they lay far apart: too many blocks
    assert apart.spread(drawn).blocks[0] == 64 > 2 * np.median(whole.blocks)


def test_parts_of_a_scene_that_lie_nobody_knows_where_are_called_touching():
    tiles = tiles_of(*[(2, 3)] * 9)
    places = [Place(name, row, column, "scene") for name, row, column in tiles]
    ground = Ground(tiles, places)
    assert (ground.by_scene, ground.touching, ground.wholes) == (True, True, 1)
    many = [place._replace(whole=f"scene {number // 6}") for number, place in enumerate(places)]  # each its own
    assert not Ground(tiles, many).touching


def test_what_cannot_be_known_is_nan_and_nothing_has_no_variance():
    assert np.isnan(Ground([("scene", 0, 0)]).spread(np.zeros((1, 1))).variance).all()
    ground = Ground(tiles_of((3, 3)))
    found = ground.spread(np.array([np.zeros(9), np.full(9, np.nan), np.arange(9) - 4.0]))
    assert found.variance[0] == 0
    assert np.isnan(found.variance[1])
    assert found.variance[2] > 0


def test_the_side_of_a_tile_is_read_from_the_corners():
    assert Ground([("a", 0, 0), ("a", 64, 192), ("b", 32, 0)]).side == 64
    assert Ground([("a", 0, 0), ("b", 96, 0)]).side == 1  # no two tiles of one scene: nothing to tell it from


def test_blocks_to_draw_are_squares_or_scenes():
    ground = Ground(tiles_of((4, 4)))
    assert len(np.unique(ground.groups(2.2))) == 4
    assert ground.groups(2.2).reshape(4, 4).tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    assert len(np.unique(ground.groups(1))) == 16
    assert Ground(tiles_of(*[(2, 2)] * 9)).groups(1).tolist() == np.repeat(np.arange(9), 4).tolist()
