"""Tiles over a raster: every pixel once, neighbours fade into each other, origins are multiples of the stride."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdcore.data.scene import Crop
from kdcore.errors import SettingsError
from kdcore.models.tiled import Axis, Blended, looks, make_grid, without_gaps

grids = st.builds(
    make_grid,
    st.integers(1, 700),
    st.integers(1, 700),
    st.sampled_from([128, 160, 256]),
    st.sampled_from([0, 32]),
    st.booleans(),
)


def places(grid):
    return [(row, column) for row in range(grid.rows.count) for column in range(grid.columns.count)]


@given(grids)
def test_every_pixel_is_kept_by_one_tile_that_sees_it(grid):
    for finished in (grid.kept, lambda row, column: Blended.finished(grid, row, column)):
        times = np.zeros((grid.rows.length, grid.columns.length), dtype=int)
        for place in places(grid):
            kept, window = finished(*place), grid.window(*place)
            assert window.intersection(kept) == kept
            times[kept.row : kept.row + kept.height, kept.column : kept.column + kept.width] += 1
        assert (times == 1).all()


@given(grids)
def test_a_halo_is_seen_around_what_is_kept_except_at_the_rasters_edge(grid):
    for place in places(grid):
        kept, window = grid.kept(*place), grid.window(*place)
        wanted = kept.grown(32 if grid.rows.halo or grid.columns.halo else 0)
        for axis, start, length, from_, size in (
            (grid.rows, wanted.row, wanted.height, window.row, window.height),
            (grid.columns, wanted.column, wanted.width, window.column, window.width),
        ):
            if axis.halo:
                assert from_ <= max(0, start)
                assert from_ + size >= min(axis.length, start + length)


@given(grids)
def test_tiles_start_at_multiples_of_the_stride_of_encoders(grid):
    for place in places(grid):
        window = grid.window(*place)
        assert window.row % 32 == window.column % 32 == window.height % 32 == window.width % 32 == 0


@given(st.integers(1, 700), st.sampled_from([128, 160, 256]), st.sampled_from([0, 32]))
def test_weights_over_a_pixel_add_up_to_one(length, tile, halo):
    axis = Axis(length, tile, halo)
    total = np.zeros(axis.count * tile)
    for index in range(axis.count):
        span, weights = axis.span(index), axis.weights(index)
        total[span.start + span.lead :][: len(weights)] += weights
    np.testing.assert_allclose(total[:length], 1, atol=1e-6)


def test_the_rasters_outer_border_has_full_weight():
    axis = Axis(500, 128, 32)
    assert axis.weights(0)[0] == axis.weights(axis.count - 1)[-1] == 1


def test_numbers_of_tiles_by_hand():
    grid = make_grid(1000, 500, 512, 32)
    assert (grid.rows.count, grid.columns.count) == (3, 1)  # 448 apart: 0, 448 (ends at 960), 896
    assert grid.window(2, 0) == (512, 0, 512, 512)  # moved back: 1000 - 512 = 488, and the next multiple of 32
    assert grid.kept(2, 0) == (928, 0, 72, 500)
    assert (grid.columns.tile, grid.columns.halo) == (512, 0)
    assert grid.kept(1, 0) == (480, 0, 448, 500)


@given(grids.filter(lambda grid: grid.rows.count > 1))
def test_the_last_tile_reaches_over_the_end_by_less_than_a_stride(grid):
    window = grid.window(grid.rows.count - 1, 0)
    assert 0 <= window.row + window.height - grid.rows.length < 32


def test_a_small_raster_gets_a_tile_of_its_own_size_unless_the_network_takes_one_size_only():
    assert make_grid(40, 70, 512, 32).window(0, 0) == (0, 0, 64, 96)
    assert make_grid(40, 70, 512, 32, fixed=True).window(0, 0) == (0, 0, 512, 512)


@pytest.mark.parametrize(
    ("tile", "halo", "word"), [(500, 32, "--tile 500"), (512, 20, "--halo 20"), (128, 64, "at most")]
)
def test_sizes_that_do_not_fit_are_refused(tile, halo, word):
    with pytest.raises(SettingsError, match=word):
        make_grid(1000, 1000, tile, halo)


@given(st.integers(1, 700), st.sampled_from([64, 100, 130]), st.sampled_from([0, 10, 24]))
def test_snug_tiles_end_with_the_raster_and_meet_in_the_middle_of_their_overlap(length, tile, halo):
    axis = Axis(max(length, tile), tile, halo, snug=True)
    spans = [axis.span(index) for index in range(axis.count)]
    assert spans[0].kept == 0
    assert spans[-1].start + tile == spans[-1].end == axis.length
    for one, other in pairwise(spans):
        assert one.end == other.kept == (one.start + tile + other.start) // 2
        assert other.start - one.start <= tile - 2 * halo


def test_snug_tiles_by_hand():
    axis = Axis(150, 100, 16, snug=True)  # 68 apart, but the second one moves back to 50; they share 50 to 100
    assert [axis.span(index)[2:] for index in range(axis.count)] == [(0, 75), (75, 150)]


class Asked:
    """A network that gives the mean of each image, and remembers what it was asked."""

    def __init__(self):
        self.shapes = []

    def __call__(self, images):
        self.shapes.append(images.shape)
        return images.mean(axis=(1, 2, 3))


def crops(*kinds):
    """1 x 4 or 1 x 6 pixels of one band, 'e' where none is valid; the value tells the place in the order."""
    sizes = {"a": 4, "b": 6, "e": 4}
    return [
        Crop(
            np.full((1, 1, sizes[kind]), place, np.float32),
            np.full((1, sizes[kind]), kind != "e"),
            np.zeros((1, sizes[kind])),
        )
        for place, kind in enumerate(kinds)
    ]


def test_windows_are_put_to_the_network_in_batches_of_one_size_and_come_back_in_order():
    given_crops, asked = crops(*"abaebaa"), Asked()
    seen = list(looks(lambda index: given_crops[index], 7, asked, batch=3))
    assert [said for _, said in seen] == [0, 1, 2, None, 4, 5, 6]
    assert [crop.image[0, 0, 0] for crop, _ in seen] == list(range(7))
    assert asked.shapes == [(2, 1, 1, 4), (1, 1, 1, 6), (1, 1, 1, 6), (2, 1, 1, 4)]


def test_windows_without_data_are_asked_about_where_that_is_wished():
    given_crops, asked = crops(*"eae"), Asked()
    assert [said for _, said in looks(lambda index: given_crops[index], 3, asked, empty=True)] == [0, 1, 2]
    assert asked.shapes == [(1, 1, 1, 4)] * 3  # one at a time: batches would change digits


def test_gaps_are_filled_with_one_value_a_band():
    crop = Crop(np.array([[[5, 0]], [[7, 0]]], np.uint8), np.array([[True, False]]), np.zeros((1, 2)))
    filled = without_gaps(crop, np.array([1.5, 2.5]))
    np.testing.assert_array_equal(filled.image, [[[5, 1.5]], [[7, 2.5]]])
    assert filled.image.dtype == np.float32
