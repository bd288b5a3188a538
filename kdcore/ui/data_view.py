"""What the Data page shows of what was found."""

import base64
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from kdcore.ui import words
from kdcore.ui.cards import CARD
from kdcore.ui.formatting import count, percent, plain
from kdcore.views.charts import share_chart, split_chart

Found = dict[str, Any]
FACTS = {
    "file": "Image",
    "width": "Width",
    "height": "Height",
    "bands": "Bands",
    "dtype": "Type",
    "driver": "Format",
    "crs": "CRS",
    "metres_per_pixel": "m per pixel",
    "nodata": "Nodata",
}


def show_facts(found: Found) -> None:
    """Scenes, ground, resolution and bands, in a row of equal cards."""
    images = found["inspection"]["images"]
    collection = found["collection"]
    if not images:
        return
    megapixels = sum(image["width"] * image["height"] for image in images) / 1e6
    metres = collection["metres_per_pixel"] if collection else images[0]["metres_per_pixel"]
    ground = sum(
        scene["width"] * scene["height"] * metres**2
        for scene in (collection["scenes"] if collection and metres else [])
    )
    scenes, area, resolution, bands = st.columns(4)
    groups = len({scene["group"] for scene in collection["scenes"]}) if collection else len(images)
    scenes.metric("Scenes", f"{groups:,}", delta=count(len(images), "image"), **CARD)
    area.metric(
        "Imagery",
        f"{megapixels:,.1f} MPx",
        delta=f"{ground / 1e4:,.1f} ha of ground" if ground else "ground unknown",
        **CARD,
    )
    native = sorted({image["metres_per_pixel"] for image in images if image["metres_per_pixel"]})
    resolution.metric(
        "A pixel is",
        f"{metres:.2g} m" if metres else "unknown",
        delta=f"{native[0]:.2g} m in the files" if native else "no georeference",
        help="Side of a pixel on the ground as networks see it.",
        **CARD,
    )
    types = Counter(image["dtype"] for image in images)
    seen = collection["bands"] if collection else images[0]["bands"]
    bands.metric("Bands", f"{seen}", delta=", ".join(types), **CARD)


def show_problems(found: Found) -> None:
    """Every problem with its mend; then what is good to know."""
    inspection = found["inspection"]
    problems = list(inspection["problems"])
    if found["error"] and found["error"] not in problems:
        problems.append(found["error"])
    for problem in problems:
        st.error(plain(problem), icon=":material/build:")
    if not problems:
        st.success("No problems found.", icon=":material/check:")
    if inspection["notes"]:
        with st.expander(f"{count(len(inspection['notes']), 'note')}: good to know", icon=":material/info:"):
            st.markdown("\n".join(f"- {plain(note)}" for note in inspection["notes"]))


def show_split(found: Found) -> None:
    """A plan of what trains, validates and tests, and the classes' shares in each part."""
    collection = found["collection"]
    if collection is None:
        return
    plan, shares = st.columns((3, 2))
    with plan:
        st.subheader("What trains, what tests", help=f"{words.TERMS['validation']} {words.TERMS['buffer']}")
        st.altair_chart(
            split_chart(collection["scenes"]),
            width="content",
            alt="Plan of the scenes, coloured by the part of the split",
        )
        unit = "whole scenes" if collection["split_by"] == "scene" else "blocks of each scene"
        st.caption(
            f"Split by {unit}: neighbouring pixels look alike, so a test must not lie among what was trained on."
            + (f" {count(collection['unlabelled'], 'more image')} without labels." if collection["unlabelled"] else "")
        )
    with shares:
        st.subheader("Classes")
        show_shares(
            found["inspection"]["class_pixels"], dict(zip(collection["classes"], collection["colours"], strict=True))
        )


def show_shares(pixels: dict[str, dict[str, int]], colours: dict[str, str]) -> None:
    """Shares of the classes in each part, as bars and as a table."""
    if not pixels:
        st.caption("Shares of the classes appear here once the labels can be read.")
        return
    shares = {
        part: {name: number / max(1, sum(classes.values())) for name, number in classes.items()}
        for part, classes in pixels.items()
    }
    st.altair_chart(
        share_chart(shares, colours), alt="Share of labelled pixels of each class in each part of the split"
    )
    table = pd.DataFrame(
        {
            part.capitalize(): {plain(name): percent(share, 2) for name, share in classes.items()}
            for part, classes in shares.items()
        }
    )
    st.table(table, border="horizontal", alt="Share of labelled pixels of each class")


def show_pictures(found: Found) -> None:
    """A place of each part: imagery, and imagery with its labels."""
    collection = found["collection"]
    if collection is None or not collection["pictures"]:
        return
    st.subheader("A look inside")
    for column, picture in zip(st.columns(len(collection["pictures"])), collection["pictures"], strict=False):
        part, scene = picture["part"], plain(picture["scene"])
        left, right = column.columns(2)
        left.image(
            decode(picture["imagery"]), caption=f"{part.capitalize()}: {scene}", alt=f"Imagery of the {part} part"
        )
        right.image(
            decode(picture["labels"]),
            caption="with its labels",
            alt=f"The same place with its labels in colour, {part} part",
        )


def decode(uri: str) -> bytes:
    """The picture inside a data address."""
    return base64.b64decode(uri.partition(",")[2])


def show_files(found: Found) -> None:
    """One row an image, as its file says of itself."""
    images = found["inspection"]["images"]
    if images:
        with st.expander(f"{count(len(images), 'image')}, file by file", icon=":material/table:"):
            table = pd.DataFrame(images)[list(FACTS)].rename(columns=FACTS)
            st.dataframe(
                table, hide_index=True, placeholder="–", alt="Size, bands, type, CRS and resolution of each image"
            )


def edit_proposal(found: Found) -> str:
    """The proposed `collection.yaml` as text that can be changed."""
    st.subheader(
        "Proposed settings",
        help="They say which files belong together, what the classes are called, and what trains and tests.",
    )
    text: str = st.text_area(
        "collection.yaml",
        found["proposal"],
        height=380,
        key=f"yaml of {found['inspection']['path']}",
        label_visibility="collapsed",
    )
    return text


def is_usable(found: Found) -> bool:
    """Whether a study could be started with it."""
    return found["collection"] is not None and found["error"] is None and bool(found["inspection"]["class_pixels"])


def root_of(found: Found) -> Path:
    """The folder that was looked at."""
    return Path(found["inspection"]["path"])
