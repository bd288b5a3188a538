"""A rectangle of a scene, pixel by pixel as it was scored: imagery, truth, and what runs decided."""

from collections.abc import Sequence

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from kdcore.inference.layer_index import Rectangle
from kdcore.server.drawing import Classes, classes_of
from kdcore.server.layers import truth_of
from kdcore.server.lookup import find_scene
from kdcore.server.reading import NODATA, opened
from kdcore.views.pictures import show_imagery


def crops_of(
    study: str, scene: str, rectangle: Rectangle, runs: Sequence[str], most: int | None = None, truth: bool = True
) -> tuple[NDArray[np.uint8], list[Classes]]:
    """Read a rectangle of a scene.

    Args:
        study: its id.
        scene: its id.
        rectangle: row, column, height H and width W in pixels of the scene.
        runs: whose maps are read.
        most: longer side in pixels of what is given; a larger rectangle is made smaller, so that H and W are less.
        truth: whether the labels are given, too.

    Returns:
        (H, W, 3) uint8 imagery, and the (H, W) uint8 classes of the truth and of each run, 255 where there are none.

    Raises:
        RunError: there is no such study, scene or run, or a file is broken.
    """
    shown = find_scene(study, scene)
    row, column, height, width = rectangle
    window = Window(column, row, width, height)
    shrink = 1.0 if most is None else max(1.0, max(height, width) / most)
    shape = max(1, round(height / shrink)), max(1, round(width / shrink))
    pixel = Affine.scale(width / shape[1], height / shape[0])
    place = shown.scene.affine @ Affine.translation(column, row) @ pixel
    with (
        opened((shown.imagery,)) as dataset,
        WarpedVRT(dataset, crs=shown.scene.coordinates, transform=place, width=shape[1], height=shape[0]) as warped,
    ):
        imagery, valid = warped.read(), warped.dataset_mask() > 0
    masks = []
    if truth:
        with opened((truth_of(shown),)) as dataset:
            masks.append(dataset.read(1, window=window, out_shape=shape))
    for run in runs:
        with opened((shown.map_of(run),)) as dataset:
            levels = dataset.read(window=window, out_shape=(dataset.count, *shape))
        masks.append(classes_of(levels, levels[0] != NODATA))
    return show_imagery(imagery, valid), masks
