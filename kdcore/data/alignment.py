"""What the paths of images and of their labels have in common, as patterns with placeholders."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from kdcore.data.folder_tree import PARTS, parent, stem_of, suffix_of, tokens, words
from kdcore.data.pairing import Pattern, normal
from kdcore.data.rasters import IMAGE_SUFFIXES
from kdcore.data.vectors import POLYGON_SUFFIXES
from kdcore.settings import PLACEHOLDER

SUFFIXES = (*IMAGE_SUFFIXES, *POLYGON_SUFFIXES)
SAMPLES = 16  # images whose paths are aligned with those of labels
SIGNS = "_- .+#"
NEAREST = 30  # labels that an image is aligned with
LIKELY_WORDS = ("rgb", "image", "images", "img", "sat", "ortho", "top")


@dataclass(frozen=True)
class Templates:
    """An image's and a label's pattern, and how many images they pair."""

    image: str
    label: str
    pairs: int


def align(images: Sequence[str], labels: Sequence[str]) -> list[Templates]:
    """Patterns that pair images with labels, those that pair most first; each with another pattern of images.

    Args:
        images: paths with suffixes inside one folder.
        labels: likewise.
    """
    index: dict[str, list[str]] = {}
    for label in labels:
        for word in set(words(label.rpartition("/")[2])):
            index.setdefault(word, []).append(label)
    raw = {
        pair
        for image in spread_out(images, SAMPLES)
        if (close := nearest(image, index)) is not None and (pair := templates(image, close)) is not None
    }
    found = [finish(image, label, images, labels) for image, label in sorted(raw)]
    found = sorted(
        {entry for entry in found if entry.pairs}, key=lambda entry: (-entry.pairs, rank(entry.image), entry.label)
    )
    best: dict[str, Templates] = {}
    for entry in found:
        best.setdefault(entry.image, entry)
    return list(best.values())


def rank(pattern: str) -> tuple[int, int, str]:
    """Which of two patterns of images that fit as well is likelier to be meant: usual words first, then the shorter one."""
    told = words(pattern)
    return min((LIKELY_WORDS.index(word) for word in told if word in LIKELY_WORDS), default=99), len(pattern), pattern


def spread_out(names: Sequence[str], most: int) -> list[str]:
    """At most so many of the names, evenly spread."""
    step = max(1, len(names) / most)
    return [names[int(index * step)] for index in range(min(most, len(names)))]


def nearest(image: str, index: dict[str, list[str]]) -> str | None:
    """The label whose path has most in common with an image's; shared words count the more the rarer they are."""
    weight: dict[str, float] = {}
    for word in set(words(image.rpartition("/")[2])):
        for label in index.get(word, []):
            weight[label] = weight.get(label, 0.0) + 1 / len(index[word])
    if not weight:
        return None
    parts = tokens(stem_of(image))
    close = sorted(weight, key=lambda label: (-weight[label], label))[:NEAREST]
    return max(close, key=lambda label: SequenceMatcher(None, parts, tokens(stem_of(label)), False).ratio())


def templates(image: str, label: str) -> tuple[str, str] | None:
    """Two paths with what they share as numbered placeholders: '{p0}/sat/{p1}_rgb', '{p0}/gt/{p1}'."""
    first, second = tokens(normal(stem_of(image))), tokens(normal(stem_of(label)))
    texts: tuple[list[str], list[str]] = ([], [])
    number = at_first = at_second = 0
    for block in SequenceMatcher(None, first, second, False).get_matching_blocks():
        texts[0].extend(first[at_first : block.a])
        texts[1].extend(second[at_second : block.b])
        begins = before_is_edge(first, block.a) and before_is_edge(second, block.b)
        at_first, at_second = block.a + block.size, block.b + block.size
        ends = after_is_edge(first, at_first) and after_is_edge(second, at_second)
        runs = re.split("(/)", "".join(first[block.a : at_first]))
        for index, run in enumerate(runs):
            # Signs beside what differs belong to that: '_' of '12_sat' and '12_mask'.
            inner = run if index or begins else run.lstrip(SIGNS)
            inner = inner if index < len(runs) - 1 or ends else inner.rstrip(SIGNS)
            inner = inner if any(map(str.isalnum, inner)) else ""
            before, _, after = run.partition(inner) if inner else (run, "", "")
            text = before + (f"{{p{number}}}" if inner else "") + after
            number += bool(inner)
            for side in texts:
                side.append(text)
    pair = "".join(texts[0]), "".join(texts[1])
    unclear = any("}{" in text or re.search(r"[{}]", PLACEHOLDER.sub("", text)) for text in pair)
    return None if unclear or "{" not in pair[0].rpartition("/")[2] else pair


def before_is_edge(parts: list[str], index: int) -> bool:
    """Whether a folder's or a file's name begins at a token."""
    return index == 0 or parts[index - 1] == "/"


def after_is_edge(parts: list[str], index: int) -> bool:
    """Whether a folder's or a file's name ends before a token."""
    return index >= len(parts) or parts[index] == "/"


def finish(image: str, label: str, images: Sequence[str], labels: Sequence[str]) -> Templates:
    """Fill in placeholders that have one value only, name the others, and count what is paired."""
    first, second = Pattern(image, SUFFIXES), Pattern(label, SUFFIXES)
    there = set(keys(second, first, labels).values())
    paired = [name for name, key in keys(first, second, images).items() if key in there]
    values: dict[str, set[str]] = {name: set() for name in first.names}
    for name in paired:
        for placeholder, value in (first.match(name) or {}).items():
            values[placeholder].add(value)
    last = [name for name in first.names if f"{{{name}}}" in image.rpartition("/")[2]]
    varying = {name for name in values if len(values[name]) > 1}
    if not varying & set(last):
        varying.add(max(last, key=lambda name: len(max(values[name], default="", key=len))))
    titles = name_placeholders([name for name in first.names if name in varying], values, last)
    for name in first.names:
        text = f"{{{titles[name]}}}" if name in varying else next(iter(values[name]), "")
        image, label = image.replace(f"{{{name}}}", text), label.replace(f"{{{name}}}", text)
    if any(re.search(r"[{}]", PLACEHOLDER.sub("", text)) for text in (image, label)):
        return Templates(image, label, 0)
    if image == label:  # one folder, one stem: only the suffixes differ
        kinds = [{suffix_of(name) for name in names} for names in (paired, labels)]
        if len(kinds[0]) > 1 or len(kinds[1]) > 1 or kinds[0] == kinds[1]:
            return Templates(image, label, 0)
        image, label = image + kinds[0].pop(), label + kinds[1].pop()
    return Templates(shorten(image), shorten(label), len(paired))


def name_placeholders(names: list[str], values: dict[str, set[str]], last: list[str]) -> dict[str, str]:
    """'part' for folders of a split, 'folder' for others, 'name' for what tells most files apart."""
    main = max((name for name in names if name in last), key=lambda name: len(values[name]), default=None)
    titles: dict[str, str] = {}
    for name in names:
        title = "name" if name in last else "folder"
        if name != main and all(PARTS.keys() & set(words(f"{value}/-")) for value in values[name]):
            title = "part"
        taken = [other for other in titles.values() if other.rstrip("0123456789") == title]
        number = len(taken) + 1 + (title == "name" and name != main and not taken)
        titles[name] = title if number == 1 else f"{title}{number}"
    if main is not None and "name" not in titles.values():
        titles[main] = "name"
    return titles


def keys(pattern: Pattern, other: Pattern, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Of each name that fits a pattern the values of the placeholders that another pattern has, too."""
    shared = sorted(set(pattern.names) & set(other.names))
    found = {name: pattern.match(name) for name in names}
    return {name: tuple(values[part] for part in shared) for name, values in found.items() if values is not None}


def shorten(pattern: str) -> str:
    """'images/{name}' is the folder 'images'."""
    folder, slash, last = pattern.rpartition("/")
    return folder if slash and last == "{name}" and "{" not in folder else pattern


def common_places(names: Sequence[str], last: str = "{name}") -> str | tuple[str, ...]:
    """Folders of files as a setting: one pattern for all folders of one depth, with placeholders where they differ."""
    depths: dict[int, set[str]] = {}
    for name in names:
        depths.setdefault(name.count("/"), set()).add(parent(name))
    places = []
    for folders in depths.values():
        levels = [
            sorted(set(level)) for level in zip(*(folder.split("/") for folder in folders if folder), strict=True)
        ]
        text: list[str] = []
        for level in levels:
            split = all(PARTS.keys() & set(words(f"{value}/-")) for value in level)
            free = (
                "*" if last == "*" else "{part}" if split and "{part}" not in text else f"{{folder{len(text) or ''}}}"
            )
            text.append(level[0] if len(level) == 1 else free)
        places.append(shorten("/".join([*text, last])))
    return places[0] if len(places) == 1 else tuple(places)
