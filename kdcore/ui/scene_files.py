"""What of the scene on the map goes into a GIS: its maps, points to label for areas, and the tiles to label next."""

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from kdcore.errors import KdcoreError
from kdcore.inference.uploads import MOST_PIXELS, PREFIX, PROBABILITIES
from kdcore.jobs.study_folder import StudyFolder
from kdcore.server.lookup import ShownScene, find_scene
from kdcore.ui import area
from kdcore.ui.formatting import percent, plain
from kdcore.ui.map_view import MapChoice, arms_of

HEAD = "Files for QGIS, hectares with intervals, and where to label next"
NEXT = (
    "The tiles on which teacher and student disagree most, spread over the area: labels teach most there. "
    "They are no probability sample, so never estimate an area from them."
)
LABELLED = (
    "This scene is labelled already, and it is tested on, so nothing may be trained on it. Mark a raster of your own above, "
    "and choose it as the scene: then the tiles to label next are chosen here."
)
LARGE = "This raster is too large for a page. On the command line:"


def show(study: StudyFolder, choice: MapChoice) -> None:
    """The part of the Map page that makes files of the scene that is shown."""
    with st.expander(HEAD, icon=":material/download:"):
        try:
            scene = find_scene(study.id, choice.scene.id)
        except KdcoreError as error:
            st.error(plain(str(error)), icon=":material/error:")
            return
        runs = {run: name for run, name in choice.runs.items() if run in scene.maps}
        if not runs:
            st.info("No network mapped this scene.", icon=":material/map:")
            return
        maps, hectares, next_tiles = st.tabs(["Maps of this scene", "Hectares with intervals", "Where to label next"])
        with maps:
            show_maps(study, scene, runs)
        own = choice.scene.id.startswith(PREFIX)
        small = not own or choice.scene.height * choice.scene.width <= MOST_PIXELS
        with hectares:
            if small:
                area.show(study, scene, runs, write_classes)
            else:
                show_command("area sample", "points.gpkg", scene, [list(runs)[area.usual(runs)]])
        with next_tiles:
            arms = arms_of(study)
            if not own:
                st.markdown(LABELLED)
            elif not {arms["teacher"], arms["distilled"]} <= runs.keys():
                st.info("Both teacher and distilled student have to map this raster first.", icon=":material/map:")
            elif small:
                show_next(study, scene, arms["teacher"], arms["distilled"])
            else:
                show_command("data next", "next.gpkg", scene, [arms["teacher"], arms["distilled"]])


def show_command(command: str, out: str, scene: ShownScene, runs: list[str]) -> None:
    """The command that does the same with rasters of any size."""
    st.markdown(LARGE)
    files = " ".join(f"'{classes_beside(scene.map_of(run))}'" for run in runs)
    st.code(f"kdcore {command} {files} {out}", language="bash", wrap_lines=True)


def classes_beside(probabilities: Path) -> Path:
    """The map of classes that a prediction has written beside its probabilities; it need not be there."""
    return probabilities.with_name(f"{probabilities.name.removesuffix(PROBABILITIES)}.classes.tif")


def write_classes(study: StudyFolder, scene: ShownScene, run: str, folder: Path) -> Path:
    """A run's map of classes: the one that is there, else a new one in a folder.

    Raises:
        KdcoreError: the run's map cannot be read, or the disk is full.
    """
    from kdcore.inference.class_maps import write_class_map

    made, out = classes_beside(scene.map_of(run)), folder / f"{run}.classes.tif"
    if made.is_file() and scene.scene.id.startswith(PREFIX):
        return made
    layers = scene.layers
    threshold = study.run(run).own_threshold(layers.classes)
    write_class_map(scene.map_of(run), out, layers.classes, layers.colours, threshold)
    return out


def show_maps(study: StudyFolder, scene: ShownScene, runs: dict[str, str]) -> None:
    """Classes, probabilities and polygons of each network. A file is made only when its button is pressed."""
    if scene.scene.id.startswith(PREFIX):
        st.markdown("The maps and polygons of your raster are under **Download** beside its name above.")
        return
    stem = f"{study.id}-{scene.scene.id}"
    for run, name in runs.items():
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{plain(name)}**", width=200)
            for title, end, make in (
                ("Classes (GeoTIFF)", "classes.tif", classes_of),
                ("Polygons (GeoPackage)", "gpkg", polygons_of),
                ("Probabilities (GeoTIFF)", "probabilities.tif", probabilities_of),
            ):
                st.download_button(
                    title,
                    deferred(make, study, scene, run),
                    file_name=f"{stem}-{run}.{end}",
                    key=f"file {run} {end}",
                    on_click="ignore",
                )
    st.caption("Of the test part. Two classes are told apart at the threshold that each network chose on validation.")


def deferred(
    make: Callable[[StudyFolder, ShownScene, str], bytes], study: StudyFolder, scene: ShownScene, run: str
) -> Callable[[], bytes]:
    """What makes a file once its button is pressed."""
    return lambda: make(study, scene, run)


def classes_of(study: StudyFolder, scene: ShownScene, run: str) -> bytes:
    """A run's map of classes as a GeoTIFF."""
    with tempfile.TemporaryDirectory() as folder:
        return write_classes(study, scene, run, Path(folder)).read_bytes()


def probabilities_of(study: StudyFolder, scene: ShownScene, run: str) -> bytes:
    """A run's probabilities as a GeoTIFF."""
    return scene.map_of(run).read_bytes()


def polygons_of(study: StudyFolder, scene: ShownScene, run: str) -> bytes:
    """A run's objects as a GeoPackage."""
    from kdcore.inference.class_maps import write_objects

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / f"{run}.gpkg"
        classes = write_classes(study, scene, run, Path(folder))
        write_objects(classes, scene.map_of(run), out, scene.layers.classes, scene.layers.colours)
        return out.read_bytes()


def show_next(study: StudyFolder, scene: ShownScene, teacher: str, student: str) -> None:
    """Choose the tiles to label next, show them, and take them along."""
    from kdcore.inference.label_next import write_next

    st.markdown(NEXT)
    kept = f"next tiles {study.id} {scene.scene.id}"
    with st.form(f"form of {kept}", border=False):
        left, right = st.columns(2)
        tiles = left.number_input("Tiles", 1, 1000, 10)
        side = right.number_input("Side of a tile, pixels", 8, 8192, 256, step=64)
        sent = st.form_submit_button("Choose tiles", icon=":material/grid_on:")
    if sent:

        def make(folder: Path, out: Path) -> list[dict[str, Any]]:
            first, second = (write_classes(study, scene, run, folder) for run in (teacher, student))
            return [asdict(tile) for tile in write_next(first, second, out, int(tiles), int(side))]

        area.make_file(kept, make)
    if kept in st.session_state:
        rows, contents = st.session_state[kept]
        area.offer("Tiles (GeoPackage)", contents, f"{scene.scene.id}-next.gpkg")
        table = [
            {"Rank": rank, "Row": row["row"], "Column": row["column"], "Other class": percent(row["disagreement"], 0)}
            for rank, row in enumerate(rows, 1)
        ]
        st.dataframe(
            pd.DataFrame(table),
            hide_index=True,
            alt="The tiles to label next, the one with the largest disagreement first",
        )
