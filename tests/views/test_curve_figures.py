import base64
import json

import numpy as np
import pytest
from sklearn.metrics import auc, average_precision_score

from kdcore.evaluation.bands import RECALLS, study_curves
from kdcore.evaluation.calibration import calibration
from kdcore.evaluation.levels import GRID
from kdcore.evaluation.operating import MEAN, OperatingPoint
from kdcore.evaluation.report import arm_runs
from kdcore.evaluation.scores import Scores
from kdcore.views.amounts import amounts_html, amounts_in_words, choose_unit, shares_in_words
from kdcore.views.arms import ARM_COLOURS, ARM_DASHES, ARM_NAMES, ARM_SYMBOLS, key_html
from kdcore.views.curves import drawn_curve, precision_recall_figure, precision_recall_grid
from kdcore.views.differences import Row, difference_figure, difference_rows, gain_figure, interval_in_words
from kdcore.views.page import report_figures
from kdcore.views.quality import calibration_html, quality_figure, quality_table, reliability_figure
from tests.synthetic_study import CLASSES, make_study

HOSTILE = "<img src=x onerror=alert(1)>"


def measure(folder):
    runs = arm_runs(folder)
    test, validation = (
        {arm: [Scores.load(getattr(run, file)) for run in directories] for arm, directories in runs.items()}
        for file in ("scores", "validation_scores")
    )
    return study_curves(test, validation, resamples=200)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("curves") / "study", scenes=1)


@pytest.fixture(scope="module")
def curves(folder):
    return measure(folder)


@pytest.fixture(scope="module")
def comparison(folder):
    return json.loads((folder / "report.json").read_text())["comparison"]


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """One seed, a class whose name is markup, and one that does not occur."""
    names, shares = ("land", HOSTILE, "never"), (0.7, 0.3, 0.0)
    return measure(
        make_study(tmp_path_factory.mktemp("odd") / "study", classes=names, shares=shares, seeds=1, scenes=1)
    )


def traces(figure, **wanted):
    return [t for t in figure.data if all(getattr(t, name) == value for name, value in wanted.items())]


def markers(figure):
    """Where the operating points are, by arm; for figures of one panel."""
    return {t.legendgroup: (t.x[0], t.y[0]) for t in figure.data if t.mode == "markers" and t.marker.size == 15}


class TestArms:
    def test_are_told_apart_by_colour_by_dash_and_by_marker(self):
        for look in (ARM_COLOURS, ARM_DASHES, ARM_SYMBOLS, ARM_NAMES):
            assert look.keys() == {"teacher", "alone", "distilled", "all_labels"}
            assert len(set(look.values())) == 4
        assert len({key_html(arm).split(";", 4)[-1] for arm in ARM_NAMES}) == 4

    @pytest.mark.parametrize("ground", ["#FFFFFF", "#12151B"])
    def test_stand_out_on_a_light_and_on_a_dark_page(self, ground):
        # WCAG 2.2, 1.4.11: graphics need a contrast of 3 to 1.
        def luminance(colour):
            share = np.array(list(bytes.fromhex(colour[1:]))) / 255
            linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
            return linear @ [0.2126, 0.7152, 0.0722]

        for colour in ARM_COLOURS.values():
            dark, light = sorted((luminance(colour), luminance(ground)))
            assert (light + 0.05) / (dark + 0.05) >= 3


class TestDrawnCurve:
    @pytest.mark.parametrize("view", [0, 2, 4])
    def test_has_average_precision_as_its_area(self, curves, view):
        for arm in curves.arms.values():
            for positives, negatives in zip(*arm.fine, strict=True):
                recall, precision, _ = drawn_curve(positives, negatives, view)
                pixels = np.concatenate([positives[view], negatives[view]])
                truth, levels = np.repeat([1, 0], len(GRID)), np.tile(np.arange(len(GRID)), 2)
                ap = average_precision_score(truth, levels, sample_weight=pixels)
                assert auc(recall, precision) == pytest.approx(ap, abs=0.005)

    def test_keeps_what_the_eye_can_see_and_drops_the_rest(self, curves):
        arm = curves.arms["teacher"]
        recall, precision, threshold = drawn_curve(arm.fine[0][0], arm.fine[1][0], 0)
        assert recall[0] == 0
        assert recall[-1] == 1
        assert (np.diff(recall) >= 0).all()
        assert (np.diff(threshold) <= 0).all()
        assert len(recall) < 300
        assert recall.dtype == precision.dtype == np.float32

    def test_of_a_few_surest_pixels_begins_with_a_step(self):
        positives, negatives = np.zeros((2, 1, len(GRID)), dtype=np.int64)
        positives[0, [-1, 0]], negatives[0, [-1, 0]] = (40, 60), (10, 90)
        recall, precision, threshold = drawn_curve(positives, negatives, 0)
        np.testing.assert_allclose(recall, [0, 0, 0.4, 0.4, 1], atol=1e-6)
        np.testing.assert_allclose(precision[[0, 2]], 0.8)
        np.testing.assert_allclose(precision[[3, 4]], 0.5)
        np.testing.assert_allclose(threshold[[2, 4]], [1, 0])

    def test_of_a_class_that_does_not_occur_is_empty(self, odd):
        arm = odd.arms["alone"]
        assert all(len(part) == 0 for part in drawn_curve(arm.fine[0][0], arm.fine[1][0], 2))


class TestPrecisionRecall:
    def test_shows_each_arm_with_its_colour_dash_and_marker(self, curves):
        figure = precision_recall_figure(curves, 2, curves.points(2, curves.chosen_levels(2)))
        for arm, name in ((arm, ARM_NAMES[arm]) for arm in curves.arms):
            (legend,) = traces(figure, name=name)
            (point,) = traces(figure, legendgroup=arm, mode="markers")
            assert legend.line.color == point.marker.color == ARM_COLOURS[arm]
            assert legend.line.dash == ARM_DASHES[arm]
            assert legend.marker.symbol == point.marker.symbol == ARM_SYMBOLS[arm]

    def test_puts_markers_on_their_curves(self, curves):
        for view in (2, MEAN):
            points = curves.points(view, curves.chosen_levels(view))
            found = markers(precision_recall_figure(curves, view, points))
            for arm, measured in curves.arms.items():
                recall, precision, _ = drawn_curve(*measured.pooled, view)
                x, y = found[arm]
                assert np.interp(x, recall, precision) == pytest.approx(y, abs=0.005)

    def test_of_all_classes_has_a_panel_for_each_and_the_mean(self, curves):
        points = {view: curves.points(view, curves.chosen_levels(view)) for view in curves.views}
        figure = precision_recall_grid(curves, points)
        names = [note.text for note in figure.layout.annotations]
        assert names == [*(f"<b>{name}</b>" for name in CLASSES), "<b>mean of all classes</b>"]
        shown = [t for t in figure.data if t.mode == "markers" and t.marker.size == 15]
        expected = [(point.recall, point.precision) for arms in points.values() for point in arms.values()]
        assert [(t.x[0], t.y[0]) for t in shown] == expected
        assert len({t.xaxis for t in shown}) == 6

    def test_hides_the_marker_of_an_arm_that_marks_nothing(self, odd):
        assert not markers(precision_recall_figure(odd, 2, odd.points(2, odd.chosen_levels(2))))

    def test_draws_the_band_around_the_curve(self, curves):
        figure = precision_recall_figure(curves, 2)
        for arm, measured in curves.arms.items():
            (band,) = [t for t in traces(figure, legendgroup=arm) if t.fill == "toself"]
            low, high = measured.band[2]
            np.testing.assert_allclose(band.x, np.append(RECALLS, RECALLS[::-1]), atol=1e-6)
            np.testing.assert_allclose(band.y, np.append(high, low[::-1]), atol=1e-6)

    def test_lines_of_equal_f1_have_equal_f1(self, curves):
        line = precision_recall_figure(curves, 2).data[0]
        recall, precision = np.array(line.x, float), np.array(line.y, float)
        f1 = 2 * recall * precision / (recall + precision)
        np.testing.assert_allclose(f1[~np.isnan(f1)], np.repeat([0.2, 0.4, 0.6, 0.8], 60), atol=1e-5)

    def test_says_what_a_guess_reaches(self, curves):
        texts = [note.text for note in precision_recall_figure(curves, 2).layout.annotations]
        assert "a guess: 13 %" in texts  # the share that the truth was painted with

    def test_stays_small(self, curves):
        figure = precision_recall_figure(curves, 2, curves.points(2, curves.chosen_levels(2)))
        figure.layout.template = "none"  # Streamlit puts its own into every figure
        assert len(figure.to_json()) < 60_000

    def test_fits_a_light_and_a_dark_page(self, curves, comparison):
        for figure in (*report_figures(curves, comparison).values(), gain_figure(curves, MEAN)):
            assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"
            assert figure.layout.font.color is None

    def test_shows_a_name_full_of_markup_as_it_is(self, odd, tmp_path):
        for figure in (
            precision_recall_figure(odd, 1),
            precision_recall_grid(odd),
            quality_figure(odd),
            gain_figure(odd, 1),
        ):
            text = figure.to_json()
            assert "<img" not in text
            assert "\\u003cimg" not in text
            assert "&lt;img" in text or "\\u0026lt;img" in text


class TestDifferences:
    def test_are_those_of_the_report_and_then_those_of_the_classes(self, curves, comparison):
        rows = difference_rows(comparison, curves)
        assert [row.name for row in rows[:3]] == ["Mean AP", "Mean IoU", "Boundary IoU"]
        assert rows[0][1:4] == tuple(comparison["mean_ap_points"].values())
        assert [row.name for row in rows[3:]] == [f"AP of {name}" for name in curves.classes]
        assert [row.mean for row in rows[3:]] == [gain.mean for gain in curves.gains[:-1]]

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ((1.84, 0.61, 3.02), "+1.8 (0.6 to 3.0)"),
            ((-1.84, -3.02, 0.61), "−1.8 (−3.0 to 0.6)"),
            ((-0.01, -0.04, 0.04), "−0.01 (−0.04 to 0.04)"),
            ((0.2, 0.004, 0.4), "+0.20 (0.00 to 0.40)"),
            ((1.84, float("nan"), float("nan")), "+1.8"),
            ((float("nan"),) * 3, "not known"),
        ],
    )
    def test_are_said_with_their_interval(self, values, words):
        assert interval_in_words(Row("", *values, True)) == words

    def test_are_filled_only_where_they_are_sure(self):
        rows = [Row("up", 2, 1, 3, True), Row("down", -2, -3, -1, True), Row("either", 1, -1, 3, True)]
        symbols = [t.marker.symbol for t in difference_figure(rows).data if t.mode == "markers"]
        colours = [t.marker.color for t in difference_figure(rows).data if t.mode == "markers"]
        assert symbols == ["diamond", "diamond", "circle"]
        assert colours == [ARM_COLOURS["distilled"], ARM_COLOURS["alone"], "#fff"]

    def test_are_not_filled_where_the_interval_is_printed_with_0(self):
        assert not Row("up", 0.2, 0.004, 0.4, True).sure
        assert Row("up", 0.2, 0.006, 0.4, True).sure

    def test_of_one_seed_are_never_sure(self):
        figure = difference_figure([Row("up", 2, 1, 3, True)], covers_seeds=False)
        assert [t.marker.symbol for t in figure.data if t.mode == "markers"] == ["circle"]

    def test_that_are_not_known_leave_their_row_empty(self):
        rows = [Row("known", 2, 1, 3, True), Row("unknown", *(float("nan"),) * 3, False)]
        figure = difference_figure(rows)
        assert len(figure.data) == 2
        assert "not known" in [note.text for note in figure.layout.annotations]
        low, high = figure.layout.xaxis.range
        assert low < 0 < 3 < high


class TestAmounts:
    POINT = OperatingPoint(127, 912 / 972, 0.912, 250_000 * 10, 228_000 * 10, 15_000 * 10)

    def test_are_said_in_hectares(self):
        unit = choose_unit(self.POINT.real, 2.0)  # 4 m² a pixel: 2.5 million pixels are 1,000 ha
        assert amounts_in_words(self.POINT, unit) == "found 912 of 1,000 ha, 60 ha false alarm"
        assert shares_in_words(self.POINT) == "found 91 %; 94 % of its marks are right"

    @pytest.mark.parametrize(
        ("pixels", "resolution", "words"),
        [
            (2_500, 1.0, "2,500 m²"),
            (12_345, 1.0, "1.23 ha"),
            (123_456, 1.0, "12.3 ha"),
            (9_990_000, 1.0, "999 ha"),
            (2_000_000, 10.0, "200 km²"),
            (99_000, 10.0, "990 ha"),
            (35_000_000, 30.0, "31,500 km²"),
            (1_234_567, None, "1,234,567 pixels"),
            (12_345_678, None, "12.3 million pixels"),
        ],
    )
    def test_are_written_in_a_fitting_unit(self, pixels, resolution, words):
        unit = choose_unit(pixels, resolution)
        assert f"{unit.write(pixels)} {unit.name}" == words

    def test_are_drawn_as_lengths_on_one_scale(self):
        small = OperatingPoint(50, 0.5, 0.5, 2_500_000, 1_250_000, 1_250_000)
        html = amounts_html({"teacher": self.POINT, "alone": small}, {"teacher": 0.8, "alone": 0.7}, 2.0)
        widths = [float(part.split("%")[0]) for part in html.split("height:100%;width:")[1:]]
        longest = 3_750_000
        expected = [2_280_000, 220_000, 150_000, 1_250_000, 1_250_000, 1_250_000]
        assert widths == pytest.approx([100 * pixels / longest for pixels in expected], abs=0.01)
        assert "AP 80.0" in html
        assert "threshold 20 %" in html

    def test_of_nothing_say_so(self, odd):
        points = odd.points(2, odd.chosen_levels(2))
        html = amounts_html(points, dict.fromkeys(points, float("nan")), 1.0)
        assert html.count("Does not occur in the test split") == 3
        nothing = OperatingPoint(254, float("nan"), 0.0, 10, 0, 0)
        assert shares_in_words(nothing) == "marks nothing at this threshold"


class TestQuality:
    def test_table_has_the_mean_first_and_then_the_classes_from_the_best_to_the_worst(self, curves):
        rows = quality_table(curves)
        assert rows[0]["view"] == MEAN
        best = [max(a.ap[row["view"], 0] for a in curves.arms.values()) for row in rows[1:]]
        assert best == sorted(best, reverse=True)
        assert {row["name"] for row in rows[1:]} == set(curves.classes)

    def test_table_says_values_with_intervals_and_what_a_guess_reaches(self, curves):
        row = next(row for row in quality_table(curves) if row["name"] == "building")
        value, low, high = 100 * curves.arms["distilled"].ap[2]
        assert row["distilled"] == f"{value:.1f} ({low:.1f} to {high:.1f})"
        assert row["guess"] == "13.0"

    def test_mean_difference_is_the_reports(self, curves):
        rows = quality_table(curves, Row("Mean AP", 1.0, 0.5, 1.5, True))
        assert rows[0]["difference"] == "+1.0 (0.5 to 1.5)"

    def test_of_a_class_that_does_not_occur_comes_last(self, odd):
        row = quality_table(odd)[-1]
        assert (row["name"], row["teacher"], row["difference"]) == ("never", "does not occur", "not known")

    def test_figure_has_a_point_with_whiskers_for_every_arm_and_row(self, curves):
        figure = quality_figure(curves)
        for arm, name in ((arm, ARM_NAMES[arm]) for arm in curves.arms):
            (trace,) = traces(figure, name=name)
            assert trace.x[0] == pytest.approx(100 * curves.arms[arm].ap[MEAN, 0])
            assert trace.x[0] - trace.error_x.arrayminus[0] == pytest.approx(100 * curves.arms[arm].ap[MEAN, 1])
            assert trace.x[0] + trace.error_x.array[0] == pytest.approx(100 * curves.arms[arm].ap[MEAN, 2])


class TestCalibration:
    def test_shows_what_is_said_against_what_is_right(self, curves):
        arms = {arm: calibration(*a.fine, 2) for arm, a in curves.arms.items()}
        figure = reliability_figure(arms)
        (trace,) = traces(figure, name="Teacher")
        known = np.isfinite(arms["teacher"].probability)
        np.testing.assert_allclose(trace.x, arms["teacher"].probability[known], atol=1e-6)
        np.testing.assert_allclose(trace.y, arms["teacher"].frequency[known], atol=1e-6)
        html = calibration_html(arms)
        assert all(f"off by {100 * measured.error:.1f} points" in html for measured in arms.values())


def test_gain_is_drawn_with_its_band(curves):
    band, line = gain_figure(curves, 2).data
    np.testing.assert_allclose(line.y, curves.gain_band[2, 0], atol=1e-4)
    np.testing.assert_allclose(band.y[:100], curves.gain_band[2, 2], atol=1e-4)


def test_arrays_travel_as_bytes(curves):
    (teacher,) = [
        t for t in precision_recall_figure(curves, 2).to_dict()["data"] if t.get("line", {}).get("simplify") is False
    ][:1]
    decoded = np.frombuffer(base64.b64decode(teacher["x"]["bdata"]), np.float32)
    assert decoded[-1] == 1
