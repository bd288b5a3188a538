"""The order in which bad tiles are shown, counted by hand."""

import numpy as np

from kdcore.evaluation.counting import ScoresBuilder
from kdcore.evaluation.worst import worst_tiles
from tests.log_odds import log_odds


def test_tiles_come_by_their_wrong_pixels():
    builder = ScoresBuilder(("land", "building"), (1,), tile=32)
    labels = np.zeros((64, 64), dtype=np.uint8)
    labels[40:50, 40:64] = 255  # not scored
    levels = np.zeros((1, 64, 64), dtype=np.uint8)
    levels[0, :32, 32:42] = 254  # 320 wrong pixels of 1024
    levels[0, 32:52, 32:64] = 254  # 640 less the 240 that are not scored, of 1024 - 240
    levels[0, 63, 0] = 254
    builder.add_window("b", 0, 0, log_odds(levels), labels, 1)
    assert worst_tiles(builder.build()) == [("b", 32, 32, 400, 784), ("b", 0, 32, 320, 1024), ("b", 32, 0, 1, 1024)]


def test_a_perfect_network_has_no_bad_tile():
    builder = ScoresBuilder(("land", "building"), (1,), tile=32)
    builder.add_window("a", 0, 0, np.full((1, 32, 32), -9.0), np.zeros((32, 32), dtype=np.uint8), 1)
    assert worst_tiles(builder.build()) == []
