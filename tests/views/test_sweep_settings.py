"""What the charts of a sweep's settings and trade-offs show, with numbers worked out by hand."""

import math

import pytest

from kdcore.views.sweep_settings import importance_bars, parallel_coordinates
from kdcore.views.sweep_tradeoffs import costs_of, pareto, spread_strip
from tests.views.sweep_trials import SOME, TWO, report, rows, settings, space, trial


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
