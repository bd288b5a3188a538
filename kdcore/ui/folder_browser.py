"""Choose a folder of the machine that the dashboard runs on: by clicks, or by its path.

An address opens nothing by itself unless its folder is known to the workspace or was opened in this session: a link that somebody sends
must not decide which files are shown.
"""

from collections.abc import Collection
from pathlib import Path

import streamlit as st

from kdcore.errors import DataError
from kdcore.files import expanded
from kdcore.ui.folders import nearest_folder, subfolders
from kdcore.ui.formatting import plain

TEXT = "folder"  # the field's key, and the name in the address
KEPT = "kept folder"  # the field's text, also while another page is open
TAKEN = "taken folder"  # what the address named when it was last looked at
SHOWN = "shown folder"  # the path that is looked at
OPENED = "folders opened in this session"
MOST_BUTTONS = 30  # subfolders that are shown side by side


def choose_folder(trusted: Collection[str], start: Path) -> Path | None:
    """A field for the path, and the folders to click through until something is opened.

    Args:
        trusted: paths that an address may open.
        start: where to begin.

    Returns:
        What to look at; None where nothing was opened yet.
    """
    state = st.session_state
    asks = take_address(trusted)
    state[TEXT] = state[KEPT] = state.get(KEPT) or str(start)
    shown: str | None = state.get(SHOWN)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input("Folder, collection.yaml or image on this machine", key=TEXT, on_change=open_typed)
        if shown is not None:
            st.button("Choose another folder", icon=":material/folder_open:", on_click=go_to, args=(shown,))
    if shown is not None:
        st.query_params[TEXT] = shown
        return expanded(shown)
    if asks:
        st.info(
            "An address cannot open a folder that was not opened here before. Check the path above, then open it by hand.",
            icon=":material/lock:",
        )
    show_folders(nearest_folder(state[KEPT]))
    return None


def take_address(trusted: Collection[str]) -> bool:
    """Open what the address names where that is allowed; True where a person has to do it."""
    state = st.session_state
    named = st.query_params.get(TEXT)
    if named is not None and state.get(TAKEN) != named:
        allowed = named in trusted or named in state.get(OPENED, [])
        state[TAKEN] = state[KEPT] = named
        state[SHOWN] = named if allowed else None
    return named is not None and named == state.get(KEPT) and state.get(SHOWN) is None and named not in trusted


def show_folders(place: Path) -> None:
    """The way up, the folders below, and the button that looks at this one."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.button(
            "Up",
            icon=":material/arrow_upward:",
            disabled=place.parent == place,
            on_click=go_to,
            args=(str(place.parent),),
            help="To the folder that this one lies in.",
        )
        st.button("Open", type="primary", icon=":material/search:", on_click=open_path)
    try:
        names = subfolders(place)
    except DataError as error:
        st.warning(plain(str(error)), icon=":material/lock:")
        return
    key = f"folders in {place}"
    if not names:
        st.caption("No folders in here.")
    elif len(names) <= MOST_BUTTONS:
        st.pills("Go into", names, key=key, format_func=plain, on_change=go_into, args=(place, key))
    else:
        st.selectbox(
            "Go into",
            names,
            index=None,
            key=key,
            placeholder=f"{len(names)} folders: choose one, or type a part of its name",
            on_change=go_into,
            args=(place, key),
        )


def go_into(place: Path, key: str) -> None:
    """Enter the chosen subfolder."""
    chosen = st.session_state.pop(key, None)
    if chosen is not None:
        go_to(str(place / chosen))


def go_to(path: str) -> None:
    """Show what lies in a folder, without looking at its files."""
    st.session_state[KEPT], st.session_state[SHOWN] = path, None
    st.query_params.pop(TEXT, None)
    st.session_state.pop(TAKEN, None)


def open_typed() -> None:
    """Open what was typed; nothing where the field was emptied."""
    st.session_state[KEPT] = st.session_state[TEXT].strip()
    if st.session_state[KEPT]:
        open_path()
    else:
        go_to("")


def open_path() -> None:
    """Look at the path in the field, and let this session's addresses name it."""
    state = st.session_state
    path: str = state[KEPT]
    state[SHOWN] = state[TAKEN] = path
    state[OPENED] = [*(other for other in state.get(OPENED, []) if other != path), path]
    st.query_params[TEXT] = path


def opened_by_hand(path: Path) -> bool:
    """Whether a person opened a path in this session."""
    return path in [Path(text).expanduser() for text in st.session_state.get(OPENED, [])]
