"""Hectares of each class with intervals: draw points from a map, take back those that somebody labelled, estimate."""

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import pandas as pd
import streamlit as st

from kdcore.errors import KdcoreError
from kdcore.inference.uploads import copy_limited, run_apart, short
from kdcore.jobs.study_folder import StudyFolder
from kdcore.server.lookup import ShownScene
from kdcore.ui.formatting import percent, plain
from kdcore.ui.people import locked, permit

Write = Callable[[StudyFolder, ShownScene, str, Path], Path]
"""Writes a run's map of classes into a folder, or names the one that is there."""

WHAT = (
    "Counting a map's pixels gives a wrong area by an unknown amount. A random sample of points whose true class you look up gives each "
    "class's area with a 95 % confidence interval, and says how accurate each network's map is."
)
LABELLING = (
    "**2. Label in QGIS.** Open the layer `points`, give each point its true class in the field `label`, from imagery that is better than the "
    "map's and without looking at the map; save. Every point needs a label."
)
NOWHERE = "This scene is not georeferenced, so its pixels have no area."
MOST_MEGABYTES = 50  # of a sample; 100,000 points take 20
FIX = "Save it again in QGIS as a GeoPackage, with the layers `points`, `design` and `strata` as they were drawn."


def show(study: StudyFolder, scene: ShownScene, runs: Mapping[str, str], write: Write) -> None:
    """Three steps: points, labels, hectares.

    Args:
        study: whose networks mapped the scene.
        scene: what is shown on the map.
        runs: name on screen of each network that mapped it, by its run.
        write: makes maps of classes.
    """
    st.markdown(WHAT)
    if not scene.scene.georeferenced:
        st.info(NOWHERE, icon=":material/location_off:")
        return
    draw_points(study, scene, runs, write)
    st.markdown(LABELLING)
    take_labels(study, scene, runs, write)


def draw_points(study: StudyFolder, scene: ShownScene, runs: Mapping[str, str], write: Write) -> None:
    """Draw a stratified random sample from a map, and give it away as a GeoPackage."""
    kept = f"area sample {study.id} {scene.scene.id}"
    st.markdown("**1. Draw points.** The classes of one network's map are the strata.")
    with st.form(f"form of {kept}", border=False):
        first, second, third = st.columns(3)
        run = first.selectbox("Strata of", list(runs), usual(runs), format_func=runs.__getitem__)
        points = second.number_input("Points in all", 2, 100_000, 300, step=50)
        least = third.number_input("In each class, at least", 2, 10_000, 50, step=10)
        sent = st.form_submit_button("Draw points", icon=":material/scatter_plot:")
    if sent:
        from kdcore.inference.area_sample import draw

        def make(folder: Path, out: Path) -> dict[str, Any]:
            return draw(write(study, scene, run, folder), out, int(points), int(least), seed=0)

        make_file(kept, make)
    if kept in st.session_state:
        drawn, contents = st.session_state[kept]
        counts = ", ".join(f"{entry['points']} in {name}" for name, entry in drawn.items() if entry["points"])
        st.markdown(plain(f"{sum(entry['points'] for entry in drawn.values())} points: {counts}."))
        offer("Points (GeoPackage)", contents, f"{scene.scene.id}-points.gpkg")


def make_file(kept: str, make: Callable[[Path, Path], Any]) -> None:
    """Make a GeoPackage and keep what was told of it and its contents in the session, or say in a sentence why not.

    Args:
        kept: key in the session of the pair.
        make: is given a folder for what it needs and the file to write; what it returns is kept.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "made.gpkg"
            st.session_state[kept] = make(Path(folder), out), out.read_bytes()
    except KdcoreError as error:
        st.session_state.pop(kept, None)
        text = str(error).replace("--least", "the points in each class").replace("--side", "side")
        st.error(plain(text), icon=":material/error:")


def offer(title: str, contents: bytes, name: str) -> None:
    """The button that takes such a file along."""
    st.download_button(title, contents, file_name=name, icon=":material/download:", on_click="ignore")


def usual(runs: Mapping[str, str]) -> int:
    """The place of the distilled student among the runs, else the last."""
    return next((place for place, run in enumerate(runs) if run.startswith("distilled")), len(runs) - 1)


def take_labels(study: StudyFolder, scene: ShownScene, runs: Mapping[str, str], write: Write) -> None:
    """Take the labelled points back, and say what they say."""
    kept = f"area {study.id} {scene.scene.id}"
    st.markdown("**3. Estimate.**")
    with st.form(f"form of {kept}", border=False):
        file = st.file_uploader("The labelled points", type=["gpkg"], max_upload_size=MOST_MEGABYTES)
        sent = st.form_submit_button("Estimate", icon=":material/straighten:", disabled=locked())
    if sent and file is None:
        st.info("Choose a file first.", icon=":material/info:")
    elif sent and file is not None:
        st.session_state.pop(kept, None)
        try:
            permit("estimated areas with", file.name)
            with st.spinner("Estimating …"):
                st.session_state[kept] = estimate(study, scene, runs, write, file, file.name)
        except KdcoreError as error:
            st.error(plain(str(error)), icon=":material/error:")
    if kept in st.session_state:
        show_areas(st.session_state[kept])


def estimate(
    study: StudyFolder, scene: ShownScene, runs: Mapping[str, str], write: Write, file: IO[bytes], name: str
) -> dict[str, Any]:
    """What a labelled sample says, see `kdcore.inference.area_sample.estimate`; a stranger's file is read in a process of its own.

    Raises:
        KdcoreError: it is no probability sample, points lack labels, or it cannot be read: one sentence.
    """
    with tempfile.TemporaryDirectory() as folder:
        sample = Path(folder) / "sample.gpkg"
        copy_limited(file, sample, name)
        maps = {runs[run]: str(write(study, scene, run, Path(folder))) for run in runs}
        found: dict[str, Any] = json.loads(
            run_apart("kdcore.inference.estimate_upload", [str(sample), short(name), json.dumps(maps)], name, FIX)
        )
    return found


def show_areas(found: Mapping[str, Any]) -> None:
    """Hectares of each class beside plain pixel counting, and how right each map is."""
    st.table(
        pd.DataFrame(area_rows(found)),
        hide_index=True,
        border="horizontal",
        alt="Hectares of each class with intervals, beside those that counting the pixels of each map gives",
    )
    st.markdown("\n".join(f"- {plain(line)}" for line in accuracy_lines(found)))
    st.caption(
        f"From {found['points']} labelled points, with {100 * found['confidence']:g} % confidence intervals. They do not cover labels that are "
        "wrong, imagery of another date than the map's, or ground outside the map."
    )


def area_rows(found: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row for each class, as Markdown: hectares with their interval, and as counted on each map."""
    return [
        {
            "Class": plain(name),
            "Hectares": f"{area['value']:,.2f} ({area['low']:,.2f} to {area['high']:,.2f})",
            **{
                f"Pixels counted, {plain(map_name)}": f"{hectares[name]:,.2f}"
                for map_name, hectares in found["counted"].items()
                if map_name in found["maps"]
            },
        }
        for name, area in found["areas"].items()
    ]


def accuracy_lines(found: Mapping[str, Any]) -> list[str]:
    """How much of the area each map has right, and the class that it finds worst."""
    lines = []
    for name, judged in found["maps"].items():
        known = {kind: share["value"] for kind, share in judged["producers"].items() if share["value"] is not None}
        worst = min(known, key=known.__getitem__, default=None)
        line = f"{name}: {share_in_words(judged['overall'])} of the area right"
        if worst is not None:
            line += f"; it finds least of {worst}, {share_in_words(judged['producers'][worst])} of it"
        lines.append(f"{line}.")
    return lines


def share_in_words(value: Mapping[str, float | None]) -> str:
    """'91.2 % (88.0 to 94.1)'."""
    share, low, high = value["value"], value["low"], value["high"]
    if share is None or low is None or high is None:
        return "an unknown share"
    return f"{percent(share)} ({100 * low:.1f} to {100 * min(1.0, high):.1f})"
