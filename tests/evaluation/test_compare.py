import importlib.util
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import average_precision_score, jaccard_score

from kdcore.errors import DataError
from kdcore.evaluation import compare as module
from kdcore.evaluation.compare import (
    Difference,
    compare,
    put_in_words,
    replicates,
    seed_noise,
    summarise,
    tile_weights,
)
from kdcore.evaluation.counting import ScoresBuilder
from kdcore.evaluation.scores import Scores
from tests.log_odds import log_odds, map_table

TILE = 8
ROAD = ("background", "road")


def scores_from(levels, labels, classes=ROAD, scored=(1,)):
    """Scores of one image, (K, H, W) levels and (H, W) labels, in tiles of 8 px."""
    builder = ScoresBuilder(classes, scored, tile=TILE)
    builder.add_window("scene", 0, 0, log_odds(np.asarray(levels, np.uint8)), np.asarray(labels, np.uint8), 1)
    return builder.build()


def some_labels(rng, tiles=24, classes=2):
    return rng.integers(classes, size=(TILE, TILE * tiles))


def network(rng, labels, skill):
    """Levels that tell road from background the better the greater the skill."""
    return np.clip(127 + skill * (labels - 0.5) + rng.normal(0, 40, labels.shape), 0, 254)[None]


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def study(rng):
    """Five seeds of each arm, the distilled student clearly better, and a teacher that is better still."""
    labels = some_labels(rng)
    arms = {
        name: [scores_from(network(rng, labels, skill + rng.normal(0, 1)), labels) for _ in range(seeds)]
        for name, skill, seeds in (("alone", 40, 5), ("distilled", 60, 5), ("teacher", 90, 1))
    }
    return arms["alone"], arms["distilled"], arms["teacher"][0]


class TestDifference:
    def test_is_the_mean_over_seeds_of_distilled_minus_alone_in_points(self, rng):
        labels = some_labels(rng)
        networks = [network(rng, labels, skill) for skill in (40, 45, 50, 70)]
        ap = [average_precision_score(labels.ravel(), levels.astype(np.uint8).ravel()) for levels in networks]
        iou = [jaccard_score(labels.ravel(), levels.astype(np.uint8).ravel() >= 127) for levels in networks]
        a1, a2, d1, d2 = (scores_from(levels, labels) for levels in networks)
        result = compare([a1, a2], [d1, d2], resamples=50)
        assert result.mean_ap_points.mean == pytest.approx(100 * (ap[2] + ap[3] - ap[0] - ap[1]) / 2, abs=1e-9)
        assert result.mean_iou_points.mean == pytest.approx(100 * (iou[2] + iou[3] - iou[0] - iou[1]) / 2, abs=1e-9)

    def test_of_an_arm_with_itself_is_exactly_nothing(self, study):
        alone, _, teacher = study
        result = compare(alone, alone, teacher)
        assert result.mean_ap_points == result.boundary_iou_points == Difference(0, 0, 0)
        assert result.verdict == "no detectable difference"
        assert result.share_of_gap_closed == 0

    def test_changes_its_sign_when_the_arms_are_swapped(self, study):
        alone, distilled, _ = study
        there, back = compare(alone, distilled), compare(distilled, alone)
        assert there.mean_ap_points.mean == pytest.approx(-back.mean_ap_points.mean)
        assert there.mean_ap_points.low == pytest.approx(-back.mean_ap_points.high)
        assert (there.verdict, back.verdict) == ("better", "worse")

    def test_does_not_depend_on_the_order_of_tiles(self, study):
        alone, distilled, _ = study
        backwards = [scores.select(list(range(len(scores.tiles)))[::-1]) for scores in distilled]
        assert compare(alone, backwards) == compare(alone, distilled)

    def test_is_reproducible_and_its_interval_depends_on_the_seed_of_the_bootstrap_a_little(self, study):
        alone, distilled, _ = study
        first, other = compare(alone, distilled), compare(alone, distilled, seed=1)
        assert compare(alone, distilled) == first
        assert other.mean_ap_points.mean == first.mean_ap_points.mean
        assert other.mean_ap_points.low != first.mean_ap_points.low
        assert other.mean_ap_points.low == pytest.approx(first.mean_ap_points.low, abs=0.6)

    def test_counts_only_classes_that_occur_in_the_truth(self):
        # 8 x 16 px: class 0 left, class 1 right; class 2 exists but is only predicted, on one column of 8 px.
        labels = np.repeat([0, 1], 8)[None].repeat(8, axis=0)
        predicted = labels.copy()
        predicted[:, 0] = 2
        levels = 254 * (predicted == np.arange(3)[:, None, None])
        summary = summarise(scores_from(levels, labels, ("a", "b", "c"), (0, 1, 2)))
        assert summary["mean_iou"] == pytest.approx((56 / 64 + 1) / 2)
        assert summary["classes"]["c"]["ap"] is None
        assert summary["classes"]["c"]["iou"] == 0
        assert summary["classes"]["a"]["prevalence"] == 0.5
        # recall 56/64 at full precision, the rest when everything is taken at level 0
        assert summary["classes"]["a"]["ap"] == pytest.approx(56 / 64 + 8 / 64 * 0.5)


class TestResampling:
    def test_draws_as_many_tiles_as_there_are(self, rng):
        weights = tile_weights(30, 500, rng)
        assert weights.shape == (500, 30)
        assert (weights.sum(axis=1) == 30).all()
        # the count of one tile is binomial(30, 1/30): mean 1, variance 29/30
        assert weights.mean() == 1
        assert weights.var() == pytest.approx(29 / 30, rel=0.05)

    def test_equals_repeating_the_pixels_of_the_drawn_tiles(self, rng):
        labels = some_labels(rng, tiles=6)
        levels = network(rng, labels, 50).astype(np.uint8)
        weights = tile_weights(6, 20, rng)
        found = replicates(scores_from(levels, labels), weights)
        for resample, draws in enumerate(weights):
            columns = np.repeat(np.arange(6 * TILE).reshape(6, TILE), draws, axis=0).ravel()
            truth, marks = labels[:, columns].ravel(), levels[0][:, columns].ravel()
            assert found[0, resample] == pytest.approx(average_precision_score(truth, marks), abs=1e-6)
            assert found[1, resample] == pytest.approx(jaccard_score(truth, marks >= 127), abs=1e-12)

    def test_of_one_seed_agrees_with_the_paired_bootstrap_of_scipy(self, rng):
        labels = some_labels(rng, tiles=40)
        pair = [scores_from(network(rng, labels, skill), labels) for skill in (40, 55)]
        a, d = (scores.confusion for scores in pair)

        def difference(indices):
            iou = [
                c[indices].sum(axis=0)[1, 1] / (c[indices].sum(axis=0).sum() - c[indices].sum(axis=0)[0, 0])
                for c in (a, d)
            ]
            return 100 * (iou[1] - iou[0])

        reference = stats.bootstrap(
            (np.arange(40),), difference, method="percentile", vectorized=False, n_resamples=4000, rng=1
        ).confidence_interval
        widening = stats.t.ppf(0.975, 39) / stats.norm.ppf(0.975) * np.sqrt(40 / 39)
        found = compare([pair[0]], [pair[1]], resamples=4000).mean_iou_points
        assert found.high - found.low == pytest.approx(widening * (reference.high - reference.low), rel=0.06)
        assert found.low < found.mean < found.high

    def test_of_equal_tiles_leaves_the_t_interval_over_seeds(self):
        # Every tile is the same, so the imagery adds no noise: what remains is the textbook interval of paired seeds.
        labels = np.tile(np.arange(TILE) % 2, (TILE, 10))
        tile = np.random.default_rng(3)
        networks = [np.tile(network(tile, labels[:, :TILE], 60), (1, 1, 10)) for _ in range(8)]
        alone, distilled = (
            [scores_from(x, labels) for x in networks[:4]],
            [scores_from(x, labels) for x in networks[4:]],
        )
        ap = [100 * average_precision_score(labels.ravel(), x.astype(np.uint8).ravel()) for x in networks]
        differences = np.subtract(ap[4:], ap[:4])
        low, high = stats.t.interval(0.95, 3, differences.mean(), stats.sem(differences))
        found = compare(alone, distilled, resamples=20_000).mean_ap_points
        assert (found.low, found.high) == pytest.approx((low, high), abs=0.05 * (high - low))

    def test_noise_of_the_seeds_is_student_t(self, rng):
        deviations = np.array([-1.0, 0.25, 0.75])
        noise = deviations @ seed_noise(3, 20_000, rng) / (deviations.std(ddof=1) / np.sqrt(3))
        assert stats.kstest(noise, stats.t(2).cdf).pvalue > 0.001
        assert not seed_noise(1, 10, rng).any()

    def test_stays_small_with_5000_tiles_of_6_classes(self, rng):
        counts = rng.integers(20, size=(5000, 6, 255)).astype(np.uint16)
        confusion = np.zeros((5000, 6, 6), dtype=np.int64)
        names, tiles = tuple("abcdef"), tuple(("scene", 0, index) for index in range(5000))
        scores = Scores(
            names,
            tuple(range(6)),
            tiles,
            *map_table(6),
            counts,
            counts,
            confusion,
            np.zeros((5000, 6, 2), dtype=np.int64),
        )
        weights = tile_weights(5000, 300, rng)
        tracemalloc.start()
        replicates(scores, weights)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 200e6


class TestVerdict:
    def test_is_better_when_the_whole_interval_is_above_nothing(self, study):
        result = compare(*study)
        assert result.verdict == "better"
        assert result.mean_ap_points.low > 0
        assert result.sentence.startswith("The distilled student is better than the student alone by ")
        assert "95 % interval" in result.sentence
        assert "5 seeds" in result.sentence
        assert "of the gap to the teacher" in result.sentence

    def test_is_never_given_for_one_seed(self, study):
        alone, distilled, teacher = study
        result = compare(alone[:1], distilled[:1], teacher)
        assert result.mean_ap_points.low > 0
        assert result.verdict == "no detectable difference"
        assert not result.covers_seeds
        assert "one seed cannot tell" in result.sentence
        assert "run three or more seeds" in result.sentence

    def test_is_not_given_for_one_tile(self, rng):
        labels = some_labels(rng, tiles=1)
        alone, distilled = ([scores_from(network(rng, labels, skill), labels) for _ in range(3)] for skill in (20, 90))
        result = compare(alone, distilled)
        assert result.verdict == "no detectable difference"
        assert result.to_dict()["mean_ap_points"]["low"] is None
        assert "too few" in result.sentence

    @pytest.mark.parametrize(
        ("verdict", "difference", "seeds", "gap", "share", "sentence"),
        [
            (
                "better",
                (1.84, 0.61, 3.02),
                5,
                4.5,
                0.41,
                "The distilled student is better than the student alone by 1.8 points of mean AP (95 % interval 0.6 to 3.0, "
                "5 seeds); it closes 41 % of the gap to the teacher.",
            ),
            (
                "better",
                (1.84, 0.61, 3.02),
                5,
                -1.0,
                None,
                "The distilled student is better than the student alone by 1.8 points of mean AP (95 % interval 0.6 to 3.0, "
                "5 seeds); the teacher is not better than the student alone, so there is no gap to close.",
            ),
            (
                "better",
                (3.0, 2.0, 4.0),
                3,
                2.0,
                1.5,
                "The distilled student is better than the student alone by 3.0 points of mean AP (95 % interval 2.0 to 4.0, "
                "3 seeds); it closes 150 % of the gap to the teacher, and passes it.",
            ),
            (
                "worse",
                (-1.2, -2.0, -0.4),
                3,
                None,
                None,
                "The distilled student is worse than the student alone by 1.2 points of mean AP (95 % interval 0.4 to 2.0, "
                "3 seeds).",
            ),
            (
                "no detectable difference",
                (0.3, -0.5, 1.1),
                5,
                0.05,
                None,
                "No difference between the distilled student and the student alone could be detected: +0.3 points of mean AP "
                "(95 % interval -0.5 to +1.1, 5 seeds); the teacher is not better than the student alone, so there was "
                "nothing to pass on.",
            ),
            (
                "no detectable difference",
                (-0.4, -0.9, 0.2),
                1,
                None,
                None,
                "The distilled student came out 0.4 points of mean AP below the student alone, but one seed cannot tell "
                "distillation from the luck of training: run three or more seeds.",
            ),
        ],
    )
    def test_is_said_in_plain_words(self, verdict, difference, seeds, gap, share, sentence):
        assert put_in_words(verdict, Difference(*difference), seeds, 0.95, gap, share) == sentence


class TestShareOfTheGap:
    def test_is_the_gain_over_the_gap_in_mean_ap(self, study):
        alone, distilled, teacher = study
        ap = {
            name: np.mean([summarise(scores)["mean_ap"] for scores in arm])
            for name, arm in (("alone", alone), ("distilled", distilled), ("teacher", [teacher]))
        }
        result = compare(*study)
        share = (ap["distilled"] - ap["alone"]) / (ap["teacher"] - ap["alone"])
        assert result.share_of_gap_closed == pytest.approx(share)
        low, high = result.share_of_gap_closed_interval
        assert low < share < high
        assert result.distilled_minus_teacher.mean == pytest.approx(100 * (ap["distilled"] - ap["teacher"]))
        assert result.distilled_minus_teacher.high < 0

    def test_is_measured_with_the_student_that_had_all_labels_where_there_is_one(self, study, rng):
        """The teacher's lead is partly that of its labels; its own difference is still there."""
        alone, distilled, _ = study
        labels = some_labels(np.random.default_rng(7))  # those of `study`
        upper = [scores_from(network(rng, labels, skill), labels) for skill in (70, 71, 72, 73, 74)]
        ap = {
            name: np.mean([summarise(scores)["mean_ap"] for scores in arm])
            for name, arm in (("alone", alone), ("distilled", distilled), ("all labels", upper))
        }
        result, before = compare(*study, all_labels=upper), compare(*study)
        share = (ap["distilled"] - ap["alone"]) / (ap["all labels"] - ap["alone"])
        assert result.share_of_gap_closed == pytest.approx(share)
        assert share > before.share_of_gap_closed + 0.05
        assert result.distilled_minus_all_labels.mean == pytest.approx(100 * (ap["distilled"] - ap["all labels"]))
        assert f"{100 * share:.0f} % of the gap to the student with all labels" in result.sentence
        assert result.distilled_minus_teacher == before.distilled_minus_teacher
        assert result.mean_ap_points == before.mean_ap_points
        assert before.distilled_minus_all_labels is None

    def test_is_unknown_where_all_labels_help_nothing(self, study):
        alone, distilled, teacher = study
        result = compare(alone, distilled, teacher, all_labels=alone)
        assert result.share_of_gap_closed is None
        assert "the student with all labels is not better than the student alone" in result.sentence

    def test_needs_as_many_seeds_of_the_student_with_all_labels(self, study):
        with pytest.raises(DataError, match="that with all labels 2"):
            compare(*study, all_labels=study[0][:2])

    def test_is_unknown_without_a_gap(self, study):
        alone, distilled, _ = study
        result = compare(alone, distilled, alone[0])
        assert result.share_of_gap_closed_interval is None
        result = compare(distilled, distilled, alone[0])
        assert result.share_of_gap_closed is None
        assert "there was nothing to pass on" in result.sentence

    def test_is_unknown_without_a_teacher(self, study):
        result = compare(*study[:2])
        assert result.share_of_gap_closed is result.distilled_minus_teacher is None
        assert "teacher" not in result.sentence


class TestJson:
    def test_holds_all_numbers_that_a_report_needs(self, study):
        values = json.loads(json.dumps(compare(*study).to_dict(), allow_nan=False))
        assert values["mean_ap_points"].keys() == {"mean", "low", "high"}
        assert (values["seeds"], values["tiles"], values["confidence"]) == (5, 24, 0.95)
        assert len(values["share_of_gap_closed_interval"]) == 2

    def test_has_none_where_nothing_can_be_known(self):
        empty = scores_from(np.zeros((1, 8, 16)), np.zeros((8, 16)))
        values = compare([empty] * 3, [empty] * 3, empty).to_dict()
        json.dumps(values, allow_nan=False)
        json.dumps(summarise(empty), allow_nan=False)
        assert values["mean_ap_points"] == {"mean": None, "low": None, "high": None}
        assert values["verdict"] == "no detectable difference"
        assert summarise(empty)["mean_ap"] is None

    @settings(max_examples=30, deadline=None)
    @given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 5))
    def test_has_no_nan_for_any_small_study(self, seed, seeds, tiles):
        rng = np.random.default_rng(seed)
        labels = (some_labels(rng, tiles) * (rng.random((1, tiles)) < 0.5).repeat(TILE, axis=1)).astype(int)
        arms = [[scores_from(network(rng, labels, 60), labels) for _ in range(seeds)] for _ in range(2)]
        teacher = scores_from(network(rng, labels, 90), labels)
        json.dumps(compare(*arms, teacher, resamples=20).to_dict(), allow_nan=False)


class TestRefusals:
    def test_arms_with_different_numbers_of_seeds(self, study):
        alone, distilled, _ = study
        with pytest.raises(DataError, match="alone has 5 seeds and the distilled student 4"):
            compare(alone, distilled[:4])
        with pytest.raises(DataError, match="0 seeds"):
            compare([], [])

    def test_tiles_that_one_network_did_not_see(self, study):
        alone, distilled, _ = study
        fewer = [*distilled[:4], distilled[4].select(list(range(23)))]
        with pytest.raises(DataError, match=r"Distilled student, seed number 5: 1 tiles .* row 0, column 184"):
            compare(alone, fewer)

    def test_labels_that_differ(self, rng, study):
        labels = some_labels(rng)
        with pytest.raises(DataError, match=r"Teacher: 2\d tiles have other labels"):
            compare(*study[:2], scores_from(network(rng, labels, 50), labels))

    def test_classes_that_differ(self, rng, study):
        labels = some_labels(rng)
        other = scores_from(network(rng, labels, 50), labels, classes=("background", "roof"))
        with pytest.raises(DataError, match="'roof'"):
            compare(study[0][:1], [other])

    def test_scores_without_tiles(self):
        nothing = ScoresBuilder(ROAD, (1,)).build()
        with pytest.raises(DataError, match="no tile"):
            compare([nothing], [nothing])


def benchmark():
    """The simulator of benchmarks/coverage.py, where the full table is made."""
    path = Path(module.__file__).parents[2] / "benchmarks" / "coverage.py"
    spec = importlib.util.spec_from_file_location("coverage_benchmark", path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


class TestCoverage:
    """A few of the studies of benchmarks/coverage.py. The promise is that 92 to 98 % of the intervals hold the truth;
    a test fails when its count would have a chance below 1 in 1,000 at the near end of that range."""

    STUDIES = 150
    FEWEST, MOST = stats.binom.ppf(0.001, STUDIES, 0.92), STUDIES

    @pytest.mark.parametrize(
        "world",
        [
            {"seeds": 1, "tiles": 30},
            {"seeds": 3, "tiles": 30, "luck": 0.05},
            {"seeds": 5, "tiles": 30, "luck": 0.05},
            {"seeds": 3, "tiles": 30, "luck": 0.03, "own": 0.2},
        ],
    )
    def test_an_interval_holds_the_truth(self, world):
        simulation = benchmark()
        covered = simulation.simulate(simulation.World(**world), self.STUDIES, resamples=150)[:, 0].sum()
        assert covered >= self.FEWEST

    def test_two_arms_of_one_method_are_seldom_told_apart(self):
        simulation = benchmark()
        world = simulation.World(seeds=3, tiles=30, advantage=0, preference=0, luck=0.05)
        verdicts = simulation.simulate(world, self.STUDIES, resamples=150)[:, 2].sum()
        assert verdicts <= stats.binom.ppf(0.999, self.STUDIES, 0.06)

    def test_a_clear_advantage_is_found(self):
        simulation = benchmark()
        world = simulation.World(seeds=5, tiles=30, advantage=0.5, luck=0.03)
        assert simulation.simulate(world, 20, resamples=150)[:, 2].all()

    def test_the_simulated_truth_is_the_ap_of_a_very_large_study(self):
        simulation = benchmark()
        world = simulation.World(seeds=1, tiles=20_000, luck=0.0, own=0.3)
        alone, _ = world.study(np.random.default_rng(0))
        assert 100 * summarise(alone[0])["mean_ap"] == pytest.approx(world.true_ap(0.0), abs=0.25)
