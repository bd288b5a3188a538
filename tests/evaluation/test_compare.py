import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import average_precision_score, jaccard_score

from kdcore.errors import DataError
from kdcore.evaluation import compare as module
from kdcore.evaluation.compare import compare
from kdcore.evaluation.counting import ScoresBuilder
from kdcore.evaluation.scores import Place
from kdcore.evaluation.summary import summarise
from kdcore.evaluation.uncertainty import Difference, Needed
from kdcore.evaluation.verdicts import Lack, Verdict, among, decide, gap_in_words, put_in_words
from tests.odds import odds_at

TILE = 8
ROAD = ("background", "road")


def scores_from(levels, labels, classes=ROAD, scored=(1,)):
    """Scores of one image, (K, H, W) levels and (H, W) labels, in tiles of 8 px."""
    builder = ScoresBuilder(classes, scored, tile=TILE)
    builder.add_window("scene", 0, 0, odds_at(np.asarray(levels, np.uint8)), np.asarray(labels, np.uint8), 1)
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
        result = compare([a1, a2], [d1, d2])
        assert result.mean_ap_points.mean == pytest.approx(100 * (ap[2] + ap[3] - ap[0] - ap[1]) / 2, abs=1e-9)
        assert result.mean_iou_points.mean == pytest.approx(100 * (iou[2] + iou[3] - iou[0] - iou[1]) / 2, abs=1e-9)

    def test_of_an_arm_with_itself_is_exactly_nothing(self, study):
        alone, _, teacher = study
        result = compare(alone, alone, teacher)
        assert result.mean_ap_points == result.boundary_iou_points == Difference(0, 0, 0)
        assert result.verdict == "no detectable difference"
        assert result.share_of_gap_closed == 0
        assert result.equivalence_margin == 0

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


class TestInterval:
    def test_of_one_seed_on_many_scenes_agrees_with_the_paired_bootstrap_of_scipy(self, rng):
        labels = some_labels(rng, tiles=40)
        pair = [in_scenes(scores_from(network(rng, labels, skill), labels)) for skill in (40, 55)]
        a, d = (scores.confusion for scores in pair)

        def difference(indices):
            iou = [
                c[indices].sum(axis=0)[1, 1] / (c[indices].sum(axis=0).sum() - c[indices].sum(axis=0)[0, 0])
                for c in (a, d)
            ]
            return 100 * (iou[1] - iou[0])

        error = stats.bootstrap(
            (np.arange(40),), difference, vectorized=False, n_resamples=4000, rng=1
        ).standard_error  # of samples with variance 1 / n instead of 1 / (n - 1)
        found = compare([pair[0]], [pair[1]]).mean_iou_points
        assert found.high - found.mean == pytest.approx(stats.t.ppf(0.975, 39) * error * np.sqrt(40 / 39), rel=0.05)
        assert found.low < found.mean < found.high

    def test_of_equal_tiles_is_the_t_interval_over_seeds(self):
        # Every tile is the same, so the ground adds nothing: what remains is the textbook interval of paired seeds.
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
        found = compare(alone, distilled).mean_ap_points
        assert (found.low, found.high) == pytest.approx((low, high))

    def test_is_wider_where_neighbouring_tiles_are_alike(self):
        # The same tiles in two orders: errors at random places, and sorted so that like lies beside like.
        rng = np.random.default_rng(5)
        labels = np.tile(np.arange(TILE) % 2, (TILE, 60))
        gain = rng.normal(10, 25, size=60)
        widths = []
        for order in (gain, np.sort(gain)):
            noise = rng.normal(0, 40, (3, *labels.shape))
            skill = np.repeat(order, TILE)
            alone = [scores_from(np.clip(127 + 60 * (labels - 0.5) + n, 0, 254)[None], labels) for n in noise]
            distilled = [
                scores_from(np.clip(127 + (60 + skill) * (labels - 0.5) + n, 0, 254)[None], labels) for n in noise
            ]
            found = compare(alone, distilled)
            widths.append((found.mean_ap_points.high - found.mean_ap_points.low, found.ground.blocks))
        assert widths[1][0] > 1.4 * widths[0][0]
        assert widths[1][1] < 0.5 * widths[0][1]

    def test_of_a_class_is_widened_for_the_number_of_classes(self, rng):
        labels = some_labels(rng, 30, classes=4)
        arms = [
            [scores_from(many(rng, labels, skill), labels, tuple("abcd"), range(4)) for _ in range(4)]
            for skill in (40, 44)
        ]
        found = compare(*arms)
        assert set(found.classes) == set("abcd")
        for one in found.classes.values():
            assert one.exploratory
            assert one.verdict == decide(one.points, 4)
            assert (one.verdict is Verdict.SAME) == (one.p >= 0.05)


def many(rng, labels, skill):
    """Levels of several classes."""
    known = np.arange(4)[:, None, None] == labels
    return np.clip(100 + skill * known + rng.normal(0, 40, known.shape), 0, 254)


def in_scenes(scores):
    """The same with every tile in a scene of its own."""
    tiles = tuple((f"scene {number}", 0, 0) for number in range(len(scores)))
    return replace(scores, tiles=tiles)


class TestVerdict:
    def test_is_better_when_the_whole_interval_is_above_nothing(self, study):
        result = compare(*study)
        assert result.verdict is Verdict.BETTER
        assert result.mean_ap_points.low > 0
        assert result.sentence.startswith("The distilled student is better than the student without teacher by ")
        assert "95 % interval" in result.sentence
        assert "5 seeds" in result.sentence
        assert "of the gap to the teacher" in result.sentence
        assert result.equivalence_margin is result.needed is None

    def test_is_never_given_for_one_seed(self, study):
        alone, distilled, teacher = study
        result = compare(alone[:1], distilled[:1], teacher)
        assert result.mean_ap_points.low > 0
        assert result.verdict is Verdict.TOO_EARLY
        assert not result.covers_seeds
        assert result.share_of_gap_closed is result.share_of_gap_closed_interval is None
        assert "one seed does not show how much results vary" in result.sentence
        assert "Run three seeds or more" in result.sentence

    def test_never_contradicts_the_interval_as_it_is_printed(self):
        assert decide(Difference(0.3, 0.004, 0.6), 3) is Verdict.SAME  # printed 0.00
        assert decide(Difference(0.3, 0.006, 0.6), 3) is Verdict.BETTER
        assert decide(Difference(-0.3, -0.6, -0.006), 3) is Verdict.WORSE
        assert "interval 0.01 to 0.60" in put_in_words(Verdict.BETTER, Difference(0.3, 0.006, 0.6), 3, 0.95)

    def test_among_others_needs_more_than_alone(self):
        assert among(Verdict.BETTER, 0.06) is Verdict.SAME
        assert among(Verdict.BETTER, 0.04) is Verdict.BETTER
        assert among(Verdict.TOO_EARLY, 0.01) is Verdict.TOO_EARLY

    def test_of_no_difference_has_a_margin_and_says_what_would_decide(self, rng):
        labels = some_labels(rng, 40)
        alone, distilled = (
            [scores_from(network(rng, labels, skill + rng.normal(0, 8)), labels) for _ in range(3)]
            for skill in (50, 53)
        )
        result = compare(alone, distilled)
        assert result.verdict is Verdict.SAME
        low, high = result.mean_ap_points.low, result.mean_ap_points.high
        assert result.equivalence_margin == max(-low, high)
        assert "With 95 % confidence they differ by less than" in result.sentence
        assert result.needed.seeds > 3

    def test_of_iou_is_told_where_it_differs(self):
        # The distilled student ranks pixels better, but its threshold at 1/2 is off: more AP, less IoU.
        rng = np.random.default_rng(2)
        labels = some_labels(rng, 40)
        alone = [scores_from(network(rng, labels, 60), labels) for _ in range(4)]
        distilled = [scores_from(np.clip(network(rng, labels, 90) - 60, 0, 254), labels) for _ in range(4)]
        result = compare(alone, distilled)
        assert result.verdict is Verdict.BETTER
        assert result.verdicts["mean_iou"] is Verdict.WORSE
        assert " By mean IoU: worse (" in result.sentence

    @pytest.mark.parametrize(
        ("verdict", "difference", "seeds", "words", "sentence"),
        [
            (
                Verdict.BETTER,
                (1.84, 0.61, 3.02),
                5,
                {"gap": "; it closes 41 % of the gap to the teacher (12 to 80 %)"},
                "The distilled student is better than the student without teacher by 1.8 points of mean AP (95 % interval "
                "0.6 to 3.0, 5 seeds); it closes 41 % of the gap to the teacher (12 to 80 %).",
            ),
            (
                Verdict.WORSE,
                (-1.2, -2.0, -0.4),
                3,
                {},
                "The distilled student is worse than the student without teacher by 1.2 points of mean AP (95 % interval 0.4 "
                "to 2.0, 3 seeds).",
            ),
            (
                Verdict.SAME,
                (0.3, -0.5, 1.12),
                5,
                {"needed": Needed(12, None)},
                "No detectable difference between the distilled student and the student without teacher: +0.3 points of mean "
                "AP (95 % interval -0.5 to +1.1, 5 seeds). With 95 % confidence they differ by less than 1.2 points. To detect "
                "a difference of the measured size takes 12 seeds; more test area alone would not do.",
            ),
            (
                Verdict.SAME,
                (0.3, -0.5, 1.1),
                5,
                {"needed": Needed(None, None)},
                "No detectable difference between the distilled student and the student without teacher: +0.3 points of mean "
                "AP (95 % interval -0.5 to +1.1, 5 seeds). With 95 % confidence they differ by less than 1.1 points. A "
                "difference as small as the measured one would need more than 50 seeds or 20 times the test area.",
            ),
            (
                Verdict.TOO_EARLY,
                (-0.4, -0.9, 0.2),
                1,
                {},
                "Too early to say: the distilled student came out 0.4 points of mean AP below the student without teacher, but "
                "one seed does not show how much results vary between runs. Run three seeds or more.",
            ),
            (
                Verdict.TOO_EARLY,
                (0, 0, 0),
                3,
                {"lack": Lack.TILES},
                "Nothing can be compared: one test tile is too few. Label more of the test part.",
            ),
        ],
    )
    def test_is_said_in_plain_words(self, verdict, difference, seeds, words, sentence):
        assert put_in_words(verdict, Difference(*difference), seeds, 0.95, **words) == sentence

    @pytest.mark.parametrize(
        ("verdict", "gap", "share", "interval", "clause"),
        [
            (
                Verdict.BETTER,
                (4.5, 3, 6),
                0.41,
                (0.12, 0.8),
                "; it closes 41 % of the gap to the teacher (12 to 80 %)",
            ),
            (
                Verdict.BETTER,
                (2, 1, 3),
                1.5,
                (1.1, 2.0),
                "; it closes 150 % of the gap to the teacher (110 to 200 %), and passes it",
            ),
            (
                Verdict.BETTER,
                (2, -1, 5),
                None,
                None,
                "; the teacher's lead itself is uncertain (-1.0 to +5.0), so no share of the gap is given",
            ),
            (
                Verdict.BETTER,
                (-1, -2, 0),
                None,
                None,
                "; the teacher is not better than the student without teacher, so there is no gap to close",
            ),
            (
                Verdict.SAME,
                (0.05, 0, 0.1),
                None,
                None,
                "; the teacher is not better than the student without teacher, so it had nothing to pass on",
            ),
            (Verdict.SAME, (4.5, 3, 6), 0.1, (-0.1, 0.3), ""),
        ],
    )
    def test_says_what_it_means_for_the_gap(self, verdict, gap, share, interval, clause):
        assert gap_in_words(verdict, Difference(*gap), share, interval, 0.1) == clause


class TestTestParts:
    """Test parts that cannot tell networks apart: one clear sentence each, and never a verdict."""

    SKILLS = (20, 90)

    def arms(self, rng, labels, classes=ROAD, scored=(1,)):
        networks = network if len(classes) == 2 else many
        return [
            [scores_from(networks(rng, labels, skill), labels, classes, scored) for _ in range(3)]
            for skill in self.SKILLS
        ]

    def test_with_one_tile(self, rng):
        result = compare(*self.arms(rng, some_labels(rng, tiles=1)))
        assert result.verdict is Verdict.TOO_EARLY
        assert result.to_dict()["mean_ap_points"]["low"] is None
        assert result.sentence == "Nothing can be compared: one test tile is too few. Label more of the test part."

    def test_with_two_tiles_that_count_as_one(self, rng):
        result = compare(*self.arms(rng, some_labels(rng, tiles=2)))
        assert result.ground.blocks < 2
        assert result.verdict is Verdict.TOO_EARLY
        assert set(result.verdicts.values()) == {Verdict.TOO_EARLY}
        assert "so alike that they count as one" in result.sentence

    def test_with_no_positive_pixel(self, rng):
        result = compare(*self.arms(rng, np.zeros((TILE, TILE * 20), dtype=int)))
        assert result.verdict is Verdict.TOO_EARLY
        assert result.sentence == (
            "Nothing can be compared: no scored class occurs in the test part. Label more of the test part."
        )

    @pytest.mark.parametrize(("classes", "scored"), [(ROAD, (1,)), (tuple("abcd"), range(4))])
    def test_with_one_class(self, rng, classes, scored):
        result = compare(*self.arms(rng, np.ones((TILE, TILE * 20), dtype=int), classes, scored))
        assert result.verdict is Verdict.TOO_EARLY
        assert np.isnan(result.mean_ap_points.low)
        assert "only one class occurs in the test part, so that every network reaches an AP of 100" in result.sentence
        assert result.verdicts["mean_iou"] is Verdict.BETTER  # pixels that were given another class do count

    def test_with_a_class_in_one_tile(self, rng):
        labels = some_labels(rng, tiles=40, classes=3)
        labels[:, :TILE][::2] = 3
        result = compare(*self.arms(rng, labels, tuple("abcd"), range(4)))
        assert result.classes["d"].verdict is Verdict.TOO_EARLY
        assert result.classes["a"].verdict is Verdict.BETTER
        assert result.ground.this_ground_only
        assert "For 'd' it holds for this ground only: it is in one test tile." in result.sentence

    def test_that_is_worth_few_blocks(self):
        # Four tiles in a row: no more than four blocks, and a large difference.
        rng = np.random.default_rng(1)
        labels = some_labels(rng, tiles=4)
        arms = [[scores_from(network(rng, labels, skill), labels) for _ in range(5)] for skill in (20, 120)]
        result = compare(*arms)
        assert result.ground.blocks < 4
        assert result.ground.this_ground_only
        assert "This holds for this ground only: the test part's 4 tiles are worth" in result.sentence


class TestBasis:
    def test_says_what_the_interval_is_made_of_and_what_it_does_not_cover(self, study):
        found = compare(*study, metres_per_pixel=0.5)
        facts = found.ground
        assert facts.block_metres == pytest.approx(facts.block_tiles * TILE * 0.5)
        assert facts.block_tiles**2 * facts.blocks == pytest.approx(24)
        assert found.basis.startswith("The interval covers 5 seeds and the ground: 24 test tiles in 1 scene are worth ")
        assert found.basis.endswith(
            "It does not cover the choice of the labelled places, another training of the teacher, or other places and dates."
        )

    def test_is_scenes_where_there_are_enough(self, rng):
        labels = some_labels(rng, 12)
        arms = [[in_scenes(scores_from(network(rng, labels, skill), labels)) for _ in range(3)] for skill in (40, 80)]
        found = compare(*arms)
        assert found.ground.by_scene
        assert found.ground.blocks == 12
        assert "12 test tiles in 12 scenes are worth 12 independent blocks (whole scenes)" in found.basis

    def test_neighbouring_scenes_are_one_place(self, rng):
        labels = some_labels(rng, 12)
        arms = [[in_scenes(scores_from(network(rng, labels, skill), labels)) for _ in range(3)] for skill in (40, 80)]
        places = tuple(Place("first", 0, TILE * number, "first") for number in range(12))
        patches = [[replace(scores, places=places) for scores in arm] for arm in arms]
        found = compare(*patches)
        assert (found.ground.by_scene, found.ground.places) == (False, 1)
        assert "12 test tiles in 12 scenes that lie at 1 place are worth " in found.basis
        parts = tuple(Place(scene, 0, 0, "one") for scene, _, _ in arms[0][0].tiles)
        found = compare(*[[replace(scores, places=parts) for scores in arm] for arm in arms])
        assert (found.ground.by_scene, found.ground.touching) == (True, True)
        assert found.basis.endswith("if they touch, the interval is too narrow.")


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
        assert "the student with all labels is not better than the student without teacher" in result.sentence

    def test_needs_as_many_seeds_of_the_student_with_all_labels(self, study):
        with pytest.raises(DataError, match="that with all labels 2"):
            compare(*study, all_labels=study[0][:2])

    def test_is_unknown_without_a_gap(self, study):
        alone, distilled, _ = study
        result = compare(alone, distilled, alone[0])
        assert result.share_of_gap_closed is result.share_of_gap_closed_interval is None
        result = compare(distilled, distilled, alone[0])
        assert result.share_of_gap_closed is None
        assert "it had nothing to pass on" in result.sentence

    def test_is_unknown_without_a_teacher(self, study):
        result = compare(*study[:2])
        assert result.share_of_gap_closed is result.distilled_minus_teacher is None
        assert "gap" not in result.sentence


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
        assert values["verdict"] == "too early to say"
        assert summarise(empty)["mean_ap"] is None

    @settings(max_examples=30, deadline=None)
    @given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 5))
    def test_has_no_nan_for_any_small_study(self, seed, seeds, tiles):
        rng = np.random.default_rng(seed)
        labels = (some_labels(rng, tiles) * (rng.random((1, tiles)) < 0.5).repeat(TILE, axis=1)).astype(int)
        arms = [[scores_from(network(rng, labels, 60), labels) for _ in range(seeds)] for _ in range(2)]
        teacher = scores_from(network(rng, labels, 90), labels)
        json.dumps(compare(*arms, teacher).to_dict(), allow_nan=False)


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
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    spec = importlib.util.spec_from_file_location("coverage_benchmark", path)
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded  # where its dataclasses look for themselves
    spec.loader.exec_module(loaded)
    return loaded


class TestCoverage:
    """A few of the studies of benchmarks/coverage.py. The promise is that 92 to 98 % of the intervals hold the truth;
    a test fails when its count would have a chance below 1 in 1,000 at the near end of that range."""

    STUDIES = 100
    FEWEST = stats.binom.ppf(0.001, STUDIES, 0.92)

    @pytest.mark.parametrize("seeds", [3, 5])
    @pytest.mark.parametrize("length", [0.0, 2.0])
    def test_an_interval_holds_the_truth(self, seeds, length):
        simulation = benchmark()
        world = simulation.World(seeds, length=length)
        found = simulation.comparisons(world, self.STUDIES, seed=1)
        assert simulation.covered(world, found).sum() >= self.FEWEST
        shares = simulation.shares_covered(world, found)
        assert sum(shares) >= stats.binom.ppf(0.001, len(shares), 0.92)

    def test_an_interval_over_scenes_holds_the_truth(self):
        simulation = benchmark()
        world = simulation.World(3, simulation.TEN_SCENES, length=2.0)
        found = simulation.comparisons(world, self.STUDIES, seed=1)
        assert simulation.covered(world, found).sum() >= self.FEWEST

    @pytest.mark.parametrize("preference", [0.0, 0.2])
    def test_two_arms_that_are_equally_good_are_seldom_told_apart(self, preference):
        simulation = benchmark()
        world = simulation.World(3, length=1.0, advantage=0, preference=preference)
        rate = simulation.false_verdicts(simulation.comparisons(world, self.STUDIES, seed=2))
        assert rate * self.STUDIES <= stats.binom.ppf(0.999, self.STUDIES, 0.07)

    def test_a_clear_advantage_is_found(self):
        simulation = benchmark()
        world = simulation.World(5, advantage=0.5)
        assert {one.verdict for one in simulation.comparisons(world, 20, seed=3)} == {Verdict.BETTER}

    def test_the_simulated_truth_is_the_ap_of_a_very_large_study(self):
        simulation = benchmark()
        world = simulation.World(1, ((20, 20),) * 40, training=0.0, own=0.3)
        alone, _, _ = world.study(np.random.default_rng(0))
        assert 100 * summarise(alone[0])["mean_ap"] == pytest.approx(world.true_ap(0.0), abs=0.35)
