"""Race: teacher and student map the same ground side by side, as fast as they are."""

import streamlit as st

from kdcore.errors import RunError
from kdcore.inference.layer_index import StudyLayers
from kdcore.jobs.study_folder import StudyFolder
from kdcore.ui import map_view, race, words
from kdcore.ui.formatting import plain
from kdcore.ui.study_picker import choose_study
from kdcore.ui.verdict import plain_verdict
from kdcore.views.race import headline


def show(study: StudyFolder, layers: StudyLayers) -> None:
    """The race, what it comes to, and the button that runs it on this machine."""
    scene = map_view.scene_with(layers, None)
    races = race.races_of(study, scene)
    if not races:
        st.markdown(words.NO_RACE)
        race.offer_live(study, first=True)
        return
    place = st.container()  # what it comes to stands above the choice of times
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = race.choose_timing(races)
        chosen = races[name]
        race.offer_live(study, first=False)
    race.say_where(chosen, study)
    with place:
        st.markdown(
            f"{race.badge(chosen)} **{plain(headline(chosen, '' if chosen.live else name))}** {plain_verdict(study.report())}"
        )
        race.show_race(study, layers, scene, chosen)


chosen_study = choose_study("Who maps the town first?", ":material/sports_score:")
if chosen_study is not None:
    try:
        found = StudyLayers.load(chosen_study.path)
    except RunError as error:
        st.info(plain(str(error)), icon=":material/map:")
    else:
        show(chosen_study, found)
