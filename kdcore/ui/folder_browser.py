"""Choose a folder of the machine that the dashboard runs on: by clicks, or by its path.

An address opens nothing by itself unless its folder is known to the workspace or was opened in this session: a link that somebody sends
must not decide which files are shown.
"""

import os
from collections.abc import Collection, Iterable
from pathlib import Path

import streamlit as st

from kdcore.errors import DataError
from kdcore.files import expanded
from kdcore.ui.formatting import plain

TEXT = "folder"  # the field's key, and the name in the address
KEPT = "kept folder"  # the field's text, also while another page is open
TAKEN = "taken folder"  # what the address named when it was last looked at
SHOWN = "shown folder"  # the path that is looked at
OPENED = "folders opened in this session"
MOST_BUTTONS = 30  # subfolders that are shown side by side
MOST_FOLDERS = 500  # of one place that are listed


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


def subfolders(place: Path) -> list[str]:
    """Names of the folders in a folder, without hidden ones, at most `MOST_FOLDERS`.

    Raises:
        DataError: the folder cannot be read.
    """
    try:
        with os.scandir(place) as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(".") and is_folder(entry)]
    except OSError as error:
        raise DataError(f"{place}: cannot be read ({error.strerror}). Choose a folder that you may read.") from error
    return sorted(names, key=lambda name: (name.lower(), name))[:MOST_FOLDERS]


def is_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether an entry is a folder or leads to one; a link to nowhere is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def nearest_folder(text: str) -> Path:
    """The folder that a typed path names or lies in; its nearest parent that exists, and the home folder for a relative path."""
    path = expanded(text)
    if not path.is_absolute():
        return home()
    return next((folder for folder in (path, *path.parents) if os.path.isdir(folder)), Path(path.anchor))


def first_place(used: Iterable[Path], workspace: Path) -> Path:
    """Where to begin to look for data: beside what was used last, else at home, else in the workspace.

    Args:
        used: folders and files that were looked at, the latest last.
        workspace: of the dashboard.
    """
    beside = [path.parent for path in used if path.parent.is_dir()]
    own = home()
    return beside[-1] if beside else own if os.access(own, os.R_OK) else workspace.absolute()


def home() -> Path:
    """The home folder; the uppermost folder for a user who has none."""
    try:
        return Path.home()
    except RuntimeError:
        return Path(os.sep)
