import json

import numpy as np
import pytest

from kdcore.evaluation.bands import RECALLS
from kdcore.evaluation.operating import MEAN
from kdcore.views.arms import ARM_COLOURS, ARM_NAMES
from kdcore.views.curves import drawn_curve
from kdcore.views.moving import chart_height, moving_curves, put_points
from tests.synthetic_study import CLASSES, make_study
from tests.views.test_curve_figures import HOSTILE, measure


@pytest.fixture(scope="module")
def curves(tmp_path_factory):
    return measure(make_study(tmp_path_factory.mktemp("moving") / "study", scenes=1))


def series(option, kind):
    """Series of a kind by the rest of their id."""
    return {s["id"].removeprefix(f"{kind} "): s for s in option["series"] if s["id"].startswith(f"{kind} ")}


def at(curves, level, views):
    return {view: curves.points(view, dict.fromkeys(curves.arms, level)) for view in views}


def test_a_threshold_moves_the_points_and_nothing_else(curves):
    strict, lenient = (put_points(moving_curves(curves, [2]), at(curves, level, [2])) for level in (200, 60))
    for before, after in zip(strict["series"], lenient["series"], strict=True):
        assert before["id"] == after["id"]  # what has the same id glides
        assert (before == after) != before["id"].startswith("point ")
    assert {key: strict[key] for key in strict if key != "series"} == {
        key: lenient[key] for key in lenient if key != "series"
    }


def test_points_lie_where_recall_and_precision_are(curves):
    points = at(curves, 100, [MEAN])
    drawn = series(put_points(moving_curves(curves, [MEAN]), points), "point")
    for arm, point in points[MEAN].items():
        (row,) = drawn[f"{MEAN} {arm}"]["data"]
        assert row == pytest.approx([100 * point.recall, 100 * point.precision, 100 * 100 / 254], abs=0.006)


def test_every_arm_has_its_curve_its_seeds_and_its_band(curves):
    option = moving_curves(curves, [2])
    for arm, measured in curves.arms.items():
        curve = series(option, "curve")[f"2 {arm}"]
        recall, precision, threshold = drawn_curve(*measured.pooled, 2)
        np.testing.assert_allclose(curve["data"], 100 * np.stack([recall, precision, threshold], axis=1), atol=0.006)
        assert curve["lineStyle"]["color"] == ARM_COLOURS[arm]
        seeds = [name for name in series(option, "seed") if name.startswith(f"2 {arm}")]
        assert len(seeds) == (3 if arm != "teacher" else 0)
        low, high = (np.array(series(option, kind)[f"2 {arm}"]["data"]) for kind in ("low", "high"))
        np.testing.assert_allclose(low[:, 0], 100 * RECALLS, atol=0.006)
        np.testing.assert_allclose([low[:, 1], low[:, 1] + high[:, 1]], 100 * measured.band[2], atol=0.02)
    assert [entry["name"] for entry in option["legend"]["data"]] == [ARM_NAMES[arm] for arm in curves.arms]


def test_side_by_side_has_a_panel_for_each_class_and_the_mean(curves):
    option = put_points(moving_curves(curves, curves.views), at(curves, 127, curves.views))
    assert [title["text"] for title in option["title"]] == [*CLASSES, "mean of all classes"]
    assert len(option["grid"]) == len(option["xAxis"]) == len(option["yAxis"]) == 6
    panels = {name.split()[0]: s["xAxisIndex"] for name, s in series(option, "point").items()}
    assert panels == {"0": 0, "1": 1, "2": 2, "3": 3, "4": 4, "-1": 5}
    assert all(s["xAxisIndex"] == s["yAxisIndex"] for s in option["series"])
    assert len({s["id"] for s in option["series"]}) == len(option["series"])
    assert chart_height(curves.views) > 1.2 * chart_height([0])
    assert len(json.dumps(option)) < 200_000


def test_is_small_and_plain_json(curves):
    option = put_points(moving_curves(curves, [2]), at(curves, 127, [2]))
    assert len(json.dumps(option, allow_nan=False)) < 80_000


def test_a_guess_is_drawn_at_the_share_of_the_class(curves):
    lines = [s["markLine"] for s in moving_curves(curves, [2])["series"] if "markLine" in s]
    assert [line["data"][0]["yAxis"] for line in lines] == [13.0]
    assert lines[0]["label"]["formatter"] == "a guess: 13 %"


def test_names_stand_nowhere_where_markup_is_understood(tmp_path):
    names, shares = ("land", HOSTILE, "never"), (0.7, 0.3, 0.0)
    odd = measure(make_study(tmp_path / "study", classes=names, shares=shares, seeds=1, scenes=1))
    option = put_points(moving_curves(odd, odd.views), at(odd, 127, odd.views))
    for shown in (
        option["tooltip"],
        *(s.get("tooltip") for s in option["series"]),
        *(s["name"] for s in option["series"]),
    ):
        assert "<img" not in json.dumps(shown)
    assert option["title"][1]["text"] == HOSTILE
    assert not any(s["data"] for name, s in series(option, "point").items() if name.startswith("2"))
    assert not [name for name in series(option, "low") if name.startswith("2")]


def test_can_be_zoomed_and_saved_as_the_other_charts_can(curves):
    assert set(moving_curves(curves, [MEAN])["toolbox"]["feature"]) == {"dataZoom", "restore", "saveAsImage"}
