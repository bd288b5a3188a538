"""Can an arm's probabilities be trusted? How often it is right when it says that it is so and so sure."""

from dataclasses import dataclass

import numpy as np

from kdcore.evaluation.curves import Floats, Histogram, expected_calibration_error, reliability_curve
from kdcore.evaluation.levels import CALIBRATION_BINS, GRID_PROBABILITY
from kdcore.evaluation.operating import MEAN


@dataclass(frozen=True)
class Calibration:
    """How probabilities and frequencies agree in intervals of probability, of all seeds together.

    Attributes:
        probability, frequency, share: (bins,) mean probability, how often the class was there, and share of the pixels;
            the first two are nan in an empty interval.
        error: expected calibration error in [0, 1], mean over seeds (and classes); nan where nothing is known.
    """

    probability: Floats
    frequency: Floats
    share: Floats
    error: float

    @property
    def example(self) -> tuple[float, float] | None:
        """Probability and frequency of the best filled interval between 70 and 97 %; None where hardly a pixel lies there."""
        sure = (self.probability > 0.7) & (self.probability < 0.97) & (self.share > 1e-3)
        if not sure.any():
            return None
        index = int(np.argmax(np.where(sure, self.share, 0)))
        return float(self.probability[index]), float(self.frequency[index])


def calibration(
    positives: Histogram,
    negatives: Histogram,
    view: int,
    *,
    probability: Floats = GRID_PROBABILITY,
    bins: int = CALIBRATION_BINS,
) -> Calibration:
    """Measure the calibration of one arm.

    Args:
        positives: (S, K, L) pixels of each scored class per level, for each seed.
        negatives: (S, K, L) other pixels per level.
        view: a class's number, or `MEAN`: then the classes' probabilities are put together, and their errors averaged.
        probability: (L,) what the levels stand for; those of `kdcore.evaluation.levels.GRID` if not given.
        bins: number of equally wide intervals of probability.
    """
    rows = slice(None) if view == MEAN else [view]
    positives, negatives = positives[:, rows], negatives[:, rows]
    said, frequency, pixels = reliability_curve(
        positives.sum(axis=(0, 1)), negatives.sum(axis=(0, 1)), probability, bins
    )
    occurs = positives.sum(axis=(0, 2)) > 0
    errors = expected_calibration_error(positives, negatives, probability, bins)[:, occurs]
    total = pixels.sum()
    return Calibration(
        said,
        frequency,
        pixels / total if total else np.zeros(bins),
        float(errors.mean()) if errors.size and np.isfinite(errors).all() else float("nan"),
    )
