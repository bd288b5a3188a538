"""Edit proposed settings as tables: classes, and which scene or block trains, validates or tests. No streamlit here.

A table is a list of rows, plain values as a person sees them. What comes back is checked by `CollectionSettings`.
"""

import fnmatch
import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kdcore.errors import SettingsError
from kdcore.settings import PALETTE, SPLITS, ClassSettings, CollectionSettings, class_colours, to_yaml, validate

UNUSED = "not used"
PARTS = (*SPLITS, UNUSED)
GREY = "#BBBBBB"  # of what is no class
Row = dict[str, Any]


@dataclass(frozen=True)
class Reading:
    """By what a class is recognised in the labels, which therefore cannot be edited.

    Attributes:
        by: 'value' (of a mask, or a whole number in a field), 'colour' (of a mask), 'name' (in a field of polygons), or 'polygons':
            every polygon is the second class.
        background: whether the first class is what lies outside of all polygons.
    """

    by: Literal["value", "colour", "name", "polygons"]
    background: bool

    @property
    def fixed(self) -> tuple[str, ...]:
        """Columns of the table that stay as they are."""
        return {"value": (), "colour": ("colour",), "name": ("name",), "polygons": ("ignore",)}[self.by]


def reading_of(settings: CollectionSettings, masks: bool) -> Reading:
    """How labels are read through settings.

    Args:
        settings: the collection's.
        masks: whether there are masks; polygons otherwise.
    """
    if settings.classes[0].value is not None:
        return Reading("value", not masks)
    if masks:
        return Reading("colour", False)
    return Reading("polygons" if settings.class_field is None else "name", True)


def class_rows(settings: CollectionSettings, pixels: Mapping[str, Mapping[str, int]]) -> list[Row]:
    """A row for each class, then one for each ignored value: `name`, `colour`, `share` of all labelled pixels, `ignore`.

    Args:
        settings: the collection's.
        pixels: of each class in each part, as `Inspection.class_pixels`.
    """
    totals = {name: sum(part.get(name, 0) for part in pixels.values()) for name in settings.class_names}
    whole = sum(totals.values())
    rows: list[Row] = [
        {
            "name": entry.name,
            "colour": colour,
            "share": totals[entry.name] / whole if whole else None,
            "ignore": False,
        }
        for entry, colour in zip(settings.classes, class_colours([c.colour for c in settings.classes]), strict=True)
    ]
    return rows + [
        {
            "name": str(entry),
            "colour": str(entry) if str(entry).startswith("#") else GREY,
            "share": None,
            "ignore": True,
        }
        for entry in settings.ignore
    ]


def with_classes(settings: CollectionSettings, rows: Sequence[Row], reading: Reading) -> CollectionSettings:
    """Settings with the classes of an edited table.

    Raises:
        SettingsError: what does not fit, in one sentence.
    """
    before = class_rows(settings, {})
    if reading.background and rows[0]["ignore"]:
        raise SettingsError(
            f"{settings.classes[0].name!r} is what lies outside of all polygons, so it cannot be ignored. "
            "Use `area_of_interest` for imagery that is labelled in part."
        )
    recoloured = any(row["colour"] != old["colour"] for row, old in zip(rows, before, strict=True) if not old["ignore"])
    classes, ignore = [], []
    for row, old, entry in zip(rows, before, [*settings.classes, *settings.ignore], strict=True):
        name, colour = str(row["name"] or "").strip(), str(row["colour"] or "").strip()
        if isinstance(entry, ClassSettings):
            if row["ignore"]:
                ignore.append(mark_of(entry, reading))
            else:
                kept = colour if recoloured or entry.colour else None
                classes.append(entry.model_dump() | {"name": name, "colour": kept})
        elif row["ignore"]:
            ignore.append(entry)
        else:
            used = {str(each["colour"]).upper() for each in rows if each is not row}
            free = colour if colour != old["colour"] else next((c for c in PALETTE if c not in used), None)
            classes.append(class_of(entry, name, free, reading))
    return checked(settings, {"classes": classes, "ignore": ignore})


def mark_of(entry: ClassSettings, reading: Reading) -> int | str:
    """What stands for a class in the labels."""
    mark = {"value": entry.value, "colour": entry.colour}.get(reading.by, entry.name)
    return entry.name if mark is None else mark


def class_of(entry: int | str, name: str, colour: str | None, reading: Reading) -> Row:
    """A class from an ignored value."""
    if reading.by == "value":
        return {"name": f"class-{entry}" if name == str(entry) else name, "value": entry, "colour": colour}
    if reading.by == "colour":
        return {"name": name, "colour": str(entry)}
    return {"name": str(entry), "colour": colour}


def block_rows(settings: CollectionSettings) -> list[list[str]]:
    """The part of each block of the split's grid, (rows, columns) as they lie in a scene."""
    assert settings.split.grid is not None
    rows, columns = settings.split.grid
    return [[part_of(f"r{i + 1}c{j + 1}", settings) for j in range(columns)] for i in range(rows)]


def part_of(name: str, settings: CollectionSettings) -> str:
    """The first part of the split whose patterns name a block."""
    return next(
        (part for part in SPLITS if any(fnmatch.fnmatchcase(name, text) for text in getattr(settings.split, part))),
        UNUSED,
    )


def with_blocks(settings: CollectionSettings, rows: Sequence[Sequence[str]]) -> CollectionSettings:
    """Settings with the parts of an edited grid; raises as `with_classes` does."""
    cells = {f"r{i + 1}c{j + 1}": part for i, row in enumerate(rows) for j, part in enumerate(row)}
    return checked(settings, {"split": settings.split.model_dump() | by_part(cells)})


def with_scenes(settings: CollectionSettings, parts: Mapping[str, str]) -> CollectionSettings:
    """Settings with the part of each scene; raises as `with_classes` does."""
    written = {text for split in SPLITS for text in getattr(settings.split, split)}
    names = {name if name in written else glob.escape(name): part for name, part in parts.items()}
    return checked(settings, {"split": settings.split.model_dump() | by_part(names)})


def named_scenes(settings: CollectionSettings) -> dict[str, str | None]:
    """The part of each scene that the split names, for a collection that cannot be opened yet."""
    return {name: split for split in SPLITS for name in getattr(settings.split, split)}


def by_part(parts: Mapping[str, str]) -> dict[str, list[str]]:
    """Names by part."""
    return {split: [name for name, part in parts.items() if part == split] for split in SPLITS}


def checked(settings: CollectionSettings, changes: Mapping[str, Any]) -> CollectionSettings:
    """Settings with changes, if they are valid."""
    return validate(CollectionSettings, settings.model_dump() | dict(changes), "These changes")


def edited_text(text: str, settings: CollectionSettings) -> str:
    """YAML of changed settings under the comments that `text` begins with."""
    head = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        head.append(line)
    return "\n".join([*head, to_yaml(settings)])
