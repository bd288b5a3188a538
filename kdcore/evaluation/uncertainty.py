"""From the differences of paired seeds and the contributions of tiles to an interval that covers.

Seeds and ground are crossed: every network sees every tile. The mean difference over S seeds therefore varies with

    variance = seeds + shared        seeds  = s^2 / S, from the scatter s of the seeds' differences (S - 1 degrees of freedom)
                                     shared = what the ground does to all seeds alike (see `kdcore.evaluation.ground`)

What the ground does to each seed in its own way is part of the seeds' scatter *and* of the mean contributions; its size
is measured on what each seed's contributions differ from their mean, and it is taken out once. The interval is Student's
t with Satterthwaite's degrees of freedom (1946) over the two parts.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from kdcore.evaluation.ground import Ground
from kdcore.evaluation.influence import Measured

Values = NDArray[np.float64]
MOST_SEEDS, MOST_AREA = 50, 20.0  # more than this nobody will pay for


@dataclass(frozen=True)
class Difference:
    """A difference in points (hundredths) and its interval; NaN where it cannot be known."""

    mean: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float | None]:
        """The same as JSON knows it: None for NaN."""
        return {name: known(value) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with the parts of its variance.

    Attributes:
        mean: in the unit of the values.
        seeds: variance of the mean from the seeds' scatter; 0 with one seed.
        own: the part of it that is the ground's, different for each seed.
        shared: variance of the mean from what the ground does to all seeds alike; nan where it cannot be known.
        count: number of seeds.
        blocks: independent blocks that the tiles are worth for this mean; nan likewise.
        ground_freedom: degrees of freedom of `shared`.
        length: correlation length in tiles; nan where scenes are the blocks.
    """

    mean: float
    seeds: float
    own: float
    shared: float
    count: int
    blocks: float
    ground_freedom: float
    length: float

    @property
    def variance(self) -> float:
        """Of the mean, over trainings and ground."""
        return self.seeds + self.shared

    @property
    def freedom(self) -> float:
        """Satterthwaite's degrees of freedom of the variance."""
        return freedom(self.seeds, self.count - 1, self.shared, self.ground_freedom)

    def half_width(self, confidence: float) -> float:
        """Of the interval; nan where it cannot be known."""
        return quantile(self.freedom, confidence) * float(np.sqrt(self.variance))

    def interval(self, confidence: float) -> Difference:
        """The mean with its interval."""
        half = self.half_width(confidence)
        return Difference(self.mean, self.mean - half, self.mean + half)

    @property
    def p(self) -> float:
        """How often the mean would be as far from 0 if the truth were 0 (two-sided); nan where it cannot be known."""
        if not self.variance > 0:
            return float("nan") if np.isnan(self.variance) else float(self.mean == 0)
        from scipy import special  # as below

        return float(2 * special.stdtr(self.freedom, -abs(self.mean) / np.sqrt(self.variance)))


@dataclass(frozen=True)
class Needed:
    """What would decide, were the difference as large as it was measured; None: not within 50 seeds, 20 times the area."""

    seeds: int | None
    """Seeds in all."""
    area: float | None
    """The test area as a multiple of today's."""


def estimate(ground: Ground, values: Values, fields: Values) -> list[Estimate]:
    """Estimate Q means over seeds.

    Args:
        ground: of the T tiles.
        values: (Q, S) of each seed on all tiles.
        fields: (Q, S, T) influence values of the tiles.

    Returns:
        One estimate for each of the Q.
    """
    count = values.shape[1]
    together = fields.mean(axis=1)
    both = ground.spread(together)
    scatter = values.var(axis=1, ddof=1) / count if count > 1 else np.zeros(len(values))
    own = np.zeros(len(values))
    if count > 1:
        apart = (fields - together[:, None]).reshape(-1, fields.shape[2])
        own = ground.spread(apart).variance.reshape(-1, count).sum(axis=1) / (count * (count - 1))
        own = np.minimum(own, np.minimum(scatter, both.variance))
    shared = both.variance - own
    parts = (values.mean(axis=1), scatter, own, shared, both.blocks, both.freedom, both.length)
    return [
        Estimate(mean, seeds, own, shared, count, blocks, ground_freedom, length)
        for mean, seeds, own, shared, blocks, ground_freedom, length in np.stack(parts, axis=1).tolist()
    ]


def paired(ground: Ground, first: Sequence[Measured], second: Sequence[Measured]) -> list[Estimate]:
    """The mean over seeds of second minus first, in points, of every class AP and of `OVERALL`."""
    return estimate(ground, *stacked([difference(a, b) for a, b in zip(first, second, strict=True)]))


def difference(first: Measured, second: Measured) -> Measured:
    """Second minus first, tile by tile."""
    return Measured(second.values - first.values, second.fields - first.fields)


def stacked(seeds: Sequence[Measured]) -> tuple[Values, Values]:
    """Values (Q, S) and influence values (Q, S, T) of some seeds."""
    return np.stack([one.values for one in seeds], axis=1), np.stack([one.fields for one in seeds], axis=1)


def freedom(seeds: float, seeds_freedom: int, shared: float, ground_freedom: float) -> float:
    """Satterthwaite's degrees of freedom of `seeds + shared`; nan where a part is unknown."""
    parts = (seeds**2 / seeds_freedom if seeds_freedom else 0.0) + shared**2 / ground_freedom
    return float((seeds + shared) ** 2 / parts) if parts > 0 else ground_freedom + 0 * parts


def quantile(degrees: float, confidence: float) -> float:
    """By how many standard errors a two-sided interval of Student's t reaches out."""
    from scipy import special  # 15 MB that who only shows an interval does without

    return float(special.stdtrit(degrees, (1 + confidence) / 2))


def holm(p: Sequence[float]) -> list[float]:
    """Adjust the p-values of a family of comparisons, so that a wrong verdict among them is as rare as of one (Holm 1979).

    Args:
        p: of each comparison; nan for one that could not be made, which does not count.

    Returns:
        The adjusted p-values in the same order, at most 1.

    Example:
        >>> holm([0.01, 0.04, 0.03])  # times 3; times 1, but no less than the one before; times 2
        [0.03, 0.06, 0.06]
    """
    values = np.array(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")[: np.count_nonzero(~np.isnan(values))]
    adjusted = np.full(len(values), np.nan)
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(values[order] * factors))
    return [float(value) for value in adjusted]


def family(estimates: Sequence[Estimate], confidence: float) -> list[Difference]:
    """Intervals of a family of comparisons, each so wide that it leaves out 0 just where Holm's procedure does.

    The step of the procedure at which a comparison is judged sets its level: an interval at `1 - alpha * p / adjusted p`.
    """
    adjusted = holm([one.p for one in estimates])
    return [
        one.interval(1 - (1 - confidence) * (one.p / after if after > 0 else 1 / len(estimates)))
        for one, after in zip(estimates, adjusted, strict=True)
    ]


def with_classes(estimates: Sequence[Estimate], classes: int, confidence: float) -> list[Difference]:
    """Intervals of K class APs, as a family, and of their mean."""
    return [*family(estimates[:classes], confidence), estimates[classes].interval(confidence)]


def fieller(over: Estimate, under: Estimate, covariance: float, confidence: float) -> tuple[float, float] | None:
    """Interval of the ratio of two means (Fieller 1954): all r for which `over - r * under` may be 0.

    Args:
        over: the numerator.
        under: the denominator.
        covariance: of the two means.
        confidence: in (0, 1).

    Returns:
        The two ends; None where the denominator's own interval reaches 0, because then no ratio can be left out.
    """
    if not under.mean - under.half_width(confidence) > 0:
        return None
    square = quantile(min(over.freedom, under.freedom), confidence) ** 2
    limit = np.sqrt(over.variance * under.variance)
    covariance = float(np.clip(covariance, -limit, limit))
    a = under.mean**2 - square * under.variance
    b = over.mean * under.mean - square * covariance
    c = over.mean**2 - square * over.variance
    if a <= 0:
        return None
    root = float(np.sqrt(max(b * b - a * c, 0.0)))
    return (b - root) / a, (b + root) / a


def needed(found: Estimate, confidence: float) -> Needed:
    """How many seeds, or how much test area, would put 0 outside the interval, if the truth is what was measured."""

    def decides(seeds: int, area: float) -> bool:
        scatter = (found.seeds - found.own + found.own / area) * found.count / seeds
        shared, ground = found.shared / area, max(1.0, (found.ground_freedom + 1) * area - 1)
        half = quantile(freedom(scatter, seeds - 1, shared, ground), confidence) * np.sqrt(scatter + shared)
        return bool(half < abs(found.mean))

    if found.count < 2 or not np.isfinite(found.variance) or found.mean == 0:
        return Needed(None, None)
    seeds = next((seeds for seeds in range(found.count + 1, MOST_SEEDS + 1) if decides(seeds, 1.0)), None)
    areas = np.concatenate([np.arange(1.25, 4, 0.25), np.arange(4, MOST_AREA + 0.5, 1.0)])
    return Needed(seeds, next((float(area) for area in areas if decides(found.count, float(area))), None))


def known(value: float | None) -> float | None:
    """None for NaN and infinity, which JSON does not have."""
    return value if value is not None and np.isfinite(value) else None
