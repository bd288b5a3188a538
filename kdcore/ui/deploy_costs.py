"""What it costs to map an area: how large it is, on what terms, and hours, price and energy of every network."""

import pandas as pd
import streamlit as st

from kdcore.deploy.costs import overlap_factor
from kdcore.deploy.record import Deployment
from kdcore.errors import KdcoreError
from kdcore.inference.layer_index import StudyLayers
from kdcore.jobs.study_folder import StudyFolder
from kdcore.ui import map_view, words
from kdcore.ui.formatting import plain
from kdcore.views.deploy_costs import Job, cost_rows, cost_sentence, cost_table

AREA = "km2"  # the widget, and in the address
AREA_MAP = "area map"
MOST_KM2 = 510_000_000.0  # the Earth
STRIDE = 32  # pixels: overlaps are multiples of it
HALO = 32  # pixels on each side of a tile, as predictions have it by default
MAP_HEIGHT = 430  # pixels


@st.fragment
def show_costs(study: StudyFolder, known: Deployment) -> None:
    """The calculator. A fragment: what is typed here draws nothing else anew."""
    st.header("What does it cost to map an area?")
    job = choose_job(study, known)
    result = st.container()  # above the map, so that a box shows its price without scrolling
    draw_area(study)
    with result:
        if job is None:
            st.info("Type the ground sample distance of your imagery to see the costs.", icon=":material/info:")
        else:
            show_result(known, job)


def choose_job(study: StudyFolder, known: Deployment) -> Job | None:
    """Area, resolution, overlap, price and power; None as long as the resolution is not known."""
    area, metres, halo, price, watts = st.columns(5)
    km2 = area.number_input(
        "Area, km²",
        min_value=0.01,
        max_value=MOST_KM2,
        value=100.0,
        step=10.0,
        format="%0.2f",
        key=AREA,
        bind="query-params",
        help="Or draw it on the map below.",
    )
    metres_per_pixel = metres.number_input(
        "Pixel size, m",
        min_value=0.01,
        max_value=1000.0,
        value=None if known.metres_per_pixel is None else round(known.metres_per_pixel, 3),
        step=0.1,
        format="%0.3g",
        key=f"metres of {study.id}",
        help="Ground sample distance: side of a pixel on the ground. It starts at the value that the networks were trained with.",
    )
    halos = list(range(0, known.tile // 4 + 1, STRIDE))
    pixels = halo.selectbox(
        "Overlap of tiles, px",
        halos,
        index=halos.index(HALO) if HALO in halos else 0,
        key=f"halo of {study.id}",
        help=f"Cut away on each side of a tile of {known.tile} px, so that no seams are seen. More overlap, more work.",
    )
    price_per_hour = price.number_input(
        "Price per hour",
        min_value=0.0,
        max_value=1e6,
        value=1.0,
        step=0.1,
        format="%0.2f",
        key="price",
        bind="query-params",
        help="Of a machine like this one, in any currency.",
    )
    power = watts.number_input(
        "Power, W",
        min_value=0.0,
        max_value=1e6,
        value=None,
        step=5.0,
        format="%0.0f",
        key="watts",
        placeholder="measured" if any(s.watts for form in known.forms for s in form.speeds) else "not measured",
        help="What the machine draws while it works. Left empty, what was measured with each network counts.",
    )
    if km2 is None or metres_per_pixel is None:
        return None
    return Job(float(km2), metres_per_pixel, overlap_factor(known.tile, pixels), price_per_hour, power)


def show_result(known: Deployment, job: Job) -> None:
    """The comparison in a sentence, and a row for every network in PyTorch and in its fastest engine."""
    rows = cost_rows(known, job)
    st.markdown(f"**{plain(cost_sentence(rows, job.km2))}**")
    table = cost_table(rows)
    st.table(
        pd.DataFrame(table),
        hide_index=True,
        border="horizontal",
        alt="Time, price and energy that each network needs for the area",
    )
    unknown = (
        ""
        if any("Energy" in row for row in table)
        else " This machine does not report its power draw: type it to see the energy."
    )
    st.caption(
        f"Each network in PyTorch and in the engine that was fastest here. Tiles overlap, so each pixel is looked at "
        f"{job.overlap:.2f} times on average. Reading and writing files is done meanwhile and not counted.{unknown}"
    )


def draw_area(study: StudyFolder) -> None:
    """A map on which a box can be drawn, where the study's imagery says where it lies."""
    try:
        layers = StudyLayers.load(study.path)
        scene = map_view.scene_with(layers, None)
    except KdcoreError:
        return
    if not scene.georeferenced:
        return
    with st.container(horizontal=True):
        drawing = st.toggle("Draw the area on a map", key="draw")  # a map takes seconds: only when it is asked for
        streets = drawing and st.toggle("Streets", key="streets of the area", help=words.STREETS)
    if not drawing:
        return
    from streamlit_folium import st_folium  # seconds of import

    from kdcore.views.maps import DRAWING, area_map

    makes = map_view.map_choice(study, scene).makes
    key = f"{AREA_MAP} {study.id} {scene.id} {makes.version} {streets}"
    st_folium(
        area_map(scene, makes, basemap=streets),
        key=key,
        height=MAP_HEIGHT,
        use_container_width=True,
        returned_objects=[DRAWING],
        on_change=lambda: take_box(key),
    )
    st.caption(
        "Press “Draw a box”, then drag over the map; or move the map and take what is seen. "
        + ("" if streets else "Without streets it shows no more than this study's scene.")
    )


def take_box(key: str) -> None:
    """Put the area of the box that was drawn into the number above; `key` is the map's."""
    from kdcore.views.maps import drawn_km2

    km2 = drawn_km2(st.session_state.get(key))
    if km2 is not None:
        st.session_state[AREA] = min(MOST_KM2, max(0.01, round(km2, 2)))
