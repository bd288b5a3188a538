"""The points behind live learning curves."""

import io

import pyarrow as pa
import pytest

from kdcore.views.learning import MOST_POINTS, learning_points, live_spec


def points_of(table, run):
    """A run's values by step."""
    return {row["Step"]: row["Value"] for row in table.to_pylist() if row["Run"] == run}


def test_holds_what_was_measured_and_leaves_out_what_was_not():
    lines = [{"step": 10, "loss": 0.5}, {"step": 10, "validation_mean_ap": 0.25}, {"step": 20, "loss": 0.4}]
    runs = {"teacher": lines, "student": []}
    loss = learning_points(runs, "loss")
    assert loss["Run"].unique().to_pylist() == ["teacher"]
    assert points_of(loss, "teacher") == {10: pytest.approx(0.5), 20: pytest.approx(0.4)}
    assert points_of(learning_points(runs, "validation_mean_ap", 100), "teacher") == {10: 25.0}
    assert len(learning_points({}, "loss")) == 0


def test_a_long_line_is_thinned_to_means_of_equal_stretches():
    lines = [{"step": step, "loss": 3.0 * step} for step in range(1, 4801)]
    points = points_of(learning_points({"run": lines}, "loss"), "run")
    assert len(points) == MOST_POINTS == 48
    assert list(points)[:2] == [100, 200]
    assert points[100] == 3 * 50.5  # the mean of 1 to 100
    assert list(points)[-1] == 4800


def test_stretches_are_those_of_the_whole_training_and_a_short_line_keeps_its_own_steps():
    """Else a line would be divided anew, and look another one, with every look."""
    runs = {
        "long": [{"step": step, "loss": 1.0} for step in range(10, 1001, 10)],
        "short": [{"step": step, "loss": step} for step in (7, 30)],
    }
    table = learning_points(runs, "loss", last_step=4800)
    assert list(points_of(table, "long")) == list(range(100, 1001, 100))
    assert points_of(table, "short") == {7: 7, 30: 30}


def test_a_line_is_drawn_in_its_colour_up_to_the_last_step():
    """Else the axis of a live chart would change with every look."""
    spec = live_spec({"teacher, seed 0": "#112233", "teacher, seed 1": "#112233"}, "Training loss", 400)
    assert spec["encoding"]["x"]["scale"]["domain"] == [0, 400]
    colours = spec["encoding"]["color"]
    assert colours["scale"] == {"domain": ["teacher, seed 0", "teacher, seed 1"], "range": ["#112233", "#112233"]}
    assert colours["legend"]["values"] == ["teacher, seed 0"]  # once for all seeds


def test_a_line_of_one_point_is_drawn_as_a_point():
    """As after the first validation: lines begin with the second."""
    marks = {
        layer["mark"]["type"]: layer for layer in live_spec({"teacher, seed 0": "#112233"}, "mean AP", 400)["layer"][:2]
    }
    assert marks["point"]["transform"][1] == {"filter": "datum.points == 1"}
    assert "opacity" not in marks["point"].get("encoding", {})


def test_a_tick_of_the_largest_study_stays_small():
    """Three teachers and two arms of five seeds: what a browser is sent in two seconds."""
    lines = [{"step": step, "loss": 1 / step, "validation_mean_ap": 0.5} for step in range(10, 20_001, 10)]
    runs = {f"student alone, seed {index}": lines for index in range(13)}
    size = 0
    for key in ("loss", "validation_mean_ap"):
        sent = learning_points(runs, key, last_step=20_000)
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, sent.schema) as writer:
            writer.write_table(sent)
        size += len(sink.getvalue())
    assert size <= 60_000
