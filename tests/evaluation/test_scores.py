"""Scores are counts: they add up, whatever the cut, and survive the disk."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import minimum_filter
from torch import tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from kdcore.errors import DataError
from kdcore.evaluation.scores import (
    NODATA,
    Scores,
    ScoresBuilder,
    boundary_band,
    boundary_pixels,
    decide,
    quantise,
    score_tile,
)

BINARY = ("background", "building")
LAND = ("water", "forest", "field")
COUNTS = ("positives", "negatives", "confusion", "boundary")


def random_window(seed, height=64, width=64, classes=3, maps=3, ignored=0.1):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, (height, width)).astype(np.uint8)
    labels[rng.random((height, width)) < ignored] = NODATA
    levels = rng.integers(0, 255, (maps, height, width)).astype(np.uint8)
    levels[:, rng.random((height, width)) < ignored] = NODATA
    return levels, labels


def build(levels, labels, tile=32, scene="banepa", row=0, column=0, boundary=1, classes=LAND, scored=(0, 1, 2)):
    builder = ScoresBuilder(classes, scored, tile=tile)
    builder.add_window(scene, row, column, levels, labels, boundary)
    return builder.build()


def assert_same(first, second):
    assert (first.classes, first.scored, first.tiles) == (second.classes, second.scored, second.tiles)
    for name in COUNTS:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
        assert getattr(first, name).dtype == np.int64


class TestLevels:
    def test_probabilities_become_254_steps(self):
        assert quantise(np.array([0.0, 0.5, 1.0, 1 / 254, 0.9999999])).tolist() == [0, 127, 254, 1, 254]

    def test_rounding_moves_a_probability_by_half_a_step_at_most(self):
        p = np.random.default_rng(0).random((3, 50, 50)).astype(np.float32)
        assert np.abs(quantise(p) / 254 - p).max() <= 0.5 / 254 + 1e-6

    @pytest.mark.parametrize("wrong", [np.nan, -0.2, 1.5, np.inf])
    def test_what_is_no_probability_is_refused(self, wrong):
        with pytest.raises(DataError, match="between 0 and 1"):
            quantise(np.array([[0.5, wrong]]))

    def test_the_class_of_the_highest_level_wins_and_the_first_of_equals(self):
        levels = np.random.default_rng(1).integers(0, 6, (5, 40, 40)).astype(np.uint8)
        np.testing.assert_array_equal(decide(levels), levels.argmax(axis=0))

    def test_a_single_map_says_yes_from_one_half(self):
        assert decide(np.array([[[126, 127, 254]]], dtype=np.uint8)).tolist() == [[0, 1, 1]]


class TestOneTile:
    def test_counts_of_a_tile_by_hand(self):
        levels = np.array([[[200, 200, 10], [127, 255, 90]]], dtype=np.uint8)
        labels = np.array([[1, 0, 1], [1, 1, 255]], dtype=np.uint8)
        counts = score_tile(levels, labels, BINARY, (1,), 1)
        assert {level: n for level, n in enumerate(counts.positives[0]) if n} == {10: 1, 127: 1, 200: 1}
        assert {level: n for level, n in enumerate(counts.negatives[0]) if n} == {200: 1}
        # one background pixel called building; three buildings, of which one is missed; two pixels are not scored
        assert counts.confusion.tolist() == [[0, 1], [1, 2]]

    def test_an_explicit_prediction_decides_the_confusion_and_not_the_histogram(self):
        levels, labels = random_window(0, ignored=0)
        predicted = np.random.default_rng(9).integers(0, 3, labels.shape)
        counts = score_tile(levels, labels, LAND, (0, 1, 2), 1, predicted=predicted)
        expected = multiclass_confusion_matrix(tensor(predicted), tensor(labels.astype(int)), num_classes=3)
        np.testing.assert_array_equal(counts.confusion, expected.numpy())
        np.testing.assert_array_equal(counts.positives, score_tile(levels, labels, LAND, (0, 1, 2), 1).positives)

    def test_the_confusion_matrix_is_that_of_torchmetrics(self):
        levels, labels = random_window(3)
        levels[:, (levels == NODATA).any(axis=0)] = 0  # torchmetrics knows ignored labels, but no missing predictions
        counts = score_tile(levels, labels, LAND, (0, 1, 2), 1)
        decided = tensor(levels.argmax(axis=0))
        expected = multiclass_confusion_matrix(decided, tensor(labels.astype(int)), num_classes=3, ignore_index=255)
        np.testing.assert_array_equal(counts.confusion, expected.numpy())

    def test_many_classes_do_not_overflow_a_byte(self):
        classes = tuple(f"class {index}" for index in range(40))
        labels = np.arange(40, dtype=np.uint8)[None]
        levels = (np.eye(40, dtype=np.uint8) * 254)[:, None]
        np.testing.assert_array_equal(score_tile(levels, labels, classes, range(40), 1).confusion, np.eye(40))

    @given(seed=st.integers(0, 1000))
    @settings(max_examples=25, deadline=None)
    def test_the_order_of_pixels_does_not_matter_to_histograms_and_confusion(self, seed):
        levels, labels = random_window(seed, 8, 8)
        order = np.random.default_rng(seed).permutation(64)
        moved = levels.reshape(3, -1)[:, order].reshape(levels.shape), labels.ravel()[order].reshape(8, 8)
        before, after = (score_tile(*window, LAND, (0, 1, 2), 1) for window in ((levels, labels), moved))
        for one, other in zip(before[:3], after[:3], strict=True):
            np.testing.assert_array_equal(one, other)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda levels, labels: (levels, labels + 3), "is not one of the 3 classes"),
            (lambda levels, labels: (levels[:2], labels), r"wanted are \(3, H, W\)"),
            (lambda levels, labels: (levels[:, 1:], labels), r"wanted are \(3, H, W\)"),
            (lambda levels, labels: (levels / 254, labels), "must be uint8"),
            (lambda levels, labels: (levels[:, :0], labels[:0]), "wanted"),
        ],
    )
    def test_arrays_that_do_not_fit_are_refused(self, change, said):
        with pytest.raises(DataError, match=said):
            score_tile(*change(*random_window(0, 4, 4, ignored=0)), LAND, (0, 1, 2), 1)

    def test_a_label_outside_the_classes_does_no_harm_where_the_raster_has_no_data(self):
        levels, labels = np.full((1, 1, 2), 255, np.uint8), np.array([[7, 1]], np.uint8)
        levels[0, 0, 1] = 3
        assert score_tile(levels, labels, BINARY, (1,), 1).confusion.tolist() == [[0, 0], [1, 0]]

    @pytest.mark.parametrize("scored", [(0,), (1, 0), (0, 1, 2), ()])
    def test_scored_is_all_classes_or_the_second_of_two(self, scored):
        with pytest.raises(DataError, match="do not fit"):
            ScoresBuilder(BINARY, scored)


class TestBoundaries:
    def test_a_distance_on_the_ground_is_at_least_one_pixel(self):
        assert [boundary_pixels(2.0, resolution) for resolution in (0.3, 1.0, 10.0, None)] == [7, 2, 1, 2]

    @given(seed=st.integers(0, 1000), distance=st.integers(1, 9), height=st.integers(1, 20), width=st.integers(1, 20))
    @settings(max_examples=60, deadline=None)
    def test_the_band_is_the_mask_minus_its_erosion_by_scipy(self, seed, distance, height, width):
        rng = np.random.default_rng(seed)
        mask, valid = rng.random((height, width)) < 0.8, rng.random((height, width)) < 0.9
        known_inside = (mask | ~valid).astype(np.uint8)
        eroded = minimum_filter(known_inside, size=2 * distance + 1, mode="constant", cval=1)
        np.testing.assert_array_equal(boundary_band(mask, valid, distance), mask & valid & (eroded == 0))

    @pytest.mark.parametrize(("distance", "intersection", "union"), [(1, 0, 16), (2, 8, 24)])
    def test_an_edge_that_is_one_pixel_off_by_hand(self, distance, intersection, union):
        labels = np.tile(np.array([1, 1, 1, 1, 0, 0, 0, 0], np.uint8), (8, 1))
        levels = np.tile(np.array([254, 254, 254, 254, 254, 0, 0, 0], np.uint8), (1, 8, 1))
        # columns 2-3 of the truth against 3-4 of the prediction, eight rows each, at a distance of two
        boundary = score_tile(levels, labels, BINARY, (1,), distance).boundary
        assert boundary[1].tolist() == [intersection, union]

    def test_neither_cuts_between_tiles_nor_ignored_pixels_make_a_boundary(self):
        labels = np.ones((64, 64), dtype=np.uint8)
        labels[20:40, 20:40] = NODATA
        scores = build(np.full((1, 64, 64), 254, np.uint8), labels, tile=16, classes=BINARY, scored=(1,), boundary=3)
        assert len(scores) == 16 - 0
        assert not scores.boundary.any()

    def test_cutting_a_window_moves_no_boundary_pixel(self):
        levels, labels = random_window(5)
        np.testing.assert_array_equal(
            build(levels, labels, tile=16).boundary.sum(axis=0), build(levels, labels, tile=64).boundary[0]
        )


class TestWindows:
    def test_tiles_carry_their_corner_in_the_scene(self):
        levels, labels = random_window(1, 50, 70)
        scores = build(levels, labels, row=64, column=32)
        assert scores.tiles == tuple(("banepa", row, column) for row in (64, 96) for column in (32, 64, 96))

    def test_a_tile_of_a_window_is_counted_like_a_tile_of_its_own(self):
        levels, labels = random_window(2, 50, 70)
        scores = build(levels, labels)
        for tile, (_, row, column) in enumerate(scores.tiles):
            cut = slice(row, row + 32), slice(column, column + 32)
            alone = score_tile(levels[:, *cut], labels[cut], LAND, (0, 1, 2), 1)
            for name in COUNTS[:3]:  # boundaries look across cuts
                np.testing.assert_array_equal(getattr(scores, name)[tile], getattr(alone, name))

    def test_a_tile_without_a_scored_pixel_is_left_out(self):
        levels, labels = random_window(1, 64, 64, ignored=0)
        labels[:32, :32] = NODATA
        levels[:, 32:, 32:] = NODATA
        assert [tile[1:] for tile in build(levels, labels).tiles] == [(0, 32), (32, 0)]

    def test_a_window_that_is_not_aligned_to_tiles_is_refused(self):
        with pytest.raises(DataError, match="no multiple of the tile"):
            build(*random_window(0), row=16)

    def test_a_tile_cannot_be_scored_twice(self):
        builder = ScoresBuilder(LAND, (0, 1, 2), tile=32)
        for _ in range(2):
            builder.add_window("banepa", 0, 0, *random_window(0, 32, 32), 1)
        with pytest.raises(DataError, match=r"banepa \(row 0, column 0\) is scored twice"):
            builder.build()

    def test_single_tiles_and_no_tiles_can_be_collected(self):
        builder = ScoresBuilder(LAND, (0, 1, 2))
        assert len(builder.build()) == 0
        builder.add_tile("banepa", 5, 7, *random_window(0, 10, 12), 1)
        assert builder.build().tiles == (("banepa", 5, 7),)


class TestParts:
    @given(seed=st.integers(0, 1000), cut=st.integers(1, 3))
    @settings(max_examples=25, deadline=None)
    def test_parts_add_up_to_the_whole(self, seed, cut):
        levels, labels = random_window(seed, 32, 32)
        whole = build(levels, labels, tile=8)
        row = 8 * cut
        parts = Scores.merge(
            [build(levels[:, :row], labels[:row], 8), build(levels[:, row:], labels[row:], 8, row=row)]
        )
        assert parts.tiles == whole.tiles
        for name in COUNTS[:3]:
            np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
        assert whole.pixels == int(((labels != NODATA) & (levels.max(axis=0) != NODATA)).sum())

    def test_every_scored_pixel_is_counted_once_for_each_class(self):
        scores = build(*random_window(4))
        np.testing.assert_array_equal(scores.positives.sum(axis=2), scores.confusion.sum(axis=2))
        every = scores.positives.sum(axis=2) + scores.negatives.sum(axis=2)
        np.testing.assert_array_equal(every, np.repeat(scores.confusion.sum(axis=(1, 2))[:, None], 3, axis=1))

    def test_tiles_are_selected_by_mask_or_index(self):
        scores = build(*random_window(4))
        assert_same(scores.select([False, True, False, True]), scores.select([1, 3]))
        assert scores.select([3, 1]).tiles == (scores.tiles[3], scores.tiles[1])
        assert len(scores.select([])) == 0

    def test_parts_of_different_classes_or_with_a_common_tile_are_refused(self):
        scores = build(*random_window(4))
        other = build(*random_window(4, classes=2, maps=2), classes=BINARY, scored=(0, 1))
        for parts, said in (([scores, other], "cannot be merged"), ([scores, scores], "twice"), ([], "no scores")):
            with pytest.raises(DataError, match=said):
                Scores.merge(parts)


class TestDisk:
    @pytest.mark.parametrize("tiles", [0, 1, 4])
    def test_what_is_read_is_what_was_written(self, tmp_path, tiles):
        scores = build(*random_window(6), scene="Bāṇepā 1").select(range(tiles))
        scores.save(tmp_path / "deep" / "scores.npz")
        assert_same(Scores.load(tmp_path / "deep" / "scores.npz"), scores)
        assert [path.name for path in (tmp_path / "deep").iterdir()] == ["scores.npz"]

    def test_a_file_cut_short_or_damaged_anywhere_is_refused_or_whole(self, tmp_path):
        path = tmp_path / "scores.npz"
        scores = build(*random_window(6))
        scores.save(path)
        content = path.read_bytes()
        for end in range(0, len(content), len(content) // 40):
            path.write_bytes(content[:end])
            with pytest.raises(DataError, match=r"scores\.npz"):
                Scores.load(path)
        for place in range(0, len(content), len(content) // 60):
            path.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
            try:
                assert_same(Scores.load(path), scores)  # a byte that nobody reads, such as a date
            except DataError as error:
                assert "scores.npz" in str(error)  # noqa: PT017 (either outcome is right, which one depends on the byte)

    def test_foreign_files_are_refused_and_nothing_in_them_is_run(self, tmp_path):
        class Trap:
            def __reduce__(self):
                return (pytest.fail, ("a pickle was run",))

        np.savez(tmp_path / "other.npz", a=np.zeros(3))
        np.savez(tmp_path / "pickle.npz", format=np.array([Trap()], dtype=object))
        np.save(tmp_path / "array.npy", np.zeros(3))
        (tmp_path / "text.npz").write_text("hello")
        for name in ("other.npz", "pickle.npz", "array.npy", "text.npz"):
            with pytest.raises(DataError, match="cannot be read as scores"):
                Scores.load(tmp_path / name)
        with pytest.raises(DataError, match="no such file"):
            Scores.load(tmp_path / "missing.npz")

    @pytest.mark.parametrize(("name", "value"), list(itertools.product(["positives", "confusion"], [0.5, -1])))
    def test_counts_that_cannot_be_counts_are_refused(self, tmp_path, name, value):
        path = tmp_path / "scores.npz"
        build(*random_window(6)).save(path)
        with np.load(path) as archive:
            arrays = dict(archive)
        arrays[name] = np.full(arrays[name].shape, value)
        np.savez(path, **arrays)
        with pytest.raises(DataError, match="unsigned"):
            Scores.load(path)

    def test_counts_that_contradict_each_other_are_refused(self, tmp_path):
        path = tmp_path / "scores.npz"
        build(*random_window(6)).save(path)
        with np.load(path) as archive:
            arrays = dict(archive)
        arrays["confusion"][0, 0, 0] += 1
        np.savez(path, **arrays)
        with pytest.raises(DataError, match="count different pixels"):
            Scores.load(path)
