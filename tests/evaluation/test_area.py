"""Areas from a sample, against the examples of the two papers that the estimators come from."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdcore.errors import DataError
from kdcore.evaluation.area import Sample, allocate

# Olofsson et al. 2014, tables 8 and 9: deforestation, forest gain, stable forest, stable non-forest; pixels of 30 m.
COUNTS = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
PIXELS = np.array([200_000, 150_000, 3_200_000, 6_450_000])
# Stehman 2014, table 2: forty points in four strata; the map is another one than the strata were drawn from.
STRATA = "A" * 10 + "B" * 10 + "C" * 10 + "D" * 10
MAPPED = "A" * 7 + "BBB" + "A" + "B" * 11 + "C" * 6 + "BB" + "D" * 10
TRUE = "AAAAACBABC" + "ABBBBBAABB" + "CCCCCDDBBA" + "DDDDDDDCCB"


def olofsson() -> Sample:
    rows, columns = (np.repeat(index.ravel(), COUNTS.ravel()) for index in np.indices(COUNTS.shape))
    return Sample(rows, columns, np.full(len(rows), 0.09), PIXELS, 4)


def codes(text: str) -> np.ndarray:
    return np.array(["ABCD".index(letter) for letter in text])


def stehman() -> Sample:
    sizes = np.array([40_000, 30_000, 20_000, 10_000])
    return Sample(codes(STRATA), codes(TRUE), np.full(40, 1e-5), sizes, 4)  # shares of the whole area


def test_areas_of_olofsson_et_al():
    """Hectares with 95 % intervals, as the paper prints them."""
    found = olofsson().areas_of_classes()
    assert [round(one.value) for one in found] == [21_158, 11_686, 285_770, 581_386]
    assert [round(1.96 * one.error) for one in found] == pytest.approx([6_158, 3_756, 15_510, 16_282], rel=0.001)


def test_accuracies_of_olofsson_et_al():
    """Where the strata are the map's classes."""
    sample = olofsson()
    found = sample.accuracy(sample.strata)
    assert round(found.overall.value, 2) == 0.95
    assert [round(one.value, 2) for one in found.users] == [0.88, 0.73, 0.93, 0.96]
    assert [round(one.value, 2) for one in found.producers] == [0.75, 0.85, 0.93, 0.96]
    assert [round(1.96 * one.error, 2) for one in found.users] == [0.07, 0.10, 0.04, 0.02]
    errors = [round(1.96 * one.error, 2) for one in found.producers]
    assert errors[:3] == [0.21, 0.25, 0.03]  # the last is printed as 0.01; the paper's own equation 7 gives 0.018


def test_the_example_of_stehman():
    """Strata that are no classes of the map: shares and standard errors as the paper prints them (pages 4932 to 4936)."""
    sample = stehman()
    areas, found = sample.areas_of_classes(), sample.accuracy(codes(MAPPED))
    assert [round(areas[index].value, 2) for index in (0, 2)] == [0.35, 0.20]
    assert [round(areas[index].error, 3) for index in (0, 2)] == [0.082, 0.064]
    assert (round(found.overall.value, 2), round(found.overall.error, 3)) == (0.63, 0.085)
    assert (round(found.users[1].value, 3), round(found.users[1].error, 3)) == (0.574, 0.125)
    assert (round(found.producers[1].value, 3), round(found.producers[1].error, 3)) == (0.794, 0.117)


def test_a_whole_population_has_no_uncertainty():
    reference = np.array([0, 1, 1, 0, 1])
    sample = Sample(np.array([0, 0, 0, 1, 1]), reference, np.array([1.0, 2, 3, 4, 5]), np.array([3, 2]), 2)
    assert [(one.value, one.error) for one in sample.areas_of_classes()] == [(5, 0), (10, 0)]


def test_a_class_that_no_map_and_no_point_has_is_not_known():
    sample = Sample(np.array([0, 0]), np.array([0, 0]), np.ones(2), np.array([9]), 2)
    assert np.isnan(sample.accuracy(np.array([0, 0])).users[1].value)
    assert sample.areas_of_classes()[1].interval() == (0, 0)


def test_one_point_tells_nothing_of_its_stratum():
    with pytest.raises(DataError, match="stratum 1: 1 points of 50 pixels"):
        Sample(np.array([0, 0, 1]), np.zeros(3, int), np.ones(3), np.array([50, 50]), 1)


@pytest.mark.slow  # two thousand samples of a population
def test_intervals_cover_the_truth():
    """A population of three strata with other shares of a class: 95 % intervals hold the truth in 93 to 97 % of the samples."""
    rng = np.random.default_rng(0)
    shares, sizes = np.array([0.9, 0.3, 0.05]), np.array([4000, 6000, 30_000])
    population = [rng.random(size) < share for size, share in zip(sizes, shares, strict=True)]
    truth = sum(stratum.sum() for stratum in population)
    strata, held = np.repeat([0, 1, 2], [80, 80, 140]), 0
    for _ in range(2000):
        drawn = [rng.choice(one, count, replace=False) for one, count in zip(population, (80, 80, 140), strict=True)]
        reference = np.concatenate(drawn).astype(int)
        low, high = Sample(strata, reference, np.ones(300), sizes, 2).areas_of_classes()[1].interval()
        held += low <= truth <= high
    assert 0.93 <= held / 2000 <= 0.97


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=6), st.integers(0, 60), st.integers(0, 800))
def test_points_are_allocated_as_they_were_asked_for(sizes, least, more):
    needed = sum(min(size, least) for size in sizes)
    given_points = allocate(sizes, needed + more, least)
    assert sum(given_points) == min(needed + more, sum(sizes))
    assert all(min(size, least) <= points <= size for size, points in zip(sizes, given_points, strict=True))


def test_fewer_points_than_the_least_are_refused():
    with pytest.raises(DataError, match=r"99 points are too few for 2 strata of at least 50\. Draw 100 or more"):
        allocate([1000, 2000], 99, 50)
