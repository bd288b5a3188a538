"""Mistakes: the tiles in which the student lost most against the teacher, as photo, truth, teacher and student."""

import streamlit as st

from kdcore.errors import KdcoreError
from kdcore.inference.layer_index import StudyLayers
from kdcore.jobs.study_folder import StudyFolder
from kdcore.ui import map_view, mistakes
from kdcore.ui.address import select_in_address
from kdcore.ui.formatting import plain, sentence, visible
from kdcore.ui.study_picker import PARAMETER

ROWS = 4  # tiles of a page
ALL = "all"


def choose_kind(layers: StudyLayers) -> int | None:
    """The class whose mistakes are shown; None for all of them."""
    if layers.binary:
        return None  # what one class misses, the other has too much
    names = {ALL: "All classes"} | {str(index): visible(layers.classes[index]) for index in layers.scored}
    chosen = select_in_address("Class", "class", names, ALL)
    return None if chosen == ALL else int(chosen)


def turn(first: int) -> None:
    """Name the first tile that is shown in the address."""
    st.query_params[mistakes.PARAMETER] = str(first + 1)


def show(study: StudyFolder, layers: StudyLayers) -> None:
    """What to look at, and a page of tiles."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kind = choose_kind(layers)
        ranked = mistakes.rank(study, layers, kind=kind)
        first = (mistakes.place_in_list(ranked) or 0) // ROWS * ROWS
        beyond = first + ROWS >= len(ranked.tiles)
        for label, icon, to, off in (
            ("First", "first_page", 0, first == 0),
            ("Previous", "chevron_left", first - ROWS, first == 0),
            ("Next", "chevron_right", first + ROWS, beyond),
        ):
            st.button(label, icon=f":material/{icon}:", on_click=turn, args=(to,), disabled=off)
    if not ranked.tiles:
        st.info(
            "The student lost nothing here: no tile has more pixels wrong than with the teacher.",
            icon=":material/check:",
        )
        return
    st.html(mistakes.legend_html(layers, map_view.hidden_classes(study, layers)))
    whole, runs = mistakes.rank(study, layers), map_view.arms_of(study)
    for number, tile in enumerate(ranked.tiles[first : first + ROWS], first + 1):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(
                f"**{number} of {len(ranked.tiles)}** · {plain(tile.scene)} · {plain(sentence(mistakes.in_words(tile)))}",
                width="content",
            )
            scene = layers.scene_named(tile.scene)
            address = {PARAMETER: study.id, mistakes.SCENE: scene.id if scene else ""}
            if tile[:3] in (places := [other[:3] for other in whole.tiles]):
                address[mistakes.PARAMETER] = str(places.index(tile[:3]) + 1)
            st.page_link("map.py", label="On the map", icon=":material/map:", query_params=address)
        try:
            st.html(mistakes.tile_html(study, layers, ranked, tile, runs))
        except KdcoreError as error:
            st.warning(plain(str(error)), icon=":material/broken_image:")
    st.page_link(
        "map.py",
        label="Choose which tiles to label next",
        icon=":material/label:",
        query_params={PARAMETER: study.id},
    )


map_view.show_study("What did the student lose?", ":material/troubleshoot:", show)
