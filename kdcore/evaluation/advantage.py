"""Is the teacher clearly better than the student alone? One that is not can hardly teach anything.

Looked at on the validation split, so that it can be told, and acted on, before the test split is read.
"""

import math
from collections.abc import Sequence
from typing import Any

from kdcore.evaluation.compare import compare
from kdcore.evaluation.scores import Scores

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
