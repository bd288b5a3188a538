"""What the bands of a raster measure, as far as it says so, and which three of them make a useful picture."""

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import rasterio
from pydantic import field_validator

from kdcore.data.rasters import open_raster
from kdcore.errors import SettingsError
from kdcore.reading import visible
from kdcore.settings import Frozen

LONGEST = 40  # characters of a band's name
NUMBERS = re.compile(r"[1-9][0-9]{0,4}(,[1-9][0-9]{0,4},[1-9][0-9]{0,4})?")
# Common names of STAC's eo extension, with the words on screen, and what else files call them.
MEANINGS = {
    "coastal": "coastal",
    "blue": "blue",
    "green": "green",
    "yellow": "yellow",
    "red": "red",
    "rededge": "red edge",
    "nir": "near infrared",
    "nir08": "narrow near infrared",
    "nir09": "water vapour",
    "cirrus": "cirrus",
    "swir16": "short-wave infrared 1.6 µm",
    "swir22": "short-wave infrared 2.2 µm",
    "lwir": "thermal infrared",
    "pan": "panchromatic",
}
ALIASES = {
    "r": "red",
    "g": "green",
    "b": "blue",
    "n": "nir",
    "nearinfrared": "nir",
    "nir1": "nir",
    "coastalaerosol": "coastal",
    "aerosol": "coastal",
    "nirnarrow": "nir08",
    "nir8a": "nir08",
    "watervapour": "nir09",
    "watervapor": "nir09",
    "swir1": "swir16",
    "swir2": "swir22",
    "thermal": "lwir",
    "tir": "lwir",
    "panchromatic": "pan",
} | {f"rededge{number}": "rededge" for number in (1, 2, 3, 4, "071", "075", "078")}
# Centres in micrometres, from one to below the other; where ranges of the extension overlap, the more usual meaning.
RANGES = (
    ("coastal", 0.40, 0.455),
    ("blue", 0.455, 0.52),
    ("green", 0.52, 0.59),
    ("yellow", 0.59, 0.63),
    ("red", 0.63, 0.69),
    ("rededge", 0.69, 0.79),
    ("nir", 0.79, 0.90),
    ("nir09", 0.92, 0.97),
    ("cirrus", 1.35, 1.40),
    ("swir16", 1.55, 1.75),
    ("swir22", 2.05, 2.35),
    ("lwir", 8.0, 14.0),
)
# Bands of Sentinel-2, and of Landsat 8 and 9, by their own names.
OF_SENTINEL = "1 coastal, 2 blue, 3 green, 4 red, 5 rededge, 6 rededge, 7 rededge, 8 nir, 8a nir08, 9 nir09, 10 cirrus, 11 swir16, 12 swir22"
OF_LANDSAT = "1 coastal, 2 blue, 3 green, 4 red, 5 nir08, 6 swir16, 7 swir22"
TRUE_COLOUR = ("red", "green", "blue")
# What is drawn red, green and blue; 'nir' stands for the narrow band, too, where there is no other.
COMBINATIONS = {
    "True colour": TRUE_COLOUR,
    "Colour infrared": ("nir", "red", "green"),
    "Short-wave infrared": ("swir22", "nir", "red"),
    "Agriculture": ("swir16", "nir", "blue"),
    "False colour (urban)": ("swir22", "swir16", "red"),
}


class Band(Frozen):
    """One band of a raster.

    Attributes:
        number: in the file, from 1.
        name: what file or collection call it, any text; empty where they do not.
        meaning: key of `MEANINGS`; empty where it is not known.
    """

    number: int
    name: str = ""
    meaning: str = ""

    @field_validator("name")
    @classmethod
    def _short(cls, name: str) -> str:
        return visible(name)[:LONGEST]

    @property
    def label(self) -> str:
        """'band 8 (B8, near infrared)': any text, so escape it where markup is understood."""
        known = MEANINGS.get(self.meaning, "")
        more = [text for text in (self.name, known) if text]
        if len(more) == 2 and plain_name(self.name) in (plain_name(known), self.meaning):
            more = [known]
        return " ".join([f"band {self.number}", *([f"({', '.join(more)})"] if more else [])])


def read_bands(path: Path, names: Sequence[str] = (), max_declared_gb: float = 100.0) -> tuple[Band, ...]:
    """All bands of a raster with what they are called and mean.

    Args:
        path: the raster.
        names: what somebody calls them, in the file's order; the file's own names without.
        max_declared_gb: see `open_raster`.

    Raises:
        DataError: the raster cannot be read.
    """
    with open_raster(path, max_declared_gb) as dataset:
        own = [(given or "").strip() for given in dataset.descriptions]
        called = [*names, *own[len(names) :]][: dataset.count] if names else own
        by_name = meanings_of(called)
        return tuple(
            Band(
                number=number,
                name=called[number - 1],
                meaning=by_name[number - 1] or wavelength_meaning(dataset, number) or drawn_as(dataset, number),
            )
            for number in dataset.indexes
        )


def plain_name(name: str) -> str:
    """A name without what is written differently from file to file: 'Near-Infrared' is 'nearinfrared'."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def meanings_of(names: Sequence[str]) -> list[str]:
    """What names mean, empty where they do not say: common names, and those of Sentinel-2 and of Landsat 8 and 9."""
    short = [plain_name(name) for name in names]
    numbers = [re.fullmatch(r"(sr)?b0?([0-9]{1,2}a?)", name) for name in short]
    found = {match[2] for match in numbers if match}
    landsat = any(match and match[1] for match in numbers)
    sentinel = "8a" in found or "b08" in short
    text = OF_LANDSAT if landsat else OF_SENTINEL if sentinel else ""
    sensor = dict(pair.split() for pair in text.split(", ") if pair)
    return [
        name if name in MEANINGS else ALIASES.get(name) or (sensor.get(match[2], "") if match else "")
        for name, match in zip(short, numbers, strict=True)
    ]


def wavelength_meaning(dataset: rasterio.DatasetReader, number: int) -> str:
    """What the wavelength that a file gives for a band means; empty where it gives none."""
    tags = {key.lower(): text for space in (None, "IMAGERY") for key, text in dataset.tags(number, ns=space).items()}
    for key in ("central_wavelength_um", "wavelength"):
        with suppress(KeyError, ValueError):
            centre = float(tags[key])
            micrometres = centre / 1000 if centre > 100 else centre  # nanometers, as ENVI's headers mostly have
            return next((meaning for meaning, low, high in RANGES if low <= micrometres < high), "")
    return ""


def drawn_as(dataset: rasterio.DatasetReader, number: int) -> str:
    """The meaning that a file's colour interpretation names."""
    name = dataset.colorinterp[number - 1].name
    return name if name in MEANINGS and name != "yellow" else ""  # which is one of the inks there


def named_colours(bands: Iterable[Band], wanted: Sequence[str]) -> tuple[int, ...]:
    """The numbers of the bands that have these meanings, the first of several each; empty where one is missing."""
    by_meaning: dict[str, int] = {}
    for band in bands:
        by_meaning.setdefault(band.meaning, band.number)
    if "nir08" in by_meaning:
        by_meaning.setdefault("nir", by_meaning["nir08"])
    found = tuple(by_meaning[meaning] for meaning in wanted if meaning in by_meaning)
    return found if len(found) == len(wanted) else ()


def combinations(bands: Sequence[Band]) -> dict[tuple[int, ...], str]:
    """The useful pictures that bands allow whose meaning is known: what is drawn red, green and blue, and its name."""
    found = {named_colours(bands, wanted): name for name, wanted in COMBINATIONS.items()}
    return {numbers: name for numbers, name in found.items() if numbers}


def parse_numbers(text: str) -> tuple[int, ...]:
    """Band numbers in an address: one that is drawn grey, or three that are drawn red, green and blue; none for an empty text.

    Raises:
        SettingsError: it is anything else.
    """
    if text and not NUMBERS.fullmatch(text):
        raise SettingsError("`bands` must be one or three band numbers with commas between them, for example 8,4,3.")
    return tuple(int(number) for number in text.split(",") if number)


def in_words(numbers: Sequence[int], bands: Sequence[Band]) -> str:
    """What a picture shows: 'red is band 8 (near infrared), green is ...'."""
    labels = {band.number: band.label for band in bands}
    if len(numbers) == 1:
        return f"grey is {labels[numbers[0]]}"
    return ", ".join(f"{colour} is {labels[number]}" for colour, number in zip(TRUE_COLOUR, numbers, strict=True))
