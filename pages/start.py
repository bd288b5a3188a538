"""What this is and whether it works: one finished study at once, and the same study run live at a click."""

import streamlit as st

from kdcore.errors import KdcoreError
from kdcore.jobs.study_folder import StudyFolder
from kdcore.settings import STUDY_PRESETS
from kdcore.ui import words
from kdcore.ui.formatting import plain
from kdcore.ui.launching import launch_button, start_study
from kdcore.ui.study_picker import PARAMETER, example_study, named_study, recent_studies
from kdcore.ui.verdict import plain_verdict, show_arms, show_gap, show_numbers, show_verdict

AROUND_PICTURE = 395  # pixels of the page above and below it, so that everything fits a window of 1280 x 800
BESIDE_PICTURE = 310
LINKS = (
    ("race.py", "Watch them race", ":material/sports_score:"),
    ("map.py", "Look closer on the map", ":material/map:"),
    ("mistakes.py", "See what was lost", ":material/troubleshoot:"),
    ("curves.py", "See the curves", ":material/show_chart:"),
)


def offer_live_run() -> None:
    """The button that starts the demo study for real and goes to watch it."""
    token = launch_button("Run it live", "live", icon=":material/play_arrow:", help=words.LIVE)
    if token is None:
        return
    try:
        study = start_study(token, "Demo, run live", "demo", STUDY_PRESETS["demo"])
    except KdcoreError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return
    st.switch_page("train.py", query_params={PARAMETER: study.id})


def show_picture(study: StudyFolder) -> None:
    """The photo left of a handle, and right of it what the buttons choose."""
    from kdcore.inference.layer_index import StudyLayers  # reads rasters: loaded after the numbers are on screen
    from kdcore.ui import map_view

    try:
        layers = StudyLayers.load(study.path)
        choice = map_view.map_choice(study, map_view.scene_with(layers, None), names=words.PLAIN_ARMS)
    except KdcoreError as error:
        st.info(plain(str(error)), icon=":material/map:")
        return
    chosen = st.segmented_control(
        "Right of the line",
        list(words.PICTURES),
        default="distilled",
        required=True,
        key="picture",
        bind="query-params",
        format_func=words.PICTURES.__getitem__,
        label_visibility="collapsed",
    )
    map_view.show_picture(choice, words.PICTURES, chosen, above=AROUND_PICTURE)


def show(study: StudyFolder) -> None:
    """A finished study: its masks over the photo, its numbers, and where to go from here."""
    report = study.report()
    with st.container(horizontal=True):
        picture, numbers = st.container(width="stretch"), st.container(width=BESIDE_PICTURE)
    show_numbers(report, beside=numbers)
    st.markdown(plain_verdict(report))
    address = {PARAMETER: study.id}
    with st.container(horizontal=True, vertical_alignment="center"):
        offer_live_run()
        for page, label, icon in LINKS:
            st.page_link(page, label=label, icon=icon, query_params=address)
    with st.expander("How sure is that?", icon=":material/balance:"):
        show_verdict(report)
        show_arms(report)
        show_gap(report)
    st.caption(words.EXAMPLE_NOTE if study.read_only else f"This is the study “{plain(study.title)}”.")
    with picture:
        show_picture(study)


st.title("What does a small network keep of a large one?", icon=":material/compare:")
named = named_study()
shown = named if named is not None and named.finished else example_study(recent_studies())
st.markdown(words.STORY)
if shown is not None:
    show(shown)
else:
    st.markdown(words.NO_EXAMPLE)
    offer_live_run()
