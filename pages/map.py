"""Map: where do teacher, student alone and distilled student differ, and who is right there?"""

import streamlit as st

from kdcore.inference.layer_index import StudyLayers
from kdcore.inference.uploads import find_upload, uploads_of
from kdcore.jobs.study_folder import StudyFolder
from kdcore.ui import bands, map_view, mistakes, own_file, scene_files, words
from kdcore.ui.formatting import plain, told_apart, visible
from kdcore.ui.study_picker import workspace

VIEWS = {"swipe": "Swipe", "side": "Side by side"}


def show(study: StudyFolder, layers: StudyLayers) -> None:
    """What to look at, the map, and a file of one's own."""
    uploads = uploads_of(workspace(), study.id)
    own = own_file.finished_names(uploads)
    names = told_apart({scene.id: visible(scene.name) for scene in layers.scenes}) | own

    with st.container(horizontal=True, vertical_alignment="bottom"):
        map_view.forget_unless(mistakes.SCENE, names)
        scene_id = st.selectbox(
            "Scene", names, format_func=names.__getitem__, key=mistakes.SCENE, bind="query-params", width=170
        )
        seeds = map_view.seeds_shown(study)
        seed = seeds[0]
        if len(seeds) > 1 and scene_id not in own:
            map_view.forget_unless("seed", seeds)
            seed = st.selectbox(
                "Seed",
                seeds,
                key="seed",
                bind="query-params",
                help="Which of the students' trainings is shown.",
                width=90,
            )
        if scene_id in own:
            choice = map_view.upload_choice(study, find_upload(workspace(), scene_id))
        else:
            choice = map_view.map_choice(study, map_view.scene_with(layers, scene_id), seed)
        left = map_view.choose_layer("Left", choice, "teacher")
        right = map_view.choose_layer("Right", choice, "distilled")
        mode = st.segmented_control(
            "View",
            VIEWS,
            default="swipe",
            required=True,
            key="view",
            bind="query-params",
            format_func=VIEWS.__getitem__,
        )
        photo = bands.choose_bands(choice.scene)
        ranked = mistakes.rank(study, layers, seed)
        st.button(
            "Next worst tile",
            icon=":material/skip_next:",
            on_click=mistakes.go_to_next,
            args=(ranked, layers),
            disabled=not ranked.tiles,
            help="Goes through the tiles in which the distilled student lost most against the teacher.",
        )

    focus = mistakes.focus_on(ranked, choice.scene)
    said = map_view.sentence(choice.layers[left], choice.layers[right], mode)
    pieces = (said, bands.sentence(choice.scene, photo), mistakes.describe(ranked) if focus else "")
    st.markdown(plain(" ".join(filter(None, pieces))))
    place = st.container()  # the map stands above its switch
    with st.container(horizontal=True, vertical_alignment="top"):
        st.caption(words.MAP_HELP, width="stretch")
        basemap = choice.scene.georeferenced and st.toggle(
            "Streets around it", key="streets", bind="query-params", help=words.STREETS
        )
    with place:
        map_view.show_map(choice, left, right, mode, focus=focus, bands=photo, basemap=basemap)
    own_file.show_own_files(workspace(), study, uploads)
    scene_files.show(study, choice)


map_view.show_study("Where do they differ?", ":material/map:", show)
