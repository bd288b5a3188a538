"""The one door for YAML and JSON, of strangers as of our own: limits of size, depth and number, each stated in the error.

A few hundred bytes of YAML can stand for gigabytes (aliases of aliases), and brackets can be nested until a program ends. What strangers
call things is shown without control characters.
"""

import json
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from kdcore.errors import KdcoreError, in_short

MOST_YAML_BYTES = 4_000_000
MOST_JSON_BYTES = 64_000_000
MOST_DEPTH = 60
MOST_VALUES = 500_000  # aliases counted as often as they are used
MOST_PARTS = 8_000_000  # lists and mappings of JSON, each of which takes a hundred bytes of memory
MOST_DIGITS = 300
NUMBER = re.compile(r"[-+]?(0[xob])?[0-9_a-fA-F:.]+")

# Marks that turn the direction of writing (a name could pose as another one), and control characters; tab and line end stay.
UNSEEN = re.compile("[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class ReadingError(KdcoreError, ValueError):
    """A text that is no YAML or JSON, or beyond the limits."""


def read_bytes(path: Path, most: int = MOST_JSON_BYTES) -> bytes:
    """A whole file, if it is a plain one of at most so many bytes.

    Raises:
        ReadingError: larger, or no plain file (a folder, a pipe, a device).
        OSError: it cannot be read; FileNotFoundError where there is none.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ReadingError(f"{path}: is no plain file. Name a file, not a folder, pipe or device.")
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ReadingError(
            f"{path}: is larger than {most / 1e6:g} MB, the most that is read here. Is it the right file?"
        )
    return data


def read_start(path: Path, most: int) -> bytes:
    """The first bytes of a plain file; none of anything else (a pipe, a device) or of a file that cannot be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return b""
        with path.open("rb") as file:
            return file.read(most)
    except OSError:
        return b""


def parse_json(data: bytes | str, where: object, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """A value from JSON text.

    Args:
        data: UTF-8.
        where: the file, for messages.
        pairs: makes a mapping of its keys and values; a ValueError of it is told.

    Raises:
        ReadingError: no JSON, or beyond the limits.
    """
    parts = data.count("[") + data.count("{") if isinstance(data, str) else data.count(b"[") + data.count(b"{")
    if parts > MOST_PARTS:
        raise ReadingError(f"{where}: holds {parts:,} lists and mappings; at most {MOST_PARTS:,} are read.")
    try:
        value = json.loads(data, object_pairs_hook=pairs)
    except RecursionError as error:
        raise ReadingError(f"{where}: {too_deep()}") from error
    except ValueError as error:
        raise ReadingError(f"{where}: is no valid JSON ({error}).") from error
    check_depth(value, where)
    return value


def read_json(path: Path, most: int = MOST_JSON_BYTES) -> Any:
    """A value from a JSON file; raises as `read_bytes` and `parse_json` do."""
    return parse_json(read_bytes(path, most), path)


def check_depth(value: Any, where: object) -> None:
    """Refuse what a function that looks into each part could not end; level by level, so that this one does."""
    level, depth = ([value] if isinstance(value, dict | list) else []), 0
    while level:
        depth += 1
        if depth > MOST_DEPTH:
            raise ReadingError(f"{where}: {too_deep()}")
        parts = (part for entry in level for part in (entry.values() if isinstance(entry, dict) else entry))
        level = [part for part in parts if isinstance(part, dict | list)]


def parse_yaml(text: str, where: object) -> Any:
    """A value from YAML text, in plain types only.

    Args:
        text: YAML.
        where: the file, for messages.

    Raises:
        ReadingError: no YAML, or beyond the limits.
    """
    if len(text) > MOST_YAML_BYTES:
        raise ReadingError(f"{where}: is larger than {MOST_YAML_BYTES / 1e6:g} MB, the most that is read as YAML.")
    try:
        check_events(text, where)
        return yaml.load(text, Loader=SafeLoader)
    except yaml.YAMLError as error:
        raise ReadingError(f"{where}: is no valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ReadingError(f"{where}: {too_deep()}") from error
    except ReadingError:
        raise
    except Exception as error:  # of any kind: [a]: b, 2024-13-45, !!bool x, !!timestamp x
        raise ReadingError(
            f"{where}: holds a date or number that cannot be ({in_short(error)}). Put it in quotes if it is a name."
        ) from error


def check_events(text: str, where: object) -> None:
    """Look through YAML before anything is made of it: how deep, how many values, how long its numbers.

    Raises:
        ReadingError: beyond the limits.
        yaml.YAMLError: no YAML.
    """
    open_sizes, open_names = [0], [""]
    known: dict[str, int] = {}

    def add(count: int, name: str | None = None) -> None:
        open_sizes[-1] += count
        if open_sizes[-1] > MOST_VALUES:
            raise ReadingError(
                f"{where}: holds more than {MOST_VALUES:,} values, with those that its aliases (*) repeat."
            )
        if name:
            known[name] = count

    for event in yaml.parse(text, Loader=SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_sizes.append(1)
            open_names.append(event.anchor or "")
            if len(open_sizes) > MOST_DEPTH:
                raise ReadingError(f"{where}: {too_deep()}")
        elif isinstance(event, yaml.CollectionEndEvent):
            size, name = open_sizes.pop(), open_names.pop()
            add(size, name)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in open_names:
                raise ReadingError(
                    f"{where}: the alias *{event.anchor[:60]} stands inside what it repeats. Write it out."
                )
            add(known.get(event.anchor or "", 1))
        elif isinstance(event, yaml.ScalarEvent):
            if len(event.value) > MOST_DIGITS and NUMBER.fullmatch(event.value):
                raise ReadingError(
                    f"{where}: holds a number of {len(event.value):,} digits; at most {MOST_DIGITS} are read."
                )
            add(1, event.anchor)


def too_deep() -> str:
    """What is wrong with a text that is nested too deeply."""
    return f"is nested more than {MOST_DEPTH} levels deep, the most that is read."


def visible(text: str) -> str:
    """A text without control characters and without marks that turn the direction of writing; letters of every script stay."""
    return UNSEEN.sub("", text)


def visible_all(value: Any) -> Any:
    """Likewise for every text and key in a JSON value."""
    if isinstance(value, dict):
        return {visible(str(key)): visible_all(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [visible_all(entry) for entry in value]
    return visible(value) if isinstance(value, str) else value
