"""Which study a page shows. It stands in the address, so that a view can be sent to someone and survives a reload."""

from collections.abc import Sequence

import streamlit as st

from kdcore.errors import RunError
from kdcore.jobs.study_folder import StudyFolder
from kdcore.jobs.workspace import Workspace
from kdcore.ui import words
from kdcore.ui.formatting import plain, told_apart

PARAMETER = "study"  # in the address
REMEMBERED = (
    "remembered study"  # in the session: the address is emptied when another page is opened from the navigation
)
WIDGET = "study picker"
LISTED = 100  # studies


def workspace() -> Workspace:
    """The folder that holds all studies."""
    return Workspace()


def recent_studies(named: str = "") -> list[StudyFolder]:
    """The studies that pages list: those that changed last, and of many only some; with a text those whose id holds it."""
    return workspace().studies(LISTED, named)


def choose_study(title: str, icon: str) -> StudyFolder | None:
    """The page's title, and beside it the finished studies to pick from; the address names the one that is shown.

    Args:
        title: what the page answers.
        icon: of the page, as in the navigation.

    Returns:
        The study to show; None where there is none, and then the page already says what to do next.
    """
    finished = [study for study in recent_studies() if study.finished and not study.archived]
    head = st.container(horizontal=True, vertical_alignment="bottom")
    head.title(title, icon=icon)
    wanted = named_study()
    if wanted is not None and wanted.finished and wanted.id not in {study.id for study in finished}:
        finished.append(wanted)  # an archived one that an old address names
    if not finished:
        show_empty()
        return None
    if wanted is not None and not wanted.finished:
        say_unfinished(wanted)
    remembered = st.session_state.get(REMEMBERED)
    ids = [study.id for study in finished]
    chosen = wanted.id if wanted is not None and wanted.finished else remembered if remembered in ids else ids[0]
    st.session_state[WIDGET] = chosen
    names = told_apart({study.id: study.title for study in finished})
    head.selectbox("Study", ids, key=WIDGET, format_func=names.__getitem__, on_change=follow_widget, width=400)
    remember(chosen)
    return next(study for study in finished if study.id == chosen)


def named_study() -> StudyFolder | None:
    """The study that the address names; None without one. An address that names no study says so on the page."""
    name = st.query_params.get(PARAMETER)
    if name is None:
        return None
    try:
        return workspace().study(name)
    except RunError:
        st.warning(f"There is no study “{plain(name[:100])}” on this machine (any more).", icon=":material/search_off:")
        return None


def example_study(studies: Sequence[StudyFolder]) -> StudyFolder | None:
    """The finished study that explains things: the bundled example, else the newest one; None where none is finished."""
    finished = [study for study in studies if study.finished]
    return next((study for study in finished if study.id == words.EXAMPLE), finished[0] if finished else None)


def remember(study_id: str) -> None:
    """Name the study in the address, and keep it for the next page."""
    st.session_state[REMEMBERED] = study_id
    if st.query_params.get(PARAMETER) != study_id:
        st.query_params[PARAMETER] = study_id


def follow_widget() -> None:
    """Put what was picked into the address."""
    st.query_params[PARAMETER] = st.session_state[WIDGET]


def say_unfinished(study: StudyFolder) -> None:
    """Tell that the study in the address has nothing to show yet, and where to watch it."""
    state = words.STATES[study.job.state][0]
    st.info(
        f"“{plain(study.title)}” is not finished ({state}), so there is nothing to show of it yet. Below is another study.",
        icon=":material/hourglass_empty:",
    )
    st.page_link("train.py", label="Watch it", icon=":material/school:", query_params={PARAMETER: study.id})


def show_empty() -> None:
    """What a page says before there is a finished study."""
    with st.container(border=True, horizontal_alignment="center"):
        st.subheader(words.NO_STUDY_TITLE, text_alignment="center")
        st.markdown(words.NO_STUDY, text_alignment="center", width="content")
        if st.button(words.NO_STUDY_BUTTON, type="primary", icon=":material/school:"):
            st.switch_page("train.py")
