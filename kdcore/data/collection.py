"""A folder of scenes: which files belong together, which part trains, validates and tests."""

import fnmatch
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import regex

from kdcore.data.footprints import check_split, check_unlabelled
from kdcore.data.mixed import check_alike
from kdcore.data.pairing import Pair, find_pairs, normal, show_places
from kdcore.data.rasters import IMAGE_SUFFIXES
from kdcore.data.scene import Box, Scene, SceneReader, describe_scene
from kdcore.data.vectors import POLYGON_SUFFIXES
from kdcore.errors import DataError, SettingsError
from kdcore.files import expanded, hash_file
from kdcore.settings import SPLITS, CollectionSettings, SplitName, load

FILE_NAME = "collection.yaml"
LATER_KEYS = (
    "mask_tolerance",
    "area_of_interest",
    "image_field",
)  # without them a collection keeps the hash of older runs
MATCH_SECONDS = 1.0  # for the pattern `scene` and one name: some patterns never end


class Region(NamedTuple):
    """A rectangle of a scene that belongs to one part of the split."""

    scene: Scene
    box: Box


@dataclass(frozen=True)
class Extent:
    """How much there is to ask a teacher about and to score.

    Attributes:
        train: pixels of the train part.
        unlabelled: pixels of the scenes without labels.
        logits: maps of a network: one for two classes, else one a class.
        validation, test: pixels of these parts.
    """

    train: int
    unlabelled: int
    logits: int
    validation: int = 0
    test: int = 0

    @property
    def scored(self) -> tuple[int, int]:
        """Pixels of validation and test, as a forecast wants them."""
        return self.validation, self.test

    @classmethod
    def of(cls, collection: "Collection", crop: int) -> "Extent":
        """That of a collection whose crops have this side; only headers are read."""
        train, validation, test = (sum(region.box.area for region in collection.regions(part, crop)) for part in SPLITS)
        unlabelled = sum(scene.box.area for scene in collection.unlabelled)
        return cls(train, unlabelled, len(collection.settings.scored), validation, test)


class Collection:
    """Scenes with classes and a split, opened from `collection.yaml`.

    Attributes:
        settings: the contents of `collection.yaml`.
        root: the folder that holds the files.
        scenes: labelled and other scenes in `images/`, by name.
        unlabelled: scenes in `unlabelled/`.
        reader: reads windows of the scenes.
    """

    def __init__(self, settings: CollectionSettings, root: Path, path: Path | None = None) -> None:
        self.settings = settings
        self.root = root
        self.path = path
        self.reader = SceneReader(settings)
        pairs, unlabelled = find_pairs(root, settings)
        self.scenes = tuple(self._find_scenes(pairs))
        self.unlabelled = tuple(describe_scene(match.file, settings, name=match.name) for match in unlabelled)
        if not self.scenes:
            raise DataError(
                f"{root}: {show_places(settings.images)} holds no images ({', '.join(IMAGE_SUFFIXES)}). "
                "See docs/data-format.md for the layout."
            )
        check_alike((*self.scenes, *self.unlabelled), resampled=settings.metres_per_pixel is not None)
        self._assignment = self._assign()
        used = [
            (scene, self._assignment[scene.id]) for scene in self.scenes if any(self._assignment[scene.id].values())
        ]
        check_split(used)
        check_unlabelled(
            self.unlabelled, [(scene, {part: merge_boxes(boxes[part]) for part in SPLITS}) for scene, boxes in used]
        )

    @classmethod
    def open(cls, path: Path) -> "Collection":
        """Open a folder with a `collection.yaml`, or a YAML file that names the folder in `root:`.

        Raises:
            DataError: files that are missing, unreadable, do not match, or leak between the parts of the split.
            SettingsError: a `collection.yaml` that is missing or wrong.
        """
        path = expanded(path)
        file = path / FILE_NAME if path.is_dir() else path
        if not file.is_file():
            if path.is_dir():
                raise SettingsError(
                    f"{path}: has no {FILE_NAME}. Run `kdcore data inspect {path}`, which proposes one."
                )
            raise SettingsError(f"{path}: there is no such folder or file.")
        settings = load(CollectionSettings, file)
        root = file.parent if settings.root is None else (file.parent / settings.root.expanduser())
        if not root.is_dir():
            raise SettingsError(
                f"{file}: `root: {settings.root}` is no folder. Write the path of the folder that holds {show_places(settings.images)}."
            )
        return cls(settings, root.resolve(), file.resolve())

    @property
    def bands(self) -> int:
        """Number of bands that a network sees."""
        return len(self.scenes[0].bands)

    @cached_property
    def metres_per_pixel(self) -> float | None:
        """Ground sample distance of the pixels that networks see (median over scenes); None where unknown."""
        known = [scene.metres_per_pixel for scene in self.scenes if scene.metres_per_pixel is not None]
        return float(np.median(known)) if known else None

    def regions(self, split: SplitName, buffer: int = 0) -> list[Region]:
        """The rectangles of one part of the split.

        Args:
            split: which part.
            buffer: distance in pixels that this part keeps from the parts behind it (train from validation and test,
                validation from test) inside a scene; at least the split's own `buffer`.

        Returns:
            Rectangles that do not overlap, in the scenes' order.
        """
        buffer = max(buffer, self.settings.split.buffer)
        behind = SPLITS[SPLITS.index(split) + 1 :]
        found = []
        for scene in self.scenes:
            parts = self._assignment[scene.id]
            boxes = merge_boxes(parts[split])
            for kept_clear in behind:
                for hole in merge_boxes(parts[kept_clear]):
                    boxes = [rest for box in boxes for rest in subtract(box, hole.grown(buffer))]
            found += [Region(scene, box) for box in boxes]
        return found

    @cached_property
    def content_hash(self) -> str:
        """A hash of every file's contents and of the settings that change what is read from them."""
        fields = CollectionSettings.model_fields
        unused = {key for key in LATER_KEYS if getattr(self.settings, key) == fields[key].default}
        settings = self.settings.model_dump(mode="json", exclude={"root", "name", "band_names"} | unused)
        total = hashlib.sha256(repr(settings).encode())
        hashes: dict[Path, str] = {}  # one vector file may serve all scenes
        for scene in (*self.scenes, *self.unlabelled):
            for file in (scene.image, scene.mask, scene.polygons, scene.area):
                if file is not None:
                    if file not in hashes:
                        hashes[file] = hash_file(file)
                    total.update(f"{file.relative_to(self.root)}:{hashes[file]}".encode())
        return total.hexdigest()[:16]

    def _find_scenes(self, pairs: Iterable[Pair]) -> Iterable[Scene]:
        settings = self.settings
        pattern = regex.compile(settings.scene) if settings.scene else None
        area_of = self._areas()
        for pair in pairs:
            group = pair.name
            if pattern is not None:
                try:
                    match = pattern.fullmatch(pair.name, timeout=MATCH_SECONDS)
                except TimeoutError as error:
                    raise DataError(
                        f"collection.yaml: `scene: {settings.scene}` takes more than {MATCH_SECONDS:g} s on the name {pair.name[:100]!r}. "
                        "Repeat nothing that repeats already, as in (a+)+."
                    ) from error
                if match is None:
                    raise DataError(
                        f"{pair.image}: does not match `scene: {settings.scene}` in collection.yaml. Correct the pattern or move the file away."
                    )
                group = match["scene"]
            yield describe_scene(
                pair.image, settings, pair.mask, pair.polygons, group, area=area_of(pair), name=pair.name
            )

    def _areas(self) -> Callable[[Pair], Path | None]:
        """The area of interest of an image: one file for all, or a folder with a file of the image's stem or name."""
        if self.settings.area_of_interest is None:
            return lambda pair: None
        path = self.root / self.settings.area_of_interest
        if path.is_dir():
            files = {normal(file.stem): file for file in reversed(list_files(path, POLYGON_SUFFIXES))}
            return lambda pair: files.get(normal(pair.image.stem)) or files.get(pair.own)
        if not path.is_file():
            raise DataError(f"{path}: `area_of_interest` in collection.yaml names no file or folder. Correct it.")
        return lambda pair: path

    def _assign(self) -> dict[str, dict[SplitName, list[Box]]]:
        split = self.settings.split
        entries: list[tuple[SplitName, str]] = [
            (name, normal(text)) for name in SPLITS for text in getattr(split, name)
        ]
        # What is the name of a scene means that scene, even where it could be read as a pattern ('tile [1]').
        names = {scene.group for scene in self.scenes} if split.by == "scene" else set()
        literal: dict[str, list[tuple[SplitName, str]]] = {}
        for name, text in entries:
            literal.setdefault(text, []).append((name, text))
        patterns = [(name, text) for name, text in entries if text not in names]
        used: set[str] = set()
        assignment: dict[str, dict[SplitName, list[Box]]] = {}
        for scene in self.scenes:
            parts: dict[SplitName, list[Box]] = {name: [] for name in SPLITS}
            cells = {scene.group: scene.box} if split.by == "scene" else grid_cells(scene.box, split.grid or (1, 1))
            for cell, box in cells.items():
                matches = literal.get(cell, []) if cell in names else []
                matches = matches + [(name, text) for name, text in patterns if fnmatch.fnmatchcase(cell, text)]
                used.update(pattern for _, pattern in matches)
                owners = sorted({name for name, _ in matches})
                if len(owners) > 1:
                    raise DataError(
                        f"{self.path or self.root}: {split.by} {cell!r} is both in {owners[0]} and in {owners[1]}; that would leak. "
                        "Name it in one part of the split only."
                    )
                if owners:
                    if not scene.labelled:
                        raise DataError(
                            f"{scene.image}: is in the {owners[0]} part but has no labels in {show_places(self.settings.masks)} or "
                            f"{show_places(self.settings.labels)}. Add them, or move the image to {show_places(self.settings.unlabelled)}."
                        )
                    parts[owners[0]].append(box)
            assignment[scene.id] = parts
        unused = [text for _, text in entries if text not in used]
        if unused:
            there = sorted(names) if split.by == "scene" else ["r1c1", "..."]
            raise DataError(
                f"{self.path or self.root}: `split` names {unused[0]!r}, which is no {split.by} here. There are: {', '.join(there[:12])}"
                f"{', ...' if len(there) > 12 else ''}."
            )
        return assignment


def list_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Files of a folder with one of the suffixes, by name; none where there is no folder."""
    if not folder.is_dir():
        return []
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in suffixes and file.is_file() and not file.name.startswith(".")
    )


def grid_cells(box: Box, grid: tuple[int, int]) -> dict[str, Box]:
    """Cut a scene into rows x columns blocks, named r1c1 ... from the upper left corner."""
    rows = np.round(np.linspace(0, box.height, grid[0] + 1)).astype(int)
    columns = np.round(np.linspace(0, box.width, grid[1] + 1)).astype(int)
    return {
        f"r{i + 1}c{j + 1}": Box(
            int(rows[i]), int(columns[j]), int(rows[i + 1] - rows[i]), int(columns[j + 1] - columns[j])
        )
        for i in range(grid[0])
        for j in range(grid[1])
    }


def merge_boxes(boxes: list[Box]) -> list[Box]:
    """Join boxes that share a whole side: first along rows, then down columns. Covers the same pixels."""
    across: list[Box] = []
    for box in sorted(boxes):
        last = across[-1] if across else None
        if last and last.row == box.row and last.height == box.height and last.column + last.width == box.column:
            across[-1] = Box(last.row, last.column, last.height, last.width + box.width)
        else:
            across.append(box)
    merged: list[Box] = []
    for box in sorted(across, key=lambda box: (box.column, box.width, box.row)):
        last = merged[-1] if merged else None
        if last and last.column == box.column and last.width == box.width and last.row + last.height == box.row:
            merged[-1] = Box(last.row, last.column, last.height + box.height, last.width)
        else:
            merged.append(box)
    return sorted(merged)


def subtract(box: Box, hole: Box) -> list[Box]:
    """What is left of `box` without `hole`: up to four rectangles that do not overlap."""
    cut = box.intersection(hole)
    if cut is None:
        return [box]
    below, right = cut.row + cut.height, cut.column + cut.width
    rest = [
        Box(box.row, box.column, cut.row - box.row, box.width),
        Box(below, box.column, box.row + box.height - below, box.width),
        Box(cut.row, box.column, cut.height, cut.column - box.column),
        Box(cut.row, right, cut.height, box.column + box.width - right),
    ]
    return [part for part in rest if part.height > 0 and part.width > 0]


def positions(
    collection: Collection, split: SplitName, tile: int, step: int, buffer: int = 0
) -> Iterator[tuple[Scene, Box]]:
    """Tiles laid over every rectangle of a part, cut off where it is smaller, the last of a row or column moved back to its end.

    The part keeps `buffer` pixels away from the parts behind it, see `Collection.regions`.
    """
    for region in collection.regions(split, buffer):
        box = region.box
        for row in origins(box.row, box.height, tile, step):
            for column in origins(box.column, box.width, tile, step):
                inside = Box(row, column, tile, tile).intersection(box)
                if inside is not None:
                    yield region.scene, inside


def origins(start: int, size: int, tile: int, step: int) -> list[int]:
    """Where tiles along one side of a rectangle begin."""
    last = start + max(size - tile, 0)
    return sorted({*range(start, last, step), last})
