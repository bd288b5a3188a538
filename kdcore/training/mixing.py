"""Crops of a batch mixed with each other, so that student and teacher meet views between the ones that exist.

CutMix (Yun et al. 2019) pastes a rectangle of another crop; mixup (Zhang et al. 2018) blends two whole crops. Labels, valid pixels
and the teacher's soft labels follow, because a teacher helps where it answers for the very view of the student (Beyer et al. 2022).

What is mixed is a pure function of (seed, step, process), as the batch is: every arm sees the same mixes and a run resumes
exactly. Labelled crops are mixed with labelled ones only, and so are the same whatever else is in the batch. Crops without labels
are mixed with any and gain no labels by it: otherwise a distilled student would be told more labels than the student alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kdcore.data.batches import Batch
from kdcore.data.masks import IGNORE
from kdcore.errors import SettingsError
from kdcore.settings import Mix

MIX_STREAM = 1_000_033  # keeps these random numbers apart from those that place the crops
Rectangle = tuple[slice, slice]


@dataclass(kw_only=True)
class Blend(Batch):
    """Blended crops: each pixel is part one and part another, and has the labels of both.

    Attributes:
        other_labels: (N, height, width) uint8 class indices of the second part, 255 = ignore.
        share: of the first part, whose labels are `labels`.
    """

    other_labels: Tensor
    share: float

    def map(self, change: Callable[[Tensor], Tensor]) -> "Blend":
        """The same batch with each tensor changed."""
        plain = super().map(change)
        return Blend(**vars(plain), other_labels=change(self.other_labels), share=self.share)


def mix(batch: Batch, kind: Mix, labelled: int, seed: int, step: int, rank: int = 0) -> Batch:
    """A step's batch with its crops mixed; the batch itself is left as it is.

    A labelled crop stays unmixed where no labelled pixel would be left in it.

    Args:
        batch: the labelled crops first.
        kind: 'cutmix' or 'mixup'; 'none' gives the batch back.
        labelled: how many of its crops have labels.
        seed: of the run.
        step: number of the step, from 0.
        rank: of this process, which mixes the crops that it has.

    Raises:
        SettingsError: soft labels of single crops cannot be blended.
    """
    if kind == "none":
        return batch
    # What concerns labelled crops is drawn first, so that crops without labels change nothing in them.
    rng = np.random.default_rng([seed, step, MIX_STREAM, rank])
    if kind == "mixup":
        share = float(rng.random())
        return blend(batch, choose_partners(len(batch.image), labelled, rng), share, labelled)
    _, height, width = batch.labels.shape
    rectangles = [draw_rectangle(height, width, rng) for _ in range(labelled)]
    partners = choose_partners(len(batch.image), labelled, rng)
    rectangles += [draw_rectangle(height, width, rng) for _ in partners[labelled:]]
    return paste(batch, partners, rectangles, labelled)


def check_crops(kind: Mix, labelled: int) -> None:
    """Refuse to mix where there is nothing to mix with.

    Raises:
        SettingsError: one labelled crop only.
    """
    if kind != "none" and labelled < 2:
        raise SettingsError(
            f"mix: {kind} mixes the labelled crops of a batch with each other, but each process has {labelled} only. "
            "Raise budget.batch_size, or set mix: none."
        )


def choose_partners(crops: int, labelled: int, rng: np.random.Generator) -> list[int]:
    """For each crop the one that it is mixed with: never itself, if there is another. Labelled crops come first."""
    partners = np.zeros(crops, dtype=int)
    around = rng.permutation(labelled)
    partners[around] = np.roll(around, 1)
    for index in range(labelled, crops):
        partners[index] = (index + 1 + rng.integers(max(1, crops - 1))) % crops
    return [int(partner) for partner in partners]


def draw_rectangle(height: int, width: int, rng: np.random.Generator) -> Rectangle:
    """Rows and columns of a rectangle with a uniform share of the area and a uniform centre, cut off at the crop's edge."""
    side = rng.random() ** 0.5
    spans = []
    for length in (height, width):
        centre, half = rng.integers(length), side * length / 2
        spans.append(slice(max(0, round(centre - half)), min(length, round(centre + half))))
    return spans[0], spans[1]


def paste(batch: Batch, partners: list[int], rectangles: list[Rectangle], labelled: int) -> Batch:
    """CutMix: everything that is known of a pixel in a rectangle comes from the partner."""
    counted = (batch.labels != IGNORE) & batch.valid
    mixed = batch.map(Tensor.clone)
    for index, (partner, (rows, columns)) in enumerate(zip(partners, rectangles, strict=True)):
        left = counted[index].clone()
        left[rows, columns] = counted[partner, rows, columns]
        if counted[index].any() and index < labelled and not left.any():
            continue
        pairs = [(mixed.image, batch.image), (mixed.labels, batch.labels), (mixed.valid, batch.valid)]
        if mixed.teacher is not None and batch.teacher is not None:
            pairs.append((mixed.teacher, batch.teacher))
        if mixed.weak is not None and batch.weak is not None:
            pairs.append((mixed.weak, batch.weak))
        for target, source in pairs:
            target[index, ..., rows, columns] = source[partner, ..., rows, columns]
    mixed.labels[labelled:] = IGNORE
    return mixed


def blend(batch: Batch, partners: list[int], share: float, labelled: int) -> Blend:
    """Mixup: `share * crop + (1 - share) * partner`; a pixel is valid where both are."""
    if batch.teacher is not None:
        raise SettingsError("mixup needs a teacher that sees the blend: set teacher_sees: crop, or mix: cutmix.")
    known = batch.labels != IGNORE
    both = batch.valid & batch.valid[partners]
    lost = (known & batch.valid).flatten(1).any(1) & ~((known | known[partners]) & both).flatten(1).any(1)
    lost[labelled:] = False
    chosen = torch.where(lost, torch.arange(len(partners)), torch.tensor(partners))
    other_labels = batch.labels[chosen]
    other_labels[labelled:] = IGNORE
    return Blend(
        image=share * batch.image + (1 - share) * batch.image[chosen],
        weak=None if batch.weak is None else share * batch.weak + (1 - share) * batch.weak[chosen],
        labels=batch.labels,
        valid=batch.valid & batch.valid[chosen],
        complete=batch.complete,
        other_labels=other_labels,
        share=share,
    )
