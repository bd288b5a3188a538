"""Which scenes train, validate and test: as the folders say, else so that the parts have alike shares of area and classes."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdcore.data.folder_tree import PARTS, parent, suffix_of, words
from kdcore.data.pairing import Pair
from kdcore.reading import read_start
from kdcore.settings import SPLITS, SplitName, SplitSettings

VALIDATION, TEST = 0.15, 0.2  # shares of the scenes
TRIES = 2000
CLOSE = 0.1  # scores that differ less are as good
Contents = Mapping[str, Mapping[str, float]]  # of a scene: pixels by value, colour or class


def parts_of_folders(root: Path, pairs: Sequence[Pair], other: Sequence[str] = ()) -> dict[str, SplitName]:
    """The part of the split of each scene, by the words of its folders or the first word of its name, or by lists in text files.

    Args:
        root: the collection's folder.
        pairs: scenes with labels.
        other: paths of other files inside the folder, such as train.txt.

    Returns:
        Empty where not every scene has a part or all have the same.
    """
    told = {pair.name: words(pair.image.relative_to(root).as_posix()) for pair in pairs}
    folders = {pair.name: words(f"{parent(pair.image.relative_to(root).as_posix())}/-") for pair in pairs}
    first = {name: told[name][len(folders[name]) :][:1] for name in told}
    common = set.intersection(*map(set, folders.values())) if len(folders) > 1 else set()
    short = {word for entry in first.values() for word in entry} == {"t", "v"}
    found: list[Mapping[str, SplitName | None]] = [
        {name: part_in(word for word in folders[name] if word not in common) for name in told},
        {name: part_in(first[name]) for name in told},
        {name: "train" if first[name] == ["t"] else "validation" for name in told} if short else {},
        parts_of_lists(root, pairs, other),
    ]
    for parts in found:
        known = {name: part for name, part in parts.items() if part is not None}
        if len(known) == len(told) and len(set(known.values())) > 1:
            return known
    return {}


def part_in(told: Iterable[str]) -> SplitName | None:
    """The part that the first of some words names that names one."""
    return next((PARTS[word] for word in told if word in PARTS), None)


def parts_of_lists(root: Path, pairs: Sequence[Pair], other: Sequence[str]) -> dict[str, SplitName]:
    """Parts from lists of names: train.txt, val.txt, test.txt with a name or path in each line."""
    listed: dict[str, SplitName] = {}
    for name in other:
        stem = Path(name).stem.lower()
        if suffix_of(name) in (".txt", ".lst", ".csv") and stem in PARTS:
            for line in read_start(root / name, 50_000_000).decode(errors="replace").splitlines():
                entry = re.split(r"[\s,;]", line.strip())[0].replace("\\", "/").rpartition("/")[2]
                listed |= {entry: PARTS[stem], Path(entry).stem: PARTS[stem]}
    found = {
        pair.name: part
        for pair in pairs
        if (part := listed.get(pair.image.stem) or listed.get(pair.image.name)) is not None
    }
    return found if len(found) >= 0.9 * len(pairs) else {}


def split_by_parts(parts: Mapping[str, SplitName], contents: Contents, others: Sequence[str]) -> SplitSettings | None:
    """The split that folders give; a part that is missing is taken from the nearest one, and never from test.

    Args:
        parts: of each scene.
        contents: of each scene, for choosing.
        others: further scenes that no part may include.

    Returns:
        None where there is nothing to train on or too few scenes.
    """
    named: dict[SplitName, list[str]] = {
        split: sorted(name for name in parts if parts[name] == split) for split in SPLITS
    }
    if not named["train"]:
        return None
    if not named["test"] and len(named["validation"]) >= 2:  # choose on a third, test on the rest
        few = max(1, round(len(named["validation"]) / 3))
        named["validation"], named["test"] = choose(named["validation"], (few,), contents)
    elif not named["test"]:
        named["test"], named["validation"] = named["validation"], []
    if not named["validation"]:
        if len(named["train"]) < 2:
            return None
        few = max(1, round(VALIDATION * len(named["train"])))
        named["validation"], named["train"] = choose(named["train"], (few,), contents)
    everything = [*parts, *others]
    train, validation, test = (compact(named[split], everything) for split in SPLITS)
    return SplitSettings(train=train, validation=validation, test=test)


def propose_split(groups: Sequence[str], contents: Contents | None = None) -> SplitSettings:
    """Whole scenes where there are three or more, otherwise blocks of each scene."""
    if len(groups) < 3:
        return SplitSettings(
            by="block", grid=(4, 6), train=("r[1-3]c[1-4]",), validation=("r4c[1-4]",), test=("r*c[56]",)
        )
    tests, validations = max(1, round(TEST * len(groups))), max(1, round(VALIDATION * len(groups)))
    test, validation, train = choose(groups, (tests, validations), contents or {})
    return SplitSettings(train=tuple(train), validation=tuple(validation), test=tuple(test))


def choose(groups: Sequence[str], sizes: tuple[int, ...], contents: Contents) -> list[list[str]]:
    """Divide scenes into parts of given sizes and the rest, each with its share of the area and of every class.

    The last scenes are taken unless others, drawn at random with a fixed seed, fit clearly better.

    Returns:
        The scenes of each size, then the rest, in their order.
    """
    table = contents_table(groups, contents)
    ends = np.cumsum(sizes)
    orders: list[NDArray[np.int64]] = [np.arange(len(groups))[::-1]]
    if table is not None:
        rng = np.random.default_rng(0)
        orders += [rng.permutation(len(groups)) for _ in range(max(50, min(TRIES, 2_000_000 // len(groups))))]
    scores = [0.0] if table is None else [unlikeness(table, np.split(order, ends), sizes) for order in orders]
    best = 0 if scores[0] <= min(scores) + CLOSE else int(np.argmin(scores))
    return [[groups[index] for index in sorted(part)] for part in np.split(orders[best], ends)]


def contents_table(groups: Sequence[str], contents: Contents) -> NDArray[np.float64] | None:
    """(scenes, classes) pixels; None where nothing is known of a scene."""
    if any(not sum(contents.get(group, {}).values()) for group in groups):
        return None
    classes = sorted({name for group in groups for name in contents[group]})
    return np.array([[contents[group].get(name, 0.0) for name in classes] for group in groups], dtype=np.float64)


def unlikeness(table: NDArray[np.float64], parts: Sequence[NDArray[np.int64]], sizes: tuple[int, ...]) -> float:
    """How far parts are from the whole: differences of the shares of area and classes; a class that is lacking counts as 1."""
    whole = table.sum(axis=0)
    shares = whole / whole.sum()
    total = 0.0
    for part, size in zip(parts, (*sizes, None), strict=True):
        pixels = table[part].sum(axis=0)
        total += float((pixels == 0).sum())
        if size is not None:
            wanted = size / len(table)
            total += float(abs(pixels / pixels.sum() - shares).sum()) + abs(pixels.sum() / whole.sum() / wanted - 1) / 2
    return total


def compact(names: Sequence[str], everything: Sequence[str]) -> tuple[str, ...]:
    """Names of scenes as one pattern, where they begin alike and no other does; else each."""
    first, last = min(names), max(names)
    alike = next((index for index, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
    begin = first[: first[:alike].rfind("_") + 1]
    inside = [name for name in everything if name.startswith(begin)]
    if len(names) < 2 or not begin or len(inside) > len(names):
        return tuple(names)
    return (re.sub(r"([*?[])", r"[\1]", begin) + "*",)
