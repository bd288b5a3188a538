"""Scores are counts: they add up, whatever the cut, and survive the disk."""

import itertools
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import minimum_filter
from scipy.special import expit, logit, softmax
from sklearn.metrics import average_precision_score, confusion_matrix
from torch import from_numpy

from kdcore.errors import DataError
from kdcore.evaluation import counting
from kdcore.evaluation.counting import ScoresBuilder, boundary_band, boundary_pixels
from kdcore.evaluation.curves import average_precision, expected_calibration_error, precision_at, recall_at
from kdcore.evaluation.levels import NODATA, decide, quantise
from kdcore.evaluation.scores import Place, Scores
from kdcore.models.networks import odds as network_odds
from tests.evaluation.calibration import calibration_error
from tests.odds import odds_at

BINARY = ("background", "building")
LAND = ("water", "forest", "field")
COUNTS = ("positives", "negatives", "confusion", "boundary")


def random_window(seed, height=64, width=64, classes=3, maps=3, ignored=0.1):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, (height, width)).astype(np.uint8)
    labels[rng.random((height, width)) < ignored] = NODATA
    levels = rng.integers(0, 255, (maps, height, width)).astype(np.uint8)
    return odds_at(levels), labels


def build(odds, labels, tile=32, scene="banepa", row=0, column=0, boundary=1, classes=LAND, scored=(0, 1, 2)):
    builder = ScoresBuilder(classes, scored, tile=tile)
    builder.add_window(scene, row, column, odds, labels, boundary)
    return builder.build()


def assert_same(first, second):
    assert (first.classes, first.scored, first.tiles) == (second.classes, second.scored, second.tiles)
    for name in (*COUNTS, "levels", "probability", "ties"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


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


def on_map(scores, index=0):
    """Positives and negatives of one class in all tiles, as {level of a map: pixels}."""
    return [{level: int(n) for level, n in enumerate(side[index]) if n} for side in scores.on_map()]


class TestOneTile:
    def test_counts_of_a_tile_by_hand(self):
        odds = odds_at([[[200, 200, 10], [127, 3, 90]]])
        labels = np.array([[1, 0, 1], [1, 255, 255]], dtype=np.uint8)
        scores = build(odds, labels, classes=BINARY, scored=(1,))
        assert on_map(scores) == [{10: 1, 127: 1, 200: 1}, {200: 1}]
        # one background pixel called building; three buildings, of which one is missed; two pixels are not scored
        assert scores.confusion.tolist() == [[[0, 1], [1, 2]]]

    def test_an_explicit_prediction_decides_the_confusion_and_not_the_histogram(self):
        odds, labels = random_window(0, ignored=0)
        predicted = np.random.default_rng(9).integers(0, 3, labels.shape)
        builder = ScoresBuilder(LAND, (0, 1, 2), tile=64)
        builder.add_window("banepa", 0, 0, odds, labels, 1, predicted=predicted)
        np.testing.assert_array_equal(builder.build().confusion[0], confusion_matrix(labels.ravel(), predicted.ravel()))
        np.testing.assert_array_equal(builder.build().positives, build(odds, labels, tile=64).positives)

    def test_the_confusion_matrix_is_that_of_scikit_learn(self):
        odds, labels = random_window(3)
        seen = labels != 255
        expected = confusion_matrix(labels[seen], odds.argmax(axis=0)[seen])
        np.testing.assert_array_equal(build(odds, labels, tile=64).confusion[0], expected)

    def test_many_classes_do_not_overflow_a_byte(self):
        classes = tuple(f"class {index}" for index in range(40))
        labels = np.arange(40, dtype=np.uint8)[None]
        odds = odds_at(np.eye(40, dtype=np.uint8) * 254)[:, None]
        scores = build(odds, labels, tile=64, classes=classes, scored=range(40))
        np.testing.assert_array_equal(scores.confusion[0], np.eye(40))

    @given(seed=st.integers(0, 1000))
    @settings(max_examples=25, deadline=None)
    def test_the_order_of_pixels_does_not_matter_to_histograms_and_confusion(self, seed):
        odds, labels = random_window(seed, 8, 8)
        order = np.random.default_rng(seed).permutation(64)
        moved = odds.reshape(3, -1)[:, order].reshape(odds.shape), labels.ravel()[order].reshape(8, 8)
        before, after = (build(*window) for window in ((odds, labels), moved))
        for name in COUNTS[:3]:
            np.testing.assert_array_equal(getattr(before, name), getattr(after, name))

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda odds, labels: (odds, labels + 3), "is not one of the 3 classes"),
            (lambda odds, labels: (odds[:2], labels), r"wanted are \(3, H, W\)"),
            (lambda odds, labels: (odds[:, 1:], labels), r"wanted are \(3, H, W\)"),
            (lambda odds, labels: (odds.astype(int), labels), "must be float32"),
            (lambda odds, labels: (odds[:, :0], labels[:0]), "wanted"),
            (lambda odds, labels: (odds * np.nan, labels), "training diverged"),
        ],
    )
    @pytest.mark.filterwarnings("ignore::RuntimeWarning")
    def test_arrays_that_do_not_fit_are_refused(self, change, said):
        with pytest.raises(DataError, match=said):
            build(*change(*random_window(0, 4, 4, ignored=0)))

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
        odds = np.tile(np.array([9, 9, 9, 9, 9, 0, 0, 0], np.float32), (1, 8, 1))
        # columns 2-3 of the truth against 3-4 of the prediction, eight rows each, at a distance of two
        boundary = build(odds, labels, classes=BINARY, scored=(1,), boundary=distance).boundary
        assert boundary[0, 1].tolist() == [intersection, union]

    def test_neither_cuts_between_tiles_nor_ignored_pixels_make_a_boundary(self):
        labels = np.ones((64, 64), dtype=np.uint8)
        labels[20:40, 20:40] = NODATA
        scores = build(np.full((1, 64, 64), 9, np.float32), labels, tile=16, classes=BINARY, scored=(1,), boundary=3)
        assert len(scores) == 16
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
            alone = build(levels[:, *cut], labels[cut])
            one = scores.select([tile])
            np.testing.assert_array_equal(one.confusion, alone.confusion)  # boundaries look across cuts
            for side, other in zip(one.on_map(), alone.on_map(), strict=True):
                np.testing.assert_array_equal(side, other)

    def test_a_tile_without_a_scored_pixel_is_left_out(self):
        levels, labels = random_window(1, 64, 64, ignored=0)
        labels[:32, :32] = labels[32:, 32:] = NODATA
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

    def test_a_small_window_and_none_can_be_collected(self):
        builder = ScoresBuilder(LAND, (0, 1, 2))
        assert len(builder.build()) == 0
        builder.add_window("banepa", 128, 0, *random_window(0, 10, 12), 1)
        assert builder.build().tiles == (("banepa", 128, 0),)


class TestParts:
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


class TestDisk:
    @pytest.mark.parametrize("tiles", [0, 1, 4])
    def test_what_is_read_is_what_was_written(self, tmp_path, tiles):
        scores = build(*random_window(6), scene="Bāṇepā 1").select(range(tiles))
        scores = replace(scores, places=tuple(Place(s, 0.25 * r, 3.5 + c, "town") for s, r, c in scores.tiles))
        scores.save(tmp_path / "deep" / "scores.npz")
        assert_same(Scores.load(tmp_path / "deep" / "scores.npz"), scores)
        assert Scores.load(tmp_path / "deep" / "scores.npz").places == scores.places
        assert scores.select(range(tiles)[::-1]).places == scores.places[::-1]
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

    def test_the_file_of_an_older_version_is_read_and_marked(self, tmp_path):
        # 255 levels l / 254 and an empty bin: two pixels of the class at 200, one other at 3
        positives, negatives = np.zeros((2, 1, 1, 256), dtype=np.uint8)
        positives[..., 200], negatives[..., 3] = 2, 1
        arrays = {
            "format": "kdcore-scores-1",
            "classes": BINARY,
            "scored": [1],
            "scenes": ["banepa"],
            "corners": [[0, 0]],
        }
        arrays |= {"positives": positives, "negatives": negatives, "boundary": np.zeros((1, 2, 2), dtype=np.uint8)}
        np.savez(tmp_path / "scores.npz", confusion=np.array([[[1, 0], [0, 2]]], dtype=np.uint8), **arrays)
        scores = Scores.load(tmp_path / "scores.npz")
        assert scores.coarse
        assert on_map(scores) == [{200: 2}, {3: 1}]
        assert scores.select([0]).coarse
        assert not build(*random_window(6)).coarse

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

    @pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def test_an_archive_that_is_damaged_inside_is_refused_however_it_is_packed(self, tmp_path, method):
        build(*random_window(6)).save(tmp_path / "scores.npz")
        packed = tmp_path / "packed.npz"
        with zipfile.ZipFile(tmp_path / "scores.npz") as old, zipfile.ZipFile(packed, "w", method) as new:
            for entry in old.infolist():
                new.writestr(entry.filename, old.read(entry))
            largest = max(new.infolist(), key=lambda entry: entry.compress_size)
        assert Scores.load(packed).tiles == Scores.load(tmp_path / "scores.npz").tiles
        damaged = bytearray(packed.read_bytes())
        middle = largest.header_offset + 40 + largest.compress_size // 2
        damaged[middle : middle + 8] = bytes(byte ^ 0xFF for byte in damaged[middle : middle + 8])
        packed.write_bytes(damaged)
        with pytest.raises(DataError, match="cannot be read as scores"):
            Scores.load(packed)

    @pytest.mark.parametrize(
        "header",
        ["{'descr': (", " {}\n 0", "{'descr': '<i8', 'fortran_order': False, 'shape': (10000000000000000000,)}"],
    )
    def test_an_array_with_a_broken_header_is_refused(self, tmp_path, header):
        build(*random_window(6)).save(tmp_path / "scores.npz")
        broken = tmp_path / "broken.npz"
        with zipfile.ZipFile(tmp_path / "scores.npz") as old, zipfile.ZipFile(broken, "w") as new:
            for entry in old.infolist():
                text = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(8)
                new.writestr(entry.filename, text if entry.filename == "positives.npy" else old.read(entry))
        with pytest.raises(DataError, match="cannot be read as scores"):
            Scores.load(broken)

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


def logits_of(rng, truth, kind):
    """Log-odds of a network that tells a class apart with an AUC of 0.96, calibrated unless `kind` says otherwise."""
    share, distance, spread = truth.mean(), 2.5, 1.4
    seen = rng.normal(0, spread, truth.shape) + distance * truth
    calibrated = (seen - distance / 2) * distance / spread**2 + logit(share)
    return {
        "calibrated": lambda: calibrated,
        "3 x too sure": lambda: 3 * calibrated,
        "6 x too sure": lambda: 6 * calibrated,
        "all at one end": lambda: 9 + calibrated / 40,
        "all at one point": lambda: 20 + calibrated / 400,
        "ties": lambda: np.rint(2 * calibrated) / 2,
        "a heavy tie": lambda: np.maximum(calibrated, np.quantile(calibrated, 0.8)),
        "sure of half": lambda: np.where(calibrated > np.quantile(calibrated, 1 - share / 2), 25.0, calibrated),
    }[kind]().astype(np.float32)


class TestExactness:
    @pytest.mark.parametrize("share", [0.5, 0.1, 0.01, 0.001])
    @pytest.mark.parametrize("rounded", ["float32", "bfloat16"])
    @pytest.mark.parametrize(
        "kind",
        ["calibrated", "3 x too sure", "6 x too sure", "all at one end", "all at one point", "ties", "a heavy tie", "sure of half"],
    )  # fmt: skip
    def test_average_precision_and_calibration_are_those_of_the_pixels(self, kind, rounded, share, monkeypatch):
        monkeypatch.setattr(counting, "HELD_BACK", 2 * 512 * 256)  # half of the pixels come after the choice of levels
        rng = np.random.default_rng(5)
        truth = (rng.random((1024, 256)) < share).astype(np.uint8)
        logits = logits_of(rng, truth, kind)
        if rounded == "bfloat16":
            logits = from_numpy(logits).bfloat16().float().numpy()
        odds = network_odds(from_numpy(logits)[None, None])[0, 0].numpy()
        builder = ScoresBuilder(BINARY, (1,), tile=128)
        for row in range(0, 1024, 256):
            builder.add_window("s", row, 0, odds[None, row : row + 256], truth[row : row + 256], 1)
        scores = builder.build()
        exact = average_precision_score(truth.ravel(), logits.ravel())
        assert average_precision(*scores.total(), scores.ties) == pytest.approx(exact, abs=5e-4)
        probability = np.clip(expit(logits.astype(np.float64)).ravel(), 0, 1 - 1e-9)
        expected = calibration_error(truth.ravel(), probability)
        found = expected_calibration_error(*scores.total(), scores.probability)
        assert found == pytest.approx(expected, abs=5e-4)
        for level in (26, 127, 230):  # a threshold of the map marks the pixels of that level and above
            marked = logits >= logit((level - 0.5) / 254)
            positives, negatives = scores.on_map()
            if marked.any():
                assert precision_at(positives, negatives, level) == pytest.approx(
                    truth[marked].mean(), abs=max(5e-4, 1 / marked.sum())
                )
            assert recall_at(positives, negatives, level) == pytest.approx(marked[truth == 1].mean(), abs=5e-4)

    @pytest.mark.parametrize("sureness", [1, 3])
    def test_of_six_classes_too(self, sureness):
        rng = np.random.default_rng(2)
        names = tuple("abcdef")
        labels = rng.choice(6, p=[0.5, 0.3, 0.15, 0.04, 0.009, 0.001], size=(512, 512)).astype(np.uint8)
        logits = sureness * (rng.normal(size=(6, 512, 512)) + 2 * (np.arange(6)[:, None, None] == labels))
        odds = network_odds(from_numpy(logits.astype(np.float32))[None])[0].numpy()
        scores = build(odds, labels, tile=128, classes=names, scored=range(6))
        shares = softmax(logits, axis=0)
        for index, found in enumerate(average_precision(*scores.total(), scores.ties)):
            exact = average_precision_score(labels.ravel() == index, shares[index].ravel())
            assert found == pytest.approx(exact, abs=5e-4)

    def test_a_tile_takes_no_more_than_four_kilobytes_a_class(self):
        rng = np.random.default_rng(1)
        truth = (rng.random((1024, 1024)) < 0.3).astype(np.uint8)
        scores = build(np.exp(logits_of(rng, truth, "calibrated"))[None], truth, tile=128, classes=BINARY, scored=(1,))
        assert (scores.positives.nbytes + scores.negatives.nbytes) / len(scores) < 4096
