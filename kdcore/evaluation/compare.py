"""Is the distilled student better than the student without teacher? A difference, its interval, and a verdict.

Two things make a measured difference uncertain, and both are in the interval: which trainings were run (seeds), and
which ground was tested. `kdcore.evaluation.uncertainty` says how, `benchmarks/coverage.py` how often such an interval
holds the truth.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from kdcore.errors import DataError
from kdcore.evaluation.ground import Ground
from kdcore.evaluation.influence import OVERALL, Measured, holders, measure
from kdcore.evaluation.scores import Scores, aligned
from kdcore.evaluation.uncertainty import (
    Difference,
    Estimate,
    Needed,
    difference,
    estimate,
    fieller,
    holm,
    known,
    needed,
    paired,
    stacked,
    with_classes,
)
from kdcore.evaluation.verdicts import (
    FEWEST_BLOCKS,
    GroundFacts,
    Lack,
    Verdict,
    basis_in_words,
    decide,
    gap_in_words,
    ground_in_words,
    margin,
    others_in_words,
    put_in_words,
    single_classes,
)

SMALLEST_GAP = 0.1  # points of mean AP; a share of less would be a share of noise


@dataclass(frozen=True)
class ClassComparison:
    """AP of one class, distilled minus alone. No study plans it, so it is exploratory: a reason to look again.

    Attributes:
        points: the interval is widened for the number of classes (Holm), and leaves out 0 just where the verdict is given.
        p: adjusted likewise; None with one seed, or where it cannot be known.
        verdict: of the interval.
        exploratory: True.
    """

    points: Difference
    p: float | None
    verdict: Verdict
    exploratory: bool = True


@dataclass(frozen=True)
class Comparison:
    """The distilled student against the student alone (without teacher), on the same tiles and seeds.

    Attributes:
        mean_ap_points: distilled minus alone, mean average precision over the classes that occur.
        mean_iou_points: the same for IoU at the arg-max.
        boundary_iou_points: the same for Boundary IoU.
        share_of_gap_closed: (distilled - alone) / (reference - alone) in mean AP; None with one seed, or where the interval of
            the gap reaches 0. The reference is the student with all labels where there is one, else the teacher.
        share_of_gap_closed_interval: Fieller's interval of it.
        verdict: from the interval of mean AP; one seed never gives a verdict for either.
        sentence: the verdict for people who do not program.
        seeds: pairs of trainings.
        tiles: in the test split.
        confidence: of all intervals.
        covers_seeds: False with one seed: the intervals then hold the noise of the imagery only.
        distilled_minus_teacher: mean AP, points; None without a teacher.
        distilled_minus_all_labels: mean AP, points; None without a student with all labels.
        verdicts: of each of `OVERALL`.
        equivalence_margin: points of mean AP within which the two are equivalent; None unless no difference was detectable.
        needed: what would decide; None likewise.
        p: two-sided p-value of the difference in mean AP, for a family of comparisons (`holm`); None with one seed.
        classes: AP of each class where there are several.
        ground: what the interval is based on.
        basis: the same in words, with what the interval does not cover.
    """

    mean_ap_points: Difference
    mean_iou_points: Difference
    boundary_iou_points: Difference
    share_of_gap_closed: float | None
    share_of_gap_closed_interval: tuple[float, float] | None
    verdict: Verdict
    sentence: str
    seeds: int
    tiles: int
    confidence: float
    covers_seeds: bool
    distilled_minus_teacher: Difference | None
    distilled_minus_all_labels: Difference | None
    verdicts: dict[str, Verdict]
    equivalence_margin: float | None
    needed: Needed | None
    p: float | None
    classes: dict[str, ClassComparison]
    ground: GroundFacts
    basis: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, without NaN."""
        return {name: plain(getattr(self, name)) for name in self.__dataclass_fields__}


def plain(value: Any) -> Any:
    """A value as JSON knows it: None for NaN, lists for tuples."""
    if isinstance(value, Difference):
        return value.to_dict()
    if isinstance(value, ClassComparison | GroundFacts | Needed):
        return {name: plain(getattr(value, name)) for name in asdict(value)}
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, tuple):
        return [plain(one) for one in value]
    if isinstance(value, Verdict):
        return value.value
    return known(value) if isinstance(value, float) else value


def compare(
    alone: Sequence[Scores],
    distilled: Sequence[Scores],
    teacher: Scores | None = None,
    *,
    all_labels: Sequence[Scores] | None = None,
    confidence: float = 0.95,
    metres_per_pixel: float | None = None,
) -> Comparison:
    """Compare two arms, seed by seed, over the same test tiles.

    Args:
        alone: scores of the student alone, one for each seed.
        distilled: scores of the distilled student, the same seeds in the same order.
        teacher: scores of the teacher, for the share of the gap.
        all_labels: scores of the student with all labels, the same seeds in the same order: the gap is measured to it then, because
            the teacher's lead is partly that of its labels.
        confidence: of the intervals, in (0, 1).
        metres_per_pixel: to give the size of a block in metres.

    Returns:
        Differences in points, distilled minus alone.

    Raises:
        DataError: an arm has no scores, the arms have different numbers of seeds, or classes, tiles or labels differ.
    """
    if len({len(alone), len(distilled), len(alone if all_labels is None else all_labels)}) > 1 or not alone:
        raise DataError(
            f"The student alone has {len(alone)} seeds and the distilled student {len(distilled)}"
            + (". " if all_labels is None else f", that with all labels {len(all_labels)}. ")
            + "Train the arms with the same seeds, one at least."
        )
    reference = alone[0]
    if not reference.tiles:
        raise DataError("The scores hold no tile, so there is nothing to compare. Give the test split labelled pixels.")
    seen: dict[int, Measured] = {}

    def measured(scores: Scores, name: str) -> Measured:
        if id(scores) not in seen:
            seen[id(scores)] = measure(aligned(scores, reference, name))
        return seen[id(scores)]

    def arm(networks: Sequence[Scores], name: str) -> list[Measured]:
        return [measured(scores, f"{name}, seed number {number}") for number, scores in enumerate(networks, start=1)]

    return judge(
        reference,
        arm(alone, "Student alone"),
        arm(distilled, "Distilled student"),
        None if teacher is None else measured(teacher, "Teacher"),
        None if all_labels is None else arm(all_labels, "Student with all labels"),
        confidence,
        metres_per_pixel,
    )


def compare_arms(scores: Mapping[str, Sequence[Scores]], metres_per_pixel: float | None) -> Comparison:
    """Compare the arms of a study: `alone`, `distilled`, `teacher` and, where it has one, `all_labels`; see `compare`."""
    return compare(
        scores["alone"],
        scores["distilled"],
        scores["teacher"][0],
        all_labels=scores.get("all_labels"),
        metres_per_pixel=metres_per_pixel,
    )


def judge(
    reference: Scores,
    alone: Sequence[Measured],
    distilled: Sequence[Measured],
    teacher: Measured | None,
    all_labels: Sequence[Measured] | None,
    confidence: float,
    metres_per_pixel: float | None,
) -> Comparison:
    """The comparison of networks that were measured on the tiles and labels of the reference."""
    ground, seeds, classes = Ground(reference.tiles, reference.places), len(alone), len(reference.scored)
    names = [reference.classes[index] for index in reference.scored]
    estimates = paired(ground, alone, distilled)
    by_class, overall = with_classes(estimates, classes, confidence), estimates[classes:]
    lack = what_lacks(reference, overall[0])
    points = [one.interval(confidence) for one in overall]
    if lack is Lack.OTHERS:
        points[0] = Difference(points[0].mean, float("nan"), float("nan"))
    verdicts = {
        name: decide(one, seeds, enough=lack is None or (lack is Lack.OTHERS and name != "mean_ap"))
        for name, one in zip(OVERALL, points, strict=True)
    }
    to_teacher = lead(ground, alone, distilled, None if teacher is None else [teacher] * seeds, classes, confidence)
    to_all_labels = lead(ground, alone, distilled, all_labels, classes, confidence)
    gap = to_teacher if all_labels is None else to_all_labels
    facts = ground_facts(ground, overall[0], single_classes(names, holders(reference).tolist()), metres_per_pixel)
    verdict = verdicts["mean_ap"]
    open_question = needed(overall[0], confidence) if verdict is Verdict.SAME else None
    name = "teacher" if all_labels is None else "student with all labels"
    clause = gap_in_words(verdict, gap.size, gap.share, gap.interval, SMALLEST_GAP, name)
    sentence = put_in_words(verdict, points[0], seeds, confidence, gap=clause, needed=open_question, lack=lack)
    if verdict is not Verdict.TOO_EARLY:
        sentence += others_in_words(verdicts, dict(zip(OVERALL, points, strict=True))) + ground_in_words(facts)
    return Comparison(
        mean_ap_points=points[0],
        mean_iou_points=points[1],
        boundary_iou_points=points[2],
        share_of_gap_closed=gap.share,
        share_of_gap_closed_interval=gap.interval,
        verdict=verdict,
        sentence=sentence,
        seeds=seeds,
        tiles=len(ground),
        confidence=confidence,
        covers_seeds=seeds > 1,
        distilled_minus_teacher=to_teacher.behind,
        distilled_minus_all_labels=to_all_labels.behind,
        verdicts=verdicts,
        equivalence_margin=margin(points[0]) if verdict is Verdict.SAME else None,
        needed=open_question,
        p=known(overall[0].p) if seeds > 1 else None,
        classes=class_comparisons(names, estimates[:classes], by_class, seeds) if classes > 1 else {},
        ground=facts,
        basis=basis_in_words(facts, seeds),
    )


class Lead(NamedTuple):
    """The lead of a reference over the student alone in mean AP; None throughout where there is no reference.

    Attributes:
        size: reference minus alone, points.
        share: of it that the distilled student closes, and `interval` of that; None where the lead is not certain.
        behind: distilled minus reference, points.
    """

    size: Difference | None = None
    share: float | None = None
    interval: tuple[float, float] | None = None
    behind: Difference | None = None


def lead(
    ground: Ground,
    alone: Sequence[Measured],
    distilled: Sequence[Measured],
    reference: Sequence[Measured] | None,
    classes: int,
    confidence: float,
) -> Lead:
    """The lead of the reference's networks, one for each seed, in mean AP (row `classes`)."""
    if reference is None:
        return Lead()
    gain, gap, lag = (
        [difference(first, second) for first, second in pairs]
        for pairs in (
            zip(alone, distilled, strict=True),
            zip(alone, reference, strict=True),
            zip(reference, distilled, strict=True),
        )
    )
    total = [Measured(one.values + two.values, one.fields + two.fields) for one, two in zip(gain, gap, strict=True)]
    rows = [
        stacked([Measured(one.values[[classes]], one.fields[[classes]]) for one in arm])
        for arm in (gain, gap, lag, total)
    ]
    over, under, apart, together = estimate(ground, *(np.concatenate(part) for part in zip(*rows, strict=True)))
    size, behind = under.interval(confidence), apart.interval(confidence)
    if len(alone) < 2 or not under.mean >= SMALLEST_GAP:
        return Lead(size, behind=behind)
    # gain - gap = distilled - reference, so both variances that give the covariance are at hand
    interval = fieller(over, under, (together.variance - apart.variance) / 4, confidence)
    return Lead(size, None if interval is None else over.mean / under.mean, interval, behind)


def what_lacks(reference: Scores, mean_ap: Estimate) -> Lack | None:
    """Why nothing can be compared on this test part, if so."""
    if np.isnan(mean_ap.mean):
        return Lack.CLASSES
    if np.count_nonzero(reference.confusion.sum(axis=(0, 2))) < 2:
        return Lack.OTHERS
    if len(reference.tiles) < 2:
        return Lack.TILES
    return Lack.BLOCKS if mean_ap.blocks < 2 else None


def ground_facts(
    ground: Ground, mean_ap: Estimate, single: tuple[str, ...], metres_per_pixel: float | None
) -> GroundFacts:
    """What the interval of mean AP is based on."""
    blocks = known(mean_ap.blocks)
    side = None if blocks is None or ground.by_scene else float(np.sqrt(len(ground) / blocks))
    return GroundFacts(
        tiles=len(ground),
        scenes=ground.scenes,
        by_scene=ground.by_scene,
        blocks=blocks,
        block_tiles=side,
        block_metres=None if side is None or metres_per_pixel is None else side * ground.side * metres_per_pixel,
        correlation_tiles=known(mean_ap.length),
        this_ground_only=blocks is None or blocks < FEWEST_BLOCKS or bool(single),
        single=single,
        places=ground.wholes,
        touching=ground.touching,
    )


def class_comparisons(
    names: Sequence[str], estimates: Sequence[Estimate], points: Sequence[Difference], seeds: int
) -> dict[str, ClassComparison]:
    """A comparison of each class's AP, adjusted for their number."""
    adjusted = holm([one.p for one in estimates])
    return {
        name: ClassComparison(one, known(p) if seeds > 1 else None, decide(one, seeds))
        for name, one, p in zip(names, points, adjusted, strict=False)
    }
