"""What can be done with chosen studies on the Runs page."""

from collections.abc import Callable, Sequence

import streamlit as st

from kdcore.errors import KdcoreError
from kdcore.jobs import launch
from kdcore.jobs.bundle import size_in, zipped
from kdcore.jobs.status import ACTIVE
from kdcore.jobs.study_folder import StudyFolder
from kdcore.ui.formatting import count, megabytes, plain
from kdcore.ui.people import locked, permit
from kdcore.ui.study_picker import PARAMETER, workspace

RESUMABLE = ("stopped", "interrupted", "failed")
ARCHIVED = "archived last"  # in the session: ids of studies


def show_links(study: StudyFolder) -> None:
    """Where one study can be looked at."""
    address = {PARAMETER: study.id}
    with st.container(horizontal=True):
        st.page_link("train.py", label="Progress and settings", icon=":material/school:", query_params=address)
        if study.finished:
            st.page_link("map.py", label="Map", icon=":material/map:", query_params=address)
            st.page_link("curves.py", label="Curves", icon=":material/show_chart:", query_params=address)
            st.page_link("deploy.py", label="Deploy", icon=":material/rocket_launch:", query_params=address)


def offer_downloads(study: StudyFolder) -> None:
    """The report as one page, and the whole study as a ZIP."""
    with st.container(horizontal=True):
        if study.page.is_file():
            st.download_button(
                "Report (HTML)",
                study.page.read_bytes,
                file_name=f"{study.id}.html",
                mime="text/html",
                icon=":material/description:",
                help="One page that opens offline in any browser.",
                on_click="ignore",
            )
        if study.finished:
            st.download_button(
                f"Everything (ZIP, {megabytes(size_in(study.path))})",
                lambda: zipped(study.path, study.id),
                file_name=f"{study.id}.zip",
                mime="application/zip",
                icon=":material/folder_zip:",
                help="Settings, weights, maps, scores and report; not the states that trainings resume from.",
                on_click="ignore",
            )


def offer_actions(studies: Sequence[StudyFolder]) -> None:
    """Stop, resume, archive and delete, each for those of the studies that it fits."""
    own = [study for study in studies if not study.read_only]
    states, shut = {study.id: study.state for study in own}, locked()
    active = [study for study in own if states[study.id] in ACTIVE]
    resumable = [study for study in own if states[study.id] in RESUMABLE]
    settled = [study for study in own if states[study.id] not in (*ACTIVE, "broken")]
    with st.container(horizontal=True):
        if active and st.button(
            "Stop training",
            icon=":material/stop:",
            help="Saves the current state; resuming goes on exactly there.",
            disabled=shut,
        ):
            act("stopped", active, StudyFolder.stop)
        if resumable and st.button(
            "Resume", icon=":material/play_arrow:", help="Goes on from the last saved state.", disabled=shut
        ):
            act("resumed", resumable, launch.resume)
        put_aside = [study for study in settled if not study.archived]
        taken_back = [study for study in settled if study.archived]
        if put_aside and st.button(
            "Archive", icon=":material/archive:", help="Hides it in all lists; nothing is removed.", disabled=shut
        ):
            act("archived", put_aside, lambda study: study.archive(True))
        if taken_back and st.button("Take out of the archive", icon=":material/unarchive:", disabled=shut):
            act("took out of the archive", taken_back, lambda study: study.archive(False))
        idle = [study for study in own if states[study.id] not in ACTIVE]
        if idle and st.button("Delete …", icon=":material/delete:", disabled=shut):
            confirm_deletion(idle)


def offer_undo() -> None:
    """Take back what was archived last in this session, as long as it is archived."""
    studies = [StudyFolder(workspace().path / id) for id in st.session_state.get(ARCHIVED, [])]
    studies = [study for study in studies if study.archived]
    if not studies:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"Archived {count(len(studies), 'study')}.")
        if st.button("Undo", icon=":material/undo:", disabled=locked()):
            act("took out of the archive", studies, lambda study: study.archive(False))


def act(what: str, studies: Sequence[StudyFolder], action: Callable[[StudyFolder], None]) -> None:
    """Do something with each study; what does not work is said, and then the page is drawn anew."""
    problems = []
    for study in studies:
        try:
            permit(what, f"{study.title} ({study.id})")
            action(study)
        except KdcoreError as error:
            problems.append(str(error))
    st.session_state[ARCHIVED] = [study.id for study in studies] if what == "archived" else []
    if problems:
        for problem in problems:
            st.error(plain(problem), icon=":material/error:")
    else:
        st.rerun()


@st.dialog("Delete for good?")
def confirm_deletion(studies: Sequence[StudyFolder]) -> None:
    """Ask once more, with names and size."""
    size = megabytes(sum(file.stat().st_size for study in studies for file in study.path.rglob("*") if file.is_file()))
    st.markdown(f"{count(len(studies), 'study')} with all weights, maps and reports, {size}. This cannot be undone.")
    st.markdown("\n".join(f"- {plain(study.title)}" for study in studies))
    with st.container(horizontal=True):
        if st.button("Delete", type="primary", icon=":material/delete:"):
            act("deleted", studies, StudyFolder.delete)
        if st.button("Keep"):
            st.rerun()
