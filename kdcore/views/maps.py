"""The map of a scene, and a map to draw a box on, as folium objects, with the controls that live in the browser.

The picture on Start is the same map without folium: Streamlit imports pandas for a component of streamlit-folium's kind.

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
from kdcore.inference.layer_index import SceneLayers
from kdcore.views.map_layers import DEEPER, ROOT, Focus, MapLayer, Mode, StudyMapLayers, map_base, map_wanted

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
        self.add_child(Start(script, base))


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


def scene_map(scene: SceneLayers, layers: StudyMapLayers, runs: Mapping[str, str], **options: bool) -> OwnMap:
    """A map of one scene, without layers yet.

    Args:
        scene: where it lies.
        layers: makes the addresses of its tiles.
        runs: name on screen of each run that a click tells about, by the run's own name.
        options: see `kdcore.views.map_layers.map_base`.
    """
    (south, west), (north, east) = scene.bounds
    base = map_base(scene, layers, runs, **options)
    return OwnMap(
        "map",
        base,
        location=((south + north) / 2, (west + east) / 2),
        zoom_start=scene.zoom - 1,
        zoom_snap=base["options"]["zoomSnap"],
        max_zoom=base["options"]["maxZoom"],
    )


def shown(mode: Mode, left: MapLayer, right: MapLayer, focus: Focus | None = None, *, photo: str) -> Shown:
    """What a map is to show, see `kdcore.views.map_layers.map_wanted`."""
    return Shown(json.loads(json.dumps(map_wanted(mode, left, right, focus, photo=photo))))


def area_map(scene: SceneLayers, layers: StudyMapLayers, basemap: bool) -> OwnMap:
    """A map around a scene, on which a box can be drawn.

    Args:
        scene: a georeferenced one; its imagery is shown.
        layers: makes the address of its tiles.
        basemap: whether OpenStreetMap, from the internet, is drawn under it.
    """
    (south, west), (north, east) = scene.bounds
    base = {
        "root": ROOT,
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
