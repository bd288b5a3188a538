"""Scenes that do not go together: other bands, types, scales or ground sample distances than the rest of their collection.

A network takes numbers as they are. A scene of another scale or resolution is a wrong picture to it, so a person chooses: resample,
bring to one scale, or leave out.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kdcore.data.scene import Scene
from kdcore.errors import DataError

SAME = (0.8, 1.25)  # ratio of two ground sample distances that count as one
OTHER_SCALE = 50.0  # times as bright as the others: no light does that, but 0..1 beside 0..255 or 0..10000 does
LEAVE_OUT = "or leave it out: move it to another folder."


def same_resolution(a: float | None, b: float | None) -> bool:
    """Whether two ground sample distances count as one; an unknown one is taken to fit."""
    return not a or not b or SAME[0] <= a / b <= SAME[1]


def check_alike(scenes: Sequence[Scene], resampled: bool) -> None:
    """Refuse scenes whose header tells that they do not go together.

    Args:
        scenes: with and without labels.
        resampled: whether all are read at one ground sample distance.

    Raises:
        DataError: names a scene that is unlike most, what it has and what the others have, and the choice.
    """
    if odd := unlike(scenes, lambda scene: len(scene.bands)):
        one, usual, count = odd
        fewest = list(range(1, min(len(scene.bands) for scene in scenes) + 1))
        raise DataError(
            f"{one.image}: has {len(one.bands)} bands but {usual.image.name} has {len(usual.bands)}{count}. "
            f"Set `bands` in collection.yaml to those that all scenes have, for example {fewest}, {LEAVE_OUT}"
        )
    if odd := unlike(scenes, lambda scene: scene.dtype):
        one, usual, count = odd
        raise DataError(
            f"{one.image}: has values of type {one.dtype} but {usual.image.name} has {usual.dtype}{count}. "
            f"Bring all to one type and scale, for example with `gdal_translate -ot {GDAL_TYPES[usual.dtype]} -scale`, {LEAVE_OUT}"
        )
    known = {scene.image: scene.metres_per_pixel for scene in scenes if scene.metres_per_pixel is not None}
    if resampled or not known:
        return
    middle = float(np.quantile(list(known.values()), 0.5, method="higher"))
    far = [scene for scene in scenes if not same_resolution(scene.metres_per_pixel, middle)]
    if far:
        raise DataError(
            f"{far[0].image}: has {far[0].metres_per_pixel:.3g} m per pixel but the middle of all {len(known)} images is {middle:.3g} m"
            f"{others(far)}. Set `metres_per_pixel: {max(known.values()):.3g}` in collection.yaml, which reads all at that resolution, "
            f"{LEAVE_OUT}"
        )


def check_scales(levels: Mapping[str, float], where: str) -> None:
    """Refuse scenes whose values are of quite another size than those of the others.

    Args:
        levels: root mean square of the values of each scene, by its name; what is 0 or not finite is left out.
        where: the collection, for the message.

    Raises:
        DataError: names a scene, its level and that of the others, and the choice.
    """
    known = {name: level for name, level in levels.items() if np.isfinite(level) and level > 0}
    if not known:
        return
    middle = float(np.quantile(list(known.values()), 0.5, method="higher"))
    far = {name: level for name, level in known.items() if not 1 / OTHER_SCALE < level / middle < OTHER_SCALE}
    if far:
        name, level = next(iter(far.items()))
        also = f" ({len(far)} of {len(known)} are so)" if len(far) > 1 else ""
        raise DataError(
            f"{where}: scene {name!r} has values around {level:.3g} while others have values around {middle:.3g}{also}; they are of "
            "different scales, or hold a nodata value that nobody declared. Bring all to one scale, for example with `gdal_translate -scale`, "
            "set `nodata` in collection.yaml, or leave the scene out."
        )


GDAL_TYPES = {"uint8": "Byte", "uint16": "UInt16", "int16": "Int16", "float32": "Float32"}


def unlike(scenes: Sequence[Scene], of: Callable[[Scene], Any]) -> tuple[Scene, Scene, str] | None:
    """The first scene that is not as most are, one that is, and how many more there are; None where all are alike."""
    values = [of(scene) for scene in scenes]
    usual = max(dict.fromkeys(values), key=values.count)
    odd = [scene for scene, value in zip(scenes, values, strict=True) if value != usual]
    return (odd[0], scenes[values.index(usual)], others(odd)) if odd else None


def others(odd: Sequence[Scene]) -> str:
    """How many more scenes there are of a kind."""
    return f" (and {len(odd) - 1} more are unlike the rest)" if len(odd) > 1 else ""
