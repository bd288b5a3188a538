"""What a finished study came to: quality kept, size, speed, and the verdict."""

from typing import Any

import streamlit as st

from kdcore.evaluation.gap import gap_sentence
from kdcore.evaluation.verdicts import METRIC_NAMES, Verdict
from kdcore.ui import words
from kdcore.ui.cards import CARD
from kdcore.ui.formatting import parameters, percent, plain, times
from kdcore.views.arms import ARM_NAMES

VERDICT_LOOKS: dict[Verdict, tuple[str, str]] = {
    Verdict.BETTER: ("green", ":material/trending_up:"),
    Verdict.WORSE: ("red", ":material/trending_down:"),
    Verdict.SAME: ("gray", ":material/trending_flat:"),
    Verdict.TOO_EARLY: ("gray", ":material/hourglass_empty:"),
}


def show_numbers(report: dict[str, Any]) -> None:
    """Quality kept, size and speed of the distilled student against the teacher, in a row of equal cards."""
    teacher, student = report["arms"]["teacher"], report["arms"]["distilled"]
    kept = ratio(student["mean_ap"], teacher["mean_ap"])
    quality, size, speed = st.columns(3)
    quality.metric(
        "Quality kept",
        "–" if kept is None else percent(kept, 0),
        help=words.TERMS["quality kept"],
        delta=f"mean AP {score(student)} of {score(teacher)}",
        **CARD,
    )
    size.metric(
        "Size",
        f"{times(teacher['parameters'] / student['parameters'])} smaller",
        help="Parameters are the numbers that a network has learnt; they decide how much memory it needs.",
        delta=f"{parameters(student['parameters'])} instead of {parameters(teacher['parameters'])} parameters",
        **CARD,
    )
    faster = ratio(student.get("megapixels_per_second"), teacher.get("megapixels_per_second"))
    speed.metric(
        f"Speed on {plain(student['device'])}",
        "not measured"
        if faster is None
        else f"{times(faster)} faster"
        if faster >= 1
        else f"{times(1 / faster)} slower",
        help="Megapixels of imagery that a network marks in a second, without reading and writing files.",
        delta=None
        if faster is None
        else f"{student['megapixels_per_second']:.2g} instead of {teacher['megapixels_per_second']:.2g} megapixels a second",
        **CARD,
    )


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
    with st.container(border=True):
        st.markdown(f"{badges} {plain(comparison['sentence'])}")
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
    import pandas as pd  # a third of a second, after the numbers are on screen

    rows = {
        ARM_NAMES[name]: {"Mean AP": score(arm), "Parameters": parameters(arm["parameters"])}
        for name, arm in report["arms"].items()
    }
    st.table(pd.DataFrame(rows).T, border="horizontal", alt="Mean average precision and size of the arms")


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


def score(arm: dict[str, Any]) -> str:
    """An arm's mean AP, from 0 to 100."""
    return "–" if arm["mean_ap"] is None else f"{100 * arm['mean_ap']:.1f}"
