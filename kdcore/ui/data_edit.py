"""Change what is proposed for a folder: classes and split in tables, everything in YAML. The YAML text is what counts."""

import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
import streamlit as st

from kdcore.errors import SettingsError
from kdcore.jobs.library import check_text
from kdcore.settings import CollectionSettings
from kdcore.ui.formatting import percent, plain, sentence
from kdcore.ui.people import locked
from kdcore.ui.proposal import (
    PARTS,
    UNUSED,
    block_rows,
    class_rows,
    edited_text,
    named_scenes,
    reading_of,
    with_blocks,
    with_classes,
    with_scenes,
)

Found = dict[str, Any]
MOST_SCENES = 400  # in the table of the split
SWATCH = (
    "<svg xmlns='http://www.w3.org/2000/svg' width='32' height='20'>"
    "<rect width='31' height='19' x='.5' y='.5' fill='{}' stroke='#888'/></svg>"
)
FIXED = {
    "colour": "Colours tell the classes apart in these masks, so they stay as they are.",
    "name": "Names are those in the polygons' field, so they stay as they are.",
    "ignore": "All polygons are one class here, so none can be ignored.",
}


def draft_key(found: Found) -> str:
    """Under which this session keeps the edited text."""
    return f"edited settings of {found['inspection']['path']}"


def draft(found: Found) -> str:
    """The settings as they were edited last; as they are proposed where nobody did."""
    text: str = st.session_state.get(draft_key(found), found["proposal"])
    return text


def keep(found: Found, text: str) -> None:
    """Keep an edited text for this session."""
    if text == found["proposal"]:
        st.session_state.pop(draft_key(found), None)
    else:
        st.session_state[draft_key(found)] = text


def edit_tables(found: Found, text: str) -> None:
    """Tables of the classes and of the split, and a button that takes them over; what is wrong with them is said in a sentence.

    Args:
        found: seen through the settings in `text`.
        text: settings without mistakes.
    """
    settings = check_text(text)
    reading = reading_of(settings, bool(found["inspection"]["masks"]))
    state = hashlib.sha256(text.encode()).hexdigest()[:12]  # a changed text makes new tables
    with st.form(f"tables {found['inspection']['path']}"):
        classes, split = st.columns(2)
        with classes:
            st.subheader("Classes")
            rows = edit_classes(class_rows(settings, found["inspection"]["class_pixels"]), reading.fixed, state)
        with split:
            st.subheader("Parts of the split")
            parts = edit_split(found, settings, state)
        if not st.form_submit_button("Apply changes", icon=":material/check:"):
            return
    try:
        changed = with_classes(settings, rows, reading)
        if isinstance(parts, dict):
            changed = with_scenes(changed, parts)
        elif parts is not None:
            changed = with_blocks(changed, parts)
    except SettingsError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return
    if changed != settings:
        keep(found, edited_text(text, changed))
        st.rerun()


def edit_classes(rows: list[dict[str, Any]], fixed: tuple[str, ...], state: str) -> list[dict[str, Any]]:
    """The classes as a table; gives its rows as they were edited."""
    table = pd.DataFrame([row | {"share": percent(row["share"], 2)} for row in rows])
    table.insert(0, "swatch", [f"data:image/svg+xml,{quote(SWATCH.format(row['colour']))}" for row in rows])
    edited = st.data_editor(
        table,
        key=f"classes {state}",
        hide_index=True,
        num_rows="fixed",
        disabled=["swatch", "share", *fixed],
        column_config={
            "swatch": st.column_config.ImageColumn(" ", width=40),
            "name": st.column_config.TextColumn("Name", required=True, max_chars=60),
            "colour": st.column_config.TextColumn("Colour", required=True, validate="^#[0-9A-Fa-f]{6}$", width=90),
            "share": st.column_config.TextColumn("Share", help="Of all labelled pixels.", width=80, alignment="right"),
            "ignore": st.column_config.CheckboxColumn(
                "Ignore", help="These pixels are neither learnt nor scored.", width=70
            ),
        },
    )
    st.caption(" ".join(["Names, colours as #RRGGBB, and what to ignore.", *(FIXED[column] for column in fixed)]))
    return [{str(key): value for key, value in row.items()} for row in edited.to_dict("records")]


def edit_split(found: Found, settings: CollectionSettings, state: str) -> dict[str, str] | list[list[str]] | None:
    """The part of each scene, or of each block as it lies in a scene; None where that is not known yet."""
    if settings.split.by == "block":
        rows = block_rows(settings)
        blocks = pd.DataFrame(
            rows, [f"r{row + 1}" for row in range(len(rows))], [f"c{column + 1}" for column in range(len(rows[0]))]
        )
        options = {name: st.column_config.SelectboxColumn(options=PARTS, required=True) for name in blocks.columns}
        edited = st.data_editor(blocks, key=f"blocks {state}", num_rows="fixed", column_config=options)
        st.caption(
            "Each cell is a block of every scene, as it lies there. Blocks of different parts keep a distance from each other."
        )
        return [list(map(str, row)) for row in edited.to_numpy()]
    groups = found["collection"]["groups"] if found["collection"] else named_scenes(settings)
    if len(groups) > MOST_SCENES:
        st.caption("Change `split:` in the YAML below: it names the scenes of each part.")
        return None
    scenes = pd.DataFrame({"scene": list(groups), "part": [part or UNUSED for part in groups.values()]})
    edited = st.data_editor(
        scenes,
        key=f"scenes {state}",
        hide_index=True,
        num_rows="fixed",
        height="content" if len(groups) <= 8 else 320,
        disabled=["scene"],
        column_config={
            "scene": st.column_config.TextColumn("Scene"),
            "part": st.column_config.SelectboxColumn("Part", options=PARTS, required=True),
        },
    )
    st.caption("Scenes that lie next to each other belong in the same part.")
    return dict(zip(edited["scene"], edited["part"], strict=True))


def edit_yaml(found: Found, text: str, mistake: str | None) -> bool:
    """The settings as YAML under a fold; True when they are to be kept in the workspace."""
    key = f"yaml of {found['inspection']['path']}"

    def take() -> None:
        keep(found, st.session_state[key])

    with st.expander("Settings as YAML (collection.yaml)", icon=":material/code:", expanded=mistake is not None):
        if mistake is not None:
            st.error(plain(mistake), icon=":material/error:")
        st.session_state[key] = text
        st.text_area("collection.yaml", height=380, key=key, on_change=take, label_visibility="collapsed")
        with st.container(horizontal=True):
            saved = st.button(
                "Check and save",
                icon=":material/save:",
                help="Keeps these settings in the dashboard's workspace and leaves the folder as it is.",
                disabled=locked(),
            )
            if text != found["proposal"]:
                st.button(
                    "Back to the proposal", icon=":material/undo:", on_click=keep, args=(found, found["proposal"])
                )
    return saved


def mistake_in(text: str) -> str | None:
    """What is wrong with settings, as a sentence; None where nothing is."""
    try:
        check_text(text)
    except SettingsError as error:
        return sentence(str(error))
    return None


def named_root(text: str) -> Path | None:
    """The folder that settings name as theirs, where that is a full path; None where they name none."""
    root = check_text(text).root
    return root if root is not None and root.expanduser().is_absolute() else None


def root_of(found: Found) -> Path:
    """The folder that was looked at."""
    return Path(found["inspection"]["path"])
