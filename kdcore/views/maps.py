"""The map of a scene as folium objects, with the controls that live in the browser.

Leaflet and the map's own script come from the dashboard itself (`kdcore.server`), so a map works without internet.
`scene_map` is drawn once for a scene; what it shows is changed in place by `swipe_map` and `side_by_side_map`, so that the
view, the handle and the sliders stay where a person put them.
"""

import json
from collections.abc import Mapping
from typing import Any, Literal

import folium
from folium.template import Template

from kdcore.inference.layer_index import Bounds, SceneLayers
from kdcore.views.map_layers import MapLayer, StudyMapLayers

ROOT = "../.."  # from the frame that streamlit-folium draws in (/component/NAME/index.html) to the dashboard
DEEPER = 4  # zoom levels beyond the one at which a pixel of the map is one of the scene

Focus = tuple[str, Bounds]
"""A rectangle to look at, and a key: the map moves there once for each key."""


class SceneMap(folium.Map):
    """A Leaflet map whose script files come from the dashboard."""

    def __init__(self, root: str, base: Mapping[str, Any], **options: Any) -> None:
        self.default_js = [("leaflet", f"{root}/leaflet/leaflet.js"), ("kdcore", f"{root}/leaflet/kdcore/map.js")]
        self.default_css = [
            ("leaflet_css", f"{root}/leaflet/leaflet.css"),
            ("kdcore_css", f"{root}/leaflet/kdcore/map.css"),
        ]
        super().__init__(tiles=None, **options)
        self.add_child(Start(base))


class Start(folium.MacroElement):
    """Hands the scene to the map's script."""

    _template = Template(
        "{% macro script(this, kwargs) %}\nkdcoreMap.start({{ this._parent.get_name() }}, {{ this.base|tojson }});\n{% endmacro %}"
    )

    def __init__(self, base: Mapping[str, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._name = "Start"
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
    root: str = ROOT,
) -> SceneMap:
    """A map of one scene, without layers yet.

    Args:
        scene: where it lies.
        layers: makes the addresses of its tiles.
        runs: name on screen of each run that a click tells about, by the run's own name.
        basemap: whether OpenStreetMap, from the internet, is drawn around the scene.
        linked: whether the page's address takes over view and threshold, and gives them back where it is opened.
        simple: a picture within a page: without sliders and zoom by wheel; its handle moves once by itself.
        root: where the dashboard is, seen from the page that the map is in.
    """
    (south, west), (north, east) = scene.bounds
    options = {"zoomSnap": 0, "maxZoom": scene.zoom + DEEPER}  # steps would leave up to a third of the frame empty
    base = {
        "root": root,
        "study": layers.study,
        "scene": layers.scene,
        "title": scene.name,
        "background": layers.background(),
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
    return SceneMap(
        root,
        base,
        location=((south + north) / 2, (west + east) / 2),
        zoom_start=scene.zoom - 1,
        zoom_snap=options["zoomSnap"],
        max_zoom=options["maxZoom"],
    )


def swipe_map(left: MapLayer, right: MapLayer, *, focus: Focus | None = None, threshold: float | None = None) -> Shown:
    """Two layers on one map, with a handle between them."""
    return shown("swipe", left, right, focus, threshold)


def side_by_side_map(
    left: MapLayer, right: MapLayer, *, focus: Focus | None = None, threshold: float | None = None
) -> Shown:
    """Two maps that move together, a layer on each."""
    return shown("side", left, right, focus, threshold)


def shown(
    mode: Literal["swipe", "side"], left: MapLayer, right: MapLayer, focus: Focus | None, threshold: float | None
) -> Shown:
    """What the map is to show; a threshold of None leaves the one that a person set."""
    looked_at = None if focus is None else {"key": focus[0], "bounds": focus[1]}
    wanted = {
        "mode": mode,
        "left": left.to_dict(),
        "right": right.to_dict(),
        "focus": looked_at,
        "threshold": threshold,
    }
    return Shown(json.loads(json.dumps(wanted)))
