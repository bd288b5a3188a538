"""Temperature and alpha, each with a picture that moves with its slider."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pandas as pd
import streamlit as st

from kdcore.jobs.study_folder import StudyFolder
from kdcore.ui import words
from kdcore.ui.choices import ALPHAS, TEMPERATURES
from kdcore.ui.formatting import percent, plain
from kdcore.views.arms import ARM_COLOURS
from kdcore.views.softening import Pixel, soften, telling_pixels

LABELS_GREY = "#999999"


def temperature_knob(example: StudyFolder | None, usual: float) -> float:
    """The temperature's slider, and one real pixel's class probabilities, softened.

    Args:
        example: a finished study on the chosen data, whose teacher gives the pixels; None where there is none yet.
        usual: the preset's temperature.
    """
    temperature = discrete_slider("temperature", TEMPERATURES, usual)
    pixels = [] if example is None else pixels_of(example.teacher_run().maps)
    if example is None or not pixels:
        st.caption("Once a study on these data is finished, one of its pixels shows here what temperature does.")
        return temperature
    kinds = [pixel.kind for pixel in pixels]
    kind = st.segmented_control("A pixel of which the teacher is", kinds, key="pixel", default=kinds[0], required=True)
    draw_pixel(example, next(pixel for pixel in pixels if pixel.kind == kind), temperature)
    return temperature


def discrete_slider(key: str, values: Sequence[float], usual: float) -> float:
    """A slider over a few values, which stands in the address; its name and its explanation follow from `key`.

    A value between the ends that the address names is offered, too: a sweep's best one.
    """
    chosen: float = st.select_slider(
        key.capitalize(),
        sorted({*values, *named_between(key, values)}),
        usual,
        key=key,
        bind="query-params",
        format_func=lambda value: f"{value:g}",
        help=words.TERMS[key],
    )
    return chosen


def named_between(key: str, values: Sequence[float]) -> set[float]:
    """What the address named as `key` in this session, as far as it lies between the ends of `values`."""
    named: set[float] = st.session_state.setdefault(f"named {key}", set())
    with suppress(ValueError):
        value = float(st.query_params.get(key, ""))
        if values[0] <= value <= values[-1]:
            named.add(value)
    return named


def draw_pixel(example: StudyFolder, pixel: Pixel, temperature: float) -> None:
    """Bars of one pixel's probabilities at the chosen temperature, and what they mean in a sentence."""
    report = example.report()
    names = report["data"]["classes"]
    softened = soften(pixel.probabilities, temperature)
    st.bar_chart(
        pd.DataFrame({"temperature 1": 100 * pixel.probabilities, "softened": 100 * softened}, index=names),
        color=[LABELS_GREY, ARM_COLOURS["teacher"]],
        horizontal=True,
        sort=False,
        stack=False,
        y_label="Probability, %",
        alt=f"What the teacher says of one pixel at temperature {temperature:g}, against temperature 1",
    )
    first, second = pixel.probabilities.argsort()[::-1][:2]
    before = f"The teacher gives {plain(names[first])} {percent(pixel.probabilities[first], 0)}"
    if temperature == 1:
        st.caption(f"{before}. At temperature 1 the student hears exactly that.")
    else:
        st.caption(
            f"{before}. At temperature {temperature:g} the student hears {percent(softened[first], 0)}, and for {plain(names[second])} "
            f"{percent(softened[second], 0)} instead of {percent(pixel.probabilities[second], 0)}. The grey bars show temperature 1."
        )


def alpha_knob(temperature: float, usual: float) -> float:
    """Alpha's slider, and the loss with its numbers filled in."""
    alpha = discrete_slider("alpha", ALPHAS, usual)
    st.latex(formula(temperature, alpha))
    st.bar_chart(
        pd.DataFrame({"labels": [100 * (1 - alpha)], "teacher": [100 * alpha]}, index=["Loss"]),
        color=[LABELS_GREY, ARM_COLOURS["teacher"]],
        horizontal=True,
        height=190,
        y_label="Share of the loss, %",
        alt=f"The loss listens with {100 - 100 * alpha:.0f} % to the labels and with {100 * alpha:.0f} % to the teacher",
    )
    st.caption(alpha_sentence(temperature, alpha))
    return alpha


def formula(temperature: float, alpha: float) -> str:
    """The loss of the distilled student with its numbers, as LaTeX."""
    return rf"\text{{loss}} = {1 - alpha:.4g} \times \text{{task}} + {alpha:.4g} \times {temperature**2:.4g} \times \text{{KL}}"


def alpha_sentence(temperature: float, alpha: float) -> str:
    """What a value of alpha means."""
    if alpha == 0:
        return "At alpha 0 the teacher is never asked: this is the student alone, so both arms are the same."
    if alpha == 1:
        return "At alpha 1 the labels are never looked at: the student learns from the teacher alone, its mistakes included."
    louder = "the labels count more than the teacher" if alpha < 0.5 else "the teacher counts more than the labels"
    balance = "labels and teacher count the same" if alpha == 0.5 else louder
    return (
        f"Task is the student's error against the labels, KL its distance from the teacher's softened answer; {balance}. "
        f"The factor {temperature**2:.4g} is the temperature squared: it makes up for softening, which weakens the teacher's voice."
    )


@st.cache_data(max_entries=20, show_spinner=False)
def pixels_of(maps: Path) -> list[Pixel]:
    """Pixels to explain temperature with; a finished study does not change, so they are looked for once."""
    return telling_pixels(maps)
