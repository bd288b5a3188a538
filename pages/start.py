"""What this is and whether it works: one finished study at once, and the same study run live at a click."""

import streamlit as st

from kdcore.errors import KdcoreError
from kdcore.jobs.study_folder import StudyFolder
from kdcore.settings import STUDY_PRESETS
from kdcore.ui import words
from kdcore.ui.choices import DEMO
from kdcore.ui.formatting import plain
from kdcore.ui.launching import launch_button, start_study
from kdcore.ui.study_picker import PARAMETER, example_study, named_study, recent_studies
from kdcore.ui.verdict import show_arms, show_gap, show_numbers, show_verdict


def offer_live_run() -> None:
    """The button that starts the demo study for real and goes to watch it."""
    token = launch_button("Run it live", "live", icon=":material/play_arrow:", help=words.LIVE)
    if token is None:
        return
    try:
        study = start_study(token, "Demo, run live", DEMO, STUDY_PRESETS["demo"])
    except KdcoreError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return
    st.switch_page("train.py", query_params={PARAMETER: study.id})


def show_swipe(study: StudyFolder) -> None:
    """The teacher's mask on the left of a handle, the distilled student's on the right."""
    from kdcore.ui import map_view  # reads rasters: loaded after the numbers are on screen

    try:
        layers = map_view.load_layers(study)
        choice = map_view.map_choice(study, map_view.scene_with(layers, None))
    except KdcoreError as error:
        st.info(plain(str(error)), icon=":material/map:")
        return
    map_view.show_map(choice, "teacher", "distilled", key="start")
    st.caption(words.SWIPE)


def show(study: StudyFolder) -> None:
    """A finished study: its numbers, its masks under a handle, and where to go from here."""
    report = study.report()
    show_numbers(report)
    left, right = st.columns((5, 3), gap="medium")
    with right:
        show_verdict(report)
        show_arms(report)
        show_gap(report)
        offer_live_run()
        address = {PARAMETER: study.id}
        st.page_link("map.py", label="Look closer on the map", icon=":material/map:", query_params=address)
        st.page_link("curves.py", label="See the curves", icon=":material/show_chart:", query_params=address)
        st.caption(words.EXAMPLE_NOTE if study.read_only else f"This is the study “{plain(study.title)}”.")
    with left:
        show_swipe(study)


st.title("What does a small network keep of a large one?", icon=":material/compare:")
st.markdown(words.STORY)
named = named_study()
shown = named if named is not None and named.finished else example_study(recent_studies())
if shown is not None:
    show(shown)
else:
    st.markdown(words.NO_EXAMPLE)
    offer_live_run()
