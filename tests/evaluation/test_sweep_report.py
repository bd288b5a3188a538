"""What a sweep's report says, against numbers worked out by hand and by SciPy's own distributions."""

import math
import statistics
from dataclasses import dataclass

import pytest
from scipy import stats

from kdcore.evaluation.sweep_report import (
    compare_spreads,
    confirmation_in_words,
    importance_report,
    importances,
    measure_spread,
    pareto_front,
    sweep_report,
    top_share,
    what_differs,
)
from kdcore.evaluation.uncertainty import Difference
from kdcore.evaluation.verdicts import Verdict
from kdcore.jobs.sweep_claims import Claims
from kdcore.jobs.sweep_confirm import best_trial, planned_confirmation
from kdcore.jobs.sweep_trials import TrialRecord
from kdcore.settings import SearchSpace, SweepSettings
from tests.training.sweeps import put_sweep

CENTRE = {"temperature": 10**0.5, "alpha": 0.5, "learning_rate": 1e-3, "student": "small"}


def trial(number: int, quality: float | None = None, role: str = "search", seed: int = 0, **values) -> TrialRecord:
    """A finished trial, or one that was ended early where it has no quality."""
    params = {**CENTRE, **values.pop("params", {})}
    told = {"quality": quality, "size": values.pop("size", 100.0), "latency": values.pop("latency", 10.0)}
    state = "pruned" if quality is None else "finished"
    measured = {} if quality is None else told
    return TrialRecord(number=number, role=role, seed=seed, state=state, params=params, values=measured, **values)


class TestSpread:
    def test_is_the_standard_deviation_in_points(self):
        spread = compare_spreads(seeds=[50, 52], settings=[40, 50, 60])
        assert spread.seeds == pytest.approx(math.sqrt(2))  # deviations of 1 and -1, over n - 1 = 1
        assert spread.settings == pytest.approx(10)  # deviations of -10, 0 and 10, over n - 1 = 2
        assert (spread.repeats, spread.trials) == (2, 3)
        # F = 100 / 2 with 2 and 1 degrees of freedom; the upper tail is (1 + 2 F) ** -0.5 = 101 ** -0.5.
        assert spread.p == pytest.approx(101**-0.5)
        assert spread.p == pytest.approx(stats.f.sf(50, 2, 1))

    def test_of_the_seeds_that_is_larger_means_that_the_settings_do_not_matter(self):
        spread = compare_spreads(seeds=[48, 50, 52], settings=[50, 51, 52, 51])
        assert spread.verdict == "do not matter"
        assert spread.sentence == (
            "The settings do not matter here: trials with different settings spread by 0.82 points of mean AP (standard "
            "deviation of 4), one setting with 3 seeds by 2.00. The default will do."
        )

    def test_of_the_settings_that_luck_cannot_explain_means_that_they_matter(self):
        spread = compare_spreads(seeds=[50, 50.1, 49.9], settings=[30, 40, 50, 55, 60])
        assert spread.verdict == "matter"
        assert spread.p < 0.001
        assert spread.sentence.startswith("The settings matter: ")

    def test_in_between_is_not_decided(self):
        spread = compare_spreads(seeds=[49, 50, 51], settings=[48, 50, 52])  # F = 4 with 2 and 2: p = 1 / 5
        assert spread.verdict == "cannot tell"
        assert spread.p == pytest.approx(0.2)
        assert "More repeats would decide" in spread.sentence

    def test_of_seeds_that_agree_to_the_last_digit_is_no_division_by_zero(self):
        assert compare_spreads([50, 50], [50, 51]).verdict == "matter"
        assert compare_spreads([50, 50], [50, 50]).verdict == "do not matter"

    @pytest.mark.parametrize(("seeds", "settings"), [([], []), ([50], [50, 60]), ([50, 51], [50])])
    def test_of_too_few_trials_is_unknown(self, seeds, settings):
        spread = compare_spreads(seeds, settings)
        assert (spread.verdict, spread.seeds, spread.p) == ("unknown", None, None)

    def test_counts_each_trial_where_it_belongs(self):
        trials = [
            trial(0, 0.90, role="baseline"),  # not a setting of the teacher
            trial(1, 0.50, role="repeat", seed=0),  # in both
            trial(2, 0.52, role="repeat", seed=1),
            trial(3, 0.40),
            trial(4, 0.60),
            trial(6, 0.99, params={"student": "tiny"}),  # of another size
            TrialRecord(number=7, state="failed", params=CENTRE),
        ]
        spread, wanted = measure_spread(trials, SweepSettings()), compare_spreads([50, 52], [40, 60, 50])
        assert (spread.seeds, spread.settings, spread.p) == (wanted.seeds, wanted.settings, wanted.p)
        assert (spread.repeats, spread.trials, spread.percent) == (2, 3, 100)

    def test_with_trials_ended_early_is_measured_where_all_can_be_compared(self):
        """Left out, the bad one would leave settings that agree: 'do not matter' would be wrong."""
        trials = [
            trial(0, 0.90, role="repeat", seed=0, curve={25: 0.30, 50: 0.40, 75: 0.38, 100: 0.90}),
            trial(
                1, 0.95, role="repeat", seed=1, curve={25: 0.45, 50: 0.42, 75: 0.60, 100: 0.95}
            ),  # the best so far counts
            trial(2, 0.90, curve={25: 0.20, 50: 0.41, 75: 0.60, 100: 0.90}),
            trial(3, curve={25: 0.05, 50: 0.10, 75: 0.11}),
            trial(4, curve={25: 0.01, 50: 0.02}),
        ]
        spread = measure_spread(trials, SweepSettings())
        assert spread.seeds == pytest.approx(statistics.stdev([40, 45]))
        assert spread.settings == pytest.approx(statistics.stdev([41, 10, 2, 40]))
        assert (spread.repeats, spread.trials, spread.percent) == (2, 4, 50)
        assert "both after 50 % of the budget, where the first trial was ended early" in spread.sentence

    def trials_of(self, number: int, curve: dict[int, float] | None = None) -> list[TrialRecord]:
        """Two seeds that are 8 points apart, and so many trials with settings that are 1 point apart; all end at 50 % or so."""
        repeats = [trial(0, 0.46, role="repeat"), trial(1, 0.54, role="repeat", seed=1)]
        return repeats + [trial(n + 2, 0.46 + 0.01 * (n % 2), curve=curve or {}) for n in range(number)]

    def test_of_few_trials_is_too_early_to_judge(self):
        """Six short trials once said that the settings do not matter."""
        spread = measure_spread(self.trials_of(4), SweepSettings())
        assert spread.verdict == "too early"
        assert spread.sentence.startswith(
            "It is too early to say whether the settings matter: 5 trials with different settings have finished, a verdict takes "
            "10. So far trials with different settings spread by 0.55 points"  # 46 twice and the centre's 46, 47 twice
        )
        assert not spread.sentence.endswith("The default will do.")

    def test_from_ten_trials_on_is_judged(self):
        assert measure_spread(self.trials_of(8), SweepSettings()).verdict == "too early"
        assert measure_spread(self.trials_of(9), SweepSettings()).verdict == "do not matter"  # and the centre

    def test_of_short_trials_is_too_early_to_judge(self):
        """Where the trials still gain more than anything differs, they would differ otherwise had they been longer."""
        short = measure_spread(self.trials_of(12, {80: 0.34, 100: 0.46}), SweepSettings())
        assert short.verdict == "too early"
        assert (
            "the trials are too short, the median one still gained 12.00 points between its last two validations"
            in short.sentence
        )
        flat = measure_spread(self.trials_of(12, {80: 0.44, 100: 0.46}), SweepSettings())
        assert flat.verdict == "do not matter"

    def test_that_is_clear_is_not_taken_back_because_trials_still_gain(self):
        far = [trial(0, 0.50, role="repeat"), trial(1, 0.51, role="repeat", seed=1)]
        far += [trial(n + 2, 0.2 + 0.05 * n, curve={80: 0.1 + 0.05 * n, 100: 0.2 + 0.05 * n}) for n in range(12)]
        assert measure_spread(far, SweepSettings()).verdict == "matter"

    def test_of_noise_alone_is_called_a_matter_as_rarely_as_promised(self):
        """Settings and seeds from one distribution: 'matter' is wrong, and may come out in at most 5 % of the cases."""
        import numpy as np

        rng = np.random.default_rng(0)
        wrong = sum(
            compare_spreads(rng.normal(size=3).tolist(), rng.normal(size=20).tolist()).verdict == "matter"
            for _ in range(2000)
        )
        assert wrong / 2000 == pytest.approx(0.05, abs=0.015)


class TestImportances:
    def trials(self, number: int = 40) -> list[TrialRecord]:
        """Quality depends on alpha alone; temperature varies independently of it."""
        return [
            trial(
                index,
                1 - ((index * 0.618) % 1 - 0.5) ** 2,
                params={"alpha": (index * 0.618) % 1, "temperature": 10 ** ((index * 0.414) % 1)},
            )
            for index in range(number)
        ]

    def test_name_what_the_quality_depends_on(self):
        values = importances(self.trials(), SweepSettings())
        assert list(values) == ["alpha", "temperature"]
        assert values["alpha"] > 0.7
        assert sum(values.values()) == pytest.approx(1, abs=1e-3)

    def test_of_lists_work_too(self):
        space = SearchSpace(temperature=2, alpha=0.5, student=["tiny", "small"], learning_rate=[1e-4, 1e-3, 1e-2])
        trials = [
            trial(
                index,
                0.4 + 0.2 * (index % 2) + 0.001 * (index * 7 % 5),
                params={"student": ("tiny", "small")[index % 2], "learning_rate": (1e-4, 1e-3, 1e-2)[index % 3]},
            )
            for index in range(24)
        ]
        values = importances(trials, SweepSettings(space=space))
        assert list(values) == ["student", "learning_rate"]
        assert values["student"] > 0.7

    def test_are_not_told_from_few_trials(self):
        spread = compare_spreads([50, 51], [40, 60, 70])
        told = importance_report(self.trials(9), SweepSettings(), spread)
        assert told["values"] is None
        assert told["sentence"] == "9 trials of the search have finished; importances are told from 10 on."

    def test_warn_where_luck_may_decide(self):
        luck = compare_spreads([48, 50, 52], [50, 51, 52, 51])
        effect = compare_spreads([50, 50.1, 49.9], [30, 40, 50, 55, 60])
        told = [importance_report(self.trials(), SweepSettings(), spread)["sentence"] for spread in (luck, effect)]
        assert told[0].startswith("What sets the best 5 of 40 trials apart: alpha ")
        assert told[0].endswith("as may be the case here.")
        assert not told[1].endswith("as may be the case here.")

    def test_leave_out_repeats_and_students_alone(self):
        trials = [trial(100 + index, 0.5, role="repeat", seed=index) for index in range(20)]
        assert importance_report(trials, SweepSettings(), compare_spreads([], []))["trials"] == 0

    def test_are_told_from_five_trials_at_least(self):
        assert top_share(10) == 0.5
        assert top_share(25) == 0.2
        assert top_share(1000) == 0.1


class TestParetoFront:
    def test_holds_what_no_other_trial_beats(self):
        trials = [
            trial(0, 0.50, size=100),
            trial(1, 0.60, size=100),  # beats 0
            trial(2, 0.60, size=200),  # as good as 1, but larger
            trial(3, 0.70, size=300),
            trial(4, 0.40, size=50),
            trial(5, size=10),  # ended early
            trial(6, 0.99, seed=1, size=1),  # another seed: not comparable
        ]
        assert pareto_front(trials, ("quality", "size"), 0) == [1, 3, 4]
        assert pareto_front(trials, ("quality",), 0) == [3]
        assert pareto_front(trials, ("size",), 0) == [4]

    def test_keeps_equals(self):
        assert pareto_front([trial(0, 0.5), trial(1, 0.5)], ("quality", "latency"), 0) == [0, 1]


class TestTheBest:
    def test_is_of_the_sweeps_own_seed_and_may_be_the_student_alone(self):
        trials = [trial(0, 0.7, role="baseline"), trial(1, 0.9, role="repeat", seed=1), trial(2, 0.6), trial(3)]
        assert best_trial(trials, SweepSettings()).number == 0

    def test_of_nothing_is_none(self):
        assert best_trial([trial(0)], SweepSettings()) is None

    def test_is_chosen_once(self, tmp_path):
        sweep = put_sweep(tmp_path / "sweep", trials=7, confirm=2)
        claims = Claims(sweep)
        for quality in (0.1, 0.2, 0.3, 0.5, 0.4):
            claims.finish(claims.next(), {"quality": quality, "size": 1.0, "latency": 1.0})
        plan = planned_confirmation(sweep)
        assert (plan.trial, plan.seeds) == (3, (10_000, 10_001))
        assert plan.default["student"] == plan.best["student"]
        claims.finish(claims.next(), {"quality": 0.9, "size": 1.0, "latency": 1.0})
        assert planned_confirmation(sweep) == plan


@dataclass(frozen=True)
class Compared:
    """What the words need of a comparison."""

    mean_ap_points: Difference
    verdict: Verdict
    seeds: int
    confidence: float = 0.95


def comparison(mean: float, low: float, high: float, verdict: Verdict, seeds: int = 3) -> Compared:
    return Compared(Difference(mean, low, high), verdict, seeds)


class TestConfirmation:
    PAIR = what_differs(
        {**CENTRE, "alpha": 0.71234, "task": "cross_entropy"},
        {**CENTRE, "temperature": 2.0, "task": "cross_entropy"},
    )

    def test_names_only_what_differs(self):
        assert self.PAIR == ("temperature 3.16, alpha 0.712", "temperature 2, alpha 0.5")

    def test_of_a_student_alone_names_no_temperature(self):
        best, default = what_differs({**CENTRE, "alpha": 0.0}, {**CENTRE, "temperature": 2.0})
        assert (best, default) == ("alpha 0", "temperature 2, alpha 0.5")

    def test_that_succeeds(self):
        assert confirmation_in_words(comparison(1.5, 0.4, 2.6, Verdict.BETTER), *self.PAIR) == (
            "Confirmed: the best setting (temperature 3.16, alpha 0.712) against the default (temperature 2, alpha 0.5): "
            "+1.50 points of mean AP (95 % interval +0.40 to +2.60, 3 fresh seeds, test split)."
        )

    def test_that_fails(self):
        words = confirmation_in_words(comparison(-1.5, -2.6, -0.4, Verdict.WORSE), *self.PAIR)
        assert words.startswith("Not confirmed, it is worse: ")
        assert words.endswith("Use the default.")
        words = confirmation_in_words(comparison(0.1, -1, 1.2, Verdict.SAME), *self.PAIR)
        assert words.startswith("Not confirmed, no detectable difference: ")

    def test_with_one_seed_confirms_nothing(self):
        words = confirmation_in_words(comparison(9, 8, 10, Verdict.TOO_EARLY, seeds=1), *self.PAIR)
        assert words.startswith("One seed cannot confirm anything")

    def test_on_one_tile_says_so(self):
        words = confirmation_in_words(comparison(1, math.nan, math.nan, Verdict.TOO_EARLY), *self.PAIR)
        assert words == "The test split is too small to confirm anything: label more of it."


def test_the_report_of_a_sweep_that_runs_is_what_there_is(tmp_path):
    sweep = put_sweep(tmp_path / "sweep")
    empty = sweep_report(sweep)
    assert (empty["best"], empty["trials"], empty["confirmation"]) == (None, [], None)
    claims = Claims(sweep)
    claims.finish(claims.next(), {"quality": 0.3, "size": 1.0, "latency": 1.0})
    claims.finish(claims.next(), {"quality": 0.5, "size": 1.0, "latency": 1.0})
    report = sweep_report(sweep)
    assert report["best"]["number"] == 1
    assert [entry["number"] for entry in report["baselines"]] == [0]
    assert report["counts"] == {"finished": 2, "waiting": 1}
    assert report["pareto"] == [1]
    assert report["spread"]["verdict"] == "unknown"


def test_the_report_never_holds_the_databases_url(tmp_path):
    sweep = put_sweep(tmp_path / "sweep", storage=f"sqlite:///{tmp_path}/secret.db")
    assert "secret.db" not in str(sweep_report(sweep))
