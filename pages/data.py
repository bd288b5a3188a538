"""Choose data, look at it, and see every problem with its mend."""

from pathlib import Path
from typing import Any

import streamlit as st

from kdcore.errors import DataError, KdcoreError
from kdcore.runs.library import Library
from kdcore.ui import data_view
from kdcore.ui.address import select_in_address
from kdcore.ui.choices import DEMO, known_data
from kdcore.ui.data_source import overview
from kdcore.ui.formatting import plain
from kdcore.ui.study_picker import workspace

OTHER = "other"
DEMO_SEED = 0
DEMO_AREA = workspace().areas / f"demo-{DEMO_SEED}"
DEMO_WORDS = """
The demo area is made on this machine, in about half a minute and without a download: seven districts that look like satellite imagery, with
buildings, roads, water and trees whose truth is known to the pixel.
"""
LAYOUT = """
A collection is a folder with `images/` and, for each image, a mask of the same name in `masks/` or polygons in `labels/`:

```
my-town/
  images/   north.tif, south.tif, …
  masks/    north.tif, south.tif, …      or      labels/   north.geojson, south.geojson, …
```
"""


def choose(library: Library) -> Path | None:
    """What to look at: the demo area, a known collection, or a folder by its path; None where none is named yet."""
    known = known_data(library.known(), workspace().studies()) | {OTHER: "A folder on this machine …"}
    left, right = st.columns((2, 3))
    with left:
        chosen = select_in_address("Collection", "collection", known, DEMO)
    if chosen == DEMO:
        return DEMO_AREA
    if chosen != OTHER:
        return Path(chosen)
    with right:
        text = st.text_input(
            "Folder, collection.yaml or image on this machine",
            key="folder",
            bind="query-params",
            placeholder="/home/you/imagery/my-town",
        ).strip()
    return Path(text).expanduser() if text else None


def offer_demo() -> None:
    """Say what the demo area is, and make it when asked."""
    st.markdown(DEMO_WORDS)
    if st.button("Make the demo area", type="primary", icon=":material/landscape:"):
        look(DEMO_AREA)
        st.rerun()


def look(path: Path) -> dict[str, Any]:
    """Look at the data and show what is being done meanwhile."""
    place = st.empty()
    try:
        with place.status("Looking at the data …") as status:
            return overview(
                path,
                lambda text: status.update(label=f"{plain(text[:120])} …"),
                DEMO_SEED if path == DEMO_AREA else None,
            )
    finally:
        place.empty()


def save(library: Library, text: str, root: Path) -> None:
    """Check and keep edited settings, then look at the data through them."""
    try:
        file = library.save(text, root)
    except KdcoreError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return
    st.query_params["collection"] = str(file)
    st.rerun()


def show(library: Library, path: Path) -> None:
    """What is in the data, and the next step: mend the proposed settings, or train."""
    found = look(path)
    data_view.show_problems(found)
    data_view.show_facts(found)
    data_view.show_split(found)
    data_view.show_pictures(found)
    data_view.show_files(found)
    if found["proposal"] is not None:
        text = data_view.edit_proposal(found)
        if st.button("Check and save", type="primary", icon=":material/save:"):
            save(library, text, data_view.root_of(found))
    elif data_view.is_usable(found):
        if path != DEMO_AREA:
            library.remember(path)
        if st.button("Train on this", type="primary", icon=":material/school:"):
            st.switch_page("train.py", query_params={"data": DEMO if path == DEMO_AREA else str(path)})


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
    show(library, chosen)
