"""Where the student lost most against the teacher, tile by tile, so that a person can look at one after another."""

from typing import NamedTuple

import numpy as np

from kdcore.errors import DataError
from kdcore.evaluation.scores import Integers, Scores


class LostTile(NamedTuple):
    """A tile and how much of it each network has wrong.

    Attributes:
        scene: name of the scene.
        row, column: of its upper-left corner, pixels.
        student, teacher: pixels that each has wrong.
        scored: pixels.
    """

    scene: str
    row: int
    column: int
    student: int
    teacher: int
    scored: int


def lost_tiles(teacher: Scores, student: Scores, kind: int | None = None) -> list[LostTile]:
    """The tiles in which the student has more pixels wrong than the teacher, the largest difference first; equal ones stay in order.

    Args:
        teacher: its scores.
        student: its scores of the same tiles.
        kind: index of a class: only pixels that are of it, or that a network takes for it, count as wrong. None for all classes.

    Raises:
        DataError: they are not of the same tiles.
    """
    if teacher.tiles != student.tiles:
        raise DataError(
            "Teacher and student were not scored on the same tiles, so they cannot be compared tile by tile."
        )
    scored = student.confusion.sum(axis=(1, 2))
    ours, theirs = wrong_pixels(student.confusion, kind), wrong_pixels(teacher.confusion, kind)
    order = np.argsort(theirs - ours, kind="stable")
    found = []
    for index in order[: np.count_nonzero(ours > theirs)]:
        scene, row, column = student.tiles[index]
        found.append(LostTile(scene, row, column, int(ours[index]), int(theirs[index]), int(scored[index])))
    return found


def wrong_pixels(confusion: Integers, kind: int | None) -> Integers:
    """(T, C, C) confusion as (T,) wrong pixels, of all classes or of one: those missed and those marked too much."""
    if kind is None:
        wrong: Integers = confusion.sum(axis=(1, 2)) - np.trace(confusion, axis1=1, axis2=2)
    else:
        wrong = confusion[:, kind].sum(axis=1) + confusion[:, :, kind].sum(axis=1) - 2 * confusion[:, kind, kind]
    return wrong
