"""What a folder holds, what is wrong with it, and a `collection.yaml` that would read it."""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from kdcore.data.collection import FILE_NAME, Collection, list_files
from kdcore.data.facts import (
    MOST_CODES,
    Inspection,
    RasterFacts,
    mask_colours,
    mask_facts,
    note_raster,
    polygon_facts,
    raster_facts,
)
from kdcore.data.nodata import Kind, find_undeclared
from kdcore.data.places import misplaced, partly_labelled, strays
from kdcore.data.propose import propose
from kdcore.data.rasters import IMAGE_SUFFIXES, open_raster
from kdcore.data.scene import BLOCK
from kdcore.data.survey import MOST_BLOCKS, count_blocks, survey
from kdcore.data.vectors import POLYGON_SUFFIXES
from kdcore.errors import DataError, KdcoreError
from kdcore.files import hash_file
from kdcore.settings import SPLITS

FOLDERS = {
    "images": ("images", "image", "img", "imgs", "imagery", "tiles", "scenes"),
    "masks": ("masks", "mask", "annotations", "gt", "labels", "label"),
    "labels": ("labels", "label", "polygons", "vectors", "annotations"),
    "unlabelled": ("unlabelled", "unlabeled"),
}

MOST_LOOKED, LEAST_LOOKED = 512, 32  # pieces of each part that are looked at where there are too many for all


def inspect(path: Path, crop: int = 128, progress: Callable[[str], None] = lambda text: None) -> Inspection:
    """Look at a folder, a `collection.yaml`, or a single file.

    Args:
        path: what to look at.
        crop: crop size in pixels that a split by blocks must leave room for.
        progress: is told the file being read.

    Raises:
        DataError: there is nothing at `path`, or a single file that cannot be read.
    """
    path = path.expanduser()
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder.")
    if not path.is_dir() and not (path.is_file() and path.suffix.lower() in (".yaml", ".yml")):
        return inspect_file(path)
    if path.is_file() or (path / FILE_NAME).is_file():
        return inspect_collection(path, crop)
    return inspect_folder(path.resolve(), crop, progress)


def inspect_file(path: Path) -> Inspection:
    """Look at one raster or vector file."""
    found = Inspection(str(path))
    if path.suffix.lower() in POLYGON_SUFFIXES:
        found.polygons.append(polygon_facts(path))
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
    most = look_blocks(found, collection, crop)
    try:
        shares = survey(collection, crop, most_blocks=most)
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
    for split in ("validation", "test"):
        found.problems += [
            f"class {name!r} does not occur in the {split} part, so nothing can be said about it there; choose other scenes or blocks."
            for name, count in found.class_pixels[split].items()
            if count == 0
        ]


def look_blocks(found: Inspection, collection: Collection, crop: int) -> int:
    """How many pieces of each part are looked at: all that a study would, or few where that takes minutes; then a note says so."""
    pieces = max(count_blocks(collection.regions(split, crop)) for split in SPLITS)
    if pieces <= MOST_BLOCKS:
        return MOST_BLOCKS
    largest = max(collection.scenes, key=lambda scene: scene.height * scene.width)
    with open_raster(largest.image) as dataset:
        height, width = dataset.block_shapes[0]
    around = max(1, height // BLOCK) * max(1, width // BLOCK)  # pieces that are read for one, of strips or large tiles
    most = max(LEAST_LOOKED, MOST_LOOKED // int(around))
    found.notes.append(
        f"a part of the split has {pieces:,} pieces of {BLOCK} px; {most} of them, evenly spread, were looked at here, so shares are "
        f"estimates and something rare may be missed. A study looks at {MOST_BLOCKS:,}."
    )
    return most


def inspect_folder(root: Path, crop: int, progress: Callable[[str], None]) -> Inspection:
    """Look at a folder without settings and propose some."""
    found = Inspection(str(root))
    folders = find_folders(root)
    if "images" not in folders:
        inspect_loose_files(found, root, progress)
        return found
    images = usable(found, list_files(root / folders["images"], IMAGE_SUFFIXES), raster_facts, progress)
    found.images = [facts for _, facts in images]
    found.unlabelled = [
        facts
        for _, facts in usable(
            found, list_files(root / folders.get("unlabelled", "-"), IMAGE_SUFFIXES), raster_facts, progress
        )
    ]
    masks = usable(found, list_files(root / folders.get("masks", "-"), IMAGE_SUFFIXES), mask_facts, progress)
    found.masks = [facts for _, facts in masks]
    polygons = usable(found, list_files(root / folders.get("labels", "-"), POLYGON_SUFFIXES), polygon_facts, progress)
    found.polygons = [facts for _, facts in polygons]
    for facts in found.images[:1]:
        note_raster(found, facts)
    if len({facts.bands for facts in found.images}) > 1:
        counts = sorted({facts.bands for facts in found.images})
        found.problems.append(
            f"images have different numbers of bands ({counts}); set `bands` in collection.yaml to those that all have."
        )
    check_pairs(found, images, [path for path, _ in masks], [path for path, _ in polygons], root)
    if not found.masks and not found.polygons:
        if {"masks", "labels"} & folders.keys() and found.problems:  # there are label files, but none can be read
            return found
        found.problems.append(
            f"no masks and no polygons were found; put masks into {root / 'masks'} or polygons into {root / 'labels'}, with the images' stems."
        )
        return found
    found.undeclared = find_undeclared([path for path, _ in images])
    try:
        found.proposal = propose(found, root, folders, [path.stem for path, _ in images])
        check_collection(found, Collection(found.proposal, root), crop)
    except KdcoreError as error:
        found.problems.append(str(error))
    return found


def find_folders(root: Path) -> dict[str, str]:
    """Which subfolder plays which part, by its name and what it holds."""
    present = {folder.name.lower(): folder for folder in sorted(root.iterdir()) if folder.is_dir()}
    folders = {}
    for part, names in FOLDERS.items():
        suffixes = POLYGON_SUFFIXES if part == "labels" else IMAGE_SUFFIXES
        for name in names:
            if name in present and list_files(present[name], suffixes):
                folders[part] = present[name].name
                break
    return folders


def inspect_loose_files(found: Inspection, root: Path, progress: Callable[[str], None]) -> None:
    """A folder without images/: tell what each file is, so that the user can sort them."""
    found.images = [facts for _, facts in usable(found, list_files(root, IMAGE_SUFFIXES), raster_facts, progress)]
    found.polygons = [facts for _, facts in usable(found, list_files(root, POLYGON_SUFFIXES), polygon_facts, progress)]
    for facts in found.images:
        note_raster(found, facts)
        if facts.bands == 1 and facts.dtype in ("uint8", "int16"):
            mask = mask_facts(root / facts.file)
            if len(mask.pixels) <= MOST_CODES:
                found.masks.append(mask)
                found.notes.append(f"{facts.file} may be a mask: it holds {len(mask.pixels)} different values.")
    if found.images or found.polygons:
        found.problems.append(
            f"{root}: has no images/ folder. Put images into images/, masks of the same stem into masks/ or polygons into labels/, then inspect again."
        )
    else:
        found.problems.append(f"{root}: holds no imagery ({', '.join(IMAGE_SUFFIXES)}).")


def usable(
    found: Inspection, files: Iterable[Path], look: Callable[[Path], Any], progress: Callable[[str], None]
) -> list[tuple[Path, Any]]:
    """Facts of the files that can be read; the others become problems."""
    facts = []
    for file in files:
        progress(file.name)
        try:
            facts.append((file, look(file)))
        except KdcoreError as error:
            found.problems.append(str(error))
    return facts


def check_pairs(
    found: Inspection, images: list[tuple[Path, RasterFacts]], masks: list[Path], polygons: list[Path], root: Path
) -> None:
    """Images without labels, labels without images, sizes that differ, files that are there twice."""
    stems = {path.stem: facts for path, facts in images}
    labelled = {path.stem for path in (*masks, *polygons)}
    without = sorted(set(stems) - labelled)
    if without and labelled:
        found.problems.append(
            f"{len(without)} images have no labels of the same stem ({', '.join(without[:3])}{' ...' if len(without) > 3 else ''}); "
            "add them, or move the images to unlabelled/."
        )
    orphans = sorted(labelled - set(stems))
    if orphans:
        found.problems.append(
            f"{len(orphans)} label files have no image of the same stem ({', '.join(orphans[:3])}{' ...' if len(orphans) > 3 else ''}); "
            "rename or remove them."
        )
    for mask in masks:
        facts = stems.get(mask.stem)
        if facts is not None:
            with open_raster(mask) as dataset:
                if (dataset.width, dataset.height) != (facts.width, facts.height):
                    found.problems.append(
                        f"{mask}: the mask is {dataset.width} x {dataset.height} px but its image is {facts.width} x {facts.height} px. "
                        "Export the mask on the image's grid."
                    )
    seen: dict[str, Path] = {}
    for path, _ in images:
        other = seen.setdefault(hash_file(path), path)
        if other is not path:
            found.problems.append(
                f"{path.name} and {other.name} have the same contents; in different parts of the split they would leak. Remove one."
            )
    found.notes += side_file_notes(found, root)


def side_file_notes(found: Inspection, root: Path) -> list[str]:
    """Compare the colours that a JSON file beside the data lists with those in the masks."""
    present = mask_colours(found.masks)
    notes = []
    for file in sorted(root.glob("*.json")):
        text = file.read_text(encoding="utf-8", errors="replace")[:1_000_000]
        listed = {colour.upper() for colour in re.findall(r"#[0-9A-Fa-f]{6}", text)}
        if listed and present:
            missing = sorted(listed - present.keys())
            if missing:
                notes.append(
                    f"{file.name} lists colours that no mask holds ({', '.join(missing[:4])}{' ...' if len(missing) > 4 else ''}); "
                    "trust the masks and check the names by eye."
                )
    return notes
