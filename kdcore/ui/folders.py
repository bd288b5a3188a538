"""Folders of the machine that the dashboard runs on: what can be entered, and where to begin. No streamlit here."""

import os
from collections.abc import Iterable
from pathlib import Path

from kdcore.errors import DataError
from kdcore.files import expanded

MOST_FOLDERS = 500  # of one place that are listed


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
