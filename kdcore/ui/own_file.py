"""A GeoTIFF of one's own on the Map page: upload, progress, show, remove."""

from collections.abc import Sequence
from contextlib import suppress

import streamlit as st

from kdcore.errors import KdcoreError, RunError
from kdcore.inference import uploads
from kdcore.inference.uploads import MOST_BYTES, MOST_PIXELS, Upload, UploadStatus
from kdcore.runs.study_folder import StudyFolder
from kdcore.runs.workspace import Workspace
from kdcore.ui.formatting import plain
from kdcore.ui.worst_tiles import SCENE

ICONS = {
    "finished": ":material/check_circle:",
    "failed": ":material/error:",
    "interrupted": ":material/power_off:",
    "stopped": ":material/pause_circle:",
}
BUSY = ("waiting", "running")


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
    busy = [row for row in found if row[1].state in BUSY]
    with st.expander("Try it on a GeoTIFF of your own", icon=":material/upload_file:", expanded=bool(found)):
        st.markdown(
            "The study's networks mark your imagery, and it appears on the map above. It should be of the kind that they "
            f"were trained on: the same bands, values and ground resolution. At most {MOST_BYTES // 1_000_000}\u00a0MB and "
            f"{MOST_PIXELS // 1_000_000} million pixels. Whoever uses this dashboard can see it until it is removed."
        )
        with st.form("own file", border=False, clear_on_submit=True):
            file = st.file_uploader("A GeoTIFF file", type=["tif", "tiff"], max_upload_size=MOST_BYTES // 1_000_000)
            sent = st.form_submit_button("Mark it", icon=":material/draw:")
        if sent and file is not None:
            take_file(workspace, study, file)
        elif sent:
            st.info("Choose a file first.", icon=":material/info:")
        if busy:
            watch(workspace, study, len(busy))
        for upload, status in found:
            if status.state not in BUSY:
                show_row(upload, status)


def take_file(workspace: Workspace, study: StudyFolder, file: st.runtime.uploaded_file_manager.UploadedFile) -> None:
    """Check a file and start marking it, or say in one sentence why not."""
    try:
        uploads.start(uploads.receive(workspace, study.id, file.name, file))
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
    busy = [row for row in uploads.uploads_of(workspace, study.id) if row[1].state in BUSY]
    if len(busy) != drawn:
        st.rerun(scope="app")
    for upload, status in busy:
        show_row(upload, status)


def show_row(upload: Upload, status: UploadStatus) -> None:
    """A file's name, how far it is, and what can be done with it."""
    with st.container(horizontal=True, vertical_alignment="center"):
        name = plain(status.name)
        if status.state in BUSY:
            stage = f"{status.stage}: {status.done} of {status.total}" if status.total else "starting"
            st.progress(status.done / status.total if status.total else 0.0, text=f"{name} – {plain(stage)}")
            st.button("Stop", icon=":material/stop:", key=f"stop {upload.id}", on_click=uploads.stop, args=(upload,))
            return
        said = f" – {plain(status.message)}" if status.message else ""
        st.markdown(f"{ICONS[status.state]} {name}: {status.state}{said}", width="stretch")
        if status.state == "finished":
            st.button("Show", icon=":material/map:", key=f"show {upload.id}", on_click=choose, args=(upload.id,))
        st.button("Remove", icon=":material/delete:", key=f"remove {upload.id}", on_click=remove, args=(upload,))


def choose(upload_id: str) -> None:
    """Choose it as the map's scene."""
    st.session_state[SCENE] = upload_id


def remove(upload: Upload) -> None:
    """Delete it, unless another window has just begun to mark it."""
    with suppress(RunError):
        uploads.remove(upload)
