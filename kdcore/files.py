"""Writing files so that a reader never finds half of one."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kdcore.errors import KdcoreError

WHOLE_HASH_BYTES = 1 << 30  # larger files are hashed at 64 places
HALF_WRITTEN = ".kdcore-tmp-"
"""How the names of the hidden folders begin in which files lie that are not whole yet; nothing of a person's is called so."""
LOCK = "alive.lock"  # in such a folder, held while its process lives


def expanded(path: Path | str) -> Path:
    """A path with `~` replaced by a person's home folder.

    Raises:
        KdcoreError: there is no such person.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise KdcoreError(f"{path}: there is no home folder of this name. Write the whole path.") from error


@contextmanager
def unfinished(parent: Path, what: Path | None = None) -> Iterator[Path]:
    """A new hidden folder inside `parent` for files that are not whole yet; gone at the end, with what is still in it.

    The lock in it tells it from what a killed process left, which `remove_half_written` removes.

    Raises:
        KdcoreError: the disk is full or the folder cannot be written to; it names `what`.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder, lock = _locked_folder(parent)
    except OSError as error:
        raise explain_write_error(what or parent, error) from error
    try:
        yield folder
    finally:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def _locked_folder(parent: Path) -> tuple[Path, FileLock]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=HALF_WRITTEN, dir=parent))
        lock = FileLock(folder / LOCK)
        try:
            lock.acquire(timeout=0)
        except (Timeout, FileNotFoundError, FileExistsError):
            continue  # in the moment before its lock was taken it was removed as that of a killed process
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if (folder / LOCK).exists():
            return folder, lock
        lock.release()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name that is not taken for a file; rename it to `path` when the block ends well, remove it when not.

    Raises:
        KdcoreError: the disk is full or the folder cannot be written to.
    """
    with unfinished(path.parent, path) as folder:
        temporary = folder / path.name
        try:
            yield temporary
            temporary.chmod(0o644)
            os.replace(temporary, path)
        except OSError as error:
            raise explain_write_error(path, error) from error


def remove_half_written(folder: Path, below: bool = True) -> None:
    """Remove what killed processes left unfinished in a folder and, unless told otherwise, below; what a living one writes stays."""
    found = folder.rglob if below else folder.glob
    # Earlier versions wrote plain files of such names, and safetensors one beside the file that it was told to write.
    for left in (*found(f"{HALF_WRITTEN}*"), *found("checkpoints/.tmp??????")):
        try:
            if not left.is_dir():
                left.unlink(missing_ok=True)
                continue
            with FileLock(left / LOCK).acquire(timeout=0):  # held until it is gone: its owner may be about to take it
                shutil.rmtree(left, ignore_errors=True)
        except (Timeout, OSError):
            continue  # it lives, or is not ours to remove


def write_text(path: Path, text: str) -> None:
    """Replace `path` by a file that holds `text` (UTF-8), in one step."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value` as JSON, in one step; NaN is refused because JSON has none."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """JSON as it stands in our files.

    Raises:
        ValueError: NaN or an infinity, which JSON has not.
    """
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


def sha256(path: Path) -> str:
    """Of a file's contents, hexadecimal; the file is never in memory whole.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256 of a file; of 64 places of 1 MiB and its size where it is larger than 1 GiB."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        if size <= WHOLE_HASH_BYTES:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
        else:
            last = size - (1 << 20)
            for offset in (*(int(place * (last / 63)) for place in range(63)), last):
                file.seek(offset)
                digest.update(file.read(1 << 20))
    return digest.hexdigest()


def is_full(error: OSError) -> bool:
    """Whether there was no room left: on the disk, in a quota, or below the largest size of a file."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_read_only(error: OSError) -> bool:
    """Whether a place cannot be written to."""
    return error.errno in (errno.EACCES, errno.EROFS, errno.EPERM)


def explain_write_error(path: Path, error: OSError) -> KdcoreError:
    """Say in a sentence why `path` could not be written and what to do."""
    if is_full(error):
        return KdcoreError(
            f"{path}: the disk is full or the size limit is reached ({error.strerror}). Free space, then resume."
        )
    if is_read_only(error):
        return KdcoreError(f"{path}: this folder cannot be written to. Choose another one with --out.")
    return KdcoreError(f"{path}: could not be written ({error.strerror or error}).")
