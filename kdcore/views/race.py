"""The race as a page draws it: recorded races of a deployment, two pictures that are uncovered, and what stands under them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdcore.deploy.race import Lane, Race, course, pace, recorded_lane, square_kilometres
from kdcore.deploy.record import Deployment
from kdcore.inference.layer_index import SceneLayers
from kdcore.views.deploy import ENGINE_NAMES, Variant, factor, in_same_engine, variants
from kdcore.views.map_layers import lower
from kdcore.views.pictures import blend, data_uri, show_labels

RACER_NAMES = {"teacher": "Expert", "distilled": "Apprentice"}
OPACITY = 0.65  # of masks over the photo
SECONDS_PER_HOUR = 3600.0
ALIKE = 1.05  # a ratio of times below it is no difference that anybody sees


def recorded_races(known: Deployment, scene: SceneLayers) -> dict[str, Race]:
    """A race for each way in which a deployment measured both networks, by its name, that of the fastest student first.

    Forms that were refused do not race, and neither do two networks in different engines.
    """
    ground, found = course(scene), {}
    for student in by_speed(known):
        teacher = in_same_engine(known, "teacher", student)
        if teacher is None or teacher.speed is None or student.speed is None:
            continue
        name = student.name if student.name not in found else f"{student.name}, {student.speed.device}"
        found[name] = Race(
            scene=scene.id,
            metres_per_pixel=scene.metres_per_pixel,
            teacher=recorded_lane("teacher", teacher.speed, ground, known.tile),
            student=recorded_lane("distilled", student.speed, ground, known.tile),
            measured=known.measured,
        )
    return found


def by_speed(known: Deployment) -> list[Variant]:
    """The distilled student's offered variants that were measured, the fastest first."""
    offered = [
        each
        for each in variants(known)
        if each.form.arm == "distilled" and not each.form.refused and each.speed is not None
    ]
    return sorted(offered, key=lambda each: -each.speed.megapixels_per_second if each.speed else 0.0)


def racing_pictures(
    photo: NDArray[np.uint8], masks: Mapping[str, NDArray[np.uint8]], colours: tuple[str, ...], hidden: tuple[int, ...]
) -> dict[str, str]:
    """The photo (H, W, 3), and the same with each racer's classes (H, W) over it, as addresses.

    Args:
        photo: of the ground.
        masks: by arm, 255 where there is no class.
        colours: of the classes.
        hidden: classes that are not drawn.
    """
    found = {"photo": data_uri(photo, "JPEG")}
    for arm, classes in masks.items():
        seen = (classes < len(colours)) & ~np.isin(classes, hidden)
        picture = np.where(seen[..., None], blend(photo, show_labels(classes, colours), OPACITY), photo)
        found[arm] = data_uri(picture, "JPEG")
    return found


def race_data(
    race: Race, pictures: Mapping[str, str], scores: Mapping[str, str], ground: tuple[int, ...]
) -> dict[str, Any]:
    """Everything that the page's script draws, as plain values.

    Args:
        race: the times.
        pictures: from `racing_pictures`.
        scores: of each arm, in words.
        ground: row, column, height and width in pixels of the scene.
    """
    return {
        "photo": pictures["photo"],
        "pace": pace(race.duration),
        "paceWords": pace_in_words(pace(race.duration)),
        "result": result_in_words(race),
        "lanes": [
            lane_data(lane, race.metres_per_pixel, pictures[lane.arm], scores[lane.arm], ground)
            for lane in (race.teacher, race.student)
        ],
    }


def lane_data(
    lane: Lane, metres_per_pixel: float | None, picture: str, score: str, ground: tuple[int, ...]
) -> dict[str, Any]:
    """One racer: name, picture, tiles as shares of the picture's width and height, times, and units."""
    top, left, height, width = ground
    boxes = [
        [(column - left) / width, (row - top) / height, wide / width, tall / height]
        for row, column, tall, wide in lane.tiles
    ]
    amount, unit = amount_of(lane.pixels, metres_per_pixel)
    return {
        "arm": lane.arm,
        "name": RACER_NAMES[lane.arm],
        "picture": picture,
        "boxes": boxes,
        "seconds": list(lane.seconds),
        "amount": amount,
        "unit": unit,
        "perHour": f"{thousands(SECONDS_PER_HOUR * amount / lane.duration)} {unit}",
        "score": score,
    }


def amount_of(pixels: int, metres_per_pixel: float | None) -> tuple[float, str]:
    """Ground in square kilometres, or in megapixels where nobody knows how large a pixel is."""
    if metres_per_pixel is None:
        return pixels / 1e6, "megapixels"
    return square_kilometres(pixels, metres_per_pixel), "km²"


def thousands(value: float) -> str:
    """A number with three digits at least, as '1,234', '56.7' or '0.123'."""
    return f"{value:,.0f}" if value >= 99.5 else f"{value:#.3g}".rstrip(".")


def pace_in_words(factor_on_screen: float) -> str:
    """How screen time and true time go together."""
    if factor_on_screen == 1:
        return "In real time."
    if factor_on_screen > 1:
        return f"Sped up {factor_on_screen:,.0f} times, both alike."
    return f"Slowed down {1 / factor_on_screen:,.0f} times, both alike; clocks show the true time."


def result_in_words(race: Race) -> str:
    """Who was done after how long."""
    student, teacher = (seconds_in_words(lane.duration) for lane in (race.student, race.teacher))
    return f"The {lower(RACER_NAMES['distilled'])} needed {student}, the {lower(RACER_NAMES['teacher'])} {teacher}."


def headline(race: Race, way: str = "") -> str:
    """The result as a comparison.

    Args:
        race: the times.
        way: in which both were run, as `recorded_races` calls it; without one the lanes' engines say it.
    """
    what = "km² an hour" if race.metres_per_pixel is not None else "pixels an hour"
    student, teacher = (ENGINE_NAMES[lane.engine] for lane in (race.student, race.teacher))
    where = f"both in {way or student}" if way or student == teacher else f"{student} against {teacher}"
    if race.faster >= ALIKE:
        return f"The apprentice maps {factor(race.faster)} times as many {what} as the expert, {where}."
    if race.faster > 1 / ALIKE:
        return f"The apprentice maps about as many {what} as the expert, {where}: there is no speed to be gained from it here."
    return f"The apprentice maps only {race.faster:.2f} times as many {what} as the expert, {where}."


def seconds_in_words(seconds: float) -> str:
    """'0.123 s', '4.56 s', '78.9 s' or '12 min 5 s'."""
    if seconds >= 600:
        return f"{round(seconds) // 60} min {round(seconds) % 60} s"
    return f"{seconds:.3f} s" if seconds < 1 else f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
