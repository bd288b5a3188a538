"""What it costs to map an area, in the words and rows of a table."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from kdcore.deploy.costs import MapCost, map_cost
from kdcore.deploy.record import Deployment
from kdcore.views.arms import ARM_NAMES
from kdcore.views.deploy import Variant, as_it_came, fastest, inside


class Job(NamedTuple):
    """What is to be mapped, and on what terms.

    Attributes:
        km2: area.
        metres_per_pixel: ground sample distance.
        overlap: pixels looked at for each pixel mapped.
        price_per_hour: of the machine; None without one.
        watts: of the machine; None takes what was measured with each engine.
    """

    km2: float
    metres_per_pixel: float
    overlap: float
    price_per_hour: float | None = None
    watts: float | None = None


class Row(NamedTuple):
    """One network in one engine, and what mapping the area costs with it."""

    variant: Variant
    cost: MapCost


def cost_rows(deployment: Deployment, job: Job) -> list[Row]:
    """Every arm as it came and in its fastest engine, in the arms' order; one row where both are the same.

    Raises:
        SettingsError: a value that is no number in its range.
    """
    rows = []
    for arm in ARM_NAMES:
        found = [as_it_came(deployment, arm), fastest(deployment, arm)]  # type: ignore[arg-type]
        rows += [
            Row(variant, cost_of(variant.speed.megapixels_per_second, variant.speed.watts, job))
            for variant in dict.fromkeys(found)
            if variant is not None and variant.speed is not None
        ]
    return rows


def cost_of(megapixels_per_second: float, watts: float | None, job: Job) -> MapCost:
    """What a job costs at a measured speed; the power that a person typed comes before the measured one."""
    return map_cost(
        job.km2,
        metres_per_pixel=job.metres_per_pixel,
        megapixels_per_second=megapixels_per_second,
        overlap=job.overlap,
        price_per_hour=job.price_per_hour,
        watts=watts if job.watts is None else job.watts,
    )


def cost_table(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows as texts; a column that nothing is known for is left out."""
    priced = any(row.cost.price is not None for row in rows)
    powered = any(row.cost.watt_hours is not None for row in rows)
    return [
        {
            "Network": ARM_NAMES[row.variant.form.arm],
            "Runs in": row.variant.name,
            "km² an hour": number(row.cost.km2_per_hour),
            "Time": hours_in_words(row.cost.hours),
            **({"Price": number(row.cost.price, 2)} if priced else {}),
            **({"Energy": energy_in_words(row.cost.watt_hours)} if powered else {}),
        }
        for row in rows
    ]


def cost_sentence(rows: Sequence[Row], km2: float) -> str:
    """What the whole comes to: teacher and distilled student, each in its fastest engine."""
    student = min((row for row in rows if row.variant.form.arm == "distilled"), key=hours_of, default=None)
    teacher = min((row for row in rows if row.variant.form.arm == "teacher"), key=hours_of, default=None)
    if student is None:
        return ""
    area = f"{number(km2)} km²"
    said = f"the {inside('distilled')} in {student.variant.name} needs {hours_in_words(student.cost.hours)}"
    if teacher is None:
        return f"For {area} {said}."
    other = f"the {inside('teacher')} in {teacher.variant.name} needs {hours_in_words(teacher.cost.hours)}"
    return f"For {area} {other}, and {said}."


def hours_of(row: Row) -> float:
    """For sorting."""
    return row.cost.hours


def hours_in_words(hours: float) -> str:
    """A time of computing with two or three digits: '8 s', '12 min', '3.4 h', '12 days'."""
    for size, unit, limit in (
        (3600.0, "s", 1 / 60),
        (60.0, "min", 1.0),
        (1.0, "h", 48.0),
        (1 / 24, "days", 365 * 24.0),
    ):
        if hours < limit:
            return f"{number(hours * size)} {unit}"
    return f"{number(hours / 24 / 365)} years"


def energy_in_words(watt_hours: float | None) -> str:
    """'4.2 Wh', '1.3 kWh', '2.1 MWh'; a dash where it is not known."""
    if watt_hours is None:
        return "–"
    for size, unit in ((1.0, "Wh"), (1e3, "kWh")):
        if watt_hours < 1000 * size:
            return f"{number(watt_hours / size)} {unit}"
    return f"{number(watt_hours / 1e6)} MWh"


def number(value: float | None, least: int = 0) -> str:
    """A number with two or three digits: '0.0042', '0.35', '1.4', '12.5', '1,250'; a dash for none.

    Args:
        value: zero or above.
        least: decimals that are always shown.
    """
    if value is None:
        return "–"
    decimals = 0 if value >= 99.95 or value == 0 else 1 if value >= 0.995 else 1 - math.floor(math.log10(value))
    return f"{value:,.{max(decimals, least)}f}"
