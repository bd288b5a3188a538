"""Whose a file is: kdcore replaces only what it wrote itself, and a file that was edited since is its editor's.

Beside the files that it writes, kdcore keeps their SHA-256 in `kdcore.sha256`, in the form that `sha256sum --check` reads. A file that
is not listed there with its present contents is a person's, and is replaced only on request (`--overwrite`).
"""

import errno
import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kdcore.errors import KdcoreError
from kdcore.files import explain_write_error, json_text, remove_half_written, replacing, sha256

RECORD = "kdcore.sha256"


class NotOursError(KdcoreError):
    """A file of a person is in the way."""


def is_ours(path: Path) -> bool:
    """Whether kdcore wrote this file and nobody changed it since."""
    known = written(path)
    try:
        return bool(known) and not path.is_symlink() and path.is_file() and sha256(path).encode() in known
    except OSError:
        return False


def is_edited(path: Path) -> bool:
    """Whether kdcore wrote a file of this name here, and somebody changed it since."""
    return path.exists() and bool(written(path)) and not is_ours(path)


def written(path: Path) -> set[bytes]:
    """SHA-256 of what kdcore wrote under this name, hexadecimal."""
    try:
        lines = (path.parent / RECORD).read_bytes().splitlines()
    except OSError:
        return set()
    return {line[:64] for line in lines if line[66:] == os.fsencode(path.name)}


def check_replaceable(paths: Iterable[Path], overwrite: bool = False, inputs: Collection[Path] = ()) -> None:
    """Refuse to write where a file of somebody else lies.

    Args:
        paths: that are to be written.
        overwrite: a person asked for it: replace whatever is there.
        inputs: files that are read meanwhile, and are never replaced.

    Raises:
        NotOursError: says which file is in the way, and how to go on.
    """
    for path in paths:
        if not os.path.lexists(path):
            continue
        if any(other.exists() and path.exists() and path.samefile(other) for other in inputs):
            raise NotOursError(
                f"{path}: is read here, so it cannot be written. Choose another name or folder for the results."
            )
        if path.is_dir() and not path.is_symlink():
            raise NotOursError(f"{path}: is a folder, where a file is to be written. Choose another name or folder.")
        if not overwrite and not is_ours(path):
            raise NotOursError(
                f"{path}: exists already, and was not written by kdcore or was edited since, so it is not overwritten. "
                "Choose another --out or move the file away, or replace it with --overwrite."
            )


def note(path: Path, digest: str) -> None:
    """Remember that a file with these contents is kdcore's. Several processes may do so at once.

    Raises:
        KdcoreError: the disk is full or the folder cannot be written to.
    """
    line = f"{digest}  ".encode() + os.fsencode(path.name) + b"\n"
    record = path.parent / RECORD
    try:
        before = record.read_bytes() if record.exists() else b""
        if line in before.splitlines(keepends=True):
            return
        if before and not before.endswith(b"\n"):  # the disk was full, or the process was killed
            line = b"\n" + line
        with record.open("ab", buffering=0) as file:
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise explain_write_error(record, error) from error


@contextmanager
def replacing_own(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """As `kdcore.files.replacing`, but only a file that kdcore wrote itself is replaced.

    Raises:
        NotOursError: somebody else's file is there, before the work or since.
        KdcoreError: the disk is full or the folder cannot be written to.
    """
    check_replaceable([path], overwrite)
    remove_half_written(path.parent, below=False)
    with replacing(path) as temporary:
        yield temporary
        check_replaceable([path], overwrite)  # it may have come meanwhile
        note(path, sha256(temporary))  # before it has its name: a process may be killed between the two


def publish(files: Iterable[tuple[Path, Path]], overwrite: bool = False) -> None:
    """Give finished files of a folder of our own the names that a person finds them under, in this order.

    Args:
        files: where each is, and its name; on one disk.
        overwrite: see `check_replaceable`.

    Raises:
        NotOursError: somebody else's file is there; then none is moved.
        KdcoreError: the folder cannot be written to.
    """
    pairs = list(files)
    check_replaceable([target for _, target in pairs], overwrite)
    for source, target in pairs:
        note(target, sha256(source))
        try:
            os.replace(source, target)
        except OSError as error:
            raise explain_write_error(target, error) from error


def write_own_text(path: Path, text: str, overwrite: bool = False) -> None:
    """Write text (UTF-8) in one step where no file of somebody else lies; raises as `replacing_own` does."""
    with replacing_own(path, overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_own_json(path: Path, value: Any, overwrite: bool = False) -> None:
    """Write JSON in one step where no file of somebody else lies; raises as `replacing_own` does."""
    write_own_text(path, json_text(value), overwrite)
