"""What the charts of a sweep show, with numbers worked out by hand."""

import math

import altair as alt
import pytest
from jsonschema import ValidationError

from kdcore.settings import Range
from kdcore.views.sweep import Chart
from kdcore.views.sweep_history import history, learning_curves
from kdcore.views.sweep_map import temperature_alpha_map
from kdcore.views.sweep_settings import importance_bars, parallel_coordinates
from kdcore.views.sweep_tradeoffs import pareto, spread_strip
from tests.views.sweep_trials import SOME, TWO, report, rows, settings, space, trial

HOSTILE = "<img src=x onerror=alert(1)>"


def every_chart(trials, chosen) -> dict[str, Chart | str]:
    return {
        "map": temperature_alpha_map(trials, chosen),
        "history": history(trials, chosen),
        "curves": learning_curves(trials, chosen),
        "bars": importance_bars(report(trials, chosen)),
        "lines": parallel_coordinates(trials, chosen),
        "size": pareto(trials, chosen, "size"),
        "latency": pareto(trials, chosen, "latency"),
        "strip": spread_strip(trials, chosen, report(trials, chosen)),
    }


def many(number: int, **values) -> list:
    """Trials with different settings, all finished; the quality is told by alpha."""
    return [
        trial(
            index,
            0.5 + 0.4 * (index % 10) / 10,
            params={"temperature": 1 + index % 9, "alpha": (index % 10) / 10},
            curve={50: 0.4, 100: 0.5},
            **values,
        )
        for index in range(number)
    ]


def test_every_chart_is_what_the_schema_allows():
    chosen = settings(space=TWO, objectives=("quality", "size", "latency"), pruning=False)
    for name, chart in every_chart(many(12), chosen).items():
        assert isinstance(chart, Chart), name
        whole = chart.spec | {"data": {"name": "table"}}
        alt.LayerChart.from_dict(whole, validate=True)
        with pytest.raises(ValidationError):
            alt.LayerChart.from_dict(whole | {"height": "tall"}, validate=True)


def test_what_new_trials_must_not_change_stays():
    """A chart whose specification, name or columns change is drawn anew, and a zoom in it is lost."""
    chosen = settings(space=TWO, objectives=("quality", "size", "latency"), pruning=False)
    before, after = every_chart(many(11), chosen), every_chart([*many(40), trial(40, 0.99, "baseline")], chosen)
    for name in before:
        old, new = before[name], after[name]
        assert isinstance(old, Chart)
        assert isinstance(new, Chart)
        assert (old.spec, old.alt, old.selects) == (new.spec, new.alt, new.selects), name
        assert old.table.dtypes.to_dict() == new.table.dtypes.to_dict(), name
        assert old.result != new.result or name == "strip", name


def test_whatever_is_missing_each_chart_is_drawn_or_says_why_not():
    chosen = settings()
    assert all(isinstance(chart, str) and chart.endswith(".") for chart in every_chart([], chosen).values())
    failed = every_chart([trial(0, state="failed", curve={50: 0.2}), trial(1, state="waiting", params={})], chosen)
    assert [name for name, chart in failed.items() if isinstance(chart, Chart)] == ["map"]
    one = every_chart([trial(0, 0.5, curve={100: 0.5})], chosen)
    drawn = {name for name, chart in one.items() if isinstance(chart, Chart)}
    assert drawn == {"map", "history", "curves", "lines", "strip"}
    assert {name for name, chart in every_chart(many(250), chosen).items() if isinstance(chart, str)} == {
        "size",
        "latency",
    }


def test_names_are_plain_text():
    """Vega-Lite escapes what it is given: to escape it before would show `&lt;`."""
    chosen = settings(space=TWO)
    hostile = [trial(0, 0.5, params={"student": HOSTILE}, curve={100: 0.5}, size=10.0)]
    chart = pareto(hostile, chosen, "size")
    assert list(rows(chart, kind="trial")["student"]) == [HOSTILE]
    assert HOSTILE in temperature_alpha_map(hostile, chosen, HOSTILE).reading


class TestMap:
    def test_each_mark_is_where_its_settings_put_it(self):
        chart = temperature_alpha_map(SOME, settings())
        found = rows(chart, what="finished")[["trial", "temperature", "alpha", "score"]].to_dict("records")
        assert found == [
            {"trial": 3, "temperature": 1, "alpha": 0.2, "score": pytest.approx(62)},
            {"trial": 4, "temperature": 5, "alpha": 0.8, "score": pytest.approx(68)},
        ]

    def test_the_repeats_are_one_mark_with_their_mean(self):
        (centre,) = rows(temperature_alpha_map(SOME, settings()), what="the centre, with several seeds").to_dict(
            "records"
        )
        assert centre["score"] == pytest.approx(65)  # of 64 and 66
        assert centre["temperature"] == pytest.approx(math.sqrt(10))
        assert centre["name"] == "the centre: mean of 2 seeds, ± 1.41"  # deviations of 1 and -1: the root of 2

    def test_the_student_alone_is_a_line_at_alpha_0(self):
        chart = temperature_alpha_map(SOME, settings())
        (alone,) = rows(chart, kind="alone").to_dict("records")
        assert (alone["alpha"], alone["score"]) == (0, pytest.approx(60))
        assert alone["low"] == -alone["high"] < 0
        assert math.isnan(alone["temperature"])
        assert chart.result.endswith("The student alone has 60.0 %.")
        waits = [trial(0, role="baseline", state="running")]
        assert list(rows(temperature_alpha_map(waits, settings()))["kind"]) == ["alone, open"]

    def test_what_has_not_finished_has_its_own_shape_and_no_colour(self):
        chart = temperature_alpha_map(SOME, settings())
        found = rows(chart, kind="open")
        assert dict(zip(found["trial"], found["what"], strict=True)) == {5: "ended early", 6: "failed", 7: "running"}
        assert found["score"].isna().all()
        shapes = next(
            layer["encoding"]["shape"]["scale"] for layer in chart.spec["layer"] if "shape" in layer["encoding"]
        )
        assert len(set(shapes["range"])) == 5

    def test_the_best_is_marked_and_told(self):
        chart = temperature_alpha_map(SOME, settings())
        assert list(rows(chart, kind="best")["trial"]) == [4]
        assert "trial 4 (temperature 5, alpha 0.8, learning rate 0.001) with 68.0 %" in chart.result

    def test_a_killed_trial_is_left_to_its_successor(self):
        again = [trial(0, state="failed", retried_as=1), trial(1, 0.5, retry_of=0)]
        found = rows(temperature_alpha_map(again, settings()))
        assert set(found["trial"]) == {1}

    def test_temperature_is_on_a_logarithmic_axis_where_it_is_searched_so(self):
        def scales(**entries):
            chart = temperature_alpha_map(SOME, settings(space=space(**entries)))
            encoding = chart.spec["layer"][3]["encoding"]
            return encoding["x"], encoding["y"]["scale"]["domain"]

        x, alpha = scales()
        low, high = x["scale"]["domain"]
        assert x["scale"]["type"] == "log"
        assert (low, high) == (pytest.approx(10**-0.05, abs=1e-4), pytest.approx(10**1.05, abs=1e-3))
        assert alpha == pytest.approx([-0.05, 1.05])
        x, _ = scales(temperature=Range(low=2, high=4))
        assert x["scale"]["domain"] == pytest.approx([1.9, 4.1])
        assert x["axis"]["values"] == [2, 2.5, 3, 3.5, 4]
        x, alpha = scales(temperature=(1, 4), alpha=(0.25, 0.75))
        assert (x["scale"]["type"], x["axis"]["values"]) == ("log", [1, 4])
        assert alpha == pytest.approx([0, 0.775])  # the student alone is at 0

    def test_one_student_is_shown_and_named(self):
        sizes = [trial(0, 0.5, params={"student": "tiny"}), trial(1, 0.7), trial(2, 0.6, "baseline")]
        chosen = settings(space=TWO)
        assert set(rows(temperature_alpha_map(sizes, chosen))["trial"]) == {1, 2}  # the best one's by default
        tiny = temperature_alpha_map(sizes, chosen, "tiny")
        assert set(rows(tiny)["trial"]) == {0}
        assert "of the student tiny" in tiny.reading

    def test_without_one_of_both_there_is_no_map(self):
        fixed = settings(space=space(temperature=(4,)))
        assert temperature_alpha_map(SOME, fixed) == "There is no map: this sweep does not vary temperature (4)."


class TestHistory:
    def test_the_order_is_that_of_finishing(self):
        late = [trial(0, 0.6, ended=30.0), trial(1, 0.5, ended=10.0), trial(2, 0.7, ended=20.0)]
        found = rows(history(late, settings()), kind="trial")
        assert list(found["trial"]) == [1, 2, 0]
        assert list(found["order"]) == [1, 2, 3]

    def test_the_best_so_far_never_falls_and_knows_the_sweeps_own_seed_only(self):
        chart = history(SOME, settings())
        assert list(rows(chart, what="best so far", kind="line")["score"]) == pytest.approx([60, 64, 64, 64, 68])

    def test_the_student_alone_is_a_line_from_end_to_end(self):
        found = rows(history(SOME, settings()), what="student alone", kind="line")
        assert list(found["order"]) == [1, 5]
        assert list(found["score"]) == pytest.approx([60, 60])

    def test_luck_is_a_band_around_the_centre(self):
        chart = history(SOME, settings())
        (band,) = rows(chart, kind="band").to_dict("records")
        assert (band["low"], band["high"]) == (
            pytest.approx(65 - math.sqrt(2)),
            pytest.approx(65 + math.sqrt(2)),
        )
        assert "between 63.6 and 66.4 %" in chart.result
        assert rows(history(SOME[:2], settings()), kind="band").empty  # one seed tells nothing of luck


class TestCurves:
    def test_every_trial_has_its_points_also_the_running_ones(self):
        chart = learning_curves(SOME, settings())
        running = rows(chart, trial=7.0)
        assert list(running["percent"]) == [50]
        assert list(running["score"]) == pytest.approx([61])
        kinds = rows(chart).drop_duplicates("trial").set_index("trial")["what"].to_dict()
        assert kinds == {
            0: "student alone",
            1: "finished",
            2: "finished",
            3: "finished",
            4: "best",
            5: "ended early",
            7: "running",
        }
        assert chart.result.startswith("Learning curves of 7 trials: 1 running, 1 ended early. Best so far is trial 4")

    def test_only_the_best_is_thick(self):
        chart = learning_curves(SOME, settings())
        assert set(rows(chart, kind="best")["trial"]) == {4}
        widths = {
            layer["transform"][0]["filter"]["oneOf"][0]: layer["encoding"]["strokeWidth"]["value"]
            for layer in chart.spec["layer"]
            if "transform" in layer
        }
        assert widths["best"] > 2 * widths["other"]
