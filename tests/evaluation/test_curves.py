"""Curves from histograms are those of scikit-learn from pixels."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score, f1_score, jaccard_score, precision_recall_curve

from kdcore.errors import DataError
from kdcore.evaluation.counting import ScoresBuilder
from kdcore.evaluation.curves import (
    THRESHOLDS,
    average_precision,
    best_level,
    boundary_iou,
    expected_calibration_error,
    f1_at,
    f1_from_confusion,
    iou_at,
    iou_from_confusion,
    precision_at,
    precision_recall,
    prevalence,
    recall_at,
    reliability_curve,
)
from kdcore.evaluation.levels import LEVELS
from tests.evaluation.calibration import calibration_error
from tests.odds import odds_at

histograms = arrays(np.int64, LEVELS, elements=st.integers(0, 50), fill=st.just(0))

PROBABILITY = np.arange(LEVELS) / 254


def histogram(**pixels):
    counts = np.zeros(LEVELS, dtype=np.int64)
    for level, number in pixels.items():
        counts[int(level[1:])] = number
    return counts


def pixels(seed, size=4000, share=0.2):
    """Truth and probability of pixels, and their histogram."""
    rng = np.random.default_rng(seed)
    truth = (rng.random(size) < share).astype(int)
    probability = 1 / (1 + np.exp(-(rng.normal(size=size) * 1.5 + 2.5 * truth - 1.5)))
    levels = np.rint(probability * 254).astype(int)
    both = [np.bincount(levels[truth == side], minlength=LEVELS) for side in (1, 0)]
    return truth, probability, levels, *both


def confusion_of(levels, labels):
    builder = ScoresBuilder(tuple("abcd"), range(4))
    builder.add_window("scene", 0, 0, odds_at(levels), labels, 1)
    return builder.build().confusion[0]


# Marked from the top: 1 of 1, 1 of 2, 2 of 3, 2 of 4 pixels are right.
POSITIVES, NEGATIVES = histogram(_254=1, _100=1), histogram(_200=1, _0=1)


class TestPrecisionAndRecall:
    def test_a_curve_of_four_pixels_by_hand(self):
        precision, recall = precision_recall(POSITIVES, NEGATIVES)
        at = {level: index for index, level in enumerate(THRESHOLDS.tolist())}
        for level, wanted in ((254, (1, 0.5)), (200, (0.5, 0.5)), (100, (2 / 3, 1)), (0, (0.5, 1))):
            assert (precision[at[level]], recall[at[level]]) == pytest.approx(wanted)
            assert (precision_at(POSITIVES, NEGATIVES, level), recall_at(POSITIVES, NEGATIVES, level)) == wanted
        assert average_precision(POSITIVES, NEGATIVES) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
        assert prevalence(POSITIVES, NEGATIVES) == 0.5

    def test_f1_and_iou_of_four_pixels_by_hand(self):
        # from 150: one right, one false, one missed
        assert f1_at(POSITIVES, NEGATIVES, 150) == pytest.approx(2 / 4)
        assert iou_at(POSITIVES, NEGATIVES, 150) == pytest.approx(1 / 3)

    @pytest.mark.parametrize("seed", range(5))
    def test_the_curve_is_that_of_scikit_learn_on_the_levels(self, seed):
        truth, _, levels, positives, negatives = pixels(seed)
        their_precision, their_recall, their_thresholds = precision_recall_curve(truth, levels)
        precision, recall = precision_recall(positives, negatives)
        where = 254 - their_thresholds
        np.testing.assert_allclose(precision[where], their_precision[:-1], atol=1e-9)
        np.testing.assert_allclose(recall[where], their_recall[:-1], atol=1e-9)

    @pytest.mark.parametrize("share", [0.5, 0.2, 0.01])
    @pytest.mark.parametrize("seed", range(3))
    def test_average_precision_is_that_of_scikit_learn(self, seed, share):
        truth, probability, levels, positives, negatives = pixels(seed, 20000, share)
        ours = average_precision(positives, negatives)
        assert ours == pytest.approx(average_precision_score(truth, levels), abs=1e-9)
        # Equal levels hide an order that probabilities still have. These probabilities are well spread.
        assert ours == pytest.approx(average_precision_score(truth, probability), abs=1e-3 if share == 0.5 else 4e-3)

    def test_a_level_of_many_probabilities_stands_for_many_steps(self):
        # Ten negatives and ten positives take turns in one level, behind twenty positives: pixel by pixel, and from the level.
        truth = np.array([1] * 20 + [0, 1] * 10)
        exact = average_precision_score(truth, np.arange(len(truth), 0, -1))
        positives, negatives = np.array([10, 20]), np.array([10, 0])
        # precision falls from 1 to 30/40; ten even steps have the mean precision 1 + (1 + 1/10) / 2 * (30/40 - 1)
        found = average_precision(positives, negatives, np.array([1 / 10, 1 / 20]))
        assert found == pytest.approx((20 * 1 + 10 * (1 - 0.55 / 4)) / 30)
        assert abs(found - exact) < 0.01 < 0.02 < abs(average_precision(positives, negatives) - exact)

    def test_f1_is_that_of_scikit_learn(self):
        truth, _, levels, positives, negatives = pixels(7)
        for level in (1, 60, 127, 200):
            assert f1_at(positives, negatives, level) == pytest.approx(f1_score(truth, levels >= level))

    def test_leading_axes_are_computed_one_by_one(self):
        some = [pixels(seed)[3:] for seed in range(6)]
        positives, negatives = (np.stack([pair[side] for pair in some]).reshape(2, 3, LEVELS) for side in (0, 1))
        levels = np.array([[0, 50, 100], [127, 200, 254]])
        for index in np.ndindex(2, 3):
            one = positives[index], negatives[index]
            assert average_precision(positives, negatives)[index] == average_precision(*one)
            assert best_level(positives, negatives)[index] == best_level(*one)
            assert iou_at(positives, negatives, levels)[index] == iou_at(*one, levels[index])
            assert expected_calibration_error(positives, negatives, PROBABILITY)[index] == pytest.approx(
                expected_calibration_error(*one, PROBABILITY)
            )

    def test_without_positives_recall_and_average_precision_are_not_defined(self):
        nothing = histogram()
        precision, recall = precision_recall(nothing, NEGATIVES)
        assert np.isnan(recall).all()
        assert np.isnan(precision[:54]).all()  # above level 200 nothing is marked
        assert (precision[54:] == 0).all()
        assert np.isnan(average_precision(nothing, NEGATIVES))
        assert np.isnan(recall_at(nothing, NEGATIVES, 100))
        assert np.isnan(f1_at(nothing, NEGATIVES, 201))
        assert f1_at(nothing, NEGATIVES, 200) == 0
        assert np.isnan(prevalence(nothing, nothing))

    def test_histograms_that_do_not_fit_are_refused(self):
        with pytest.raises(DataError, match="same shape"):
            average_precision(np.zeros(255), np.zeros(256))
        for measure in (lambda *both: f1_at(*both, 127), best_level):
            with pytest.raises(DataError, match="9 levels, but a threshold is one of the 255"):
                measure(np.ones(9), np.ones(9))

    @given(histograms, histograms)
    @settings(max_examples=100, deadline=None)
    def test_recall_never_falls_and_average_precision_stays_above_the_worst_order(self, positives, negatives):
        real, others = positives.sum(), negatives.sum()
        assume(real > 0)
        _, recall = precision_recall(positives, negatives)
        assert (np.diff(recall) >= 0).all()
        assert recall[-1] == 1
        order = np.arange(1, real + 1)
        worst = (order / (order + others)).mean()  # every positive behind every negative
        assert worst - 1e-12 <= average_precision(positives, negatives) <= 1 + 1e-12

    @given(histograms, histograms, st.integers(2, 9))
    @settings(max_examples=50, deadline=None)
    def test_counting_every_pixel_several_times_changes_nothing(self, positives, negatives, times):
        assume(positives.sum() > 0)

        def error(*both):
            return expected_calibration_error(*both, PROBABILITY)

        for measure in (average_precision, error, prevalence, best_level):
            assert measure(positives * times, negatives * times) == pytest.approx(measure(positives, negatives))

    def test_a_score_that_says_nothing_reaches_the_prevalence(self):
        assert average_precision(histogram(_80=3), histogram(_80=9)) == pytest.approx(0.25)
        assert average_precision(histogram(_254=3), histogram(_0=9)) == 1


class TestThreshold:
    def test_the_best_level_of_a_clean_cut_is_the_one_nearest_to_one_half(self):
        assert best_level(histogram(_254=3), histogram(_0=9)) == 127
        assert best_level(histogram(_254=3), histogram(_180=9)) == 181
        assert best_level(histogram(_60=3), histogram(_0=9)) == 60

    def test_without_positives_it_is_one_half(self):
        assert best_level(histogram(), histogram(_0=9, _254=4)) == 127
        assert best_level(histogram(), histogram()) == 127

    @given(histograms, histograms, st.sampled_from(["f1", "iou"]))
    @settings(max_examples=50, deadline=None)
    def test_no_other_level_is_better(self, positives, negatives, metric):
        assume(positives.sum() > 0)
        measure = {"f1": f1_at, "iou": iou_at}[metric]
        values = [measure(positives, negatives, level) for level in range(255)]
        best = best_level(positives, negatives, metric)
        assert values[int(best)] == np.nanmax(values)
        assert best == best_level(positives, negatives)


class TestConfusion:
    def test_iou_and_f1_by_hand(self):
        confusion = np.array([[4, 1, 0], [2, 3, 0], [0, 0, 0]])
        np.testing.assert_allclose(iou_from_confusion(confusion), [4 / 7, 3 / 6, np.nan])
        np.testing.assert_allclose(f1_from_confusion(confusion), [8 / 11, 6 / 9, np.nan])

    def test_iou_and_f1_are_those_of_scikit_learn_with_ignored_pixels(self):
        rng = np.random.default_rng(0)
        labels = rng.choice([0, 1, 2, 3, 255], size=(60, 70)).astype(np.uint8)
        levels = rng.integers(0, 255, (4, 60, 70)).astype(np.uint8)
        confusion = confusion_of(levels, labels)
        seen = labels != 255
        for ours, theirs in ((iou_from_confusion, jaccard_score), (f1_from_confusion, f1_score)):
            expected = theirs(labels[seen], levels.argmax(axis=0)[seen], labels=range(4), average=None)
            np.testing.assert_allclose(ours(confusion), expected, atol=1e-6)

    def test_boundary_iou_by_hand(self):
        np.testing.assert_allclose(boundary_iou(np.array([[8, 24], [0, 16], [0, 0]])), [1 / 3, 0, np.nan])


class TestCalibration:
    def test_two_intervals_by_hand(self):
        positives, negatives = histogram(_254=1, _127=1), histogram(_0=2)
        probability, frequency, number = reliability_curve(positives, negatives, PROBABILITY, bins=2)
        np.testing.assert_allclose(probability, [0, 0.75])
        np.testing.assert_allclose(frequency, [0, 1])
        np.testing.assert_allclose(number, [2, 2])
        assert expected_calibration_error(positives, negatives, PROBABILITY, bins=2) == pytest.approx(0.25 * 2 / 4)

    @pytest.mark.parametrize("bins", [1, 10, 15])
    def test_the_error_is_that_of_scikit_learn_on_the_levels(self, bins):
        truth, _, levels, *both = pixels(3)
        expected = calibration_error(truth, levels / 254, bins)
        assert expected_calibration_error(*both, PROBABILITY, bins=bins) == pytest.approx(expected, abs=1e-6)

    def test_rounding_to_levels_moves_the_error_by_little(self):
        # A pixel's probability moves by 1/508 at most; a pixel that changes its interval moves it no further on average.
        truth, probability, _, positives, negatives = pixels(4, 50000)
        expected = calibration_error(truth, probability)
        assert expected_calibration_error(positives, negatives, PROBABILITY) == pytest.approx(expected, abs=1 / 508)

    def test_a_perfectly_calibrated_score_has_no_error(self):
        levels = np.arange(255)
        assert expected_calibration_error(levels, 254 - levels, PROBABILITY) == pytest.approx(0, abs=1e-12)

    def test_empty_intervals_are_not_defined_and_an_impossible_number_is_refused(self):
        probability, frequency, number = reliability_curve(histogram(_254=1), histogram(), PROBABILITY, bins=3)
        assert np.isnan(probability).tolist() == np.isnan(frequency).tolist() == [True, True, False]
        assert number.tolist() == [0, 0, 1]
        assert np.isnan(expected_calibration_error(histogram(), histogram(), PROBABILITY))
        with pytest.raises(DataError, match="intervals"):
            reliability_curve(histogram(), histogram(), PROBABILITY, bins=0)
