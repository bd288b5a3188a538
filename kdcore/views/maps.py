"""The map of a scene, and a map to draw a box on, as folium objects, with the controls that live in the browser.

Leaflet and the map's own script come from the dashboard itself (`kdcore.server`), so a map works without internet.
`scene_map` is drawn once for a scene; what it shows is changed in place by `shown`, so that the view, the handle and the sliders
stay where a person put them.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, Literal

import folium
from folium.template import Template

from kdcore.deploy.costs import box_km2
from kdcore.errors import SettingsError
from kdcore.inference.layer_index import Bounds, SceneLayers
from kdcore.views.map_layers import MapLayer, Mode, StudyMapLayers

ROOT = "../.."  # from the frame that streamlit-folium draws in (/component/NAME/index.html) to the dashboard
DEEPER = 4  # zoom levels beyond the one at which a pixel of the map is one of the scene

Focus = tuple[str, Bounds]
"""A rectangle to look at, and a key: the map moves there once for each key."""
DRAWING = "last_active_drawing"  # under which streamlit-folium hands over the box


class OwnMap(folium.Map):
    """A Leaflet map whose script files come from the dashboard.

    Args:
        script: 'map', or 'area' which lets a person draw one box and tells it as Leaflet.draw would.
        base: what the script begins with.
        options: of `folium.Map`.
    """

    def __init__(self, script: Literal["map", "area"], base: Mapping[str, Any], **options: Any) -> None:
        files = f"{ROOT}/leaflet"
        self.default_js = [("leaflet", f"{files}/leaflet.js"), ("kdcore", f"{files}/kdcore/{script}.js")]
        self.default_css = [("leaflet_css", f"{files}/leaflet.css"), ("kdcore_css", f"{files}/kdcore/map.css")]
        super().__init__(tiles=None, **options)
        self.add_child(Start(script, {"root": ROOT, **base}))


class Start(folium.MacroElement):
    """Hands the scene to the map's script."""

    _template = Template(
        "{% macro script(this, kwargs) %}\n{{ this.script }}.start({{ this._parent.get_name() }}, {{ this.base|tojson }});\n{% endmacro %}"
    )

    def __init__(self, script: str, base: Mapping[str, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._name = "Start"
        self.script = f"kdcore{script.capitalize()}"
        self.base = base


class Shown(folium.FeatureGroup):
    """Tells the map's script what to show. streamlit-folium runs it again, without a new map, whenever it changes."""

    _template = Template(
        "{% macro script(this, kwargs) %}\nvar {{ this.get_name() }} = L.featureGroup();\nkdcoreMap.show({{ this.wanted|tojson }});\n{% endmacro %}"
    )

    def __init__(self, wanted: Mapping[str, Any]) -> None:
        super().__init__()
        self.wanted = wanted


def scene_map(
    scene: SceneLayers,
    layers: StudyMapLayers,
    runs: Mapping[str, str],
    *,
    basemap: bool = False,
    linked: bool = False,
    simple: bool = False,
) -> OwnMap:
    """A map of one scene, without layers yet.

    Args:
        scene: where it lies.
        layers: makes the addresses of its tiles.
        runs: name on screen of each run that a click tells about, by the run's own name.
        basemap: whether OpenStreetMap, from the internet, is drawn around the scene.
        linked: whether the page's address takes over view and threshold, and gives them back where it is opened.
        simple: a picture within a page: without sliders and zoom by wheel; its handle moves once by itself.
    """
    (south, west), (north, east) = scene.bounds
    options = {"zoomSnap": 0, "maxZoom": scene.zoom + DEEPER}  # steps would leave up to a third of the frame empty
    base = {
        "study": layers.study,
        "scene": layers.scene,
        "title": scene.name,
        "point": layers.point(),
        "bounds": scene.bounds,
        "native": scene.zoom,
        "deepest": scene.zoom + DEEPER,
        "options": options,
        "unit": scene.unit,
        "crs": scene.crs_name if scene.georeferenced else "",
        "note": "" if scene.georeferenced else f"No georeference: flat map in {scene.unit}",
        "runs": [{"run": run, "name": name} for run, name in runs.items()],
        "hidden": layers.hidden,
        "basemap": basemap and scene.georeferenced,
        "linked": linked,
        "simple": simple,
    }
    return OwnMap(
        "map",
        base,
        location=((south + north) / 2, (west + east) / 2),
        zoom_start=scene.zoom - 1,
        zoom_snap=options["zoomSnap"],
        max_zoom=options["maxZoom"],
    )


def shown(mode: Mode, left: MapLayer, right: MapLayer, focus: Focus | None = None, *, photo: str) -> Shown:
    """What a map is to show: two layers with a handle between them, or two maps that move together, a layer on each.

    `photo` is the path of the imagery's tiles, which lie under both.
    """
    looked_at = None if focus is None else {"key": focus[0], "bounds": focus[1]}
    wanted = {"mode": mode, "left": left.to_dict(), "right": right.to_dict(), "photo": photo, "focus": looked_at}
    return Shown(json.loads(json.dumps(wanted)))


def area_map(scene: SceneLayers, layers: StudyMapLayers, basemap: bool) -> OwnMap:
    """A map around a scene, on which a box can be drawn.

    Args:
        scene: a georeferenced one; its imagery is shown.
        layers: makes the address of its tiles.
        basemap: whether OpenStreetMap, from the internet, is drawn under it.
    """
    (south, west), (north, east) = scene.bounds
    base = {
        "study": layers.study,
        "background": layers.background(),
        "bounds": scene.bounds,
        "deepest": scene.zoom + DEEPER,
        "basemap": basemap,
    }
    centre = ((south + north) / 2, (west + east) / 2)
    return OwnMap("area", base, location=centre, zoom_start=scene.zoom - 2, zoom_snap=0.5)


def drawn_km2(returned: Mapping[str, Any] | None) -> float | None:
    """Area of the box that a person drew, in km2 on the ellipsoid; None without one.

    Args:
        returned: what streamlit-folium gives; it comes from a browser, so it may hold anything.
    """
    try:
        ring = (returned or {})[DRAWING]["geometry"]["coordinates"][0]
        longitudes, latitudes = zip(*((float(x), float(y)) for x, y in ring), strict=True)
        west, east, south, north = min(longitudes), max(longitudes), min(latitudes), max(latitudes)
        km2 = box_km2(west, south, min(east, west + 360), north)
    except (KeyError, IndexError, TypeError, ValueError, SettingsError):
        return None
    return km2 if math.isfinite(km2) and km2 > 0 else None
