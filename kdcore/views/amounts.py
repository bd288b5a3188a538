"""What a threshold does on the ground: so much found, so much missed, so much false alarm, in hectares where they are known."""

from collections.abc import Mapping
from html import escape
from typing import NamedTuple

import numpy as np

from kdcore.evaluation.levels import LEVELS
from kdcore.evaluation.operating import OperatingPoint
from kdcore.views.arms import ARM_COLOURS, ARM_NAMES, key_html, tint


class Unit(NamedTuple):
    """How amounts are written: pixels times `factor`, with so many decimals."""

    factor: float
    name: str
    decimals: int

    def write(self, pixels: float) -> str:
        """The bare number, with commas."""
        return f"{pixels * self.factor:,.{self.decimals}f}"


def choose_unit(pixels: float, metres_per_pixel: float | None) -> Unit:
    """A unit in which an amount has three digits or more before its end: m², ha or km², or pixels.

    Args:
        pixels: the largest amount that is to be written.
        metres_per_pixel: ground sample distance; None where it is not known.
    """
    if metres_per_pixel is None:
        factor, name = (1e-6, "million pixels") if pixels >= 2e6 else (1.0, "pixels")
    else:
        area = metres_per_pixel**2
        square_metres = pixels * area
        factor, name = (
            (area, "m²") if square_metres < 1e4 else (area / 1e4, "ha") if square_metres < 1e8 else (area / 1e6, "km²")
        )
    amount = pixels * factor
    decimals = 0 if name in ("pixels", "m²") or amount >= 99.95 else 1 if amount >= 9.995 else 2
    return Unit(factor, name, decimals)


def amounts_in_words(point: OperatingPoint, unit: Unit) -> str:
    """'found 912 of 1,000 ha, 60 ha false alarm'."""
    return (
        f"found {unit.write(point.found)} of {unit.write(point.real)} {unit.name}, "
        f"{unit.write(point.false_alarm)} {unit.name} false alarm"
    )


def shares_in_words(point: OperatingPoint) -> str:
    """'found 91 %; 94 % of its marks are right'."""
    if np.isnan(point.recall):
        return "does not occur in the test split"
    if np.isnan(point.precision):
        return "marks nothing at this threshold"
    return f"found {point.recall:.0%}; {point.precision:.0%} of its marks are right".replace("%", " %")


def amounts_html(
    points: Mapping[str, OperatingPoint],
    ap: Mapping[str, float],
    metres_per_pixel: float | None,
    *,
    mean: bool = False,
) -> str:
    """Each arm's amounts in words, above a bar: found (full), missed (empty), false alarm (hatched), all on one scale.

    Args:
        points: of each arm, at its threshold.
        ap: of each arm, in [0, 1]; nan where it is not known.
        metres_per_pixel: ground sample distance; None where it is not known.
        mean: whether the points are of the mean over classes; then shares are said instead of amounts.
    """
    longest = max([point.real + point.false_alarm for point in points.values()], default=1) or 1
    unit = choose_unit(max((point.real for point in points.values()), default=0), metres_per_pixel)
    blocks = (
        arm_html(
            arm, point, ap[arm], None if mean or np.isnan(point.recall) else amounts_in_words(point, unit), longest
        )
        for arm, point in points.items()
    )
    return f'<div style="display:flex;flex-wrap:wrap;column-gap:2rem">{"".join(blocks)}</div>'


def arm_html(arm: str, point: OperatingPoint, ap: float, amounts: str | None, longest: float) -> str:
    """One arm's block of `amounts_html`; without amounts it says shares only."""
    shares = shares_in_words(point)
    facts = [*([] if np.isnan(ap) else [f"AP {100 * ap:.1f}"]), f"threshold {100 * point.level / (LEVELS - 1):.0f} %"]
    whole = "".join(f' · <span style="white-space:nowrap">{fact}</span>' for fact in facts)
    head = f'{key_html(arm)}<strong>{escape(ARM_NAMES[arm])}</strong><span style="opacity:.75">{whole}</span>'
    lines = [head, escape(capital(amounts or shares))]
    if amounts:
        lines += [
            bar_html(arm, point, longest),
            f'<div style="opacity:.75;font-size:.875em">{escape(capital(shares))}</div>',
        ]
    body = "".join(f"<div>{line}</div>" for line in lines)
    return f'<div style="flex:1 1 340px;margin:0 0 1.05rem 0;line-height:1.45">{body}</div>'


def capital(sentence: str) -> str:
    """A sentence with a capital letter at its start; the rest stays."""
    return sentence[:1].upper() + sentence[1:]


def bar_html(arm: str, point: OperatingPoint, longest: float) -> str:
    """Found, missed and false alarm as lengths on the scale of the longest bar."""
    colour = ARM_COLOURS[arm]
    hatch = f"repeating-linear-gradient(135deg,{colour} 0 2px,{tint(colour, 0.18)} 2px 6px)"
    styles = {
        "found": f"background:{colour};border:1px solid {colour}",
        "missed": f"background:{tint(colour, 0.08)};border:1px solid {colour};border-left:0",
        "false alarm": f"background:{hatch};border:1px solid {colour};border-left:3px double {colour}",
    }
    lengths = {"found": point.found, "missed": point.missed, "false alarm": point.false_alarm}
    parts = "".join(
        f'<div title="{name}" style="box-sizing:border-box;height:100%;width:{100 * length / longest:.2f}%;{styles[name]}"></div>'
        for name, length in lengths.items()
        if length > 0
    )
    return f'<div aria-hidden="true" style="display:flex;height:14px;margin:3px 0 2px 0">{parts}</div>'
