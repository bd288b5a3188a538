"""Below the map: maps for a GIS, hectares from labelled points, tiles to label next."""

import shutil

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio

from kdcore.inference.area_sample import draw, estimate
from kdcore.inference.class_maps import write_class_map
from kdcore.inference.uploads import receive
from kdcore.jobs.actions import recent_actions
from kdcore.jobs.workspace import Workspace
from kdcore.server.lookup import find_scene
from kdcore.ui import area, scene_files
from tests.map_study import METRES, NORTH, WEST
from tests.pages.conftest import words_of

NAMES = ("land", "building", "water")


def button(at, label):
    return next(button for button in at.button if button.label == label)


def downloads(at) -> list[str]:
    return [element.proto.label for element in at.get("download_button")]


def classes_of(workspace, run: str) -> np.ndarray:
    """The most probable class of each pixel."""
    with rasterio.open(workspace / f"town/runs/{run}/maps/test_area.tif") as dataset:
        return dataset.read().argmax(axis=0)


def truth_of(workspace) -> np.ndarray:
    with rasterio.open(workspace / ".areas/town/masks/test_area.tif") as dataset:
        return dataset.read(1)


@pytest.fixture
def labelled(workspace, tmp_path):
    """Points drawn from the distilled student's map, with the labels of the truth."""
    with rasterio.open(workspace / "town/runs/distilled-s0/maps/test_area.tif") as dataset:
        assert dataset.transform.c == WEST + 4000
    write_class_map(
        workspace / "town/runs/distilled-s0/maps/test_area.tif", tmp_path / "d.classes.tif", NAMES, ["#000000"] * 3
    )
    draw(tmp_path / "d.classes.tif", tmp_path / "points.gpkg", points=300, least=50, seed=0)
    points = geopandas.read_file(tmp_path / "points.gpkg", layer="points")
    rows = ((NORTH - points.geometry.y) / METRES).astype(int)
    columns = ((points.geometry.x - WEST - 4000) / METRES).astype(int)
    points["label"] = np.array(NAMES)[truth_of(workspace)[rows, columns]]
    pyogrio.write_dataframe(points, tmp_path / "points.gpkg", driver="GPKG", layer="points")
    return tmp_path / "points.gpkg"


def upload(at, path, name="points.gpkg"):
    at.file_uploader[-1].set_value((name, path.read_bytes(), "application/octet-stream"))
    button(at, "Estimate").click().run()
    return at


def test_every_network_s_maps_can_be_taken_along(workspace, open_page):
    at = open_page("map", study="town")
    kinds = ["Classes (GeoTIFF)", "Polygons (GeoPackage)", "Probabilities (GeoTIFF)"]
    assert downloads(at) == 3 * kinds
    study = Workspace(workspace).study("town")
    scene = find_scene("town", "test-area")
    with rasterio.MemoryFile(scene_files.classes_of(study, scene, "teacher-s0")) as file, file.open() as dataset:
        assert (dataset.read(1) == classes_of(workspace, "teacher-s0")).all()
        assert dataset.tags()["CLASSES"] == "0 land, 1 building, 2 water"
    polygons = scene_files.polygons_of(study, scene, "teacher-s0")
    assert polygons.startswith(b"SQLite format 3\0")


def test_points_are_drawn_from_the_map_that_is_shown(workspace, open_page):
    at = open_page("map", study="town")
    at.number_input[-1].set_value(2)  # of 307,200 pixels, 98 in each class are none too many
    button(at, "Draw points").click().run()
    counts = np.bincount(classes_of(workspace, "distilled-s0").ravel(), minlength=3)
    assert "300 points: " in words_of(at)
    said = words_of(at).partition("300 points: ")[2].partition(".")[0]
    drawn = {part.split(" in ")[1]: int(part.split(" in ")[0]) for part in said.split(", ")}
    for name, pixels in zip(NAMES, counts, strict=True):
        assert drawn[name] == pytest.approx(2 + 294 * pixels / counts.sum(), abs=1)
    assert downloads(at)[-1] == "Points (GeoPackage)"


def test_too_few_points_get_a_sentence(workspace, open_page):
    at = open_page("map", study="town")
    at.number_input[-1].set_value(200)
    button(at, "Draw points").click().run()
    assert "300 points are too few for 3 strata of at least 200. Draw 600 or more" in words_of(at)


def test_labelled_points_give_hectares_beside_counted_pixels(workspace, open_page, labelled):
    at = upload(open_page("map", study="town"), labelled)
    assert not at.error
    table = at.table[0].value.set_index("Class")
    expected = estimate(labelled, {})["areas"]
    truth = np.bincount(truth_of(workspace).ravel())
    counted = np.bincount(classes_of(workspace, "teacher-s0").ravel())
    for index, name in enumerate(NAMES):
        value, low, high = (expected[name][key] for key in ("value", "low", "high"))
        assert table.loc[name, "Hectares"] == f"{value:,.2f} ({low:,.2f} to {high:,.2f})"
        assert float(table.loc[name, "Pixels counted, Teacher"]) == pytest.approx(counted[index] * 0.25e-4, abs=0.006)
    assert expected["water"]["low"] < truth[2] * 0.25e-4 < expected["water"]["high"]
    assert "Distilled student: " in words_of(at)
    assert [action.what for action in recent_actions(Workspace(workspace))] == ["estimated areas with"]


def test_a_sample_that_somebody_chose_is_refused_with_the_command_s_sentence(workspace, open_page, labelled):
    points = geopandas.read_file(labelled, layer="points").iloc[20:]
    pyogrio.write_dataframe(points, labelled, driver="GPKG", layer="points")
    at = upload(open_page("map", study="town"), labelled, "easy *ones*.gpkg")
    assert (
        "easy *ones*.gpkg: 20 points are gone and 0 were added. A sample whose points somebody chose is no"
        in words_of(at)
    )
    assert not at.table


@pytest.mark.parametrize(
    ("contents", "sentence"),
    [
        (b"<OGRVRTDataSource/>", "is no GeoPackage in spite of its name"),
        (b"SQLite format 3\0 and nothing else", "cannot be read as GeoPackage"),
    ],
)
def test_what_only_has_the_name_of_a_geopackage_is_refused(workspace, open_page, tmp_path, contents, sentence):
    (tmp_path / "points.gpkg").write_bytes(contents)
    at = upload(open_page("map", study="town"), tmp_path / "points.gpkg")
    assert f"points.gpkg: {sentence}" in words_of(at)
    assert str(tmp_path) not in words_of(at)


def test_labels_on_a_scene_that_is_tested_on_are_no_training_data(workspace, open_page):
    at = open_page("map", study="town")
    assert "nothing may be trained on it" in words_of(at)
    assert "Choose tiles" not in [button.label for button in at.button]


@pytest.fixture
def own(workspace):
    """A raster of one's own that teacher and distilled student have marked."""
    with (workspace / ".areas/town/images/test_area.tif").open("rb") as file:
        upload = receive(Workspace(workspace), "town", "new.tif", file)
    upload.write_status(upload.status.model_copy(update={"state": "finished"}))
    layers = workspace / "town/layers/layers.json"
    (upload.path / "layers.json").write_text(layers.read_text().replace('"id": "test-area"', f'"id": "{upload.id}"'))
    upload.maps.mkdir()
    for run in ("teacher-s0", "distilled-s0"):
        made = upload.maps / f"{run}.probabilities.tif"
        shutil.copy(workspace / f"town/runs/{run}/maps/test_area.tif", made)
        write_class_map(made, upload.maps / f"{run}.classes.tif", NAMES, ["#000000"] * 3)
    return upload


def test_of_a_raster_of_one_s_own_the_tiles_to_label_next_are_chosen(workspace, open_page, own):
    at = open_page("map", study="town")
    at.selectbox(key="scene").select(own.id).run()
    button(at, "Choose tiles").click().run()
    assert not at.error
    table = at.dataframe[0].value
    teacher, student = (classes_of(workspace, run) for run in ("teacher-s0", "distilled-s0"))
    first = table.iloc[0]
    tile = np.s_[first["Row"] : first["Row"] + 256, first["Column"] : first["Column"] + 256]
    differ = (teacher != student)[tile].mean()
    assert first["Other class"] == f"{100 * differ:.0f}\u00a0%"
    assert differ == max(
        (teacher != student)[row : row + 256, column : column + 256].mean()
        for row in range(0, 480, 256)
        for column in range(0, 640, 256)
        if min(256, 480 - row) * min(256, 640 - column) * 2 >= 256 * 256
    )
    assert downloads(at)[-1] == "Tiles (GeoPackage)"


def test_a_large_raster_is_left_to_the_command(workspace, open_page, own, monkeypatch):
    monkeypatch.setattr(scene_files, "MOST_PIXELS", 1000)
    at = open_page("map", study="town")
    at.selectbox(key="scene").select(own.id).run()
    codes = "\n".join(code.value for code in at.code)
    assert f"kdcore area sample '{own.maps}/distilled-s0.classes.tif' points.gpkg" in codes
    assert f"kdcore data next '{own.maps}/teacher-s0.classes.tif' '{own.maps}/distilled-s0.classes.tif'" in codes


def test_a_scene_without_a_map_position_has_no_hectares(workspace, open_page):
    file = workspace / "town/layers/layers.json"
    file.write_text(file.read_text().replace('"georeferenced": true', '"georeferenced": false'))
    at = open_page("map", study="town")
    assert area.NOWHERE in words_of(at)
    assert not at.file_uploader[1:]
