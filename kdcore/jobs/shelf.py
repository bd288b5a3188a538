"""The shelf: networks that may teach, by name, each with what it takes and gives. Never imports torch.

A folder of the workspace, `.teachers/NAME/`: the network's file, for a foreign ONNX file the YAML beside it (docs/teachers.md), and `shelf.json`.
"""

from pathlib import Path

from pydantic import Field

from kdcore.errors import KdcoreError
from kdcore.jobs.small_files import read_json
from kdcore.jobs.workspace import Workspace
from kdcore.settings import SLUG, Frozen, NetworkSettings, Seconds

FOLDER = ".teachers"
ABOUT = "shelf.json"


class Shelved(Frozen):
    """A network on the shelf.

    Attributes:
        name: by which a study calls it.
        file: of the network, in its folder.
        sha256: of that file.
        network: architecture and encoder; a foreign one is called 'onnx/' and its file's name.
        parameters: numbers that were learnt.
        classes: their names, in the network's order.
        band_numbers: in the image files, from 1.
        metres_per_pixel: of the imagery that it was trained on; None where nobody said.
        dtype: of that imagery.
        licence, source: what a person said of them; may be empty.
        added: when, seconds since 1970.
    """

    name: str
    file: str
    sha256: str
    network: NetworkSettings
    parameters: int = Field(ge=0)
    classes: tuple[str, ...]
    band_numbers: tuple[int, ...]
    metres_per_pixel: float | None = None
    dtype: str
    licence: str = ""
    source: str = ""
    added: Seconds = 0.0


class Shelf:
    """The networks on the shelf of a workspace."""

    def __init__(self, workspace: Workspace | None = None) -> None:
        self.path = (workspace or Workspace()).path / FOLDER

    def list(self) -> list[Shelved]:
        """All of them by name; one whose description is broken is left out."""
        found = []
        for about in sorted(self.path.glob(f"[!.]*/{ABOUT}")):
            try:
                entry = read_json(Shelved, about)
            except KdcoreError:
                continue
            if entry is not None and entry.name == about.parent.name:
                found.append(entry)
        return found

    def find(self, name: str) -> Shelved:
        """One of them.

        Raises:
            KdcoreError: there is none of this name.
        """
        entries = {entry.name: entry for entry in self.list()}
        if name not in entries:
            known = ", ".join(entries) or "it is empty"
            raise KdcoreError(
                f"{name[:100]!r}: no teacher of this name is on the shelf {self.path} ({known}). See: kdcore teachers list"
            )
        return entries[name]

    def file(self, name: str) -> Path:
        """The network's file of one of them.

        Raises:
            KdcoreError: there is none of this name.
        """
        return self.path / name / self.find(name).file


def is_shelf_name(text: str) -> bool:
    """Whether a teacher is named as one on the shelf, and not as a file."""
    return bool(SLUG.fullmatch(text)) and not text.lower().endswith((".onnx", ".safetensors"))


def resolved(teacher: Path, shelf: Shelf | None = None) -> Path:
    """The file of a teacher that is named by its file or by its name on the shelf.

    Raises:
        KdcoreError: no such name.
    """
    if teacher.exists() or not is_shelf_name(str(teacher)):
        return teacher
    return (shelf or Shelf()).file(str(teacher))
