"""What a folder holds, what is wrong with it, and a `collection.yaml` that would read it."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kdcore.data.collection import FILE_NAME, POLYGON_SUFFIXES, Collection, hash_file, list_files
from kdcore.data.labels import pack_colours, read_polygons
from kdcore.data.palette import PALETTE
from kdcore.data.rasters import DTYPES, IMAGE_SUFFIXES, colour_bands, ground_resolution, open_raster
from kdcore.data.survey import spread, survey
from kdcore.errors import DataError, KdcoreError
from kdcore.settings import SPLITS, ClassSettings, CollectionSettings, SplitSettings, to_yaml

FOLDERS = {
    "images": ("images", "image", "img", "imgs", "imagery", "tiles", "scenes"),
    "masks": ("masks", "mask", "annotations", "gt", "labels", "label"),
    "labels": ("labels", "label", "polygons", "vectors", "annotations"),
    "unlabelled": ("unlabelled", "unlabeled"),
}
CLASS_FIELDS = ("class", "label", "category", "type", "landcover", "land_cover", "class_name")
MOST_BLOCKS = 1000  # of a mask that are counted
MOST_CODES = 60  # values or colours; more means that a file is imagery or was compressed with loss


@dataclass
class RasterFacts:
    """The header of one raster."""

    file: str
    width: int
    height: int
    bands: int
    dtype: str
    driver: str
    crs: str | None
    metres_per_pixel: float | None
    nodata: float | None
    alpha: bool = False


@dataclass
class MaskFacts:
    """What one mask holds: pixels by value, or by colour."""

    file: str
    kind: Literal["index", "palette", "rgb"]
    pixels: dict[str, int]


@dataclass
class PolygonFacts:
    """What one vector file holds."""

    file: str
    polygons: int
    crs: str
    fields: list[str]
    class_field: str | None
    values: dict[str, int]


@dataclass
class Inspection:
    """Everything that was found.

    Attributes:
        problems: sentences that each say what is wrong and how to mend it.
        notes: sentences that are good to know.
        class_pixels: labelled pixels of each class in each part of the split, read through the proposed or existing settings.
        proposal: a `collection.yaml`, or None where there is one already or nothing to propose.
    """

    path: str
    images: list[RasterFacts] = field(default_factory=list)
    unlabelled: list[RasterFacts] = field(default_factory=list)
    masks: list[MaskFacts] = field(default_factory=list)
    polygons: list[PolygonFacts] = field(default_factory=list)
    scenes: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    class_pixels: dict[str, dict[str, int]] = field(default_factory=dict)
    proposal: CollectionSettings | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        values = asdict(self)
        values["proposal"] = None if self.proposal is None else self.proposal.model_dump(mode="json", exclude_none=True)
        return values


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
    if path.is_file() and path.suffix.lower() not in (".yaml", ".yml"):
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
    found.images = [raster_facts(scene.image) for scene in collection.scenes]
    found.unlabelled = [raster_facts(scene.image) for scene in collection.unlabelled]
    return found


def check_collection(found: Inspection, collection: Collection, crop: int) -> None:
    """Add what only reading through the settings can show: groups, shares of classes, labels that are no class, leaks."""
    found.scenes = dict(Counter(scene.group for scene in collection.scenes))
    shares = survey(collection, crop)
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
        found.problems.append(
            f"no masks and no polygons were found; put masks into {root / 'masks'} or polygons into {root / 'labels'}, with the images' stems."
        )
        return found
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


def raster_facts(path: Path) -> RasterFacts:
    """Read a raster's header."""
    with open_raster(path) as dataset:
        resolution = ground_resolution(dataset.crs, dataset.transform, dataset.width, dataset.height)
        return RasterFacts(
            file=path.name,
            width=dataset.width,
            height=dataset.height,
            bands=dataset.count,
            dtype=dataset.dtypes[0],
            driver=dataset.driver,
            crs=None if dataset.crs is None else dataset.crs.to_string(),
            metres_per_pixel=None if resolution is None else round(float(np.sqrt(resolution[0] * resolution[1])), 4),
            nodata=None if dataset.nodata is None or np.isnan(dataset.nodata) else float(dataset.nodata),
            alpha=len(colour_bands(dataset)) < dataset.count,
        )


def note_raster(found: Inspection, facts: RasterFacts) -> None:
    """What a person should know about a raster before using it."""
    if facts.dtype not in DTYPES:
        found.problems.append(
            f"{facts.file}: has values of type {facts.dtype}; supported are {', '.join(DTYPES)}. Convert it with `gdal_translate -ot`."
        )
    if facts.driver == "JPEG" and facts.file.lower().endswith((".tif", ".tiff")):
        found.notes.append(f"{facts.file}: is a JPEG file in spite of its name; it is read as what it is.")
    if facts.driver == "JPEG" and facts.crs is not None:
        found.notes.append(
            f"{facts.file}: its CRS comes from a file beside it (.aux.xml or world file); keep the two together."
        )
    if facts.alpha:
        found.notes.append(
            f"{facts.file}: its last band is transparency; it marks nodata and is not given to networks."
        )
    if facts.metres_per_pixel is None:
        found.notes.append(
            f"{facts.file}: has no georeference; areas are counted in pixels unless `native_metres_per_pixel` is set in collection.yaml."
        )


def mask_facts(path: Path) -> MaskFacts:
    """Count the values or colours of a mask; of large ones in evenly spread blocks."""
    with open_raster(path) as dataset:
        try:
            palette = dataset.colormap(1) if dataset.count == 1 else None
        except ValueError:
            palette = None
        if dataset.dtypes[0] not in ("uint8", "uint16", "int16", "int8", "int32", "uint32"):
            raise DataError(
                f"{path}: a mask must hold whole numbers or colours, not {dataset.dtypes[0]}. Convert it with `gdal_translate -ot Byte`."
            )
        counts: Counter[int] = Counter()
        for _, window in spread(list(dataset.block_windows(1)), MOST_BLOCKS):
            coloured = dataset.count >= 3
            codes = pack_colours(dataset.read([1, 2, 3], window=window)) if coloured else dataset.read(1, window=window)
            values, pixels = np.unique(codes, return_counts=True)
            counts.update(dict(zip(values.tolist(), pixels.tolist(), strict=True)))
            if len(counts) > 100 * MOST_CODES:
                break
        kind: Literal["index", "palette", "rgb"] = "rgb" if dataset.count >= 3 else "palette" if palette else "index"
    if kind == "rgb":
        return MaskFacts(path.name, kind, {f"#{code:06X}": pixels for code, pixels in counts.most_common()})
    if palette:
        return MaskFacts(
            path.name,
            kind,
            {f"{code} #{bytes(palette[code][:3]).hex().upper()}": n for code, n in counts.most_common()},
        )
    return MaskFacts(path.name, kind, {str(code): pixels for code, pixels in counts.most_common()})


def polygon_facts(path: Path) -> PolygonFacts:
    """Read polygons and look for a field that may hold classes."""
    frame = read_polygons(path)
    names = [str(name) for name in frame.columns.drop("geometry")]
    class_field = next((name for wanted in CLASS_FIELDS for name in names if name.lower() == wanted), None)
    values = {} if class_field is None else {str(key): int(n) for key, n in frame[class_field].value_counts().items()}
    return PolygonFacts(path.name, len(frame), frame.crs.to_string(), names, class_field, values)


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


def mask_colours(masks: list[MaskFacts]) -> dict[str, int]:
    """Pixels of each colour over palette and RGB masks."""
    total: Counter[str] = Counter()
    for mask in masks:
        if mask.kind != "index":
            total.update({key.split()[-1]: pixels for key, pixels in mask.pixels.items()})
    return dict(total.most_common())


def propose(found: Inspection, root: Path, folders: dict[str, str], stems: list[str]) -> CollectionSettings:
    """Settings that would read this folder, with placeholder names where the files tell none.

    Raises:
        DataError: masks that are no masks.
    """
    classes, ignore = propose_classes_from_masks(found, root) if found.masks else propose_classes_from_polygons(found)
    pattern = propose_scene_pattern(stems)
    groups = sorted({re.fullmatch(pattern, stem)["scene"] for stem in stems}) if pattern else sorted(stems)  # type: ignore[index]
    return CollectionSettings(
        name=re.sub(r"[^A-Za-z0-9._-]+", "-", root.name).strip("-.") or "collection",
        images=folders["images"],
        masks=folders.get("masks", "masks"),
        labels=folders.get("labels", "labels"),
        unlabelled=folders.get("unlabelled", "unlabelled"),
        classes=tuple(classes),
        class_field=found.polygons[0].class_field if not found.masks else None,
        ignore=tuple(ignore),
        scene=pattern,
        split=propose_split(groups),
    )


def propose_classes_from_masks(found: Inspection, root: Path) -> tuple[list[ClassSettings], list[int | str]]:
    """Classes and ignored values from what the masks hold."""
    kinds = {mask.kind for mask in found.masks}
    names = published_names(root)
    ignore: list[int | str] = []
    if kinds == {"index"} or kinds == {"palette"}:
        totals: Counter[str] = Counter()
        for mask in found.masks:
            totals.update(mask.pixels)
        refuse_many(len(totals))
        values = sorted((int(key.split()[0]), key.partition(" ")[2]) for key in totals)
        ignore = [
            value for value, _ in values if value < 0 or (value == 255 and max(v for v, _ in values if v != 255) < 100)
        ]
        kept = [(value, colour) for value, colour in values if value not in ignore]
        classes = [
            ClassSettings(
                name=names.get(colour, "background" if value == 0 else f"class-{value}"),
                value=value,
                colour=colour
                if colour and len({c for _, c in kept}) == len(kept)
                else PALETTE[index % len(PALETTE)]
                if len(kept) <= len(PALETTE)
                else None,
            )
            for index, (value, colour) in enumerate(kept)
        ]
    else:
        if "index" in kinds:
            odd = next(mask.file for mask in found.masks if mask.kind == "index")
            raise DataError(f"{odd}: holds plain values while other masks hold colours. Bring all masks to one kind.")
        colours = mask_colours(found.masks)
        refuse_many(len(colours))
        total = sum(colours.values())
        neutral = [colour for colour in colours if len({colour[1:3], colour[3:5], colour[5:7]}) == 1]
        if len(colours) - len(neutral) >= 2:
            ignore = [colour for colour in neutral if colours[colour] < 0.05 * total]
        classes = [
            ClassSettings(name=names.get(colour, f"class-{colour[1:]}"), colour=colour)
            for colour in colours
            if colour not in ignore
        ]
        found.notes.append(
            "colours in the masks: "
            + ", ".join(f"{colour} {100 * pixels / total:.2f} %" for colour, pixels in colours.items())
        )
    if ignore:
        found.notes.append(
            f"{', '.join(map(str, ignore))} in the masks is taken as 'ignore', not as a class; correct this if it is one."
        )
    if any(entry.name.startswith("class-") for entry in classes):
        found.notes.append("the files tell no names of classes; give them names in collection.yaml.")
    return classes, ignore


def refuse_many(codes: int) -> None:
    """More values than classes can have: not a mask, or one that was saved with loss."""
    if codes > MOST_CODES:
        raise DataError(
            f"the masks hold {codes} different values or colours; they are imagery or were saved with loss (JPEG). Export them as PNG or GeoTIFF."
        )


def published_names(root: Path) -> dict[str, str]:
    """Names of colours from a JSON file beside the data: {'#RRGGBB': name}."""
    names: dict[str, str] = {}
    for file in sorted(root.glob("*.json")):
        try:
            entries = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, OSError):
            continue
        entries = entries.get("classes", []) if isinstance(entries, dict) else entries
        for entry in entries if isinstance(entries, list) else []:
            if isinstance(entry, dict):
                colour = str(entry.get("color") or entry.get("colour") or "").upper()
                name = entry.get("title") or entry.get("name")
                if re.fullmatch(r"#[0-9A-F]{6}", colour) and name:
                    names[colour] = str(name)[:60]
    return names


def propose_classes_from_polygons(found: Inspection) -> tuple[list[ClassSettings], list[int | str]]:
    """Background and the polygons' classes."""
    first = found.polygons[0]
    if first.class_field is None:
        name = "building" if "building" in first.fields else "object"
        names = ["background", name]
    else:
        names = ["background", *sorted({value for facts in found.polygons for value in facts.values} - {"background"})]
    return [ClassSettings(name=name, colour=PALETTE[index % len(PALETTE)]) for index, name in enumerate(names)], []


def propose_scene_pattern(stems: list[str]) -> str | None:
    """A pattern that groups files such as `tile3_part007`, where every stem fits and groups have several files."""
    matches = [re.fullmatch(r"(.+?)([_-][A-Za-z]*)(\d+)", stem) for stem in stems]
    if len(stems) < 4 or not all(matches):
        return None
    joints = {match[2] for match in matches if match}
    groups = {match[1] for match in matches if match}
    if len(joints) != 1 or not 2 < len(groups) <= len(stems) / 2:
        return None
    return rf"(?P<scene>.+){joints.pop()}\d+"


def propose_split(groups: list[str]) -> SplitSettings:
    """Whole scenes where there are three or more, otherwise blocks of each scene."""
    if len(groups) < 3:
        return SplitSettings(
            by="block", grid=(4, 6), train=("r[1-3]c[1-4]",), validation=("r4c[1-4]",), test=("r*c[56]",)
        )
    tests = max(1, round(0.2 * len(groups)))
    validations = max(1, round(0.15 * len(groups)))
    rest = len(groups) - tests - validations
    return SplitSettings(
        train=tuple(groups[:rest]),
        validation=tuple(groups[rest : rest + validations]),
        test=tuple(groups[rest + validations :]),
    )


def proposal_text(inspection: Inspection) -> str:
    """The proposed `collection.yaml` with what was noticed as comments above."""
    assert inspection.proposal is not None
    lines = ["# Proposed by `kdcore data inspect`. Read it, name the classes, check the split.", "#"]
    lines += [
        f"# {kind}: {text}"
        for kind, texts in (("Problem", inspection.problems), ("Note", inspection.notes))
        for text in texts
    ]
    return "\n".join(lines) + "\n" + to_yaml(inspection.proposal)
