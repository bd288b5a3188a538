"""Which files make a scene: folders or paths with `{placeholders}`, and files that lie at the same place.

`images: images/{name}_sat` and `masks: masks/{name}_mask` pair the files for which `{name}` is the same. A placeholder stands for
one or more characters other than '/', `*` for any. A folder is short for 'folder/{name}'. The values of an image's placeholders,
joined by '_', are the scene's name. Without a suffix at the end any suffix of the kind fits.
"""

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from rasterio.warp import transform_bounds

from kdcore.bounded import remembered
from kdcore.data.rasters import IMAGE_SUFFIXES, read_header
from kdcore.data.vectors import POLYGON_SUFFIXES, read_frame
from kdcore.errors import DataError
from kdcore.settings import PLACEHOLDER, Places

Bounds = tuple[float, float, float, float]


@dataclass(frozen=True)
class Pair:
    """The files of one scene.

    Attributes:
        name: of the scene.
        own: what its file's name adds to it, without folders and affixes.
    """

    name: str
    own: str
    image: Path
    mask: Path | None = None
    polygons: Path | None = None


@dataclass(frozen=True)
class Match:
    """A file and what the placeholders of its pattern stand for."""

    file: Path
    values: dict[str, str]

    @property
    def name(self) -> str:
        """The values joined by '_'."""
        return "_".join(self.values.values()) or self.file.stem

    @property
    def own(self) -> str:
        """The last of them."""
        return next(reversed(self.values.values()), self.file.stem)


@dataclass(frozen=True)
class Pattern:
    """Where files lie: a folder, a file, or a path with placeholders and `*`."""

    text: str
    suffixes: tuple[str, ...]

    @cached_property
    def full(self) -> str:
        """The pattern with a place for the file's name: 'images' is 'images/{name}'."""
        text = normal(self.text).strip("/").removeprefix("./")
        last = text.rpartition("/")[2]
        named = "{" in last or "*" in last or self.suffix(last) is not None
        return text if named else f"{text}/{{name}}".removeprefix("./")

    def suffix(self, name: str) -> str | None:
        """The suffix that the pattern asks for, in lower case; None where any will do."""
        suffix = Path(name).suffix.lower()
        return suffix if suffix in self.suffixes else None

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the placeholders in order, each once."""
        return tuple(dict.fromkeys(PLACEHOLDER.findall(self.full)))

    @cached_property
    def by_place(self) -> bool:
        """Whether several files may fit, of which the one at the image's place is meant."""
        return "*" in self.full

    @cached_property
    def wanted(self) -> str | None:
        """The suffix that the pattern asks for; None where any of the kind will do."""
        return self.suffix(self.full)

    @cached_property
    def literal(self) -> int:
        """How many characters the pattern fixes."""
        return len(PLACEHOLDER.sub("", self.full).replace("*", ""))

    @cached_property
    def _stem(self) -> re.Pattern[str]:
        return expression(self.full[: -len(self.wanted)] if self.wanted else self.full)

    def match(self, relative: str) -> dict[str, str] | None:
        """The placeholders' values for a path inside the collection's folder ('train/images/a.tif'); None where it does not fit."""
        stem, dot, suffix = normal(relative).rpartition(".")
        wanted = self.wanted
        if f".{suffix.lower()}" not in ((wanted,) if wanted else self.suffixes) or not dot:
            return None
        found = self._stem.fullmatch(stem)
        return None if found is None else {name: found[name] for name in self.names}

    def find(self, root: Path) -> list[Match]:
        """All files below `root` that fit, in the order of their paths; hidden ones are left out."""
        found = []
        for file in walk(root, self.full.split("/")):
            values = self.match(file.relative_to(root).as_posix())
            if values is not None and file.is_file():
                found.append(Match(file, values))
        return found


def normal(text: str) -> str:
    """Unicode in its composed form: file systems and editors write 'é' in two ways."""
    return unicodedata.normalize("NFC", text)


@lru_cache(maxsize=4096)
def expression(text: str) -> re.Pattern[str]:
    """A pattern as a regular expression; a placeholder that comes again must have the same value again."""
    seen: set[str] = set()
    parts = []
    for index, part in enumerate(PLACEHOLDER.split(text)):
        if index % 2 == 0:
            parts.append(re.escape(part).replace(r"\*", "[^/]*"))
        elif part in seen:
            parts.append(f"(?P={part})")
        else:
            seen.add(part)
            parts.append(f"(?P<{part}>[^/]+?)")
    return re.compile("".join(parts))


def walk(folder: Path, parts: list[str]) -> Iterator[Path]:
    """Entries below a folder whose path has as many parts and fits those before the last."""
    head, *rest = parts
    if rest and (folder / head).is_dir():  # without placeholders; the usual case
        yield from walk(folder / head, rest)
        return
    if not folder.is_dir():
        return
    loose = expression(PLACEHOLDER.sub("*", head))
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if not rest:
            yield entry
        elif loose.fullmatch(normal(entry.name)) and entry.is_dir():
            yield from walk(entry, rest)


def patterns(places: Places, suffixes: tuple[str, ...]) -> list[Pattern]:
    """The patterns of one of the collection's settings."""
    return [Pattern(place, suffixes) for place in ((places,) if isinstance(places, str) else places)]


def find(root: Path, places: Places, suffixes: tuple[str, ...]) -> list[Match]:
    """All files that fit one of several patterns, each once."""
    found: dict[Path, Match] = {}
    for pattern in patterns(places, suffixes):
        for match in pattern.find(root):
            found.setdefault(match.file, match)
    return list(found.values())


class PlacesOfFiles(Protocol):
    """What says where files lie: a collection's settings, or a layout that was found."""

    @property
    def images(self) -> Places: ...  # noqa: D102
    @property
    def masks(self) -> Places: ...  # noqa: D102
    @property
    def labels(self) -> Places: ...  # noqa: D102
    @property
    def unlabelled(self) -> Places: ...  # noqa: D102
    @property
    def labels_from(self) -> Literal["masks", "polygons"] | None: ...  # noqa: D102


def find_pairs(root: Path, settings: PlacesOfFiles) -> tuple[list[Pair], list[Match]]:
    """The scenes with their labels, and the images without.

    A raster that fits several settings belongs to the one whose pattern says most: '1_mask.png' to `masks: '{name}_mask'`, not to
    `images: '{name}'`; of two that say as much to `unlabelled` before `masks` before `images`.

    Raises:
        DataError: two images of one name, or an image with several masks or vector files.
    """
    owners: dict[Path, tuple[int, int, Pattern, Match]] = {}
    for order, places in enumerate((settings.images, settings.masks, settings.unlabelled)):
        for pattern in patterns(places, IMAGE_SUFFIXES):
            for match in pattern.find(root):
                owner = owners.get(match.file)
                if owner is None or (pattern.literal, order) > owner[:2]:
                    owners[match.file] = (pattern.literal, order, pattern, match)
    masks = LabelFiles(root, [owner[2:] for owner in owners.values() if owner[1] == 1], "masks")
    vectors = [
        (pattern, match) for pattern in patterns(settings.labels, POLYGON_SUFFIXES) for match in pattern.find(root)
    ]
    polygons = LabelFiles(root, vectors, "labels")
    pairs: dict[str, Pair] = {}
    for match in (owner[3] for owner in owners.values() if owner[1] == 0):
        if match.name in pairs:
            raise DataError(
                f"{match.file}: has the same name {match.name!r} as {pairs[match.name].image.relative_to(root)}; names of scenes pair "
                "them with labels. Rename one, or end `images` in collection.yaml with the suffix that is meant."
            )
        mask = masks.of(match) if settings.labels_from != "polygons" else None
        vector = polygons.of(match) if mask is None and settings.labels_from != "masks" else None
        pairs[match.name] = Pair(match.name, match.own, match.file, mask, vector)
    return list(pairs.values()), [owner[3] for owner in owners.values() if owner[1] == 2]


class LabelFiles:
    """The masks or the vector files of a collection, found by the values that their placeholders share with an image's."""

    def __init__(self, root: Path, found: Iterable[tuple[Pattern, Match]], setting: Literal["masks", "labels"]) -> None:
        self.root = root
        self.setting = setting
        self.found: dict[Pattern, list[Match]] = {}
        for pattern, match in found:
            self.found.setdefault(pattern, []).append(match)
        self._by_key: dict[tuple[Pattern, tuple[str, ...]], dict[tuple[str, ...], list[Path]]] = {}
        self._places: dict[tuple[Any, ...], dict[tuple[Any, ...], list[Path]]] = {}

    def of(self, image: Match) -> Path | None:
        """The file that belongs to an image, or None.

        Raises:
            DataError: there are several.
        """
        fitting: dict[Path, None] = {}
        for pattern in self.found:
            shared = tuple(name for name in pattern.names if name in image.values)
            if pattern.names and not shared:
                continue
            table = self._table(pattern, shared)
            key = tuple(image.values[name] for name in shared)
            files = table.get(key) or table.get(tuple(map(str.casefold, key)), [])
            if pattern.by_place:
                files = self._at_place(image.file, (pattern, shared, key), files)
            fitting |= dict.fromkeys(files)
        if len(fitting) > 1:
            names = [file.relative_to(self.root).as_posix() for file in fitting]
            what = "masks" if self.setting == "masks" else "vector files"
            raise DataError(
                f"{image.file}: {len(names)} {what} belong to this image: {', '.join(names[:3])}. Remove all but one, join them, or "
                f"end `{self.setting}` in collection.yaml with the suffix that is meant."
            )
        return next(iter(fitting), None)

    def _table(self, pattern: Pattern, shared: tuple[str, ...]) -> dict[tuple[str, ...], list[Path]]:
        """Files by the values of the shared placeholders; also by those in lower case where only one file has them."""
        if (pattern, shared) not in self._by_key:
            table: dict[tuple[str, ...], list[Path]] = {}
            folded: dict[tuple[str, ...], list[Path]] = {}
            for match in self.found[pattern]:
                key = tuple(match.values[name] for name in shared)
                table.setdefault(key, []).append(match.file)
                folded.setdefault(tuple(map(str.casefold, key)), []).append(match.file)
            alone = {key: files for key, files in folded.items() if len(files) == 1}
            self._by_key[pattern, shared] = alone | table
        return self._by_key[pattern, shared]

    def _at_place(self, image: Path, table: tuple[Any, ...], files: list[Path]) -> list[Path]:
        """Those of some files that lie where an image does."""
        if self.setting == "labels":
            return [file for file in files if touches(image, file)]
        if table not in self._places:  # otherwise each image would be compared with every mask
            self._places[table] = {}
            for file in files:
                if (found := grid(file)) is not None:
                    self._places[table].setdefault((found.crs, found.shape, found.cell), []).append(file)
        here = grid(image)
        if here is None:
            return []
        column, row = here.cell
        around = [(here.crs, here.shape, (column + x, row + y)) for x in (-1, 0, 1) for y in (-1, 0, 1)]
        return [file for key in around for file in self._places[table].get(key, []) if same_grid(image, file)]


class Grid(NamedTuple):
    """CRS (WKT), west, south, east and north, and (height, width) of a georeferenced raster."""

    crs: str
    bounds: Bounds
    shape: tuple[int, int]

    @property
    def pixel(self) -> tuple[float, float]:
        """Width and height of a pixel in the CRS's units."""
        west, south, east, north = self.bounds
        return (east - west) / self.shape[1], (north - south) / self.shape[0]

    @property
    def cell(self) -> tuple[int, int]:
        """Its upper left pixel in a grid of such pixels over the whole CRS."""
        return math.floor(self.bounds[0] / self.pixel[0]), math.floor(self.bounds[3] / self.pixel[1])


def grid(path: Path) -> Grid | None:
    """Where a raster lies; None where it does not say or cannot be read, which is told when it is looked at."""
    try:
        header = read_header(path)
    except DataError:
        return None
    place, (height, width) = header.place, header.shape
    if place.crs is None or place.transform.is_identity:
        return None
    corners = [place.transform @ corner for corner in ((0, 0), (width, 0), (0, height), (width, height))]
    xs, ys = zip(*corners, strict=True)
    return Grid(place.crs.to_wkt(), (min(xs), min(ys), max(xs), max(ys)), (height, width))


def same_grid(image: Path, mask: Path) -> bool:
    """Whether two rasters have the same pixels, to half a pixel."""
    first, second = grid(image), grid(mask)
    if first is None or second is None or first.crs != second.crs or first.shape != second.shape:
        return False
    return all(
        abs(a - b) <= first.pixel[index % 2] / 2
        for index, (a, b) in enumerate(zip(first.bounds, second.bounds, strict=True))
    )


@remembered(4096)
def bounds_in(vector: Path, crs: str) -> Bounds | None:
    """Bounds of a vector file in a CRS (WKT); None where they are not known. A shapefile without `.prj` is in any CRS."""
    try:
        frame = read_frame(vector)
        bounds = tuple(map(float, frame.total_bounds))
        if frame.crs is not None:
            bounds = transform_bounds(frame.crs.to_wkt(), crs, *bounds)
        elif vector.suffix.lower() != ".shp":
            return None
    except (
        Exception
    ):  # not readable, or a CRS that cannot be turned into the other; it is told when the file is looked at
        return None
    west, south, east, north = bounds
    return (west, south, east, north) if all(map(math.isfinite, bounds)) else None


def touches(image: Path, vector: Path) -> bool:
    """Whether the bounds of a vector file and of a georeferenced image intersect; False where one of them is not known."""
    raster = grid(image)
    polygons = None if raster is None else bounds_in(vector, raster.crs)
    if raster is None or polygons is None:
        return False
    west, south, east, north = polygons
    left, bottom, right, top = raster.bounds
    return west < right and left < east and south < top and bottom < north


def relative_names(files: Iterable[Path], root: Path, most: int = 3) -> str:
    """The first few of some files, by their paths inside a folder."""
    names = [file.relative_to(root).as_posix() for file in files]
    return ", ".join(names[:most]) + (" ..." if len(names) > most else "")


def show_places(places: Places) -> str:
    """Folders and patterns in words."""
    return " or ".join((f"{places}/" if "{" not in places else places,) if isinstance(places, str) else places)
