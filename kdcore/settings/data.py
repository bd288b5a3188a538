"""What a collection is: the contents of `collection.yaml`."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

import regex
from pydantic import Field, field_validator, model_validator

from kdcore.settings.fields import Frozen, check_slug, own_path

COLOUR = re.compile(r"#[0-9A-Fa-f]{6}")
PLACEHOLDER = re.compile(r"\{([A-Za-z]\w*)\}")
Places = str | tuple[str, ...]

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
MOST_BANDS = 1000
MOST_CELLS = 100_000  # of a grid
# Okabe & Ito's colour-blind-safe palette, then Tol's muted one.
PALETTE = (
    *("#999999", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#000000"),
    *("#332288", "#88CCEE", "#44AA99", "#117733", "#DDCC77", "#CC6677", "#882255", "#AA4499", "#661100"),
)


def check_colour(text: str) -> str:
    """Return `text` in upper case if it is '#RRGGBB'."""
    if not COLOUR.fullmatch(text):
        raise ValueError(f"{text!r} is no colour; write it as '#RRGGBB'")
    return text.upper()


class ClassSettings(Frozen):
    """One class: by its value in index masks, by its colour in RGB or palette masks, by its name in polygons.

    With a `value` the masks are read as index masks and the colour only serves to draw.
    """

    name: str = Field(min_length=1, max_length=60)
    value: int | None = None
    colour: str | None = None

    @field_validator("colour")
    @classmethod
    def _colour(cls, colour: str | None) -> str | None:
        return None if colour is None else check_colour(colour)


class SplitSettings(Frozen):
    """Which part of the imagery trains, validates and tests: whole scenes, or blocks of a scene.

    Names are shell patterns ('tile[134]', 'r*c5'). Blocks are cells of `grid` (rows, columns) laid over every scene and
    are called r1c1 ... from the upper left corner. `buffer` is in pixels at the collection's resolution; a study raises it to its crop.
    """

    by: Literal["scene", "block"] = "scene"
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    grid: tuple[int, int] | None = None
    buffer: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.by == "block" and (self.grid is None or min(self.grid) < 1):
            raise ValueError("a split by block needs `grid: [rows, columns]`, for example [4, 6]")
        if self.grid is not None and self.grid[0] * self.grid[1] > MOST_CELLS:
            raise ValueError(
                f"a grid of {self.grid[0]} x {self.grid[1]} blocks; at most {MOST_CELLS:,} are laid over a scene"
            )
        if self.by == "scene" and self.grid is not None:
            raise ValueError("`grid` only belongs to a split by block; set `by: block` or remove it")
        for name in SPLITS:
            if not getattr(self, name):
                raise ValueError(f"the {name} part of the split is empty; name at least one {self.by}")
        return self


class CollectionSettings(Frozen):
    """The contents of `collection.yaml`: classes, split and how to read the files. See docs/data-format.md.

    `images`, `masks`, `labels` and `unlabelled` are a folder, or a path with `{placeholders}` and `*`, or several of these: see
    `kdcore.data.pairing`.
    """

    name: str
    root: Path | None = None
    images: Places = "images"
    masks: Places = "masks"
    labels: Places = "labels"
    unlabelled: Places = "unlabelled"
    labels_from: Literal["masks", "polygons"] | None = None
    image_field: str | None = None
    classes: tuple[ClassSettings, ...]
    class_field: str | None = None
    ignore: tuple[int | str, ...] = ()
    mask_tolerance: int = Field(default=0, ge=0, le=127)
    area_of_interest: str | None = None
    bands: tuple[int, ...] | None = None
    band_names: tuple[str, ...] = ()
    nodata: float | None = None
    scene: str | None = None
    split: SplitSettings
    metres_per_pixel: float | None = Field(default=None, ge=0.001, le=1_000_000)
    native_metres_per_pixel: float | None = Field(default=None, ge=0.001, le=1_000_000)
    max_declared_gb: float = Field(default=100.0, gt=0)

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        return check_slug(name)

    @field_validator("root")
    @classmethod
    def _root(cls, root: Path | None) -> Path | None:
        if root is not None:
            own_path(root)
        return root

    @field_validator("images", "masks", "labels", "unlabelled", "area_of_interest")
    @classmethod
    def _inside(cls, places: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        for place in (places,) if isinstance(places, str) else places or ():
            if Path(place).is_absolute() or ".." in Path(place).parts:
                raise ValueError(
                    f"{place!r} leads outside the collection's folder; name a folder inside it, or set `root:`"
                )
        return places

    @field_validator("images", "masks", "labels", "unlabelled")
    @classmethod
    def _placeholders(cls, places: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for place in (places,) if isinstance(places, str) else places:
            if re.search(r"[{}]", PLACEHOLDER.sub("", place)):
                raise ValueError(
                    f"{place!r} has a brace that belongs to no placeholder; a placeholder is a word in braces, for example "
                    "'images/{name}_sat'"
                )
        return places

    @field_validator("ignore")
    @classmethod
    def _ignore(cls, ignore: tuple[int | str, ...]) -> tuple[int | str, ...]:
        """Values, colours ('#RRGGBB') or, in a field of polygons, names."""
        return tuple(check_colour(entry) if str(entry).startswith("#") else entry for entry in ignore)  # type: ignore[arg-type]

    @field_validator("scene")
    @classmethod
    def _pattern(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                groups = regex.compile(pattern).groupindex
            except (regex.error, RecursionError, OverflowError) as error:
                raise ValueError(f"`scene: {pattern[:100]}` is no regular expression: {error}") from error
            if "scene" not in groups:
                raise ValueError(f"`scene: {pattern}` needs a named group, for example 'tile(?P<scene>\\d+)_part\\d+'")
        return pattern

    @model_validator(mode="after")
    def _classes(self) -> Self:
        names = [entry.name for entry in self.classes]
        if len(names) < 2:
            raise ValueError(
                f"one class only ({', '.join(names)}); segmentation needs at least two: add the rest, for example 'background'"
            )
        if len(names) > 200:
            raise ValueError(f"{len(names)} classes; at most 200 are supported")
        for what, values in (
            ("name", names),
            ("value", [str(c.value) for c in self.classes if c.value is not None]),
            ("colour", [c.colour for c in self.classes if c.colour is not None]),
        ):
            repeated = sorted(value for value, times in Counter(values).items() if times > 1)
            if repeated:
                raise ValueError(f"the {what} {repeated[0]!r} belongs to two classes; each needs its own")
        valued = [c.value is not None for c in self.classes]
        if any(valued) and not all(valued):
            raise ValueError(
                "some classes have a `value` and some do not; give every class its value in the masks, or none"
            )
        if self.bands is not None and (not self.bands or min(self.bands) < 1):
            raise ValueError("`bands` are numbered from 1, for example [4, 3, 2]")
        if self.bands is not None and len(self.bands) > MOST_BANDS:
            raise ValueError(f"`bands` names {len(self.bands):,} bands; at most {MOST_BANDS:,} are given to a network")
        if len(self.band_names) > MOST_BANDS:
            raise ValueError(f"`band_names` has {len(self.band_names):,} names; at most {MOST_BANDS:,} are read")
        return self

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of all classes in order; the first is the background where labels are polygons or there are two."""
        return tuple(entry.name for entry in self.classes)

    @property
    def binary(self) -> bool:
        """Whether there are two classes: then networks have one logit, for the second class."""
        return len(self.classes) == 2

    @property
    def scored(self) -> tuple[int, ...]:
        """Indices of the classes that get a probability map: the second of two, or all of more."""
        return (1,) if self.binary else tuple(range(len(self.classes)))


def class_colours(given: Sequence[str | None]) -> list[str]:
    """The collection's colours where every class has one, else the palette for all, so that no two look alike."""
    known = [colour for colour in given if colour]
    if len(known) == len(given):
        return known
    return [PALETTE[index % len(PALETTE)] for index in range(len(given))]
