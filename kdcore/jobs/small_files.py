"""The small files of jobs: settings, statuses and logs, read so that a broken one is a sentence. Never imports torch."""

import os
import time
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from kdcore import reading
from kdcore.errors import RunError
from kdcore.files import explain_write_error
from kdcore.settings import Frozen

LOG_BYTES = 64 * 1024  # that are looked at for a log's last lines

Kind = TypeVar("Kind", bound=Frozen)


def modified(file: Path | str) -> int:
    """When a file was last changed, in nanoseconds since 1970; 0 where there is none."""
    try:
        return os.stat(file).st_mtime_ns
    except OSError:
        return 0


def size_of(file: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    try:
        return file.stat().st_size
    except OSError:
        return 0


def append_log(file: Path, text: str) -> None:
    """Append a line to a log, with the time.

    Raises:
        KdcoreError: the disk is full or the folder cannot be written to.
    """
    try:
        with file.open("a", encoding="utf-8") as log:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
    except OSError as error:
        raise explain_write_error(file, error) from error


def last_lines(file: Path, lines: int) -> str:
    """The last lines of a log; empty where there is none."""
    try:
        if not file.is_file():
            return ""
        with file.open("rb") as log:
            log.seek(max(0, log.seek(0, 2) - LOG_BYTES))
            text = log.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def read_json(kind: type[Kind], file: Path) -> Kind | None:
    """Read a small JSON file; None where there is none.

    Raises:
        RunError: it is broken.
    """
    try:
        return kind.model_validate_json(reading.read_bytes(file))
    except FileNotFoundError:
        return None
    except (ValidationError, OSError, reading.ReadingError) as error:
        raise RunError(f"{file}: {what_is_wrong(error)}. Remove the file, then resume.") from error


def read_dict(file: Path) -> dict[str, Any] | None:
    """Read a JSON object; None where there is none.

    Raises:
        RunError: it is broken.
    """
    try:
        values = reading.read_json(file)
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        raise RunError(f"{file}: {what_is_wrong(error)}. Remove the file, then resume.") from error
    if not isinstance(values, dict):
        raise RunError(f"{file}: should hold a JSON object. Remove the file, then resume.")
    return values


def what_is_wrong(error: Exception) -> str:
    """A broken file's trouble in a few words."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return f"cannot be used ({place + ': ' if place else ''}{first['msg']})"
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror or error})"
    return (
        str(error).rpartition(": ")[2].rstrip(".")
        if isinstance(error, reading.ReadingError)
        else f"is no valid JSON ({error})"
    )
