"""Colours of classes on the pages."""

from collections.abc import Sequence
from typing import Any


def class_colours(report: dict[str, Any]) -> list[str]:
    """A finished study's class colours: the collection's own, or a colour-blind-safe palette where it has none."""
    return colours_or_palette(report["data"]["colours"])


def colours_or_palette(given: Sequence[str | None]) -> list[str]:
    """The colours if all classes have one, else a palette."""
    known = [colour for colour in given if colour]
    if len(known) == len(given):
        return known
    from kdcore.data.inspect import PALETTE  # costs a second, and most collections have colours

    return [PALETTE[index % len(PALETTE)] for index in range(len(given))]
