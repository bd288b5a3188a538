"""Map tiles, checked pixel by pixel against numpy and pyproj."""

import io
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import rasterio
from PIL import Image
from pyproj import Transformer
from starlette.applications import Starlette
from starlette.testclient import TestClient

from kdcore.bounded import BoundedCache
from kdcore.files import write_text
from kdcore.inference.layer_index import StudyLayers
from kdcore.inference.uploads import receive
from kdcore.jobs.workspace import Workspace
from kdcore.server import reading, tiles
from kdcore.server.routes import map_routes
from kdcore.views.map_layers import DISAGREEMENT_COLOURS
from tests.map_study import COLOURS, METRES, NORTH, UTM, WEST

EDGE = 20037508.342789244  # half the width of web mercator, metres


@pytest.fixture
def client(workspace, monkeypatch):
    monkeypatch.setenv("KDCORE_WORKSPACE", str(workspace))
    tiles.drawn.clear()
    reading.warped.clear()
    return TestClient(Starlette(routes=map_routes()))


def rgba(response) -> np.ndarray:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "image/png"
    return np.array(Image.open(io.BytesIO(response.content)).convert("RGBA"))


def colour(text: str) -> list[int]:
    return [*bytes.fromhex(text[1:]), 255]


def tile_at(x: float, y: float, zoom: int) -> tuple[int, int]:
    """The tile that holds a place in web-mercator metres."""
    size = 2 * EDGE / 2**zoom
    return int((x + EDGE) / size), int((EDGE - y) / size)


def centres(zoom: int, x: int, y: int) -> tuple[np.ndarray, np.ndarray]:
    """Web-mercator coordinates of a tile's pixel centres, (256, 256) each."""
    size = 2 * EDGE / 2**zoom
    steps = (np.arange(256) + 0.5) * size / 256
    return np.meshgrid(-EDGE + x * size + steps, EDGE - y * size - steps)


def utm_pixels(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and column (fractions) in the UTM scene 'test_area', which is written at WEST + 4000 m."""
    east, north = Transformer.from_crs("EPSG:3857", UTM, always_xy=True).transform(x, y)
    return (NORTH - north) / METRES, (east - WEST - 4000) / METRES


def scene_tile(row: float, column: float, zoom: int) -> tuple[int, int]:
    """The tile that holds a pixel of the UTM scene."""
    to_mercator = Transformer.from_crs(UTM, "EPSG:3857", always_xy=True)
    return tile_at(*to_mercator.transform(WEST + 4000 + column * METRES, NORTH - row * METRES), zoom)


def read(path, **options) -> np.ndarray:
    with rasterio.open(path, **options) as dataset:
        return dataset.read()


def sample(array: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values at pixels, and whether the place is inside and at least a fifth of a pixel away from a pixel's edge."""
    height, width = array.shape[-2:]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    clear = (abs(rows % 1 - 0.5) < 0.3) & (abs(columns % 1 - 0.5) < 0.3)
    values = array[..., np.clip(rows, 0, height - 1).astype(int), np.clip(columns, 0, width - 1).astype(int)]
    return values, inside & clear


def test_a_mask_shows_the_nearest_pixel_of_a_utm_raster_at_its_true_place(client, workspace):
    zoom = 19
    x, y = scene_tile(240, 320, zoom)
    shown = rgba(client.get(f"/tiles/town/test-area/mask-teacher-s0/{zoom}/{x}/{y}.png"))
    rows, columns = utm_pixels(*centres(zoom, x, y))
    levels, known = sample(read(workspace / "town/runs/teacher-s0/maps/test_area.tif")[0], rows, columns)
    assert known.mean() > 0.3
    wanted = np.where(levels[..., None] >= 127, colour(COLOURS[1]), colour(COLOURS[0]))
    assert (shown == wanted).all(axis=-1)[known].all()


def test_the_corner_of_a_utm_raster_lies_within_one_pixel_of_its_true_place(client):
    zoom = 21
    for row, column in ((0, 0), (0, 640), (480, 0), (480, 640)):
        x, y = scene_tile(row, column, zoom)
        shown = rgba(client.get(f"/tiles/town/test-area/imagery/{zoom}/{x}/{y}.png"))
        rows, columns = utm_pixels(*centres(zoom, x, y))
        pixel = np.hypot(rows[1, 0] - rows[0, 0], columns[1, 0] - columns[0, 0])  # of the map, in the scene's pixels
        inside = (rows >= 0) & (rows < 480) & (columns >= 0) & (columns < 640)
        near_edge = np.minimum.reduce([abs(rows), abs(rows - 480), abs(columns), abs(columns - 640)]) < pixel
        assert inside.any()
        assert not inside.all()
        assert ((shown[..., 3] > 0) == inside)[~near_edge].all()


def test_the_threshold_moves_the_mask(client, workspace):
    zoom = 19
    x, y = scene_tile(240, 320, zoom)
    rows, columns = utm_pixels(*centres(zoom, x, y))
    levels, known = sample(read(workspace / "town/runs/alone-s0/maps/test_area.tif")[0], rows, columns)
    address = f"/tiles/town/test-area/mask-alone-s0/{zoom}/{x}/{y}.png"
    for threshold in ("0", "0.2", "0.85", "1"):
        shown = rgba(client.get(address, params={"threshold": threshold, "hide": "0"}))
        positive = levels >= round(254 * float(threshold))
        assert ((shown[..., 3] > 0) == positive)[known].all()


def test_hidden_classes_are_transparent_and_the_others_keep_their_colours(client, workspace):
    scene = StudyLayers.load(workspace / "flat").scenes[0]
    x, y = tile_at(10, 10, scene.zoom)
    address = f"/tiles/flat/test-area/truth/{scene.zoom}/{x}/{y}.png"
    everything, some = rgba(client.get(address)), rgba(client.get(address, params={"hide": "0,3"}))
    hidden = (everything == colour(COLOURS[0])).all(axis=-1) | (everything == colour(COLOURS[3])).all(axis=-1)
    assert 0 < hidden.sum() < hidden.size
    assert (some[hidden][:, 3] == 0).all()
    assert (some[~hidden] == everything[~hidden]).all()


def test_scenes_without_georeference_lie_flat_around_zero_in_pixels(client, workspace):
    scene = StudyLayers.load(workspace / "flat").scenes[0]
    assert (scene.georeferenced, scene.unit, scene.metres_per_pixel) == (False, "pixels", None)
    zoom = 17
    x, y = tile_at(10, 10, zoom)
    across, up = centres(zoom, x, y)
    rows, columns = 240 - up, 320 + across
    levels, known = sample(read(workspace / "flat/runs/distilled-s0/maps/test_area.tif"), rows, columns)
    shown = rgba(client.get(f"/tiles/flat/test-area/mask-distilled-s0/{zoom}/{x}/{y}.png"))
    wanted = np.array([colour(text) for text in COLOURS])[levels.argmax(axis=0)]
    assert known.mean() > 0.2
    assert (shown == wanted).all(axis=-1)[known].all()
    truth, _ = sample(read(workspace / ".areas/flat/masks/test_area.tif")[0], rows, columns)
    shown = rgba(client.get(f"/tiles/flat/test-area/truth/{zoom}/{x}/{y}.png"))
    assert (shown == np.array([colour(text) for text in COLOURS])[truth]).all(axis=-1)[known].all()


@pytest.mark.parametrize("threshold", ["0.5", "0.3"])
def test_disagreement_says_who_is_right(client, workspace, threshold):
    zoom = 19
    x, y = scene_tile(240, 320, zoom)
    rows, columns = utm_pixels(*centres(zoom, x, y))
    cut = round(254 * float(threshold))
    first, known = sample(read(workspace / "town/runs/teacher-s0/maps/test_area.tif")[0] >= cut, rows, columns)
    second, _ = sample(read(workspace / "town/runs/distilled-s0/maps/test_area.tif")[0] >= cut, rows, columns)
    truth, _ = sample(read(workspace / ".areas/town/masks/test_area.tif")[0] == 1, rows, columns)
    address = f"/tiles/town/test-area/disagreement-teacher-s0-distilled-s0/{zoom}/{x}/{y}.png"
    shown = rgba(client.get(address, params={"threshold": threshold}))
    only_first, only_second, both_wrong = (colour(text) for text in DISAGREEMENT_COLOURS)
    for right, text in (
        ((first == truth) & (second != truth), only_first),
        ((first != truth) & (second == truth), only_second),
        ((first != truth) & (second != truth), both_wrong),
    ):
        assert (right & known).any()
        assert (shown[right & known] == text).all()
    agreed = (first == truth) & (second == truth) & known
    assert (shown[agreed][:, 3] == 0).all()


def test_probabilities_go_from_dark_to_light(client, workspace):
    zoom = 19
    x, y = scene_tile(240, 320, zoom)
    rows, columns = utm_pixels(*centres(zoom, x, y))
    levels, known = sample(read(workspace / "town/runs/teacher-s0/maps/test_area.tif")[0], rows, columns)
    shown = rgba(client.get(f"/tiles/town/test-area/probability-teacher-s0-1/{zoom}/{x}/{y}.png")).astype(float)
    brightness = shown[..., :3] @ [0.2126, 0.7152, 0.0722]
    low, high = known & (levels < 30), known & (levels > 224)
    assert low.any()
    assert high.any()
    assert brightness[low].max() < brightness[high].min()


@pytest.mark.parametrize("bands", ["", "1,2,3", "4,1,2", "5,5,1", "4"])
def test_imagery_is_drawn_with_the_bands_that_are_asked_for(client, workspace, bands):
    zoom = 19
    x, y = scene_tile(240, 320, zoom)
    address = f"/tiles/wide/test-area/imagery/{zoom}/{x}/{y}.png"
    rgba(client.get(address))  # of other bands: it is not given again
    shown = rgba(client.get(address, params={"bands": bands} if bands else {}))
    rows, columns = utm_pixels(*centres(zoom, x, y))
    values, known = sample(read(workspace / "wide/layers/test-area/imagery.tif"), rows, columns)
    numbers = [int(number) for number in (bands or "1,2,3").split(",")]
    for channel, number in enumerate(numbers if len(numbers) == 3 else 3 * numbers):
        off = np.abs(shown[..., channel].astype(int) - values[number - 1])[known]
        assert off.mean() < 1.5  # smooth where it is made smaller
    assert known.mean() > 0.3
    assert len({values[number - 1].tobytes() for number in (1, 2, 3, 4, 5)}) == 5


def test_a_scene_that_shows_bands_it_does_not_have_is_broken(client, workspace, tmp_path, monkeypatch):
    shutil.copytree(workspace / "wide", tmp_path / "wide")
    monkeypatch.setenv("KDCORE_WORKSPACE", str(tmp_path))
    index = tmp_path / "wide/layers/layers.json"
    for shown in ([9, 1, 2], [], [1, 2]):
        layers = json.loads(index.read_text())
        layers["scenes"][0]["shown"] = shown
        index.write_text(json.dumps(layers))
        answer = client.get("/tiles/wide/test-area/imagery/1/0/0.png")
        assert answer.status_code == 404
        assert "is broken. Remove it and start the study again" in answer.text


def test_tiles_are_small_and_may_be_kept(client):
    x, y = scene_tile(240, 320, 19)
    answer = client.get(f"/tiles/town/test-area/mask-teacher-s0/19/{x}/{y}.png?v=1")
    assert len(answer.content) < 10_000  # a colour picture of a tile has 200 kB before compression
    assert "immutable" in answer.headers["cache-control"]
    assert (
        "immutable" not in client.get(f"/tiles/town/test-area/mask-teacher-s0/19/{x}/{y}.png").headers["cache-control"]
    )


def test_a_tile_beside_the_raster_is_empty(client):
    answer = client.get("/tiles/town/test-area/imagery/10/1/1.png")
    assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize(
    ("address", "status", "words"),
    [
        ("/tiles/nope/test-area/imagery/1/0/0.png", 404, "study"),
        ("/tiles/town/nope/imagery/1/0/0.png", 404, "scene 'nope'"),
        ("/tiles/town/test-area/picture/1/0/0.png", 404, "there are imagery, truth"),
        ("/tiles/town/test-area/mask-nope/1/0/0.png", 404, "run 'nope'"),
        ("/tiles/town/test-area/mask-..%2Fteacher-s0/1/0/0.png", 404, ""),
        ("/tiles/town/test-area/probability-teacher-s0-0/1/0/0.png", 404, "classes 1 have"),
        ("/tiles/town/test-area/probability-teacher-s0-x/1/0/0.png", 404, "Class 'x'"),
        ("/tiles/town/test-area/disagreement-teacher-s0/1/0/0.png", 404, "two runs"),
        ("/tiles/town/test-area/imagery/1/2/0.png", 400, "no tile 2, 0"),
        ("/tiles/town/test-area/imagery/99/0/0.png", 400, "zoom goes from 0"),
        ("/tiles/town/test-area/imagery/1/0/0.png?threshold=nan", 400, "`threshold`"),
        ("/tiles/town/test-area/imagery/1/0/0.png?threshold=2", 400, "`threshold`"),
        ("/tiles/town/test-area/imagery/1/0/0.png?hide=1;2", 400, "`hide`"),
        ("/tiles/wide/test-area/imagery/1/0/0.png?bands=1,2", 400, "one or three band numbers"),
        ("/tiles/wide/test-area/imagery/1/0/0.png?bands=0", 400, "one or three band numbers"),
        ("/tiles/wide/test-area/imagery/1/0/0.png?bands=-1,2,3", 400, "one or three band numbers"),
        ("/tiles/wide/test-area/imagery/1/0/0.png?bands=1.0", 400, "one or three band numbers"),
        ("/tiles/wide/test-area/imagery/1/0/0.png?bands=%D9%A1", 400, "one or three band numbers"),
        ("/tiles/wide/test-area/imagery/1/0/0.png?bands=4%0A", 400, "one or three band numbers"),
        (f"/tiles/wide/test-area/imagery/1/0/0.png?bands={'9' * 4000}", 400, "one or three band numbers"),
        ("/tiles/wide/test-area/mask-teacher-s0/1/0/0.png?bands=x", 400, "one or three band numbers"),
        ("/tiles/wide/test-area/imagery/1/0/0.png?bands=1,2,6", 400, "no band 6; its bands are 1, 2, 3, 4, 5"),
        ("/tiles/town/test-area/imagery/1/0/0.png?bands=3,2,1", 400, "cannot be chosen"),
        ("/tiles/..%2F..%2Fetc/test-area/imagery/1/0/0.png", 404, ""),
        ("/point/town/nope?lat=1&lng=1", 404, "scene 'nope'"),
        ("/point/town/test-area?lat=north&lng=1", 400, "`lat` and `lng`"),
        ("/point/town/test-area?lat=nan&lng=1", 400, "`lat` and `lng`"),
        ("/point/town/test-area", 400, "`lat` and `lng`"),
    ],
)
def test_what_is_not_there_is_refused_in_one_sentence(client, address, status, words):
    answer = client.get(address)
    assert answer.status_code == status
    assert words in answer.text
    assert "Traceback" not in answer.text
    assert len(answer.text) < 300


def test_a_map_that_was_written_anew_is_drawn_anew(workspace, tmp_path, monkeypatch):
    shutil.copytree(workspace / "town", tmp_path / "town")
    monkeypatch.setenv("KDCORE_WORKSPACE", str(tmp_path))
    client = TestClient(Starlette(routes=map_routes()))
    x, y = scene_tile(240, 320, 19)
    address = f"/tiles/town/test-area/mask-teacher-s0/19/{x}/{y}.png"
    before = client.get(address).content
    shutil.copy(
        workspace / "town/runs/alone-s0/maps/test_area.tif", tmp_path / "town/runs/teacher-s0/maps/test_area.tif"
    )
    assert client.get(address).content != before


def test_what_is_kept_stays_below_its_limit():
    cache = BoundedCache[bytes](10_000, len)
    for index in range(100):
        cache.put(index, bytes(1200))
        cache.get(95)
    assert [index for index in range(100) if cache.get(index)] == list(range(92, 100))  # eight; the newest
    cache.get(92)
    cache.put("another", bytes(1200))
    assert cache.get(92)  # it was used since
    assert cache.get(93) is None
    cache.put("large", bytes(20_000))  # larger than all may be together: made, not kept
    assert cache.get("large") is None


def test_a_moved_threshold_does_not_read_the_raster_again(client, monkeypatch):
    x, y = scene_tile(240, 320, 19)
    address = f"/tiles/town/test-area/mask-teacher-s0/19/{x}/{y}.png"
    first = client.get(address, params={"threshold": 0.5}).content
    monkeypatch.setattr(reading, "warp", lambda *_: pytest.fail("read again"))
    assert client.get(address, params={"threshold": 0.9}).content != first


def test_a_click_tells_every_runs_probabilities_and_the_truth(client, workspace):
    row, column = 100, 222
    to_degrees = Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
    lng, lat = to_degrees.transform(WEST + 4000 + (column + 0.5) * METRES, NORTH - (row + 0.5) * METRES)
    found = client.get("/point/town/test-area", params={"lat": lat, "lng": lng, "threshold": 0.4}).json()
    assert (found["inside"], found["row"], found["column"], found["classes"]) == (True, row, column, ["building"])
    assert found["place"] == [WEST + 4000 + 222.5 * METRES, NORTH - 100.5 * METRES]
    assert found["digits"] == 2  # tell pixels of half a metre apart
    truth = ["land", "building"][read(workspace / ".areas/town/masks/test_area.tif")[0, row, column]]
    assert found["truth"] == truth
    assert sorted(found["runs"]) == ["alone-s0", "distilled-s0", "teacher-s0"]
    for run, values in found["runs"].items():
        level = read(workspace / f"town/runs/{run}/maps/test_area.tif")[0, row, column]
        assert values["probabilities"] == [pytest.approx(level / 254, abs=0.001)]
        assert values["class"] == ("building" if level >= round(254 * 0.4) else "land")
        assert values["right"] == (values["class"] == truth)


def test_a_click_beside_the_raster_says_so(client):
    assert client.get("/point/town/test-area", params={"lat": 0, "lng": 0}).json() == {"inside": False}


def test_leaflet_and_the_maps_own_script_come_from_here(client):
    assert "Leaflet 1.9" in client.get("/leaflet/leaflet.js").text[:200]
    assert client.get("/leaflet/leaflet.css").status_code == 200
    assert client.get("/leaflet/kdcore/map.js").status_code == 200
    assert client.get("/leaflet/../../../etc/passwd").status_code == 404


def test_serving_never_imports_torch():
    code = (
        "import sys, kdcore.server.routes; from kdcore.server.reading import rio_tiler; rio_tiler(); "
        "sys.exit('torch' in sys.modules or 'geopandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_raster_of_ones_own_is_shown_for_its_study_only(client, workspace):
    upload = receive(
        Workspace(workspace), "town", "mine.tif", (workspace / ".areas/town/images/test_area.tif").open("rb")
    )
    shutil.copy(workspace / "town/layers/test-area/imagery.tif", upload.imagery)
    upload.maps.mkdir()
    shutil.copy(workspace / "town/runs/teacher-s0/maps/test_area.tif", upload.maps / "teacher-s0.probabilities.tif")
    x, y = scene_tile(240, 320, 19)
    address = f"{upload.id}/mask-teacher-s0/19/{x}/{y}.png"
    assert "not marked yet" in client.get(f"/tiles/town/{address}").text
    layers = StudyLayers.load(workspace / "town")
    scene = layers.scenes[0].model_copy(update={"id": upload.id, "name": "<b>mine</b>.tif"})
    write_text(upload.path / "layers.json", layers.model_copy(update={"scenes": (scene,)}).model_dump_json())
    same = client.get(f"/tiles/town/test-area/mask-teacher-s0/19/{x}/{y}.png")
    assert client.get(f"/tiles/town/{address}").content == same.content
    assert client.get(f"/tiles/flat/{address}").status_code == 404
    assert "truth" in client.get(f"/tiles/town/{upload.id}/truth/19/{x}/{y}.png").text
    (south, west), (north, east) = scene.bounds
    found = client.get(f"/point/town/{upload.id}", params={"lat": (south + north) / 2, "lng": (west + east) / 2}).json()
    assert (found["truth"], list(found["runs"])) == (None, ["teacher-s0"])
    assert found["runs"]["teacher-s0"]["right"] is None


@pytest.mark.parametrize(("study", "crs"), [("town", UTM), ("flat", None)])
def test_small_scales_show_single_pixels_and_true_disagreement(client, workspace, study, crs):
    scene = StudyLayers.load(workspace / study).scenes[0]
    (south, west), (north, east) = scene.bounds
    to_mercator = Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True)
    zoom = scene.zoom - 2
    x, y = tile_at(*to_mercator.transform((west + east) / 2, (south + north) / 2), zoom)
    across, up = centres(zoom, x, y)
    rows, columns = utm_pixels(across, up) if crs else (240 - up, 320 + across)
    shown = rgba(client.get(f"/tiles/{study}/test-area/disagreement-teacher-s0-distilled-s0/{zoom}/{x}/{y}.png"))
    colours = np.array([[0, 0, 0, 0], *(colour(text) for text in DISAGREEMENT_COLOURS)])
    quarter, known = sample(who_is_right(workspace / study, overview_level=1), rows / 4, columns / 4)
    assert known.sum() > 800
    seen = np.where(shown[..., 3:] == 0, colours[0], shown)
    assert (seen == colours[quarter]).all(axis=-1)[known].all()
    whole, known = sample(who_is_right(workspace / study), rows, columns)
    for value in (1, 2, 3):  # at a small scale as many pixels disagree as there are
        share = (whole[known] == value).mean()
        assert (seen[known] == colours[value]).all(axis=-1).mean() == pytest.approx(share, abs=0.02)


def who_is_right(study, **options) -> np.ndarray:
    """0 where teacher and distilled student are right, 1 only the teacher, 2 only the student, 3 none; or of an overview."""
    decided = []
    for run in ("teacher-s0", "distilled-s0"):
        levels = read(study / f"runs/{run}/maps/test_area.tif", **options)
        decided.append(levels[0] >= 127 if len(levels) == 1 else levels.argmax(axis=0))
    truth = read(study / "layers/test-area/truth.tif", **options)[0]
    first, second = (one == truth for one in decided)
    return np.select([first & ~second, ~first & second, ~first & ~second], [1, 2, 3])
