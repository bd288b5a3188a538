"""A study's note and tags on the Runs page: reading, writing, and finding studies by them."""

from collections.abc import Sequence

import streamlit as st

from kdcore.errors import KdcoreError
from kdcore.jobs.about import LONGEST_NOTE, MOST_TAGS, About
from kdcore.jobs.study_folder import StudyFolder
from kdcore.ui.formatting import plain
from kdcore.ui.people import locked, permit


def about_of(study: StudyFolder) -> About:
    """What a person said of a study; nothing of one that cannot be read."""
    try:
        return study.about
    except KdcoreError:
        return About(title=study.id[:200])


def with_tags(studies: Sequence[StudyFolder]) -> list[StudyFolder]:
    """Those of the studies that have all tags that are chosen here; all where no study has a tag."""
    known = tags_of(studies)
    if not known:
        return list(studies)
    wanted = set(
        st.multiselect("Tags", known, key="tags", bind="query-params", placeholder="Studies with any tag, or none")
    )
    return [study for study in studies if wanted <= set(about_of(study).tags)]


def tags_of(studies: Sequence[StudyFolder]) -> list[str]:
    """All tags that these studies have, in order."""
    return sorted({tag for study in studies for tag in about_of(study).tags})


def offer_note(study: StudyFolder, known: Sequence[str]) -> None:
    """Read and change a study's note and tags.

    Args:
        study: one that is chosen; the bundled example takes no notes.
        known: tags to choose from.
    """
    about = about_of(study)
    if study.read_only or study.state == "broken":
        return
    with (
        st.expander("Note and tags", icon=":material/edit_note:", expanded=bool(about.note)),
        st.form(f"note of {study.id}", border=False),
    ):
        note = st.text_area("Note", about.note, max_chars=LONGEST_NOTE, disabled=locked(), height=100)
        tags = st.multiselect(
            "Tags",
            sorted({*known, *about.tags}),
            list(about.tags),
            key=f"tags of {study.id}",
            accept_new_options=True,
            max_selections=MOST_TAGS,
            disabled=locked(),
            placeholder="Choose some, or write a new one",
        )
        sent = st.form_submit_button("Save", icon=":material/save:", disabled=locked())
    if sent:
        try:
            permit("changed the note of", f"{study.title} ({study.id})")
            study.annotate(note, tags)
        except KdcoreError as error:
            st.error(plain(str(error)), icon=":material/error:")
        else:
            st.rerun()
