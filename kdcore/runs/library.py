"""Collections that this workspace knows: settings that were saved here, and folders that were looked at.

`WORKSPACE/.collections/NAME.yaml` holds settings with `root:`, for data in a folder that has no `collection.yaml` of its own;
`WORKSPACE/.collections/folders.json` lists folders that have one. Never imports torch.
"""

from dataclasses import dataclass
from pathlib import Path

from kdcore.errors import KdcoreError, RunError, SettingsError
from kdcore.files import write_json, write_text
from kdcore.reading import ReadingError, parse_yaml
from kdcore.runs.study_folder import read_dict
from kdcore.runs.workspace import Workspace
from kdcore.settings import CollectionSettings, load, validate

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
                file = path / "collection.yaml" if path.is_dir() else path
                found.append(Known(load(CollectionSettings, file).name, path))
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
        """Keep a path for the next time."""
        text = str(path.expanduser().absolute())
        if path.absolute().parent != self.folder and text not in self.remembered():
            write_json(self.list_file, {"folders": [*self.remembered(), text][-MOST_FOLDERS:]})

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
        file = self.folder / f"{settings.name}.yaml"
        write_text(file, text if text.endswith("\n") else text + "\n")
        return file


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
