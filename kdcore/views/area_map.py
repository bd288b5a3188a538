"""A map to draw a box on: how large is the area that is to be mapped? Works without internet, like the map of a scene."""

import math
from collections.abc import Mapping
from typing import Any

import folium
from folium.template import Template

from kdcore.deploy.costs import box_km2
from kdcore.errors import SettingsError
from kdcore.inference.layer_index import SceneLayers
from kdcore.views.map_layers import StudyMapLayers
from kdcore.views.maps import DEEPER, ROOT

DRAWING = "last_active_drawing"  # under which streamlit-folium hands over the box


class AreaMap(folium.Map):
    """A Leaflet map with `area.js`, which lets a person draw one box and tells it as Leaflet.draw would."""

    def __init__(self, root: str, **options: Any) -> None:
        self.default_js = [("leaflet", f"{root}/leaflet/leaflet.js"), ("kdcore", f"{root}/leaflet/kdcore/area.js")]
        self.default_css = [
            ("leaflet_css", f"{root}/leaflet/leaflet.css"),
            ("kdcore_css", f"{root}/leaflet/kdcore/map.css"),
        ]
        super().__init__(tiles=None, **options)


class StartArea(folium.MacroElement):
    """Hands the scene to the map's script."""

    _template = Template(
        "{% macro script(this, kwargs) %}\nkdcoreArea.start({{ this._parent.get_name() }}, {{ this.base|tojson }});\n{% endmacro %}"
    )

    def __init__(self, base: Mapping[str, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._name = "StartArea"
        self.base = base


def area_map(scene: SceneLayers, layers: StudyMapLayers, *, basemap: bool = False, root: str = ROOT) -> AreaMap:
    """A map around a scene, on which a box can be drawn.

    Args:
        scene: a georeferenced one; its imagery is shown.
        layers: makes the address of its tiles.
        basemap: whether OpenStreetMap, from the internet, is drawn under it.
        root: where the dashboard is, seen from the page that the map is in.
    """
    (south, west), (north, east) = scene.bounds
    base = {
        "root": root,
        "study": layers.study,
        "background": layers.background(),
        "bounds": scene.bounds,
        "deepest": scene.zoom + DEEPER,
        "basemap": basemap,
    }
    area = AreaMap(root, location=((south + north) / 2, (west + east) / 2), zoom_start=scene.zoom - 2, zoom_snap=0.5)
    area.add_child(StartArea(base))
    return area


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
