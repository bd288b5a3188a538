"""The table behind live learning curves."""

import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from kdcore.views.learning import MOST_POINTS, learning_table


def test_holds_what_was_measured_and_leaves_out_what_was_not():
    lines = [{"step": 10, "loss": 0.5}, {"step": 10, "validation_mean_ap": 0.25}, {"step": 20, "loss": 0.4}]
    runs = {"teacher": lines, "student": []}
    loss = learning_table(runs, "loss")
    assert list(loss.columns) == ["teacher"]
    assert loss["teacher"].to_dict() == {10: pytest.approx(0.5), 20: pytest.approx(0.4)}
    assert learning_table(runs, "validation_mean_ap", 100)["teacher"].to_dict() == {10: 25.0}
    assert learning_table({}, "loss").empty


def test_a_long_line_is_thinned_to_means_of_equal_stretches():
    lines = [{"step": step, "loss": 3.0 * step} for step in range(1, 4801)]
    table = learning_table({"run": lines}, "loss")
    assert len(table) == MOST_POINTS == 48
    assert list(table.index[:2]) == [100, 200]
    assert table["run"][100] == 3 * 50.5  # the mean of 1 to 100
    assert table.index[-1] == 4800


def test_lines_of_different_lengths_share_their_steps():
    """A row that a line has no number in breaks it in a browser: only what is behind its end may be empty."""
    runs = {
        "long": [{"step": step, "loss": 1.0} for step in range(10, 2001, 10)],
        "short": [{"step": step, "loss": 1.0} for step in range(7, 900, 7)],
    }
    table = learning_table(runs, "loss", last_step=2000)
    known = table["short"].notna().to_numpy()
    assert known[: known.sum()].all()
    assert table["long"].notna().all()
    seldom = {
        "often": [{"step": step, "loss": 1.0} for step in (10, 20, 30)],
        "seldom": [{"step": step, "loss": step} for step in (10, 30)],
    }
    assert learning_table(seldom, "loss")["seldom"].to_list() == [10, 20, 30]  # on the line from 10 to 30


def test_reaches_to_the_last_step_from_the_beginning():
    """Else the axis of a live chart would change with every look."""
    table = learning_table({"run": [{"step": 10, "loss": 1.0}]}, "loss", last_step=400)
    assert list(table.index) == [10, 400]
    assert np.isnan(table["run"][400])


def test_a_tick_of_the_largest_study_stays_small():
    """Three teachers and two arms of five seeds: what a browser is sent in two seconds."""
    lines = [{"step": step, "loss": 1 / step, "validation_mean_ap": 0.5} for step in range(10, 20_001, 10)]
    runs = {f"student alone, seed {index}": lines for index in range(13)}
    size = 0
    for key in ("loss", "validation_mean_ap"):
        table = learning_table(runs, key, last_step=20_000)
        sent = table.reset_index().melt("Step")  # as Streamlit sends it: a row a point, with the run's name
        sink = io.BytesIO()
        arrow = pa.Table.from_pandas(pd.DataFrame(sent))
        with pa.ipc.new_stream(sink, arrow.schema) as writer:
            writer.write_table(arrow)
        size += len(sink.getvalue())
    assert size <= 60_000
