"""Figures of a report: what they draw is what was measured, and the arms look the same everywhere."""

import json

import numpy as np
import pytest

from kdcore.evaluation.bands import study_curves
from kdcore.evaluation.report import arm_runs
from kdcore.evaluation.scores import Scores
from kdcore.views.arms import ARM_COLOURS, ARM_DASHES, ARM_NAMES, ARM_SYMBOLS
from kdcore.views.learning import learning_figure
from kdcore.views.page import report_figures


@pytest.fixture(scope="module")
def figures(tiny_study):
    runs = arm_runs(tiny_study)
    curves = study_curves(
        {arm: [Scores.load(run.scores) for run in directories] for arm, directories in runs.items()},
        {arm: (Scores.load(run.validation_scores) for run in directories) for arm, directories in runs.items()},
    )
    return report_figures(curves, json.loads((tiny_study / "report.json").read_text())["comparison"])


def traces(figure, name):
    return [trace for trace in figure.data if trace.name == name]


@pytest.fixture(scope="module")
def figure(tiny_study):
    return learning_figure(
        {arm: [run.read_metrics() for run in directories] for arm, directories in arm_runs(tiny_study).items()}
    )


class TestLearning:
    def test_has_loss_and_validation_of_each_run(self, figure):
        assert {name: len(traces(figure, name)) for name in ARM_NAMES.values()} == {
            "Student with all labels": 0,
            "Teacher": 2,
            "Student alone": 4,
            "Distilled student": 4,
        }

    def test_draws_what_was_measured(self, figure, tiny_study):
        lines = arm_runs(tiny_study)["alone"][1].read_metrics()
        loss, validation = traces(figure, "Student alone")[2:]
        assert list(loss.x) == [line["step"] for line in lines if "loss" in line]
        assert list(loss.y) == [line["loss"] for line in lines if "loss" in line]
        told = [100 * line["validation_mean_ap"] for line in lines if "validation_mean_ap" in line]
        assert list(validation.y) == pytest.approx(told)

    def test_names_each_arm_once_in_the_legend(self, figure):
        shown = [trace.name for trace in figure.data if trace.showlegend]
        assert shown == ["Teacher", "Student alone", "Distilled student"]

    def test_of_nothing_is_an_empty_figure(self):
        assert len(learning_figure({"alone": [[]]}).data) == 2
        assert len(learning_figure({}).data) == 0


def test_a_report_has_all_of_them(figures):
    assert set(figures) == {"curves", "difference", "quality", "calibration"}
    for figure in figures.values():
        assert figure.data
        assert len(figure.to_json()) < 3_000_000  # what a browser has to take


def test_arms_keep_their_colours(figures):
    for figure in figures.values():
        for trace in figure.data:
            for arm, name in ARM_NAMES.items():
                colour = trace.line.color if trace.type == "scatter" and trace.line.color else None
                if trace.name == name and colour and colour.startswith("#"):
                    assert colour == ARM_COLOURS[arm]


def test_arms_can_be_told_apart_without_colours():
    for looks in (ARM_DASHES, ARM_SYMBOLS, ARM_NAMES, ARM_COLOURS):
        assert set(looks) == {"teacher", "alone", "distilled", "all_labels"}
        assert len(set(looks.values())) == 4


def test_curves_lie_between_nothing_and_all(figures):
    drawn = [trace for trace in figures["curves"].data if trace.name in ARM_NAMES.values() and trace.x is not None]
    assert {trace.name for trace in drawn} == {"Teacher", "Student alone", "Distilled student"}
    for trace in drawn:
        for values in (trace.x, trace.y):
            known = np.array(values, dtype=float)
            known = known[np.isfinite(known)]
            assert ((known >= 0) & (known <= 1)).all()
