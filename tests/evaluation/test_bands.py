import weakref

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, precision_recall_curve

from kdcore.errors import DataError
from kdcore.evaluation.bands import RECALLS, block_weights, study_curves
from kdcore.evaluation.compare import compare
from kdcore.evaluation.counting import ScoresBuilder
from kdcore.evaluation.curves import precision_between, precision_in_steps
from kdcore.evaluation.levels import LEVELS
from kdcore.evaluation.operating import MEAN
from kdcore.evaluation.scores import Scores
from tests.evaluation.test_compare import in_scenes
from tests.odds import map_table, odds_at

TILE = 8
CLASSES = ("land", "road", "water")


def some_labels(rng, tiles, classes=3):
    return rng.integers(classes, size=(TILE, TILE * tiles)).astype(np.uint8)


def levels_of(rng, labels, skill, classes=3):
    """(K, H, W) levels that tell classes apart the better the greater the skill."""
    known = np.arange(classes)[:, None, None] == labels
    return np.clip(100 + skill * known + rng.normal(0, 40, known.shape), 0, 254).astype(np.uint8)


def scores_of(levels, labels, classes=CLASSES):
    builder = ScoresBuilder(classes, range(len(classes)), tile=TILE)
    builder.add_window("scene", 0, 0, odds_at(levels), labels, 1)
    return builder.build()


def measure(arms, validation=None, **options):
    """Curves of lists of scores; validation is the test split unless given."""
    return study_curves(arms, validation or arms, **options)


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.fixture
def arms(rng):
    """Three seeds of each student and a teacher, on 30 tiles."""
    labels = some_labels(rng, 30)
    return {
        arm: [scores_of(levels_of(rng, labels, skill + rng.normal(0, 3)), labels) for _ in range(seeds)]
        for arm, skill, seeds in (("alone", 40, 3), ("distilled", 55, 3), ("teacher", 80, 1))
    }


class TestPrecisionAtRecall:
    # recall 0.25, 0.25, 0.5, 1 with precision 1, 0.8, 0.6, 0.4
    precision, recall = np.array([[1, 0.8, 0.6, 0.4]]), np.array([[0.25, 0.25, 0.5, 1.0]])

    def test_is_that_of_the_strictest_threshold_that_finds_so_much(self):
        wanted = np.array([0.0, 0.1, 0.25, 0.26, 0.5, 0.51, 1.0])
        found = precision_in_steps(self.precision, self.recall, wanted)
        assert found.tolist() == [[1, 1, 1, 0.6, 0.6, 0.4, 0.4]]

    def test_of_unknown_curves_is_unknown_and_others_are_not_disturbed(self):
        both = np.concatenate([np.full((1, 4), np.nan), self.recall, np.full((1, 4), np.nan)])
        found = precision_in_steps(np.repeat(self.precision, 3, axis=0), both, np.array([0.3]))
        np.testing.assert_array_equal(found, [[np.nan], [0.6], [np.nan]])
        assert np.isnan(precision_in_steps(self.precision, self.recall * np.nan, np.array([0.3]))).all()

    def test_of_a_thousand_curves_is_that_of_each(self, rng):
        recall = np.sort(rng.random((1000, 50)), axis=1)
        recall[:, -1] = 1
        precision = rng.random((1000, 50))
        found = precision_in_steps(precision, recall, RECALLS)
        for row in rng.integers(1000, size=20):
            places = np.searchsorted(recall[row], RECALLS)
            np.testing.assert_array_equal(found[row], precision[row, places])

    def test_between_thresholds_takes_ties_in_random_order(self):
        # 4 pixels at the upper level, 1 of them of the class; 12 at the lower, 3 of them of the class.
        positives, negatives = np.zeros((2, 1, LEVELS))
        positives[0, [254, 10]], negatives[0, [254, 10]] = (1, 3), (3, 9)
        # One in four everywhere, so precision is 1/4 at any recall.
        np.testing.assert_allclose(precision_between(positives, negatives, np.array([0.1, 0.25, 0.6, 1])), 0.25)
        # Now the upper level is pure: half way through the lower one (recall 0.625) 2.5 of 1 + 1.5 + 4.5 are right.
        negatives[0, 254] = 0
        found = precision_between(positives, negatives, np.array([0.1, 0.25, 0.625, 1.0]))
        np.testing.assert_allclose(found, [[1, 1, 2.5 / 7, 4 / 13]])

    def test_between_thresholds_meets_the_steps_at_every_threshold(self, rng):
        positives, negatives = rng.integers(0, 9, size=(2, 5, LEVELS))
        true = np.cumsum(positives[:, 254::-1], axis=1)
        marked = true + np.cumsum(negatives[:, 254::-1], axis=1)
        for row in range(5):
            wanted = np.unique(true[row][true[row] > 0]) / true[row, -1]
            steps = precision_in_steps(true[[row]] / marked[[row]], true[[row]] / true[row, -1], wanted)
            np.testing.assert_allclose(precision_between(positives[[row]], negatives[[row]], wanted), steps)

    def test_between_thresholds_without_positives_is_unknown(self):
        nothing = np.zeros((2, LEVELS))
        assert np.isnan(precision_between(nothing, nothing + 1, RECALLS)).all()


class TestBand:
    def test_is_the_percentiles_of_curves_of_the_repeated_pixels_of_the_drawn_tiles(self, rng):
        # Once more from the pixels, by scikit-learn, with deviations widened for so few tiles.
        tiles, resamples = 9, 40
        labels = some_labels(rng, tiles)
        levels = levels_of(rng, labels, 60)
        scores = [in_scenes(scores_of(levels, labels))]  # so many scenes are the blocks
        band = measure(dict.fromkeys(("alone", "distilled", "teacher"), scores), resamples=resamples).arms["alone"].band
        weights = block_weights(np.arange(tiles), resamples, np.random.default_rng(0)).astype(int)
        widening = stats.t.ppf(0.975, tiles - 1) / stats.norm.ppf(0.975) * np.sqrt(tiles / (tiles - 1))
        for view in range(3):
            whole = self.read(labels == view, levels[view])
            again = np.array([self.read(*self.repeat(labels == view, levels[view], draws)) for draws in weights])
            low, high = np.percentile(whole + widening * (again - whole), [2.5, 97.5], axis=0)
            np.testing.assert_allclose(band[view], np.clip([low, high], 0, 1), atol=1e-6)

    @staticmethod
    def read(truth, levels):
        precision, recall, _ = precision_recall_curve(truth.ravel(), levels.ravel())
        return np.array([precision[np.flatnonzero(recall >= wanted - 1e-9)[-1]] for wanted in RECALLS])

    @staticmethod
    def repeat(truth, levels, draws):
        columns = np.repeat(np.arange(len(draws) * TILE).reshape(-1, TILE), draws, axis=0).ravel()
        return truth[:, columns], levels[:, columns]

    def test_draws_whole_blocks(self, rng):
        weights = block_weights(np.array([0, 0, 1, 2, 2, 2]), 500, rng)
        assert (weights[:, 0] == weights[:, 1]).all()
        assert (weights[:, 3:] == weights[:, [3]]).all()
        assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()
        assert weights[:, 2].var() == pytest.approx(2 / 3, rel=0.2)  # binomial (3, 1/3)

    def test_of_95_percent_holds_the_curve_of_endless_imagery_95_times_in_100(self):
        # Tiles differ in how hard they are. The truth is the curve of 5,000 tiles; each study sees 40 of them.
        rng = np.random.default_rng(3)
        ease = rng.normal(60, 25, size=5000)
        tiles = np.zeros((2, 5000, LEVELS), dtype=np.int64)
        for side, offset in ((0, 1), (1, 0)):
            levels = np.clip(90 + offset * ease[:, None] + rng.normal(0, 40, (5000, 40)), 0, 254).astype(int)
            rows = np.repeat(np.arange(5000), 40)
            np.add.at(tiles[side], (rows, levels.ravel()), 1)
        everything = tiles.sum(axis=1)
        true = np.cumsum(everything[0, 254::-1])
        truth = precision_in_steps(
            (true / (true + np.cumsum(everything[1, 254::-1])))[None], (true / true[-1])[None], RECALLS
        )[0]
        confusion, boundary = np.zeros((2, 40, 2, 2), dtype=np.int64)
        confusion[:, [1, 0], [1, 0]] = 40
        corners = tuple(("scene", 0, number) for number in range(40))
        inside = []
        for _ in range(60):
            samples = {}
            for arm in (
                "alone",
                "distilled",
                "teacher",
            ):  # three samples at once, that have nothing to do with each other
                drawn = tiles[:, rng.integers(5000, size=40)]
                samples[arm] = [
                    Scores(
                        ("a", "b"),
                        (1,),
                        corners,
                        *map_table(),
                        *drawn[:, :, None].astype(np.uint16),
                        confusion,
                        boundary,
                    )
                ]
            for curves in measure(samples, resamples=300).arms.values():
                low, high = curves.band[0]
                inside.append((low <= truth) & (truth <= high))
        covered = np.mean(inside, axis=0)[10:95]  # at the ends precision hardly varies, or depends on a few pixels
        assert covered.mean() == pytest.approx(0.95, abs=0.025)
        assert covered.min() > 0.82  # 180 samples, and the least of 85 recalls

    def test_is_not_known_for_one_tile_or_a_class_that_does_not_occur(self, rng):
        labels = some_labels(rng, 5, classes=2)  # no water
        scores = [scores_of(levels_of(rng, labels, 60), labels)]
        found = measure(dict.fromkeys(("alone", "distilled", "teacher"), scores), resamples=30).arms["teacher"]
        assert np.isnan(found.band[2]).all()
        assert np.isnan(found.ap[2]).all()
        assert np.isfinite(found.band[[0, 1, MEAN]]).all()
        one = [scores[0].select([0])]
        found = measure(dict.fromkeys(("alone", "distilled", "teacher"), one), resamples=30)
        assert np.isnan(found.arms["alone"].band).all()
        assert np.isfinite(found.arms["alone"].ap[0, 0])
        assert np.isnan(found.arms["alone"].ap[0, 1:]).all()


class TestIntervals:
    def test_of_the_mean_difference_are_those_of_the_report(self, arms):
        found = measure(arms)
        report = compare(arms["alone"], arms["distilled"], arms["teacher"][0]).mean_ap_points
        gain = found.gains[MEAN]
        assert gain == report

    def test_of_each_class_are_those_of_the_report(self, arms):
        report = compare(arms["alone"], arms["distilled"], arms["teacher"][0])
        assert measure(arms).gains[:MEAN] == [report.classes[name].points for name in CLASSES]

    def test_ap_is_the_mean_over_seeds_of_scikit_learns(self, rng):
        labels = some_labels(rng, 12)
        networks = [levels_of(rng, labels, skill) for skill in (40, 50)]
        scores = [scores_of(levels, labels) for levels in networks]
        found = measure({"alone": scores, "distilled": scores, "teacher": scores[:1]}, resamples=50)
        expected = [
            np.mean([average_precision_score((labels == k).ravel(), x[k].ravel()) for x in networks]) for k in range(3)
        ]
        np.testing.assert_allclose(found.arms["alone"].ap[:, 0], [*expected, np.mean(expected)])

    def test_hold_the_value_and_widen_with_confidence(self, arms):
        narrow, wide = (
            measure(arms, confidence=confidence, resamples=400).arms["alone"].ap for confidence in (0.8, 0.99)
        )
        assert (wide[:, 1] < narrow[:, 1]).all()
        assert (narrow[:, 1] < narrow[:, 0]).all()
        assert (narrow[:, 0] < narrow[:, 2]).all()
        assert (narrow[:, 2] < wide[:, 2]).all()

    def test_of_an_arm_against_itself_are_exactly_nothing(self, arms):
        found = measure(arms | {"distilled": arms["alone"]}, resamples=100)
        assert all((gain.mean, gain.low, gain.high) == (0, 0, 0) for gain in found.gains)
        assert not found.gain_band.any()

    def test_of_the_paired_difference_are_narrower_than_the_bands(self, rng):
        # Tiles that are hard are hard for both, so the difference is surer than either curve.
        labels = some_labels(rng, 40)
        hard = np.repeat(rng.normal(0, 35, size=40), TILE)
        pair = []
        for skill in (60, 66):
            noisy = (
                100 + (skill + hard) * (np.arange(3)[:, None, None] == labels) + rng.normal(0, 20, (3, *labels.shape))
            )
            pair.append([scores_of(np.clip(noisy, 0, 254).astype(np.uint8), labels)])
        found = measure({"alone": pair[0], "distilled": pair[1], "teacher": pair[0]})
        half = slice(30, 70)
        paired = np.diff(found.gain_band[MEAN, 1:, half], axis=0).mean()
        single = 100 * np.diff(found.arms["alone"].band[MEAN, :, half], axis=0).mean()
        assert paired < 0.8 * single

    def test_gain_along_the_curve_is_the_difference_of_precisions(self, arms):
        found = measure(arms, resamples=50)
        at = {
            arm: precision_between(
                *(np.sum([s.on_grid()[side] for s in arms[arm]], axis=0) for side in (0, 1)), RECALLS
            )
            for arm in ("alone", "distilled")
        }
        expected = 100 * (at["distilled"] - at["alone"])
        np.testing.assert_allclose(found.gain_band[:3, 0], expected)
        np.testing.assert_allclose(found.gain_band[MEAN, 0], expected.mean(axis=0))


class TestStudy:
    def test_points_are_read_at_thresholds_chosen_on_validation(self, arms, rng):
        labels = some_labels(rng, 10)
        other = {arm: [scores_of(levels_of(rng, labels, 30), labels) for _ in seeds] for arm, seeds in arms.items()}
        found, same = measure(arms, other, resamples=20), measure(other, other, resamples=20)
        for view in found.views:
            assert found.chosen_levels(view) == same.chosen_levels(view)
            points = found.points(view, found.chosen_levels(view))
            assert {arm: point.level for arm, point in points.items()} == found.chosen_levels(view)

    def test_guess_is_the_share_of_a_class_and_their_mean(self, arms):
        found = measure(arms, resamples=20)
        confusion = arms["teacher"][0].confusion.sum(axis=0)
        shares = confusion.sum(axis=1) / confusion.sum()
        assert [found.guess(view) for view in found.views] == pytest.approx([*shares, np.mean(shares)])

    def test_scores_are_read_one_after_another(self, arms):
        seen = []

        def one_by_one(parts):
            for scores in parts:
                copy = scores.select(range(len(scores.tiles)))
                seen.append(weakref.ref(copy))
                yield copy
                del copy
                assert (
                    sum(reference() is not None for reference in seen) <= 2
                )  # the first is what others are compared with

        study_curves({arm: one_by_one(parts) for arm, parts in arms.items()}, arms, resamples=20)
        assert len(seen) == 7

    def test_order_of_tiles_does_not_matter(self, arms):
        backwards = [scores.select(range(len(scores.tiles))[::-1]) for scores in arms["distilled"]]
        one, other = measure(arms, resamples=50), measure(arms | {"distilled": backwards}, resamples=50)
        np.testing.assert_array_equal(one.gain_band, other.gain_band)

    def test_what_cannot_be_compared_is_refused(self, arms, rng):
        labels = some_labels(rng, 30)
        foreign = [scores_of(levels_of(rng, labels, 50), labels) for _ in range(3)]
        two = some_labels(rng, 30, classes=2)
        binary = [scores_of(levels_of(rng, two, 50, 2), two, ("land", "road"))]
        for test, validation, said in (
            ({**arms, "teacher": []}, arms, "Teacher: there are no scores"),
            ({**arms, "distilled": arms["distilled"][:2]}, arms, "3 seeds, the distilled student 2"),
            ({**arms, "distilled": foreign}, arms, "have other labels"),
            (arms, {**arms, "teacher": binary}, "other classes"),
            (arms, {**arms, "alone": []}, "no validation scores"),
        ):
            with pytest.raises(DataError, match=said):
                study_curves(test, validation, resamples=10)
