"""How long a study would take, on the Train page."""

import tempfile
from pathlib import Path

import streamlit as st

from kdcore.errors import KdcoreError
from kdcore.runs.forecast import Costs, forecast, measured_costs, read_probes
from kdcore.settings import StudySettings, save
from kdcore.ui.asking import ask
from kdcore.ui.formatting import count, duration, plain
from kdcore.ui.study_picker import workspace

PROBE = "kdcore.training.probe"


def tell_time(settings: StudySettings) -> None:
    """Say how long the study would take; where nothing was measured, offer to measure."""
    costs = costs_of(workspace().path)
    st.caption(time_sentence(settings, costs), width="stretch")
    if forecast(settings, costs) is not None:
        return
    if st.button(
        "Measure", icon=":material/timer:", help="Does five steps of each network on made-up crops: less than a minute."
    ):
        measure(settings)


@st.cache_data(ttl=20, max_entries=4, show_spinner=False)
def costs_of(path: Path) -> Costs:
    """What steps cost on this machine, read from the workspace at most every 20 seconds."""
    return measured_costs(workspace().studies(), read_probes(workspace()))


def time_sentence(settings: StudySettings, costs: Costs) -> str:
    """How long it will take, from measurements; or that there are none yet."""
    given = bool(settings.teacher.checkpoints)
    trainings = count((0 if given else len(settings.teacher.seeds)) + 2 * len(settings.seeds), "training")
    expected = forecast(settings, costs)
    if expected is None:
        return f"{trainings}. These networks were not measured on this machine yet, so the time is not known before it runs."
    about = "About" if expected.measured else "Roughly"
    scoring = "" if expected.scoring else " Reading and scoring come on top."
    return f"{trainings}. {about} {duration(expected.seconds)}, from steps that were measured on this machine.{scoring}"


def measure(settings: StudySettings) -> None:
    """Measure in a process of its own, and draw the page anew."""
    place = st.empty()
    with place.status("Measuring …") as status, tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "study.yaml"
        save(settings, file)
        try:
            ask(PROBE, [str(workspace().path), str(file)], lambda text: status.update(label=f"{plain(text[:100])} …"))
        except KdcoreError as error:
            status.update(label=plain(str(error)), state="error")
            return
    costs_of.clear()
    st.rerun()
