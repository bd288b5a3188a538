import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_recall_curve

from kdcore.evaluation.curves import THRESHOLDS
from kdcore.evaluation.levels import LEVELS
from kdcore.evaluation.operating import MEAN, chosen_level, level_of, operating_point, view_curve


def histograms(levels, truth, classes):
    """(K, 255) positives and negatives of (K, N) levels and (N,) labels."""
    sides = [
        [np.bincount(row[(truth == k) == side], minlength=LEVELS) for k, row in zip(classes, levels, strict=True)]
        for side in (True, False)
    ]
    return np.array(sides)


def counts(**pixels):
    """A histogram with so many pixels at a level: counts(l254=3, l0=1)."""
    histogram = np.zeros(LEVELS, dtype=np.int64)
    for name, number in pixels.items():
        histogram[int(name[1:])] = number
    return histogram


@pytest.fixture
def case():
    rng = np.random.default_rng(5)
    truth = rng.integers(3, size=4000)
    levels = np.clip(90 + 60 * (np.arange(3)[:, None] == truth) + rng.normal(0, 45, (3, 4000)), 0, 254).astype(np.uint8)
    return levels, truth


class TestCurve:
    def test_of_a_class_goes_through_the_points_of_scikit_learn(self, case):
        levels, truth = case
        positives, negatives = histograms(levels, truth, range(3))
        for view in range(3):
            precision, recall = view_curve(positives, negatives, view)
            expected_precision, expected_recall, thresholds = precision_recall_curve(truth == view, levels[view])
            places = [int(np.flatnonzero(level == THRESHOLDS)[0]) for level in thresholds]
            np.testing.assert_allclose(precision[places], expected_precision[:-1])
            np.testing.assert_allclose(recall[places], expected_recall[:-1])

    def test_starts_level_where_nothing_is_marked_yet(self):
        # Nothing above level 100; there 3 of 4 pixels are of the class.
        precision, recall = view_curve(counts(l100=3, l0=1)[None], counts(l100=1, l0=5)[None], 0)
        assert precision[0] == precision[LEVELS - 1 - 100] == 0.75
        assert recall[0] == 0
        assert (precision[-1], recall[-1]) == (0.4, 1)

    def test_of_the_mean_averages_precision_and_recall_at_each_threshold(self):
        # a: 2 of 4 found at 200 without false alarm; b: 1 of 2 found at 200, with one false alarm.
        positives = np.stack([counts(l200=2, l0=2), counts(l200=1, l0=1)])
        negatives = np.stack([counts(l0=2), counts(l200=1, l0=3)])
        precision, recall = view_curve(positives, negatives, MEAN)
        at_200 = LEVELS - 1 - 200
        assert precision[at_200] == pytest.approx((1 + 1 / 2) / 2)
        assert recall[at_200] == pytest.approx((1 / 2 + 1 / 2) / 2)
        assert recall[-1] == 1
        assert precision[-1] == pytest.approx((4 / 6 + 2 / 6) / 2)

    def test_of_the_mean_leaves_out_classes_that_do_not_occur(self):
        occurs, never = counts(l200=2, l0=2), counts()
        positives, negatives = np.stack([occurs, never]), np.stack([counts(l0=2), counts(l200=3, l0=3)])
        for mean, alone in zip(
            view_curve(positives, negatives, MEAN), view_curve(positives, negatives, 0), strict=True
        ):
            np.testing.assert_array_equal(mean, alone)

    def test_of_nothing_is_unknown(self):
        nothing = np.zeros((2, LEVELS), dtype=np.int64)
        assert np.isnan(view_curve(nothing, nothing, MEAN)[1]).all()
        assert np.isnan(view_curve(nothing, nothing, 0)[1]).all()

    def test_takes_any_leading_axes(self, case):
        positives, negatives = histograms(*case, range(3))
        many = view_curve(np.stack([positives, 2 * positives]), np.stack([negatives, 2 * negatives]), MEAN)
        for both, one in zip(many, view_curve(positives, negatives, MEAN), strict=True):
            assert both.shape == (2, LEVELS)
            np.testing.assert_allclose(both, np.stack([one, one]))


class TestChosenThreshold:
    def test_has_the_best_f1_of_all(self, case):
        levels, truth = case
        positives, negatives = histograms(levels, truth, range(3))
        for view in range(3):
            chosen = chosen_level(positives, negatives, view)
            best = f1_score(truth == view, levels[view] >= chosen)
            for level in {*range(0, LEVELS, 12), chosen - 1, chosen + 1}:
                assert f1_score(truth == view, levels[view] >= level) <= best

    def test_of_the_mean_has_the_best_mean_f1(self, case):
        levels, truth = case
        chosen = chosen_level(*histograms(levels, truth, range(3)), MEAN)

        def mean_f1(level):
            return np.mean([f1_score(truth == k, levels[k] >= level) for k in range(3)])

        assert all(mean_f1(level) <= mean_f1(chosen) for level in {*range(0, LEVELS, 12), chosen - 1, chosen + 1})

    def test_is_one_half_where_nothing_can_be_known(self):
        nothing = np.zeros((2, LEVELS), dtype=np.int64)
        assert chosen_level(nothing, nothing, MEAN) == chosen_level(nothing, nothing, 1) == 127


class TestOperatingPoint:
    # Two seeds, one class of 10 pixels among 30. At level 100 the first finds 6 with 2 false alarms, the second 8 with 4.
    positives = np.stack([counts(l200=6, l50=4), counts(l100=8, l0=2)])[:, None]
    negatives = np.stack([counts(l150=2, l0=18), counts(l254=4, l99=16)])[:, None]

    def test_counts_pixels_of_one_network(self):
        point = operating_point(self.positives, self.negatives, 0, 100)
        assert (point.real, point.found, point.missed, point.false_alarm) == (10, 7, 3, 3)
        assert point.level == 100

    def test_lies_on_the_curve_of_all_seeds_together(self):
        point = operating_point(self.positives, self.negatives, 0, 100)
        assert (point.precision, point.recall) == (14 / 20, 14 / 20)
        precision, recall = view_curve(self.positives.sum(axis=0), self.negatives.sum(axis=0), 0)
        assert (point.precision, point.recall) in set(zip(precision.tolist(), recall.tolist(), strict=True))

    def test_of_the_mean_lies_on_the_mean_curve(self, case):
        positives, negatives = (side[None] for side in histograms(*case, range(3)))
        for level in (0, 90, 140, 254):
            point = operating_point(positives, negatives, MEAN, level)
            precision, recall = view_curve(positives[0], negatives[0], MEAN)
            assert (point.precision, point.recall) == (precision[254 - level], recall[254 - level])
            assert point.real == 4000

    def test_marks_everything_at_0_and_nothing_above_the_surest_pixel(self):
        everything = operating_point(self.positives[:1], self.negatives[:1], 0, 0)
        assert (everything.recall, everything.precision, everything.missed) == (1, 10 / 30, 0)
        nothing = operating_point(self.positives[:1], self.negatives[:1], 0, 201)
        assert (nothing.recall, nothing.found, nothing.false_alarm) == (0, 0, 0)
        assert np.isnan(nothing.precision)

    @pytest.mark.parametrize(("probability", "level"), [(0, 0), (0.5, 127), (1, 254), (0.3, 76)])
    def test_levels_are_254ths(self, probability, level):
        assert level_of(probability) == level
