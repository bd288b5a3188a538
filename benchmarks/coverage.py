"""Does a 95 % interval of `kdcore.evaluation.compare` hold the true difference in 95 of 100 studies?

    OMP_NUM_THREADS=1 python benchmarks/coverage.py [--studies 800] [--save]        # about nine minutes on one core
    OMP_NUM_THREADS=1 python benchmarks/coverage.py --beyond [--studies 400] [--save]        # two: where it ends

A study is simulated from a population of ground and of trainings. On tile t, network s of an arm separates the two classes by

    separation = base + advantage of the arm + difficulty[t] + preference[arm, t] + training[arm, s] + own[arm, s, t]

standard deviations of its scores: how hard the tile is, what the arm's method makes of it, how good a training came out, and
the tiles on which just this training errs. The terms with a t, and the share of positives, are random fields whose
correlation falls with the distance h in tiles as (1 - nugget) * exp(-h / length). Scores go through the same code as those of a study.
The true difference in AP is known without sampling: expected histograms of the population, integrated over trainings.

Columns: coverage of the interval of mean AP and its median half-width in points; false verdicts, 'better' or 'worse' where the
two methods are equally good (no advantage; 5 % is what a 95 % interval allows) though each has places that it prefers, and where
the two arms are one and the same method; in how many studies a share of the gap is given, how often its interval holds the true
share; the median number of independent blocks, and how many studies say that they hold for their ground only.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from measuring import parser, publish, table
from numpy.typing import NDArray
from scipy import stats

from kdcore.evaluation.compare import Comparison, compare
from kdcore.evaluation.curves import average_precision
from kdcore.evaluation.levels import LEVELS, MAP_BORDERS
from kdcore.evaluation.scores import Scores
from kdcore.evaluation.verdicts import Verdict

STEPS = 50  # distinct score levels that are used
LEVEL = np.linspace(0, 250, STEPS).astype(int)
GRID = np.linspace(-4, 9, 1301)  # separations for which the distribution of scores is tabulated
EDGES = np.concatenate([[-np.inf], np.linspace(-4, 4, STEPS - 1), [np.inf]])
TILE = 128
ONE_SCENE, TEN_SCENES = ((9, 10),), ((4, 4),) * 10
COVERED, FALSE = (0.92, 0.98), 0.07


def score_table(sign: float) -> NDArray[np.float64]:
    """(separations, STEPS): shares of the scores in each step, normal around half the separation to one side."""
    return np.diff(stats.norm.cdf(EDGES[None, :] - sign * GRID[:, None] / 2), axis=1)


POSITIVE, NEGATIVE = score_table(+1), score_table(-1)


@lru_cache
def root(rows: int, columns: int, length: float, nugget: float) -> NDArray[np.float64]:
    """What turns independent numbers into a field on a grid of tiles, (tiles, tiles)."""
    row, column = (grid.ravel() for grid in np.mgrid[:rows, :columns])
    distance = np.hypot(row[:, None] - row, column[:, None] - column)
    alike = (1 - nugget) * np.exp(-distance / length) + nugget * np.eye(len(row)) if length else np.eye(len(row))
    return np.linalg.cholesky(alike)


@dataclass(frozen=True)
class World:
    """Standard deviations of the terms, in standard deviations of a network's scores, and the size of a study."""

    seeds: int
    scenes: tuple[tuple[int, int], ...] = ONE_SCENE
    length: float = 0.0
    nugget: float = 0.0
    advantage: float = 0.1
    difficulty: float = 0.5
    preference: float = 0.2
    training: float = 0.03
    own: float = 0.2
    pixels: int = 1024
    base: float = 2.5
    lead: float = 0.3

    def true_ap(self, advantage: float) -> float:
        """Expected AP of one training, on the whole population of ground, in points."""
        spread = np.sqrt(self.difficulty**2 + self.preference**2 + self.own**2)
        nodes, weights = np.polynomial.hermite_e.hermegauss(15)
        values = []
        for node in nodes:
            share = stats.norm.pdf(GRID, self.base + advantage + self.training * node, spread)
            share /= share.sum()
            # A tile's share of positives is uniform in (0.05, 0.35): 20 % in all.
            values.append(average_precision(spread_out(0.2 * share @ POSITIVE), spread_out(0.8 * share @ NEGATIVE)))
        return float(100 * np.dot(values, weights) / weights.sum())

    def field(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """One random field of variance 1 over all tiles."""
        return np.concatenate(
            [root(*shape, self.length, self.nugget) @ rng.normal(size=shape[0] * shape[1]) for shape in self.scenes]
        )

    def study(self, rng: np.random.Generator) -> tuple[list[Scores], list[Scores], Scores]:
        """Scores of the student alone, the distilled student and the teacher on one draw of ground and trainings."""
        tiles = tuple(
            (f"scene {number}", TILE * row, TILE * column)
            for number, (rows, columns) in enumerate(self.scenes)
            for row in range(rows)
            for column in range(columns)
        )
        positive = rng.binomial(self.pixels, 0.05 + 0.3 * stats.norm.cdf(self.field(rng)))
        difficulty = self.difficulty * self.field(rng)
        arms = []
        for advantage, seeds in ((0.0, self.seeds), (self.advantage, self.seeds), (self.lead, 1)):
            on_tile = self.base + advantage + difficulty + self.preference * self.field(rng)
            separations = [on_tile + rng.normal(0, self.training) + self.own * self.field(rng) for _ in range(seeds)]
            arms.append([scores_of(tiles, positive, self.pixels - positive, one, rng) for one in separations])
        return arms[0], arms[1], arms[2][0]


def spread_out(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., STEPS) -> (..., levels of a histogram)."""
    histogram = np.zeros((*steps.shape[:-1], LEVELS), dtype=np.uint32)
    histogram[..., LEVEL] = steps
    return histogram


def scores_of(tiles, positive, negative, separation, rng: np.random.Generator) -> Scores:
    """Draw the scores of each tile's pixels."""
    row = np.clip(np.rint((separation - GRID[0]) / (GRID[1] - GRID[0])), 0, len(GRID) - 1).astype(int)
    positives = spread_out(rng.multinomial(positive, POSITIVE[row]))
    negatives = spread_out(rng.multinomial(negative, NEGATIVE[row]))
    hits, alarms = positives[:, 127:].sum(axis=1), negatives[:, 127:].sum(axis=1)
    confusion = np.stack([negative - alarms, alarms, positive - hits, hits], axis=1).reshape(-1, 2, 2)
    boundary = np.zeros((len(tiles), 2, 2), dtype=np.int64)
    table = (row[None].astype(np.float32) for row in (MAP_BORDERS, np.arange(LEVELS) / (LEVELS - 1), np.ones(LEVELS)))
    levels, probability, ties = table
    return Scores(
        ("no", "yes"), (1,), tiles, levels, probability, ties, positives[:, None], negatives[:, None],
        confusion.astype(np.int64), boundary,
    )  # fmt: skip


def comparisons(world: World, studies: int, seed: int) -> list[Comparison]:
    """Simulated studies, compared as real ones are."""
    rng = np.random.default_rng(seed)
    return [compare(*world.study(rng)) for _ in range(studies)]


def covered(world: World, found: list[Comparison]) -> NDArray[np.bool_]:
    """For each study whether the interval of mean AP holds the truth."""
    truth = world.true_ap(world.advantage) - world.true_ap(0.0)
    return np.array([one.mean_ap_points.low <= truth <= one.mean_ap_points.high for one in found])


def shares_covered(world: World, found: list[Comparison]) -> list[bool]:
    """The same of the share of the gap, for the studies that give one."""
    bottom = world.true_ap(0.0)
    truth = (world.true_ap(world.advantage) - bottom) / (world.true_ap(world.lead) - bottom)
    intervals = [one.share_of_gap_closed_interval for one in found]
    return [pair[0] <= truth <= pair[1] for pair in intervals if pair is not None]


def false_verdicts(found: list[Comparison]) -> float:
    """Share of the studies that call one of two equal methods better."""
    return float(np.mean([one.verdict in (Verdict.BETTER, Verdict.WORSE) for one in found]))


def in_words(world: World) -> tuple[str, str]:
    """The test part and its correlation."""
    tiles = world.scenes[0][0] * world.scenes[0][1]
    part = f"one scene of {tiles} tiles" if len(world.scenes) == 1 else f"{len(world.scenes)} scenes of {tiles} tiles"
    return f"{part}, {world.seeds} seeds", f"{world.length:g}{f', nugget {world.nugget:g}' if world.nugget else ''}"


def cell(world: World, studies: int) -> list[str]:
    """What the table says of one world, and whether it meets the targets."""
    found = comparisons(world, studies, seed=1)
    coverage = float(covered(world, found).mean())
    equal = false_verdicts(comparisons(replace(world, advantage=0.0), studies, seed=2))
    one_method = false_verdicts(comparisons(replace(world, advantage=0.0, preference=0.0), studies, seed=3))
    shares = shares_covered(world, found)
    met = COVERED[0] <= coverage <= COVERED[1] and max(equal, one_method) <= FALSE
    return [
        f"{coverage:.1%}",
        f"{np.median([one.mean_ap_points.high - one.mean_ap_points.low for one in found]) / 2:.2f}",
        f"{equal:.1%}",
        f"{one_method:.1%}",
        f"{len(shares) / studies:.0%}",
        f"{np.mean(shares):.1%}" if len(shares) >= studies / 10 else "-",
        f"{np.median([one.ground.blocks for one in found]):.1f}",
        f"{np.mean([one.ground.this_ground_only for one in found]):.0%}",
        "met" if met else "missed",
    ]


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--studies", type=int, default=800)
    arguments.add_argument(
        "--beyond", action="store_true", help="correlations as long as the scene, and weak long ones"
    )
    chosen = arguments.parse_args()
    worlds = [
        World(seeds, scenes, length)
        for scenes in (ONE_SCENE, TEN_SCENES)
        for seeds in (3, 5)
        for length in (0.0, 1.0, 2.0)
    ]
    if chosen.beyond:
        worlds = [World(5, length=length) for length in (4.0, 8.0, 16.0)] + [World(5, length=4.0, nugget=0.5)]
    rows = [(*in_words(world), *cell(world, chosen.studies)) for world in worlds]
    error = np.sqrt(0.95 * 0.05 / chosen.studies)
    header = (
        "test part", "correlation, tiles", "covered", "± points", "false verdicts", "one method twice", "share given",
        "share covered", "blocks", "this ground only", "targets",
    )  # fmt: skip
    body = (
        f"{table(header, rows)}\n\n{chosen.studies} studies a cell; a coverage of 95 % is measured with a standard error of "
        f"{error:.1%}. Targets: {COVERED[0]:.0%} to {COVERED[1]:.0%} covered, at most {FALSE:.0%} false verdicts of either kind."
    )
    title = "Coverage of the intervals" + (", where it ends" if chosen.beyond else "")
    publish("coverage", title, body, chosen.save, "coverage_beyond" if chosen.beyond else "")


if __name__ == "__main__":
    main()
