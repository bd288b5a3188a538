"""Trials that never ran, for the charts of a sweep."""

from kdcore.runs.sweep_trials import TrialRecord
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
