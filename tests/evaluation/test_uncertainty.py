"""Intervals, families and ratios against textbook numbers, scipy and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kdcore.evaluation.ground import Ground
from kdcore.evaluation.uncertainty import (
    Estimate,
    Needed,
    estimate,
    family,
    fieller,
    freedom,
    holm,
    needed,
    quantile,
)


def an_estimate(mean, *, seeds=0.0, own=0.0, shared=0.0, count=3, ground=50.0):
    return Estimate(mean, seeds, own, shared, count, ground + 1, ground, 1.0)


class TestFreedom:
    def test_is_that_of_the_only_part(self):
        assert freedom(2.0, 4, 0.0, 30) == pytest.approx(4)
        assert freedom(0.0, 4, 2.0, 30) == pytest.approx(30)
        assert freedom(0.0, 0, 2.0, 30) == pytest.approx(30)

    def test_of_two_parts_is_welchs(self):
        first, second = np.array([1.0, 2, 4, 9, 3]), np.array([5.0, 7, 6, 1, 2, 8, 3])
        found = freedom(first.var(ddof=1) / 5, 4, second.var(ddof=1) / 7, 6)
        assert found == pytest.approx(stats.ttest_ind(first, second, equal_var=False).df)

    def test_of_nothing_is_known_all_the_same(self):
        assert freedom(0.0, 4, 0.0, 30) == 30
        assert np.isnan(freedom(1.0, 4, float("nan"), float("nan")))


class TestEstimate:
    GROUND = Ground([(f"scene {number}", 0, 0) for number in range(30)])

    def test_what_the_ground_does_to_each_seed_in_its_own_way_counts_once(self):
        # Only own errors: the variance of the mean is that of the seeds' scatter, not twice that. A little more, because
        # neither part may be less than what is measured.
        rng = np.random.default_rng(0)
        own = rng.normal(size=(400, 4, 30))
        values = own.mean(axis=2)
        found = estimate(self.GROUND, values, (own - values[..., None]) / 30)
        assert 1 < 120 * np.mean([one.variance for one in found]) < 1.5
        assert np.mean([one.seeds + one.shared + one.own for one in found]) > 1.5 / (30 * 4)

    def test_what_it_does_to_all_alike_is_added_to_the_scatter(self):
        rng = np.random.default_rng(1)
        shared, luck = rng.normal(size=(400, 1, 30)), 0.2 * rng.normal(size=(400, 4, 1))
        values = (shared + luck).mean(axis=2)
        fields = ((shared + luck) - values[..., None]) / 30
        found = estimate(self.GROUND, values, fields)
        assert np.mean([one.shared for one in found]) == pytest.approx(1 / 30, rel=0.1)
        assert np.mean([one.seeds for one in found]) == pytest.approx(0.04 / 4, rel=0.1)
        covered = [one.interval(0.95).low <= 0 <= one.interval(0.95).high for one in found]
        assert 0.92 <= np.mean(covered) <= 0.98

    def test_of_one_seed_holds_the_ground_alone(self):
        rng = np.random.default_rng(2)
        field = rng.normal(size=(1, 1, 30))
        field -= field.mean()
        (found,) = estimate(self.GROUND, np.zeros((1, 1)), field / 30)
        assert (found.seeds, found.own) == (0, 0)
        assert found.shared == pytest.approx(field.var(ddof=1) / 30)

    def test_p_is_below_a_twentieth_just_where_the_interval_leaves_out_0(self):
        for mean in (0.5, 1.9, 2.1, 5.0):
            one = an_estimate(mean, seeds=0.6, shared=0.4, count=5)
            interval = one.interval(0.95)
            assert (one.p < 0.05) == (interval.low > 0)
        assert an_estimate(0.0).p == 1
        assert an_estimate(1.0).p == 0
        assert np.isnan(an_estimate(1.0, shared=float("nan")).p)


class TestHolm:
    def test_by_hand(self):
        # sorted: 0.01 * 4, 0.02 * 3, 0.03 * 2, 0.5 * 1, and never falling
        assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
        assert holm([0.9, 0.8]) == [1, 1]
        assert holm([]) == []

    def test_leaves_out_what_could_not_be_compared(self):
        found = holm([float("nan"), 0.01, 0.04])
        assert np.isnan(found[0])
        assert found[1:] == pytest.approx([0.02, 0.04])

    @given(st.lists(st.floats(0.001, 20), min_size=1, max_size=8))
    def test_intervals_of_a_family_leave_out_0_just_where_it_does(self, means):
        family_of = [an_estimate(mean, shared=1.0) for mean in means]
        for adjusted, interval in zip(holm([one.p for one in family_of]), family(family_of, 0.95), strict=True):
            if abs(adjusted - 0.05) > 1e-6:
                assert (adjusted < 0.05) == (interval.low > 0)

    def test_a_family_of_one_is_not_widened(self):
        one = an_estimate(1.0, shared=1.0)
        assert family([one], 0.95) == [one.interval(0.95)]

    def test_finds_a_false_difference_among_many_as_seldom_as_one(self):
        rng = np.random.default_rng(3)
        p = rng.random((4000, 8))
        assert np.mean([min(holm(row)) < 0.05 for row in p]) == pytest.approx(0.05, abs=0.012)


class TestFieller:
    def test_is_all_ratios_at_which_the_numerator_may_be_as_large(self):
        over, under, covariance = an_estimate(2.0, shared=0.3), an_estimate(5.0, shared=0.5), 0.2
        low, high = fieller(over, under, covariance, 0.95)
        for end in (low, high):
            error = np.sqrt(0.3 - 2 * end * 0.2 + end**2 * 0.5)
            assert abs(2.0 - end * 5.0) == pytest.approx(quantile(50, 0.95) * error)
        assert low < 0.4 < high

    def test_of_a_gap_that_may_be_nothing_is_none(self):
        assert fieller(an_estimate(1.0, shared=0.1), an_estimate(1.0, shared=0.5), 0.0, 0.95) is None
        assert fieller(an_estimate(1.0, shared=0.1), an_estimate(-5.0, shared=0.5), 0.0, 0.95) is None

    def test_covers(self):
        rng = np.random.default_rng(4)
        matrix = np.array([[1.0, 0.6], [0.6, 1.5]])
        drawn = rng.multivariate_normal((2.0, 5.0), matrix, size=3000)
        pairs = [
            fieller(an_estimate(o, shared=1.0, ground=1e6), an_estimate(u, shared=1.5, ground=1e6), 0.6, 0.95)
            for o, u in drawn
        ]
        given_ = [low <= 0.4 <= high for low, high in filter(None, pairs)]
        assert len(given_) > 2800
        assert np.mean(given_) == pytest.approx(0.95, abs=0.015)


class TestNeeded:
    def test_is_seeds_where_they_are_the_noise(self):
        found = needed(an_estimate(1.0, seeds=1.0, count=3), 0.95)
        assert found.area is None
        # n seeds: variance 3 / n, half-width t_(n - 1) * sqrt(3 / n)
        halves = [(n, stats.t.ppf(0.975, n - 1) * np.sqrt(3 / n)) for n in range(4, 50)]
        assert found.seeds == next(n for n, half in halves if half < 1)

    def test_is_area_where_the_ground_is_the_noise(self):
        found = needed(an_estimate(1.0, shared=1.0, ground=20), 0.95)
        assert found.seeds is None
        assert 3.5 <= found.area <= 5  # 1.96^2 = 3.8, and a little for the degrees of freedom

    def test_is_neither_for_next_to_nothing(self):
        assert needed(an_estimate(0.01, seeds=1.0, shared=1.0), 0.95) == Needed(None, None)
        assert needed(an_estimate(0.0, seeds=1.0, shared=1.0), 0.95) == Needed(None, None)
        assert needed(an_estimate(1.0, shared=1.0, count=1), 0.95) == Needed(None, None)
