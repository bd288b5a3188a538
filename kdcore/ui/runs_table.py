"""Rows of the Runs page's tables."""

from typing import Any

import pandas as pd

from kdcore.errors import KdcoreError
from kdcore.jobs.study_folder import StudyFolder
from kdcore.ui import words
from kdcore.ui.formatting import duration, told_apart
from kdcore.ui.runs_notes import about_of

MISSING = None


def overview(studies: list[StudyFolder]) -> pd.DataFrame:
    """A row a study; what is not known (yet) is left empty. All labels, tags and notes have a column where a study has them."""
    titles = told_apart({study.id: study.title for study in studies})
    rows = [overview_row(study) | {"Study": titles[study.id]} for study in studies]
    table = pd.DataFrame(rows, columns=list(overview_row_names()))
    return table.drop(columns=[name for name in ("All labels", "Tags", "Note") if table[name].isna().all()])


def overview_row_names() -> tuple[str, ...]:
    """Columns of the overview, in order."""
    arms = ("Teacher", "Alone", "Distilled", "All labels")
    return ("Study", "Tags", "State", "Data", "T", "Alpha", *arms, "Verdict", "Time", "Made", "Note")


def overview_row(study: StudyFolder) -> dict[str, Any]:
    """What the overview tells of a study beside its title; of a broken one that it cannot be read."""
    job = study.job
    row: dict[str, Any] = dict.fromkeys(overview_row_names(), MISSING)
    row |= {"State": words.STATES[job.state][0]}
    about = about_of(study)
    row |= {"Tags": list(about.tags) or MISSING, "Note": about.note or MISSING}
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


def scores(report: dict[str, Any]) -> dict[str, float | None]:
    """Mean AP of the arms, from 0 to 100."""
    names = {"teacher": "Teacher", "alone": "Alone", "distilled": "Distilled", "all_labels": "All labels"}
    means = {name: report["arms"][arm]["mean_ap"] for arm, name in names.items() if arm in report["arms"]}
    return {name: None if mean is None else round(100 * mean, 1) for name, mean in means.items()}
