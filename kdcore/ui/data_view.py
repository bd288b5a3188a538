"""What the Data page shows of what was found."""

import base64
from collections import Counter
from typing import Any

import pandas as pd
import streamlit as st

from kdcore.ui import words
from kdcore.ui.formatting import CARD, count, percent, plain, sentence
from kdcore.views.layout import CONFIG
from kdcore.views.split_plan import split_chart

Found = dict[str, Any]
MOST_PROBLEMS = 10  # that are shown at once
AREAS = {
    "train": "train",
    "validation": "validation",
    "test": "test",
    "buffer": "kept clear between parts",
    "not used": "not used",
}
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


def show_summary(found: Found) -> None:
    """What was found, in one line."""
    st.markdown(" · ".join(summary(found)), width="stretch")


def summary(found: Found) -> list[str]:
    """Images, labels, classes, size of a pixel and problems, in a few words each."""
    inspection, collection = found["inspection"], found["collection"]
    images = inspection["images"]
    words_found = [f"**{count(collection['images'] if collection else len(images), 'image')}**"]
    if collection:
        words_found += [f"{collection['labelled']:,} labelled", count(len(collection["classes"]), "class")]
    else:
        labels = {"mask": len(inspection["masks"]), "vector file": len(inspection["polygons"])}
        words_found += [count(number, unit) for unit, number in labels.items() if number] or ["no labels"]
    sizes = [image["metres_per_pixel"] for image in images]
    metres = collection["metres_per_pixel"] if collection else sizes[0] if sizes else None
    words_found.append(f"a pixel is {metres:.3g} m on the ground" if metres else "no map position")
    problems = len(problems_of(found))
    return [*words_found, *([f":red[**{count(problems, 'problem')}**]"] if problems else [])]


def problems_of(found: Found) -> list[str]:
    """Every problem with how to fix it, each once."""
    return list(dict.fromkeys([*found["inspection"]["problems"], *([found["error"]] if found["error"] else [])]))


def show_problems(found: Found) -> None:
    """Every problem with how to fix it; then what is good to know."""
    problems = problems_of(found)
    if problems:
        st.error(bullets(problems[:MOST_PROBLEMS]), icon=":material/build:")
        if len(problems) > MOST_PROBLEMS:
            with st.expander(count(len(problems) - MOST_PROBLEMS, "more problem"), icon=":material/build:"):
                st.markdown(bullets(problems[MOST_PROBLEMS:]))
    else:
        st.success("No problems found.", icon=":material/check:")
    notes = list(dict.fromkeys(found["inspection"]["notes"]))
    if notes:
        with st.expander(f"{count(len(notes), 'note')}: good to know", icon=":material/info:"):
            st.markdown(bullets(notes))


def bullets(texts: list[str]) -> str:
    """Sentences as a list; a single one as it is."""
    shown = [plain(sentence(text)) for text in texts]
    return shown[0] if len(shown) == 1 else "\n".join(f"- {text}" for text in shown)


def show_split(found: Found) -> None:
    """A plan of what trains, validates and tests over the imagery, and the classes' shares in each part."""
    collection = found["collection"]
    if collection is None:
        return
    plan, shares = st.columns((3, 2))
    with plan:
        st.subheader("What trains, what tests", help=f"{words.TERMS['validation']} {words.TERMS['buffer']}")
        st.plotly_chart(
            split_chart(collection["scenes"]),
            width="content",
            key="plan of the split",
            config=CONFIG,
            alt="Plan of the scenes with their imagery, coloured by the part of the split",
        )
        areas = {AREAS[part]: share for part, share in collection["areas"].items() if share >= 0.0005}
        st.markdown(
            "Share of the imagery: " + ", ".join(f"{name} **{percent(share)}**" for name, share in areas.items())
        )
        unit = "whole scenes" if collection["split_by"] == "scene" else "blocks of each scene"
        st.caption(
            f"Split by {unit}: neighbouring pixels look alike, so a test must not lie among what was trained on."
            + (f" {count(collection['unlabelled'], 'more image')} without labels." if collection["unlabelled"] else "")
        )
    with shares:
        st.subheader("Shares of the classes")
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
    st.bar_chart(
        100 * pd.DataFrame(shares).T,
        color=list(colours.values()),
        horizontal=True,
        height=220,
        sort=False,
        y_label="Share of labelled pixels, %",
        alt="Share of labelled pixels of each class in each part of the split",
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


def is_usable(found: Found) -> bool:
    """Whether a study could be started with it."""
    return found["collection"] is not None and found["error"] is None and bool(found["inspection"]["class_pixels"])
