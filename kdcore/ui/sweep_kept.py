"""What is known of a sweep, read again only when something has changed: every viewer looks every two seconds."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from kdcore.evaluation.sweep_report import sweep_report
from kdcore.jobs.small_files import modified
from kdcore.jobs.sweep_folder import SweepFolder
from kdcore.jobs.sweep_trials import TrialRecord

RENEWED = 2.0  # seconds, where a database keeps the trials and cannot be asked whether they changed


@dataclass(frozen=True)
class Found:
    """A sweep's trials and its report so far; see `kdcore.evaluation.sweep_report`."""

    trials: list[TrialRecord]
    report: dict[str, Any]


def look(sweep: SweepFolder) -> Found:
    """What is known now.

    Raises:
        KdcoreError: the sweep cannot be read.
    """
    database = sweep.settings.storage is not None
    changed = (
        time.time() // RENEWED if database else modified(sweep.journal),
        modified(sweep.settings_file),
        modified(sweep.path / "confirm" / "report.json"),
        *sweep.alive,  # whose trials are being worked on
    )
    return read(str(sweep.path), changed)


@st.cache_resource(max_entries=16, show_spinner=False)
def read(folder: str, changed: tuple[float, ...]) -> Found:
    """Read the trials; `changed` makes a new state count as another one."""
    report = sweep_report(SweepFolder(Path(folder)))
    return Found([TrialRecord.model_validate(trial) for trial in report["trials"]], report)
