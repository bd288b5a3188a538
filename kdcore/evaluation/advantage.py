"""Is the teacher clearly better than the student alone, and what made it stronger? One that is not better can hardly teach anything.

Looked at on the validation split, so that it can be told, and acted on, before the test split is read.
"""

import math
from collections.abc import Sequence
from statistics import mean
from typing import Any

from kdcore.evaluation.compare import compare
from kdcore.evaluation.scores import Scores
from kdcore.jobs.store import RunDirectory

CLEAR = 2.0  # points of mean AP


def teacher_advantage(teacher: Scores, alone: Sequence[Scores]) -> dict[str, Any] | None:
    """The teacher's mean AP minus the student alone's.

    Args:
        teacher: scores on the validation split.
        alone: those of the student alone, one for each seed.

    Returns:
        JSON values: `points` (`mean`, `low`, `high`: points of mean AP with a 95 % interval, None where one tile tells none),
        `seeds` of the student, `clear` (at least two points, and an interval above 0), and `sentence`. None where no scored
        class occurs.

    Raises:
        DataError: the scores are not of the same tiles and labels.
    """
    found = compare(alone, [teacher] * len(alone)).mean_ap_points
    if math.isnan(found.mean):
        return None
    clear = found.mean >= CLEAR and not found.low <= 0
    return {
        "points": found.to_dict(),
        "seeds": len(alone),
        "clear": clear,
        "sentence": in_words(found.mean, found.low, found.high, clear),
    }


def in_words(mean: float, low: float, high: float, clear: bool) -> str:
    """The advantage as a sentence, and what follows from it; all in points."""
    interval = "" if math.isnan(low) else f" ({low:+.1f} to {high:+.1f})"
    only = "" if clear or mean < 0 or mean >= CLEAR else "only "
    said = f"The teacher is {only}{abs(mean):.1f} points {'worse' if mean < 0 else 'better'} than the student alone on validation{interval}"
    if clear:
        return f"{said}."
    if mean >= CLEAR:
        return f"{said}, but that is uncertain: label more of the validation part, or continue to train the teacher, before you judge distillation."
    return f"{said}: it can hardly teach anything. Continue to train it before you judge distillation."


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
