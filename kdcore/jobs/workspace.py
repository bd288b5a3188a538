"""The folder that holds all studies: what the dashboard and `kdcore runs` look into. Never imports torch."""

import os
from heapq import nlargest
from pathlib import Path

from kdcore.errors import RunError
from kdcore.files import expanded
from kdcore.jobs.small_files import modified
from kdcore.jobs.study_folder import StudyFolder
from kdcore.settings import SLUG

VARIABLE = "KDCORE_WORKSPACE"
EXAMPLE = "example"
SWEEPS = "sweeps"  # folder of the workspace
RESERVED = (EXAMPLE, SWEEPS)  # no study is called that
NEW = "new"  # in the address: the form; no sweep is called that
EXAMPLE_FOLDER = Path(__file__).parents[1] / EXAMPLE


class Workspace:
    """A folder of studies; it need not exist until the first one is made.

    Attributes:
        path: `$KDCORE_WORKSPACE`, else `studies` in the current folder.
        areas: procedural areas, collections on disk.
        devices: locks of this and other machines' devices.
        sweeps: searches, each in a folder of its own.
        tokens: of launches, so that a double click launches once.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = expanded(path or os.environ.get(VARIABLE) or "studies").absolute()
        self.areas = self.path / ".areas"
        self.devices = self.path / ".devices"
        self.sweeps = self.path / SWEEPS
        self.tokens = self.path / ".tokens"

    def studies(self, most: int | None = None, named: str = "") -> list[StudyFolder]:
        """All studies, newest first, the bundled example last. Broken ones are among them, with the state 'broken'.

        Args:
            most: only so many of them, those that changed last; the files of the others are not read.
            named: only those whose id holds this text, in capitals or not.

        Raises:
            RunError: the folder cannot be read.
        """
        found = self.folders(named)
        if most is not None and len(found) > most:
            found = nlargest(most, found, key=last_change)
        found = sorted(found, key=lambda study: (study.created, study.id), reverse=True)
        return found + ([self.example()] if has_example() and named.lower() in EXAMPLE else [])

    def folders(self, named: str = "") -> list[StudyFolder]:
        """The studies in this folder, in no order; with a text only those whose id holds it."""
        try:
            names = [
                name for name in os.listdir(self.path) if not name.startswith(".") and named.lower() in name.lower()
            ]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RunError(
                f"{self.path}: the workspace cannot be read ({error.strerror}). Set {VARIABLE} to another folder."
            ) from error
        return [
            StudyFolder(self.path / name)
            for name in names
            if name != EXAMPLE and os.path.isfile(f"{self.path}/{name}/study.yaml")  # of ten thousand: Path is slow
        ]

    def study(self, id: str) -> StudyFolder:
        """One study by its id.

        Raises:
            RunError: there is none.
        """
        if id == EXAMPLE and has_example():
            return self.example()
        if SLUG.fullmatch(id) and (self.path / id / "study.yaml").is_file():
            return StudyFolder(self.path / id)
        known = ", ".join(study.id for study in self.studies(5)[:5]) or "it holds none yet"
        raise RunError(f"{id[:100]!r}: there is no such study in {self.path} ({known}). See: kdcore runs list")

    def example(self) -> StudyFolder:
        """The study that comes with the package."""
        return StudyFolder(EXAMPLE_FOLDER, read_only=True)


def last_change(study: StudyFolder) -> int:
    """When a study was made, or its state changed last, nanoseconds since 1970."""
    place = str(study.path)
    return max(modified(f"{place}/study.yaml"), modified(f"{place}/{study.FILE}"))


def has_example() -> bool:
    """Whether the example was bundled."""
    return (EXAMPLE_FOLDER / "study.yaml").is_file()
