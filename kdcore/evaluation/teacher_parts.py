"""What made a teacher stronger: averaged weights, the choice of the best checkpoint, several networks, turned views.

On the validation split, so that the test split is not used to choose a teacher.
"""

from collections.abc import Sequence
from statistics import mean
from typing import Any

from kdcore.jobs.store import RunDirectory


def teacher_parts(runs: Sequence[RunDirectory]) -> list[dict[str, Any]]:
    """A teacher in steps, each with what the teacher reached so far.

    Args:
        runs: finished runs of a study's teacher: its networks, and where there is one the run that scores them together.

    Returns:
        `name`, `mean_ap` (validation, 0 to 1; the mean over the networks where each stands for itself) and `points` (more than
        the step before; None in the first). Empty where there is one step only.
    """
    members = [run.read_report() for run in runs if run.trained_teacher]
    steps: list[tuple[str, float]] = []
    if members:
        last = [report["last_weights"] for report in members if "last_weights" in report]
        if len(last) == len(members):
            steps.append(("Last weights", mean(values["as_they_are"] for values in last)))
            steps.append(("Weights averaged over the last steps (EMA)", mean(values["averaged"] for values in last)))
        kept = "Best checkpoint" if len(members) == 1 else f"Best checkpoint, mean of {len(members)} networks"
        steps.append((kept, mean(report["validation"]["mean_ap"] for report in members)))
    for run in runs:
        if not run.trained_teacher:
            report, flips = run.read_report(), run.settings.teacher_flips
            if report["members"] > 1:
                together = report["without_flips"] if flips else report["validation"]["mean_ap"]
                steps.append((f"Answers of {report['members']} networks averaged", together))
            if flips:
                steps.append(("Answers to eight turned and mirrored views averaged", report["validation"]["mean_ap"]))
    if len(steps) < 2:
        return []
    before: list[float | None] = [None, *(value for _, value in steps[:-1])]
    return [
        {"name": name, "mean_ap": value, "points": None if last is None else round(100 * (value - last), 4)}
        for (name, value), last in zip(steps, before, strict=True)
    ]
