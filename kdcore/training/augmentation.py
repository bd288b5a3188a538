"""Strong augmentation: the student sees colours, sharpness and scale that the imagery does not have, the teacher what is there.

A student that has to say of a distorted crop what the teacher says of the crop itself learns more from it than one that sees the
same (FixMatch, Sohn et al. 2020; for segmentation UniMatch, Yang et al. 2023, whose probabilities these are). Enlarging moves pixels, so it
applies to labels, valid pixels and what the teacher sees or has said, too; colour and blur apply to the student's image only.

The operations are torchvision's where it has them for any number of bands. What is drawn is a function of (seed, step, process, crop),
and not of torch's global random state, which threads that read ahead share.
"""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from kdcore.data.batches import Batch, Batches
from kdcore.data.masks import IGNORE
from kdcore.data.scene import Box
from kdcore.settings import Augment, Recipe
from kdcore.training.mixing import mix

STREAM = 1_000_037  # keeps these random numbers apart from those that place and mix the crops
ENLARGED, COLOURED, GREY, BLURRED = 0.5, 0.8, 0.2, 0.5  # how often
SMALLEST_SIDE = 0.5  # of the part that is enlarged, of the crop's side
COLOUR = (
    0.5  # most change of brightness (in standard deviations), contrast, saturation and each band's offset (half of it)
)
SIGMA = (0.1, 2.0)  # of the blur, pixels
SEEN_AROUND = 4  # standard deviations that the blur's kernel reaches to both sides together


def student_batch(batches: Batches, recipe: Recipe, step: int) -> Batch:
    """The batch of a step as the student sees it: strongly augmented, then mixed, as far as the recipe says."""
    labelled = batches.batch_size // batches.ranks
    batch = augment(batches, batches.batch(step), recipe.augment, labelled, step)
    return mix(batch, recipe.mix, labelled, batches.seed, step, batches.rank)


def augment(batches: Batches, batch: Batch, which: Augment, labelled: int, step: int) -> Batch:
    """Enlarge, colour and blur crops of a batch; the batch itself is left as it is.

    Args:
        batches: where the batch is from: seed, rank, and the mean and spread of each band.
        batch: the labelled crops first.
        which: of its crops; 'none' gives the batch back.
        labelled: how many of its crops have labels.
        step: number of the step, from 0.

    Returns:
        The batch with `weak`, which is what a teacher sees: (N, bands, height, width), enlarged but neither coloured nor blurred.
    """
    first = {"none": len(batch.image), "unlabelled": labelled, "all": 0}[which]
    if first == len(batch.image):
        return batch
    mean, std = (
        torch.from_numpy(values.astype(np.float32))[:, None, None]
        for values in (batches.survey.mean, batches.survey.std)
    )
    changed = batch.map(Tensor.clone)
    for index in range(first, len(batch.image)):
        kind = (index, 0) if index < labelled else (index - labelled, 1)  # the same labelled crops in every arm
        rng = np.random.default_rng([batches.seed, step, STREAM, batches.rank, *kind])
        if rng.random() < ENLARGED:
            enlarge(changed, index, draw_part(batch.labels.shape[1], batch.labels.shape[2], rng))
    weak = changed.image.clone()
    for index in range(first, len(batch.image)):
        kind = (index, 2) if index < labelled else (index - labelled, 3)
        rng = np.random.default_rng([batches.seed, step, STREAM, batches.rank, *kind])
        seen = distort((weak[index] - mean) / std, rng) * std + mean
        changed.image[index] = torch.where(changed.valid[index], seen, mean)
    return replace(changed, weak=weak)


def draw_part(height: int, width: int, rng: np.random.Generator) -> Box:
    """A part of a crop with both sides scaled alike, anywhere in it."""
    side = rng.uniform(SMALLEST_SIDE, 1)
    rows, columns = max(1, round(side * height)), max(1, round(side * width))
    return Box(int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1)), rows, columns)


def enlarge(batch: Batch, index: int, part: Box) -> None:
    """Show a part of a crop at the size of the whole, in place: bilinearly, labels by the nearest pixel.

    A pixel is valid where all that it is made of was. A crop whose last labelled pixel would be lost stays as it is.
    """
    size = list(batch.labels.shape[1:])
    box = [part.row, part.column, part.height, part.width]

    def cut(values: Tensor, mode: InterpolationMode) -> Tensor:
        resized: Tensor = functional.resized_crop(values, *box, size, interpolation=mode, antialias=False)
        return resized

    labels = cut(batch.labels[index, None], InterpolationMode.NEAREST_EXACT)[0]
    valid = cut(batch.valid[index, None].float(), InterpolationMode.BILINEAR)[0] > 1 - 1e-4
    known = (batch.labels[index] != IGNORE) & batch.valid[index]
    if known.any() and not ((labels != IGNORE) & valid).any():
        return
    batch.labels[index], batch.valid[index] = labels, valid
    batch.image[index] = cut(batch.image[index], InterpolationMode.BILINEAR)
    if batch.teacher is not None:  # log-probabilities and levels: both are interpolated as logits are
        batch.teacher[index] = cut(batch.teacher[index].float(), InterpolationMode.BILINEAR).half()


def distort(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Change brightness, contrast, saturation and the bands' balance, make grey, blur; each by chance.

    Args:
        image: (bands, height, width) float32 in standard deviations from each band's mean. Not torchvision's colour operations: those take
            one or three bands between 0 and 1.
        rng: what is drawn from.
    """
    chance = rng.random(3)
    light, contrast, saturation = 1 + COLOUR * rng.uniform(-1, 1, 3)
    bands: NDArray[np.float64] = COLOUR / 2 * rng.uniform(-1, 1, len(image))
    sigma = rng.uniform(*SIGMA)
    if chance[0] < COLOURED:
        middle = image.mean(dim=(1, 2), keepdim=True)
        image = (image - middle) * contrast + middle + (light - 1)
        image = image + torch.from_numpy(bands.astype(np.float32))[:, None, None]
        image = saturate(image, saturation)
    if chance[1] < GREY:
        image = saturate(image, 0.0)
    if chance[2] < BLURRED:
        return blur(image, sigma)
    return image


def saturate(image: Tensor, factor: float) -> Tensor:
    """Move each band away from the mean of all bands (above 1) or towards it; 0 makes all bands alike."""
    grey = image.mean(dim=0, keepdim=True)
    return grey + factor * (image - grey)


def blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (bands, height, width); edges are reflected."""
    side = 2 * max(1, round(SEEN_AROUND * sigma / 2)) + 1
    side = min(side, 2 * (min(image.shape[1:]) - 1) + 1)
    blurred: Tensor = functional.gaussian_blur(image, [side, side], [sigma, sigma])
    return blurred
