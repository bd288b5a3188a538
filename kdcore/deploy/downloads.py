"""What can be taken from a deployment's folder: its networks, their descriptions, and all of it in one ZIP. No torch here."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

from kdcore.deploy.record import Form
from kdcore.errors import RunError

JOB_FILES = ("status.json", "alive.lock", "cancel", "log.txt")  # belong to the machine
LARGEST = 1 << 30  # bytes
TITLES = {".onnx": "ONNX network", ".json": "STAC item", ".md": "Model card"}
MIMES = {".onnx": "application/octet-stream", ".json": "application/geo+json", ".md": "text/markdown"}


def deployed_files(folder: Path) -> Iterator[Path]:
    """The files of a deployment, without those of its job and without what is half written."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not path.is_symlink() and not hidden and path.name not in JOB_FILES:
            yield path


def files_of(folder: Path, form: Form) -> list[Path]:
    """A form's network and the descriptions that have its name, the network first; empty where it is not offered."""
    if not form.file:
        return []
    network = folder / form.file
    beside = [
        path
        for path in deployed_files(folder)
        if path.parent == network.parent
        and path != network
        and path.name.partition(".")[0] == network.name.partition(".")[0]
    ]
    return [path for path in (network, *beside) if path.is_file() and path.suffix in TITLES]


def deployed_size(folder: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in deployed_files(folder))


def archive(folder: Path, name: str) -> bytes:
    """The ZIP's contents; all files lie in a folder.

    Args:
        folder: of the deployment.
        name: of the folder in the ZIP.

    Raises:
        RunError: it would be larger than 1 GiB.
    """
    size = deployed_size(folder)
    if size > LARGEST:
        raise RunError(f"{name}: holds {size / 1e9:.1f} GB, too much for one download. Copy the folder {folder}.")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        for path in deployed_files(folder):
            packed.write(path, Path(name) / path.relative_to(folder))
    return buffer.getvalue()
