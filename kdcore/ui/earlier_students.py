"""What an earlier study says of a teacher that is to be reused: whether it is better than a student of this size alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from kdcore.errors import KdcoreError
from kdcore.evaluation.advantage import teacher_advantage
from kdcore.evaluation.scores import Scores
from kdcore.jobs.store import RunDirectory
from kdcore.jobs.study_folder import StudyFolder
from kdcore.settings import StudySettings
from kdcore.ui.choices import EarlierTeacher
from kdcore.ui.formatting import plain
from kdcore.ui.verdict import warn_of_teacher


def warn_before(teacher: EarlierTeacher, settings: StudySettings, studies: Sequence[StudyFolder], data: str) -> None:
    """Say before the launch that a reused teacher can hardly teach, where an earlier student alone shows it."""
    found = earlier_students(RunDirectory(teacher.checkpoint.parent.parent), settings, studies, data)
    if found is not None:
        title, runs = found
        if warn_of_teacher(advantage_of(teacher.checkpoint.parent.parent, tuple(run.path for run in runs))):
            st.caption(f"The student alone is that of \u201c{plain(title)}\u201d.")


def earlier_students(
    teacher: RunDirectory, settings: StudySettings, studies: Sequence[StudyFolder], data: str
) -> tuple[str, list[RunDirectory]] | None:
    """The newest study on the same data that trained this student alone, with as many labels, and those runs.

    Args:
        teacher: the run that is to be reused.
        settings: of the study that is thought of.
        studies: where to look.
        data: 'demo' or the path of a collection.
    """
    for study in sorted(studies, key=lambda study: study.created, reverse=True):
        try:
            if study.read_only or str(study.source) != data:
                continue
            runs = [run for run in study.runs() if fits(run, settings, teacher)]
        except (KdcoreError, KeyError):
            continue  # a broken study has nothing to tell
        if runs:
            return study.title, runs
    return None


def fits(run: RunDirectory, settings: StudySettings, teacher: RunDirectory) -> bool:
    """Whether a run is a finished student alone of the same size, labels and data, scored on the same tiles as the teacher."""
    if not run.report.exists() or not run.validation_scores.exists() or not teacher.validation_scores.exists():
        return False
    own = run.settings
    return (
        (own.arm, own.network, own.labels) == ("alone", settings.student, settings.labels)
        and own.evaluation == teacher.settings.evaluation
        and run.read_report()["data"] == teacher.read_report()["data"]
    )


@st.cache_data(max_entries=20, show_spinner=False)
def advantage_of(teacher: Path, alone: tuple[Path, ...]) -> dict[str, Any] | None:
    """How much better a teacher is; finished runs do not change, so it is computed once. None where they cannot be compared."""
    try:
        return teacher_advantage(
            Scores.load(RunDirectory(teacher).validation_scores),
            [Scores.load(RunDirectory(run).validation_scores) for run in alone],
        )
    except KdcoreError:
        return None
