"""The map as folium objects and as what streamlit-folium sends to the browser; the browser itself is tested in tests/browser."""

import json
import math
import re

import pytest
from streamlit_folium import _get_feature_group_string, _get_map_string

from kdcore.inference.layer_index import SceneLayers
from kdcore.settings import PALETTE
from kdcore.views.map_layers import DISAGREEMENT_COLOURS, StudyMapLayers, hidden_at_first
from kdcore.views.maps import scene_map, shown

EVIL = "</script><img src=x onerror=alert(1)>'\"`${1}"
RUNS = {"teacher-s0": "Teacher", "distilled-s0": "Distilled student"}


def make_scene(**changes) -> SceneLayers:
    values = {"id": "scene-1", "name": "scene_1", "height": 100, "width": 200, "part": (0, 0, 100, 200)}
    values |= {"georeferenced": True, "unit": "metres", "metres_per_pixel": 0.5, "crs": "EPSG:32633", "zoom": 18}
    values["transform"] = (0.5, 0.0, 500_000.0, 0.0, -0.5, 5_000_000.0)
    return SceneLayers(**(values | changes))


def make_layers(classes=("land", "building"), **changes) -> StudyMapLayers:
    colours = ("#999999", "#E69F00", "#56B4E9")[: len(classes)]
    return StudyMapLayers(**({"study": "town", "scene": "scene-1", "classes": classes, "colours": colours} | changes))


def script(scene=None, layers=None, **options) -> str:
    """The script that the browser is sent."""
    made = scene_map(scene or make_scene(), layers or make_layers(), RUNS, **options)
    made.get_root().render()
    made.render()
    return _get_map_string(made)


def argument(text: str, call: str) -> dict:
    """The JSON that a call in the script is given."""
    return json.loads(re.search(rf"{re.escape(call)}\((?:map_div, )?(.*)\);", text)[1])


def told(group) -> dict:
    made = scene_map(make_scene(), make_layers(), RUNS)
    made.render()
    return argument(_get_feature_group_string(group, made), "kdcoreMap.show")


def test_nothing_is_fetched_from_another_host():
    made = scene_map(make_scene(), make_layers(), RUNS)
    page = made.get_root().render()
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert sorted(links) == [
        *(
            f"../..{file}"
            for file in (
                "/leaflet/kdcore/map.css",
                "/leaflet/kdcore/map.js",
                "/leaflet/leaflet.css",
                "/leaflet/leaflet.js",
            )
        )
    ]
    assert "://" not in page
    assert argument(script(), "kdcoreMap.start")["basemap"] is False


def test_the_map_starts_where_the_scene_is():
    base = argument(script(layers=make_layers(hidden=(0,))), "kdcoreMap.start")
    (south, west), (north, east) = base["bounds"]
    assert (west, north) == (pytest.approx(15, abs=1e-6), pytest.approx(45.1535, abs=1e-3))
    assert (east - west) * 78_700 == pytest.approx(
        100, rel=0.01
    )  # metres of a degree of longitude at 45.15 degrees north
    assert (north - south) * 111_140 == pytest.approx(50, rel=0.01)
    assert (base["note"], base["unit"], base["crs"]) == ("", "metres", "EPSG:32633")
    assert base["point"] == "point/town/scene-1"
    assert base["hidden"] == [0]


def test_a_scene_without_georeference_says_so_and_has_no_basemap():
    flat = make_scene(georeferenced=False, unit="pixels", crs="EPSG:3857", transform=(1, 0, -100, 0, -1, 50))
    base = argument(script(flat, basemap=True), "kdcoreMap.start")
    assert base["note"] == "No georeference: flat map in pixels"
    assert base["crs"] == ""
    assert base["basemap"] is False


def test_layers_are_asked_for_by_ids_without_underscores():
    layers = make_layers(classes=("land", "building", "water"))
    made = [layers.truth(), layers.mask("teacher-s0", "Teacher"), layers.probability("teacher-s0", "Teacher", 2)]
    made.append(layers.disagreement("teacher-s0", "distilled-s0", ("Teacher", "Distilled student"), "Which?"))
    assert [layer.path.partition("/{z}")[0] for layer in made] == [
        "tiles/town/scene-1/truth",
        "tiles/town/scene-1/mask-teacher-s0",
        "tiles/town/scene-1/probability-teacher-s0-2",
        "tiles/town/scene-1/disagreement-teacher-s0-distilled-s0",
    ]
    assert not any("_" in layer.path for layer in made)


def test_a_threshold_and_switches_only_where_they_mean_something():
    two, three = make_layers(), make_layers(classes=("land", "building", "water"))
    assert two.mask("teacher-s0", "Teacher").threshold
    assert two.disagreement("a", "b", ("A", "B"), "Which?").threshold
    assert not three.mask("teacher-s0", "Teacher").threshold
    assert not two.truth().threshold
    assert [entry.hide for entry in three.truth().legend] == [0, 1, 2]
    assert [entry.hide for entry in two.disagreement("a", "b", ("A", "B"), "Which?").legend] == [None] * 3


def test_every_colour_of_a_legend_has_a_name():
    layers = make_layers()
    legend = layers.disagreement("a", "b", ("Teacher", "Student alone"), "Which?").legend
    assert [(entry.name, entry.colour) for entry in legend] == list(
        zip(
            ("only the teacher is right", "only the student alone is right", "both are wrong"),
            DISAGREEMENT_COLOURS,
            strict=True,
        )
    )
    assert [entry.name for entry in layers.probability("a", "A", 1).legend] == ["0 %", "25 %", "50 %", "75 %", "100 %"]


def test_who_is_right_is_told_in_colours_that_no_class_has():
    def distance(one: str, other: str) -> float:
        return math.dist(bytes.fromhex(one[1:]), bytes.fromhex(other[1:]))

    assert min(distance(one, other) for one in DISAGREEMENT_COLOURS[:2] for other in PALETTE[:8]) > 100


def test_what_hides_the_photo_is_off_at_first():
    three = ("land", "building", "water")
    assert hidden_at_first(three, {"land": 0.2, "building": 0.1, "water": 0.7}) == (2,)
    assert hidden_at_first(("land", "building"), {"building": 0.9}) == (0,)  # the background has no score of its own
    assert hidden_at_first(three, {"land": None}) == ()


def test_swipe_and_side_by_side_show_the_same_layers():
    layers = make_layers()
    left, right = layers.truth(), layers.imagery()
    for mode in ("swipe", "side"):
        wanted = told(shown(mode, left, right, ("a", ((1, 2), (3, 4))), photo=layers.background()))
        assert (wanted["mode"], wanted["left"]["name"], wanted["right"]["path"]) == (mode, "Truth", "")
        assert wanted["focus"] == {"key": "a", "bounds": [[1, 2], [3, 4]]}
        assert wanted["photo"] == "tiles/town/scene-1/imagery/{z}/{x}/{y}.png?v=0"


def test_chosen_bands_stand_in_the_address_of_the_imagery():
    assert make_layers().background((8, 4, 3)) == "tiles/town/scene-1/imagery/{z}/{x}/{y}.png?v=0&bands=8,4,3"


def test_changing_the_layers_does_not_make_another_map():
    assert script() == script()  # the layers are not part of it


def test_names_from_outside_cannot_leave_the_script():
    layers = make_layers(classes=("land", EVIL))
    texts = [script(make_scene(name=EVIL), layers)]
    made = scene_map(make_scene(), layers, {"teacher-s0": EVIL})
    texts.append(made.get_root().render())
    group = shown("swipe", layers.truth(), layers.mask("teacher-s0", EVIL), photo=layers.background())
    texts.append(_get_feature_group_string(group, made))
    for text in texts:
        assert "</script><img" not in text
        assert "<img" not in text
    assert argument(texts[0], "kdcoreMap.start")["title"] == EVIL
