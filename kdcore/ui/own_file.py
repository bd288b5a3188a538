"""A raster of one's own on the Map page: which one, progress, show, take the maps along, remove."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import streamlit as st

from kdcore.errors import KdcoreError, RunError
from kdcore.files import expanded
from kdcore.inference import uploads
from kdcore.inference.uploads import MOST_BYTES, MOST_PIXELS, Upload, UploadStatus
from kdcore.jobs.progress import Stage
from kdcore.jobs.status import ACTIVE
from kdcore.jobs.study_folder import StudyFolder
from kdcore.jobs.workspace import Workspace
from kdcore.ui.formatting import duration, megabytes, plain
from kdcore.ui.mistakes import SCENE
from kdcore.ui.people import confined, locked, permit, permitted, stop_button
from kdcore.ui.stages import doing, run_in_words, stage_in_words

ICONS = {
    "finished": ":material/check_circle:",
    "failed": ":material/error:",
    "interrupted": ":material/power_off:",
    "stopped": ":material/pause_circle:",
}
MOST_DOWNLOADED = 500_000_000  # bytes


def finished_names(found: Sequence[tuple[Upload, UploadStatus]]) -> dict[str, str]:
    """Name on screen of each raster of one's own that can be shown, by its id; no two are alike."""
    names = [status.name for _, status in found]
    return {
        upload.id: f"Your file: {status.name}{f' ({upload.id[-4:]})' if names.count(status.name) > 1 else ''}"
        for upload, status in found
        if status.state == "finished"
    }


def show_own_files(workspace: Workspace, study: StudyFolder, found: Sequence[tuple[Upload, UploadStatus]]) -> None:
    """The part of the page that takes a file and lists those that were given, `found` when the page began."""
    busy = [row for row in found if row[1].state in ACTIVE]
    with st.expander("Map a raster of your own", icon=":material/upload_file:", expanded=bool(found)):
        st.markdown(
            "The study's networks mark your imagery, and it appears on the map above; the maps and polygons can be downloaded. "
            "It should be of the kind that they were trained on: the same bands, values and ground sample distance."
        )
        upload_tab, machine_tab = st.tabs(["Upload a GeoTIFF", "A raster on this machine"])
        with upload_tab:
            show_upload(workspace, study)
        with machine_tab:
            show_path(workspace, study)
        if busy:
            watch(workspace, study, len(busy))
        for upload, status in found:
            if status.state not in ACTIVE:
                show_row(upload, status)


def show_upload(workspace: Workspace, study: StudyFolder) -> None:
    """The form that takes a file."""
    with st.form("own file", border=False, clear_on_submit=True):
        file = st.file_uploader("A GeoTIFF file", type=["tif", "tiff"], max_upload_size=MOST_BYTES // 1_000_000)
        st.caption(
            f"At most {MOST_BYTES // 1_000_000}\u00a0MB and {MOST_PIXELS // 1_000_000} million pixels. "
            "Whoever uses this dashboard can see it until it is removed."
        )
        sent = st.form_submit_button("Mark it", icon=":material/draw:", disabled=locked())
    if sent and file is not None:
        take(file.name, lambda: uploads.receive(workspace, study.id, file.name, file))
    elif sent:
        st.info("Choose a file first.", icon=":material/info:")


def show_path(workspace: Workspace, study: StudyFolder) -> None:
    """The form that takes the path of a raster of any size."""
    with st.form("own path", border=False):
        text = st.text_input("Path of a raster", placeholder="/data/scenes/city.tif", max_chars=1000)
        st.caption("Of any size; it stays where it is. What is finished survives a stop or a crash of the machine.")
        sent = st.form_submit_button("Map it", icon=":material/map:", disabled=locked())
    if sent and text.strip():
        take(text.strip(), lambda: uploads.point_at(workspace, study.id, allowed(text.strip())))
    elif sent:
        st.info("Type a path first.", icon=":material/info:")


def allowed(text: str) -> Path:
    """A path that was typed.

    Raises:
        NotAllowedError: it lies outside the folders of the team.
    """
    path = expanded(text)
    confined(path)
    return path


def take(name: str, receive: Callable[[], Upload]) -> None:
    """Check a raster and start marking it, or say in one sentence why not."""
    try:
        permit("mapped", name)
        receive().start()
    except KdcoreError as error:
        st.error(plain(str(error)), icon=":material/error:")
    else:
        st.rerun()


@st.fragment(run_every=1.0)
def watch(workspace: Workspace, study: StudyFolder, drawn: int) -> None:
    """The files that are being marked; when one of the `drawn` ends, the page is drawn anew, with it among its scenes.

    Only these are drawn here: a button inside a fragment reruns no more than the fragment, and one that is drawn in the
    fragment's last moment takes a click that nobody answers.
    """
    busy = [row for row in uploads.uploads_of(workspace, study.id) if row[1].state in ACTIVE]
    if len(busy) != drawn:
        st.rerun(scope="app")
    for upload, status in busy:
        show_row(upload, status)


def show_row(upload: Upload, status: UploadStatus) -> None:
    """A file's name, how far it is, and what can be done with it."""
    with st.container(horizontal=True, vertical_alignment="center"):
        name = plain(status.name)
        if status.state in ACTIVE:
            share = status.done / status.total if status.total else 0.0
            st.progress(share, text=f"{name} – {plain(progress_in_words(upload.id, status))}")
            stop_button(f"stop {upload.id}", stop, upload)
            return
        said = f" – {plain(status.message)}" if status.message else ""
        st.markdown(f"{ICONS[status.state]} {name}: {status.state}{said}", width="stretch")
        if status.state == "finished":
            st.button("Show", icon=":material/map:", key=f"show {upload.id}", on_click=choose, args=(upload.id,))
            with st.popover("Download", icon=":material/download:"):
                show_downloads(upload, status)
        else:
            st.button(
                "Go on",
                icon=":material/play_arrow:",
                key=f"resume {upload.id}",
                on_click=go_on,
                args=(upload,),
                disabled=locked(),
            )
        st.button(
            "Remove",
            icon=":material/delete:",
            key=f"remove {upload.id}",
            on_click=remove,
            args=(upload,),
            disabled=locked(),
        )


def progress_in_words(upload_id: str, status: UploadStatus) -> str:
    """The stage, how far it is, and while pixels are mapped how fast that goes and how long it will take."""
    progress = status.progress
    if progress is None or progress.stage is not Stage.MAPPING:
        return doing(progress, "starting", alone=False)
    said = f"{stage_in_words(progress)}: {status.done / 1e6:.1f} of {status.total / 1e6:.1f} MPx"
    now, key = time.monotonic(), f"speed {upload_id}"
    run, then, before = st.session_state.setdefault(key, (status.run, now, status.done))
    if run != status.run:
        st.session_state[key] = (status.run, now, status.done)
    elif status.done > before and now > then:
        speed = (status.done - before) / (now - then)
        said += f", {speed / 1e6:.2f} MPx/s, {duration((status.total - status.done) / speed)} left"
    return said


def show_downloads(upload: Upload, status: UploadStatus) -> None:
    """What each network made of it. A file is read only when its button is pressed."""
    stem = Path(status.name).stem
    for run in upload.probabilities():
        st.markdown(f"**{plain(run_in_words(run).capitalize())}**")
        for title, file in upload.results(run).items():
            size = file.stat().st_size
            if size > MOST_DOWNLOADED:
                st.caption(f"{title}, {megabytes(size)}: too large for a browser; it lies at `{file}`.")
                continue
            st.download_button(
                f"{title}, {megabytes(size)}",
                file.read_bytes,
                file_name=f"{stem}.{file.name}",
                key=f"take {upload.id} {file.name}",
                on_click="ignore",
                width="stretch",
            )


def choose(upload_id: str) -> None:
    """Choose it as the map's scene."""
    st.session_state[SCENE] = upload_id


def stop(upload: Upload) -> None:
    """Ask its process to end, unless it has just done so."""
    if permitted("stopped", upload.id):
        with suppress(RunError):
            upload.stop()


def go_on(upload: Upload) -> None:
    """Let it go on where it was, unless another window has just done so."""
    if permitted("resumed", upload.id):
        with suppress(RunError):
            upload.resume()


def remove(upload: Upload) -> None:
    """Delete it, unless another window has just begun to mark it."""
    if permitted("deleted", upload.id):
        with suppress(RunError):
            upload.delete()
