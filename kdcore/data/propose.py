"""From what a folder holds to a `collection.yaml` that would read it: classes, groups of files, and a split."""

import json
import re
from collections import Counter
from pathlib import Path

from kdcore.data.facts import MOST_CODES, Inspection, mask_colours
from kdcore.data.palette import PALETTE
from kdcore.errors import DataError
from kdcore.settings import ClassSettings, CollectionSettings, SplitSettings, to_yaml


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
