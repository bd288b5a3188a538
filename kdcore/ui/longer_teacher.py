"""The way on from a teacher that could hardly teach anything: the same study with a teacher that is trained on."""

import streamlit as st

from kdcore.errors import KdcoreError
from kdcore.jobs.longer import LONGER, with_longer_teacher
from kdcore.jobs.study_folder import StudyFolder
from kdcore.ui.formatting import plain
from kdcore.ui.launching import launch_button, start_study
from kdcore.ui.study_picker import PARAMETER


def offer_longer_teacher(study: StudyFolder) -> None:
    """A button that starts the study once more, its teacher beginning from what it has learnt."""
    token = launch_button(
        "Train the teacher on",
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
