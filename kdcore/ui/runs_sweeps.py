"""The sweeps on the Runs page: which there are, and the way to each."""

import streamlit as st

from kdcore.errors import KdcoreError
from kdcore.jobs.sweep_folder import SweepFolder, list_sweeps
from kdcore.ui.formatting import count, plain, when
from kdcore.ui.study_picker import workspace
from kdcore.ui.sweep_form import PARAMETER, title_of

SHOWN = 20


def show_sweeps() -> None:
    """The latest sweeps of the workspace; nothing where there is none."""
    sweeps = list_sweeps(workspace().sweeps)
    if not sweeps:
        return
    with st.expander(f"Sweeps ({len(sweeps)})", icon=":material/tune:"):
        for sweep in sweeps[:SHOWN]:
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(f"{plain(title_of(sweep))} · {plain(said_of(sweep))}", width="stretch")
                st.page_link("sweep.py", label="Open", icon=":material/tune:", query_params={PARAMETER: sweep.id})
        if len(sweeps) > SHOWN:
            st.caption(f"The {SHOWN} that were begun last, of {len(sweeps):,}; all are on the Sweep page.")


def said_of(sweep: SweepFolder) -> str:
    """Whether it runs, how many trials it has, and when it was begun."""
    try:
        state = "running" if sweep.alive else "not running"
        return f"{state}, {count(sweep.settings.trials, 'trial')}, made {when(sweep.about.created)}"
    except KdcoreError as error:
        return str(error)
