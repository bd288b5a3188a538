"""What every run says of one pixel: `/point/STUDY/SCENE?lat=..&lng=..`."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from kdcore.errors import KdcoreError, SettingsError
from kdcore.evaluation.levels import LEVELS, NODATA
from kdcore.inference.layer_index import SceneLayers
from kdcore.server.drawing import classes_of
from kdcore.server.lookup import find_scene
from kdcore.server.reading import read_pixel
from kdcore.server.tiles import CrowdedError, address_of, come_back, crowd, limiter, read_threshold, refuse


async def point(request: Request) -> Response:
    """Answer with JSON: see `describe`; 404 or 400 with one sentence."""
    try:
        latitude, longitude = read_place(request.query_params)
        threshold = read_threshold(request.query_params)
        place = request.path_params
        with crowd.joined(address_of(request)):
            found = await to_thread.run_sync(
                describe, place["study"], place["scene"], latitude, longitude, threshold, limiter=limiter
            )
    except KdcoreError as error:
        return refuse(error)
    except CrowdedError:
        return come_back()
    return JSONResponse(found, headers={"Cache-Control": "no-store"})


def read_place(query: Mapping[str, str]) -> tuple[float, float]:
    """Latitude and longitude of a query.

    Raises:
        SettingsError: missing, no numbers, or not on the map.
    """
    try:
        latitude, longitude = float(query["lat"]), float(query["lng"])
    except (KeyError, ValueError):
        latitude = longitude = math.nan
    if not (-86 <= latitude <= 86 and -180 <= longitude <= 180):
        raise SettingsError("`lat` and `lng` must be degrees on the map: -86 to 86 and -180 to 180.")
    return latitude, longitude


def describe(study: str, scene: str, latitude: float, longitude: float, threshold: float) -> dict[str, Any]:
    """A pixel of a scene.

    Returns:
        `inside` (whether the place is on what is shown) and, if so, `row` and `column` of the whole scene, `place` (the pixel's middle in
        the scene's CRS, None where it has none; `digits` behind the point tell pixels apart), `truth` (name of
        the class or None), `classes` (names of those with probabilities) and `runs`: for each run that has a prediction
        its `probabilities` in that order, the `class` it decides on, and whether that is `right` (None without truth).

    Raises:
        RunError: there is no such study or scene.
    """
    shown = find_scene(study, scene)
    pixel = shown.scene.pixel_at(latitude, longitude)
    if pixel is None:
        return {"inside": False}
    row, column = pixel
    names = shown.layers.classes
    label = NODATA if shown.truth is None else read_pixel(shown.truth, row, column)[0]
    truth = names[label] if label < len(names) else None
    runs = {}
    for run, path in shown.maps.items():
        levels = read_pixel(path, row, column)
        if levels[0] == NODATA:
            continue
        decided = names[int(classes_of(np.array(levels, np.uint8)[:, None, None], np.array([[True]]), threshold)[0, 0])]
        runs[run] = {
            "probabilities": [round(level / (LEVELS - 1), 3) for level in levels],
            "class": decided,
            "right": None if truth is None else decided == truth,
        }
    return {
        "inside": True,
        "row": row,
        "column": column,
        **where_on_ground(shown.scene, row, column),
        "truth": truth,
        "classes": [names[index] for index in shown.layers.scored],
        "runs": runs,
    }


def where_on_ground(scene: SceneLayers, row: int, column: int) -> dict[str, Any]:
    """The middle of a pixel in the scene's CRS, and how many digits behind the point tell it from its neighbours."""
    if not scene.georeferenced:
        return {"place": None, "digits": 0}
    x, y = scene.affine @ (column + 0.5, row + 0.5)
    step = min(math.hypot(scene.affine.a, scene.affine.d), math.hypot(scene.affine.b, scene.affine.e))
    return {"place": [float(x), float(y)], "digits": min(9, max(0, math.ceil(1 - math.log10(step))))}
