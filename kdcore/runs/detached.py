"""Processes that outlive the one that starts them."""

import os
import subprocess
import sys
from pathlib import Path


def start_detached(module: str, argument: Path, log: Path) -> "subprocess.Popen[bytes]":
    """Run `python -m MODULE ARGUMENT`; what it prints is appended to `log`.

    Raises:
        OSError: the log cannot be written, or the system starts no more processes.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", module, str(argument.absolute())],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C and the end of the terminal are not for it
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
