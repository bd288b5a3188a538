"""What temperature does to a teacher's answer, shown on real pixels of a finished study.

A study keeps probabilities, not logits. That is enough: a softmax at temperature T of logits z equals one of `log p` where p is
the softmax of z at temperature 1, because both differ by a constant that a softmax does not see.
"""

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning

from kdcore.evaluation.levels import LEVELS, NODATA

LOOKED_AT = 512  # pixels: a larger map is looked at in every n-th row and column
SURENESS = {"sure": 0.97, "in doubt": 0.80, "torn": 0.52}  # largest probability of the pixels that are shown


class Pixel(NamedTuple):
    """One pixel of a map.

    Attributes:
        kind: how sure the teacher is: a key of `SURENESS`.
        scene: name of the map's file without suffix.
        row, column: in the map.
        probabilities: (classes,) float64, summing to 1.
    """

    kind: str
    scene: str
    row: int
    column: int
    probabilities: NDArray[np.float64]


def soften(probabilities: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Class probabilities (classes,) at another temperature: `softmax(log p / T)`.

    A probability of 0 stands for anything below half of the smallest stored step, and is taken as that half.
    """
    smallest = 0.5 / (LEVELS - 1)
    scaled = np.log(np.maximum(probabilities, smallest)) / temperature
    powers = np.exp(scaled - scaled.max())
    softened: NDArray[np.float64] = powers / powers.sum()
    return softened


def telling_pixels(maps: Path) -> list[Pixel]:
    """A pixel that the teacher is sure of, one that it doubts, one between two classes; fewer where the maps hold no such.

    Of the pixels that are about that sure the one is taken whose doubt is spread over most classes.

    Args:
        maps: a run's folder of probability maps (one band for the second of two classes, else one a class).
    """
    found: list[Pixel] = []
    candidates = [(path.stem, *read_coarsely(path)) for path in sorted(maps.glob("*.tif"))]
    for kind, sureness in SURENESS.items():
        best: tuple[float, Pixel] | None = None
        for scene, stack, rows, columns in candidates:
            largest = stack.max(axis=0)
            entropy = -(stack * np.log(np.maximum(stack, 1e-6))).sum(axis=0)
            worth = np.where(np.abs(largest - sureness) < 0.02, entropy, -1.0)
            index = np.unravel_index(int(worth.argmax()), worth.shape)
            if worth[index] >= 0 and (best is None or worth[index] > best[0]):
                probabilities = stack[:, index[0], index[1]]
                pixel = Pixel(
                    kind, scene, int(rows[index[0]]), int(columns[index[1]]), probabilities / probabilities.sum()
                )
                best = float(worth[index]), pixel
        if best is not None:
            found.append(best[1])
    return found


def read_coarsely(path: Path) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]]:
    """Every n-th pixel of a map: (classes, H, W) probabilities that are 0 throughout on nodata, and their rows and columns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as dataset:
            height, width = min(LOOKED_AT, dataset.height), min(LOOKED_AT, dataset.width)
            levels = dataset.read(out_shape=(dataset.count, height, width), resampling=Resampling.nearest)
            rows = ((np.arange(height) + 0.5) * dataset.height / height).astype(np.intp)
            columns = ((np.arange(width) + 0.5) * dataset.width / width).astype(np.intp)
    known = levels[0] != NODATA
    stack = np.where(known, levels, 0) / (LEVELS - 1)
    if len(stack) == 1:
        stack = np.concatenate([np.where(known, 1 - stack, 0), stack])
    return stack, rows, columns
