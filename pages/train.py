"""Set up a study and start it; or, with ?study= in the address, watch one."""

import streamlit as st

from kdcore.ui import words
from kdcore.ui.formatting import plain, told_apart
from kdcore.ui.study_form import show_form
from kdcore.ui.study_picker import PARAMETER, named_study, recent_studies
from kdcore.ui.watching import ACTIVE, watch

study = named_study()
if study is not None:
    st.query_params[PARAMETER] = study.id  # a link to the page that is open leaves the browser's address as it was
    st.title(plain(study.title), icon=":material/school:")
    watch(study)
else:
    st.title("Train", icon=":material/school:")
    st.markdown(
        f"{words.TERMS['teacher']} {words.TERMS['student']} A study trains both, and the student twice: alone and with the teacher. "
        "Where the students may use only a share of the labels, it trains the student a third time, with all of them."
    )
    active = [other for other in recent_studies() if other.state in ACTIVE]
    titles = told_apart({other.id: other.title for other in active})
    for other in active:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.markdown(f":blue-badge[{words.STATES[other.state][0]}] {plain(titles[other.id])}", width="stretch")
            st.page_link("train.py", label="Watch", icon=":material/visibility:", query_params={PARAMETER: other.id})
    show_form()
