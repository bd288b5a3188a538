"""The learning curve as a figure and a table: what the report says, on the places where it says it."""

import pytest

from kdcore.views.label_curve import in_points, label_curve_figure, label_curve_rows


def point(share, alone, distilled):
    def value(mean):
        return {"mean": mean, "low": mean - 2, "high": mean + 1}

    return {
        "labels": share,
        "alone": value(alone),
        "distilled": value(distilled),
        "gain": value(distilled - alone),
        "worth": {"sentence": f"Distilling with {100 * share:.0f} % is worth it."},
    }


REPORT = {"points": [point(0.1, 60.0, 70.0), point(1.0, 80.0, 82.0)], "teacher": 85.0}


def test_a_figure_has_both_students_with_their_intervals_and_the_teacher():
    figure = label_curve_figure(REPORT)
    assert [trace.name for trace in figure.data] == ["Student alone", "Distilled student"]
    alone, distilled = figure.data
    assert list(alone.x) == [10, 100]
    assert (list(alone.y), list(distilled.y)) == ([60, 80], [70, 82])
    assert list(alone.error_y.array) == pytest.approx([1, 1])
    assert list(alone.error_y.arrayminus) == pytest.approx([2, 2])
    assert figure.layout.xaxis.type == "log"
    assert [shape.y0 for shape in figure.layout.shapes] == [85]


def test_a_teacher_that_is_not_known_is_not_drawn():
    assert not label_curve_figure(REPORT | {"teacher": None}).layout.shapes


def test_a_table_has_a_row_for_each_share():
    assert label_curve_rows(REPORT)[0] == {
        "Labels": "10.0 %",
        "Student alone": "60.0 (58.0 to 61.0)",
        "Distilled student": "70.0 (68.0 to 71.0)",
        "Gain, points": "+10.0 (+8.0 to +11.0)",
        "Worth": "Distilling with 10 % is worth it.",
    }


def test_a_number_without_an_interval_stands_alone():
    assert in_points({"mean": 5.0, "low": None, "high": None}) == "5.0"
    assert in_points({"mean": None, "low": None, "high": None}) == "–"
