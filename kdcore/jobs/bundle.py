"""A job's folder as one ZIP file that can be sent to someone. Never imports torch."""

import io
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path

from kdcore.errors import RunError

OF_A_STUDY = (
    "alive.lock",
    "cancel",
    "state.safetensors",
    "job.json",
)  # belongs to the machine, or only serves to resume
PACKED = {".tif", ".npz", ".png", ".safetensors"}  # compressed already, or not compressible
LARGEST = 1 << 30  # bytes: a larger folder is copied as it is


def files_in(folder: Path, left_out: Collection[str] = OF_A_STUDY) -> Iterator[Path]:
    """The files that go into the ZIP: everything but those of such names, links, and what is half written."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not path.is_symlink() and not hidden and path.name not in left_out:
            yield path


def size_in(folder: Path, left_out: Collection[str] = OF_A_STUDY) -> int:
    """Bytes of the files that go into the ZIP."""
    return sum(path.stat().st_size for path in files_in(folder, left_out))


def zipped(folder: Path, name: str, left_out: Collection[str] = OF_A_STUDY) -> bytes:
    """The ZIP's contents; all files lie in a folder.

    Args:
        folder: of the job.
        name: of the folder in the ZIP.
        left_out: names of files that do not go into it.

    Raises:
        RunError: it would be larger than 1 GiB.
    """
    size = size_in(folder, left_out)
    if size > LARGEST:
        raise RunError(f"{name}: holds {size / 1e9:.1f} GB, too much for one download. Copy the folder {folder}.")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compresslevel=1) as archive:
        for path in files_in(folder, left_out):
            method = zipfile.ZIP_STORED if path.suffix in PACKED else zipfile.ZIP_DEFLATED
            archive.write(path, Path(name) / path.relative_to(folder), compress_type=method)
    return buffer.getvalue()
