import numpy as np
import pytest

from kdcore.evaluation.calibration import calibration
from kdcore.evaluation.curves import expected_calibration_error
from kdcore.evaluation.levels import LEVELS
from kdcore.evaluation.operating import MEAN

PROBABILITY = np.arange(LEVELS) / 254


def histogram(**pixels):
    counts = np.zeros(LEVELS, dtype=np.int64)
    for name, number in pixels.items():
        counts[int(name[1:])] = number
    return counts


# Two seeds of one class; level 203 is a probability of 0.799, level 25 of 0.098.
POSITIVES = np.stack([histogram(l203=60, l25=10), histogram(l203=40, l25=30)])[:, None]
NEGATIVES = np.stack([histogram(l203=40, l25=90), histogram(l203=60, l25=70)])[:, None]


def test_puts_all_seeds_together_and_averages_their_errors():
    found = calibration(POSITIVES, NEGATIVES, 0, probability=PROBABILITY, bins=10)
    known = np.isfinite(found.probability)
    np.testing.assert_allclose(found.probability[known], [25 / 254, 203 / 254])
    np.testing.assert_allclose(found.frequency[known], [40 / 200, 100 / 200])
    np.testing.assert_allclose(found.share[known], [0.5, 0.5])
    errors = [
        (abs(0.6 - 203 / 254) + abs(0.1 - 25 / 254)) / 2,
        (abs(0.4 - 203 / 254) + abs(0.3 - 25 / 254)) / 2,
    ]
    assert found.error == pytest.approx(np.mean(errors))


def test_gives_an_example_of_how_sure_and_how_often_right():
    assert calibration(POSITIVES, NEGATIVES, 0, probability=PROBABILITY).example == pytest.approx((203 / 254, 0.5))
    assert (
        calibration(histogram(l25=5)[None, None], histogram(l25=95)[None, None], 0, probability=PROBABILITY).example
        is None
    )


def test_of_the_mean_averages_the_errors_of_the_classes_that_occur():
    never = np.zeros((2, 1, LEVELS), dtype=np.int64)
    positives = np.concatenate([POSITIVES, NEGATIVES, never], axis=1)
    negatives = np.concatenate([NEGATIVES, POSITIVES, POSITIVES], axis=1)
    found = calibration(positives, negatives, MEAN, probability=PROBABILITY)
    expected = expected_calibration_error(positives[:, :2], negatives[:, :2], PROBABILITY).mean()
    assert found.error == pytest.approx(expected)
    assert found.share.sum() == pytest.approx(1)


def test_of_nothing_is_unknown():
    nothing = np.zeros((1, 2, LEVELS), dtype=np.int64)
    found = calibration(nothing, nothing, MEAN, probability=PROBABILITY)
    assert np.isnan(found.error)
    assert found.example is None
    assert not found.share.any()
