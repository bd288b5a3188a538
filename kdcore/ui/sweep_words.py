"""Words and sentences of the Sweep page."""

from collections.abc import Sequence

import streamlit as st

from kdcore.errors import KdcoreError
from kdcore.jobs.study_folder import StudyFolder
from kdcore.ui.formatting import count, plain

INTRODUCTION = (
    "A sweep trains the same small student many times, each time with another temperature and alpha, and shows what matters on your data, "
    "and whether it matters at all, given how much results vary between runs. All trials share one teacher. The student alone is always among them."
)
FORM = {
    "students": "Sizes of the student. With several, a sweep also shows what a larger one gains.",
    "more": "Each further setting needs more trials to say anything about it.",
    "workers": "Processes that train side by side, each on one core. A trial belongs to one worker; one that is killed loses nothing.",
    "objectives": "What a good trial is: mean AP on validation, few parameters, a short time for a megapixel on this machine. "
    "With one student all trials have the same size and speed, so there is nothing to choose between.",
    "budget": "The same for every trial. With seconds, slower students get fewer steps.",
}
STATES = {
    "new": "Not started yet.",
    "running": "Running.",
    "finished": "All trials have ended.",
    "stopped": "Stopped. Resume goes on exactly there.",
    "failed": "Failed.",
    "broken": "It cannot be read.",
}
TRIAL_STATES = {
    "waiting": "waiting",
    "running": "running",
    "interrupted": "interrupted",
    "finished": "finished",
    "pruned": "ended early",
    "failed": "failed",
}


# What the command says, and the page in its place; the longer ones first.
ON_THE_PAGE = {
    "leave --storage away": "leave the field empty",
    "--storage": "Database URL",
    "begin again with another --out": "start another sweep",
    "choose another --out": "start another sweep",
    "Choose another --out": "Start another sweep",
}


def shown_error(error: KdcoreError | str) -> str:
    """A sentence of the command as the page says it, as Markdown: fields in place of options."""
    text = str(error)
    for said, shown in ON_THE_PAGE.items():
        text = text.replace(said, shown)
    return plain(text)


def say_neighbours(studies: Sequence[StudyFolder]) -> None:
    """Tell of studies that use the same machine: a sweep does not wait for them, and both are slower."""
    running = [study.title for study in studies if study.state == "running"]
    if running:
        st.info(
            f"{count(len(running), 'study').capitalize()} {'is' if len(running) == 1 else 'are'} running on this machine "
            f"({plain(', '.join(running)[:200])}). A sweep does not wait for it: both take longer until it has ended.",
            icon=":material/hourglass_top:",
        )
