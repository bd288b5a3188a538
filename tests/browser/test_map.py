"""The map as a person uses it, in Chromium without internet."""

import io
import json
import re
import shutil
import urllib.request
from http.client import HTTPConnection
from urllib.parse import urlencode

import numpy as np
import pytest
import rasterio
from PIL import Image
from playwright.sync_api import Error, Frame, Page, expect
from pyproj import Transformer
from scipy import ndimage

from kdcore.views.map_layers import DISAGREEMENT_COLOURS
from tests.browser.conftest import READY
from tests.map_study import METRES, NORTH, UTM, WEST, make_map_study


def frame_of(page: Page, address: str = "") -> Frame:
    """The frame that the map is in, once all of its tiles have come and one of them has `address` in its own.

    Another scene gets another frame: one that is taken away while it is looked at is not the one that is meant.
    """
    while True:  # bounded by the test's own time limit
        page.wait_for_selector("iframe")
        frame = next((frame for frame in page.frames if re.search("streamlit_folium|leaflet", frame.url)), None)
        if frame is None:
            page.wait_for_timeout(50)
            continue
        try:
            frame.wait_for_function("() => window.kdcoreMap && kdcoreMap.sides.left.shown")
            frame.wait_for_function(
                "part => [...document.querySelectorAll('img.leaflet-tile')].some(image => image.src.includes(part))",
                arg=address,
            )
            settle(frame)
        except Error:
            if not frame.is_detached():
                raise
        else:
            return frame


def settle(frame: Frame) -> None:
    """Wait until every tile of every layer is there."""
    frame.wait_for_function(
        """() => {
          const images = [...document.querySelectorAll("img.leaflet-tile")];
          return images.length > 0 && images.every(image => image.complete && image.naturalWidth === 256);
        }"""
    )
    frame.wait_for_timeout(400)  # tiles fade in


def map_state(frame: Frame) -> dict:
    """Centre, zoom and what both sides show."""
    return frame.evaluate(
        """() => ({
          centre: [kdcoreMap.maps.main.getCenter().lat, kdcoreMap.maps.main.getCenter().lng],
          zoom: kdcoreMap.maps.main.getZoom(),
          second: kdcoreMap.maps.second && [kdcoreMap.maps.second.getCenter().lat, kdcoreMap.maps.second.getCenter().lng],
          left: kdcoreMap.sides.left.shown.name, right: kdcoreMap.sides.right.shown.name, tools: kdcoreMap.tools(),
        })"""
    )


def to_degrees(row: float, column: float) -> tuple[float, float]:
    """Latitude and longitude of a place in the UTM scene."""
    transformer = Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
    lng, lat = transformer.transform(WEST + 4000 + column * METRES, NORTH - row * METRES)
    return lat, lng


def on_screen(frame: Frame, row: float, column: float, which: str = "main") -> tuple[float, float]:
    """Where a pixel of the UTM scene is drawn, in pixels of the map's container."""
    lat, lng = to_degrees(row, column)
    x, y = frame.evaluate(
        f"([lat, lng]) => {{ const at = kdcoreMap.maps.{which}.latLngToContainerPoint([lat, lng]); return [at.x, at.y]; }}",
        [lat, lng],
    )
    return x, y


def picture(frame: Frame, selector: str = "#map_div") -> np.ndarray:
    """What is drawn, (height, width, 3)."""
    return np.array(Image.open(io.BytesIO(frame.locator(selector).screenshot())).convert("RGB")).astype(int)


def read(path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read()


@pytest.mark.parametrize(
    "path", ["/", "/tiles/town/test-area/truth/0/0/0.png", "/point/town/test-area?lat=0&lng=0", "/leaflet/leaflet.js"]
)
def test_another_hosts_name_gets_nothing(dashboard, path):
    """As a page of somebody else's would ask whose name was made to point to this machine (DNS rebinding)."""
    address = dashboard.url.removeprefix("http://")
    assert status_of(address, path, "evil.example") == 400
    assert status_of(address, path, address) == 200


def status_of(address: str, path: str, host: str) -> int:
    """Status of the answer to a request that names this host."""
    connection = HTTPConnection(address, timeout=30)
    connection.request("GET", path, headers={"Host": host})
    status = connection.getresponse().status
    connection.close()
    return status


def test_other_bands_change_the_imagery_under_the_same_map(visit, workspace):
    study = make_map_study(workspace, "wide", bands=("red", "green", "blue", "nir"))
    try:
        page = visit("/map?study=wide")
        frame = frame_of(page, "imagery")
        before = picture(frame)
        frame.evaluate("() => { window.same = true; }")
        page.get_by_role("button", name="Bands").click()
        page.get_by_role("combobox", name="Combination").click()
        page.get_by_role("option", name="Colour infrared").click()
        frame.wait_for_function(
            """() => {
              const images = [...document.querySelectorAll(".leaflet-kdcore-imagery-pane img")];
              return images.length > 0 && images.every(image => image.src.includes("bands=4,1,2"));
            }"""
        )
        settle(frame)
        assert frame.evaluate("() => window.same")
        assert (picture(frame) != before).any(axis=-1).mean() > 0.3
        expect(page.get_by_text("red is band 4 (near infrared)")).to_be_visible()
    finally:
        shutil.rmtree(study)
        shutil.rmtree(workspace / ".areas/wide")


def test_the_map_shows_tiles_without_internet(visit):
    frame = frame_of(visit("/map?study=town"))
    sources = frame.evaluate("() => [...document.querySelectorAll('img.leaflet-tile')].map(image => image.src)")
    assert any("/imagery/" in source for source in sources)
    assert any("/mask-teacher-s0/" in source for source in sources)
    assert any("/mask-distilled-s0/" in source for source in sources)
    colours = picture(frame).reshape(-1, 3)
    assert colours.std(axis=0).min() > 15  # something is seen
    assert frame.locator(".leaflet-control-scale-line").inner_text().endswith("m")


def test_the_corners_of_a_utm_raster_are_drawn_within_one_pixel_of_their_true_place(visit):
    frame = frame_of(visit("/map?" + urlencode({"study": "town", "left": "Imagery", "right": "Imagery"})))
    for row, column in ((0, 0), (0, 640), (480, 0), (480, 640)):
        lat, lng = to_degrees(row, column)
        frame.evaluate(
            "([lat, lng]) => { kdcoreMap.maps.main.eachLayer(layer => layer instanceof L.Rectangle && layer.remove());"
            " kdcoreMap.maps.main.setView([lat, lng], 20, {animate: false}); }",
            [lat, lng],
        )
        settle(frame)
        frame.evaluate(
            "() => document.querySelectorAll('.kdcore-swipe, .leaflet-control-container').forEach(e => e.remove())"
        )
        drawn = picture(frame)
        down, right = (1 if row == 0 else -1), (1 if column == 0 else -1)
        x, y = (round(value) for value in on_screen(frame, row, column))
        outside = drawn[y - 25 * down, x - 25 * right]
        other = (abs(drawn - outside) > 20).any(axis=2)
        assert other[y + 8 * down, x + 8 * right]
        assert not other[y - 8 * down, x + 8 * right]
        assert not other[y + 8 * down, x - 8 * right]
        # A little inwards along both edges, where one is crossed at a right angle.
        x, y = on_screen(frame, row, column + 12 * right)
        assert change(other[round(y) - 8 : round(y) + 9, int(x)]) + round(y) - 8 == pytest.approx(y, abs=1)
        x, y = on_screen(frame, row + 12 * down, column)
        assert change(other[int(y), round(x) - 8 : round(x) + 9]) + round(x) - 8 == pytest.approx(x, abs=1)


def change(line: np.ndarray) -> int:
    """Index of the first value that differs from the one before; there is one such place."""
    places = np.flatnonzero(line[1:] != line[:-1]) + 1
    assert len(places) == 1
    return int(places[0])


def test_the_handle_moves_by_mouse(visit):
    page = visit("/map?study=town")
    frame = frame_of(page)
    handle = frame.get_by_role("slider", name="Swipe between the left and the right layer")
    assert clip_edges(frame) == pytest.approx((0.5, 0.5), abs=0.01)
    box = handle.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    assert clip_edges(frame) == pytest.approx((0.25, 0.25), abs=0.03)
    assert handle.get_attribute("aria-valuetext").endswith("Teacher, the rest Distilled student")


def test_the_handle_moves_by_keyboard_and_the_map_does_not(visit):
    page = visit("/map?study=town")
    frame = frame_of(page)
    before = map_state(frame)
    handle = frame.get_by_role("slider", name="Swipe between the left and the right layer")
    handle.focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert clip_edges(frame) == pytest.approx((0.6, 0.6), abs=0.005)
    page.keyboard.press("Home")
    assert clip_edges(frame) == pytest.approx((0, 0), abs=0.005)
    assert map_state(frame)["centre"] == before["centre"]


def clip_edges(frame: Frame) -> tuple[float, float]:
    """Where the left pane ends and the right one begins, as shares of the map's width."""
    return tuple(
        frame.evaluate(
            """() => {
              const map = kdcoreMap.maps.main, zero = map.containerPointToLayerPoint([0, 0]).x, width = map.getSize().x;
              const numbers = side => map.getPane(`kdcore-${side}`).style.clip.match(/-?[\\d.]+/g).map(Number);
              return [(numbers("left")[1] - zero) / width, (numbers("right")[3] - zero) / width];
            }"""
        )
    )


def test_each_side_of_the_handle_shows_its_own_layer(visit, workspace):
    page = visit("/map?" + urlencode({"study": "town", "left": "Truth", "right": "Imagery"}))
    frame = frame_of(page)
    frame.get_by_role("slider", name="Opacity").fill("1")
    settle(frame)
    truth = read(workspace / ".areas/town/masks/test_area.tif")[0]
    rows, columns = inner_pixels(truth == 1, 6)
    drawn, size = picture(frame), frame.evaluate("() => kdcoreMap.maps.main.getSize().x")
    sides = {True: [], False: []}
    for row, column in list(zip(rows, columns, strict=True))[::29]:
        x, y = on_screen(frame, row + 0.5, column + 0.5)
        if abs(x - size / 2) > 30 and 60 < y < len(drawn) - 60 and 60 < x < size - 60:
            sides[x < size / 2].append((abs(drawn[round(y), round(x)] - [0xE6, 0x9F, 0x00]) < 12).all())
    assert len(sides[True]) > 5
    assert len(sides[False]) > 5
    assert all(sides[True])
    assert not any(sides[False])


def inner_pixels(mask: np.ndarray, distance: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of pixels whose whole neighbourhood is in the mask."""
    return np.nonzero(ndimage.binary_erosion(mask, iterations=distance))


def test_disagreement_agrees_with_numpy_where_one_clicks(visit, workspace):
    page = visit("/map?" + urlencode({"study": "town", "left": "Teacher or distilled?", "right": "Imagery"}))
    frame = frame_of(page)
    frame.get_by_role("slider", name="Opacity").fill("1")
    frame.get_by_role("slider", name="Swipe between").fill("100")
    frame.evaluate("() => document.querySelectorAll('.kdcore-swipe-line').forEach(e => e.style.opacity = 0)")
    settle(frame)
    truth = read(workspace / ".areas/town/masks/test_area.tif")[0] == 1
    teacher, student = (
        read(workspace / f"town/runs/{run}/maps/test_area.tif")[0] >= 127 for run in ("teacher-s0", "distilled-s0")
    )
    cases = {
        "only the teacher": (
            inner_pixels((teacher == truth) & (student != truth), 2),
            DISAGREEMENT_COLOURS[0],
            (True, False),
        ),
        "only the student": (
            inner_pixels((teacher != truth) & (student == truth), 2),
            DISAGREEMENT_COLOURS[1],
            (False, True),
        ),
        "both wrong": (
            inner_pixels((teacher != truth) & (student != truth), 2),
            DISAGREEMENT_COLOURS[2],
            (False, False),
        ),
    }
    for (rows, columns), colour, (teacher_right, student_right) in cases.values():
        index = len(rows) // 2
        row, column = int(rows[index]), int(columns[index])
        lat, lng = to_degrees(row + 0.5, column + 0.5)
        frame.evaluate(
            "([lat, lng]) => { kdcoreMap.maps.main.closePopup(); kdcoreMap.maps.main.setView([lat, lng], 20, {animate: false}); }",
            [lat, lng],
        )
        settle(frame)
        x, y = on_screen(frame, row + 0.5, column + 0.5)
        assert (abs(picture(frame)[round(y), round(x)] - list(bytes.fromhex(colour[1:]))) < 12).all()
        frame.locator("#map_div").click(position={"x": x, "y": y})
        popup = frame.locator(".kdcore-numbers")
        expect(popup).to_contain_text(f"Row {row}, column {column}.")
        expect(popup).to_contain_text(f"{UTM}: {WEST + 4000 + (column + 0.5) * METRES:.2f}")
        expect(popup).to_contain_text(f"Truth: {'building' if truth[row, column] else 'land'}.")
        says = popup.locator(".kdcore-says td").all_inner_texts()  # teacher, student alone, distilled student
        assert says[0].endswith("right") == teacher_right
        assert says[2].endswith("right") == student_right


def test_the_place_under_the_mouse_is_told_and_imagery_gets_brighter(visit):
    frame = frame_of(visit("/map?" + urlencode({"study": "town", "left": "Imagery", "right": "Imagery"})))
    cursor = frame.locator(".kdcore-cursor")
    expect(cursor).to_be_hidden()
    frame.evaluate(
        "([lat, lng]) => kdcoreMap.maps.main.setView([lat, lng], 20, {animate: false})", list(to_degrees(100.5, 222.5))
    )
    settle(frame)
    x, y = on_screen(frame, 100.5, 222.5)
    frame.locator("#map_div").hover(position={"x": x, "y": y})
    expect(cursor).to_contain_text("(WGS 84)")
    told = [float(part.strip(" °")) for part in cursor.inner_text().removesuffix("(WGS 84)").split(",")]
    assert told == pytest.approx(
        to_degrees(100.5, 222.5), abs=1e-5
    )  # two pixels: the mouse rests on whole ones of the screen
    before = picture(frame).mean()
    frame.locator("summary").click()
    frame.get_by_label("Brightness").fill("1.8")
    assert picture(frame).mean() > 1.2 * before
    assert map_state(frame)["tools"]["brightness"] == 1.8


def test_side_by_side_moves_together_by_mouse_and_keyboard(visit):
    page = visit("/map?study=town")
    frame = frame_of(page)
    page.get_by_role("radio", name="Side by side").click()
    frame.wait_for_function(
        "() => kdcoreMap.maps.second && document.querySelectorAll('#map_div2 img.leaflet-tile').length"
    )
    settle(frame)
    assert [name.inner_text() for name in frame.locator(".kdcore-side-name").all()] == ["Teacher", "Distilled student"]
    assert not frame.locator(".kdcore-swipe-handle").is_visible()
    for selector, other in (("#map_div", "#map_div2"), ("#map_div2", "#map_div")):
        before = map_state(frame)
        box = frame.locator(selector).bounding_box()
        page.mouse.move(box["x"] + 200, box["y"] + 200)
        page.mouse.down()
        page.mouse.move(box["x"] + 260, box["y"] + 230, steps=6)
        page.mouse.up()
        frame.wait_for_timeout(600)
        after = map_state(frame)
        assert after["centre"] != before["centre"], selector
        assert after["second"] == pytest.approx(after["centre"], abs=1e-9), other
    before = map_state(frame)
    frame.locator("#map_div").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("+")
    frame.wait_for_timeout(1000)
    after = map_state(frame)
    assert after["zoom"] > before["zoom"]
    assert frame.evaluate("() => kdcoreMap.maps.second.getZoom()") == after["zoom"]
    assert after["second"] == pytest.approx(after["centre"], abs=1e-9)


def test_other_layers_keep_the_view_the_handle_and_the_address(visit):
    page = visit("/map?study=town")
    frame = frame_of(page)
    frame.get_by_role("slider", name="Swipe between").fill("30")
    lat, lng = to_degrees(100, 100)
    frame.locator("#map_div").hover()
    page.mouse.wheel(0, -240)
    frame.wait_for_timeout(800)
    frame.evaluate("([lat, lng]) => kdcoreMap.maps.main.setView([lat, lng], 19, {animate: false})", [lat, lng])
    before = map_state(frame)
    page.get_by_role("combobox", name="Left").click()
    page.get_by_role("option", name="Truth", exact=True).click()
    frame.wait_for_function(
        "() => kdcoreMap.sides.left.shown.name === 'Truth'"
    )  # the same frame: the map was not made anew
    after = map_state(frame)
    assert after["centre"] == pytest.approx(before["centre"], abs=2e-5)  # less than a pixel of the screen
    assert (after["zoom"], after["tools"]["swipe"]) == (19, 0.3)
    assert "left=Truth" in page.url
    page.reload()
    page.wait_for_selector(READY)
    frame = frame_of(page)
    after = map_state(frame)
    assert after["left"] == "Truth"
    assert after["centre"] == pytest.approx(before["centre"], abs=1e-4)
    assert (after["zoom"], after["tools"]["swipe"]) == (19, 0.3)


def test_the_address_shows_view_and_threshold_to_someone_else(visit, window):
    page = visit("/map?study=town&tile=1")
    frame = frame_of(page)
    frame.locator("#map_div").focus()
    for key in ("ArrowLeft", "ArrowLeft", "+"):
        page.keyboard.press(key)
        frame.wait_for_timeout(600)
    frame.get_by_role("slider", name="Threshold").fill("0.7")
    page.wait_for_function("() => location.search.includes('threshold=0.70')")
    page.get_by_role("combobox", name="Right").click()
    page.get_by_role("option", name="Truth", exact=True).click()  # the page writes its own part of the address
    frame.wait_for_function("() => kdcoreMap.sides.right.shown.name === 'Truth'")
    mine = map_state(frame)
    other = window()  # remembers nothing
    other.goto(page.url)
    theirs = map_state(frame_of(other))
    other.context.close()
    assert theirs["centre"] == pytest.approx(mine["centre"], abs=1e-5)
    assert (theirs["zoom"], theirs["right"]) == (mine["zoom"], "Truth")
    assert theirs["tools"]["threshold"] == mine["tools"]["threshold"] == 0.7


def test_streets_are_asked_for_only_on_demand(visit, expected_problems):
    """Every request to another host fails a test here, so the tests before this one saw none."""
    page = visit("/map?study=town")
    frame_of(page)
    expected_problems.append("tile.openstreetmap.org")
    with page.expect_request("https://tile.openstreetmap.org/**"):
        page.get_by_text("Streets around it").click()
    assert "streets=true" in page.url.lower()


def test_the_threshold_rewrites_the_tiles_without_asking_the_page(visit):
    page = visit("/map?study=town")
    frame = frame_of(page)
    asked = []
    page.on("request", lambda request: asked.append(request.url) if "/tiles/" in request.url else None)
    before = picture(frame)
    frame.get_by_role("slider", name="Threshold").fill("0.9")
    frame.wait_for_function(
        "() => [...document.querySelectorAll('.kdcore-pixels img')].every(image => image.src.includes('threshold=0.90'))"
    )
    settle(frame)
    assert asked
    assert all("threshold=0.90" in url for url in asked)
    assert (abs(picture(frame) - before).max(axis=-1) > 40).mean() > 0.005


def test_classes_are_switched_off_by_keyboard(visit, workspace):
    page = visit("/map?" + urlencode({"study": "flat", "left": "Truth", "right": "Truth"}))
    frame = frame_of(page)
    frame.get_by_role("slider", name="Opacity").fill("1")
    water = np.array([0x56, 0xB4, 0xE9])
    assert (abs(picture(frame) - water).max(axis=-1) < 8).mean() > 0.01
    frame.get_by_label("water").focus()
    page.keyboard.press("Space")
    frame.wait_for_function(
        "() => [...document.querySelectorAll('.kdcore-pixels img')].every(image => image.src.includes('hide=0,2'))"
    )
    settle(frame)
    assert (abs(picture(frame)[60:-60] - water).max(axis=-1) < 8).mean() < 0.001


def test_a_scene_without_georeference_says_so_and_names_are_inert(visit):
    page = visit("/map?study=flat")
    frame = frame_of(page)
    expect(frame.get_by_text("No georeference: flat map in pixels")).to_be_visible()
    expect(frame.get_by_text("<img src=x onerror=alert(1)>").first).to_be_visible()
    assert frame.locator(".leaflet-control-scale-line").inner_text().endswith("px")
    assert frame.locator("img[src=x]").count() == 0
    frame.locator("#map_div").click(position={"x": 500, "y": 250})
    expect(frame.locator(".kdcore-numbers")).to_contain_text("<img src=x onerror=alert(1)>")


def test_next_worst_tile_goes_there_and_stands_in_the_address(visit, dashboard):
    page = visit("/map?study=town")
    frame = frame_of(page)
    centres = []
    for number in (1, 2):
        page.get_by_role("button", name="Next worst tile").click()
        expect(page.get_by_text(f"number {number} of")).to_be_visible()
        page.wait_for_selector(READY)
        settle(frame)
        centres.append(map_state(frame)["centre"])
        assert f"tile={number}" in page.url
    assert centres[0] != centres[1]
    query = urlencode({"lat": centres[1][0], "lng": centres[1][1]})
    with urllib.request.urlopen(f"{dashboard.url}/point/town/test-area?{query}") as answer:
        assert json.load(answer)["inside"]


def test_the_servers_words_reach_a_person_when_tiles_are_gone(visit, expected_problems):
    page = visit("/map?study=town")
    frame = frame_of(page)
    frame.evaluate(
        """() => {
          const gone = {...kdcoreMap.sides.left.shown, path: "tiles/town/test-area/mask-gone/{z}/{x}/{y}.png"};
          kdcoreMap.show({mode: "swipe", left: gone, right: kdcoreMap.sides.right.shown, focus: null, threshold: null});
        }"""
    )
    expected_problems.append("404")
    expect(frame.locator(".kdcore-status")).to_contain_text("no map of 'test-area' by a run 'gone'")
