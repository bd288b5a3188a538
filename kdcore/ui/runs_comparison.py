"""Finished studies side by side on the Runs page: what they differ in, what they reached, and their curves over each other."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from kdcore.errors import KdcoreError
from kdcore.evaluation.bands import StudyCurves
from kdcore.evaluation.gap import gap_sentence
from kdcore.evaluation.operating import MEAN
from kdcore.evaluation.uncertainty import holm
from kdcore.evaluation.verdicts import Verdict, among
from kdcore.jobs.study_folder import StudyFolder
from kdcore.ui.curves import load_curves, stamp
from kdcore.ui.formatting import plain, points, told_apart
from kdcore.ui.runs_table import scores
from kdcore.ui.verdict import interval_in_words
from kdcore.views.arms import ARM_NAMES
from kdcore.views.compared import studies_figure
from kdcore.views.layout import CONFIG
from kdcore.views.quality import estimate

MOST_COMPARED = 10
SHORT = {"teacher": "Teacher", "alone": "Alone", "distilled": "Distilled", "all_labels": "All labels"}


def show_comparison(studies: Sequence[StudyFolder]) -> None:
    """Finished studies side by side."""
    finished = [study for study in studies if study.finished]
    if len(finished) > MOST_COMPARED:
        st.info(f"The first {MOST_COMPARED} of {len(finished)} finished studies are compared.", icon=":material/info:")
        finished = finished[:MOST_COMPARED]
    if len(finished) < 2:
        st.caption("Studies are compared once two of the chosen ones are finished.")
        return
    st.subheader("Side by side")
    titles = told_apart({study.id: study.title for study in finished})
    curves = curves_of(finished)
    st.dataframe(
        comparison(finished, curves),
        height="content",
        column_config={study.id: st.column_config.TextColumn(titles[study.id]) for study in finished},
        alt="Differing settings, and results, of the chosen studies, one column a study",
    )
    st.caption("Settings that are the same in all of them are left out. Mean AP with 95 % confidence intervals.")
    if len({(study.data or {}).get("hash") for study in finished}) > 1:
        st.caption(
            "These studies were tested on different data, so only the differences inside a study can be compared."
        )
    if len(curves) > 1:
        show_curves({titles[id]: found for id, found in curves.items()})


def curves_of(studies: Sequence[StudyFolder]) -> dict[str, StudyCurves]:
    """The curves of each study by its id, without those whose scores cannot be read."""
    found = {}
    for study in studies:
        try:
            found[study.id] = load_curves(str(study.path), stamp(study))
        except KdcoreError as error:
            st.warning(plain(f"{study.title}: {error}"), icon=":material/broken_image:")
    return found


def show_curves(curves: Mapping[str, StudyCurves]) -> None:
    """Precision-recall curves of one network of each study; `curves` by the studies' names on screen."""
    arms = [arm for arm in ARM_NAMES if all(arm in found.arms for found in curves.values())]
    arm = st.segmented_control(
        "Network", arms, default="distilled", required=True, key="compared", format_func=ARM_NAMES.__getitem__
    )
    arm = arm or "distilled"
    said = "; ".join(f"{title} AP {estimate(found.arms[arm].ap[MEAN])}" for title, found in curves.items())
    st.plotly_chart(
        studies_figure(curves, arm),
        key="studies",
        config=CONFIG,
        alt=f"Precision-recall curves of the {ARM_NAMES[arm].lower()} of each study: {said}",
    )


def comparison(studies: Sequence[StudyFolder], curves: Mapping[str, StudyCurves]) -> pd.DataFrame:
    """Finished studies side by side: a column a study; a row for each setting that differs, then the results."""
    columns = {}
    reports = [study.report() for study in studies]
    differing = differing_settings([report["settings"] for report in reports])
    adjusted = holm([nan_for_none(report["comparison"].get("p")) for report in reports])
    for study, report, chosen, p in zip(studies, reports, differing, adjusted, strict=True):
        arms, compared = report["arms"], report["comparison"]
        gain = compared["mean_ap_points"]
        between = interval_in_words(gain)
        closed = compared["share_of_gap_closed"]
        columns[study.id] = {
            "Data": report["data"]["name"],
            **chosen,
            "Teacher, parameters": f"{arms['teacher']['parameters']:,}",
            "Student, parameters": f"{arms['distilled']['parameters']:,}",
            **mean_aps(report, curves.get(study.id)),
            "Distilled minus alone, points": points(gain["mean"]) + (f" ({between})" if between else ""),
            "Share of the gap closed": "–" if closed is None else f"{100 * closed:.0f} %",
            "Verdict": compared["verdict"],
            "The gap": gap_sentence(report),
            "Verdict among these studies (Holm, exploratory)": "–"
            if math.isnan(p)
            else among(Verdict(compared["verdict"]), p),
        }
    return pd.DataFrame(columns).fillna("–")


def mean_aps(report: Mapping[str, Any], curves: StudyCurves | None) -> dict[str, str]:
    """Mean AP of the arms from 0 to 100, with intervals where the curves are known."""
    known = {name: "–" if value is None else f"{value:.1f}" for name, value in scores(dict(report)).items()}
    if curves is not None:
        known |= {SHORT[arm]: estimate(measured.ap[MEAN]) for arm, measured in curves.arms.items()}
    return {f"{name}, mean AP": text for name, text in known.items()}


def differing_settings(settings: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """For each of some studies the settings that are not the same in all, as texts by their names as in docs/settings.md."""
    flat = [flattened(one) for one in settings]
    names = dict.fromkeys(name for one in flat for name in one)
    wanted = [name for name in names if len({one.get(name, "–") for one in flat}) > 1]
    return [{name: one.get(name, "–") for name in wanted} for one in flat]


def flattened(values: Mapping[str, Any], before: str = "") -> dict[str, str]:
    """Nested settings as 'recipe.temperature': '2'."""
    found: dict[str, str] = {}
    for key, value in values.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping) and value:
            found |= flattened(value, f"{name}.")
        elif isinstance(value, str):
            found[name] = value
        elif isinstance(value, list):
            found[name] = ", ".join(part if isinstance(part, str) else json.dumps(part) for part in value) or "none"
        else:
            found[name] = f"{value:g}" if isinstance(value, float) else json.dumps(value)
    return found


def nan_for_none(value: float | None) -> float:
    """A number, nan where there is none."""
    return math.nan if value is None else value
