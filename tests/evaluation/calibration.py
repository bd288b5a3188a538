"""Calibration by another library."""

import numpy as np
from sklearn.calibration import calibration_curve


def calibration_error(truth, probability, bins=15):
    """Expected calibration error of pixels (N,) from scikit-learn's curve.

    A border belongs to the interval below there, and to the one above here: scikit-learn is asked about what is not marked.
    """
    truth, probability = 1 - truth, 1 - probability
    observed, said = calibration_curve(truth, probability, n_bins=bins)
    numbers = np.bincount(np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], probability))
    return float(np.abs(observed - said) @ numbers[numbers > 0] / len(truth))
