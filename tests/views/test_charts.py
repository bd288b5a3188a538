"""The tables and layouts behind the pages' charts."""

import json

import altair as alt
import numpy as np
import pytest
from jsonschema import ValidationError

from kdcore.views.charts import MOST_POINTS, learning_chart, learning_table, thin
from kdcore.views.split_plan import split_chart, visible_rectangles


def test_a_long_line_is_thinned_to_averages_of_neighbours():
    steps = np.arange(1.0, 2001.0)
    thinned, values = thin(steps, 3 * steps)
    assert len(thinned) == MOST_POINTS
    assert values == pytest.approx(3 * thinned)
    assert (thinned[-1], values[-1]) == (2000, 6000)


def test_a_short_line_stays_as_it_is():
    steps = np.array([10.0, 20.0])
    assert thin(steps, steps)[0] is steps


def test_the_table_holds_what_was_measured_and_leaves_out_what_was_not():
    lines = [{"step": 10, "loss": 0.5}, {"step": 10, "validation_mean_ap": 0.25}, {"step": 20, "loss": 0.4}]
    runs = {"teacher": ("teacher", lines), "student": ("alone", [])}
    assert learning_table(runs, "loss")[["step", "value"]].values.tolist() == [[10, 0.5], [20, 0.4]]
    validation = learning_table(runs, "validation_mean_ap", 100)
    assert validation.to_dict("records") == [{"run": "teacher", "arm": "Teacher", "step": 10, "value": 25.0}]
    assert learning_table({}, "loss").empty


@pytest.mark.parametrize("points", [False, True])
def test_the_chart_is_what_the_schema_allows(points):
    chart = learning_chart("Loss", 400, points)
    alt.LayerChart.from_dict(chart | {"data": {"name": "table"}}, validate=True)
    with pytest.raises(ValidationError, match="tall"):
        alt.LayerChart.from_dict(chart | {"data": {"name": "table"}, "height": "tall"}, validate=True)


def test_a_tick_of_the_largest_study_stays_small():
    """Three teachers and two arms of five seeds: what a browser is sent in two seconds."""
    import io

    import pyarrow as pa

    lines = [{"step": step, "loss": 1 / step, "validation_mean_ap": 0.5} for step in range(10, 20_001, 10)]
    runs = {f"run {index}": ("alone", lines) for index in range(13)}
    size = 0
    for key in ("loss", "validation_mean_ap"):
        sink = io.BytesIO()
        table = pa.Table.from_pandas(learning_table(runs, key))
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        size += len(sink.getvalue()) + len(json.dumps(learning_chart("Loss", 20_000)))
    assert size <= 60_000


def scene(name, left=0.0, top=0.0, crs="EPSG:32633", size=100, **boxes):
    rectangles = [
        {"part": part, "row": box[0], "column": box[1], "height": box[2], "width": box[3]}
        for part, box in boxes.items()
    ]
    return {
        "id": name,
        "height": size,
        "width": size,
        "left": left,
        "top": top,
        "pixel": 0.5,
        "crs": crs,
        "rectangles": rectangles,
    }


def drawn(chart):
    """The rectangles of a plan; its other table holds the names."""
    tables = chart.to_dict()["datasets"].values()
    return next(table for table in tables if "part" in table[0])


def test_neighbouring_scenes_are_drawn_where_they_lie():
    scenes = [
        scene("west", left=0, top=50, train=(0, 0, 100, 100)),
        scene("east", left=60, top=50, test=(0, 0, 100, 100)),
    ]
    west, east = drawn(split_chart(scenes))
    assert (west["x"], west["x2"], east["x"], east["x2"]) == (0, 50, 60, 110)  # metres
    assert (east["y"], east["y2"], east["part"]) == (0, 50, "test")


def test_scenes_far_apart_are_drawn_in_rows():
    scenes = [scene("here", train=(0, 0, 100, 100)), scene("far", left=1e6, test=(0, 0, 100, 100))]
    here, far = drawn(split_chart(scenes))
    assert far["x2"] < 400
    assert here["x2"] <= far["x"] or here["y2"] <= far["y"]


def test_scenes_without_georeference_never_overlap():
    scenes = [scene(f"s{index}", crs=None, size=50 + 7 * index, train=(0, 0, 50, 50)) for index in range(9)]
    boxes = [box for box in drawn(split_chart(scenes)) if box["part"] == "not used"]
    assert len(boxes) == 8  # all but the first, which is covered
    for index, a in enumerate(boxes):
        for b in boxes[index + 1 :]:
            assert a["x2"] <= b["x"] or b["x2"] <= a["x"] or a["y2"] <= b["y"] or b["y2"] <= a["y"]


def test_what_is_hidden_is_not_drawn():
    whole = scene("a", buffer=(0, 0, 100, 100), train=(0, 0, 100, 100))
    assert [box["part"] for box in visible_rectangles(whole)] == ["train"]
    cut = scene("a", buffer=(0, 0, 100, 50), train=(0, 0, 100, 40))
    assert [box["part"] for box in visible_rectangles(cut)] == ["not used", "buffer", "train"]
