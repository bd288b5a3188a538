"""What a proposal says of classes, and how it follows from the fields of vector files."""

from collections import Counter
from dataclasses import dataclass, field

from kdcore.data.facts import Inspection, PolygonFacts
from kdcore.data.palette import PALETTE
from kdcore.errors import DataError
from kdcore.settings import ClassSettings

IGNORED_NAMES = {"ignore", "unknown", "unlabelled", "unlabeled", "void", "nodata", "no data", "no_data"}


@dataclass
class Proposed:
    """How labels are read."""

    classes: list[ClassSettings]
    ignore: list[int | str] = field(default_factory=list)
    class_field: str | None = None
    mask_tolerance: int = 0


def shortened(values: list[int | str]) -> str:
    """Values in words, at most eight."""
    return ", ".join(map(str, values[:8])) + (f" and {len(values) - 8} more" if len(values) > 8 else "")


def propose_from_polygons(found: Inspection) -> Proposed:
    """Background and the polygons' classes.

    Raises:
        DataError: no file holds a polygon.
    """
    drawn = [facts for facts in found.polygons if facts.polygons]
    if not drawn:
        raise DataError(
            f"the {len(found.polygons)} vector files hold no polygons, so there is nothing to learn. Add labels."
        )
    found.notes += dict.fromkeys(doubt for facts in drawn for doubt in facts.doubts)
    if any(facts.crs.startswith("none") for facts in drawn):
        found.notes.append(
            "shapefiles without .prj are read in the CRS of their images, where they lie on them; keep the four files of a shapefile together."
        )
    fields = Counter(facts.class_field for facts in drawn)
    chosen = fields.most_common(1)[0][0]
    if chosen is None:
        name = "building" if any("building" in facts.fields for facts in drawn) else "object"
        return Proposed(coloured([ClassSettings(name="background"), ClassSettings(name=name)]))
    named = [facts for facts in drawn if facts.class_field == chosen]
    unnamed = sum(facts.unnamed for facts in named)
    if unnamed:
        found.notes.append(
            f"field {chosen!r} is empty in {unnamed} polygons; they are read as 'ignore', neither as a class nor as background."
        )
    proposed = classes_of_numbers(named) if all(facts.whole for facts in named) else classes_of_names(found, named)
    if proposed.ignore:
        found.notes.append(
            f"{shortened(proposed.ignore)} in field {chosen!r} is taken as 'ignore', not as a class; correct this if it is one."
        )
    if any(entry.name.startswith("class-") for entry in proposed.classes):
        found.notes.append(
            f"field {chosen!r} holds numbers; give the classes names in collection.yaml and keep their `value`."
        )
    proposed.class_field = chosen
    return proposed


def classes_of_names(found: Inspection, files: list[PolygonFacts]) -> Proposed:
    """A class for each name in a field."""
    names = sorted({value for facts in files for value in facts.values} - {"background"})
    ignore = [name for name in names if name.lower() in IGNORED_NAMES]
    if len(ignore) == len(names):
        ignore = []
    kept = ["background", *(name for name in names if name not in ignore)]
    alike = sorted({name for name in kept if sum(name.lower() == other.lower() for other in kept) > 1})
    if alike:
        found.notes.append(
            f"{', '.join(map(repr, alike))} differ in capital letters only and become different classes; write them alike if they are one."
        )
    return Proposed(coloured([ClassSettings(name=name) for name in kept]), list(ignore))


def classes_of_numbers(files: list[PolygonFacts]) -> Proposed:
    """A class for each whole number in a field; 0 is the background, negative ones are no class."""
    values = sorted({int(value) for facts in files for value in facts.values} | {0})
    ignore = [value for value in values if value < 0]
    kept = [value for value in values if value >= 0]
    if len(kept) < 2:
        kept, ignore = values, []
    kept.sort(key=lambda value: (value != 0, value))  # the first class is what lies outside of all polygons
    classes = [ClassSettings(name="background" if value == 0 else f"class-{value}", value=value) for value in kept]
    return Proposed(coloured(classes), list(ignore))


def coloured(classes: list[ClassSettings]) -> list[ClassSettings]:
    """The classes with colours, as far as there are different ones."""
    if len(classes) > len(PALETTE):
        return classes
    return [entry.model_copy(update={"colour": PALETTE[index]}) for index, entry in enumerate(classes)]
