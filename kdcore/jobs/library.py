"""Collections that this workspace knows: settings that were saved here, and folders that were looked at.

`WORKSPACE/.collections/NAME.yaml` holds settings with `root:`, for data in a folder that has no `collection.yaml` of its own;
`WORKSPACE/.collections/folders.json` lists folders that have one. Never imports torch.
"""

import itertools
import os
from dataclasses import dataclass
from pathlib import Path

from kdcore.errors import KdcoreError, RunError, SettingsError
from kdcore.files import write_json, write_text
from kdcore.jobs.small_files import read_dict
from kdcore.jobs.workspace import Workspace
from kdcore.ownership import write_own_text
from kdcore.reading import ReadingError, parse_yaml, visible
from kdcore.settings import CollectionSettings, load, validate

FILE_NAME = "collection.yaml"
MOST_FOLDERS = 50  # are remembered; the oldest is forgotten first


@dataclass(frozen=True)
class Known:
    """A collection that can be chosen: its name, and the path that opens it."""

    name: str
    path: Path


class Library:
    """The collections of a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self.folder = workspace.path / ".collections"
        self.list_file = self.folder / "folders.json"

    def known(self) -> list[Known]:
        """Saved settings and remembered folders that are still there, by name."""
        paths = [*sorted(self.folder.glob("*.yaml")), *map(Path, self.remembered())]
        found = []
        for path in paths:
            try:
                file = path / FILE_NAME if path.is_dir() else path
                found.append(Known(visible(load(CollectionSettings, file).name), path))
            except KdcoreError:
                continue  # moved away or broken since; it is looked at again when someone names it
        return sorted(found, key=lambda entry: (entry.name, str(entry.path)))

    def remembered(self) -> list[str]:
        """Folders and YAML files elsewhere that were looked at, the latest last."""
        try:
            values = read_dict(self.list_file) or {}
        except RunError:
            return []  # a broken list is written anew
        return [str(path) for path in values.get("folders", [])]

    def remember(self, path: Path) -> None:
        """Keep a path for the next time, as the latest."""
        text, before = str(path.expanduser().absolute()), self.remembered()
        if path.absolute().parent != self.folder and before[-1:] != [text]:
            kept = [*(other for other in before if other != text), text]
            write_json(self.list_file, {"folders": kept[-MOST_FOLDERS:]})

    def save(self, text: str, root: Path) -> Path:
        """Check `collection.yaml` text and keep it as `NAME.yaml`, with `root` where it names none.

        Args:
            text: YAML.
            root: the folder that holds the files.

        Raises:
            SettingsError: what is wrong with the text.
        """
        settings = check_text(text)
        if settings.root is None:
            text = f"root: {root.resolve()}\n{text}"
        elif not settings.root.expanduser().is_absolute():
            raise SettingsError(
                f"collection.yaml: `root: {settings.root}` must be a full path here, for example {root.resolve()}."
            )
        file = self.file_for(settings.name, (settings.root or root).expanduser().resolve())
        write_text(file, text if text.endswith("\n") else text + "\n")
        return file

    def accept(self, text: str, root: Path) -> Path:
        """Check `collection.yaml` text and write it into the folder that it is about; into the workspace where that is not possible.

        Args:
            text: YAML.
            root: the folder that holds the files.

        Returns:
            What opens the collection: the folder, or the file in the workspace.

        Raises:
            SettingsError: what is wrong with the text.
            NotOursError: the folder has a `collection.yaml` by now that somebody else wrote.
        """
        if check_text(text).root is not None or not os.access(root, os.W_OK):
            return self.save(text, root)
        write_own_text(root / FILE_NAME, text if text.endswith("\n") else text + "\n")
        self.remember(root)
        return root

    def file_for(self, name: str, root: Path) -> Path:
        """`NAME.yaml`, or `NAME-2.yaml` and so on where that is about another folder."""
        for number in itertools.count(1):
            file = self.folder / (f"{name}.yaml" if number == 1 else f"{name}-{number}.yaml")
            if not file.exists() or about(file) == root:
                return file
        raise AssertionError("a count without an end ended")


def about(file: Path) -> Path | None:
    """The folder that saved settings are about; None where they cannot be read."""
    try:
        root = load(CollectionSettings, file).root
    except KdcoreError:
        return None
    return None if root is None else root.expanduser().resolve()


def check_text(text: str) -> CollectionSettings:
    """Settings from YAML text.

    Raises:
        SettingsError: names each field that is wrong.
    """
    try:
        values = parse_yaml(text, "collection.yaml")
    except ReadingError as error:
        raise SettingsError(str(error)) from error
    if not isinstance(values, dict):
        raise SettingsError("collection.yaml: should hold `key: value` lines.")
    return validate(CollectionSettings, values, "collection.yaml")
