"""Which tiles a network gets most wrong, so that a person can look at them one after another."""

from typing import NamedTuple

import numpy as np

from kdcore.evaluation.scores import Scores


class WrongTile(NamedTuple):
    """A tile and how much of it is wrong.

    Attributes:
        scene: name of the scene.
        row, column: of its upper-left corner, pixels.
        wrong, scored: pixels.
    """

    scene: str
    row: int
    column: int
    wrong: int
    scored: int


def worst_tiles(scores: Scores) -> list[WrongTile]:
    """The tiles with wrong pixels, most wrong pixels first; equal ones stay in order."""
    scored = scores.confusion.sum(axis=(1, 2))
    wrong = scored - np.trace(scores.confusion, axis1=1, axis2=2)
    order = np.argsort(-wrong, kind="stable")
    found = []
    for index in order[: np.count_nonzero(wrong)]:
        scene, row, column = scores.tiles[index]
        found.append(WrongTile(scene, row, column, int(wrong[index]), int(scored[index])))
    return found
