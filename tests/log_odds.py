"""Log-odds of pixels from the levels of a map, as made-up networks in tests have them."""

import numpy as np
from scipy.special import logit

from kdcore.evaluation.levels import LEVELS, MAP_BORDERS


def log_odds(levels):
    """float32 log-odds of uint8 levels 0..254; infinite at both ends."""
    return logit(np.asarray(levels, dtype=np.float64) / (LEVELS - 1)).astype(np.float32)


def map_table(maps=1):
    """Levels, probability and ties (each (maps, 255)) of Scores that are counted in the levels of a map."""
    rows = MAP_BORDERS, np.arange(LEVELS) / (LEVELS - 1), np.ones(LEVELS)
    return [np.tile(row, (maps, 1)).astype(np.float32) for row in rows]
