"""What a teacher is worth in labels: students with growing shares of the labels, with and without it.

A *label curve* is a folder of studies that differ in `labels` only and share their teacher, seeds and test part. The baseline's mean AP,
a straight line in log(share) between the shares that were trained, says how many labels training without the teacher needs to
reach what distilling reaches with a few. The interval is the set of all shares e at which

    baseline(e) - distilled(s)

is not told from 0. Its variance is that of every comparison here (`kdcore.evaluation.uncertainty`): seeds are paired, all networks see the same
tiles, and a baseline between two shares is the weighted mean of both, seed by seed and tile by tile. So it is a Fieller interval, which
may have no end where the curve is flat, and then says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdcore.errors import KdcoreError, RunError
from kdcore.evaluation.ground import Ground
from kdcore.evaluation.influence import Measured, measure
from kdcore.evaluation.report import arm_runs
from kdcore.evaluation.scores import Scores, aligned
from kdcore.evaluation.uncertainty import Difference, difference, estimate, stacked
from kdcore.settings import Hardware, StudySettings, load_study

CONFIDENCE = 0.95
STEPS = 64  # of the grid between two shares
PREFIX = "labels-"  # of the studies' folders
REPORT = "labels.json"  # in a curve's folder


@dataclass(frozen=True)
class Worth:
    """With how many labels training without the teacher equals distilling with a share of them.

    Attributes:
        share: of the labels; None where it lies outside the shares that were trained, or cannot be said.
        low, high: the 95 % interval; None for an end outside the shares that were trained.
        sentence: for people; says why where it cannot be said.
    """

    share: float | None
    low: float | None
    high: float | None
    sentence: str


def share_folder(folder: Path, share: float) -> Path:
    """Where a label curve keeps the study of a share of the labels."""
    return folder / f"{PREFIX}{share:g}"


def titled(title: str, share: float) -> str:
    """What the study of a share is called, at most 200 characters."""
    end = f": {100 * share:g} % of the labels"
    return title[: 200 - len(end)] + end


def share_studies(folder: Path) -> dict[float, Path]:
    """The studies of a label curve by the share that was asked for, ascending.

    Raises:
        RunError: there are none, or they differ in more than the share.
    """
    found: dict[float, tuple[Path, StudySettings]] = {}
    for path in sorted(folder.glob(f"{PREFIX}*")):
        if (path / "study.yaml").is_file():
            settings = load_study(path / "study.yaml")
            found[settings.labels] = (path, settings)
    if not found:
        raise RunError(
            f"{folder}: holds no label curve. Make one with `kdcore study --labels 0.1,0.3,1 --out {folder}`."
        )
    (first, usual), *others = found.values()
    for path, settings in others:
        if common(settings) != common(usual):
            raise RunError(
                f"{path}: its settings differ from those of {first.name} in more than the share of labels, so both are not one curve."
            )
    return {share: found[share][0] for share in sorted(found)}


def with_share(settings: StudySettings, share: float, unlabelled: bool) -> StudySettings:
    """The settings of a curve's study.

    The student with all labels is left out: it is the baseline of the share 1. There, no label is left unused, so a recipe has crops
    without labels only if there is imagery without labels (`unlabelled`).
    """
    recipe = settings.recipe
    if share == 1 and not unlabelled:
        recipe = recipe.model_copy(update={"unlabelled": 0.0})
    return settings.model_copy(update={"labels": share, "upper_bound": False, "recipe": recipe})


def common(settings: StudySettings) -> StudySettings:
    """What the studies of one curve have in common."""
    return with_share(settings, 1.0, unlabelled=False).model_copy(update={"hardware": Hardware()})


def label_curve(folder: Path) -> dict[str, Any]:
    """The report of the label curve in a folder; see `curve_report`.

    Raises:
        RunError: no label curve, or no study of it is finished.
    """
    return curve_report(share_studies(folder))


def curve_report(studies: Mapping[float, Path]) -> dict[str, Any]:
    """The report of a label curve, of the studies that are finished.

    Args:
        studies: their folders by share, ascending.

    Returns:
        `points`, ascending (`labels`: the share that was used; `wanted`: that was asked for; `alone`, `distilled`, `gain`: points of
        mean AP as `mean`, `low`, `high`; `worth`: see `Worth`, and `times` the labels), `teacher` (mean AP, points), `seeds`, `tiles`, `unfinished` (shares),
        `basis` (what the intervals do not cover) and `settings`; plain JSON values.

    Raises:
        RunError: no study of it is finished.
    """
    reference, used, unfinished = None, {}, []
    alone: list[list[Measured]] = []
    distilled: list[list[Measured]] = []
    teacher: float | None = None
    for share, path in studies.items():
        try:
            runs = arm_runs(path)
        except RunError:
            unfinished.append(share)
            continue
        for arm, into in (("alone", alone), ("distilled", distilled)):
            scores = [Scores.load(run.scores) for run in runs[arm]]
            reference = reference or scores[0]
            into.append([measure(aligned(one, reference, f"{path.name}, {arm}")) for one in scores])
        used[share] = float(runs["alone"][0].read_report()["labels"])
        teacher = runs["teacher"][0].read_report()["test"]["mean_ap"]
    if reference is None:
        first = next(iter(studies.values()))
        raise RunError(
            f"{first.parent}: no study of this label curve is finished. Give the same command again to go on."
        )
    ground, row = Ground(reference.tiles, reference.places), len(reference.scored)
    shares = list(used.values())
    points = []
    for index, (wanted, share) in enumerate(used.items()):
        found = worth(ground, shares, alone, distilled[index], share, row)
        points.append(
            {
                "labels": share,
                "wanted": wanted,
                "alone": mean_of(ground, alone[index], row),
                "distilled": mean_of(ground, distilled[index], row),
                "gain": mean_of(
                    ground, [difference(a, b) for a, b in zip(alone[index], distilled[index], strict=True)], row
                ),
                "worth": asdict(found) | {"times": None if found.share is None else round(found.share / share, 3)},
            }
        )
    settings = load_study(next(iter(studies.values())) / "study.yaml")
    return {
        "points": points,
        "teacher": None if teacher is None else round(100 * teacher, 3),
        "seeds": len(settings.seeds),
        "tiles": len(ground),
        "unfinished": unfinished,
        "basis": "Intervals cover seeds and test ground, each at 95 %. They do not cover which places were labelled, another training of the teacher, "
        "other places and dates, or how the baseline runs between two trained shares (taken as straight in log(share)).",
        "settings": settings.model_dump(mode="json"),
    }


def mean_of(ground: Ground, networks: Sequence[Measured], row: int) -> dict[str, float | None]:
    """The mean of some networks, one for each seed, in points, with its interval."""
    values, fields = stacked([Measured(one.values[[row]], one.fields[[row]]) for one in networks])
    (found,) = estimate(ground, values, fields)
    interval = found.interval(CONFIDENCE)
    return (interval if len(networks) > 1 else Difference(found.mean, float("nan"), float("nan"))).to_dict()


def worth(
    ground: Ground,
    shares: Sequence[float],
    alone: Sequence[Sequence[Measured]],
    distilled: Sequence[Measured],
    share: float,
    row: int,
    confidence: float = CONFIDENCE,
) -> Worth:
    """How many labels training alone needs to equal a distilled student.

    Args:
        ground: of the test tiles.
        shares: of the labels that were trained with, ascending.
        alone: the baseline's networks for each share, one for each seed.
        distilled: networks of the distilled student, the same seeds in the same order.
        share: of the labels that it had.
        row: of `Measured` that is looked at: mean AP.
        confidence: of the interval.
    """
    what, only = f"Distilling with {percent(share)} of the labels", f"{percent(shares[0])} to {percent(shares[-1])}"
    if len(shares) < 2:
        return Worth(None, None, None, f"{what}: with one share only, no baseline can be compared with it.")
    if len(distilled) < 2:
        return Worth(
            None, None, None, f"{what}: one seed tells nothing of how much trainings vary. Train two at least."
        )
    where, mean, half = gap_along(ground, shares, alone, distilled, row, confidence)
    if not np.isfinite(half).all():
        return Worth(None, None, None, f"{what}: this test part cannot tell how results vary from place to place.")
    low, high = crossing(where, mean + half, first=True), crossing(where, mean - half, first=False)
    if mean[-1] + half[-1] < 0 and low is None:
        return Worth(
            None,
            shares[-1],
            None,
            f"{what} is better than training with {percent(shares[-1])}, the most that was trained.",
        )
    if mean[0] - half[0] > 0 and high is None:
        return Worth(
            None,
            None,
            shares[0],
            f"{what} is worse than training with {percent(shares[0])}, the least that was trained.",
        )
    starts, ends = mean[0] + half[0] >= 0, mean[-1] - half[-1] <= 0
    low, high = (None if starts else low), (None if ends else high)
    if low is None and high is None:
        return Worth(
            None,
            None,
            None,
            f"{what}: cannot be said, because no share from {only} can be left out. More seeds or test area would tell.",
        )
    point = None if mean[0] > 0 else shares[0] if mean[0] == 0 else crossing(where, mean, first=True)
    below, above = f"less than {percent(shares[0])}", f"more than {percent(shares[-1])}"
    equal = percent(point) if point is not None else below if mean[0] > 0 else above
    least, most = below if low is None else percent(low), above if high is None else percent(high)
    sentence = f"{what} equals training with {equal} ({100 * confidence:.0f} % confidence interval: {least} to {most})."
    return Worth(point, low, high, sentence)


def gap_along(
    ground: Ground,
    shares: Sequence[float],
    alone: Sequence[Sequence[Measured]],
    distilled: Sequence[Measured],
    row: int,
    confidence: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Baseline minus distilled student along the shares: log(share), points of mean AP and half the interval's width, (Q,) each."""
    values = np.array([[one.values[row] for one in arm] for arm in alone])  # (shares, seeds)
    fields = np.array([[one.fields[row] for one in arm] for arm in alone])  # (shares, seeds, tiles)
    own = np.array([one.values[row] for one in distilled]), np.array([one.fields[row] for one in distilled])
    where = np.log(shares)
    grid = np.unique(np.concatenate([np.linspace(a, b, STEPS + 1) for a, b in pairwise(where)]))
    right = np.clip(np.searchsorted(where, grid, side="left"), 1, len(where) - 1)
    weight = (grid - where[right - 1]) / (where[right] - where[right - 1])

    def between(known: NDArray[np.float64]) -> NDArray[np.float64]:
        part = weight.reshape(-1, *(1 for _ in known.shape[1:]))
        return np.asarray((1 - part) * known[right - 1] + part * known[right])

    found = estimate(ground, between(values) - own[0], between(fields) - own[1])
    return grid, np.array([one.mean for one in found]), np.array([one.half_width(confidence) for one in found])


def crossing(where: NDArray[np.float64], line: NDArray[np.float64], first: bool) -> float | None:
    """The share at which a line along log(share) comes to 0 from below for the first time, or leaves it upwards for the last; else None."""
    before, after = line[:-1], line[1:]
    rises = np.flatnonzero((before < 0) & (after >= 0) if first else (before <= 0) & (after > 0))
    if not len(rises):
        return None
    index = int(rises[0 if first else -1])
    part = line[index] / (line[index] - line[index + 1])
    return float(np.exp(where[index] + part * (where[index + 1] - where[index])))


def percent(share: float) -> str:
    """'34 %', '5.1 %'."""
    return f"{100 * share:.{0 if share >= 0.0995 else 1}f} %"


def check_shares(shares: Sequence[float]) -> None:
    """Refuse shares of which no curve can be made.

    Raises:
        KdcoreError: fewer than two, twice the same, or outside of (0, 1].
    """
    if len(set(shares)) < 2 or len(set(shares)) < len(shares) or not all(0 < share <= 1 for share in shares):
        raise KdcoreError(
            f"--labels {','.join(f'{share:g}' for share in shares)}: give one share of the labels, or two or more different ones above 0 and up to 1, "
            "for example 0.05,0.1,0.25,0.5,1."
        )
