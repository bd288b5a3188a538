"""All studies: compare, note, stop, resume, archive, delete, download."""

import streamlit as st

from kdcore.jobs.study_folder import StudyFolder
from kdcore.ui import words
from kdcore.ui.formatting import plain, sentence
from kdcore.ui.people import show_actions
from kdcore.ui.runs_actions import ACTIVE, offer_actions, offer_downloads, offer_undo, show_links
from kdcore.ui.runs_comparison import show_comparison
from kdcore.ui.runs_notes import offer_note, tags_of, with_tags
from kdcore.ui.runs_sweeps import show_sweeps
from kdcore.ui.runs_table import overview
from kdcore.ui.stages import message_of
from kdcore.ui.study_picker import LISTED, recent_studies, show_empty, workspace

CHOSEN = "studies"  # in the address


def named_in_address(studies: list[StudyFolder]) -> list[int]:
    """Rows of the studies that the address names."""
    wanted = st.query_params.get(CHOSEN, "").split(",")
    return [row for row, study in enumerate(studies) if study.id in wanted]


def choose(studies: list[StudyFolder]) -> list[StudyFolder]:
    """The table of all studies; gives the chosen ones and names them in the address."""
    ids = [study.id for study in studies]
    event = st.dataframe(
        overview(studies),
        key=f"table of {' '.join(ids)}",  # rows are chosen by number: with other rows it is another table
        hide_index=True,
        on_select="rerun",
        selection_mode="multi-row",
        selection_default={"selection": {"rows": named_in_address(studies)}},
        placeholder="–",
        column_config={
            "Study": st.column_config.TextColumn(pinned=True, width="medium"),
            "T": st.column_config.NumberColumn(format="%g", help=words.TERMS["temperature"]),
            "Alpha": st.column_config.NumberColumn(format="%g", help=words.TERMS["alpha"]),
            "Teacher": st.column_config.NumberColumn(format="%.1f", help=words.TERMS["mean AP"]),
            "Alone": st.column_config.NumberColumn(format="%.1f", help=words.TERMS["mean AP"]),
            "Distilled": st.column_config.NumberColumn(format="%.1f", help=words.TERMS["mean AP"]),
            "All labels": st.column_config.NumberColumn(format="%.1f", help=words.TERMS["all labels"]),
            "Tags": st.column_config.ListColumn(),
            "Note": st.column_config.TextColumn(width="medium"),
            "Made": st.column_config.DatetimeColumn(format="D MMM YYYY, HH:mm"),
        },
        alt="All studies with their state, settings and mean average precision",
    )
    chosen = [studies[row] for row in event.selection.rows if row < len(studies)]
    if chosen:
        st.query_params[CHOSEN] = ",".join(study.id for study in chosen)
    else:
        st.query_params.pop(CHOSEN, None)
    return chosen


@st.fragment(run_every=3)
def follow(states: dict[str, str], named: str) -> None:
    """Draw the page anew when a study's state has changed; costs nothing as long as none has."""
    if states != {study.id: study.state for study in with_named(recent_studies(named))}:
        st.rerun()


def with_named(studies: list[StudyFolder]) -> list[StudyFolder]:
    """Those that the address names are shown, too, however old they are."""
    ids = {study.id for study in studies}
    wanted = set(st.query_params.get(CHOSEN, "").split(",")) - ids - {""}
    return [*studies, *(study for study in workspace().folders() if study.id in wanted)] if wanted else studies


def find_among(folders: int) -> str:
    """Where there are more than the table shows: a part of the name of those that are looked for."""
    return st.text_input(
        "Find",
        key="find",
        bind="query-params",
        max_chars=100,
        placeholder="A part of the name",
        help=f"Of {folders:,} studies the table shows the {LISTED} that changed last, or those whose name holds this text.",
    )


def show(everything: list[StudyFolder], named: str) -> None:
    """The table, and what can be done with what is chosen in it."""
    with st.container(horizontal=True, vertical_alignment="center"):  # what a table offers appears above its right end
        st.markdown("Every study on this machine. Choose one to open it, or several to compare them.", width="content")
        show_archived = st.toggle("Archived too", key="archived", bind="query-params")
    offer_undo()
    shown = with_tags([study for study in everything if show_archived or not study.archived])
    chosen = choose(shown)
    if len(chosen) == 1:
        study = chosen[0]
        st.subheader(plain(study.title))
        if message := message_of(study.job):
            st.caption(plain(sentence(message)))
        show_links(study)
        offer_downloads(study)
        offer_note(study, tags_of(everything))
    if chosen:
        offer_actions(chosen)
    else:
        st.caption("Tick the box at the left of a row.")
    if len(chosen) > 1:
        show_comparison(chosen)
    states = {study.id: study.state for study in everything}
    if any(state in ACTIVE for state in states.values()):
        follow(states, named)


st.title("Runs", icon=":material/folder_open:")
folders = len(workspace().folders())
named = find_among(folders) if folders > LISTED else ""
if found := recent_studies(named):
    show(with_named(found), named)
elif named:
    st.info(f"No study's name holds “{plain(named)}”.", icon=":material/search_off:")
else:
    show_empty()
show_sweeps()
show_actions()
