"""What a sweep found: which setting is best, what it depends on, and whether the settings matter beside the seed variance.

Everything is on the validation split, except the confirmation. A finished trial's quality is the mean AP of its best
checkpoint; spreads are sample standard deviations in points (hundredths). Spreads are compared by their F ratio; its p-value
takes the trials' qualities for normally distributed, which they are roughly.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median, stdev
from typing import TYPE_CHECKING, Any, Literal

from scipy import special

from kdcore.evaluation.compare import Comparison, compare
from kdcore.evaluation.scores import Scores
from kdcore.jobs.small_files import read_dict
from kdcore.jobs.store import RunDirectory
from kdcore.jobs.sweep_confirm import ConfirmationPlan, best_trial
from kdcore.jobs.sweep_folder import SweepFolder
from kdcore.jobs.sweep_trials import OF_THE_TEACHER, TrialRecord, as_used
from kdcore.settings import FORMULA, Objective, Range, SweepSettings

if TYPE_CHECKING:
    import optuna

Matter = Literal["matter", "cannot tell", "do not matter", "too early", "unknown"]
FEWEST_FOR_VERDICT = 10  # finished trials with different settings
FEWEST_FOR_IMPORTANCE = 10  # finished trials of the search
TOP = 5  # trials that the importances are told from, at least, as PED-ANOVA wants them
SURE = 0.05
SPREAD_WORDS: dict[Matter, tuple[str, str]] = {  # before and behind what was measured
    "do not matter": ("The settings do not matter here", " The default will do."),
    "matter": ("The settings matter", ""),
    "cannot tell": ("No detectable effect of the settings beyond the seed variance", " More repeats would decide."),
}


@dataclass(frozen=True)
class Spread:
    """The spread between seeds beside the spread between settings.

    Attributes:
        seeds, settings: standard deviations in points of mean AP; None where there are fewer than two trials.
        repeats, trials: how many they are from.
        percent: of the budget at which they are measured: the last point that all trials reached.
        p: how often seeds alone make the settings' spread as large; None where unknown.
        verdict: whether the settings matter.
        sentence: the same for people who do not program.
    """

    seeds: float | None
    settings: float | None
    repeats: int
    trials: int
    percent: int
    p: float | None
    verdict: Matter
    sentence: str


def sweep_report(sweep: SweepFolder) -> dict[str, Any]:
    """Put the report together from whatever has ended so far.

    Returns:
        `trials` (every one, as `TrialRecord`), `counts`, `best`, `baselines`, `pareto` (numbers of trials), `importance`,
        `spread`, `confirmation` (None until there is one), `settings` and `formula`; plain JSON values.

    Raises:
        KdcoreError: the sweep cannot be read.
    """
    settings, trials = sweep.settings, sweep.trials()
    best = best_trial(trials, settings)
    spread = measure_spread(trials, settings)
    shown = [trial for trial in trials if trial.retried_as is None]
    states: list[str] = [trial.state for trial in shown]
    return {
        "trials": [trial.model_dump(mode="json") for trial in trials],
        "counts": {state: states.count(state) for state in dict.fromkeys(states)},
        "best": None if best is None else best.model_dump(mode="json"),
        "baselines": [t.model_dump(mode="json") for t in shown if t.role == "baseline" and t.state == "finished"],
        "pareto": pareto_front(trials, settings.objectives, settings.seed),
        "importance": importance_report(trials, settings, spread),
        "spread": asdict(spread),
        "confirmation": read_dict(sweep.path / "confirm" / "report.json"),
        "settings": settings.model_dump(mode="json", exclude={"storage"}),
        "formula": FORMULA,
    }


def measure_spread(trials: Sequence[TrialRecord], settings: SweepSettings) -> Spread:
    """Set the seed variance against the settings, among students of the size at the centre of the search space."""
    centre, varied, percent = spread_trials(trials, settings)
    seeds, others = ([100 * quality_at(trial, percent) for trial in group] for group in (centre, varied))
    spread = compare_spreads(seeds, others, percent)
    return spread if spread.verdict == "unknown" else too_early(spread, varied)


def too_early(spread: Spread, varied: Sequence[TrialRecord]) -> Spread:
    """Take the verdict back where few trials have finished, or where they were too short: settings may yet part."""
    assert spread.seeds is not None
    assert spread.settings is not None
    finished = [trial for trial in varied if trial.state == "finished"]
    gain = last_gain(finished)
    if len(finished) < FEWEST_FOR_VERDICT:
        why = f"{len(finished)} trials with different settings have finished, a verdict takes {FEWEST_FOR_VERDICT}"
    elif gain is not None and gain > max(spread.seeds, spread.settings):
        why = (
            f"the trials are too short, the median one still gained {gain:.2f} points between its last two validations"
        )
    else:
        return spread
    return replace(
        spread,
        verdict="too early",
        sentence=f"It is too early to say whether the settings matter: {why}. So far {in_numbers(spread)}.",
    )


def last_gain(finished: Sequence[TrialRecord]) -> float | None:
    """What the median trial gained between its last two validations, in points; None where no curve tells."""
    ends = [list(trial.curve.values())[-2:] for trial in finished if len(trial.curve) > 1]
    return 100 * median(after - before for before, after in ends) if ends else None


def spread_trials(
    trials: Sequence[TrialRecord], settings: SweepSettings
) -> tuple[list[TrialRecord], list[TrialRecord], int]:
    """Which trials show the seed variance, which the effect of the settings, and at which point of the budget.

    Seeds: the repeats of the centre. Settings: the search's trials and the centre, all with the sweep's own seed. Where some
    were ended early, all are measured at the last point that each of them reached: to leave the worst ones out would make the
    settings look alike.

    Returns:
        The repeats, the trials with different settings, and per cent of the budget.
    """
    student = settings.space.centre()["student"]
    ended = [
        trial
        for trial in trials
        if trial.params.get("student") == student
        and (trial.state == "finished" or (trial.state == "pruned" and trial.curve))
    ]
    percent = min((max(trial.curve) for trial in ended if trial.state == "pruned"), default=100)
    if percent < 100:
        ended = [trial for trial in ended if min(trial.curve, default=101) <= percent]
    centre = [trial for trial in ended if trial.role == "repeat"]
    varied = [trial for trial in ended if trial.role == "search"]
    varied += [trial for trial in centre if trial.seed == settings.seed]
    return centre, varied, percent


def quality_at(trial: TrialRecord, percent: int) -> float:
    """The best mean AP of a trial up to a point of its budget; at the end what its best checkpoint has."""
    if percent >= 100:
        return trial.values["quality"]
    return max(score for when, score in trial.curve.items() if when <= percent)


def compare_spreads(seeds: Sequence[float], settings: Sequence[float], percent: int = 100) -> Spread:
    """Say whether settings spread more than seeds do.

    Args:
        seeds: points of one setting with different seeds.
        settings: points of different settings with one seed.
        percent: of the budget at which they were measured.
    """
    if len(seeds) < 2 or len(settings) < 2:
        words = "Too few trials have ended to set the seed variance beside the settings."
        return Spread(None, None, len(seeds), len(settings), percent, None, "unknown", words)
    noise, effect = stdev(seeds), stdev(settings)
    p = spread_p(noise, effect, len(seeds), len(settings))
    verdict: Matter = "do not matter" if effect <= noise else "matter" if p < SURE else "cannot tell"
    spread = Spread(noise, effect, len(seeds), len(settings), percent, p, verdict, "")
    before, after = SPREAD_WORDS[verdict]
    return replace(spread, sentence=f"{before}: {in_numbers(spread)}.{after}")


def in_numbers(spread: Spread) -> str:
    """Both spreads, measured, as the middle of a sentence."""
    said = (
        f"trials with different settings spread by {spread.settings:.2f} points of mean AP (standard deviation of {spread.trials}), "
        f"one setting with {spread.repeats} seeds by {spread.seeds:.2f}"
    )
    if spread.percent < 100:
        said += f", both after {spread.percent} % of the budget, where the first trial was ended early"
    return said


def spread_p(noise: float, effect: float, repeats: int, trials: int) -> float:
    """Upper tail of the F distribution at the ratio of the variances; 0 where there is an effect and no seed variance at all."""
    if noise == 0:
        return 0.0 if effect > 0 else 1.0
    return float(special.fdtrc(trials - 1, repeats - 1, (effect / noise) ** 2))


def importance_report(trials: Sequence[TrialRecord], settings: SweepSettings, spread: Spread) -> dict[str, Any]:
    """How much each setting has to do with reaching the best trials, and a sentence; `values` is None with too few trials."""
    finished = [trial for trial in trials if trial.role == "search" and trial.state == "finished"]
    if len(finished) < FEWEST_FOR_IMPORTANCE:
        words = (
            f"{len(finished)} trials of the search have finished; importances are told from {FEWEST_FOR_IMPORTANCE} on."
        )
        return {"values": None, "trials": len(finished), "sentence": words}
    values = importances(finished, settings)
    top = round(len(finished) * top_share(len(finished)))
    listed = ", ".join(f"{name.replace('_', ' ')} {100 * share:.0f} %" for name, share in values.items())
    words = f"What sets the best {top} of {len(finished)} trials apart: {listed}."
    if spread.verdict != "matter":
        words += " These shares add up to 100 % even where only seeds differ, as may be the case here."
    return {"values": values, "trials": len(finished), "sentence": words}


def importances(finished: Sequence[TrialRecord], settings: SweepSettings) -> dict[str, float]:
    """Share of each searched setting by PED-ANOVA (Watanabe et al. 2023, IJCAI), largest first; they add up to 1."""
    import optuna

    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=top_share(len(finished)))
    found = optuna.importance.get_param_importances(
        as_optuna(finished, settings), evaluator=evaluator, params=list(settings.space.searched)
    )
    return {name: round(float(share), 4) for name, share in found.items()}


def top_share(trials: int) -> float:
    """Which share of the trials counts as the best."""
    return max(0.1, min(0.5, TOP / trials))


def as_optuna(
    trials: Sequence[TrialRecord],
    settings: SweepSettings,
    objectives: Sequence[Objective] = ("quality",),
    *,
    keep: Collection[str] | None = None,
    names: Mapping[str, str] | None = None,
    digits: int = 4,
) -> "optuna.Study":
    """The trials as a study in memory, for what Optuna finds in trials and draws of them.

    Args:
        trials: in the order of their numbers, which stay.
        settings: of the sweep.
        objectives: what is judged; quality in per cent.
        keep: numbers of the trials that count; the others have failed as far as Optuna is told.
        names: of the settings, as they are to be called.
        digits: of a number of a range.
    """
    import optuna

    from kdcore.jobs.sweep_storage import DIRECTIONS

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    states = optuna.trial.TrialState
    known = {
        "finished": states.COMPLETE,
        "pruned": states.PRUNED,
        "running": states.RUNNING,
        "interrupted": states.RUNNING,
    }
    entries = {name: settings.space.entries()[name] for name in settings.space.searched}
    study = optuna.create_study(directions=[DIRECTIONS[name] for name in objectives])
    for trial in trials:
        own = {
            (names or {}).get(name, name): drawable(trial.params[name], entry, digits)
            for name, entry in entries.items()
            if name in trial.params and not (trial.role == "baseline" and name in OF_THE_TEACHER)
        }
        state = known.get(trial.state, states.FAIL) if keep is None or str(trial.number) in keep else states.FAIL
        measured = {**trial.values, "quality": 100 * trial.values.get("quality", 0)}
        study.add_trial(
            optuna.create_trial(
                state=state,
                values=[measured[name] for name in objectives] if state == states.COMPLETE else None,
                params={name: value for name, (value, _) in own.items()},
                distributions={name: distribution for name, (_, distribution) in own.items()},
                intermediate_values={percent: 100 * score for percent, score in trial.curve.items()},
            )
        )
    return study


def drawable(
    value: float | str, entry: Range | Sequence[float | str], digits: int
) -> tuple[float | str, "optuna.distributions.BaseDistribution"]:
    """A setting's value with what it was chosen from; a list's numbers as text, at even distances."""
    import optuna

    if isinstance(entry, Range):
        distribution = optuna.distributions.FloatDistribution(entry.low, entry.high, log=entry.log)
        return float(as_used(float(f"{value:.{digits}g}"), entry)), distribution
    texts = [one if isinstance(one, str) else f"{one:g}" for one in entry]
    return value if isinstance(value, str) else f"{value:g}", optuna.distributions.CategoricalDistribution(texts)


def pareto_front(trials: Sequence[TrialRecord], objectives: Sequence[Objective], seed: int) -> list[int]:
    """Numbers of the finished trials of one seed that no other one beats: as good in every objective and better in one."""
    finished = [trial for trial in trials if trial.state == "finished" and trial.seed == seed]
    values = [trial.model_copy(update={"params": {}}) for trial in finished]
    front = as_optuna(values, SweepSettings(), objectives).best_trials
    return sorted(finished[trial.number].number for trial in front)


def confirmation(sweep: SweepFolder, plan: ConfirmationPlan) -> dict[str, Any]:
    """Compare the best setting with the default on the test split, seed by seed.

    Returns:
        The plan, the `comparison` (best minus default) and a `sentence`.

    Raises:
        DataError: the runs cannot be compared.
    """

    def scores(name: str) -> list[Scores]:
        return [Scores.load(RunDirectory(sweep.path / "confirm" / f"{name}-s{seed}").scores) for seed in plan.seeds]

    comparison = compare(scores("default"), scores("best"))
    values = comparison.to_dict()
    words = confirmation_in_words(comparison, *what_differs(plan.best, plan.default))
    return plan.model_dump(mode="json") | {"comparison": values | {"sentence": words}, "sentence": words}


def confirmation_in_words(comparison: Comparison, best: str, default: str) -> str:
    """The verdict for people who do not program."""
    points = comparison.mean_ap_points
    if points.mean != points.mean or points.low != points.low:
        return "The test split is too small to confirm anything: label more of it."
    interval = f"{points.mean:+.2f} points of mean AP ({100 * comparison.confidence:g} % interval {points.low:+.2f} to {points.high:+.2f}"
    interval += f", {comparison.seeds} fresh seeds, test split)"
    pair = f"the best setting ({best}) against the default ({default})"
    if comparison.seeds == 1:
        return f"One seed cannot confirm anything; {pair}: {points.mean:+.2f} points of mean AP. Use three or more."
    if comparison.verdict == "better":
        return f"Confirmed: {pair}: {interval}."
    if comparison.verdict == "worse":
        return f"Not confirmed, it is worse: {pair}: {interval}. Use the default."
    return f"Not confirmed, no detectable difference: {pair}: {interval}."


def what_differs(best: dict[str, float | str], default: dict[str, float | str]) -> tuple[str, str]:
    """Both settings in words, as far as they differ: 'temperature 3.2, alpha 0.7' and 'temperature 2, alpha 0.5'."""
    names = [name for name in best if best[name] != default[name]]
    return in_words(best, names), in_words(default, names)


def in_words(params: dict[str, float | str], names: Sequence[str]) -> str:
    """Some settings in words; a student alone has no temperature."""
    alone = params["alpha"] == 0
    return ", ".join(
        f"{name.replace('_', ' ')} {value if isinstance(value := params[name], str) else f'{value:.3g}'}"
        for name in names
        if name in params and not (alone and name in OF_THE_TEACHER and name != "alpha")
    )
