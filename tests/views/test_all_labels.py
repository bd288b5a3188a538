"""The student with all labels, in everything that a finished study shows."""

import json

import numpy as np
import pytest
import yaml

from kdcore.errors import RunError
from kdcore.evaluation.bands import study_curves
from kdcore.evaluation.gap import gap_sentence
from kdcore.evaluation.report import arm_runs, study_report
from kdcore.evaluation.scores import Scores
from kdcore.jobs.study_folder import StudyFolder
from kdcore.settings import load_study
from kdcore.views.arms import ARM_NAMES
from kdcore.views.learning import learning_figure
from kdcore.views.moving import moving_curves
from kdcore.views.page import report_figures, write_page
from kdcore.views.quality import quality_table
from tests.synthetic_study import make_study
from tests.views.test_page import Page

NAME = ARM_NAMES["all_labels"]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("few") / "study", classes=("land", "building"), seeds=2, labels=0.25)


@pytest.fixture(scope="module")
def report(study):
    return json.loads((study / "report.json").read_text())


@pytest.fixture(scope="module")
def curves(study):
    runs = arm_runs(study)
    return study_curves(
        {arm: [Scores.load(run.scores) for run in directories] for arm, directories in runs.items()},
        {arm: [Scores.load(run.validation_scores) for run in directories] for arm, directories in runs.items()},
        resamples=200,
    )


def forget_the_arm(study):
    """The study as one was before there was such an arm."""
    values = yaml.safe_load((study / "study.yaml").read_text())
    del values["upper_bound"]
    (study / "study.yaml").write_text(yaml.safe_dump(values))
    for run in (study / "runs").glob("all-labels-s*"):
        (run / "report.json").unlink()


class TestTheReport:
    def test_has_it_beside_the_others_and_measures_the_gap_with_it(self, report):
        assert list(report["arms"]) == ["teacher", "alone", "distilled", "all_labels"]
        ap = {arm: values["mean_ap"] for arm, values in report["arms"].items()}
        share = (ap["distilled"] - ap["alone"]) / (ap["all_labels"] - ap["alone"])
        assert report["comparison"]["share_of_gap_closed"] == pytest.approx(share, rel=1e-3)
        minus = report["comparison"]["distilled_minus_all_labels"]["mean"]
        assert minus == pytest.approx(100 * (ap["distilled"] - ap["all_labels"]), abs=1e-3)
        assert [arm["labels"] for arm in report["arms"].values()] == [1, 0.25, 0.25, 1]

    def test_waits_for_it(self, tmp_path):
        study = make_study(tmp_path / "study", classes=("land", "building"), seeds=1, scenes=1, labels=0.25)
        (study / "runs/all-labels-s0/report.json").unlink()
        with pytest.raises(RunError, match="all-labels-s0 is not finished"):
            study_report(study)

    def test_of_a_study_from_before_there_was_one_has_the_gap_to_the_teacher(self, tmp_path):
        study = make_study(tmp_path / "study", classes=("land", "building"), seeds=1, scenes=1, labels=0.25)
        forget_the_arm(study)
        assert not load_study(study / "study.yaml").upper_bound
        report = study_report(study)
        assert list(report["arms"]) == ["teacher", "alone", "distilled"]
        assert report["comparison"]["distilled_minus_all_labels"] is None
        assert "no student with all labels was trained" in Page(write_page(study, report)).text

    def test_can_be_had_later_by_the_same_command(self, tmp_path):
        """`kdcore study` with today's settings goes on with a study from before, and trains what it does not have."""
        study = make_study(tmp_path / "study", classes=("land", "building"), seeds=1, scenes=1, labels=0.25)
        wanted = load_study(study / "study.yaml")
        forget_the_arm(study)
        with pytest.raises(RunError, match="other settings"):
            StudyFolder.begin(study, wanted.model_copy(update={"labels": 0.5}))
        folder = StudyFolder.begin(study, wanted)
        assert [
            run.name for run in folder.progress().runs if run.state != "finished"
        ] == []  # its status is still there
        with pytest.raises(RunError, match="all-labels-s0 is not finished"):
            study_report(study)


class TestWhatIsShown:
    def test_page_names_it_in_table_figures_and_gap(self, study, report):
        text = Page(write_page(study, report)).text
        assert gap_sentence(report) in text
        assert "of the way from the student alone to the student with all labels" in text
        assert f"{100 * report['arms']['all_labels']['mean_ap']:.1f}" in text
        assert text.count(NAME) >= 3

    def test_every_figure_draws_it(self, curves, report):
        figures = report_figures(curves, report["comparison"])
        for name in ("curves", "quality", "calibration"):
            assert any(trace.name == NAME for trace in figures[name].data), name
        option = moving_curves(curves, curves.views)
        assert NAME in {series["name"] for series in option["series"]}
        lines = [{"step": 1, "loss": 1.0, "validation_mean_ap": 0.5}]
        assert {trace.name for trace in learning_figure({"all_labels": [lines]}).data} == {NAME}

    def test_no_arm_lies_on_another_in_the_rows_of_the_quality_figure(self, curves, report):
        rows = [trace.y[0] for trace in report_figures(curves, report["comparison"])["quality"].data[1:]]
        assert min(np.diff(sorted(rows))) > 0.1
        assert max(map(abs, rows)) < 0.4

    def test_tables_have_it(self, curves):
        assert {"teacher", "alone", "distilled", "all_labels"} <= set(quality_table(curves)[0])

    def test_the_students_difference_is_what_it_would_be_without_it(self, study, curves):
        runs = {arm: found for arm, found in arm_runs(study).items() if arm != "all_labels"}
        without = study_curves(
            {arm: [Scores.load(run.scores) for run in directories] for arm, directories in runs.items()},
            {arm: [Scores.load(run.validation_scores) for run in directories] for arm, directories in runs.items()},
            resamples=200,
        )
        assert without.gains == curves.gains
