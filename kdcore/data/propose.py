"""From what a folder holds to a `collection.yaml` that would read it: classes, groups of files, and a split."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from affine import Affine
from pydantic import ValidationError
from rasterio.windows import Window

from kdcore.data.facts import Inspection
from kdcore.data.labels import PolygonSource
from kdcore.data.layouts import Layout
from kdcore.data.masks import IGNORE
from kdcore.data.nodata import Kind
from kdcore.data.pairing import Pair
from kdcore.data.propose_classes import propose_from_masks, propose_from_polygons
from kdcore.data.rasters import georeference, open_raster
from kdcore.data.split import parts_of_folders, propose_split, split_by_parts
from kdcore.errors import DataError, KdcoreError, written_out
from kdcore.settings import SPLITS, CollectionSettings, SplitName, to_yaml

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
    parts = parts_of_folders(root, labelled, layout.other)
    pattern = propose_scene_pattern([pair.own for pair in pairs])
    if pattern and parts and len(set(parts.values())) > 1:
        pattern = None if mixed_groups(pattern, parts) else pattern
    group_of = {pair.name: re.fullmatch(pattern, pair.name)["scene"] if pattern else pair.name for pair in pairs}  # type: ignore[index]
    settings = propose_reading(found, root, layout, pattern)
    contents = contents_of_groups(found, labelled, group_of, settings)
    groups = sorted({group_of[pair.name] for pair in labelled})
    others = sorted({group_of[pair.name] for pair in pairs} - set(groups))
    split = split_by_parts({group_of[name]: part for name, part in parts.items()}, contents, others) if parts else None
    if split is not None:
        found.notes.append(tell_parts(Counter(parts.values())))
    return settings.model_copy(update={"split": split or propose_split(groups, contents)})


def propose_reading(found: Inspection, root: Path, layout: Layout, pattern: str | None) -> CollectionSettings:
    """How the files are read: all settings but the split, which here is only a placeholder.

    Raises:
        DataError: masks that are no masks, or too few classes.
    """
    try:
        proposed = propose_from_masks(found, root) if found.masks else propose_from_polygons(found)
        return CollectionSettings(
            name=re.sub(r"[^A-Za-z0-9._-]+", "-", root.name).strip("-._")[:100] or "collection",
            images=layout.images,
            masks=layout.masks,
            labels=layout.labels,
            unlabelled=layout.unlabelled,
            image_field=layout.image_field,
            classes=tuple(proposed.classes),
            class_field=proposed.class_field,
            ignore=tuple(proposed.ignore),
            mask_tolerance=proposed.mask_tolerance,
            nodata=propose_nodata(found),
            scene=pattern,
            split=propose_split([]),
        )
    except ValidationError as error:
        reason = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise DataError(
            f"{root}: no collection.yaml can be proposed: {reason}. Write one by hand; see docs/data-format.md."
        ) from error


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
    known = {str(word) for entry in settings.classes for word in (entry.value, entry.colour) if word is not None}
    contents: dict[str, Counter[str]] = {}
    for pair in pairs:
        if pair.mask in masks:
            # Of a palette ('3 #6EC1E4') the colour, which RGB masks beside it have, too.
            codes = masks[pair.mask].pixels.items()
            pixels = {key.split()[-1]: float(n) for key, n in codes if known & set(key.split())}
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
            place, height, width = georeference(dataset), min(DRAWN, dataset.height), min(DRAWN, dataset.width)
            transform = place.transform @ Affine.scale(dataset.width / width, dataset.height / height)
            window = Window(0, 0, dataset.width, dataset.height)
        key = (pair.polygons, f"{place.crs}{pair.image if settings.image_field else ''}")
        if key not in sources:
            sources[key] = PolygonSource(pair.polygons, settings, place.crs, pair.image)
        labels = sources[key].read(window, (height, width), transform)
    except KdcoreError:
        return {}
    values, counts = np.unique(labels[labels != IGNORE], return_counts=True)
    return dict(zip(map(str, values.tolist()), map(float, counts), strict=True))


def propose_nodata(found: Inspection) -> float | None:
    """The one undeclared value for 'no data', unless images differ or say themselves where they have none."""
    exact = [suspect for suspect in found.undeclared if suspect.kind is not Kind.BLURRED]
    found.notes += [
        f"{suspect.sentence()}. {suspect.mend()}." for suspect in found.undeclared if suspect.kind is Kind.BLURRED
    ]
    if not exact:
        return None
    value = exact[0].value
    if len(exact) == 1 and not any(facts.alpha or facts.nodata not in (None, value) for facts in found.images):
        found.notes.append(
            f"{exact[0].sentence()}. `nodata: {value:g}` is proposed; remove that line if these pixels are imagery."
        )
        return value
    found.problems += [
        f"{suspect.sentence()}. A collection has one `nodata`, so none is proposed: {suspect.mend()}."
        for suspect in exact
    ]
    return None


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
        f"# {kind}: {written_out(text)}".replace("\n", "\n# ")
        for kind, texts in (("Problem", inspection.problems), ("Note", inspection.notes))
        for text in texts
    ]
    return "\n".join(lines) + "\n" + to_yaml(inspection.proposal)
