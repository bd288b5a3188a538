"""What the demo area is made of: how hard it is, its colours, and how its districts differ in style and light."""

from dataclasses import dataclass, field
from typing import Literal

Colour = tuple[float, float, float]  # red, green, blue as seen in full sun, 0..255
Zone = Literal[
    "dense", "houses", "towers", "industry", "parking", "field", "vineyard", "orchard", "park", "forest", "waste"
]
Roof = Literal["flat", "gable", "hip"]
Season = Literal["spring", "summer", "dry", "autumn"]
Part = Literal["train", "validation", "test", "unlabelled"]


@dataclass(frozen=True)
class Difficulty:
    """How hard the area is. Every value is a reason that real imagery is hard for, too.

    Attributes:
        lookalike_roofs: share of roofs in the colours of this district's soil, asphalt and lawn: only shape, edges and
            shadow tell them apart.
        decoys: courts, terraces, foundations and foil that have a roof's shape and colour but no height, as a factor.
        lookalike_water: share of ponds that are green as a lawn or dark as a shadow.
        contrast: how far roof colours lie from the district's mean colour; 1 as painted, 0 all the same.
        relief: how strongly slopes and crowns are shaded by the sun; 0 paints them flat.
        canopy: how much of the streets lies under trees; 1 as the district's style says.
        clutter: cars, crates and roof units, as a factor.
        texture: strength of the fine structure of ground and roofs, which hides edges.
        haze: factor on the district's haze.
        noise: standard deviation of the sensor noise, in values of 255.
        blur: standard deviation of the sensor's point spread function, in pixels.
    """

    lookalike_roofs: float = 0.45
    decoys: float = 1.0
    lookalike_water: float = 0.5
    contrast: float = 0.85
    relief: float = 1.0
    canopy: float = 1.0
    clutter: float = 1.0
    texture: float = 1.0
    haze: float = 1.0
    noise: float = 4.0
    blur: float = 0.75


DIFFICULTY = Difficulty()

ASPHALT: tuple[Colour, ...] = ((124, 122, 118), (104, 103, 103), (141, 137, 130))
CONCRETE: tuple[Colour, ...] = ((168, 163, 153), (152, 149, 142), (182, 176, 164))
SOILS: dict[str, Colour] = {
    "brown": (139, 117, 91),
    "pale": (178, 161, 133),
    "red": (150, 110, 83),
    "grey": (148, 140, 127),
}
GRASS: dict[Season, Colour] = {
    "spring": (93, 114, 62),
    "summer": (90, 104, 63),
    "dry": (146, 134, 95),
    "autumn": (115, 109, 72),
}
LEAVES: dict[Season, tuple[Colour, ...]] = {
    "spring": ((74, 98, 52), (62, 88, 48), (92, 112, 62), (134, 122, 96)),
    "summer": ((54, 76, 43), (62, 86, 48), (47, 66, 42), (78, 94, 54)),
    "dry": ((74, 82, 54), (92, 94, 64), (60, 72, 48), (112, 104, 74)),
    "autumn": ((92, 88, 50), (128, 96, 52), (68, 78, 46), (112, 78, 48)),
}
WATERS: dict[str, Colour] = {
    "dark": (38, 48, 50),
    "green": (62, 80, 58),
    "brown": (104, 98, 78),
    "blue": (48, 70, 84),
    "lawn": (86, 102, 62),
}
SKY: Colour = (170, 180, 190)
CROPS: tuple[Colour, ...] = ((176, 158, 104), (150, 140, 84), (118, 128, 74), (100, 118, 58), (166, 138, 96))
POOL: Colour = (96, 168, 186)
ROOFS: dict[str, tuple[Colour, ...]] = {
    "tile": ((166, 92, 68), (148, 84, 66), (178, 112, 80), (128, 78, 62), (118, 104, 94)),
    "slate": ((96, 98, 104), (112, 108, 106), (82, 82, 86), (134, 96, 80), (150, 146, 140)),
    "metal": ((72, 110, 158), (172, 176, 178), (132, 92, 70), (98, 122, 104), (198, 198, 194), (150, 82, 70)),
    "flat": ((188, 184, 176), (160, 157, 150), (126, 124, 122), (214, 211, 204), (94, 93, 94), (172, 150, 128)),
}


@dataclass(frozen=True)
class District:
    """One scene: what is built there and in which light it was taken.

    Attributes:
        name: the scene's name.
        part: of the split.
        zones: relative weights of what blocks between streets are used for.
        spacing: distance of parallel streets, along and across the main direction, in metres.
        bend: how much the streets' direction turns over the district, in radians.
        missing: share of street segments left out, which makes blocks of many sizes and dead ends.
        unpaved: share of minor streets in the soil's colour.
        roofs: relative weights of the roof palettes.
        soil, season: keys of the colours above.
        river: width of the river in metres, and its colour.
        trees: density of trees in gardens and along streets; 1 is leafy.
        sun: azimuth (from north, clockwise) and elevation in degrees.
        haze: share of the light that comes from the air.
        tint: gain of red, green and blue.
    """

    name: str
    part: Part
    zones: dict[Zone, float]
    spacing: tuple[float, float]
    bend: float
    missing: float
    unpaved: float
    roofs: dict[str, float]
    soil: str
    season: Season
    river: tuple[float, str]
    trees: float
    sun: tuple[float, float]
    haze: float
    tint: Colour = field(default=(1.0, 1.0, 1.0))


DISTRICTS: tuple[District, ...] = (
    District(
        name="oldtown",
        part="train",
        zones={"dense": 7, "towers": 1, "park": 1.2, "parking": 0.6, "waste": 0.6, "houses": 1},
        spacing=(62, 48),
        bend=0.9,
        missing=0.18,
        unpaved=0.15,
        roofs={"tile": 5, "flat": 3, "metal": 1},
        soil="brown",
        season="summer",
        river=(17, "green"),
        trees=0.6,
        sun=(152, 48),
        haze=0.10,
    ),
    District(
        name="gardens",
        part="train",
        zones={"houses": 8, "park": 1.4, "forest": 0.5, "dense": 0.5, "parking": 0.4, "field": 0.6, "orchard": 0.6},
        spacing=(74, 96),
        bend=0.7,
        missing=0.15,
        unpaved=0.1,
        roofs={"slate": 4, "tile": 3, "flat": 1},
        soil="brown",
        season="spring",
        river=(13, "brown"),
        trees=1.15,
        sun=(205, 55),
        haze=0.06,
    ),
    District(
        name="works",
        part="train",
        zones={"industry": 6, "parking": 2, "waste": 1.6, "houses": 1, "park": 0.6, "field": 0.6},
        spacing=(105, 140),
        bend=0.3,
        missing=0.12,
        unpaved=0.25,
        roofs={"metal": 4, "flat": 5},
        soil="grey",
        season="dry",
        river=(30, "dark"),
        trees=0.45,
        sun=(128, 40),
        haze=0.16,
        tint=(1.02, 1.0, 0.97),
    ),
    District(
        name="farmland",
        part="train",
        zones={"field": 7, "forest": 1.2, "vineyard": 1.3, "orchard": 1.4, "houses": 1.8, "park": 0.6, "waste": 0.4},
        spacing=(110, 135),
        bend=0.8,
        missing=0.2,
        unpaved=0.65,
        roofs={"tile": 4, "metal": 2, "slate": 2},
        soil="red",
        season="autumn",
        river=(15, "dark"),
        trees=0.9,
        sun=(172, 35),
        haze=0.08,
        tint=(1.03, 1.0, 0.96),
    ),
    District(
        name="valley",
        part="validation",
        zones={
            "houses": 3,
            "dense": 1.5,
            "industry": 1.2,
            "field": 1.6,
            "orchard": 0.7,
            "park": 1,
            "parking": 0.6,
            "forest": 0.6,
        },
        spacing=(84, 92),
        bend=0.9,
        missing=0.18,
        unpaved=0.35,
        roofs={"tile": 3, "metal": 2, "flat": 2, "slate": 1},
        soil="pale",
        season="summer",
        river=(20, "brown"),
        trees=0.85,
        sun=(190, 44),
        haze=0.14,
        tint=(0.98, 1.0, 1.02),
    ),
    District(
        name="riverside",
        part="test",
        zones={
            "dense": 3,
            "houses": 2.5,
            "towers": 2,
            "industry": 1,
            "park": 1.4,
            "parking": 1,
            "waste": 0.5,
            "forest": 0.4,
        },
        spacing=(76, 84),
        bend=1.0,
        missing=0.18,
        unpaved=0.2,
        roofs={"flat": 4, "tile": 3, "slate": 2},
        soil="grey",
        season="autumn",
        river=(32, "green"),
        trees=0.9,
        sun=(236, 38),
        haze=0.12,
        tint=(1.02, 0.99, 0.97),
    ),
    District(
        name="outskirts",
        part="test",
        zones={
            "houses": 2.4,
            "industry": 2,
            "field": 2,
            "vineyard": 0.8,
            "waste": 1.2,
            "orchard": 0.8,
            "dense": 1,
            "forest": 0.5,
        },
        spacing=(92, 110),
        bend=0.6,
        missing=0.16,
        unpaved=0.5,
        roofs={"metal": 4, "flat": 3, "tile": 2},
        soil="pale",
        season="dry",
        river=(16, "brown"),
        trees=0.7,
        sun=(108, 46),
        haze=0.2,
        tint=(1.0, 1.0, 0.98),
    ),
    District(
        name="market",
        part="unlabelled",
        zones={"dense": 3, "houses": 2, "industry": 1.4, "field": 1.2, "park": 1, "parking": 0.8, "orchard": 0.5},
        spacing=(80, 90),
        bend=0.9,
        missing=0.18,
        unpaved=0.3,
        roofs={"flat": 3, "tile": 3, "metal": 2, "slate": 2},
        soil="brown",
        season="dry",
        river=(22, "green"),
        trees=0.8,
        sun=(222, 42),
        haze=0.15,
    ),
)
