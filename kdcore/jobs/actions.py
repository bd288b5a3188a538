"""Who started, stopped or deleted what: one line each in `WORKSPACE/.actions.jsonl`. Never imports torch."""

import getpass
import json
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

from kdcore.errors import LONGEST
from kdcore.files import explain_write_error
from kdcore.jobs.workspace import Workspace

FILE = ".actions.jsonl"
MOST_BYTES = 4_000_000  # then the file becomes the former one, and a new one is begun
READ_BYTES = 200_000  # of the end, for the page


class Action(NamedTuple):
    """One line.

    Attributes:
        time: seconds since 1970.
        who: an e-mail address, or the user of this machine.
        what: 'started', 'stopped', 'resumed', 'deleted' and so on.
        subject: what it was done with.
    """

    time: float
    who: str
    what: str
    subject: str


def note_action(workspace: Workspace, who: str, what: str, subject: str) -> None:
    """Write down what somebody is about to do.

    Raises:
        KdcoreError: the disk is full or the workspace cannot be written to; then it is not done either.
    """
    file = workspace.path / FILE
    line = json.dumps(Action(round(time.time(), 1), who[:200], what[:60], subject[:LONGEST])._asdict()) + "\n"
    try:
        workspace.path.mkdir(parents=True, exist_ok=True)
        if file.exists() and file.stat().st_size > MOST_BYTES:
            os.replace(file, file.with_name(f"{FILE}.1"))
        handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        try:
            os.write(handle, line.encode())  # in one piece, so that lines of several processes do not mix
        finally:
            os.close(handle)
    except OSError as error:
        raise explain_write_error(file, error) from error


def recent_actions(workspace: Workspace, most: int = 200) -> list[Action]:
    """The latest lines, newest first; lines that cannot be read are left out."""
    return [action for line in reversed(tail(workspace.path / FILE)) if (action := parse(line)) is not None][:most]


def tail(file: Path) -> list[str]:
    """The last lines of a file, whole ones only."""
    try:
        with file.open("rb") as opened:
            start = max(0, opened.seek(0, os.SEEK_END) - READ_BYTES)
            opened.seek(start)
            lines = opened.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return lines[1:] if start else lines


def parse(line: str) -> Action | None:
    """A line as it was written; None for anything else."""
    try:
        values: Any = json.loads(line)
        return Action(float(values["time"]), str(values["who"]), str(values["what"]), str(values["subject"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def machine_user() -> str:
    """The name of the user of this machine that this process runs as."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user has a number alone
        return f"user {os.getuid()}" if hasattr(os, "getuid") else "somebody"
