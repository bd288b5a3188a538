"""A raster that a network has never seen: whether it fits what the network was trained for, and how it is read. Never imports torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kdcore.data.mixed import same_resolution
from kdcore.data.rasters import describe_points, georeference, open_raster
from kdcore.data.scene import Scene, SceneReader, describe_scene
from kdcore.errors import DataError
from kdcore.settings import ClassSettings, CollectionSettings, SplitSettings

CACHE_MB = 64


class Facts(Protocol):
    """What a network was trained for. `CheckpointInfo` and `OnnxInfo` are both of this kind."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of all classes."""

    @property
    def colours(self) -> tuple[str | None, ...]:
        """Of all classes as '#RRGGBB', None for one without; empty where nobody said."""

    @property
    def bands(self) -> int:
        """Bands of the imagery that it is given."""

    @property
    def band_numbers(self) -> tuple[int, ...]:
        """Their numbers in the source files, from 1."""

    @property
    def metres_per_pixel(self) -> float | None:
        """Ground sample distance of the imagery; None where unknown."""

    @property
    def dtype(self) -> str:
        """Of the imagery."""


@dataclass(frozen=True)
class Source:
    """A raster on the pixels that a network shall see.

    Attributes:
        scene: its size and place.
        reader: reads windows of it.
        note: what is worth knowing about the result, or an empty text.
    """

    scene: Scene
    reader: SceneReader
    note: str


def open_source(
    path: Path,
    facts: Facts,
    *,
    bands: tuple[int, ...] | None = None,
    nodata: float | None = None,
    resample: bool = True,
    max_declared_gb: float = 100.0,
) -> Source:
    """Open a raster for a network.

    Args:
        path: the raster.
        facts: what the network was trained for.
        bands: numbers of the bands to give to it, from 1; None for those it was trained on.
        nodata: value that stands for no data where the file does not say so.
        resample: bring it to the resolution that the network was trained on; else a raster of another one is refused.
        max_declared_gb: that a header may declare, where the file itself is far smaller.

    Raises:
        DataError: unreadable, or its bands, type or resolution are not what the network was trained on.
    """
    with open_raster(path, max_declared_gb) as dataset:
        count, dtype, place = dataset.count, dataset.dtypes[0], georeference(dataset)
    numbers = bands or facts.band_numbers
    if len(numbers) != facts.bands:
        raise DataError(f"{path}: the network takes {facts.bands} bands, but --bands names {len(numbers)}.")
    if max(numbers) > count or min(numbers) < 1:
        wanted = ", ".join(map(str, numbers))
        raise DataError(
            f"{path}: has {count} bands, but the networks were trained on bands {wanted}. "
            "Choose a file of the same kind, or name the bands that mean the same."
        )
    check_type(path, dtype, facts)

    def settings(metres: float | None) -> CollectionSettings:
        return CollectionSettings(
            name="raster",
            classes=tuple(ClassSettings(name=name) for name in facts.classes),
            split=SplitSettings(train=("x",), validation=("x",), test=("x",)),
            bands=numbers,
            nodata=nodata,
            metres_per_pixel=metres,
            max_declared_gb=max_declared_gb,
        )

    trained = facts.metres_per_pixel if place.resolution else None
    if trained is not None and not resample:
        own = describe_scene(path, settings(None)).metres_per_pixel
        if own is not None and not same_resolution(own, trained):
            if own > trained:
                describe_scene(path, settings(trained))  # refuses pixels so large that --resample is no help
            raise DataError(
                f"{path}: has {own:.3g} m per pixel, but the network was trained on {trained:.3g} m. "
                "Read it at the network's resolution with --resample, or bring the file to it."
            )
        trained = None
    chosen = settings(trained)
    scene = describe_scene(path, chosen)
    notes = (describe_points(place.off), describe_resolution(scene, facts))
    return Source(scene, SceneReader(chosen, cache_mb=CACHE_MB), " ".join(filter(None, notes)))


def check_type(where: Path, dtype: str, facts: Facts) -> None:
    """Refuse imagery of another type of numbers than a network was trained on.

    Raises:
        DataError: says both types.
    """
    if dtype != facts.dtype:
        raise DataError(
            f"{where}: has values of type {dtype}, but the networks were trained on {facts.dtype}; what they say would mean nothing. "
            "Bring the file to the same type and scale."
        )


def describe_resolution(scene: Scene, facts: Facts) -> str:
    """What to tell about the resolution: that it is not known, or that the file is much coarser than what was learnt."""
    if facts.metres_per_pixel is None:
        return ""
    if scene.metres_per_pixel is None:
        return (
            f"The file does not say how large its pixels are. The networks were trained on {facts.metres_per_pixel:.3g} m per pixel; "
            "at another resolution they are wrong more often."
        )
    if max(scene.scale) < 0.5:
        return (
            f"The file's pixels are {1 / max(scene.scale):.1f} times as large as those that the networks were trained on "
            f"({facts.metres_per_pixel:.3g} m), so they see a blurred picture and are wrong more often."
        )
    return ""
