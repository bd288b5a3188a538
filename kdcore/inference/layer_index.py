"""What a study's map can show: its scenes, where they lie, their classes. Read by the tile server and by the pages."""

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

from affine import Affine
from pydantic import field_validator, model_validator
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.warp import transform_bounds

from kdcore.bounded import remembered
from kdcore.data.spectrum import Band
from kdcore.errors import RunError, SettingsError
from kdcore.reading import read_bytes, visible
from kdcore.settings import Frozen

WEB_MERCATOR = CRS.from_epsg(3857)
DEGREES = CRS.from_epsg(4326)
FOLDER = "layers"
INDEX = "layers.json"

Bounds = tuple[tuple[float, float], tuple[float, float]]
Rectangle = tuple[int, int, int, int]
"""Row, column, height and width in pixels; `kdcore.data.scene.Box` is one."""


class SceneLayers(Frozen):
    """One scene as the map shows it.

    Attributes:
        id: a slug without underscores, unique in the study; names the scene in addresses and its folder.
        name: the scene's own name, which also names the runs' maps (`runs/*/maps/<name>.tif`).
        height, width: of the whole scene in pixels at the collection's resolution.
        part: row, column, height and width of the rectangle that the imagery covers and outside which nothing is tested.
        georeferenced: whether the raster said where it lies; if not, it lies around 0/0 of web mercator.
        unit: of the flat map of a scene without georeference; 'pixels' where its resolution is unknown.
        metres_per_pixel: on the ground; None where unknown.
        crs: of `transform`, as 'EPSG:number' or WKT.
        transform: column and row of the whole scene to the CRS, (a, b, c, d, e, f).
        zoom: web-mercator zoom at which a map pixel is about as large as a pixel of the scene.
        bands: of the imagery, in its order; none where it is shown in one way only: as it is, or as one band in grey.
        shown: numbers of the bands that are drawn red, green and blue unless a person asks for others, or of the one drawn grey.
    """

    id: str
    name: str
    height: int
    width: int
    part: Rectangle
    georeferenced: bool
    unit: Literal["metres", "pixels"]
    metres_per_pixel: float | None
    crs: str
    transform: tuple[float, float, float, float, float, float]
    zoom: int
    bands: tuple[Band, ...] = ()
    shown: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _shown(self) -> Self:
        if self.bands and not (len(self.shown) in (1, 3) and {*self.shown} <= {band.number for band in self.bands}):
            raise ValueError("`shown` are one or three of the bands")
        return self

    def stored(self, numbers: Sequence[int] = ()) -> tuple[int, ...] | None:
        """Where the imagery on disk holds bands, from 1; None for all of it.

        Args:
            numbers: of the bands in the raster; those that are shown without.

        Raises:
            SettingsError: it does not hold one of them.
        """
        kept = [band.number for band in self.bands]
        missing = [number for number in numbers if number not in kept]
        if missing and not kept:
            raise SettingsError("The bands of this imagery cannot be chosen; leave `bands` out.")
        if missing:
            raise SettingsError(f"This imagery has no band {missing[0]}; its bands are {', '.join(map(str, kept))}.")
        return tuple(kept.index(number) + 1 for number in numbers or self.shown) if kept else None

    @cached_property
    def affine(self) -> Affine:
        """Column and row of the whole scene to the CRS."""
        return Affine(*self.transform)

    @cached_property
    def coordinates(self) -> CRS:
        """The CRS of `transform`."""
        return CRS.from_string(self.crs)

    @property
    def crs_name(self) -> str:
        """'EPSG:32645', or the name in the WKT of a CRS without a number."""
        return self.crs.split('"')[1] if '"' in self.crs else self.crs

    @property
    def bounds(self) -> Bounds:
        """South-west and north-east corner of `part`, (latitude, longitude) in degrees."""
        return self.bounds_of(self.part)

    def bounds_of(self, rectangle: Rectangle) -> Bounds:
        """South-west and north-east corner, (latitude, longitude) in degrees, of a rectangle of the scene."""
        row, column, height, width = rectangle
        corners = [self.affine @ (x, y) for x in (column, column + width) for y in (row, row + height)]
        xs, ys = [x for x, _ in corners], [y for _, y in corners]
        west, south, east, north = transform_bounds(self.coordinates, DEGREES, min(xs), min(ys), max(xs), max(ys))
        return (south, west), (north, east)

    def pixel_at(self, latitude: float, longitude: float) -> tuple[int, int] | None:
        """Row and column of the scene's pixel at a place in degrees; None outside the part that is shown."""
        to_scene = Transformer.from_crs("EPSG:4326", self.crs, always_xy=True)
        x, y = to_scene.transform(longitude, latitude)  # infinite where the projection does not reach
        column, row = ~self.affine @ (x, y)
        top, left, height, width = self.part
        inside = top <= row < top + height and left <= column < left + width
        return (int(row), int(column)) if inside else None


class StudyLayers(Frozen):
    """The contents of `layers/layers.json`.

    Attributes:
        data: hash of the collection that the layers were written from.
        classes, colours: of all classes, in order.
        scored: indices of the classes that the runs' maps have a band for.
        scenes: those with test pixels.
    """

    data: str
    classes: tuple[str, ...]
    colours: tuple[str, ...]
    scored: tuple[int, ...]
    scenes: tuple[SceneLayers, ...]

    @field_validator("classes")
    @classmethod
    def _visible(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(visible(name) for name in classes)

    @property
    def binary(self) -> bool:
        """Whether there are two classes: then the runs' maps have one band, of the second class."""
        return len(self.classes) == 2

    @classmethod
    def load(cls, study: Path) -> "StudyLayers":
        """Read what `write_layers` wrote into a study's folder.

        Raises:
            RunError: there are none, or the file is broken.
        """
        try:
            return read_index(study / FOLDER / INDEX)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise RunError(
                f"{study.name}: this study has no map yet. Maps are made at the end of a study; start it again to go on."
            ) from error
        except (OSError, ValueError) as error:
            raise RunError(
                f"{study / FOLDER / INDEX}: is broken. Remove it and start the study again; training is not repeated."
            ) from error

    def scene(self, scene_id: str) -> SceneLayers:
        """The scene with this id.

        Raises:
            RunError: there is none.
        """
        for scene in self.scenes:
            if scene.id == scene_id:
                return scene
        raise RunError(f"There is no scene {scene_id[:100]!r} in this study.")

    def scene_named(self, name: str) -> SceneLayers | None:
        """The scene with this name of its own, as scores and maps have it; None without one."""
        return next((scene for scene in self.scenes if scene.name == name), None)


@remembered(64)
def read_index(file: Path) -> StudyLayers:
    """Read a study's `layers.json`, which each tile of the map asks for."""
    return StudyLayers.model_validate_json(read_bytes(file))


def slugs(names: list[str]) -> list[str]:
    """A distinct slug for each name: lower case letters, digits and '-' only.

    Underscores are left out because streamlit-folium drops what follows them before it compares maps.
    """
    found: list[str] = []
    for name in names:
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60].strip("-") or "scene"
        number = 1
        candidate = slug
        while candidate in found:
            number += 1
            candidate = f"{slug}-{number}"
        found.append(candidate)
    return found
