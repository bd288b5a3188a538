"""Writing files so that a reader never finds half of one."""

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kdcore.errors import KdcoreError

WHOLE_HASH_BYTES = 1 << 30  # larger files are hashed at 64 places
HALF_WRITTEN = ".kdcore-tmp-"
"""How the names of files begin that are not whole yet; nothing of a person's is called so."""


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
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it to `path` when the block ends well, remove it when not.

    Raises:
        KdcoreError: the disk is full or the folder cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f"{HALF_WRITTEN}{path.stem[:100]}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise explain_write_error(path, error) from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise explain_write_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_half_written(folder: Path) -> None:
    """Remove what `replacing` left in a folder and below when its process was killed; only while no process writes there."""
    # The second kind is what safetensors writes first, beside the file that it was told to write.
    for file in (*folder.rglob(f"{HALF_WRITTEN}*"), *folder.rglob("checkpoints/.tmp??????")):
        if file.is_file():
            file.unlink(missing_ok=True)


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


def explain_write_error(path: Path, error: OSError) -> KdcoreError:
    """Say in a sentence why `path` could not be written and what to do."""
    if is_full(error):
        return KdcoreError(
            f"{path}: the disk is full or the size limit is reached ({error.strerror}). Free space, then resume."
        )
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return KdcoreError(f"{path}: this folder cannot be written to. Choose another one with --out.")
    return KdcoreError(f"{path}: could not be written ({error.strerror or error}).")
