"""Processes that outlive the one that starts them."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

NICE = 10  # trainings and pages go first


def go_last() -> None:
    """Let this process run behind the others on the processor as long as it lives: only where it has nothing else to do."""
    if hasattr(os, "nice"):  # not on Windows
        os.nice(NICE)


def start_detached(
    module: str, arguments: Sequence[str], log: Path, environment: Mapping[str, str]
) -> "subprocess.Popen[bytes]":
    """Run `python -m MODULE ARGUMENTS`; what it prints is appended to `log`.

    Args:
        module: by its name.
        arguments: of the command.
        log: file for its output.
        environment: variables that it gets beside those of this process.

    Raises:
        OSError: the log cannot be written, or the system starts no more processes.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C and the end of the terminal are not for it
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | dict(environment),
        )
