"""A real disk that is soon full, for tests of what happens then."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def mounted(folder: Path, kilobytes: int, *, remount: bool = True) -> bool:
    """Mount memory as a disk of this size, or change the size of one; False where that is not allowed."""
    options = f"{'remount,' if remount else ''}size={kilobytes}k"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A disk of this size; the test is skipped where none can be mounted (that takes the rights of root)."""
    folder.mkdir(parents=True)
    if not mounted(folder, kilobytes, remount=False):
        pytest.skip("no disk can be mounted here, which takes the rights of root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
