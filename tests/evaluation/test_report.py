"""A study's report: its form, and every number computed again from the counted pixels with scikit-learn."""

import json
import shutil
import warnings

import numpy as np
import pytest
import rasterio
from sklearn.metrics import average_precision_score, f1_score, jaccard_score

from kdcore.errors import DataError, RunError
from kdcore.evaluation.report import agreement, arm_runs, average, study_report
from kdcore.evaluation.scores import Scores
from kdcore.evaluation.verdicts import Verdict
from kdcore.jobs.store import RunDirectory
from tests.conftest import write_raster

ARMS = ("teacher", "alone", "distilled")
CLASSES = ("land", "building", "water")
VERDICTS = {verdict.value for verdict in Verdict}


@pytest.fixture(scope="module")
def report(tiny_study):
    return study_report(tiny_study)


@pytest.fixture
def copied(tiny_study, tmp_path):
    return shutil.copytree(tiny_study, tmp_path / "study")


def runs_of(study, arm) -> list[RunDirectory]:
    names = ["teacher-s0"] if arm == "teacher" else [f"{arm}-s0", f"{arm}-s1"]
    return [RunDirectory(study / "runs" / name) for name in names]


def pixels(scores: Scores, index: int) -> dict[str, np.ndarray]:
    """The counted pixels of a class: what is true, how sure the network is, and how many there are of each kind.

    Pixels of a level are ties here, but not in the report: AP agrees to 0.05 points (test_scores has it from pixels).
    """
    positives, negatives = (counts[index] for counts in scores.total())
    return {
        "y_true": np.repeat([1, 0], len(positives)),
        "y_score": np.tile(np.arange(len(positives)), 2),
        "sample_weight": np.concatenate([positives, negatives]),
    }


def labels(scores: Scores) -> dict[str, np.ndarray]:
    """The counted pixels: true class, predicted class, and how many there are of each pair."""
    truth, predicted = np.indices((3, 3)).reshape(2, -1)
    return {"y_true": truth, "y_pred": predicted, "sample_weight": scores.confusion.sum(axis=0).ravel()}


def ap(scores: Scores) -> np.ndarray:
    return np.array([average_precision_score(**pixels(scores, index)) for index in range(3)])


def iou(scores: Scores) -> np.ndarray:
    return jaccard_score(**labels(scores), average=None, zero_division=0)


class TestTheForm:
    def test_is_the_one_that_programs_rely_on(self, report):
        assert json.loads(json.dumps(report, allow_nan=False)) == report
        assert {"arms", "comparison", "formula", "settings", "data"} <= set(report)
        assert tuple(report["arms"]) == ARMS
        for name, arm in report["arms"].items():
            wanted = {"parameters", "steps", "seconds", "mean_ap", "mean_iou", "classes", "seeds"}
            assert wanted <= set(arm)
            assert isinstance(arm["parameters"], int)
            assert isinstance(arm["steps"], int)
            assert arm["seconds"] > 0
            assert set(arm["classes"]) == set(CLASSES)
            assert [seed["seed"] for seed in arm["seeds"]] == ([0] if name == "teacher" else [0, 1])
        comparison = report["comparison"]
        for name in ("mean_ap_points", "mean_iou_points"):
            assert set(comparison[name]) == {"mean", "low", "high"}
            assert comparison[name]["low"] <= comparison[name]["mean"] <= comparison[name]["high"]
        assert comparison["verdict"] in VERDICTS
        assert comparison["share_of_gap_closed"] is None or isinstance(comparison["share_of_gap_closed"], float)
        assert (comparison["seeds"], comparison["confidence"]) == (2, 0.95)
        assert report["formula"] == "loss = (1 - alpha) * task + alpha * T^2 * KL(teacher_T || student_T)"

    def test_says_the_verdict_that_its_interval_says(self, report):
        points = report["comparison"]["mean_ap_points"]
        low, high = (round(points[end], 2) for end in ("low", "high"))  # as they are printed
        verdict = "better" if low > 0 else "worse" if high < 0 else "no detectable difference"
        assert report["comparison"]["verdict"] == verdict

    def test_says_what_its_interval_is_based_on_and_does_not_cover(self, report, tiny_study):
        comparison = report["comparison"]
        ground = comparison["ground"]
        assert ground["tiles"] == comparison["tiles"] == len(Scores.load(runs_of(tiny_study, "teacher")[0].scores))
        assert 1 <= ground["blocks"] <= ground["tiles"]
        assert "It does not cover the choice of the labelled places" in comparison["basis"]
        assert set(comparison["classes"]) == set(CLASSES)
        assert all(one["exploratory"] for one in comparison["classes"].values())

    def test_is_what_the_study_wrote(self, report, tiny_study):
        assert json.loads((tiny_study / "report.json").read_text()) == report


class TestTheNumbers:
    @pytest.mark.parametrize("arm", ARMS)
    def test_of_an_arm_are_means_over_its_seeds(self, report, tiny_study, arm):
        scores = [Scores.load(run.scores) for run in runs_of(tiny_study, arm)]
        told = report["arms"][arm]
        assert told["mean_ap"] == pytest.approx(np.mean([ap(one) for one in scores]), abs=5e-4)
        assert told["mean_iou"] == pytest.approx(np.mean([iou(one) for one in scores]), abs=1e-6)
        f1 = [f1_score(**labels(one), average=None, zero_division=0) for one in scores]
        for index, name in enumerate(CLASSES):
            assert told["classes"][name]["ap"] == pytest.approx(np.mean([ap(one)[index] for one in scores]), abs=5e-4)
            assert told["classes"][name]["iou"] == pytest.approx(np.mean([iou(one)[index] for one in scores]), abs=1e-6)
            assert told["classes"][name]["f1"] == pytest.approx(np.mean([one[index] for one in f1]), abs=1e-6)
            bands = np.mean([one.boundary.sum(axis=0)[index, 0] / one.boundary.sum(axis=0)[index, 1] for one in scores])
            assert told["classes"][name]["boundary_iou"] == pytest.approx(bands, abs=1e-6)
        for seed, one in zip(told["seeds"], scores, strict=True):
            assert seed["mean_ap"] == pytest.approx(ap(one).mean(), abs=5e-4)

    def test_of_the_classes_shares_come_from_the_masks(self, report, tiny_study):
        with rasterio.open(tiny_study.parent / "collection/masks/d.tif") as mask:
            counts = np.bincount(mask.read(1).ravel(), minlength=3)
        for arm in ARMS:
            told = [report["arms"][arm]["classes"][name]["prevalence"] for name in CLASSES]
            assert told == pytest.approx(counts / counts.sum(), abs=1e-6)

    def test_of_the_comparison_are_distilled_minus_alone(self, report, tiny_study):
        scores = {arm: [Scores.load(run.scores) for run in runs_of(tiny_study, arm)] for arm in ARMS}
        mean_ap = {arm: np.mean([ap(one).mean() for one in seeds]) for arm, seeds in scores.items()}
        mean_iou = {arm: np.mean([iou(one).mean() for one in seeds]) for arm, seeds in scores.items()}
        comparison = report["comparison"]
        difference = mean_ap["distilled"] - mean_ap["alone"]
        assert comparison["mean_ap_points"]["mean"] == pytest.approx(100 * difference, abs=0.05)
        assert comparison["mean_iou_points"]["mean"] == pytest.approx(100 * (mean_iou["distilled"] - mean_iou["alone"]))
        gap = mean_ap["teacher"] - mean_ap["alone"]
        if comparison["share_of_gap_closed"] is None:
            assert comparison["share_of_gap_closed_interval"] is None
        else:
            assert comparison["share_of_gap_closed"] == pytest.approx(difference / gap, abs=0.02)
            assert gap >= 0.001

    def test_of_what_it_cost_come_from_the_runs(self, report, tiny_study):
        for arm in ARMS:
            runs = [run.read_report() for run in runs_of(tiny_study, arm)]
            assert report["arms"][arm]["seconds"] == pytest.approx(np.mean([run["seconds"] for run in runs]), abs=0.01)
            assert report["arms"][arm]["steps"] == (24 if arm == "teacher" else 6)
        assert report["arms"]["teacher"]["parameters"] > report["arms"]["alone"]["parameters"]
        assert report["arms"]["alone"]["parameters"] == report["arms"]["distilled"]["parameters"]


class TestAgreement:
    def test_with_the_teacher_is_counted_on_the_maps(self, report, tiny_study):
        def decided(run):
            with rasterio.open(run.maps / "d.tif") as map_:
                return map_.read().argmax(axis=0)

        teacher = decided(runs_of(tiny_study, "teacher")[0])
        for arm in ("alone", "distilled"):
            shares = [(decided(run) == teacher).mean() for run in runs_of(tiny_study, arm)]
            assert report["arms"][arm]["agreement_with_teacher"] == pytest.approx(np.mean(shares), abs=1e-6)

    @pytest.mark.parametrize("crs", ["EPSG:32633", None])
    def test_by_hand(self, tmp_path, crs):
        """One map: 127 is p = 0.5 and means yes; what either has no data for does not count."""
        ours = np.array([[[126, 127, 254, 255], [0, 0, 0, 200]]], dtype=np.uint8)
        theirs = np.array([[[127, 254, 127, 254], [1, 126, 255, 10]]], dtype=np.uint8)
        write_raster(tmp_path / "a/s.tif", ours, nodata=255, crs=crs)
        write_raster(tmp_path / "b/s.tif", theirs, nodata=255, crs=crs)
        write_raster(tmp_path / "a/only-here.tif", ours, nodata=255, crs=crs)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert agreement(tmp_path / "a", tmp_path / "b") == pytest.approx(4 / 6)
            assert agreement(tmp_path / "a", tmp_path / "none") is None

    def test_of_several_maps_is_of_the_highest(self, tmp_path):
        ours = np.array([[[100, 10]], [[90, 200]], [[0, 44]]], dtype=np.uint8)
        theirs = np.array([[[80, 10]], [[70, 20]], [[0, 244]]], dtype=np.uint8)
        write_raster(tmp_path / "a/s.tif", ours, nodata=255)
        write_raster(tmp_path / "b/s.tif", theirs, nodata=255)
        assert agreement(tmp_path / "a", tmp_path / "b") == 0.5


def test_unknown_values_are_left_out_of_averages():
    assert average([1.0, None, 2.0]) == 1.5
    assert average([None, None]) is None


class TestWhatIsRefused:
    def test_a_folder_that_is_no_study(self, tmp_path):
        with pytest.raises(RunError, match=r"holds no study\. Name the folder that was given to `kdcore study --out`"):
            study_report(tmp_path)

    @pytest.mark.parametrize("name", ["teacher-s0", "alone-s1", "distilled-s0"])
    def test_a_study_that_is_not_finished(self, copied, name):
        (copied / "runs" / name / "report.json").unlink()
        with pytest.raises(RunError, match=rf"{name} is not finished\. Start the study again"):
            arm_runs(copied)

    def test_a_map_that_is_broken(self, copied):
        path = copied / "runs/alone-s0/maps/d.tif"
        path.write_bytes(path.read_bytes()[:600])
        with pytest.raises(DataError, match=r"alone-s0/maps/d\.tif or .*: cannot be read"):
            study_report(copied)

    def test_scores_that_are_broken(self, copied):
        path = copied / "runs/alone-s0/scores.npz"
        path.write_bytes(path.read_bytes()[:500])
        with pytest.raises(DataError, match=r"alone-s0/scores\.npz: cannot be read as scores"):
            study_report(copied)

    def test_runs_that_were_scored_on_other_tiles(self, copied):
        path = copied / "runs/distilled-s1/scores.npz"
        Scores.load(path).select(np.arange(3)).save(path)
        with pytest.raises(DataError, match="13 tiles of the student alone are missing"):
            study_report(copied)
