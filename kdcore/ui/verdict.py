"""What a finished study came to: score, size, speed, and the verdict."""

from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from kdcore.evaluation.gap import gap_sentence
from kdcore.evaluation.verdicts import METRIC_NAMES, Verdict, ends
from kdcore.ui import words
from kdcore.ui.formatting import CARD, count, megabytes, parameters, plain, sentence, times
from kdcore.views.arms import ARM_NAMES

VERDICT_LOOKS: dict[Verdict, tuple[str, str]] = {
    Verdict.BETTER: ("green", ":material/trending_up:"),
    Verdict.WORSE: ("red", ":material/trending_down:"),
    Verdict.SAME: ("gray", ":material/trending_flat:"),
    Verdict.TOO_EARLY: ("gray", ":material/hourglass_empty:"),
}
LISTENING = {
    Verdict.BETTER: "Listening to the expert helped",
    Verdict.WORSE: "Listening to the expert did harm",
    Verdict.SAME: "Listening to the expert made no detectable difference",
    Verdict.TOO_EARLY: "Whether listening to the expert helped cannot be said yet",
}
BYTES = 4  # of a weight


def show_numbers(report: dict[str, Any], beside: DeltaGenerator | None = None) -> None:
    """Score, size and speed of the distilled student and of the teacher: a row of equal cards, or one below the other `beside` something."""
    teacher, student = report["arms"]["teacher"], report["arms"]["distilled"]
    quality, size, speed = st.columns(3) if beside is None else (beside, beside, beside)
    quality.metric(
        "Score out of 100",
        score(student),
        help=words.TERMS["score"],
        delta=f"instead of {score(teacher)}",
        **CARD,
    )
    size.metric(
        "Size",
        megabytes(BYTES * student["parameters"]),
        help=words.TERMS["size"],
        delta=f"instead of {megabytes(BYTES * teacher['parameters'])}",
        **CARD,
    )
    faster = ratio(student.get("megapixels_per_second"), teacher.get("megapixels_per_second"))
    value, where, meaning = "not measured", None, words.TERMS["speed"]
    if faster is not None:
        devices = list(dict.fromkeys(str(arm["device"]) for arm in (student, teacher)))
        same = f"both on the same {'processor' if devices[0].startswith('CPU') else 'GPU'}"
        value, where = f"{times(faster)} as fast", same if len(devices) == 1 else "on different devices"
        meaning += f" Measured on: {plain(', '.join(devices))}."
    speed.metric("Speed", value, help=meaning, delta=where, **CARD)


def plain_verdict(report: dict[str, Any]) -> str:
    """Whether listening to the teacher helped and what is still lost, in words for a person who reads nothing else, as Markdown."""
    arms, comparison = report["arms"], report["comparison"]
    teacher, student, alone = arms["teacher"], arms["distilled"], arms["alone"]
    if None in (teacher["mean_ap"], student["mean_ap"], alone["mean_ap"]):
        return plain(comparison["sentence"])
    lost = round(100 * teacher["mean_ap"]) - round(100 * student["mean_ap"])
    told = (
        f"The apprentice loses {count(lost, 'point')} to the expert"
        if lost > 0
        else "The apprentice is as good as the expert"
    )
    between = interval_in_words(comparison["mean_ap_points"])
    if between:
        between = f"(95 % confidence interval of the difference: {between} points)"
    listening = LISTENING[Verdict(comparison["verdict"])]
    return f"{told}. **{listening}**: an apprentice without expert scores {score(alone)}{between and f' {plain(between)}'}."


def interval_in_words(points: dict[str, float | None]) -> str:
    """'+0.6 to +3.0' of a report's difference, with so many decimals that it says what the verdict says; empty without interval."""
    from kdcore.evaluation.uncertainty import Difference  # with numpy: the numbers above it need not wait for that

    mean, low, high = (points[part] for part in ("mean", "low", "high"))
    return "" if mean is None or low is None or high is None else ends(Difference(mean, low, high))


def show_verdict(report: dict[str, Any]) -> None:
    """The verdict in a sentence, with its colour and sign; metrics that say something else have badges of their own."""
    comparison = report["comparison"]
    verdicts = comparison.get("verdicts", {})  # a report of an earlier version has none
    badges = badge(comparison["verdict"], comparison["verdict"].capitalize())
    for metric, points in (("mean_iou", "mean_iou_points"), ("mean_boundary_iou", "boundary_iou_points")):
        name = METRIC_NAMES[metric]
        if (
            verdicts.get(metric, comparison["verdict"]) != comparison["verdict"]
            and comparison[points]["low"] is not None
        ):
            badges += f" {badge(verdicts[metric], f'{name}: {verdicts[metric]}')}"
    said = sentence(comparison["sentence"].removeprefix(f"{Verdict.TOO_EARLY.capitalize()}: "))  # the badge says so
    with st.container(border=True):
        st.markdown(f"{badges} {plain(said)}")
        if comparison.get("basis"):
            st.caption(plain(comparison["basis"]))


def badge(verdict: str, text: str) -> str:
    """A badge with a verdict's colour and sign."""
    colour, icon = VERDICT_LOOKS[Verdict(verdict)]
    return f":{colour}-badge[{icon} {text}]"


def show_gap(report: dict[str, Any]) -> None:
    """What the gap is measured to, and what else the teacher had."""
    st.caption(plain(gap_sentence(report)))


def warn_of_teacher(advantage: dict[str, Any] | None) -> bool:
    """Say that the teacher can hardly teach, where it cannot; gives whether there was anything to say.

    Args:
        advantage: see `kdcore.evaluation.advantage`; None where it is not known.
    """
    if advantage is None or advantage["clear"]:
        return False
    st.warning(plain(advantage["sentence"]), icon=":material/school:")
    return True


def show_arms(report: dict[str, Any]) -> None:
    """The arms with what they reached and how large they are."""
    rows = ["| | Mean AP | Parameters |", "| --- | ---: | ---: |"]  # pandas would take 74 MB for three lines
    rows += [
        f"| {plain(ARM_NAMES[name])} | {score(arm, 1)} | {parameters(arm['parameters'])} |"
        for name, arm in report["arms"].items()
    ]
    st.markdown("\n".join(rows))


def show_teacher_parts(report: dict[str, Any]) -> None:
    """What made the teacher stronger, step by step; nothing where it is one network as it is."""
    parts = report["arms"]["teacher"].get("parts")
    if not parts:
        return
    import pandas as pd

    with st.expander("What made the teacher stronger", icon=":material/fitness_center:"):
        rows = {
            part["name"]: {
                "Mean AP": f"{100 * part['mean_ap']:.1f}",
                "Points more": "–" if part["points"] is None else f"{part['points']:+.2f}",
            }
            for part in parts
        }
        st.table(
            pd.DataFrame(rows).T,
            border="horizontal",
            alt="What each step added to the teacher's mean average precision",
        )
        st.caption("On the validation part. Each step with what it added to the one before.")


def ratio(over: float | None, under: float | None) -> float | None:
    """A quotient; None where it cannot be known."""
    return over / under if over is not None and under else None


def score(arm: dict[str, Any], digits: int = 0) -> str:
    """An arm's mean AP from 0 to 100, as a person repeats it: '69'."""
    return "–" if arm["mean_ap"] is None else f"{100 * arm['mean_ap']:.{digits}f}"
