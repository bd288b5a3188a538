"""What it takes to compute and keep soft labels of scenes, told before anything is computed, and what is left of a study. No torch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Literal

from kdcore.data import demo
from kdcore.data.collection import Collection, Extent, Region
from kdcore.errors import KdcoreError
from kdcore.jobs.devices import kind_of
from kdcore.jobs.forecast import FORWARD_SHARE, Costs, Left, time_left
from kdcore.jobs.plan import asks_teacher
from kdcore.jobs.study_folder import StudyFolder
from kdcore.settings import StudySettings

FLOAT16_BYTES = 2
WINDOW = 512  # pixels: what a teacher looks at at once
HALO = 64  # pixels: imagery seen around those that a window answers for
COMPARE_EVERY = 8  # windows: one in so many is also looked at in a second view where only one is kept


def channels(logits: int) -> int:
    """Numbers that are kept for a pixel: of several classes the logarithms of their probabilities and one for the logits' level."""
    return 1 if logits == 1 else logits + 1


def outermost(regions: Iterable[Region]) -> tuple[Region, ...]:
    """The regions that lie in no other one: blocks of a larger region are served from there."""
    kept: list[Region] = []
    for region in sorted(regions, key=lambda region: -region.box.area):
        if find(kept, region) is None:
            kept.append(region)
    return tuple(kept)


def find(regions: Sequence[Region], wanted: Region) -> int | None:
    """Index of the region that holds all of `wanted`."""
    for index, region in enumerate(regions):
        if region.scene.image == wanted.scene.image and region.box.intersection(wanted.box) == wanted.box:
            return index
    return None


def bytes_of(pixels: int, logits: int, views: int = 8, members: int = 1) -> int:
    """Bytes that the soft labels of so many pixels take.

    Args:
        pixels: of regions that lie in no other one, see `outermost`.
        logits: maps of the teacher: one for two classes, else one a class.
        views: 8, or 1.
        members: networks of the teacher.
    """
    return pixels * channels(logits) * views * members * FLOAT16_BYTES


@dataclass(frozen=True)
class SoftLabelCost:
    """What it takes to keep the soft labels of scenes, before anything is computed.

    Attributes:
        bytes: on the disk.
        views: kept of each pixel, 8 or 1.
        seconds: to compute them; None where the teacher's network was not measured on this device.
    """

    bytes: int
    views: int
    seconds: float | None


def soft_label_cost(settings: StudySettings, extent: Extent, costs: Costs) -> SoftLabelCost | None:
    """What keeping the soft labels takes; None where no teacher is asked, or at each step.

    Args:
        settings: of the study.
        extent: of the data.
        costs: see `kdcore.jobs.forecast.measured_costs`.
    """
    if not asks_teacher(settings) or settings.recipe.teacher_sees == "crop":
        return None
    everything = extent.train + extent.unlabelled
    pixels = everything if settings.recipe.unlabelled else round(settings.labels * extent.train)
    teacher = settings.teacher
    views = 8 if teacher.flips or settings.hardware.cache_views == "eight" else 1
    networks = len(teacher.checkpoints or teacher.seeds)
    step = costs.alone.get((kind_of(settings.hardware), teacher.network))
    seconds = None
    if step:
        looked_at = views + (1 / COMPARE_EVERY if views == 1 else 0)
        looked_at *= (WINDOW / (WINDOW - 2 * HALO)) ** 2
        seconds = pixels * networks * looked_at * FORWARD_SHARE * mean(step)
    return SoftLabelCost(bytes_of(pixels, extent.logits, views, networks), views, seconds)


def extent_of(source: Path | Literal["demo"], crop: int) -> Extent | None:
    """How much there is to ask a teacher about and to score; None where the data cannot be read.

    Args:
        source: a collection's path, or 'demo'.
        crop: side of the crops, pixels.
    """
    try:
        return demo.extent() if source == "demo" else Extent.of(Collection.open(source), crop)
    except KdcoreError:
        return None


def left_of(study: StudyFolder, costs: Costs, extent: Extent | None, now: float) -> Left | None:
    """How far a study at work is and how long the rest takes, by the forecast that was told before its launch; None where unknown.

    Args:
        study: whose job runs.
        costs: see `kdcore.jobs.forecast.measured_costs`.
        extent: of its data.
        now: seconds since 1970.

    Raises:
        KdcoreError: a file of the study is broken.
    """
    kept = None if extent is None else soft_label_cost(study.settings, extent, costs)
    scored = None if extent is None else extent.scored
    return time_left(study, costs, scored, (kept and kept.seconds) or 0.0, now)
