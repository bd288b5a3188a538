"""Trials that never ran, for the charts of a sweep."""

from kdcore.evaluation.sweep_report import importance_report, measure_spread
from kdcore.jobs.sweep_trials import TrialRecord
from kdcore.settings import Range, SearchSpace, SweepSettings

CENTRE = {"temperature": 10**0.5, "alpha": 0.5, "learning_rate": 1e-3, "student": "small"}


def space(**entries) -> SearchSpace:
    return SearchSpace(**{"student": ("small",), "learning_rate": Range(low=1e-4, high=1e-2, log=True)} | entries)


def settings(**values) -> SweepSettings:
    return SweepSettings(**{"space": space(), "trials": 24} | values)


def trial(number: int, quality: float | None = None, role: str = "search", **values) -> TrialRecord:
    """A finished trial, or one in another state where it has no quality."""
    told = {"quality": quality, "size": values.pop("size", 100.0), "latency": values.pop("latency", 10.0)}
    params = CENTRE | values.pop("params", {})
    if role == "baseline":
        params = {name: value for name, value in params.items() if name != "temperature"} | {"alpha": 0.0}
    state = values.pop("state", "pruned" if quality is None else "finished")
    return TrialRecord(
        number=number,
        role=role,
        state=state,
        params=params,
        values={} if quality is None else told,
        **{"ended": 1000.0 + number} | values,
    )


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
