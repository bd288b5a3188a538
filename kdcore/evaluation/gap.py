"""What a study's gap is measured to, and what else its teacher had: one sentence for page, report and command."""

from collections.abc import Mapping
from typing import Any

NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five"}


def gap_sentence(report: Mapping[str, Any]) -> str:
    """Between which two networks the gap lies, how wide it is, and what the teacher had that the students did not.

    Args:
        report: of a study, see `kdcore.evaluation.report`; one from before there was a student with all labels will do.
    """
    arms = report["arms"]
    alone, teacher, upper = arms["alone"], arms["teacher"], arms.get("all_labels")
    if upper is None:
        said = f"The gap lies between the student alone ({score(alone)}) and the teacher ({score(teacher)}{above(teacher, alone)})"
    else:
        said = (
            f"The gap lies between the student alone ({score(alone)}) and the same student with all labels and no teacher "
            f"({score(upper)}{above(upper, alone)}), not the teacher ({score(teacher)}{above(teacher, alone)})"
        )
    extras = teacher_extras(report)
    if extras:
        said += f"; apart from its size and its own budget, the teacher had {joined(extras)}"
    else:
        said += "; apart from its size and its own budget, the teacher had nothing that the students did not have"
    if (
        upper is None
        and arms["distilled"].get("labels", 1.0) < teacher.get("labels", 1.0)
        and not report["settings"]["teacher"]["checkpoints"]
    ):
        said += "; so the gap is partly that of the labels, because no student with all labels was trained"
    return f"{said}."


def teacher_extras(report: Mapping[str, Any]) -> list[str]:
    """What the teacher had and the students did not: labels, weights to begin from, several networks, EMA, flips."""
    settings = report["settings"]
    teacher = settings["teacher"]
    labels, teachers = (report["arms"].get(arm, {}).get("labels", 1.0) for arm in ("distilled", "teacher"))
    networks = len(teacher["checkpoints"] or teacher["seeds"])
    extras = []
    if teacher["checkpoints"]:
        extras.append(
            f"labels that are not known here (it was not trained in this study; the students had {share(labels)})"
        )
    elif labels < teachers:
        extras.append(
            f"{'all labels' if teachers >= 1 else f'{100 * teachers:.1f} % of the labels'} (the students {share(labels)})"
        )
    if teacher.get("start"):
        extras.append("a longer training (it was trained on from earlier weights)")
    if teacher["network"].get("weights") and not settings["student"].get("weights"):
        extras.append("an encoder that was trained on ImageNet")
    if networks > 1:
        extras.append(f"{NUMBERS.get(networks, str(networks))} networks that are averaged")
    if teacher["budget"].get("ema") and not settings["budget"].get("ema") and not teacher["checkpoints"]:
        extras.append("weights averaged over its training (EMA)")
    if teacher.get("flips"):
        extras.append("an average over eight flips and rotations")
    return extras


def score(arm: Mapping[str, Any]) -> str:
    """'mean AP 88.1'."""
    return "mean AP not known" if arm["mean_ap"] is None else f"mean AP {100 * arm['mean_ap']:.1f}"


def above(arm: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """', 12.7 points above' the student alone; nothing where one of the two is not known."""
    if arm["mean_ap"] is None or other["mean_ap"] is None:
        return ""
    points = round(100 * (arm["mean_ap"] - other["mean_ap"]), 1) + 0.0
    return f", {abs(points):.1f} points {'below' if points < 0 else 'above'} the student alone"


def share(labels: float) -> str:
    """'13.3 % of them'."""
    return "all of them" if labels >= 1 else f"{100 * labels:.1f} % of them"


def joined(parts: list[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
