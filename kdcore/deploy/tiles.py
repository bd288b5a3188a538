"""Real tiles of a collection, of the one size that an exported network takes: to compare engines, and to calibrate 8-bit ones."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdcore.data.collection import Collection
from kdcore.data.scene import Box, Scene
from kdcore.settings import SplitName


def sample_tiles(
    collection: Collection, split: SplitName, tile: int, most: int, fill: NDArray[np.floating[Any]]
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    """Tiles spread evenly over one part of the split, at most `most`; where the part is small they overlap by half.

    Args:
        collection: the imagery.
        split: which part.
        tile: side, pixels. A part of a scene that is smaller is filled up with its border: nothing of another split is seen.
        most: how many.
        fill: (bands,) values put where there is no data.

    Yields:
        Imagery (bands, tile, tile) and which of its pixels (tile, tile) have data and are no filling.
    """
    places = list(positions(collection, split, tile, tile))
    if len(places) < most:
        places = list(positions(collection, split, tile, tile // 2))
    chosen = places if len(places) <= most else [places[index * len(places) // most] for index in range(most)]
    for scene, inside in chosen:
        crop = collection.reader.read(scene, inside)
        if not crop.valid.any():
            continue
        image = np.where(crop.valid, crop.image, fill[:, None, None]).astype(np.float32)
        rest = ((0, tile - inside.height), (0, tile - inside.width))
        yield np.pad(image, ((0, 0), *rest), mode="edge"), np.pad(crop.valid, rest)


def positions(
    collection: Collection, split: SplitName, tile: int, step: int, buffer: int = 0
) -> Iterator[tuple[Scene, Box]]:
    """Tiles laid over every rectangle of a part, cut off where it is smaller, the last of a row or column moved back to its end.

    The part keeps `buffer` pixels away from the parts behind it, see `Collection.regions`.
    """
    for region in collection.regions(split, buffer):
        box = region.box
        for row in origins(box.row, box.height, tile, step):
            for column in origins(box.column, box.width, tile, step):
                inside = Box(row, column, tile, tile).intersection(box)
                if inside is not None:
                    yield region.scene, inside


def origins(start: int, size: int, tile: int, step: int) -> list[int]:
    """Where tiles along one side of a rectangle begin."""
    last = start + max(size - tile, 0)
    return sorted({*range(start, last, step), last})
