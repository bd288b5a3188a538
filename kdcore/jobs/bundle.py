"""A study as one ZIP file that can be sent to someone. Never imports torch."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

from kdcore.errors import RunError
from kdcore.jobs.study_folder import StudyFolder

LEFT_OUT = ("alive.lock", "cancel", "state.safetensors", "job.json")  # belongs to the machine, or only serves to resume
PACKED = {".tif", ".npz", ".png", ".safetensors"}  # compressed already, or not compressible
LARGEST = 1 << 30  # bytes: a larger study is copied as a folder


def bundle_files(study: StudyFolder) -> Iterator[Path]:
    """The files that go into the ZIP: everything but locks and the states that trainings resume from."""
    for path in sorted(study.path.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(study.path).parts)
        if path.is_file() and not path.is_symlink() and not hidden and path.name not in LEFT_OUT:
            yield path


def bundle_size(study: StudyFolder) -> int:
    """Bytes of the files that go into the ZIP."""
    return sum(path.stat().st_size for path in bundle_files(study))


def bundle(study: StudyFolder) -> bytes:
    """The ZIP's contents; all files lie in a folder that is called as the study is.

    Raises:
        RunError: it would be larger than 1 GiB.
    """
    size = bundle_size(study)
    if size > LARGEST:
        raise RunError(
            f"{study.id}: holds {size / 1e9:.1f} GB, too much for one download. Copy the folder {study.path}."
        )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in bundle_files(study):
            method = zipfile.ZIP_STORED if path.suffix in PACKED else zipfile.ZIP_DEFLATED
            archive.write(path, Path(study.id) / path.relative_to(study.path), compress_type=method)
    return buffer.getvalue()
