"""From what a folder holds to a `collection.yaml` that would read it: classes, groups of files, and a split."""

import re
from pathlib import Path

from pydantic import ValidationError

from kdcore.data.facts import Inspection
from kdcore.data.nodata import Kind
from kdcore.data.propose_classes import propose_from_polygons
from kdcore.data.propose_masks import propose_from_masks
from kdcore.errors import DataError
from kdcore.settings import CollectionSettings, SplitSettings, to_yaml


def propose(found: Inspection, root: Path, folders: dict[str, str], stems: list[str]) -> CollectionSettings:
    """Settings that would read this folder, with placeholder names where the files tell none.

    Raises:
        DataError: masks that are no masks.
    """
    pattern = propose_scene_pattern(stems)
    groups = sorted({re.fullmatch(pattern, stem)["scene"] for stem in stems}) if pattern else sorted(stems)  # type: ignore[index]
    try:
        proposed = propose_from_masks(found, root) if found.masks else propose_from_polygons(found)
        return CollectionSettings(
            name=re.sub(r"[^A-Za-z0-9._-]+", "-", root.name).strip("-.") or "collection",
            images=folders["images"],
            masks=folders.get("masks", "masks"),
            labels=folders.get("labels", "labels"),
            unlabelled=folders.get("unlabelled", "unlabelled"),
            classes=tuple(proposed.classes),
            class_field=proposed.class_field,
            ignore=tuple(proposed.ignore),
            mask_tolerance=proposed.mask_tolerance,
            nodata=propose_nodata(found),
            scene=pattern,
            split=propose_split(groups),
        )
    except ValidationError as error:
        reason = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise DataError(
            f"{root}: no collection.yaml can be proposed: {reason}. Write one by hand; see docs/data-format.md."
        ) from error


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
