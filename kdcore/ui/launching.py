"""Start a study once, however often its button is clicked; and once more with a teacher that is trained on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import streamlit as st

from kdcore.errors import KdcoreError
from kdcore.jobs import launch, slurm
from kdcore.jobs.launch import LONGER, with_longer_teacher
from kdcore.jobs.study_folder import StudyFolder
from kdcore.settings import StudySettings
from kdcore.ui.formatting import plain
from kdcore.ui.people import locked, permit
from kdcore.ui.study_picker import PARAMETER, workspace


def launch_button(label: str, form: str, **options: Any) -> str | None:
    """A button, a primary one unless its type is among the options, that gives a launch's token when it was clicked.

    A form keeps its token until it is shown again after a launch. So the second click of a double click carries the first
    one's token, and `start_study` makes one study of each token.

    Args:
        label: on the button.
        form: tells several buttons of the dashboard apart.
        options: of `st.button`.
    """
    token_key, used_key = f"launch token of {form}", f"launch token of {form} was used"
    clicked = st.button(label, **({"type": "primary"} | options), key=f"launch {form}", disabled=locked())
    if not clicked and st.session_state.pop(used_key, False):
        st.session_state.pop(token_key, None)
    token: str = st.session_state.setdefault(token_key, uuid4().hex)
    if not clicked:
        return None
    st.session_state[used_key] = True
    return token


def choose_place(form: str, most: int) -> int | None:
    """This machine or Slurm, where whoever runs the dashboard offers that; its options never come from a page.

    Args:
        form: tells several forms of the dashboard apart.
        most: processes that find something to do.

    Returns:
        How many processes are to share the work in Slurm; None for this machine.
    """
    if slurm.offered() is None:
        return None
    here, there = "This machine", "Slurm"
    left, right = st.columns((1, 1))
    place = left.segmented_control("Where", [here, there], default=here, required=True, key=f"place of {form}")
    if place != there:
        return None
    return int(right.number_input("Processes that share it", 1, most, min(4, most), key=f"processes of {form}"))


def start_study(
    token: str,
    title: str,
    collection: Path | Literal["demo"],
    settings: StudySettings,
    demo_seed: int = 0,
    in_slurm: int | None = None,
) -> StudyFolder:
    """Make a study of a token, or find the one that was made of it, and start its worker.

    Args:
        token: from `launch_button`.
        title: any text.
        collection: a collection, or 'demo'.
        settings: of the study.
        demo_seed: of the demo area.
        in_slurm: how many processes are to share it there; None for this machine.

    Raises:
        KdcoreError: it cannot be made or started; says why.
    """
    permit("started", title)
    study = launch.create(workspace(), title, collection, settings, token, demo_seed)
    if in_slurm is None:
        study.start()
    else:
        launch.start_in_slurm(study, in_slurm)
    return study


def offer_longer_teacher(study: StudyFolder) -> None:
    """A button that starts the study once more, its teacher beginning from what it has learnt."""
    token = launch_button(
        "Continue training the teacher",
        f"longer teacher of {study.id}",
        type="secondary",
        icon=":material/fitness_center:",
        help=f"Starts a new study: the teacher begins from its weights and is trained for {LONGER} times as many steps, "
        "then both students are trained again. Everything else stays the same.",
    )
    if token is None:
        return
    try:
        settings, title = with_longer_teacher(study), f"{study.title[:170]}, teacher trained on"
        longer = start_study(token, title, study.source, settings, study.about.demo or 0)
    except KdcoreError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return
    st.query_params[PARAMETER] = longer.id
    st.rerun()


def start_studies(
    token: str,
    title: str,
    collection: Path | Literal["demo"],
    settings: Sequence[StudySettings],
    in_slurm: int | None = None,
) -> StudyFolder:
    """As `start_study`; with several settings for each share of a label curve: the first trains the teacher, and the others, which wait, take it over.

    Returns:
        The first study.

    Raises:
        KdcoreError: one cannot be made or started; those before it go on.
    """
    if len(settings) == 1:
        return start_study(token, title, collection, settings[0], in_slurm=in_slurm)
    from kdcore.evaluation.label_curve import titled  # with numpy and rasterio, which a first page does without

    started = [
        start_study(f"{token}-{one.labels:g}", titled(title, one.labels), collection, one, in_slurm=in_slurm)
        for one in settings
    ]
    return started[0]
