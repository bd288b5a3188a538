"""All files below a folder by their paths, and what the words in a path say about a file."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rasterio.enums import Resampling

from kdcore.data.rasters import open_raster
from kdcore.errors import DataError, KdcoreError
from kdcore.reading import read_start
from kdcore.settings import SplitName

DEPTH = 8  # folders inside each other that are looked into
FEW_VALUES = 60  # values or colours; imagery has more


def word_set(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


JUNK = word_set("__macosx thumbs.db desktop.ini @eadir $recycle.bin lost+found")
MASK_WORDS = word_set(
    "mask masks msk msks label labels lbl lbls gt gts truth truths groundtruth annotation annotations annot annots anno annos ann anns "
    "seg segs segm segmentation segmentations target targets reference"
)
UNLABELLED_WORDS = word_set("unlabelled unlabeled nolabel nolabels unannotated")
PREVIEW_WORDS = word_set("preview previews quicklook quicklooks thumb thumbs thumbnail thumbnails browse")
OUTLINE_WORDS = word_set("aoi aois footprint footprints boundary boundaries extent extents tileindex")
PART_WORDS: dict[SplitName, frozenset[str]] = {
    "train": word_set("train training trn tr"),
    "validation": word_set("val valid validation vali dev"),
    "test": word_set("test testing tst ts holdout"),
}
PARTS: dict[str, SplitName] = {word: part for part, told in PART_WORDS.items() for word in told}
TOKEN = re.compile(
    r"/|(?i:train|valid|val|test)(?=(?i:annot|mask|label|gt|img|image))|[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_]+|[\W_]"
)


def list_tree(root: Path) -> list[str]:
    """Paths of all files below a folder, inside it and with '/', sorted; hidden files and what systems leave behind left out.

    Raises:
        DataError: a folder cannot be read; what it holds would be missing without a word.
    """

    def refuse(error: OSError) -> None:
        raise DataError(
            f"{error.filename}: cannot be read ({error.strerror}). Ask its owner for the right, or move it elsewhere."
        )

    found = []
    seen = set()
    for folder, below, files in os.walk(root, followlinks=True, onerror=refuse):
        real = os.path.realpath(folder)
        relative = Path(folder).relative_to(root)
        if real in seen or len(relative.parts) >= DEPTH:  # a link to a folder further up, or too deep
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(name for name in below if not is_junk(name))
        found += [(relative / name).as_posix() for name in files if not is_junk(name)]
    return sorted(found)


def is_junk(name: str) -> bool:
    """Whether a file or folder is hidden or left behind by an operating system."""
    return name.startswith(".") or name.lower() in JUNK


def parent(name: str) -> str:
    """The folder of a path; '' at the top."""
    return name.rpartition("/")[0]


def stem_of(name: str) -> str:
    """A path without its suffix."""
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.rpartition('.')[0] or last}"


def suffix_of(name: str) -> str:
    """The suffix in lower case."""
    return Path(name).suffix.lower()


def tokens(text: str) -> list[str]:
    """Words, numbers and signs of a path; 'imgTile12' has three."""
    return TOKEN.findall(text)


def words(name: str) -> list[str]:
    """Words and numbers of a path without suffix, in lower case."""
    return [token.lower() for token in tokens(stem_of(name)) if token[0].isalnum()]


def is_vector(path: Path) -> bool:
    """Whether a vector file by its suffix holds features: a `.json` may hold anything."""
    if path.suffix.lower() != ".json":
        return True
    start = read_start(path, 4096)
    return b'"FeatureCollection"' in start or b'"Feature"' in start


def sort_rasters(root: Path, names: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Images, masks and previews: by the words of folders, else of files, else by what is in them."""
    previews = [name for name in names if PREVIEW_WORDS & set(words(name))]
    if len(previews) == len(names):
        previews = []
    names = [name for name in names if name not in set(previews)]
    told = {name: set(words(name)) for name in names}
    common = set.intersection(*told.values()) if told else set()
    masks: list[str] = []
    for by_folder in (True, False):
        told_of = {name: set(words(f"{parent(name)}/-")) if by_folder else told[name] for name in names}
        masks = [name for name in names if MASK_WORDS & (told_of[name] - common)]
        masks = [name for name in masks if not UNLABELLED_WORDS & told[name]]
        if 0 < len(masks) < len(names):
            break
    else:
        masks = [name for name in by_contents(root, names) if not UNLABELLED_WORDS & told[name]]
        if len(masks) == len(names):
            masks = []
    chosen = set(masks)
    return [name for name in names if name not in chosen], masks, previews


def by_contents(root: Path, names: Sequence[str]) -> list[str]:
    """The files that look like masks: a few of each folder and suffix are read, all where these disagree."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name in names:
        groups.setdefault((parent(name), suffix_of(name)), []).append(name)
    masks = []
    for group in groups.values():
        step = max(1, len(group) // 6)
        looks = {looks_like_mask(root / name) for name in group[::step]}
        if len(looks) == 2:
            masks += [name for name in group if looks_like_mask(root / name)]
        elif looks == {True}:
            masks += group
    return masks


def looks_like_mask(path: Path) -> bool:
    """Whether a raster has few values or colours."""
    try:
        with open_raster(path) as dataset:
            if dataset.count not in (1, 3) or not np.issubdtype(np.dtype(dataset.dtypes[0]), np.integer):
                return False
            shape = (dataset.count, min(256, dataset.height), min(256, dataset.width))
            pixels = dataset.read(out_shape=shape, resampling=Resampling.nearest).reshape(dataset.count, -1)
    except (KdcoreError, OSError, ValueError):
        return False
    return bool(np.unique(pixels, axis=1).shape[1] <= FEW_VALUES)
