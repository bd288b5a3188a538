"""What the charts of a sweep show, with numbers worked out by hand."""

import math
import subprocess
import sys

import plotly.graph_objects as go
import pytest

from kdcore.settings import Range
from kdcore.views.arms import ARM_COLOURS
from kdcore.views.layout import log_ticks
from kdcore.views.sweep import (
    costs_of,
    history,
    importance_bars,
    learning_curves,
    parallel_coordinates,
    pareto,
    slices,
    spread_strip,
    sweep_charts,
    temperature_alpha_map,
)
from kdcore.views.sweep_look import BEST, SEEDS, Chart
from tests.views.sweep_trials import SOME, TWO, report, settings, space, trial


def every_chart(trials, chosen) -> dict[str, Chart | str]:
    return sweep_charts(trials, chosen, report(trials, chosen))


ONE = {
    "Temperature and alpha": temperature_alpha_map,
    "History": history,
    "Learning curves": learning_curves,
    "Each setting": slices,
    "All settings at once": parallel_coordinates,
    "Quality against parameters": lambda trials, chosen: pareto(trials, chosen, "size"),
    "Settings or seeds?": lambda trials, chosen: spread_strip(trials, chosen, report(trials, chosen)),
    "Importance": lambda trials, chosen: importance_bars(trials, chosen, report(trials, chosen)),
}


def draw(title: str, trials=SOME, chosen=None) -> Chart:
    chart = ONE[title](trials, chosen or settings())
    assert isinstance(chart, Chart), chart
    return chart


def points(chart: Chart) -> dict[int, tuple]:
    """Where each trial's first point is, by its number."""
    found = {}
    for trace in chart.figure.data:
        for number, x, y in zip(trace.ids or (), trace.x, trace.y, strict=False):
            found.setdefault(int(number), (x, y))
    return found


def named(chart: Chart, name: str):
    return next(trace for trace in chart.figure.data if trace.name == name)


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


ALL = {"space": TWO, "objectives": ("quality", "size", "latency"), "pruning": False}


class TestEveryChart:
    def test_is_plotlys_in_the_look_of_the_others(self):
        charts = every_chart(many(12), settings(**ALL))
        assert list(charts) == [
            "Temperature and alpha", "Settings or seeds?", "Importance", "History", "Learning curves", "Each setting",
            "All settings at once", "Quality against parameters", "Quality against ms a megapixel",
        ]  # fmt: skip
        for title, chart in charts.items():
            assert isinstance(chart, Chart), title
            layout = chart.figure.layout
            assert layout.title.text is None
            assert layout.font.family == "system-ui, sans-serif"
            assert layout.paper_bgcolor == layout.plot_bgcolor == "rgba(0,0,0,0)"
            assert chart.reading.endswith(".")
            assert chart.result.endswith(".")

    def test_is_drawn_or_says_why_not(self):
        chosen = settings()
        assert all(isinstance(chart, str) and chart.endswith(".") for chart in every_chart([], chosen).values())
        failed = [trial(0, state="failed", curve={50: 0.2}), trial(1, state="waiting", params={})]
        assert all(isinstance(chart, str) for chart in every_chart(failed, chosen).values())
        one = every_chart([trial(0, 0.5, curve={100: 0.5})], chosen)
        assert {title for title, chart in one.items() if isinstance(chart, Chart)} == {
            "History", "Learning curves", "All settings at once", "Settings or seeds?",
        }  # fmt: skip

    def test_of_equal_trials_is_drawn(self):
        same = [trial(0, 0.5, "baseline"), *(trial(n, 0.5, params={"alpha": n / 10}, size=7.0) for n in range(1, 12))]
        assert all(isinstance(chart, Chart | str) for chart in every_chart(same, settings(**ALL)).values())

    def test_of_many_trials_stays_small(self):
        """A map's surface has a cell for each pair of settings: without rounding, those of 300 trials would be 90,000."""
        trials = [trial(n, 0.5 + n / 1000, params={"temperature": 1 + n * 0.029, "alpha": n / 301}) for n in range(300)]
        chart = draw("Temperature and alpha", trials)
        rows, columns = map(int, chart.figure.data[0].z["shape"].split(", "))
        assert rows * columns < 15_000
        assert len(chart.figure.to_json()) < 300_000

    def test_tells_of_each_point_its_trial_and_its_quality(self):
        for title in ("Temperature and alpha", "History", "Each setting", "All settings at once", "Learning curves"):
            chart = draw(title)
            told = {number: text for trace in chart.figure.data if trace.ids for number, text in zip(trace.ids, trace.hovertext, strict=True)}  # fmt: skip
            assert told["4"] == "<b>trial 4</b><br>temperature 5, alpha 0.8, learning rate 0.001<br>mean AP 68.00 %", (
                title
            )

    def test_has_one_colour_a_meaning(self):
        """Green is a distilled student, orange the student alone, grey what seeds alone do, and no other arm is there."""
        allowed = {ARM_COLOURS["distilled"], ARM_COLOURS["alone"], SEEDS, "#fff"}
        for title in ("Settings or seeds?", "Importance", "History", "Each setting", "Quality against parameters"):
            figure = draw(title, [*SOME[:5], *many(20)[5:]], settings(space=TWO)).figure
            for trace in (trace for trace in figure.data if trace.x):
                colours = trace.marker.color or ()
                assert set([colours] if isinstance(colours, str) else colours) <= allowed, (title, trace.name)
        history = draw("History")
        markers = dict(zip(history.figure.data[0].ids, history.figure.data[0].marker.color, strict=True))
        assert markers == {"0": ARM_COLOURS["alone"], "1": BEST, "3": BEST, "4": BEST}

    def test_says_its_legend_above_the_drawing_where_nothing_cuts_it(self):
        for title, chart in every_chart([*SOME[:5], *many(20)[5:]], settings(**ALL)).items():
            assert isinstance(chart, Chart)
            legend = chart.figure.layout.legend
            assert (legend.orientation, legend.x, legend.yanchor) == ("h", 0, "bottom"), title

    def test_has_round_numbers_at_logarithmic_axes(self):
        """Plotly writes bare digits there: 5, 0.001, 5."""
        slices = {
            axis.title.text: axis for axis in draw("Each setting", [*SOME[:5], *many(20)[5:]]).figure.select_xaxes()
        }
        assert {2, 5, 10} <= set(slices["Temperature"].tickvals)
        assert {1, 1.5, 2, 3} <= set(log_ticks([1.2, 3.1]))
        assert log_ticks([10.0, 1e6]) == [1, 10, 100, 1000, 1e4, 1e5, 1e6, 1e7]

    def test_leaves_other_ticks_to_plotly_which_tells_neighbours_apart(self):
        """A format with no decimals made 64, 64, 64 of 63.8, 64.0 and 64.2."""
        for title in ("History", "Learning curves", "Each setting", "Settings or seeds?"):
            figure = draw(title).figure
            axes = list(figure.select_yaxes()) if title != "Settings or seeds?" else [figure.layout.xaxis]
            assert all(axis.tickformat is None for axis in axes), title

    def test_never_loads_torch_nor_needs_scikit_learn(self):
        code = (
            "import sys; sys.modules['sklearn'] = None\n"
            "from tests.views.test_sweep import *\n"
            "assert all(isinstance(chart, Chart) for chart in every_chart(many(12), settings(**ALL)).values())\n"
            "sys.exit('torch' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

    def test_is_imported_without_optuna(self):
        code = "import kdcore.views.sweep, sys; sys.exit('optuna' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestMap:
    def test_each_dot_is_where_its_settings_put_it_and_as_bright_as_it_is_good(self):
        dots = draw("Temperature and alpha").figure.data[1]
        found = {n: (x, y, c) for n, x, y, c in zip(dots.ids, dots.x, dots.y, dots.marker.color, strict=True)}
        assert found == {  # the centre's temperature, the root of 10, is drawn to two digits
            "1": (0.5, 3.2, pytest.approx(64)),
            "3": (0.2, 1, pytest.approx(62)),
            "4": (0.8, 5, pytest.approx(68)),
        }
        assert (dots.marker.cmin, dots.marker.cmax) == (pytest.approx(62), pytest.approx(68))

    def test_what_has_not_finished_has_its_own_shape_and_no_colour(self):
        chart = draw("Temperature and alpha")
        traces = [named(chart, name) for name in ("running", "ended early", "failed")]
        assert [trace.ids for trace in traces] == [("7",), ("5",), ("6",)]
        assert len({trace.marker.symbol for trace in traces}) == 3
        assert {trace.marker.color for trace in traces} == {SEEDS}

    def test_the_best_is_marked_and_told(self):
        chart = draw("Temperature and alpha")
        assert (named(chart, "best").x, named(chart, "best").y) == ((0.8,), (5.0,))
        assert "trial 4 (temperature 5, alpha 0.8, learning rate 0.001) with 68.0 %" in chart.result
        assert chart.result.endswith("The student alone has 60.0 %.")

    def test_a_killed_trial_is_left_to_its_successor(self):
        again = [
            trial(0, state="failed", retried_as=1),
            trial(1, 0.5, retry_of=0, params={"alpha": 0.1}),
            trial(2, 0.6, params={"temperature": 2.0}),
        ]
        assert set(points(draw("Temperature and alpha", again))) == {1, 2}

    def test_temperature_is_on_a_logarithmic_axis_where_it_is_searched_so(self):
        assert draw("Temperature and alpha").figure.layout.yaxis.type == "log"
        linear = settings(space=space(temperature=Range(low=1, high=10)))
        assert draw("Temperature and alpha", chosen=linear).figure.layout.yaxis.type is None

    def test_lists_are_at_even_distances(self):
        listed = settings(space=space(temperature=(1, 5, 10**0.5), alpha=(0.2, 0.5, 0.8)))
        trials = [trial for trial in SOME if trial.role != "search" or trial.number in (3, 4)]
        chart = draw("Temperature and alpha", trials, listed)
        assert chart.figure.layout.yaxis.type == "category"
        assert (named(chart, "best").x, named(chart, "best").y) == (("0.8",), ("5",))

    def test_the_best_ones_student_is_shown_and_named(self):
        sizes = [
            trial(0, 0.5, params={"student": "tiny"}),
            trial(1, 0.7),
            trial(2, 0.6, params={"alpha": 0.1, "temperature": 1.0}),
        ]
        chart = draw("Temperature and alpha", sizes, settings(space=TWO))
        assert set(points(chart)) == {1, 2}  # sizes cannot share a scale
        assert "of the student small" in chart.reading

    def test_without_one_of_both_there_is_no_map(self):
        fixed = temperature_alpha_map(SOME, settings(space=space(temperature=(4,))))
        assert fixed == "There is no map: this sweep does not vary temperature (4)."


class TestHistory:
    def test_each_trial_is_at_its_number(self):
        assert points(draw("History")) == {
            0: (0, pytest.approx(60)),
            1: (1, pytest.approx(64)),
            2: (2, pytest.approx(66)),
            3: (3, pytest.approx(62)),
            4: (4, pytest.approx(68)),
        }

    def test_the_best_so_far_never_falls_and_knows_the_sweeps_own_seed_only(self):
        line = named(draw("History"), "best so far")
        assert list(line.y) == pytest.approx([60, 64, 64, 64, 68, 68, 68, 68])

    def test_the_student_alone_is_a_line_from_end_to_end(self):
        chart = draw("History")
        (line,) = [shape for shape in chart.figure.layout.shapes if shape.type == "line"]
        assert (line.y0, line.line.color) == (pytest.approx(60), ARM_COLOURS["alone"])

    def test_seeds_are_a_band_around_the_centre(self):
        chart = draw("History")
        (band,) = [shape for shape in chart.figure.layout.shapes if shape.type == "rect"]
        assert (band.y0, band.y1) == (
            pytest.approx(65 - math.sqrt(2)),
            pytest.approx(65 + math.sqrt(2)),
        )  # of 64 and 66
        assert "between 63.6 and 66.4 %" in chart.result
        alone = draw("History", SOME[:2])
        assert [shape.type for shape in alone.figure.layout.shapes] == ["line"]  # one seed tells nothing of seeds


class TestCurves:
    def test_every_trial_has_its_points_also_the_running_ones(self):
        chart = draw("Learning curves")
        curves = {trace.ids[0]: (list(trace.x), list(trace.y), trace.name) for trace in chart.figure.data}
        assert curves["7"] == ([50], [pytest.approx(61)], "running")
        assert curves["4"] == ([50, 100], [pytest.approx(63), pytest.approx(68)], "best")
        assert {number: name for number, (_, _, name) in curves.items()} == {
            "0": "student alone", "1": "finished", "2": "finished", "3": "finished", "4": "best", "5": "ended early",
            "7": "running",
        }  # fmt: skip
        assert chart.result.startswith("Learning curves of 7 trials: 1 running, 1 ended early. Best so far is trial 4")

    def test_only_the_best_is_thick_and_each_kind_is_named_once(self):
        chart = draw("Learning curves")
        widths = {trace.name: trace.line.width for trace in chart.figure.data}
        assert widths["best"] > 1.5 * max(width for name, width in widths.items() if name != "best")
        shown = [trace.name for trace in chart.figure.data if trace.showlegend]
        assert sorted(shown) == ["best", "ended early", "finished", "running", "student alone"]


class TestImportance:
    def test_bars_are_the_reports_shares(self):
        told = report(many(14), settings())
        bars = draw("Importance", many(14)).figure.data[0]
        shares = {name.lower().replace(" ", "_"): share for name, share in zip(bars.y, bars.x, strict=True)}
        assert shares == pytest.approx(told["importance"]["values"], abs=1e-4)
        assert bars.y[-1] == "Alpha"  # on top: quality is told by alpha

    def test_with_too_few_trials_the_report_says_so(self):
        words = importance_bars(SOME, settings(), report(SOME, settings()))
        assert words == "2 trials of the search have finished; importances are told from 10 on."


class TestSettings:
    def test_slices_have_a_panel_for_each_setting(self):
        figure = draw("Each setting").figure
        assert [axis.title.text for axis in figure.select_xaxes()] == ["Alpha", "Learning rate", "Temperature"]
        alpha = dict(zip(figure.data[0].ids, zip(figure.data[0].x, figure.data[0].y, strict=True), strict=True))
        assert alpha == {"1": (0.5, pytest.approx(64)), "3": (0.2, pytest.approx(62)), "4": (0.8, pytest.approx(68))}

    def test_slices_name_a_lists_entries_as_they_are(self):
        figure = draw("Each setting", chosen=settings(space=TWO)).figure
        names = next(axis for axis in figure.select_xaxes() if axis.title.text == "Student")
        assert tuple(names.categoryarray) == ("small", "tiny")
        assert set(figure.data[2].x) == {"small"}

    def test_lines_run_from_the_quality_across_the_settings_and_the_best_is_on_top(self):
        figure = draw("All settings at once").figure
        lines = [trace for trace in figure.data if trace.ids]
        assert [trace.ids[0] for trace in lines] == ["3", "1", "4"]  # not the student alone, no other seeds
        assert list(figure.layout.xaxis.ticktext) == ["Mean AP, %", "Alpha", "Learning rate", "Temperature"]
        middle = (lines[1].y[0], lines[1].y[1])
        assert middle == (pytest.approx(1 / 3), pytest.approx(0.5))  # 64 of 62 to 68; 0.5 of 0.2 to 0.8
        assert list(lines[2].y[:2]) == [1, 1]


class TestPareto:
    SIZES = (
        trial(0, 0.60, size=100.0, params={"student": "tiny"}),
        trial(1, 0.55, size=100.0, params={"student": "tiny"}),
        trial(2, 0.70, size=900.0),
        trial(3, 0.59, size=900.0),
        trial(4, 0.99, "repeat", seed=3, size=900.0),  # another seed had another chance
    )

    def test_the_front_is_what_nothing_beats(self):
        chart = draw("Quality against parameters", self.SIZES, settings(space=TWO))
        assert points(chart) == {
            n: (s, pytest.approx(q)) for n, s, q in ((0, 100, 60), (1, 100, 55), (2, 900, 70), (3, 900, 59))
        }
        assert list(named(chart, "nothing beats these").x) == [100, 900]
        assert chart.result.endswith("trial 0 (tiny) with 60.0 % at 100; trial 2 (small) with 70.0 % at 900.")

    def test_right_is_better_on_a_logarithmic_axis(self):
        axis = draw("Quality against parameters", self.SIZES, settings(space=TWO)).figure.layout.xaxis
        assert (axis.type, axis.autorange) == ("log", "reversed")

    def test_what_quality_is_weighed_against(self):
        assert costs_of(settings()) == ()
        assert costs_of(settings(space=TWO)) == ("size",)
        weighed = settings(space=TWO, objectives=("quality", "latency"), pruning=False)
        assert costs_of(weighed) == ("size", "latency")
        assert pareto([], weighed, "size") == "The front appears when the first trial has finished."


class TestSpread:
    CLEAR = (
        trial(0, 0.60, "repeat"),
        trial(1, 0.62, "repeat", seed=1),
        trial(2, 0.50),
        trial(3, 0.70),
    )

    def strips(self, trials) -> tuple[dict, dict]:
        """For seeds and for settings: the marks' qualities by trial, and the bar's middle, half length and text."""
        chart = spread_strip(trials, settings(), report(trials, settings()))
        assert isinstance(chart, Chart)
        found: dict[int, dict] = {0: {}, 1: {}}
        for trace in chart.figure.data:
            row = round(trace.y[0])
            if trace.ids:
                found[row] |= dict(zip(map(int, trace.ids), trace.x, strict=True))
            else:
                found[row]["bar"] = (trace.x[0], trace.error_x.array[0], trace.text)
        return found[0], found[1]

    def test_both_strips_have_their_trainings_and_their_bar(self):
        seeds, effect = self.strips(self.CLEAR)
        assert seeds == {
            0: pytest.approx(60),
            1: pytest.approx(62),
            "bar": (pytest.approx(61), pytest.approx(math.sqrt(2)), "± 1.41 (2 trainings)"),
        }
        assert effect == {  # and the centre; deviations of -10, 10 and 0 over n - 1 = 2
            2: pytest.approx(50),
            3: pytest.approx(70),
            0: pytest.approx(60),
            "bar": (pytest.approx(60), pytest.approx(10), "± 10.00 (3 trainings)"),
        }

    def test_the_result_is_the_reports_verdict(self):
        told = report(self.CLEAR, settings())
        chart = spread_strip(self.CLEAR, settings(), told)
        assert chart.result == told["spread"]["sentence"]
        assert "by 10.00 points" in chart.result

    def test_all_are_measured_where_the_first_was_ended(self):
        chart = spread_strip(SOME, settings(), report(SOME, settings()))
        assert "after 50 % of the budget" in chart.reading
        seeds, effect = self.strips(SOME)
        found = [value for strip in (seeds, effect) for name, value in strip.items() if name != "bar"]
        assert sorted(found) == pytest.approx([41, 58, 60, 60, 62, 63])

    def test_equal_trainings_do_not_hide_each_other(self):
        same = [trial(index, 0.5, "repeat", seed=index) for index in range(3)]
        chart = spread_strip(same, settings(), report(same, settings()))
        assert isinstance(chart.figure, go.Figure)
        assert len(set(chart.figure.data[0].y)) == 3
