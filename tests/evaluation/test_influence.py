"""Influence values against derivatives taken by brute force, and AP against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from kdcore.evaluation.curves import average_precision
from kdcore.evaluation.influence import OVERALL, ap_influence, measure, ratio_influence
from kdcore.evaluation.summary import means
from tests.evaluation.test_compare import many, network, scores_from, some_labels


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def test_of_ap_is_its_derivative_by_the_weight_of_each_tile(rng):
    positives, negatives = rng.integers(0, 9, size=(2, 12, 256))
    positives[:, 255] = negatives[:, 255] = 0
    positives[3] = 0  # a tile without the class
    negatives[:, 100:140] = 0
    positives[:, 120:140] = 0  # levels that nobody has
    found = ap_influence(positives, negatives)
    step = 1e-6
    for tile in range(12):
        weights = np.ones((2, 12))
        weights[:, tile] += (step, -step)
        up, down = (
            average_precision((w[:, None] * positives).sum(axis=0), (w[:, None] * negatives).sum(axis=0))
            for w in weights
        )
        assert found[tile] == pytest.approx((up - down) / (2 * step), abs=1e-7)
    assert found.sum() == pytest.approx(0, abs=1e-12)


def test_of_ap_by_hand():
    # Two tiles: one holds a positive at level 2 and a negative at level 1, the other a positive at level 0. AP is
    # 1/2 * 1 + 1/2 * 2/3 = 5/6. With the second tile's weight w: (1 + w * (1 + w) / (2 + w)) / (1 + w); the derivative at
    # w = 1 of numerator N (N = 5/3, N' = 7/9): (7/9 * 2 - 5/3) / 4 = -1/36.
    positives = np.array([[0, 0, 1], [1, 0, 0]])
    negatives = np.array([[0, 1, 0], [0, 0, 0]])
    assert ap_influence(positives, negatives).tolist() == pytest.approx([1 / 36, -1 / 36])


def test_of_a_class_that_does_not_occur_is_unknown(rng):
    nothing = np.zeros((4, 256), dtype=int)
    assert np.isnan(ap_influence(nothing, nothing + 1)).all()


def test_of_a_ratio_by_hand():
    ratio, field = ratio_influence(np.array([[1], [2]]), np.array([[4], [4]]))  # 3 / 8
    assert ratio.tolist() == [3 / 8]
    assert field.tolist() == [[(1 - 1.5) / 8, (2 - 1.5) / 8]]


def test_a_network_is_measured_with_all_its_metrics(rng):
    labels = some_labels(rng, 15, classes=4)
    levels = many(rng, labels, 50).astype(np.uint8)
    scores = scores_from(levels, labels, tuple("abcd"), range(4))
    found = measure(scores)
    expected = [100 * average_precision_score((labels == k).ravel(), levels[k].ravel()) for k in range(4)]
    assert found.values[:4] == pytest.approx(expected, abs=0.05)
    assert found.values[4:] == pytest.approx([100 * means(scores)[name] for name in OVERALL])
    assert found.fields.shape == (7, 15)
    np.testing.assert_allclose(found.fields.sum(axis=1), 0, atol=1e-9)


def test_a_class_that_one_tile_holds_alone_has_a_value_and_no_contributions(rng):
    labels = some_labels(rng, 10, classes=3)
    labels[0, 0] = 3
    found = measure(scores_from(many(rng, labels, 50), labels, tuple("abcd"), range(4)))
    assert np.isfinite(found.values).all()
    assert np.isnan(found.fields[3]).all()
    assert np.isfinite(np.delete(found.fields, 3, axis=0)).all()


def test_a_class_that_occurs_nowhere_does_not_count(rng):
    labels = some_labels(rng, 10, classes=3)
    found = measure(scores_from(many(rng, labels, 50), labels, tuple("abcd"), range(4)))
    assert np.isnan(found.values[3])
    assert found.values[4] == pytest.approx(found.values[:3].mean())
    assert np.isfinite(found.fields[4:]).all()


def test_binary_networks_have_one_class(rng):
    labels = some_labels(rng, 6)
    assert measure(scores_from(network(rng, labels, 50), labels)).values.shape == (4,)
