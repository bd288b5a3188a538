"""Which validation labels a student may use: as small a share of them as of the training labels."""

import numpy as np

from kdcore.evaluation.scores import Scores


def labelled_part(scores: Scores, share: float) -> Scores:
    """A share of the validation tiles, the same for every network that is scored there.

    Who has labels for a tenth of the training imagery has no full validation part either: choosing a checkpoint and a
    threshold with all of it would use labels that the study says are not there.

    Args:
        scores: of the whole validation part.
        share: of the labelled pixels that may be used, in (0, 1].

    Returns:
        Tiles in a fixed random order until the share is reached, and one more tile for each scored class that would be missing.
    """
    if share >= 1 or not len(scores):
        return scores
    by_class = scores.confusion.sum(axis=2)
    order = np.random.default_rng(0).permutation(len(scores))
    pixels = by_class.sum(axis=1)[order]
    enough = int(np.searchsorted(np.cumsum(pixels), share * pixels.sum())) + 1
    chosen = list(order[:enough])
    for index in scores.scored:
        holds = by_class[:, index] > 0
        if holds.any() and not holds[chosen].any():
            chosen.append(int(order[holds[order]][0]))
    return scores.select(sorted(chosen))
