"""Look at data in a process of its own, with progress, and remember what it found. No streamlit here."""

import hashlib
import os
from pathlib import Path
from typing import Any

from kdcore.bounded import BoundedCache
from kdcore.errors import DataError, SettingsError
from kdcore.jobs.progress import Report
from kdcore.jobs.question import DataLook
from kdcore.settings import read_yaml

KEPT = 16  # overviews that are remembered
DEPTH = 2  # levels of folders whose files are watched for changes: images may lie in train/images/
MOST_FILES = 50_000  # likewise, for somebody who opens the folder of everything

_kept = BoundedCache[dict[str, Any]](KEPT, lambda found: 1)  # shared by all viewers; they look at the same disk


def overview(path: Path, report: Report, demo: int | None = None) -> dict[str, Any]:
    """What `kdcore.views.data_overview` finds at a path; looked at again only when a file has changed.

    Args:
        path: a folder, YAML file or raster; with `demo` the demo area's folder.
        report: is told what is being done.
        demo: seed of the demo area that is made if it is not there.

    Raises:
        KdcoreError: nothing can be found out; says why.
    """
    key = fingerprint(path)
    kept = _kept.get(key)
    if kept is not None:
        return kept
    found = DataLook.ask({"path": str(path), "demo": demo}, report)
    _kept.put(fingerprint(path), found)
    return found


def edited_overview(path: Path, found: dict[str, Any], text: str, report: Report) -> dict[str, Any]:
    """What is found at a folder when it is read through edited settings in place of the proposed ones.

    Args:
        path: the folder.
        found: what `overview` found there, with a proposal.
        text: the edited `collection.yaml`, without mistakes.
        report: is told what is being done.

    Raises:
        KdcoreError: nothing can be found out; says why.
    """
    key = fingerprint(path) + hashlib.sha256(text.encode()).hexdigest()
    kept = _kept.get(key)
    if kept is None:
        kept = DataLook.ask({"path": str(path), "proposed": found["proposal"], "edited": text}, report)
        _kept.put(key, kept)
    return found | {
        "collection": kept["collection"],
        "error": kept["error"],
        "inspection": found["inspection"]
        | {
            "class_pixels": kept["class_pixels"],
            "problems": replaced(found["inspection"]["problems"], kept["former_problems"], kept["problems"]),
            "notes": replaced(found["inspection"]["notes"], kept["former_notes"], kept["notes"]),
        },
    }


def replaced(texts: list[str], former: list[str], now: list[str]) -> list[str]:
    """Sentences with those that no longer hold taken out and the new ones in front, each once."""
    return list(dict.fromkeys([*now, *(text for text in texts if text not in former)]))


def fingerprint(path: Path) -> str:
    """Changes when a file at `path`, in it, or in one of its folders is added, removed or changed.

    Of a `collection.yaml` that names another folder (`root:`), that folder's files count too.
    """
    digest = hashlib.sha256(str(path.expanduser().absolute()).encode())
    for entry in sorted(files_at(path.expanduser())):
        try:
            stat = entry.stat()
        except OSError:
            continue
        digest.update(f"{entry}:{stat.st_mtime_ns}:{stat.st_size}".encode())
    return digest.hexdigest()


def files_at(path: Path) -> list[Path]:
    """The files that decide what is found at a path."""
    if path.suffix.lower() in (".yaml", ".yml"):
        return [path, *files_in(root_of(path))]
    return files_in(path) if path.is_dir() else [path]


def root_of(file: Path) -> Path:
    """The folder that a `collection.yaml` is about; its own where the file does not say or cannot be read."""
    try:
        return file.parent / str(read_yaml(file).get("root", "."))
    except SettingsError:
        return file.parent


def files_in(folder: Path, depth: int = DEPTH) -> list[Path]:
    """What lies in a folder and in its folders, `DEPTH` levels down; hidden folders are left out.

    Raises:
        DataError: the folder itself cannot be read.
    """
    try:
        inside = list(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}). Choose a folder that you may read.") from error
    found = inside
    for entry in inside if depth else []:
        if entry.is_dir() and not entry.name.startswith(".") and os.access(entry, os.R_OK | os.X_OK):
            found = found + files_in(entry, depth - 1)
        if len(found) > MOST_FILES:
            break
    return found
