"""Does a 95 % interval of `kdcore.evaluation.compare` hold the true difference in 95 of 100 studies?

    python benchmarks/coverage.py [--studies 600]        # about 8 minutes on one core

A study is simulated from populations of tiles and of trainings. On tile t, network s of an arm separates the two classes by

    separation = base + advantage of the arm + difficulty[t] + preference[arm, t] + luck[arm, s] + own[arm, s, t]

standard deviations of its scores, each term normal with its own standard deviation: how hard the tile is, what the arm's
method makes of it, the luck of a training, and the tiles on which just this training errs. The true difference in AP is
known without sampling: expected histograms of the whole population of tiles, integrated over the luck of training.

Columns: coverage of the interval and its mean half-width in points; coverage when the imagery's noise that differs
between seeds is counted twice (in the resampled tiles and in the scatter s of the seeds), and when it is taken out of s
and not out of the resamples; and how often a verdict 'better' or 'worse' is given when the two arms are one method
(A/A: no advantage, no preference; 5 % is what a 95 % interval allows).
"""

import argparse
import sys
import time
from dataclasses import dataclass, replace
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from kdcore.evaluation.compare import Bootstrap, compare
from kdcore.evaluation.curves import average_precision
from kdcore.evaluation.scores import BINS, Scores

STEPS = 50  # distinct score levels that are used
LEVEL = np.linspace(0, 250, STEPS).astype(int)
GRID = np.linspace(-4, 9, 1301)  # separations for which the distribution of scores is tabulated
EDGES = np.concatenate([[-np.inf], np.linspace(-4, 4, STEPS - 1), [np.inf]])


def score_table(sign: float) -> NDArray[np.float64]:
    """(separations, STEPS): shares of the scores in each step, normal around half the separation to one side."""
    return np.diff(stats.norm.cdf(EDGES[None, :] - sign * GRID[:, None] / 2), axis=1)


POSITIVE, NEGATIVE = score_table(+1), score_table(-1)


@dataclass(frozen=True)
class World:
    """Standard deviations of the terms, in standard deviations of a network's scores, and the size of a study."""

    seeds: int
    tiles: int = 100
    advantage: float = 0.1
    difficulty: float = 0.5
    preference: float = 0.2
    luck: float = 0.0
    own: float = 0.0
    pixels: int = 1024
    base: float = 2.5

    def true_ap(self, advantage: float) -> float:
        """Expected AP of one training, on the whole population of tiles, in points."""
        spread = np.sqrt(self.difficulty**2 + self.preference**2 + self.own**2)
        nodes, weights = np.polynomial.hermite_e.hermegauss(15)
        values = []
        for node in nodes:
            share = stats.norm.pdf(GRID, self.base + advantage + self.luck * node, spread)
            share /= share.sum()
            # A tile's share of positives is uniform in (0.05, 0.35): 20 % in all.
            values.append(average_precision(spread_out(0.2 * share @ POSITIVE), spread_out(0.8 * share @ NEGATIVE)))
        return float(100 * np.dot(values, weights) / weights.sum())

    def study(self, rng: np.random.Generator) -> tuple[list[Scores], list[Scores]]:
        """Scores of both arms on one draw of tiles and trainings."""
        positive = rng.binomial(self.pixels, rng.uniform(0.05, 0.35, size=self.tiles))
        difficulty = rng.normal(0, self.difficulty, size=self.tiles)
        arms = []
        for advantage in (0.0, self.advantage):
            on_tile = self.base + advantage + difficulty + rng.normal(0, self.preference, size=self.tiles)
            separations = [
                on_tile + rng.normal(0, self.luck) + rng.normal(0, self.own, size=self.tiles) for _ in range(self.seeds)
            ]
            arms.append([scores_of(positive, self.pixels - positive, separation, rng) for separation in separations])
        return arms[0], arms[1]


def spread_out(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., STEPS) -> (..., 256)."""
    histogram = np.zeros((*steps.shape[:-1], BINS), dtype=steps.dtype)
    histogram[..., LEVEL] = steps
    return histogram


def scores_of(positive, negative, separation, rng: np.random.Generator) -> Scores:
    """Draw the scores of each tile's pixels."""
    row = np.clip(np.rint((separation - GRID[0]) / (GRID[1] - GRID[0])), 0, len(GRID) - 1).astype(int)
    positives = spread_out(rng.multinomial(positive, POSITIVE[row]))
    negatives = spread_out(rng.multinomial(negative, NEGATIVE[row]))
    hits, alarms = positives[:, 127:].sum(axis=1), negatives[:, 127:].sum(axis=1)
    confusion = np.stack([negative - alarms, alarms, positive - hits, hits], axis=1).reshape(-1, 2, 2)
    tiles = tuple(("scene", 0, 128 * index) for index in range(len(positive)))
    boundary = np.zeros((len(tiles), 2, 2), dtype=np.int64)
    return Scores(("no", "yes"), (1,), tiles, positives[:, None], negatives[:, None], confusion, boundary)


def counted_twice(self: Bootstrap, full, again):
    """The draws without taking the seeds' own imagery noise out of anything."""
    return full.mean() + imagery(self, full, again) + (full - full.mean()) @ self.noise


def out_of_scatter(self: Bootstrap, full, again):
    """The draws with the seeds' own imagery noise taken out of their scatter instead of out of the resamples."""
    left = 1.0
    if len(full) > 1:
        own, scatter = (again - full[:, None]).var(axis=0, ddof=1).mean(), full.var(ddof=1)
        left = np.sqrt(max(0.0, 1 - own / scatter))
    return full.mean() + imagery(self, full, again) + left * ((full - full.mean()) @ self.noise)


def imagery(self: Bootstrap, full, again):
    """Deviations of the resamples as they are, widened for few tiles."""
    return Bootstrap(self.tiles, self.noise, self.confidence).draws(
        full.mean(keepdims=True), again.mean(axis=0)[None]
    ) - (full.mean())


def simulate(world: World, studies: int, resamples: int = 300, seed: int = 0) -> NDArray[np.float64]:
    """For each study: truth covered, half-width in points, verdict given; covered when counted twice, out of scatter."""
    rng = np.random.default_rng(seed)
    truth = world.true_ap(world.advantage) - world.true_ap(0.0)
    rows = []
    for _ in range(studies):
        measured = []

        def recording(self, full, again, measured=measured, difference=Bootstrap.difference):
            measured.append((self, full, again))
            return difference(self, full, again)

        with patch.object(Bootstrap, "difference", recording):
            comparison = compare(*world.study(rng), resamples=resamples, seed=int(rng.integers(2**31)))
        bootstrap, full, again = measured[0]  # of mean AP
        found = comparison.mean_ap_points
        intervals = [(found.low, found.high)]
        intervals += [bootstrap.interval(rule(bootstrap, full, again)) for rule in (counted_twice, out_of_scatter)]
        ours, *others = (low <= truth <= high for low, high in intervals)
        verdict = comparison.verdict != "no detectable difference"
        rows.append((ours, (found.high - found.low) / 2, verdict, *others))
    return np.array(rows, dtype=float)


WORLDS = {
    "one seed, 20 tiles": World(seeds=1, tiles=20),
    "one seed, 50 tiles": World(seeds=1, tiles=50),
    "one seed, 200 tiles": World(seeds=1, tiles=200),
    "luck only counts": World(seeds=3, preference=0.02, luck=0.06),
    "luck and imagery": World(seeds=3, luck=0.03),
    "luck, imagery, own": World(seeds=3, luck=0.03, own=0.2),
    "own errors mostly": World(seeds=3, luck=0.01, preference=0.05, own=0.3),
    "own errors, some luck": World(seeds=3, luck=0.05, preference=0.02, own=0.2),
    "2: luck, imagery, own": World(seeds=2, luck=0.03, own=0.2),
    "5: luck only counts": World(seeds=5, preference=0.02, luck=0.06),
    "5: luck and imagery": World(seeds=5, luck=0.03),
    "5: luck, imagery, own": World(seeds=5, luck=0.03, own=0.2),
    "5: own errors mostly": World(seeds=5, luck=0.01, preference=0.05, own=0.3),
    "5: the same, 20 tiles": World(seeds=5, tiles=20, luck=0.03, own=0.2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=600)
    studies = parser.parse_args().studies
    started = time.perf_counter()
    error = 100 * np.sqrt(0.95 * 0.05 / studies)
    print(f"{studies} studies a row; a coverage of 95 % is measured with a standard error of {error:.1f} %")
    print(
        f"{'world':24} {'seeds':>5} {'tiles':>5} {'covered':>8} {'+-points':>8} {'twice':>7} {'of s':>7} {'A/A verdicts':>13}"
    )
    for name, world in WORLDS.items():
        covered, width, _, twice, scatter = simulate(world, studies).mean(axis=0)
        one_method = replace(world, advantage=0.0, preference=0.0)
        same = simulate(one_method, studies, seed=1).mean(axis=0)[2] if world.seeds > 1 else 0.0
        print(
            f"{name:24} {world.seeds:5} {world.tiles:5} {covered:8.1%} {width:8.2f} {twice:7.1%} {scatter:7.1%} {same:13.1%}",
            flush=True,
        )
    print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
