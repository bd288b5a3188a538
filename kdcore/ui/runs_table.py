"""Rows of the Runs page's tables."""

import math
from typing import Any

import pandas as pd

from kdcore.errors import KdcoreError
from kdcore.evaluation.gap import gap_sentence
from kdcore.evaluation.uncertainty import holm
from kdcore.evaluation.verdicts import Verdict, among
from kdcore.jobs.study_folder import StudyFolder
from kdcore.ui import words
from kdcore.ui.formatting import duration, points, told_apart
from kdcore.ui.verdict import interval_in_words

MISSING = None


def overview(studies: list[StudyFolder]) -> pd.DataFrame:
    """A row a study; what is not known (yet) is left empty. The student with all labels has a column where there is one."""
    titles = told_apart({study.id: study.title for study in studies})
    rows = [overview_row(study) | {"Study": titles[study.id]} for study in studies]
    table = pd.DataFrame(rows, columns=list(overview_row_names()))
    return table if table["All labels"].notna().any() else table.drop(columns="All labels")


def overview_row_names() -> tuple[str, ...]:
    """Columns of the overview, in order."""
    arms = ("Teacher", "Alone", "Distilled", "All labels")
    return ("Study", "State", "Data", "T", "Alpha", *arms, "Verdict", "Time", "Made")


def overview_row(study: StudyFolder) -> dict[str, Any]:
    """What the overview tells of a study beside its title; of a broken one that it cannot be read."""
    job = study.job
    row: dict[str, Any] = dict.fromkeys(overview_row_names(), MISSING)
    row |= {"State": words.STATES[job.state][0]}
    row["Made"] = pd.Timestamp.fromtimestamp(study.created) if study.created else MISSING
    try:
        settings, data = study.settings, study.data
        row |= {
            "T": settings.recipe.temperature,
            "Alpha": settings.recipe.alpha,
            "Data": (data or {}).get("name", MISSING),
        }
        row["Time"] = duration(job.seconds) if job.seconds else MISSING
        if study.finished:
            report = study.report()
            row |= scores(report) | {"Verdict": report["comparison"]["verdict"]}
    except KdcoreError:
        pass  # what could be read is shown; opening the study says what is wrong
    return row


def comparison(studies: list[StudyFolder]) -> pd.DataFrame:
    """Finished studies side by side: a column a study, a row a setting or result."""
    columns = {}
    reports = [study.report() for study in studies]
    adjusted = holm([nan_for_none(report["comparison"].get("p")) for report in reports])
    for study, report, p in zip(studies, reports, adjusted, strict=True):
        settings, arms, compared = report["settings"], report["arms"], report["comparison"]
        gain = compared["mean_ap_points"]
        between = interval_in_words(gain)
        closed = compared["share_of_gap_closed"]
        columns[study.id] = {
            "Study": study.title,
            "Data": report["data"]["name"],
            "Temperature": f"{settings['recipe']['temperature']:g}",
            "Alpha": f"{settings['recipe']['alpha']:g}",
            "Steps of a student": f"{settings['budget']['steps']:,}",
            "Seeds": str(len(settings["seeds"])),
            "Teacher, parameters": f"{arms['teacher']['parameters']:,}",
            "Student, parameters": f"{arms['distilled']['parameters']:,}",
            **{f"{name}, mean AP": score(value) for name, value in scores(report).items()},
            "Distilled minus alone, points": points(gain["mean"]) + (f" ({between})" if between else ""),
            "Share of the gap closed": "–" if closed is None else f"{100 * closed:.0f} %",
            "Verdict": compared["verdict"],
            "The gap": gap_sentence(report),
            "Verdict among these studies (Holm, exploratory)": "–"
            if math.isnan(p)
            else among(Verdict(compared["verdict"]), p),
        }
    return pd.DataFrame(columns)


def nan_for_none(value: float | None) -> float:
    """A number, nan where there is none."""
    return math.nan if value is None else value


def scores(report: dict[str, Any]) -> dict[str, float | None]:
    """Mean AP of the arms, from 0 to 100."""
    names = {"teacher": "Teacher", "alone": "Alone", "distilled": "Distilled", "all_labels": "All labels"}
    means = {name: report["arms"][arm]["mean_ap"] for arm, name in names.items() if arm in report["arms"]}
    return {name: None if mean is None else round(100 * mean, 1) for name, mean in means.items()}


def score(value: float | None) -> str:
    """A mean AP as text."""
    return "–" if value is None else f"{value:.1f}"
