"""What a deployment gains: the headline with its four numbers, the Pareto chart, and the table behind it."""

from typing import Any

import pandas as pd
import streamlit as st

from kdcore.deploy.record import Deployment
from kdcore.ui.formatting import CARD, count, plain
from kdcore.views.arms import ARM_NAMES
from kdcore.views.deploy import (
    Headline,
    Variant,
    better_teacher,
    factor,
    headline,
    inside,
    quality,
    variant_rows,
    where_lost,
)
from kdcore.views.layout import CONFIG
from kdcore.views.pareto import AXES, Point, front, pareto_figure, points_of

INT8 = "int8: the network's numbers are kept as 8-bit integers instead of 32-bit decimals."
BF16 = "bf16: OpenVINO computes with 16-bit decimals (bfloat16) instead of 32-bit ones; the file is the same."


def show_headline(known: Deployment, report: dict[str, Any]) -> None:
    """What it comes to in a sentence, and speed, quality, file and memory beside their reference.

    Args:
        known: what was exported and measured.
        report: of the study, which knows the teacher even where its weights are not here.
    """
    found = headline(known)
    if found is None:
        st.info("The distilled student was not measured, so there is nothing to compare.", icon=":material/info:")
        return
    st.markdown(f"**{plain(found.sentence)}**")
    if said := better_teacher(known, found):
        st.warning(plain(said), icon=":material/school:")
    if found.reference.form.arm != "teacher":
        st.caption(without_teacher(report))
    elif said := where_lost(known, found):
        st.caption(said)
    show_numbers(known, found)


def without_teacher(report: dict[str, Any]) -> str:
    """Why the student is compared with itself, and how good the teacher was, as far as the study's report tells."""
    said = "The teacher was not measured here, so the student is compared with its own original."
    mean_ap = report["arms"]["teacher"]["mean_ap"]
    return (
        said if mean_ap is None else f"{said} On the test split the teacher reached a mean AP of {100 * mean_ap:.1f}."
    )


def show_numbers(known: Deployment, found: Headline) -> None:
    """Four equal cards."""
    student, reference = found.student, found.reference
    assert student.speed is not None
    assert reference.speed is not None
    against = f"{inside(student.form.arm).capitalize()} in {student.name} against {inside(reference.form.arm)} in {reference.name}."
    speed, score, file, memory = st.columns(4)
    card(
        speed,
        "Faster" if found.faster >= 1 else "Slower",
        f"{factor(max(found.faster, 1 / found.faster))} times",
        f"{student.speed.megapixels_per_second:.3g}, not {reference.speed.megapixels_per_second:.3g} MPx/s",
        f"{against} Megapixels a second, reading and writing files left out: {spread(student)}, not {spread(reference)}.",
    )
    before, after = quality(reference.form, known), quality(student.form, known)
    card(
        score,
        "Quality",
        "not scored" if found.points is None else f"{round(found.points, 1) + 0.0:+.1f} points".replace("-", "−"),
        None
        if before is None or after is None
        else f"mean AP {100 * after.mean_ap:.1f}, not {100 * before.mean_ap:.1f}",
        f"{against} Mean AP on the test split: 100 is perfect. The student is the first seed's; Start and Curves show means over seeds."
        + (
            " The student's is expected from its difference on validation."
            if after is not None and after.expected
            else ""
        ),
    )
    smaller = reference.form.megabytes / student.form.megabytes
    card(
        file,
        "Smaller file" if smaller >= 1 else "Larger file",
        f"{factor(max(smaller, 1 / smaller))} times",
        f"{student.form.megabytes:.2g}, not {reference.form.megabytes:.2g} MB",
        f"{against} The file has to be copied to where it is used.",
    )
    less = reference.speed.peak_mb / student.speed.peak_mb
    card(
        memory,
        "Less memory" if less >= 1 else "More memory",
        f"{factor(max(less, 1 / less))} times",
        f"{student.speed.peak_mb:,.0f}, not {reference.speed.peak_mb:,.0f} MB",
        f"{against} Most memory of a process that does nothing but run the network, its libraries included.",
    )


def spread(variant: Variant) -> str:
    """'6.2 (5.9 to 6.4)': megapixels a second, with those of the slowest and the fastest round where they are known."""
    speed = variant.speed
    assert speed is not None
    rounds = "" if speed.slowest is None else f" ({speed.slowest:.3g} to {speed.fastest:.3g})"
    return f"{speed.megapixels_per_second:.3g}{rounds}"


def card(place: st.delta_generator.DeltaGenerator, name: str, value: str, detail: str | None, explained: str) -> None:
    """A number with what it is compared to."""
    place.metric(
        name,
        value,
        help=explained,
        delta=detail,
        **CARD,
    )


def show_pareto(known: Deployment) -> None:
    """Quality against speed, size or operations, with how to read it, and the same numbers as a table."""
    st.header("Which network, in which engine?")
    left, right = st.columns([0.6, 0.4], vertical_alignment="bottom")
    with right:
        chosen = st.segmented_control(
            "Quality against",
            list(AXES),
            format_func=lambda key: AXES[key].label,
            default="speed",
            required=True,
            key="against",
            bind="query-params",
        )
    measure = chosen or "speed"
    points = points_of(known, measure)
    left.markdown(reading_help(known, points))
    if points:
        best = "; ".join(
            f"{ARM_NAMES[point.variant.form.arm].lower()} in {point.variant.name}, mean AP {100 * point.quality.mean_ap:.1f}, "
            f"{point.x:.3g} {AXES[measure].unit}"
            for point in front(points, AXES[measure].more)
        )
        st.plotly_chart(
            pareto_figure(known, measure),
            key=f"pareto {measure}",
            config=CONFIG,
            alt=f"Mean AP against {AXES[measure].label.lower()}. Nothing beats: {best}",
        )
    else:
        st.info("There is no test split, or nothing was measured: no chart can be drawn.", icon=":material/info:")
    show_table(known)


def reading_help(known: Deployment, points: list[Point]) -> str:
    """How to read the chart, and what of the refused forms is in it."""
    said = (
        "Up is better, and right is better. For every network off the dotted line there is one on it that is at least as good "
        "in both. Point at one to see its numbers."
    )
    refused = [form for form in known.forms if form.refused]
    shown = [point.variant.form for point in points if not point.offered]
    if shown:
        said += " Hollow ones are refused."
    missing = sum(form not in shown for form in refused)
    if missing:
        said += (
            f" {count(missing, 'refused form')} {'is' if missing == 1 else 'are'} not in this chart, only in the table."
        )
    return said


def show_table(known: Deployment) -> None:
    """Every variant with its numbers."""
    decimals = {
        "Mean AP": "%.1f",
        "Megapixels a second": "%.2f",
        "ms a tile": "%.0f",
        "File, MB": "%.2f",
        "Watts": "%.0f",
    }
    columns: dict[str, Any] = {name: st.column_config.NumberColumn(format=form) for name, form in decimals.items()}
    columns |= {
        "Network": st.column_config.TextColumn(pinned=True),
        "Memory, MB": st.column_config.NumberColumn(
            format="localized", help="Most memory of a process that does nothing but run the network."
        ),
        "Operations a pixel": st.column_config.NumberColumn(
            format="compact", help="Multiplications and additions (MACs) for one pixel."
        ),
    }
    st.dataframe(
        pd.DataFrame(variant_rows(known)).dropna(axis="columns", how="all"),
        hide_index=True,
        height="content",
        placeholder="–",
        column_config=columns,
        alt="Every network in every form and engine, with quality, speed and size",
    )
    kinds = INT8 + (f" {BF16}" if any(form.kind == "bf16" for form in known.forms) else "")
    st.caption(f"{kinds} ONNX: a file format that many programs can run. PyTorch: what the networks were trained in.")
