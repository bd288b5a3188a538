"""What the charts of a sweep show, with numbers worked out by hand."""

import math

import altair as alt
import pytest
from jsonschema import ValidationError

from kdcore.evaluation.sweep_report import importance_report, measure_spread
from kdcore.settings import Range
from kdcore.views.sweep import Chart
from kdcore.views.sweep_history import history, learning_curves
from kdcore.views.sweep_map import temperature_alpha_map
from kdcore.views.sweep_settings import importance_bars, parallel_coordinates
from kdcore.views.sweep_tradeoffs import costs_of, pareto, spread_strip
from tests.views.sweep_trials import settings, space, trial

HOSTILE = "<img src=x onerror=alert(1)>"
TWO = space(student=("small", "tiny"))

SOME = [
    trial(0, 0.60, "baseline", curve={50: 0.55, 100: 0.60}),
    trial(1, 0.64, "repeat", curve={50: 0.60, 100: 0.64}),
    trial(2, 0.66, "repeat", seed=1, curve={50: 0.62, 100: 0.66}),
    trial(3, 0.62, params={"temperature": 1.0, "alpha": 0.2}, curve={50: 0.58, 100: 0.62}),
    trial(4, 0.68, params={"temperature": 5.0, "alpha": 0.8}, curve={50: 0.63, 100: 0.68}),
    trial(5, params={"temperature": 9.0, "alpha": 0.9}, curve={50: 0.41}),
    trial(6, state="failed", params={"temperature": 2.0, "alpha": 0.1}, curve={50: 0.2}),
    trial(7, state="running", params={"temperature": 7.0, "alpha": 0.7}, curve={50: 0.61}, ended=None),
]


def report(trials, chosen):
    spread = measure_spread(trials, chosen)
    return {"importance": importance_report(trials, chosen, spread), "spread": {"sentence": spread.sentence}}


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


def rows(chart, **wanted):
    assert isinstance(chart, Chart), chart
    table = chart.table
    for name, value in wanted.items():
        table = table[table[name] == value]
    return table


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


class TestImportance:
    def test_bars_are_the_reports_shares(self):
        values = {"alpha": 0.75, "learning_rate": 0.25}
        chart = importance_bars({"importance": {"values": values, "trials": 12, "sentence": "Alpha 75 %."}})
        assert rows(chart)[["setting", "share", "label"]].to_dict("records") == [
            {"setting": "alpha", "share": 75, "label": "75 %"},
            {"setting": "learning rate", "share": 25, "label": "25 %"},
        ]
        assert chart.result == "Alpha 75 %."
        assert not chart.selects

    def test_with_too_few_trials_the_report_says_so(self):
        words = importance_bars(report(SOME, settings()))
        assert words == "2 trials of the search have finished; importances are told from 10 on."


class TestLines:
    def test_places_are_shares_of_what_is_searched(self):
        chosen = settings(space=space(task=("cross_entropy", "cross_entropy+dice")))
        two = [
            trial(
                0,
                0.5,
                params={"temperature": 10**0.25, "alpha": 0.2, "learning_rate": 1e-4, "task": "cross_entropy+dice"},
            ),
            trial(1, 0.7, params={"temperature": 10.0, "alpha": 1.0, "learning_rate": 1e-3, "task": "cross_entropy"}),
        ]
        found = rows(parallel_coordinates(two, chosen), kind="line").pivot_table("place", "trial", "axis", sort=False)
        assert list(found.columns) == ["Temperature", "Alpha", "Learning rate", "Task", "Mean AP, %"]
        assert found.loc[0].tolist() == pytest.approx([0.25, 0.2, 0, 1, 0])  # temperature and rate by magnitude
        assert found.loc[1].tolist() == pytest.approx([1, 1, 0.5, 0, 1])

    def test_ends_are_labelled_where_no_line_runs(self):
        found = rows(parallel_coordinates(SOME, settings()), axis="Learning rate")
        ends = found[found["kind"] == "end"]
        assert dict(zip(ends["label"], ends["place"] > 0.5, strict=True)) == {"0.0001": False, "0.01": True}
        assert not ends["place"].between(0, 1).any()

    def test_lists_have_even_distances_and_names(self):
        chosen = settings(space=space(student=("tiny", "small", "unet/" + "resnet" * 5)))
        found = rows(parallel_coordinates(SOME, chosen), axis="Student")
        assert list(found[found["kind"] == "line"]["place"].unique()) == [0.5]
        assert list(found[found["kind"] == "tick"]["label"]) == ["small"]
        assert list(found[found["kind"] == "end"]["label"]) == ["tiny", "unet/resnetresnet…"]

    def test_the_best_is_drawn_last_and_the_student_alone_and_other_seeds_not_at_all(self):
        found = rows(parallel_coordinates(SOME, settings()), kind="line")
        assert list(found["trial"].unique()) == [3, 1, 4]

    def test_equal_results_are_in_the_middle(self):
        chosen = settings(space=TWO, objectives=("quality", "size"), pruning=False)
        found = rows(parallel_coordinates([trial(0, 0.5), trial(1, 0.5)], chosen), kind="line")
        assert list(found[found["axis"].isin(["Mean AP, %", "Parameters"])]["place"]) == [0.5] * 4


class TestPareto:
    def test_the_front_is_what_nothing_beats(self):
        sizes = [
            trial(0, 0.60, size=100.0, params={"student": "tiny"}),
            trial(1, 0.55, size=100.0, params={"student": "tiny"}),
            trial(2, 0.70, size=900.0),
            trial(3, 0.59, size=900.0),
            trial(4, 0.99, "repeat", seed=3, size=900.0),  # another seed had another chance
        ]
        chart = pareto(sizes, settings(space=TWO), "size")
        assert set(rows(chart, kind="front")["trial"]) == {0, 2}
        assert set(rows(chart, kind="trial")["trial"]) == {0, 1, 2, 3}
        assert chart.result.endswith("trial 0 (tiny) with 60.0 % at 100; trial 2 (small) with 70.0 % at 900.")

    def test_right_is_better_on_a_logarithmic_axis(self):
        scale = pareto(SOME, settings(space=TWO), "size").spec["layer"][1]["encoding"]["x"]["scale"]
        assert (scale["type"], scale["reverse"]) == ("log", True)

    def test_what_quality_is_weighed_against(self):
        assert costs_of(settings()) == ()
        assert costs_of(settings(space=TWO)) == ("size",)
        weighed = settings(space=TWO, objectives=("quality", "latency"), pruning=False)
        assert costs_of(weighed) == ("size", "latency")
        assert pareto(SOME, settings()) == "There is no front: this sweep does not weigh the number of parameters."


class TestSpread:
    CLEAR = (
        trial(0, 0.60, "repeat"),
        trial(1, 0.62, "repeat", seed=1),
        trial(2, 0.50),
        trial(3, 0.70),
    )

    def test_both_strips_have_their_trainings_and_their_bar(self):
        chart = spread_strip(self.CLEAR, settings(), report(self.CLEAR, settings()))
        luck, effect = (rows(chart, strip=name) for name in chart.spec["layer"][0]["encoding"]["y"]["scale"]["domain"])
        assert list(luck[luck["kind"] == "trial"]["score"]) == pytest.approx([60, 62])
        assert list(effect[effect["kind"] == "trial"]["score"]) == pytest.approx([50, 70, 60])  # and the centre
        (bar,) = luck[luck["kind"] == "bar"].to_dict("records")
        assert (bar["low"], bar["high"]) == (pytest.approx(61 - math.sqrt(2)), pytest.approx(61 + math.sqrt(2)))
        assert bar["label"] == "± 1.41 (2 trainings)"
        (bar,) = effect[effect["kind"] == "bar"].to_dict("records")
        assert (bar["low"], bar["high"]) == (pytest.approx(50), pytest.approx(70))  # -10, 10 and 0 over n - 1 = 2

    def test_the_result_is_the_reports_verdict(self):
        told = report(self.CLEAR, settings())
        chart = spread_strip(self.CLEAR, settings(), told)
        assert chart.result == told["spread"]["sentence"]
        assert "by 10.00 points" in chart.result

    def test_all_are_measured_where_the_first_was_ended(self):
        chart = spread_strip(SOME, settings(), report(SOME, settings()))
        assert "after 50 % of the budget" in chart.reading
        assert sorted(rows(chart, kind="trial")["score"]) == pytest.approx([41, 58, 60, 60, 62, 63])

    def test_equal_trainings_do_not_hide_each_other(self):
        same = [trial(index, 0.5, "repeat", seed=index) for index in range(3)]
        chart = spread_strip(same, settings(), report(same, settings()))
        assert rows(chart, kind="trial", strip="one setting, several seeds (luck)")["offset"].nunique() == 3
