"""Areas of classes from a probability sample of reference labels, with confidence intervals: what counting a map's pixels cannot give.

A map's errors do not cancel, so its pixel counts are biased by an unknown amount. A stratified random sample whose true labels somebody
looked up gives an unbiased area with a known uncertainty (Olofsson et al. 2014, doi:10.1016/j.rse.2014.02.015), and the accuracy of any map
of the same ground, also of one that the strata were not drawn from (Stehman 2014, doi:10.1080/01431161.2014.930207).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from kdcore.errors import DataError
from kdcore.evaluation.uncertainty import known

Floats = NDArray[np.float64]
FEWEST = 2  # points in a stratum, from which a variance can be estimated


@dataclass(frozen=True)
class Estimated:
    """A quantity with its standard error; both NaN where the sample says nothing about it."""

    value: float
    error: float

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """The normal interval, as in the papers; no area is below 0."""
        half = float(stats.norm.ppf((1 + confidence) / 2)) * self.error
        return max(0.0, self.value - half), self.value + half

    def to_dict(self, confidence: float = 0.95) -> dict[str, float | None]:
        """JSON values."""
        low, high = self.interval(confidence)
        return {"value": known(self.value), "error": known(self.error), "low": known(low), "high": known(high)}


@dataclass(frozen=True)
class Sample:
    """Labels of a stratified random sample of pixels.

    Attributes:
        strata: (n,) the stratum of each point, an index into `sizes`.
        reference: (n,) its true class, an index.
        areas: (n,) ground that the point's pixel covers, any unit.
        sizes: (strata,) pixels of each stratum.
        classes: how many there are.
    """

    strata: NDArray[np.int64]
    reference: NDArray[np.int64]
    areas: Floats
    sizes: NDArray[np.int64]
    classes: int

    def __post_init__(self) -> None:
        points = np.bincount(self.strata, minlength=len(self.sizes))
        for stratum, (size, count) in enumerate(zip(self.sizes, points, strict=True)):
            if count > size or (count < FEWEST and count < size):
                raise DataError(
                    f"stratum {stratum}: {count} points of {size:,} pixels; each stratum needs {FEWEST} points at least to tell how sure "
                    "an estimate is. Draw the sample anew with more points."
                )

    def totals(self, values: Floats) -> tuple[Floats, Floats]:
        """Totals over all pixels of (n, quantities), and their covariance matrix, with the finite-population correction."""
        total, covariance = np.zeros(values.shape[1]), np.zeros((values.shape[1],) * 2)
        for stratum, size in enumerate(self.sizes):
            found = values[self.strata == stratum]
            if size == 0:
                continue
            total += size * found.mean(axis=0)
            if len(found) < size:
                spread = np.atleast_2d(np.cov(found, rowvar=False))
                covariance += size**2 * (1 - len(found) / size) * spread / len(found)
        return total, covariance

    def areas_of_classes(self) -> list[Estimated]:
        """The area of each class, in the unit of `areas`."""
        total, covariance = self.totals(self.areas[:, None] * (self.reference[:, None] == np.arange(self.classes)))
        return [Estimated(float(t), float(np.sqrt(v))) for t, v in zip(total, np.diag(covariance), strict=True)]

    def accuracy(self, mapped: NDArray[np.int64]) -> "Accuracy":
        """How well a map, of which (n,) classes were read at the points, agrees with the reference."""
        right = self.reference == mapped
        users: list[Estimated] = []
        producers: list[Estimated] = []
        for index in range(self.classes):
            for whole, found in ((mapped == index, users), (self.reference == index, producers)):
                found.append(self.ratio(right & whole, whole))
        return Accuracy(self.ratio(right, np.ones_like(right)), users, producers)

    def ratio(self, part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> Estimated:
        """The share of an area that a part of it has."""
        (over, under), covariance = self.totals(self.areas[:, None] * np.stack([part, whole], axis=1))
        if under == 0:
            return Estimated(float("nan"), float("nan"))
        share = over / under
        variance = np.array([1, -share]) @ covariance @ np.array([1, -share])
        return Estimated(float(share), float(np.sqrt(max(0.0, variance)) / under))


@dataclass(frozen=True)
class Accuracy:
    """Agreement of a map with the reference, as shares of the area; of each class user's and producer's accuracy (precision and recall)."""

    overall: Estimated
    users: list[Estimated]
    producers: list[Estimated]


def allocate(sizes: Sequence[int], points: int, least: int) -> list[int]:
    """Points for each stratum: `least` for each, or all its pixels, and the rest by size (Olofsson et al. 2014, section 5.1.2).

    Raises:
        DataError: fewer points than that takes.
    """
    first = [min(size, least) for size in sizes]
    rest = points - sum(first)
    if rest < 0:
        raise DataError(
            f"{points} points are too few for {sum(size > 0 for size in sizes)} strata of at least {least}. "
            f"Draw {sum(first)} or more, or lower --least."
        )
    room = np.array([size - given for size, given in zip(sizes, first, strict=True)], dtype=np.float64)
    shares = rest * room / max(1.0, room.sum())
    more = np.minimum(np.floor(shares), room).astype(int)
    for index in np.argsort(more - shares, kind="stable")[: max(0, min(rest, int(room.sum())) - int(more.sum()))]:
        more[index] += 1
    return [given + int(extra) for given, extra in zip(first, more, strict=True)]


def report(
    sample: Sample, classes: Sequence[str], maps: Mapping[str, NDArray[np.int64]], confidence: float
) -> dict[str, Any]:
    """Areas and accuracies as JSON values: `areas` by class, and for each map `overall`, and `users` and `producers` by class."""

    def by_class(found: Sequence[Estimated]) -> dict[str, Any]:
        return {name: one.to_dict(confidence) for name, one in zip(classes, found, strict=True)}

    told: dict[str, Any] = {"points": len(sample.strata), "confidence": confidence}
    told["areas"] = by_class(sample.areas_of_classes())
    told["maps"] = {}
    for name, mapped in maps.items():
        found = sample.accuracy(mapped)
        told["maps"][name] = {
            "overall": found.overall.to_dict(confidence),
            "users": by_class(found.users),
            "producers": by_class(found.producers),
        }
    return told
