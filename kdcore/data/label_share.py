"""A share of the labels: which blocks of the train part students may learn from.

Blocks, because people label places and not scattered pixels. Which ones is a function of the data, the crop and the share
alone: every seed and every arm of a study has the same labels, and a larger share holds a smaller one but for the blocks at
its end.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kdcore.data.collection import Region, grid_cells
from kdcore.data.scene import Box
from kdcore.errors import DataError

ORDER_SEED = 0  # of the order in which blocks are taken
MOST_OVER = 1.5  # times the share that was asked for


def cut(regions: Sequence[Region], crop: int) -> list[Region]:
    """Cut regions evenly into blocks whose sides are as near to two crops as they can be, and at least one crop.

    A side that is shorter than three crops stays whole. The blocks cover the regions and do not overlap.
    """
    pieces = []
    for region in regions:
        box = region.box
        grid = (rounded(box.height / (2 * crop)), rounded(box.width / (2 * crop)))
        pieces += [
            Region(region.scene, Box(box.row + cell.row, box.column + cell.column, cell.height, cell.width))
            for cell in grid_cells(box, grid).values()
        ]
    return pieces


def rounded(number: float) -> int:
    """The nearest whole number from 1 on; halves are rounded up."""
    return max(1, math.floor(number + 0.5))


def choose(
    counts: NDArray[np.int64],
    labelled: NDArray[np.float64],
    labels: float,
    names: Sequence[str],
    where: str,
) -> NDArray[np.int64]:
    """Blocks that hold as near to the share of the labelled pixels as possible, and every class.

    Blocks stand in a random order that is always the same. For each class, the rarest first, the first block that holds it is
    taken unless the class is there already; then each next block that brings the share nearer to what was asked for.

    Args:
        counts: (blocks, classes) labelled pixels of each class that were seen in each block.
        labelled: (blocks,) labelled pixels; estimates where a large collection was only sampled.
        labels: the share, 0 to 1.
        names: of the classes.
        where: the collection, for the message.

    Returns:
        Indices of the chosen blocks, ascending.

    Raises:
        DataError: blocks with every class make up much more than the share.
    """
    order = np.random.default_rng(ORDER_SEED).permutation(len(counts))
    wanted = labels * labelled.sum()
    chosen: list[int] = []
    for index in np.argsort(counts.sum(axis=0), kind="stable"):
        if not counts[chosen, index].any():
            chosen.append(int(order[np.flatnonzero(counts[order, index])[0]]))
    total = labelled[chosen].sum()
    if total > MOST_OVER * wanted:
        enough = math.ceil(100 * total / labelled.sum()) / 100
        raise DataError(
            f"{where}: a share of {labels:g} of the labels is too little to hold every class ({', '.join(names)}) in blocks of two "
            f"crops' width. Set labels to {enough:g} or more, or use a smaller crop."
        )
    for block in order:
        if block not in chosen and abs(total + labelled[block] - wanted) < abs(total - wanted):
            chosen.append(int(block))
            total += labelled[block]
    return np.sort(np.array(chosen, dtype=np.int64))
