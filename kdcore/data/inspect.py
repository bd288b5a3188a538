"""What a folder holds, what is wrong with it, and a `collection.yaml` that would read it."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from kdcore.data.collection import FILE_NAME, Collection
from kdcore.data.facts import (
    MOST_CODES,
    Inspection,
    mask_colours,
    mask_facts,
    note_raster,
    polygon_facts,
    raster_facts,
)
from kdcore.data.layouts import Layout, find_layout
from kdcore.data.nodata import Kind, find_undeclared
from kdcore.data.pairing import Pair, find_pairs, relative_names
from kdcore.data.places import misplaced, partly_labelled, strays
from kdcore.data.propose import propose
from kdcore.data.rasters import IMAGE_SUFFIXES, check_name, open_raster
from kdcore.data.scene import BLOCK
from kdcore.data.survey import MOST_BLOCKS, Survey, count_blocks, survey
from kdcore.data.unread import explain_unread
from kdcore.data.vectors import POLYGON_SUFFIXES
from kdcore.errors import DataError, KdcoreError
from kdcore.files import expanded, hash_file
from kdcore.reading import read_start
from kdcore.settings import SPLITS

MANY_FILES = 1000  # from so many on it is worth the second or two that processes take to start
FAR, MANY_TIMES = 0.15, 2  # shares of a class that are worth a note
MOST_LOOKED, LEAST_LOOKED = 192, 32  # pieces of each part that are looked at where there are more


def inspect(
    path: Path, crop: int = 128, progress: Callable[[str], None] = lambda text: None, processes: int = 1
) -> Inspection:
    """Look at a folder, a `collection.yaml`, or a single file.

    Args:
        path: what to look at.
        crop: crop size in pixels that a split by blocks must leave room for.
        progress: is told the file being read.
        processes: how many read the masks of a large folder. With more than one the calling script needs Python's
            `if __name__ == "__main__":`, since each process imports it.

    Raises:
        DataError: there is nothing at `path`, or a single file that cannot be read.
    """
    path = expanded(path)
    check_name(path)
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder.")
    if not path.is_dir() and not (path.is_file() and path.suffix.lower() in (".yaml", ".yml")):
        return inspect_file(path)
    if path.is_file() or (path / FILE_NAME).is_file():
        return inspect_collection(path, crop)
    return inspect_folder(path.resolve(), crop, progress, processes)


def inspect_file(path: Path) -> Inspection:
    """Look at one raster or vector file."""
    found = Inspection(str(path))
    if path.suffix.lower() in POLYGON_SUFFIXES:
        facts = polygon_facts(path)
        found.polygons.append(facts)
        found.notes += facts.doubts
        if not facts.polygons:
            found.problems.append(f"{path}: holds no polygons, so it labels nothing. Export the layer that holds them.")
        return found
    found.images.append(raster_facts(path))
    if found.images[0].bands == 1 and found.images[0].dtype in ("uint8", "int16"):
        mask = mask_facts(path)
        if len(mask.pixels) <= MOST_CODES:
            found.masks.append(mask)
            found.notes.append(f"{path.name} may be a mask: it holds {len(mask.pixels)} different values.")
    note_raster(found, found.images[0])
    return found


def inspect_collection(path: Path, crop: int) -> Inspection:
    """Open a collection as a study would and look at all of its labels."""
    found = Inspection(str(path))
    try:
        collection = Collection.open(path)
        check_collection(found, collection, crop)
    except KdcoreError as error:
        found.problems.append(str(error))
        return found
    if collection.settings.nodata is None:
        found.undeclared = find_undeclared([scene.image for scene in collection.scenes])
    for suspect in found.undeclared:
        write = (
            f"write `nodata: {suspect.value:g}` into collection.yaml"
            if suspect.kind is not Kind.BLURRED
            else suspect.mend()
        )
        kind = found.problems if suspect.kind is Kind.FILL else found.notes
        kind.append(f"{suspect.sentence()}. If it means 'no data', {write}, so that nothing is learnt or scored there.")
    found.images = [raster_facts(scene.image) for scene in collection.scenes]
    found.unlabelled = [raster_facts(scene.image) for scene in collection.unlabelled]
    return found


def check_collection(found: Inspection, collection: Collection, crop: int) -> None:
    """Add what only reading through the settings can show: groups, shares of classes, labels that are no class, leaks."""
    found.scenes = dict(Counter(scene.group for scene in collection.scenes))
    try:
        shares = look(found, collection, crop)
    except DataError:
        elsewhere = misplaced(collection)  # all of them, and not only the first
        if not elsewhere:
            raise
        found.problems += elsewhere
        return
    found.notes += strays(collection) + partly_labelled(collection)
    names = collection.settings.class_names
    found.class_pixels = {
        split: {name: int(count) for name, count in zip(names, shares.class_pixels[split], strict=True)}
        for split in SPLITS
    }
    found.notes += unlike_parts(found.class_pixels)
    for split in ("validation", "test"):
        found.problems += [
            f"class {name!r} does not occur in the {split} part, so nothing can be said about it there; choose other scenes or blocks."
            for name, count in found.class_pixels[split].items()
            if count == 0
        ]


def look(found: Inspection, collection: Collection, crop: int) -> Survey:
    """Survey few pieces of each part where there are many, and more where these lack a class; then a note says how many."""
    pieces = max(count_blocks(collection.regions(split, crop)) for split in SPLITS)
    if pieces <= MOST_LOOKED:
        return survey(collection, crop)
    around = pieces_at_once(collection)
    most = max(LEAST_LOOKED, MOST_LOOKED // around)
    try:
        shares = survey(collection, crop, most_blocks=most)
        complete = all(pixels.all() for pixels in shares.class_pixels.values())
    except DataError:
        complete = False
    if not complete:
        most = max(most, MOST_BLOCKS // around)
    if most < pieces:
        found.notes.append(
            f"a part of the split has {pieces:,} pieces of {BLOCK} px; {most:,} of them, evenly spread, were looked at here, so shares are "
            f"estimates and something rare may be missed. A study looks at {min(pieces, MOST_BLOCKS):,}."
        )
    return shares if complete else survey(collection, crop, most_blocks=most)


def pieces_at_once(collection: Collection) -> int:
    """Pieces of the largest scene that must be read for one of them, where it is stored in strips or in large tiles."""
    largest = max(collection.scenes, key=lambda scene: scene.height * scene.width)
    with open_raster(largest.image) as dataset:
        height, width = dataset.block_shapes[0]
    return int(max(1, height // BLOCK) * max(1, width // BLOCK))


def unlike_parts(class_pixels: dict[str, dict[str, int]]) -> list[str]:
    """Sentences on classes whose share of validation or test is far from that of train: scores there say little about the rest."""
    told = []
    shares = {
        split: {name: count / max(1, sum(pixels.values())) for name, count in pixels.items()}
        for split, pixels in class_pixels.items()
    }
    for split in ("validation", "test"):
        for name, share in shares[split].items():
            usual = shares["train"][name]
            if abs(share - usual) > FAR and not 1 / MANY_TIMES < share / max(usual, 1e-9) < MANY_TIMES:
                told.append(
                    f"class {name!r} makes up {100 * share:.0f} % of the {split} part but {100 * usual:.0f} % of train; "
                    "other scenes in that part would be more like the rest."
                )
    return told


def inspect_folder(root: Path, crop: int, progress: Callable[[str], None], processes: int = 1) -> Inspection:
    """Look at a folder without settings and propose some."""
    found = Inspection(str(root))
    progress("names of files")
    try:
        layout = find_layout(root)
        pairs, unlabelled = find_pairs(root, layout)
    except KdcoreError as error:
        found.problems.append(str(error))
        return found
    tell_unread(found, root, layout, pairs)
    if not pairs and not unlabelled:
        what = "masks but no imagery that can be read" if layout.only_labels else "no imagery"
        found.problems.append(f"{root}: holds {what} ({', '.join(IMAGE_SUFFIXES)}).")
        return found
    images = usable(found, [pair.image for pair in pairs], raster_facts, progress)
    found.image_paths, found.images = [path for path, _ in images], [facts for _, facts in images]
    found.unlabelled = [facts for _, facts in usable(found, [m.file for m in unlabelled], raster_facts, progress)]
    masks = usable(found, [pair.mask for pair in pairs if pair.mask], mask_facts, progress, processes)
    found.mask_paths, found.masks = [path for path, _ in masks], [facts for _, facts in masks]
    vectors = dict.fromkeys(pair.polygons for pair in pairs if pair.polygons)
    found.polygons = [facts for _, facts in usable(found, vectors, polygon_facts, progress)]
    readable = set(found.image_paths)
    pairs = [pair for pair in pairs if pair.image in readable]
    for facts in found.images[:1]:
        note_raster(found, facts)
    check_pairs(found, pairs, layout, root)
    if not found.masks and not found.polygons:
        if not (layout.labelled and found.problems):  # otherwise there are label files, but none can be read
            tell_loose(found, root, layout, pairs)
        return found
    if len({facts.bands for facts in found.images}) > 1:
        counts = sorted({facts.bands for facts in found.images})
        found.problems.append(
            f"images have different numbers of bands ({counts}); set `bands` in collection.yaml to those that all have."
        )
    found.undeclared = find_undeclared(found.image_paths)
    try:
        found.proposal = propose(found, root, layout, pairs)
        check_collection(found, Collection(found.proposal, root), crop)
    except KdcoreError as error:
        found.problems += [str(error)] if str(error) not in found.problems else []
    return found


def tell_unread(found: Inspection, root: Path, layout: Layout, pairs: Sequence[Pair]) -> None:
    """Name what is not used, and how to convert what is imagery or labels in other formats."""
    readable = [pair.image.relative_to(root).as_posix() for pair in pairs]
    folder = readable[0].rpartition("/")[0] if readable else "images"
    problems, notes = explain_unread(root, layout.other, readable, folder or ".")
    # Beside labels that are read a file in another format is not missed.
    (found.notes if layout.labelled else found.problems).extend(problems)
    found.problems += layout.problems
    found.notes += layout.skipped + notes


def tell_loose(found: Inspection, root: Path, layout: Layout, pairs: Sequence[Pair]) -> None:
    """A folder without labels that belong to its images: tell what each file may be."""
    vectors = [root / name for name in layout.label_files if Path(name).suffix.lower() in POLYGON_SUFFIXES]
    found.polygons = [facts for _, facts in usable(found, vectors, polygon_facts, lambda text: None)]
    for path, facts in zip(found.image_paths, found.images, strict=True):
        if layout.loose and facts is not found.images[0]:
            note_raster(found, facts)
        if layout.loose and facts.bands == 1 and facts.dtype in ("uint8", "int16"):
            mask = mask_facts(path)
            if len(mask.pixels) <= MOST_CODES:
                found.masks.append(mask)
                found.notes.append(f"{facts.file} may be a mask: it holds {len(mask.pixels)} different values.")
    if layout.loose and all(pair.image.parent == root for pair in pairs):
        found.problems.append(
            f"{root}: has no images/ folder. Put images into images/, masks of the same stem into masks/ or polygons into labels/, then inspect again."
        )
    else:
        found.problems.append(
            f"no masks and no polygons were found; put masks into {root / 'masks'} or polygons into {root / 'labels'}, with the images' stems."
        )


def usable(
    found: Inspection,
    files: Iterable[Path],
    look: Callable[[Path], Any],
    progress: Callable[[str], None],
    processes: int = 1,
) -> list[tuple[Path, Any]]:
    """Facts of the files that can be read, in their order; the others become problems."""
    listed = list(files)
    facts = []
    attempt = partial(try_to_look, look)
    with ExitStack() as stack:
        results: Iterable[Any] = map(attempt, listed)
        if processes > 1 and len(listed) >= MANY_FILES:
            readers = stack.enter_context(ProcessPoolExecutor(processes, get_context("spawn")))
            results = readers.map(attempt, listed, chunksize=50)
        for file, seen in zip(listed, results, strict=True):
            progress(file.name)
            if isinstance(seen, KdcoreError):
                found.problems.append(str(seen))
            else:
                facts.append((file, seen))
    return facts


def try_to_look(look: Callable[[Path], Any], file: Path) -> Any:
    """What `look` finds in a file, or the error that says why nothing."""
    try:
        return look(file)
    except KdcoreError as error:
        return error


def check_pairs(found: Inspection, pairs: Sequence[Pair], layout: Layout, root: Path) -> None:
    """Images without labels, labels without images, sizes that differ, files that are there twice."""
    without = [pair.image for pair in pairs if pair.mask is None and pair.polygons is None]
    if without and layout.labelled:
        found.problems.append(
            f"{len(without)} {'image has' if len(without) == 1 else 'images have'} no labels of the same name "
            f"({relative_names(without, root)}); add them, or move the images to unlabelled/."
        )
    used = {label for pair in pairs for label in (pair.mask, pair.polygons)}
    kinds = IMAGE_SUFFIXES if found.masks else POLYGON_SUFFIXES
    orphans = [
        root / name for name in layout.label_files if root / name not in used and Path(name).suffix.lower() in kinds
    ]
    if orphans and layout.labelled:
        found.problems.append(
            f"{len(orphans)} label {'file has' if len(orphans) == 1 else 'files have'} no image of the same name "
            f"({relative_names(orphans, root)}); rename or remove them."
        )
    sizes = {path: (facts.width, facts.height) for path, facts in zip(found.image_paths, found.images, strict=True)}
    masks = {path: (facts.width, facts.height) for path, facts in zip(found.mask_paths, found.masks, strict=True)}
    for pair in pairs:
        if pair.mask in masks and masks[pair.mask] != sizes[pair.image]:
            (width, height), (wide, high) = masks[pair.mask], sizes[pair.image]
            found.problems.append(
                f"{pair.mask}: the mask is {width} x {height} px but its image is {wide} x {high} px. Export the mask on the image's grid."
            )
    seen: dict[str, Path] = {}
    for path in same_sizes(pair.image for pair in pairs):
        other = seen.setdefault(hash_file(path), path)
        if other is not path:
            found.problems.append(
                f"{path.name} and {other.name} have the same contents; in different parts of the split they would leak. Remove one."
            )
    found.notes += side_file_notes(found, root)


def same_sizes(files: Iterable[Path]) -> list[Path]:
    """Files that have as many bytes as another one: only these can have the same contents."""
    groups: dict[int, list[Path]] = {}
    for file in files:
        groups.setdefault(file.stat().st_size, []).append(file)
    return [file for group in groups.values() if len(group) > 1 for file in group]


def side_file_notes(found: Inspection, root: Path) -> list[str]:
    """Compare the colours that a JSON file beside the data lists with those in the masks."""
    present = mask_colours(found.masks)
    notes = []
    for file in sorted(root.glob("*.json")):
        text = read_start(file, 1_000_000).decode(errors="replace")
        listed = {colour.upper() for colour in re.findall(r"#[0-9A-Fa-f]{6}", text)}
        if listed and present:
            missing = sorted(listed - present.keys())
            if missing:
                notes.append(
                    f"{file.name} lists colours that no mask holds ({', '.join(missing[:4])}{' ...' if len(missing) > 4 else ''}); "
                    "trust the masks and check the names by eye."
                )
    return notes
