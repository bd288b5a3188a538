"""Numbers, times and names as people read them."""

import re
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from kdcore.reading import visible as visible

NO_BREAK = "\u00a0"  # between a number and its unit: no line break there
MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:&])")
CARD: dict[str, Any] = {"border": True, "height": "stretch", "delta_color": "off", "delta_arrow": "off"}
"""Options of `st.metric`: cards of one height in a row, and what a number is compared to without colour or arrow."""


def plain(text: str) -> str:
    """Text that is shown as it is where Markdown is understood: a name can hold neither markup nor links nor pictures."""
    return MARKDOWN.sub(r"\\\1", " ".join(visible(text).split()))


def sentence(text: str) -> str:
    """A message with a capital letter, as it stands alone on a page; unchanged where it begins with a path."""
    return text[:1].upper() + text[1:]


def percent(share: float | None, digits: int = 1) -> str:
    """A share in [0, 1] as '87.3 %'; a dash where it is unknown."""
    return "–" if share is None else f"{100 * share:.{digits}f}{NO_BREAK}%"


def points(difference: float | None, digits: int = 1) -> str:
    """A difference of percentages as '+1.2'; a dash where it is unknown."""
    return "–" if difference is None else f"{round(difference, digits) + 0.0:+.{digits}f}"


def count(number: float, unit: str) -> str:
    """'1 study', '3 studies'; the unit is given in the singular."""
    plural = (
        unit[:-1] + "ies"
        if unit.endswith("y") and unit[-2] not in "aeiou"
        else unit + ("es" if unit.endswith("s") else "s")
    )
    return f"{number:,.0f} {unit if number == 1 else plural}"


def told_apart(names: Mapping[str, str]) -> dict[str, str]:
    """Names by id as they are, and those that several have with their id."""
    times_used = Counter(names.values())
    return {id: f"{name} ({id})" if times_used[name] > 1 else name for id, name in names.items()}


def parameters(number: float) -> str:
    """A network's size as '24.4 M' or '150 k' parameters."""
    if number >= 1e6:
        return f"{number / 1e6:.1f} M"
    return f"{number / 1e3:.0f} k" if number >= 1e3 else f"{number:.0f}"


def megabytes(size: float) -> str:
    """A size in bytes as '12 kB', '0.6 MB' or '1.2 GB'."""
    if size < 1e5:
        return f"{max(1, round(size / 1e3))} kB"
    return f"{size / 1e6:,.1f} MB" if size < 1e9 else f"{size / 1e9:,.1f} GB"


def times(factor: float) -> str:
    """A ratio as '41 times' or '3.2 times'."""
    return f"{factor:.0f} times" if factor >= 9.95 else f"{factor:.1f} times"


def duration(seconds: float) -> str:
    """A time span as '40 s', '4 min 10 s' or '2 h 5 min'."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 and whole < 600 else "")
    minutes = round(seconds / 60)
    return f"{minutes // 60} h" + (f" {minutes % 60} min" if minutes % 60 else "")


def when(moment: float) -> str:
    """A moment (seconds since 1970) in local time as '24 Nov 2026, 14:05'."""
    return time.strftime("%d %b %Y, %H:%M", time.localtime(moment)).lstrip("0")
