"""The Curves page on made-up studies: what it says, what the threshold moves, and what the address keeps."""

import io
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from kdcore.evaluation.curves import best_level, precision_at, recall_at
from kdcore.evaluation.report import arm_runs
from kdcore.evaluation.scores import Scores
from kdcore.ui import curves
from kdcore.ui.curves import confusion_table
from tests.pages.conftest import primary_buttons, text_of, words_of
from tests.synthetic_study import CLASSES, make_study

HOSTILE = "<img src=x onerror=alert(1)> [link](http://example.com) $x$"


@pytest.fixture(scope="session")
def curve_studies(tmp_path_factory):
    """Studies of five classes, of one without a known resolution, and of one seed with a hostile class."""
    folder = tmp_path_factory.mktemp("curves") / "studies"
    make_study(folder / "five", scenes=1)
    skills = {"teacher": 2.4, "alone": 1.9, "distilled": 1.7}
    make_study(
        folder / "binary", classes=("rest", "roof"), shares=(0.7, 0.3), scenes=1, metres_per_pixel=None, skills=skills
    )
    make_study(folder / "hostile", classes=("land", HOSTILE, "never"), shares=(0.6, 0.4, 0.0), seeds=1, scenes=1)
    return folder


@pytest.fixture
def studies(curve_studies, tmp_path, monkeypatch):
    folder = tmp_path / "studies"
    shutil.copytree(curve_studies, folder)
    monkeypatch.setenv("KDCORE_WORKSPACE", str(folder))
    monkeypatch.setattr("kdcore.jobs.workspace.EXAMPLE_FOLDER", tmp_path / "no example")
    return folder


def chart(at, name):
    """The specification of one of the page's charts, by the key it has on the page."""
    (found,) = [c for c in at.get("plotly_chart") if c.proto.id.endswith(f"-{name}")]
    return json.loads(found.proto.spec)


def markers(at):
    """Recall and precision of each marker, by view and arm; None for one that is nowhere."""
    (found,) = at.get("echarts_chart")
    points = [series for series in json.loads(found.proto.spec)["series"] if series["id"].startswith("point ")]
    return {s["id"].removeprefix("point "): tuple(s["data"][0][:2]) if s["data"] else None for s in points}


def amounts(at):
    return next(element.proto.body for element in at.get("html") if "threshold" in element.proto.body)


def expected_points(study, name, level=None):
    """Where markers must be, from the scores themselves; thresholds from the validation split unless a level is given."""
    points = {}
    for arm, runs in arm_runs(study).items():
        test, validation = (
            [Scores.load(getattr(run, file)) for run in runs] for file in ("scores", "validation_scores")
        )
        index = test[0].scored.index(test[0].classes.index(name))
        totals, choices = (
            [sum(scores.on_map()[side] for scores in part)[index] for side in (0, 1)] for part in (test, validation)
        )
        at = int(best_level(*choices)) if level is None else level
        points[f"{index} {arm}"] = (
            round(100 * float(recall_at(*totals, at)), 2),
            round(100 * float(precision_at(*totals, at)), 2),
        )
    return points


def test_without_a_study_says_what_to_do_next(open_page, empty_workspace):
    at = open_page("curves")
    assert "Nothing to show yet" in words_of(at)
    assert primary_buttons(at) == ["Start a study"]
    assert not [*at.get("plotly_chart"), *at.get("echarts_chart")]


class TestAnswer:
    def test_is_the_reports_verdict(self, open_page, studies):
        at = open_page("curves", study="five")
        assert at.title[0].value == "Does distillation help?"
        sentence = json.loads((studies / "five/report.json").read_text())["comparison"]["sentence"]
        assert sentence in words_of(at)

    def test_explains_its_words(self, open_page, studies):
        words = words_of(open_page("curves", study="five", **{"class": "road"}))
        for term in ("Precision", "Recall", "AP", "Shaded band", "F1", "Calibration"):
            assert f"**{term}" in words
        assert "Of all road, how much it found" in words
        assert "Thin lines: single seeds" in words

    def test_has_every_chart_with_a_name_for_those_who_cannot_see_it(self, open_page, studies):
        at = open_page("curves", study="five")
        charts = [*at.get("echarts_chart"), *at.get("plotly_chart")]
        assert len(charts) == 5
        assert all(len(c.proto.alt) > 20 for c in charts)
        assert any("distilled student found" in c.proto.alt for c in charts)

    def test_shows_the_differences_of_the_report(self, open_page, studies):
        at = open_page("curves", study="five")
        difference = json.loads((studies / "five/report.json").read_text())["comparison"]["mean_ap_points"]
        first = next(t for t in chart(at, "differences")["data"] if t["mode"] == "lines")
        assert first["x"] == [difference["low"], difference["high"]]
        table = at.table[0].value
        assert table.iloc[0]["Distilled minus alone"].startswith(f"{difference['mean']:+.1f}")
        assert len(table) == 6

    def test_of_one_seed_says_that_nothing_is_sure(self, open_page, studies):
        words = words_of(open_page("curves", study="hostile"))
        assert "one seed only, so it is too early to say" in words
        assert "Thin lines" not in words


class TestThreshold:
    def test_is_each_arms_own_chosen_on_validation_at_first(self, open_page, studies):
        at = open_page("curves", study="five", **{"class": "building"})
        assert at.toggle(key="validated").value is True
        found = markers(at)
        assert found == {
            name: pytest.approx(point) for name, point in expected_points(studies / "five", "building").items()
        }

    def test_of_the_slider_moves_every_marker_and_the_toggle_puts_them_back(self, open_page, studies):
        at = open_page("curves", study="five", **{"class": "building"})
        before, said = markers(at), amounts(at)
        at.slider(key="threshold").set_value(20).run()
        assert at.toggle(key="validated").value is False
        level = round(0.20 * 254)
        expected = expected_points(studies / "five", "building", level)
        assert markers(at) == {name: pytest.approx(point) for name, point in expected.items()}
        assert amounts(at) != said
        assert amounts(at).count("threshold 20 %") == 3
        at.toggle(key="validated").set_value(True).run()
        assert (markers(at), amounts(at)) == (before, said)

    def test_moves_the_markers_of_all_classes_side_by_side(self, open_page, studies):
        at = open_page("curves", study="five", **{"class": "Side by side"})
        assert len(markers(at)) == 3 * (len(CLASSES) + 1)
        at.slider(key="threshold").set_value(70).run()
        found = markers(at)
        for name in CLASSES:
            for marker, point in expected_points(studies / "five", name, round(0.70 * 254)).items():
                assert found[marker] == pytest.approx(point)

    def test_is_said_in_hectares(self, open_page, studies):
        at = open_page("curves", study="five", threshold="30", validated="false", **{"class": "road"})
        scores = [Scores.load(run.scores) for run in arm_runs(studies / "five")["distilled"]]
        road, level = CLASSES.index("road"), round(0.30 * 254)
        positives, negatives = (sum(s.on_map()[side] for s in scores)[road] / len(scores) for side in (0, 1))
        real, found, wrong = (pixels.sum() * 4 / 1e4 for pixels in (positives, positives[level:], negatives[level:]))
        assert f"Found {found:.2f} of {real:.2f} ha, {wrong:.2f} ha false alarm" in amounts(at)

    def test_is_said_in_pixels_where_the_resolution_is_not_known(self, open_page, studies):
        said = amounts(open_page("curves", study="binary"))
        assert " pixels, " in said
        assert " ha" not in said.replace(" have", "")


class TestView:
    def test_is_the_mean_at_first_and_another_class_on_request(self, open_page, studies):
        at = open_page("curves", study="five")
        assert {name.split()[0] for name in markers(at)} == {"-1"}
        at.segmented_control(key="class").set_value(3).run()
        assert not at.exception
        assert {name.split()[0] for name in markers(at)} == {"3"}

    def test_stands_in_the_address_and_comes_back_from_it(self, open_page, studies):
        at = open_page("curves", study="five", threshold="62", validated="false", **{"class": "water"})
        assert at.slider(key="threshold").value == 62
        assert markers(at) == {
            name: pytest.approx(point)
            for name, point in expected_points(studies / "five", "water", round(0.62 * 254)).items()
        }

    @pytest.mark.parametrize(
        "address", [{"class": "nonsense"}, {"threshold": "abc"}, {"threshold": "-7"}, {"validated": "?"}]
    )
    def test_of_a_broken_address_is_the_usual_one(self, open_page, studies, address):
        at = open_page("curves", study="five", **address)
        assert at.slider(key="threshold").value == 50
        assert {name.split()[0] for name in markers(at)} == {"-1"}

    def test_is_no_choice_with_one_class(self, open_page, studies):
        at = open_page("curves", study="binary")
        assert [buttons.key for buttons in at.segmented_control] == ["network"]
        assert {name.split()[0] for name in markers(at)} == {"0"}
        assert "Of all roof, how much it found" in words_of(at)

    def test_survives_a_change_to_a_study_of_other_classes(self, open_page, studies):
        at = open_page("curves", study="five", **{"class": "road"})
        at.selectbox[0].set_value("hostile").run()
        assert not at.exception
        assert {name.split()[0] for name in markers(at)} == {"-1"}

    def test_with_hostile_names_shows_them_as_they_are(self, open_page, studies):
        at = open_page("curves", study="hostile")
        assert HOSTILE in at.selectbox(key="class").options
        at.selectbox(key="class").set_value(1).run()
        assert not at.exception
        for text in (text_of(at), at.table[0].value.to_csv(), *(e.proto.body for e in at.get("html"))):
            unescaped = re.sub(r"\\.", "", text)  # a backslash makes a sign mean nothing in Markdown
            assert "<img" not in unescaped
            assert "[link](" not in unescaped
        for c in at.get("plotly_chart"):  # it understands some markup; ECharts writes names as they are
            assert "<img" not in c.proto.spec.replace("\\u003c", "<")

    def test_of_a_class_that_does_not_occur_says_so(self, open_page, studies):
        at = open_page("curves", study="hostile", **{"class": "never"})
        assert amounts(at).count("Does not occur in the test split") == 3
        assert set(markers(at).values()) == {None}


def test_files_that_changed_are_measured_again(open_page, studies):
    at = open_page("curves", study="five", **{"class": "land"})
    before = markers(at)
    runs = arm_runs(studies / "five")
    for alone, distilled in zip(runs["alone"], runs["distilled"], strict=True):
        shutil.copy(alone.scores, distilled.scores)
        os.utime(distilled.scores, ns=(1, 1))
    at.run()
    after = markers(at)
    assert after["0 teacher"] == before["0 teacher"]
    assert after["0 distilled"] != before["0 distilled"]


def test_missing_scores_are_a_message_and_no_traceback(open_page, studies):
    arm_runs(studies / "five")["alone"][1].scores.unlink()
    at = open_page("curves", study="five")
    assert "Evaluate the run first" in words_of(at)


def test_never_loads_torch():
    code = "import kdcore.ui.curves, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_shares_and_iou_of_a_confusion_matrix_by_hand():
    """Of 8 pixels of land 6 are taken for land and 2 for water; of 4 of water 1 for land; ice does not occur."""
    table = confusion_table(("land", "water", "ice"), np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]]))
    assert table.loc["land"].tolist() == pytest.approx([75, 25, 0, 100 * 6 / 9])
    assert table.loc["water"].tolist() == pytest.approx([25, 75, 0, 100 * 3 / 6])
    assert table.loc["ice"].isna().all()


def test_the_curves_file_holds_what_the_page_measures(curve_studies):
    study = str(curve_studies / "five")
    measured = curves.load_curves.__wrapped__(study, ())
    table = pd.read_csv(io.StringIO(curves.curves_csv(measured)))
    arm = measured.arms["teacher"]
    rows = table[(table["network"] == "teacher") & (table["class"] == "water")]
    view = measured.classes.index("water")
    positives, negatives = arm.positives.sum(axis=0)[view], arm.negatives.sum(axis=0)[view]
    level = 127
    row = rows.iloc[(rows["threshold"] - level / 254).abs().argmin()]
    assert row["threshold"] == pytest.approx(level / 254, abs=1e-5)
    found = positives[level:].sum()
    assert row["recall"] == pytest.approx(found / positives.sum(), abs=1e-5)
    assert row["precision"] == pytest.approx(found / (found + negatives[level:].sum()), abs=1e-5)
    assert set(table["network"]) == {"teacher", "alone", "distilled"}


def test_the_page_shows_what_is_taken_for_what(studies, open_page):
    at = open_page("curves", study="five")
    before = at.dataframe[0].value
    assert list(before.columns) == [*(f"as {name}" for name in CLASSES), "IoU"]
    at.segmented_control(key="network").set_value("teacher").run()
    assert at.dataframe[0].value.loc["water", "IoU"] > before.loc["water", "IoU"]  # as its skill is
    assert at.get("download_button")[0].proto.label == "Curves (CSV)"
