"""How long a study would take, on the Train page."""

import os
import time
from dataclasses import replace
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from kdcore.data.collection import Extent
from kdcore.errors import KdcoreError
from kdcore.jobs.forecast import Costs, Left, forecast, measured_costs, read_probes
from kdcore.jobs.progress import Progress
from kdcore.jobs.question import Measurement
from kdcore.jobs.study_folder import StudyFolder
from kdcore.settings import StudySettings
from kdcore.teacher import cost
from kdcore.teacher.cost import SoftLabelCost, soft_label_cost
from kdcore.ui.choices import DEMO
from kdcore.ui.formatting import count, duration, megabytes, plain, sentence
from kdcore.ui.people import locked, permit
from kdcore.ui.stages import doing
from kdcore.ui.study_picker import recent_studies, workspace


def tell_time(settings: StudySettings, data: str, studies: int = 0) -> None:
    """Say how long the study would take and what it keeps on the disk.

    Args:
        settings: of the study.
        data: 'demo' or the path of a collection.
        studies: of a label curve, which take about as long each, but that the teacher is trained once; 0 for a study of its own.
    """
    costs, extent = costs_of(workspace().path), extent_of(data, settings.budget.crop)
    kept = None if extent is None else soft_label_cost(settings, extent, costs)
    sentences = [time_sentence(settings, costs, kept, None if extent is None else extent.scored)]
    if kept is not None:
        sentences.append(soft_labels_sentence(kept, settings.hardware.cache_gb))
    if studies:
        sentences.insert(0, f"{count(studies, 'study')}, one for each share; the teacher is trained once. The first:")
    st.caption(" ".join(sentences))


def offer_to_measure(settings: StudySettings, place: DeltaGenerator) -> None:
    """A button that measures networks of which no step was measured yet; none where all were. It is told in `place` how far that is."""
    if forecast(settings, costs_of(workspace().path)) is None and st.button(
        "Measure",
        icon=":material/timer:",
        help="Does five steps of each network on made-up crops: less than a minute.",
        disabled=locked(),
    ):
        measure(settings, place)


@st.cache_data(ttl=60, max_entries=16, show_spinner=False)
def extent_of(data: str, crop: int) -> Extent | None:
    """How much there is to ask a teacher about; None where the data cannot be read."""
    return cost.extent_of(DEMO if data == DEMO else Path(data), crop)


@st.cache_data(ttl=20, max_entries=4, show_spinner=False)
def costs_of(path: Path) -> Costs:
    """What steps cost on this machine, read from the workspace at most every 20 seconds."""
    return measured_costs(recent_studies(), read_probes(workspace()))


def left_of(study: StudyFolder) -> Left | None:
    """See `kdcore.teacher.cost.left_of`."""
    extent = extent_of(str(study.source), study.settings.budget.crop)
    return cost.left_of(study, costs_of(workspace().path), extent, time.time())


def time_sentence(
    settings: StudySettings, costs: Costs, kept: SoftLabelCost | None = None, scored: tuple[int, int] | None = None
) -> str:
    """How long it will take, from measurements; or that there are none yet."""
    given = bool(settings.teacher.checkpoints)
    trainings = count((0 if given else len(settings.teacher.seeds)) + 2 * len(settings.seeds), "training")
    expected = forecast(settings, costs, scored, (kept and kept.seconds) or 0.0)
    if expected is None:
        return f"{trainings}. These networks were not measured on this machine yet, so the time is not known before it runs."
    about = "About" if expected.measured else "Roughly"
    scoring = "" if expected.scoring else " Scoring comes on top."
    beside = "" if costs.beside else " Reading the data and drawing the map come on top."
    return f"{trainings}. {about} {duration(expected.seconds)}, from steps that were measured on this machine.{scoring}{beside}"


def soft_labels_sentence(kept: SoftLabelCost, limit_gb: float) -> str:
    """What keeping the teacher's soft labels takes."""
    if kept.bytes > limit_gb * 1e9:
        return (
            f"The teacher's soft labels would take {megabytes(kept.bytes)}, more than the {limit_gb:g} GB allowed: they are computed at "
            "each step instead."
        )
    seconds = "" if kept.seconds is None else f", and about {duration(kept.seconds)} of that time"
    views = "eight views" if kept.views > 1 else "one view"
    return f"The teacher's soft labels of {views} take {megabytes(kept.bytes)} on the disk{seconds}."


def measure(settings: StudySettings, place: DeltaGenerator) -> None:
    """Measure in a process of its own, and draw the page anew.

    Args:
        settings: of the study whose networks are measured.
        place: where it is told how far that is, in place of what stood there: nothing on the page moves.
    """
    asked = {"workspace": str(workspace().path), "study": settings.model_dump(mode="json")}
    try:
        permit("measured", "speed of networks")
        Measurement.ask(asked, lambda told: tell_measuring(told, place))
    except KdcoreError as error:
        place.error(plain(sentence(str(error).replace(f"{workspace().path}{os.sep}", ""))), icon=":material/error:")
        return
    costs_of.clear()
    st.rerun()


def tell_measuring(told: Progress, place: DeltaGenerator) -> None:
    """Say which network is measured; files that a process looks at meanwhile are nothing to a person."""
    place.caption(f"{plain(doing(replace(told, subject=''), 'Starting to measure'))} …")
