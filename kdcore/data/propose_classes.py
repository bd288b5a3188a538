"""What a proposal says of classes, and how it follows from the fields of vector files or from what masks hold.

Of masks also: ignored values, and how exactly values must match.
"""

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from kdcore.data.facts import MOST_CODES, Inspection, MaskFacts, PolygonFacts, mask_colours
from kdcore.errors import DataError
from kdcore.reading import read_json
from kdcore.settings import PALETTE, ClassSettings

IGNORED_NAMES = {"ignore", "unknown", "unlabelled", "unlabeled", "void", "nodata", "no data", "no_data"}
MOST_CLASSES = 200
MOST_OF_OBJECTS = 0.6
NEAR = 32  # of 0 or 255
MIDDLE = 127  # half of the way from 0 to 255
FILL_VALUES = (255, 65535)  # usual values for 'not labelled' beside small class numbers


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


def propose_from_masks(found: Inspection, root: Path) -> Proposed:
    """Classes and ignored values from what the masks hold.

    Raises:
        DataError: masks that are no masks, were saved with loss, or hold one value only.
    """
    names = published_names(root)
    kinds = {mask.kind for mask in found.masks}
    if "index" in kinds and all(mask.kind != "rgb" or is_grey(mask) for mask in found.masks):
        found.masks = [as_values(mask) for mask in found.masks]
        kinds -= {"rgb"}
    if kinds == {"index", "rgb"} or kinds == {"index", "palette", "rgb"}:
        odd = next(mask.file for mask in found.masks if mask.kind == "index")
        raise DataError(f"{odd}: holds plain values while other masks hold colours. Bring all masks to one kind.")
    proposed = propose_by_colour(found, names) if "rgb" in kinds else propose_by_value(found, names)
    if sum(mask.empty for mask in found.masks):
        found.notes.append("pixels of the masks without a value (NaN) are read as 'ignore'.")
    if proposed.ignore:
        found.notes.append(
            f"{shortened(proposed.ignore)} in the masks is taken as 'ignore', not as a class; correct this if it is one."
        )
    if proposed.mask_tolerance:
        found.notes.append(
            "the masks' values cluster at 0 and 255 and were smeared by compression or resampling; with `mask_tolerance: "
            f"{proposed.mask_tolerance}` each is read as the nearer of the two. Masks exported as PNG or GeoTIFF with nearest neighbour are exact."
        )
    if any(entry.name.startswith("class-") for entry in proposed.classes):
        found.notes.append("the files tell no names of classes; give them names in collection.yaml.")
    return proposed


def is_grey(mask: MaskFacts) -> bool:
    """Whether an RGB mask is a grey one in three equal bands."""
    return all(len({key[1:3], key[3:5], key[5:7]}) == 1 for key in mask.pixels)


def as_values(mask: MaskFacts) -> MaskFacts:
    """A grey RGB mask as the values of its first band, by which it is read where other masks have one band."""
    if mask.kind != "rgb":
        return mask
    pixels, solid = (
        {str(int(key[1:3], 16)): count for key, count in part.items()} for part in (mask.pixels, mask.solid)
    )
    return replace(mask, kind="index", pixels=pixels, solid=solid)


def propose_by_value(found: Inspection, names: dict[str, str]) -> Proposed:
    """Classes of index masks, with or without a palette."""
    pixels, solid = totals(found.masks)
    colours = {int(key.split()[0]): key.partition(" ")[2] for mask in found.masks for key in mask.pixels if " " in key}
    if len(pixels) > 2 and is_smeared(pixels, solid, any(mask.lossy for mask in found.masks)):
        return Proposed(two_classes([0, 255]), mask_tolerance=MIDDLE)
    refuse_loss(found.masks, pixels)
    refuse_many(pixels, solid)
    refuse_one(pixels, found.masks)
    doubt = doubtful(pixels)
    if doubt:
        found.problems.append(doubt)
    strays = set() if doubt else along_edges(pixels, solid)
    ignore = sorted({*ignored_values(set(pixels) - strays, found), *strays})
    kept = sorted((value for value in pixels if value not in ignore), key=lambda value: (value != 0, value))
    if len(kept) == 2 and pixels[kept[1]] > MOST_OF_OBJECTS * sum(pixels.values()):
        found.notes.append(
            f"{kept[1]} covers {100 * pixels[kept[1]] / sum(pixels.values()):.0f} % of the masks; the second class is the one that is "
            "scored: if it is the background, exchange the two classes in collection.yaml."
        )
    own = {colours.get(value) for value in kept}
    classes = [
        ClassSettings(
            name=names.get(colours.get(value, ""), "background" if value == 0 else f"class-{value}"),
            value=value,
            colour=colours[value]
            if colours.get(value) and len(own) == len(kept)
            else PALETTE[index]
            if len(kept) <= len(PALETTE)
            else None,
        )
        for index, value in enumerate(kept)
    ]
    return Proposed(unique(classes), list(ignore))


def propose_by_colour(found: Inspection, names: dict[str, str]) -> Proposed:
    """Classes of RGB masks, or of RGB and palette masks."""
    colours = mask_colours(found.masks)
    total = sum(colours.values())
    neutral = [colour for colour in colours if len({colour[1:3], colour[3:5], colour[5:7]}) == 1]
    pixels = {int(colour[1:], 16): count for colour, count in colours.items()}
    solid: Counter[int] = Counter()
    for mask in found.masks:
        solid.update({int(key.split()[-1][1:], 16): count for key, count in mask.solid.items()})
    tolerance, ignore = 0, []
    tint = max(max(rgb) - min(rgb) for rgb in (code.to_bytes(3, "big") for code in pixels))
    lossy = any(mask.lossy for mask in found.masks)
    if len(pixels) > 2 and tint <= NEAR and is_smeared(grey(pixels), grey(solid), lossy):
        chosen, tolerance = ["#000000", "#FFFFFF"], MIDDLE
    else:
        refuse_loss(found.masks, pixels)
        refuse_many(pixels, solid)
        refuse_one(pixels, found.masks)
        strays = along_edges(pixels, solid)
        if len(colours) - len(neutral) >= 2:
            ignore = [colour for colour in neutral if colours[colour] < 0.05 * total]
        ignore += [colour for colour in colours if int(colour[1:], 16) in strays and colour not in ignore]
        chosen = [colour for colour in colours if colour not in ignore]
    if len(chosen) == 2 and "#000000" in chosen:
        chosen.sort()  # black is the background, however much of it there is
    found.notes.append(
        "colours in the masks: "
        + ", ".join(f"{colour} {100 * count / total:.2f} %" for colour, count in list(colours.items())[:MOST_CODES])
    )
    two = {"#000000": "background"} if len(chosen) == 2 else {}
    classes = [
        ClassSettings(name=names.get(colour, two.get(colour, f"class-{colour[1:]}")), colour=colour)
        for colour in chosen
    ]
    return Proposed(unique(classes), list(ignore), mask_tolerance=tolerance)


def two_classes(values: list[int]) -> list[ClassSettings]:
    """Background and the other value."""
    return [
        ClassSettings(name="background" if index == 0 else f"class-{value}", value=value, colour=PALETTE[index])
        for index, value in enumerate(values)
    ]


def unique(classes: list[ClassSettings]) -> list[ClassSettings]:
    """Number the classes whose published name another one has, too."""
    seen: Counter[str] = Counter()
    renamed = []
    for entry in classes:
        seen[entry.name] += 1
        times = seen[entry.name]
        renamed.append(entry if times == 1 else entry.model_copy(update={"name": f"{entry.name[:55]}-{times}"}))
    return renamed


def totals(masks: list[MaskFacts]) -> tuple[dict[int, int], dict[int, int]]:
    """Pixels and solid pixels of each value over index and palette masks."""
    pixels: Counter[int] = Counter()
    solid: Counter[int] = Counter()
    for mask in masks:
        pixels.update({int(key.split()[0]): count for key, count in mask.pixels.items()})
        solid.update({int(key.split()[0]): count for key, count in mask.solid.items()})
    return dict(pixels), dict(solid)


def grey(counts: dict[int, int]) -> dict[int, int]:
    """Nearly neutral colours as one value of 0 to 255."""
    values: Counter[int] = Counter()
    for code, count in counts.items():
        values[sorted(code.to_bytes(3, "big"))[1]] += count
    return dict(values)


def is_smeared(pixels: dict[int, int], solid: dict[int, int], lossy: bool) -> bool:
    """Whether values cluster at 0 and 255 and what lies between occurs along edges only: loss, or smooth resampling.

    Class numbers with 255 for 'not labelled' have small numbers only, and numbers of single objects fill areas.
    """
    if min(pixels) not in range(9) or max(pixels) not in range(247, 256):
        return False
    low = [value for value in pixels if 0 < value <= NEAR]
    high = [value for value in pixels if 255 - NEAR <= value < 255]
    middle = [value for value in pixels if NEAR < value < 255 - NEAR]
    ends, total = pixels.get(0, 0) + pixels.get(255, 0), sum(pixels.values())
    if low and high:
        ends += sum(pixels[value] for value in (*low, *high))
    elif len(middle) < 3 or min(middle) > MIDDLE or max(middle) <= MIDDLE:
        return False
    fuzzy = lossy or fills(low + high, pixels, solid) <= 0.1
    return ends >= 0.8 * total and fuzzy and fills(middle, pixels, solid) <= 0.1


def fills(values: list[int], pixels: dict[int, int], solid: dict[int, int]) -> float:
    """Share of the pixels of some values whose neighbours hold the same one."""
    return sum(solid.get(value, 0) for value in values) / max(1, sum(pixels[value] for value in values))


def doubtful(pixels: dict[int, int]) -> str | None:
    """A sentence on many scattered values beside 0 and 255, which may be two classes that were resampled smoothly."""
    ends, total = pixels.get(0, 0) + pixels.get(255, 0), sum(pixels.values())
    between = [value for value in pixels if value not in (0, 255)]
    if min(pixels) < 0 or max(pixels) != 255 or len(between) < 8 or max(between) < 200 or ends < 0.8 * total:
        return None
    return (
        f"0 and 255 make up {100 * ends / total:.0f} % of the masks and {len(between)} other values the rest. If these are no classes but come from "
        "smooth resampling, leave only the classes of 0 and 255 in collection.yaml and set `mask_tolerance: 127`; better export the masks "
        "with nearest neighbour."
    )


def along_edges(pixels: dict[int, int], solid: dict[int, int]) -> set[int]:
    """Values that never fill an area but only line others: the rims that smooth resampling leaves. At least three, or none."""
    total = sum(pixels.values())
    strays = {value for value, count in pixels.items() if solid.get(value, 0) == 0 and count < 0.02 * total}
    enough = len(strays) >= 3 and len(pixels) - len(strays) >= 2
    return strays if enough and sum(pixels[value] for value in strays) < 0.1 * total else set()


def ignored_values(values: set[int], found: Inspection) -> list[int]:
    """Values that mean 'not labelled', the surest first, as far as two classes are left."""
    declared = {mask.nodata for mask in found.masks} - {None, 0.0}
    negative = sorted(value for value in values if value < 0)
    nodata = sorted(value for value in values if value in declared and value >= 0)
    fills = [value for value in FILL_VALUES if value in values and max(values - {value, *nodata}, default=0) < 100]
    surest = list(dict.fromkeys([*negative, *nodata, *fills]))
    ignored = surest[: max(0, len(values) - 2)]
    if values == {0, 1, 255} and ignored == [255]:
        two = [next((mask.file for mask in found.masks if value in mask.pixels), "") for value in ("1", "255")]
        if all(two) and not any({"1", "255"} <= set(mask.pixels) for mask in found.masks):
            found.problems.append(
                f"{two[0]} holds 0 and 1 but {two[1]} holds 0 and 255, and no mask holds 1 and 255; if 255 means the same as 1, "
                "write all masks alike. It is taken as 'ignore'."
            )
    return ignored


def refuse_many(pixels: dict[int, int], solid: dict[int, int]) -> None:
    """More values than classes can have: not a mask, objects with numbers of their own, or a mask that was saved with loss."""
    if len(pixels) <= MOST_CODES:
        return
    filled = sum(solid.values()) >= 0.3 * sum(pixels.values())  # imagery has hardly any
    if len(pixels) <= MOST_CLASSES and filled:
        return
    if filled and max(pixels) - min(pixels) < 65536:
        raise DataError(
            f"the masks hold {len(pixels)} different values or colours. If each object has a number of its own, give all the same: "
            '`gdal_calc.py -A mask.tif --calc="A>0" --type=Byte --outfile=new.tif`. If they were saved with loss (JPEG), export them as PNG or GeoTIFF.'
        )
    raise DataError(
        f"the masks hold {len(pixels)} different values or colours; they are imagery or were saved with loss (JPEG). Export them as PNG or GeoTIFF."
    )


def refuse_loss(masks: list[MaskFacts], pixels: dict[int, int]) -> None:
    """Values of a file that is compressed with loss cannot be told from its errors, unless there are two far apart."""
    lossy = [mask.file for mask in masks if mask.lossy]
    if lossy and len(pixels) > 2:
        raise DataError(
            f"{lossy[0]}: the masks hold {len(pixels)} different values or colours, and {len(lossy)} of {len(masks)} were saved with loss "
            "(JPEG), which changes values. Export them as PNG or GeoTIFF."
        )


def refuse_one(pixels: dict[int, int], masks: list[MaskFacts]) -> None:
    """One value everywhere teaches nothing."""
    if len(pixels) < 2:
        what = next((key for mask in masks for key in mask.pixels), "NaN")
        raise DataError(
            f"the {len(masks)} masks hold {what} everywhere and no other value, so there is nothing to learn. "
            "Export them again with the objects' values; a viewer may show 0 and 1 both as black, `gdalinfo -hist` tells them apart."
        )


def published_names(root: Path) -> dict[str, str]:
    """Names of colours from a JSON file beside the data: {'#RRGGBB': name}."""
    names: dict[str, str] = {}
    for file in sorted(root.glob("*.json")):
        try:
            entries = read_json(file)
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
