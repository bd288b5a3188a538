"""Ask a module in a process of its own, with progress. No streamlit here.

Heavy libraries stay out of the dashboard's process that way, and so does what a broken file can do to them.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from kdcore.errors import RunError


def ask(module: str, arguments: list[str], progress: Callable[[str], None]) -> dict[str, Any]:
    """Run `python -m MODULE ARGUMENTS` and read its answer; it ends with the caller, for example when the viewer leaves the page.

    Args:
        module: prints one JSON object: the answer, or {"error": a sentence} with an exit code other than 0.
        arguments: of the command.
        progress: is told each line that the process writes to standard error.

    Raises:
        RunError: the sentence of the error, or that the process broke down.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8") as answer:  # a pipe would fill up while the progress is read
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
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
        raise RunError(f"`{module}` broke down: {last or 'it ended without a word'}.") from error
    if process.returncode != 0:
        raise RunError(found["error"])
    return found
