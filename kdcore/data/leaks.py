"""Imagery that a network would be tested on and also trained with: the same file twice, or the same ground twice."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from kdcore.data.footprints import Footprints, footprint
from kdcore.data.scene import Box, Scene
from kdcore.errors import DataError
from kdcore.files import hash_file
from kdcore.settings import SplitName

Parts = Mapping[SplitName, Sequence[Box]]
"""The rectangles of a scene that belong to each part of the split."""
NOT_SPLIT: frozenset[SplitName] = frozenset()
HELD_BACK: tuple[SplitName, ...] = ("validation", "test")


def check_split(owners: Sequence[tuple[Scene, Parts]]) -> None:
    """Refuse scenes that show the same ground in different parts of the split.

    Args:
        owners: every scene that is used, with its rectangles.

    Raises:
        DataError: two scenes leak; names both.
    """
    used = [(scene, frozenset(name for name, boxes in parts.items() if boxes)) for scene, parts in owners]
    for scene, parts, other, others in same_contents(used):
        if parts != others:
            raise DataError(
                f"{scene.image}: has the same contents as {other.image.name} in another part of the split; that leaks. Remove one."
            )
    placed = [(scene, parts, found) for scene, parts in used if (found := footprint(scene)) is not None]
    # Of one part any number may show the same ground, as a time series does: these pairs are never looked at.
    by_parts: dict[frozenset[SplitName], list[int]] = defaultdict(list)
    for index, (_, parts, _) in enumerate(placed):
        by_parts[parts].append(index)
    trees = {parts: Footprints([placed[index][2] for index in found]) for parts, found in by_parts.items()}
    for scene, parts, place in placed:
        for against, tree in trees.items():
            if against == parts and len(parts) == 1:
                continue
            for hit in tree.showing(place):
                other = placed[by_parts[against][hit]][0]
                if other is not scene:
                    raise DataError(
                        f"{scene.image} and {other.image.name} show the same ground but are in different parts of the split; that leaks. "
                        "Put both in one part, or cut the overlap away."
                    )


def check_unlabelled(unlabelled: Iterable[Scene], owners: Sequence[tuple[Scene, Parts]]) -> None:
    """Refuse imagery without labels that shows ground of the validation or test part.

    Args:
        unlabelled: scenes that a student may train with.
        owners: every scene that is used, with its rectangles.

    Raises:
        DataError: a scene leaks; names it and what it shows.
    """
    mend = "Move it out of unlabelled/, or cut that ground away."
    loose = [(scene, NOT_SPLIT) for scene in unlabelled]
    used = [(scene, frozenset(part for part in HELD_BACK if parts[part])) for scene, parts in owners]
    for scene, parts, other, others in same_contents([*used, *loose]):
        if parts is NOT_SPLIT and others:
            raise DataError(
                f"{scene.image}: has the same contents as {other.image.name}, which is in the {min(others)} part; that leaks. {mend}"
            )
    held = [(scene, part, box) for scene, parts in owners for part in HELD_BACK for box in parts[part]]
    placed = [(scene, part, found) for scene, part, box in held if (found := footprint(scene, box)) is not None]
    tree = Footprints([found for _, _, found in placed])
    for scene, _ in loose:
        place = footprint(scene)
        for hit in tree.showing(place) if place else ():
            other, part, _ = placed[hit]
            raise DataError(
                f"{scene.image}: shows ground of {other.image.name}, which is in the {part} part; students would train with what they "
                f"are tested on. {mend}"
            )


def same_contents(
    scenes: Iterable[tuple[Scene, frozenset[SplitName]]],
) -> Iterable[tuple[Scene, frozenset[SplitName], Scene, frozenset[SplitName]]]:
    """Scenes whose files are equal to that of one before them, with that one. Only files of one size are read."""
    sizes: dict[int, list[tuple[Scene, frozenset[SplitName]]]] = defaultdict(list)
    for scene, parts in scenes:
        sizes[scene.image.stat().st_size].append((scene, parts))
    for same_size in sizes.values():
        seen: dict[str, tuple[Scene, frozenset[SplitName]]] = {}
        for scene, parts in same_size if len(same_size) > 1 else []:
            other = seen.setdefault(hash_file(scene.image), (scene, parts))
            if other[0] is not scene:
                yield scene, parts, *other
