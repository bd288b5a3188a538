"""Choose data, look at it, and see every problem with how to fix it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

from kdcore.errors import DataError, KdcoreError
from kdcore.jobs.library import Library
from kdcore.jobs.progress import Progress, Report
from kdcore.ui import data_edit, data_view
from kdcore.ui.address import select_in_address
from kdcore.ui.choices import DEMO, known_data
from kdcore.ui.data_source import edited_overview, overview
from kdcore.ui.folder_browser import choose_folder, first_place, opened_by_hand
from kdcore.ui.formatting import plain
from kdcore.ui.people import confined, locked, permit
from kdcore.ui.stages import doing
from kdcore.ui.study_picker import recent_studies, workspace

OTHER = "other"
DEMO_SEED = 0
DEMO_AREA = workspace().areas / f"demo-{DEMO_SEED}"
DEMO_WORDS = """
The demo area is made on this machine, in about half a minute and without a download: seven districts that look like satellite imagery, with
buildings, roads, water and trees whose truth is known to the pixel.
"""
ACCEPT = "Writes these settings as collection.yaml into the folder, or into the workspace where the folder is read-only, and goes on to Train."
LOOK_AGAIN = "Once the problems are fixed, looks at the changed files."
LAYOUT = """
A collection is a folder with `images/` and, for each image, a mask of the same name in `masks/` or polygons in `labels/`:

```
my-town/
  images/   north.tif, south.tif, …
  masks/    north.tif, south.tif, …      or      labels/   north.geojson, south.geojson, …
```
"""


def choose(library: Library) -> Path | None:
    """What to look at: the demo area, a known collection, or a folder by clicks or its path; None where none is named yet."""
    known = known_data(library.known(), recent_studies())
    options = known if locked() else known | {OTHER: "A folder on this machine …"}
    chosen = select_in_address("Collection", "collection", options, DEMO)
    if chosen == DEMO:
        return DEMO_AREA
    if chosen != OTHER:
        return Path(chosen)
    used = [Path(text) for text in library.remembered()]
    return confined(choose_folder(known, first_place(used, workspace().path)))


def offer_demo() -> None:
    """Say what the demo area is, and make it when asked; the way to data of one's own stands beside it."""
    st.markdown(DEMO_WORDS)
    with st.container(horizontal=True):
        made = st.button("Make the demo area", type="primary", icon=":material/landscape:", disabled=locked())
        st.button(
            "Use a folder of your own",
            icon=":material/folder_open:",
            disabled=locked(),
            on_click=st.query_params.update,
            args=({"collection": OTHER},),
        )
    if made:
        permit("made", "the demo area")
        look(DEMO_AREA)
        st.rerun()


def look(path: Path, ask: Callable[[Report], dict[str, Any]] | None = None) -> dict[str, Any]:
    """Look at the data and show what is being done meanwhile.

    Args:
        path: of the data.
        ask: how to look at them; as they are on the disk where it is not said.
    """
    place = st.empty()
    try:
        with place.status("Looking at the data …") as status:

            def tell(progress: Progress) -> None:
                status.update(label=f"{plain(doing(progress, 'Looking at the data')[:120])} …")

            return ask(tell) if ask else overview(path, tell, DEMO_SEED if path == DEMO_AREA else None)
    finally:
        place.empty()


def train_on(data: str) -> None:
    """Go on to the Train page with these data chosen."""
    st.switch_page("train.py", query_params={"data": data})


def show_collection(library: Library, path: Path, found: dict[str, Any]) -> None:
    """What has settings of its own: what is in it, and the way to training."""
    usable = data_view.is_usable(found)
    with st.container(horizontal=True, vertical_alignment="center", border=True):
        data_view.show_summary(found)
        if usable:
            if opened_by_hand(path) and not locked():  # a link that is opened changes nothing
                library.remember(path)
            if st.button("Train on this", type="primary", icon=":material/school:"):
                train_on(DEMO if path == DEMO_AREA else str(path))
        else:
            st.button("Look again", type="primary", icon=":material/refresh:", help=LOOK_AGAIN)
    data_view.show_problems(found)
    data_view.show_facts(found)
    data_view.show_split(found)
    data_view.show_pictures(found)
    data_view.show_files(found)


def show_proposal(library: Library, path: Path, proposed: dict[str, Any]) -> None:
    """What has no settings yet: those that are proposed, to edit and to accept."""
    text = proposed["proposal"] if locked() else data_edit.draft(proposed)
    mistake = data_edit.mistake_in(text)
    if mistake is None:
        confined(data_edit.named_root(text))
    found = proposed
    if text != proposed["proposal"] and mistake is None:
        found = look(path, lambda tell: edited_overview(path, proposed, text, tell))
    with st.container(horizontal=True, vertical_alignment="center", border=True):
        data_view.show_summary(found)
        if data_view.is_usable(found) and mistake is None:
            accepted = st.button(
                "Accept and train", type="primary", icon=":material/school:", help=ACCEPT, disabled=locked()
            )
        else:
            accepted = False
            st.button("Look again", type="primary", icon=":material/refresh:", help=LOOK_AGAIN)
    told = st.container()
    data_view.show_problems(found)
    data_view.show_facts(found)
    data_view.show_split(found)
    if mistake is None:
        data_edit.edit_tables(found, text)
    saved = data_edit.edit_yaml(found, text, mistake)
    data_view.show_pictures(found)
    data_view.show_files(found)
    if not (accepted or saved) or mistake is not None:
        return
    root = data_edit.root_of(found)
    try:
        permit("saved", f"settings of {root}")
        data = library.accept(text, root) if accepted else library.save(text, root)
    except KdcoreError as error:
        told.error(plain(str(error)), icon=":material/error:")
        return
    if accepted:
        train_on(str(data))
    st.query_params["collection"] = str(data)
    st.rerun()


st.title("Data", icon=":material/database:")
st.markdown("What a study is fed: imagery, labels, and a split that keeps the test apart from what was trained on.")
library = Library(workspace())
chosen = choose(library)
if chosen is None:
    st.markdown(LAYOUT)
elif not chosen.is_absolute():
    raise DataError(f"{chosen}: write the full path, from / on.")
elif chosen == DEMO_AREA and not (chosen / "collection.yaml").exists():
    offer_demo()
else:
    found = look(chosen)
    if found["proposal"] is None:
        show_collection(library, chosen, found)
    else:
        show_proposal(library, chosen, found)
