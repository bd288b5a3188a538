"""The order in which tiles are shown that the student lost, counted by hand."""

import numpy as np
import pytest

from kdcore.errors import DataError
from kdcore.evaluation.counting import ScoresBuilder
from kdcore.evaluation.worst import lost_tiles
from tests.odds import odds_at


def scores(said: list[tuple[slice, slice]], labels: np.ndarray, scene: str = "b"):
    """Of a network that takes some rectangles of land for building."""
    builder = ScoresBuilder(("land", "building"), (1,), tile=32)
    levels = np.zeros((1, *labels.shape), dtype=np.uint8)
    for rows, columns in said:
        levels[0, rows, columns] = 254
    builder.add_window(scene, 0, 0, odds_at(levels), labels, 1)
    return builder.build()


@pytest.fixture
def labels() -> np.ndarray:
    labels = np.zeros((64, 64), dtype=np.uint8)
    labels[40:50, 40:64] = 255  # not scored
    return labels


def test_tiles_come_by_what_the_student_lost(labels):
    student = scores(
        [
            (slice(0, 32), slice(32, 42)),  # 320 wrong pixels of 1024
            (slice(32, 52), slice(32, 64)),  # 640 less the 240 that are not scored, of 1024 - 240
            (slice(63, 64), slice(0, 1)),
            (slice(0, 1), slice(0, 2)),
        ],
        labels,
    )
    teacher = scores([(slice(32, 40), slice(32, 64)), (slice(0, 1), slice(0, 2))], labels)  # 256 there, and the same 2
    assert lost_tiles(teacher, student) == [
        ("b", 0, 32, 320, 0, 1024),
        ("b", 32, 32, 400, 256, 784),
        ("b", 32, 0, 1, 0, 1024),
    ]


def test_of_one_class_count_what_was_missed_and_what_was_marked_too_much():
    builder = ScoresBuilder(("land", "water", "wood"), (0, 1, 2), tile=32)
    truth = np.zeros((32, 32), dtype=np.uint8)
    truth[0, :6] = 1
    said = np.zeros((3, 32, 32), dtype=np.uint8)
    said[0] = 200
    said[0, 1, :3], said[1, 1, :3] = 0, 254  # 3 pixels of land taken for water, 6 of water for land
    said[0, 2, :4], said[2, 2, :4] = 0, 254  # 4 pixels of land taken for wood
    builder.add_window("a", 0, 0, odds_at(said), truth, 1)
    student = builder.build()
    perfect = ScoresBuilder(("land", "water", "wood"), (0, 1, 2), tile=32)
    perfect.add_window("a", 0, 0, odds_at(254 * (np.arange(3)[:, None, None] == truth).astype(np.uint8)), truth, 1)
    teacher = perfect.build()
    wrong = [lost_tiles(teacher, student, kind)[0].student for kind in (None, 0, 1, 2)]
    assert wrong == [13, 13, 9, 4]


def test_a_student_as_good_as_the_teacher_lost_nothing(labels):
    same = scores([(slice(0, 8), slice(0, 8))], labels)
    assert lost_tiles(same, same) == []


def test_other_tiles_cannot_be_compared(labels):
    with pytest.raises(DataError, match="same tiles"):
        lost_tiles(scores([], labels, "a"), scores([], labels, "b"))
