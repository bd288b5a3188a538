"""Colours for classes that bring none. Imports nothing, so that a page may ask for it."""

from collections.abc import Sequence

# Okabe & Ito's colour-blind-safe palette, then Tol's muted one.
PALETTE = (
    *("#999999", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#000000"),
    *("#332288", "#88CCEE", "#44AA99", "#117733", "#DDCC77", "#CC6677", "#882255", "#AA4499", "#661100"),
)


def class_colours(given: Sequence[str | None]) -> list[str]:
    """The collection's colours where every class has one, else the palette for all, so that no two look alike."""
    known = [colour for colour in given if colour]
    if len(known) == len(given):
        return known
    return [PALETTE[index % len(PALETTE)] for index in range(len(given))]
