"""From what a folder holds to a `collection.yaml` that would read it: classes, groups of files, and a split."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from affine import Affine
from rasterio.windows import Window

from kdcore.data.facts import MOST_CODES, Inspection, mask_colours
from kdcore.data.labels import PolygonSource
from kdcore.data.layouts import Layout
from kdcore.data.pairing import Pair
from kdcore.data.palette import PALETTE
from kdcore.data.rasters import open_raster
from kdcore.data.split import parts_of_folders, propose_split, split_by_parts
from kdcore.errors import DataError, KdcoreError
from kdcore.settings import SPLITS, ClassSettings, CollectionSettings, SplitName, to_yaml, validate

DRAWN = 128  # pixels: how finely polygons are drawn to compare scenes
MOST_DRAWN = 1000  # scenes


def propose(found: Inspection, root: Path, layout: Layout, pairs: Sequence[Pair]) -> CollectionSettings:
    """Settings that would read this folder, with placeholder names where the files tell none.

    Args:
        found: what was found so far; notes are added.
        root: the folder.
        layout: where its files lie.
        pairs: its scenes, some perhaps without labels.

    Raises:
        DataError: masks that are no masks, or too few classes.
    """
    labelled = [pair for pair in pairs if pair.mask is not None or pair.polygons is not None]
    classes, ignore = propose_classes_from_masks(found, root) if found.masks else propose_classes_from_polygons(found)
    parts = parts_of_folders(root, labelled, layout.other)
    pattern = propose_scene_pattern([pair.own for pair in pairs])
    if pattern and parts and len(set(parts.values())) > 1:
        pattern = None if mixed_groups(pattern, parts) else pattern
    group_of = {pair.name: re.fullmatch(pattern, pair.name)["scene"] if pattern else pair.name for pair in pairs}  # type: ignore[index]
    settings = validate(
        CollectionSettings,
        {
            "name": re.sub(r"[^A-Za-z0-9._-]+", "-", root.name).strip("-._")[:100] or "collection",
            "images": layout.images,
            "masks": layout.masks,
            "labels": layout.labels,
            "unlabelled": layout.unlabelled,
            "image_field": layout.image_field,
            "classes": [entry.model_dump() for entry in classes],
            "class_field": found.polygons[0].class_field if found.polygons and not found.masks else None,
            "ignore": ignore,
            "scene": pattern,
            "split": propose_split([]),
        },
        str(root),
    )
    contents = contents_of_groups(found, labelled, group_of, settings)
    groups = sorted({group_of[pair.name] for pair in labelled})
    others = sorted({group_of[pair.name] for pair in pairs} - set(groups))
    split = split_by_parts({group_of[name]: part for name, part in parts.items()}, contents, others) if parts else None
    if split is not None:
        found.notes.append(tell_parts(Counter(parts.values())))
    return settings.model_copy(update={"split": split or propose_split(groups, contents)})


def tell_parts(counts: Mapping[SplitName, int]) -> str:
    """In words, that the files' own split is kept, and where a part that they lack comes from."""
    told = "the files' own split is kept: " + ", ".join(f"{counts[part]} {part}" for part in SPLITS if counts.get(part))
    if not counts.get("test") and counts.get("validation", 0) > 1:
        return f"{told}. They have no test part, so a third of their validation part chooses and the rest tests."
    if not counts.get("test"):
        return f"{told}. They have no test part, so their validation part tests, and some of train chooses."
    return told + ("." if counts.get("validation") else ". They have no validation part, so some of train chooses.")


def mixed_groups(pattern: str, parts: Mapping[str, SplitName]) -> bool:
    """Whether files of one scene lie in several parts of a split."""
    owners: dict[str, SplitName] = {}
    return any(owners.setdefault(re.fullmatch(pattern, name)["scene"], part) != part for name, part in parts.items())  # type: ignore[index]


def contents_of_groups(
    found: Inspection, pairs: Sequence[Pair], group_of: Mapping[str, str], settings: CollectionSettings
) -> dict[str, Counter[str]]:
    """Pixels by value, colour or class of each group of files: area times the shares that its labels have."""
    areas = {id_of: facts.width * facts.height for id_of, facts in zip(found.image_paths, found.images, strict=True)}
    masks = dict(zip(found.mask_paths, found.masks, strict=True))
    sources: dict[tuple[Path, str], PolygonSource] = {}
    ignored = {str(entry) for entry in settings.ignore}
    contents: dict[str, Counter[str]] = {}
    for pair in pairs:
        if pair.mask in masks:
            # Of a palette ('3 #6EC1E4') the colour, which RGB masks beside it have, too.
            codes = masks[pair.mask].pixels.items()
            pixels = {key.split()[-1]: float(n) for key, n in codes if not ignored & set(key.split())}
        elif pair.polygons is not None and len(pairs) <= MOST_DRAWN:
            pixels = drawn_shares(pair, settings, sources)
        else:
            pixels = {}
        total = sum(pixels.values())
        here = contents.setdefault(group_of[pair.name], Counter())
        for key, n in pixels.items():
            here[key] += n / total * areas.get(pair.image, 0)  # type: ignore[assignment]
    return contents


def drawn_shares(
    pair: Pair, settings: CollectionSettings, sources: dict[tuple[Path, str], PolygonSource]
) -> dict[str, float]:
    """Pixels of each class where the polygons of an image are drawn coarsely; empty where they cannot be."""
    assert pair.polygons is not None
    try:
        with open_raster(pair.image) as dataset:
            crs, height, width = dataset.crs, min(DRAWN, dataset.height), min(DRAWN, dataset.width)
            transform = dataset.transform @ Affine.scale(dataset.width / width, dataset.height / height)
            window = Window(0, 0, dataset.width, dataset.height)
        key = (pair.polygons, f"{crs}{pair.image if settings.image_field else ''}")
        if key not in sources:
            sources[key] = PolygonSource(pair.polygons, settings, crs, pair.image)
        labels = sources[key].read(window, (height, width), transform)
    except KdcoreError:
        return {}
    values, counts = np.unique(labels, return_counts=True)
    return dict(zip(map(str, values.tolist()), map(float, counts), strict=True))


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


def proposal_text(inspection: Inspection) -> str:
    """The proposed `collection.yaml` with what was noticed as comments above."""
    assert inspection.proposal is not None
    lines = ["# Proposed by `kdcore data inspect`. Read it, name the classes, check the split.", "#"]
    lines += [
        f"# {kind}: {text}".replace("\n", "\n# ")
        for kind, texts in (("Problem", inspection.problems), ("Note", inspection.notes))
        for text in texts
    ]
    return "\n".join(lines) + "\n" + to_yaml(inspection.proposal)
