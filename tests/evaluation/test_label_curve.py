"""What a teacher is worth in labels, by hand and by simulation: a baseline that grows evenly with the logarithm of the share."""

import math

import numpy as np
import pytest

from kdcore.errors import KdcoreError, RunError
from kdcore.evaluation.ground import Ground
from kdcore.evaluation.influence import Measured
from kdcore.evaluation.label_curve import check_shares, label_curve, share_folder, share_studies, worth
from kdcore.settings import StudySettings, save
from tests.synthetic_study import make_study

GROUND = Ground([(f"scene {number}", 0, 0) for number in range(10)])


def networks(*points: float, fields: np.ndarray | None = None) -> list[Measured]:
    """One network for each seed with a mean AP, and what each of ten scenes adds to it (nothing if not given)."""
    none = np.zeros((len(points), 10)) if fields is None else fields
    return [Measured(np.array([ap]), field[None]) for ap, field in zip(points, none, strict=True)]


def found(shares, alone, distilled, share=None):
    return worth(GROUND, shares, alone, distilled, shares[0] if share is None else share, row=0)


class TestTheWorth:
    def test_lies_where_the_baseline_reaches_the_same(self):
        """From 60 at 10 % to 80 at 40 %, evenly in the logarithm: 70 is reached at the geometric mean, 20 %.

        Three seeds of 69.9, 70.0 and 70.1: a standard error of 0.1 / sqrt 3 and Student's t of 2 degrees of freedom, 4.3027, are 0.2484 points,
        of 20 that are a factor of 4: the interval ends at 0.2 / 4^0.01242 and 0.2 * 4^0.01242.
        """
        one = found([0.1, 0.4], [networks(60, 60, 60), networks(80, 80, 80)], networks(69.9, 70, 70.1))
        half = 4.3027 * 0.1 / math.sqrt(3) / 20
        assert one.share == pytest.approx(0.2, rel=1e-4)
        assert (one.low, one.high) == pytest.approx((0.2 * 4**-half, 0.2 * 4**half), rel=1e-3)
        assert one.sentence == (
            "Distilling with 10 % of the labels equals training with 20 % (95 % confidence interval: 20 % to 20 %)."
        )

    def test_is_looked_for_between_the_two_shares_that_enclose_it(self):
        """80 to 90 from 25 % to 100 %: 85 is at 50 %, however steep the curve is before."""
        alone = [networks(30, 30), networks(80, 80), networks(90, 90)]
        assert found([0.05, 0.25, 1.0], alone, networks(85, 85)).share == pytest.approx(0.5)

    def test_seeds_are_paired(self):
        """A lucky seed is lucky with and without the teacher: its luck is in no interval."""
        alone = [networks(50, 60, 70), networks(70, 80, 90)]
        one = found([0.1, 0.4], alone, networks(60, 70, 80))
        assert (one.share, one.low, one.high) == pytest.approx((0.2, 0.2, 0.2))

    def test_so_is_the_ground(self):
        """Scenes that are hard for all networks alike tell nothing against the comparison."""
        hard = np.linspace(-3, 3, 10)[None].repeat(2, 0)
        alone = [networks(60, 60, fields=hard), networks(80, 80, fields=hard)]
        one = found([0.1, 0.4], alone, networks(70, 70, fields=hard))
        assert (one.low, one.high) == pytest.approx((0.2, 0.2))

    def test_above_the_most_labels_and_below_the_least_there_is_only_a_bound(self):
        alone = [networks(60, 60), networks(80, 80)]
        above, below = (found([0.1, 0.4], alone, networks(ap, ap)) for ap in (81, 59))
        assert (above.share, above.low, above.high) == (None, 0.4, None)
        assert (
            above.sentence
            == "Distilling with 10 % of the labels is better than training with 40 %, the most that was trained."
        )
        assert (below.share, below.low, below.high) == (None, None, 0.1)
        assert "is worse than training with 10 %, the least" in below.sentence

    def test_an_interval_may_have_one_end(self):
        """79 +- 0.25 * 8: training with all labels cannot be left out."""
        one = found([0.1, 0.4], [networks(60, 60, 60), networks(80, 80, 80)], networks(78.2, 79, 79.8))
        assert one.share == pytest.approx(0.1 * 4 ** (19 / 20))
        assert one.low == pytest.approx(0.1 * 4 ** ((19 - 4.3027 * 0.8 / math.sqrt(3)) / 20), rel=1e-3)
        assert one.high is None
        assert one.sentence.endswith("(95 % confidence interval: 33 % to more than 40 %).")

    def test_that_cannot_be_said_says_why(self):
        alone = [networks(60, 60), networks(61, 61)]
        flat = found([0.1, 0.4], alone, networks(55, 66))
        assert (flat.share, flat.low, flat.high) == (None, None, None)
        assert "cannot be said, because no share from 10 % to 40 % can be left out" in flat.sentence
        assert "one seed" in found([0.1, 0.4], [networks(60), networks(80)], networks(70)).sentence
        assert "one share only" in found([0.1], [networks(60, 60)], networks(70, 70)).sentence
        unknown = networks(60, 60, fields=np.full((2, 10), np.nan))
        assert "test part cannot tell" in found([0.1, 0.4], [unknown, unknown], networks(70, 70)).sentence

    def test_of_a_student_that_gained_nothing_is_its_own_share(self):
        alone = [networks(60, 60), networks(80, 80)]
        assert found([0.1, 0.4], alone, alone[1], share=0.4).share == pytest.approx(0.4)
        assert found([0.1, 0.4], alone, alone[0]).share == pytest.approx(0.1)

    def test_is_covered_by_its_interval_as_often_as_it_says(self):
        """Studies whose truth is known: 60 at 5 %, 10 points for each factor of 4, and a teacher that is worth 3 times the labels at 10 %."""
        rng, shares = np.random.default_rng(0), [0.05, 0.2, 0.8]
        truth = [60.0, 70.0, 80.0]
        taught = 60 + 10 * math.log(0.3 / 0.05, 4)
        inside = []
        for _ in range(300):
            place = rng.normal(0, 6, (1, 10))  # hard and easy scenes, for all networks alike

            def train(ap, place=place):
                each = ap + place + rng.normal(0, 2, (1, 10)) + rng.normal(0, 1, (3, 1)) + rng.normal(0, 1, (3, 10))
                values = each.mean(axis=1)
                return networks(*values, fields=(each - values[:, None]) / 10)

            one = found(shares, [train(ap) for ap in truth], train(taught), share=0.1)
            inside.append((one.low or 0) <= 0.3 <= (one.high or math.inf))
        assert 0.92 <= np.mean(inside) <= 0.99


class TestACurve:
    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory):
        """Three studies: the baseline's skill grows, the distilled student's is that of the next larger share."""
        folder = tmp_path_factory.mktemp("curve")
        for share, skills in ((0.1, (1.6, 1.9)), (0.3, (1.9, 2.1)), (1.0, (2.2, 2.3))):
            make_study(
                share_folder(folder, share),
                labels=share,
                skills={"teacher": 2.6, "alone": skills[0], "distilled": skills[1], "all_labels": 2.2},
            )
        return folder

    def test_is_read_from_its_studies(self, folder):
        report = label_curve(folder)
        points = report["points"]
        assert [point["wanted"] for point in points] == [0.1, 0.3, 1.0]
        assert report["unfinished"] == []
        for point in points:
            assert point["gain"]["mean"] == pytest.approx(point["distilled"]["mean"] - point["alone"]["mean"])
            assert point["gain"]["low"] < point["gain"]["mean"] < point["gain"]["high"]
        # The same skill and the same noise: distilling with a tenth is training with three tenths.
        assert points[0]["distilled"]["mean"] == pytest.approx(points[1]["alone"]["mean"], abs=1.5)
        assert points[0]["worth"]["share"] == pytest.approx(points[1]["labels"], rel=0.3)
        assert points[0]["worth"]["times"] == pytest.approx(points[0]["worth"]["share"] / points[0]["labels"], rel=1e-3)

    def test_counts_only_what_is_finished(self, folder):
        other = share_folder(folder, 0.5)
        other.mkdir()
        settings = StudySettings.model_validate(label_curve(folder)["settings"])
        save(settings.model_copy(update={"labels": 0.5}), other / "study.yaml")
        try:
            report = label_curve(folder)
        finally:
            (other / "study.yaml").unlink()
            other.rmdir()
        assert (len(report["points"]), report["unfinished"]) == (3, [0.5])

    def test_of_studies_that_differ_in_more_is_none(self, folder, tmp_path):
        for share, steps in ((0.1, 10), (0.2, 11)):
            path = share_folder(tmp_path, share)
            path.mkdir()
            usual = StudySettings()
            budget = usual.budget.model_copy(update={"steps": steps})
            save(usual.model_copy(update={"labels": share, "budget": budget}), path / "study.yaml")
        with pytest.raises(RunError, match=r"differ from those of labels-0\.1 in more than the share"):
            share_studies(tmp_path)

    def test_that_is_none_says_how_to_make_one(self, tmp_path):
        with pytest.raises(RunError, match="kdcore study --labels"):
            label_curve(tmp_path)


@pytest.mark.parametrize("shares", [[0.1], [0.1, 0.1], [0.0, 1.0], [0.5, 1.5]])
def test_shares_of_which_no_curve_can_be_made_are_refused(shares):
    with pytest.raises(KdcoreError, match="give one share of the labels, or two or more different ones"):
        check_shares(shares)
