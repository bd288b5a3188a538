"""Which sweep the page shows; the address names it."""

import streamlit as st

from kdcore.errors import KdcoreError, RunError
from kdcore.jobs.sweep_folder import SweepFolder, list_sweeps
from kdcore.jobs.sweep_library import find
from kdcore.jobs.workspace import NEW
from kdcore.ui.formatting import plain, told_apart
from kdcore.ui.study_picker import workspace
from kdcore.ui.sweep_form import PARAMETER, show_form
from kdcore.ui.sweep_words import INTRODUCTION

REMEMBERED = "sweep"  # in the session: the last one that was looked at
WIDGET = "sweep picker"


def choose_sweep(title: str, icon: str) -> SweepFolder | None:
    """The page's title, and beside it the sweeps to pick from and the way to a new one.

    Returns:
        The sweep to show; None for the form of a new one.
    """
    sweeps = list_sweeps(workspace().sweeps)
    head = st.container(horizontal=True, vertical_alignment="bottom")
    head.title(title, icon=icon)
    wanted = named_sweep()
    if not sweeps or (wanted is None and st.query_params.get(PARAMETER) == NEW):
        return None
    ids = [sweep.id for sweep in sweeps]
    remembered = st.session_state.get(REMEMBERED)
    chosen = wanted.id if wanted is not None else remembered if remembered in ids else ids[0]
    st.session_state[WIDGET] = chosen
    names = told_apart({sweep.id: title_of(sweep) for sweep in sweeps})
    head.selectbox("Sweep", ids, key=WIDGET, format_func=names.__getitem__, on_change=follow_widget, width=360)
    head.button("New sweep", icon=":material/add:", on_click=go_to_form)
    st.session_state[REMEMBERED] = chosen
    if st.query_params.get(PARAMETER) != chosen:
        st.query_params[PARAMETER] = chosen
    return next(sweep for sweep in sweeps if sweep.id == chosen)


def named_sweep() -> SweepFolder | None:
    """The sweep that the address names; None without one. An address that names none says so on the page."""
    name = st.query_params.get(PARAMETER)
    if name is None or name == NEW:
        return None
    try:
        return find(workspace(), name)
    except RunError:
        st.warning(f"There is no sweep “{plain(name[:100])}” on this machine (any more).", icon=":material/search_off:")
        return None


def follow_widget() -> None:
    """Put what was picked into the address; a trial that was looked at belongs to the other sweep."""
    st.query_params.clear()
    st.query_params[PARAMETER] = st.session_state[WIDGET]


def go_to_form() -> None:
    """Name the form in the address."""
    st.query_params.clear()
    st.query_params[PARAMETER] = NEW


def title_of(sweep: SweepFolder) -> str:
    """What a person calls it; its id where that cannot be read."""
    try:
        return sweep.about.title
    except KdcoreError:
        return sweep.id


def show_new() -> None:
    """What a sweep is, those that are there, and the form of a new one."""
    st.markdown(INTRODUCTION)
    for sweep in list_sweeps(workspace().sweeps):
        if sweep.alive:
            with st.container(border=True, horizontal=True, vertical_alignment="center"):
                st.markdown(f":blue-badge[running] {plain(title_of(sweep))}", width="stretch")
                st.page_link(
                    "sweep.py", label="Watch", icon=":material/visibility:", query_params={PARAMETER: sweep.id}
                )
    show_form()
