"""Look at data in a process of its own, with progress, and remember what it found. No streamlit here."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

from kdcore.errors import DataError

MODULE = "kdcore.views.data_overview"
KEPT = 16  # overviews that are remembered

_kept: "OrderedDict[str, dict[str, Any]]" = OrderedDict()  # shared by all viewers; they look at the same disk
_lock = Lock()


def overview(path: Path, progress: Callable[[str], None], demo: int | None = None) -> dict[str, Any]:
    """What `kdcore.views.data_overview` finds at a path; looked at again only when a file has changed.

    Args:
        path: a folder, YAML file or raster; with `demo` the demo area's folder.
        progress: is told what is being done.
        demo: seed of the demo area that is made if it is not there.

    Raises:
        DataError: nothing can be found out; says why.
    """
    key = fingerprint(path)
    with _lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
    found = look(["--demo", str(demo), str(path)] if demo is not None else [str(path)], progress)
    with _lock:
        _kept[fingerprint(path)] = found
        while len(_kept) > KEPT:
            _kept.popitem(last=False)
    return found


def look(arguments: list[str], progress: Callable[[str], None]) -> dict[str, Any]:
    """Run the process and read its answer; it ends with the caller, for example when the viewer leaves the page.

    Raises:
        DataError: it could not look, or broke down.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8") as answer:  # a pipe would fill up while the progress is read
        process = subprocess.Popen(
            [sys.executable, "-m", MODULE, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=answer,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        last = ""
        try:
            for line in process.stderr or ():
                last = line.strip() or last
                progress(last)
            process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        answer.seek(0)
        text = answer.read()
    try:
        found: dict[str, Any] = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"The data could not be looked at: {last or 'the process ended without a word'}.") from error
    if process.returncode != 0:
        raise DataError(found["error"])
    return found


def fingerprint(path: Path) -> str:
    """Changes when a file at `path`, in it, or in one of its folders is added, removed or changed.

    Of a YAML file that names another folder (`root:`), its folder is not looked into: the settings' own change counts.
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
    """A file itself; of a folder what lies in it and in its folders."""
    if not path.is_dir():
        return [path]
    try:
        inside = list(path.iterdir())
        return inside + [
            file for folder in inside if folder.is_dir() and os.access(folder, os.R_OK) for file in folder.iterdir()
        ]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Choose a folder that you may read.") from error
