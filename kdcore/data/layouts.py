"""How a folder as people have it is laid out: which files are images, which are labels, and the patterns that pair them.

Names are cut into words, numbers and signs. Aligning the path of an image with that of its label shows what they share, which becomes
placeholders: 'train/sat/12_rgb' and 'train/gt/12_label' give '{part}/sat/{name}_rgb' and '{part}/gt/{name}_label'.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kdcore.data.alignment import Templates, align, common_places, keys, spread_out
from kdcore.data.folder_tree import (
    MASK_WORDS,
    OUTLINE_WORDS,
    PARTS,
    PREVIEW_WORDS,
    UNLABELLED_WORDS,
    is_vector,
    list_tree,
    parent,
    sort_rasters,
    stem_of,
    suffix_of,
    words,
)
from kdcore.data.pairing import Pattern, patterns, same_grid, touches
from kdcore.data.rasters import IMAGE_SUFFIXES, open_raster
from kdcore.data.vectors import POLYGON_SUFFIXES, read_frame
from kdcore.errors import KdcoreError, written_out
from kdcore.settings import Places

MOST_PATTERNS = 6  # beside the first


@dataclass
class Layout:
    """Where the files of a collection lie, in the words of `collection.yaml`, and what was left out.

    Attributes:
        labelled: whether labels were found that belong to images.
        only_labels: whether all rasters lie in folders of masks.
        loose: whether all rasters lie in one folder.
        label_files: paths of masks and vector files.
        skipped: sentences that each name files that are not used, and why.
        problems: likewise, for files that ought to be used.
        other: paths of files that are neither rasters nor vector files that can be read.
    """

    images: Places = "images"
    masks: Places = "masks"
    labels: Places = "labels"
    unlabelled: Places = "unlabelled"
    labels_from: None = None
    image_field: str | None = None
    labelled: bool = False
    only_labels: bool = False
    loose: bool = False
    label_files: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)


def find_layout(root: Path) -> Layout:
    """Look at the names of all files below a folder, and into files where names tell nothing."""
    listed = list_tree(root)
    names = [name for name in listed if name.encode(errors="replace").decode() == name]
    rasters = [name for name in names if suffix_of(name) in IMAGE_SUFFIXES]
    vectors = [name for name in names if suffix_of(name) in POLYGON_SUFFIXES and is_vector(root / name)]
    layout = Layout(other=sorted(set(names) - set(rasters) - set(vectors)))
    for name in sorted(set(listed) - set(names)):
        layout.problems.append(f"{written_out(name)}: this name is not written in UTF-8. Rename the file or folder.")
    images, masks, previews = sort_rasters(root, rasters)
    outlines = [name for name in vectors if is_outline(name)]
    vectors = [name for name in vectors if name not in outlines]
    layout.label_files = [*masks, *vectors]
    layout.loose = len({parent(name) for name in rasters}) == 1
    layout.only_labels = (
        bool(images) and not masks and all(MASK_WORDS & set(words(f"{parent(name)}/-")) for name in images)
    )
    views: list[str] = []
    if images:
        views = pair_masks(layout, root, images, masks)
        if not layout.labelled:
            views = pair_vectors(layout, root, images, vectors)
        if not layout.labelled:
            layout.images = common_places(
                [name for name in images if not UNLABELLED_WORDS & set(words(name))] or images
            )
        narrow(layout, images, [*masks, *previews])
        find_unlabelled(layout, root, images, [*masks, *vectors], views)
    layout.skipped += list_skipped(previews, "previews are no imagery")
    layout.skipped += list_skipped(outlines, "outlines are no labels")
    return layout


def pair_masks(layout: Layout, root: Path, images: Sequence[str], masks: Sequence[str]) -> list[str]:
    """Pair masks by names; by their place where names do not help. Gives other patterns of images that would fit, too."""
    found = align(images, masks)
    few = not found or 2 * found[0].pairs < min(len(images), len(masks))
    if few and {parent(name) for name in images}.isdisjoint(map(parent, masks)):
        some = [image for image in spread_out(images, 8) if any(same_grid(root / image, root / mask) for mask in masks)]
        if some:
            layout.images, layout.masks = common_places(images), common_places(masks, last="*")
            layout.labelled = True
            return []
    if not found or is_heap(found[0].pairs, images, masks):
        return []
    chosen = [found[0], *further(found[0], images, masks)]
    layout.images = one_or_all([entry.image for entry in chosen])
    layout.masks = one_or_all([entry.label for entry in chosen])
    layout.labelled = True
    return [other.image for other in found[1:] if other not in chosen]


def further(first: Templates, images: Sequence[str], masks: Sequence[str]) -> list[Templates]:
    """Patterns for the images and masks that the first ones leave, as long as no two scenes have one name."""
    chosen: list[Templates] = []
    taken: set[tuple[str, ...]] = set()
    entry = first
    while len(chosen) < MOST_PATTERNS:
        image, label = Pattern(entry.image, IMAGE_SUFFIXES), Pattern(entry.label, IMAGE_SUFFIXES)
        if image.names != ("name",) or label.names != ("name",):
            break
        owned = keys(label, image, masks)
        there = set(owned.values())
        paired = {name: key for name, key in keys(image, label, images).items() if key in there}
        if taken & set(paired.values()):
            break
        taken |= set(paired.values())
        chosen += [] if entry is first else [entry]
        images = [name for name in images if name not in paired]
        masks = [name for name in masks if owned.get(name) not in taken]
        found = align(images, masks)
        if not found:
            break
        entry = found[0]
    return chosen


def one_or_all(places: Sequence[str]) -> Places:
    """One pattern as a text, several as a list; each once."""
    once = tuple(dict.fromkeys(places))
    return once[0] if len(once) == 1 else once


def is_outline(name: str) -> bool:
    """Whether a vector file's name begins or ends with a word for the bounds of an area."""
    told = words(name.rpartition("/")[2])
    return bool(told) and bool(OUTLINE_WORDS & {told[0], told[-1]})


def pair_vectors(layout: Layout, root: Path, images: Sequence[str], vectors: Sequence[str]) -> list[str]:
    """Pair vector files by names; else by a field that names images; else by place: one for all, or each where it lies."""
    if not vectors:
        return []
    found = align(images, vectors)
    alone = len(vectors) == 1 and len(images) > 1
    on = touched(root, images, vectors[0]) if alone else 0
    if is_heap(on if alone else found[0].pairs if found else len(vectors), images, vectors):
        return []
    if found and (on <= 1 if alone else 2 * found[0].pairs >= min(len(images), len(vectors))):
        layout.images, layout.labels, layout.labelled = found[0].image, found[0].label, True
        return [other.image for other in found[1:]]
    layout.images, layout.labelled = common_places(images), True
    for vector in vectors:
        layout.image_field = image_field(root / vector, images)
        if layout.image_field is not None:
            layout.labels = vector
            layout.skipped += list_skipped(
                [name for name in vectors if name != vector], "another file names the images"
            )
            return []
    layout.labels = vectors[0] if len(vectors) == 1 else common_places(vectors, last="*")
    return []


def is_heap(pairs: int, images: Sequence[str], labels: Sequence[str]) -> bool:
    """Whether a pair or two lie among other files of one folder; that makes no collection of them."""
    return pairs < 3 and 2 * pairs < len(images) and len({parent(name) for name in (*images, *labels)}) == 1


def touched(root: Path, images: Sequence[str], vector: str) -> int:
    """How many of the images, of at most 50, a vector file lies on."""
    return sum(touches(root / image, root / vector) for image in spread_out(images, 50))


def image_field(vector: Path, images: Sequence[str]) -> str | None:
    """The field of a vector file whose values are names of images."""
    try:
        frame = read_frame(vector).head(2000)
    except KdcoreError:  # the file is looked at again later, and named
        return None
    known = {Path(name).name for name in images} | {Path(name).stem for name in images}
    for name in frame.columns.drop(frame.geometry.name):
        if frame[name].dtype.kind not in "OTU":
            continue
        values = frame[name].dropna().astype(str).str.replace("\\", "/").str.rpartition("/")[2]
        if len(values) and values.nunique() > 1 and values.isin(known).mean() >= 0.9:
            return str(name)
    return None


def narrow(layout: Layout, images: Sequence[str], others: Sequence[str]) -> None:
    """Name the suffix in the images' pattern where it would also find previews, or two files of one name."""
    places: list[str] = []
    for pattern in patterns(layout.images, IMAGE_SUFFIXES):
        found = [name for name in images if pattern.match(name) is not None]
        unwanted = {
            suffix_of(name) for name in others if pattern.match(name) is not None and PREVIEW_WORDS & set(words(name))
        }
        kinds = Counter(map(suffix_of, found))
        order = sorted(kinds, key=lambda suffix: (-kinds[suffix], IMAGE_SUFFIXES.index(suffix)))
        kept: list[str] = []
        seen: set[str] = set()
        for suffix in order:
            stems = {stem_of(name) for name in found if suffix_of(name) == suffix}
            if suffix not in unwanted and not stems & seen:
                kept.append(suffix)
                seen |= stems
        if pattern.wanted or not kept or (len(kept) == len(order) and not unwanted):
            places.append(pattern.text)
        else:
            places += [pattern.full + suffix for suffix in kept]
    if tuple(places) != tuple(pattern.text for pattern in patterns(layout.images, IMAGE_SUFFIXES)):
        layout.images = one_or_all(places)


def find_unlabelled(layout: Layout, root: Path, images: Sequence[str], labels: Sequence[str], views: list[str]) -> None:
    """Images that no label belongs to: whole folders of them serve the teacher, where their names or places say so."""
    paired = labelled_names(layout, images, labels)
    chosen = patterns(layout.images, IMAGE_SUFFIXES)
    used = [name for name in images if any(pattern.match(name) is not None for pattern in chosen)]
    full = {parent(name) for name in paired} if layout.labelled else {parent(name) for name in used}
    folders: dict[str, list[str]] = {}
    for name in images:
        if parent(name) not in full or name not in used:
            folders.setdefault(parent(name), []).append(name)
    places = []
    for folder, names in folders.items():
        told = set(words(f"{folder}/x")) & (UNLABELLED_WORDS | PARTS.keys())
        if any(
            name not in used and pattern.match(name.rpartition(".")[0] + suffix)
            for name in names[:1]
            for pattern in chosen
            for suffix in IMAGE_SUFFIXES
        ):
            layout.skipped += list_skipped(names, "files of the same names with another suffix are used")
        elif folder not in full and told and (not paired or alike(root / names[0], root / paired[0])):
            places.append(place_of(folder, names, chosen))
        elif any(Pattern(view, IMAGE_SUFFIXES).match(name) is not None for view in views for name in names[:1]):
            layout.skipped += list_skipped(
                names, "they show the same scenes as the images that are used; choose with `images:`"
            )
        else:
            layout.skipped += list_skipped(
                names, "no labels belong to them by name; if a teacher should use them, add the folder to `unlabelled:`"
            )
    if places:
        layout.unlabelled = one_or_all(places)


def labelled_names(layout: Layout, images: Sequence[str], labels: Sequence[str]) -> list[str]:
    """The images that have labels, as far as names tell."""
    if not layout.labelled:
        return []
    found = []
    for places, suffixes in ((layout.masks, IMAGE_SUFFIXES), (layout.labels, POLYGON_SUFFIXES)):
        for image in patterns(layout.images, IMAGE_SUFFIXES):
            for label in patterns(places, suffixes):
                there = set(keys(label, image, labels).values())
                found += [name for name, key in keys(image, label, images).items() if key in there]
    return list(dict.fromkeys(found))


def place_of(folder: str, names: Sequence[str], chosen: Sequence[Pattern]) -> str:
    """A folder as a setting: with the same affixes as the labelled images, where the names have them."""
    for pattern in chosen:
        last = pattern.full.rpartition("/")[2]
        place = f"{folder}/{last}" if folder else last
        if last != "{name}" and all(Pattern(place, IMAGE_SUFFIXES).match(name) is not None for name in names):
            return place
    return folder or "{name}"


def alike(image: Path, other: Path) -> bool:
    """Whether two rasters have as many bands of the same type."""
    try:
        with open_raster(image) as first, open_raster(other) as second:
            return bool(first.count == second.count and first.dtypes[0] == second.dtypes[0])
    except KdcoreError:
        return False


def list_skipped(names: Sequence[str], why: str) -> list[str]:
    """One sentence for each folder of files that are not used."""
    folders: dict[str, list[str]] = {}
    for name in names:
        folders.setdefault(parent(name), []).append(name)
    return [
        f"{folder + '/: ' if folder else ''}{len(files)} {'file is' if len(files) == 1 else 'files are'} not used "
        f"({', '.join(file.rpartition('/')[2] for file in files[:2])}{', ...' if len(files) > 2 else ''}): {why}."
        for folder, files in folders.items()
    ]
