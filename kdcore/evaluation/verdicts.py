"""What an interval allows to say: a verdict, and the sentences for people who do not program."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdcore.evaluation.uncertainty import Difference, Needed

FEWEST_BLOCKS = 6.0
"""With fewer independent blocks a verdict holds for the test ground only. Correlation as long as the scene, with which
intervals cover less, looks like fewer in a third to a half of the simulated studies (`benchmarks/coverage.py --beyond`)."""
NOT_COVERED = ("the choice of the labelled places", "another training of the teacher", "other places and dates")
METRIC_NAMES = {"mean_ap": "mean AP", "mean_iou": "mean IoU", "mean_boundary_iou": "Boundary IoU"}


class Verdict(StrEnum):
    """What the interval of a difference says."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "no detectable difference"
    TOO_EARLY = "too early to say"


class Lack(StrEnum):
    """Why a test part cannot tell networks apart."""

    CLASSES = "no scored class occurs in the test part"
    OTHERS = "only one class occurs in the test part, so that every network reaches an AP of 100"
    TILES = "one test tile is too few"
    BLOCKS = "the tiles of the test part are so alike that they count as one"


@dataclass(frozen=True)
class GroundFacts:
    """What the interval is based on.

    Attributes:
        tiles, scenes: of the test split.
        by_scene: whether whole scenes are the blocks; otherwise the tiles' correlation tells how many blocks they are worth.
        blocks: number of independent blocks; None where it cannot be known.
        block_tiles, block_metres: side of a square that counts as one block; None where unknown or where scenes are the blocks.
        correlation_tiles: over how many tiles the difference is correlated (the length at which it falls to 37 %), likewise.
        this_ground_only: whether there are too few blocks to claim anything beyond the test ground.
        single: classes that occur in one tile only.
        places: groups of neighbouring scenes, or scenes of several files; None where an older version did not know.
        touching: whether files of one scene, which do not say where they lie, are taken for independent.
    """

    tiles: int
    scenes: int
    by_scene: bool
    blocks: float | None
    block_tiles: float | None
    block_metres: float | None
    correlation_tiles: float | None
    this_ground_only: bool
    single: tuple[str, ...] = ()
    places: int | None = None
    touching: bool = False


def decide(difference: "Difference", seeds: int, *, enough: bool = True) -> Verdict:
    """Better or worse only where the whole interval is, as it is printed (two decimals), and where there are several seeds.

    Args:
        difference: with its interval.
        seeds: pairs of trainings.
        enough: whether the test part can tell anything.
    """
    if seeds < 2 or not enough or math.isnan(difference.low) or math.isnan(difference.high):
        return Verdict.TOO_EARLY
    if round(difference.low, 2) > 0:
        return Verdict.BETTER
    return Verdict.WORSE if round(difference.high, 2) < 0 else Verdict.SAME


def among(verdict: Verdict, adjusted: float, level: float = 0.05) -> Verdict:
    """The verdict of one of several comparisons that are looked at together; `adjusted` is its p-value after Holm."""
    found = verdict in (Verdict.BETTER, Verdict.WORSE)
    return Verdict.SAME if found and not adjusted < level else verdict


def margin(difference: "Difference") -> float:
    """Within how many points the two are equivalent: the end of the interval that is farther from 0."""
    return max(abs(difference.low), abs(difference.high))


def put_in_words(
    verdict: Verdict,
    difference: "Difference",
    seeds: int,
    confidence: float,
    *,
    gap: str = "",
    needed: "Needed | None" = None,
    lack: Lack | None = None,
) -> str:
    """The verdict of mean AP as a sentence or two; `gap` is a clause from `gap_in_words`."""
    if lack is not None:
        return f"Nothing can be compared: {lack}. Label more of the test part{', in other places' if lack is Lack.BLOCKS else ''}."
    size = f"{abs(difference.mean):.{digits(difference)}f} points of mean AP"
    if verdict is Verdict.TOO_EARLY:
        direction = "below" if difference.mean < 0 else "above"
        return (
            f"Too early to say: the distilled student came out {size} {direction} the student without teacher, but one seed "
            f"does not show how much results vary between runs{gap}. Run three seeds or more."
        )
    told = f"({100 * confidence:g} % interval {ends(difference)}, {seeds} seeds)"
    if verdict is not Verdict.SAME:
        near, far = sorted((abs(difference.low), abs(difference.high)))
        told = f"({100 * confidence:g} % interval {near:.{digits(difference)}f} to {far:.{digits(difference)}f}, {seeds} seeds)"
        return f"The distilled student is {verdict} than the student without teacher by {size} {told}{gap}."
    mean = f"{round(difference.mean, digits(difference)) + 0.0:+.{digits(difference)}f}"
    return (
        f"No detectable difference between the distilled student and the student without teacher: {mean} points of mean AP "
        f"{told}{gap}. With {100 * confidence:g} % confidence they differ by less than {margin_in_words(difference)} points."
        + ("" if needed is None else f" {needed_in_words(needed)}")
    )


def gap_in_words(
    verdict: Verdict,
    gap: "Difference | None",
    share: float | None,
    interval: tuple[float, float] | None,
    smallest: float,
    reference: str = "teacher",
) -> str:
    """What the lead of a reference adds to the verdict, as a clause; `gap` (points) is None without one."""
    if gap is None or math.isnan(gap.mean):
        return ""
    if gap.mean < smallest:
        nothing_passed = verdict is not Verdict.BETTER and reference == "teacher"
        nothing = "it had nothing to pass on" if nothing_passed else "there is no gap to close"
        return f"; the {reference} is not better than the student without teacher, so {nothing}"
    if verdict is not Verdict.BETTER:
        return ""
    if share is None or interval is None:
        lead = "teacher's lead" if reference == "teacher" else f"lead of the {reference}"
        return f"; the {lead} itself is uncertain ({gap.low:+.1f} to {gap.high:+.1f}), so no share of the gap is given"
    passing = ", and passes it" if interval[0] > 1 else ""
    low, high = (100 * value for value in interval)
    return f"; it closes {100 * share:.0f} % of the gap to the {reference} ({low:.0f} to {high:.0f} %){passing}"


def needed_in_words(needed: "Needed") -> str:
    """What would decide."""
    area = None if needed.area is None else f"{needed.area:.3g} times the test area"
    if needed.seeds is None and area is None:
        return "A difference as small as the measured one would need more than 50 seeds or 20 times the test area."
    if needed.seeds is None:
        return f"To detect a difference of the measured size takes {area}; more seeds alone would not do."
    if area is None:
        return f"To detect a difference of the measured size takes {needed.seeds} seeds; more test area alone would not do."
    return f"To detect a difference of the measured size takes {needed.seeds} seeds, or {area}."


def others_in_words(verdicts: Mapping[str, Verdict], differences: "Mapping[str, Difference]") -> str:
    """The verdicts of IoU and Boundary IoU where they differ from that of mean AP; begins with a space if there is any."""
    said = ""
    for metric in ("mean_iou", "mean_boundary_iou"):
        if verdicts[metric] != verdicts["mean_ap"] and not math.isnan(differences[metric].low):
            one = differences[metric]
            said += f" By {METRIC_NAMES[metric]}: {verdicts[metric]} ({one.mean:+.{digits(one)}f} points, {ends(one)})."
    return said


def ground_in_words(facts: GroundFacts) -> str:
    """A warning where the verdict holds for the test ground only; begins with a space if there is any."""
    said = ""
    if facts.this_ground_only and facts.blocks is not None and facts.blocks < FEWEST_BLOCKS:
        said += (
            f" This holds for this ground only: the test part's {facts.tiles} tiles are worth {facts.blocks:.1f} independent "
            f"blocks, fewer than {FEWEST_BLOCKS:g}."
        )
    if facts.single:
        few = " and ".join(f"'{name}'" for name in facts.single)
        said += f" For {few} it holds for this ground only: {'each is' if len(facts.single) > 1 else 'it is'} in one test tile."
    return said


def basis_in_words(facts: GroundFacts, seeds: int) -> str:
    """What the interval is made of, and what it does not cover."""
    said = (
        f"The interval covers {seeds} seeds and the ground"
        if seeds > 1
        else "The interval covers the ground, but not the seeds"
    )
    said += f": {facts.tiles} test tiles in {facts.scenes} scene{'s' if facts.scenes > 1 else ''}"
    grouped = facts.places is not None and facts.places < facts.scenes
    if grouped:
        said += f" that lie at {facts.places} place{'s' if facts.places != 1 else ''}"
    if facts.blocks is not None:
        said += f" are worth {facts.blocks:.0f} independent blocks"
        if facts.by_scene:
            said += " (whole places)" if grouped and not facts.touching else " (whole scenes)"
        elif facts.block_tiles is not None and facts.correlation_tiles is not None:
            metres = "" if facts.block_metres is None else f", {facts.block_metres:,.0f} m"
            alike = f"the difference is correlated over {facts.correlation_tiles:.1f} tiles"
            if facts.correlation_tiles < 0.2:
                alike = "neighbouring tiles differ as much as distant ones"
            said += f" with sides of {facts.block_tiles:.1f} tiles{metres} ({alike})"
    said += f". It does not cover {', '.join(NOT_COVERED[:-1])}, or {NOT_COVERED[-1]}."
    if facts.touching:
        said += (
            " Files that are parts of one scene do not say where they lie to each other and are taken for independent; "
            "if they touch, the interval is too narrow."
        )
    return said


def digits(difference: "Difference") -> int:
    """Decimals with which a difference is written: so many that no end of an interval becomes 0 by rounding."""
    values = [abs(value) for value in (difference.mean, difference.low, difference.high) if not math.isnan(value)]
    return 2 if min(values, default=1.0) < 0.095 else 1


def ends(difference: "Difference") -> str:
    """'+0.6 to +3.0'."""
    places = digits(difference)
    low, high = (f"{round(value, places) + 0.0:+.{places}f}" for value in (difference.low, difference.high))
    return f"{low} to {high}"


def margin_in_words(difference: "Difference") -> str:
    """The margin of equivalence, rounded up."""
    scale: float = 10 ** digits(difference)
    return f"{math.ceil(margin(difference) * scale) / scale:.{digits(difference)}f}"


def single_classes(classes: Sequence[str], tiles: Sequence[int]) -> tuple[str, ...]:
    """The classes that occur in one tile only."""
    return tuple(name for name, count in zip(classes, tiles, strict=True) if count == 1)
