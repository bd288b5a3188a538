"""The Deploy page in a browser: a box on the map becomes km2, files come when they are asked for, and the real work from its button."""

import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Frame, Page, expect
from pyproj import Geod

from kdcore.deploy.record import Deployment
from tests.browser.conftest import READY
from tests.deployment import make_deployment, write_deployment
from tests.map_study import give_weights, make_map_study

CHART = "[data-testid=stPlotlyChart] .main-svg"


@pytest.fixture(scope="module", autouse=True)
def deployed(workspace: Path) -> None:
    """'town' was exported and measured."""
    write_deployment(workspace / "town/deploy", make_deployment())


def area_frame(page: Page) -> Frame:
    """The frame with the map to draw on, once its tiles have come."""
    page.get_by_text("Draw the area on a map").click()
    handle = page.wait_for_selector("iframe[title*=folium]")
    frame = handle.content_frame()
    assert frame is not None
    frame.wait_for_selector("img.leaflet-tile-loaded")
    page.wait_for_selector(READY)
    return frame


def drag(page: Page, frame: Frame, start: tuple[int, int], end: tuple[int, int]) -> list[tuple[float, float]]:
    """Press, move and release on the map; gives longitude and latitude of both points."""
    frame.locator("#map_div").scroll_into_view_if_needed()
    place = frame.locator("#map_div").bounding_box()
    assert place is not None
    page.mouse.move(place["x"] + start[0], place["y"] + start[1])
    page.mouse.down()
    page.mouse.move(place["x"] + (start[0] + end[0]) / 2, place["y"] + end[1])
    page.mouse.move(place["x"] + end[0], place["y"] + end[1])
    page.mouse.up()
    found: list[tuple[float, float]] = frame.evaluate(
        "points => points.map(p => kdcoreArea.map().containerPointToLatLng(p)).map(p => [p.lng, p.lat])", [start, end]
    )
    return found


def test_a_box_on_the_map_becomes_the_area_that_is_priced(visit):
    page = visit("/deploy?study=town")
    area = page.get_by_role("spinbutton", name="Area, km²")
    expect(area).to_have_value("100.00")
    frame = area_frame(page)
    for _ in range(4):  # a pixel of the screen is some metres then, so that rounding to 0.01 km2 is small
        frame.get_by_role("button", name="Zoom out").click()
        frame.wait_for_timeout(400)
    frame.get_by_role("button", name="Draw a box").click()
    (west, north), (east, south) = drag(page, frame, (300, 60), (700, 300))
    expect(area).not_to_have_value("100.00")
    meant = abs(Geod(ellps="WGS84").polygon_area_perimeter([west, east, east, west], [south, south, north, north])[0])
    assert float(area.input_value()) == pytest.approx(meant / 1e6, rel=2e-3)
    expect(frame.get_by_role("status")).to_contain_text("Box: ")
    expect(page.get_by_text(f"For {float(area.input_value()):,.1f} km²")).to_be_visible()
    assert "km2=" in page.url

    center = frame.evaluate("() => kdcoreArea.map().getCenter()")
    drag(page, frame, (300, 60), (500, 200))  # the box is drawn: now the map moves again
    assert frame.evaluate("() => kdcoreArea.map().getCenter()") != center

    before = area.input_value()
    frame.get_by_role("button", name="Take what is seen").press("Enter")  # by keyboard
    expect(area).not_to_have_value(before)
    assert page.frames.count(frame) == 1  # drawn once, however often the costs were


def test_a_click_is_no_box_and_escape_ends_drawing(visit):
    page = visit("/deploy?study=town")
    frame = area_frame(page)
    draw = frame.get_by_role("button", name="Draw a box")
    draw.click()
    expect(draw).to_have_attribute("aria-pressed", "true")
    drag(page, frame, (300, 100), (301, 101))
    expect(draw).to_have_attribute("aria-pressed", "true")
    draw.press("Escape")
    expect(draw).to_have_attribute("aria-pressed", "false")
    expect(page.get_by_role("spinbutton", name="Area, km²")).to_have_value("100.00")


def test_the_chart_and_its_choice_stand_in_the_address(visit):
    page = visit("/deploy?study=town")
    page.locator(CHART).first.wait_for()
    page.get_by_role("radio", name="File size").click()
    expect(page.get_by_text("Megabytes (smaller")).to_be_visible()
    page.reload()
    expect(page.get_by_text("Megabytes (smaller")).to_be_visible()


def test_files_come_when_they_are_asked_for(visit, tmp_path):
    page = visit("/deploy?study=town")
    page.get_by_role("button", name="Distilled student, ONNX, int8").click()
    with page.expect_download() as one:
        page.get_by_role("button", name="ONNX network").click()
    assert one.value.suggested_filename == "town-distilled-int8.onnx"
    assert Path(one.value.path()).read_text() == "distilled-int8.onnx of distilled"
    page.keyboard.press("Escape")
    with page.expect_download() as every:
        page.get_by_role("button", name="Everything").click()
    with zipfile.ZipFile(every.value.path()) as packed:
        assert "town-deploy/teacher-int8.stac.json" in packed.namelist()


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_sticks_out_of_the_page(visit, page, width):
    page.set_viewport_size({"width": width, "height": 800})
    visit("/deploy?study=town")
    page.locator(CHART).first.wait_for()
    main = page.locator("[data-testid=stMain]")
    assert main.evaluate("main => main.scrollWidth - main.clientWidth") <= 1
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.slow  # the real process exports, scores and measures three networks: about a minute on two idle cores
def test_the_button_leads_to_exported_and_measured_networks(page, start_dashboard, tmp_path_factory):
    folder = tmp_path_factory.mktemp("deploying") / "studies"
    study = make_map_study(folder, "village")
    give_weights(study)
    dashboard = start_dashboard(folder)
    page.goto(f"{dashboard.url}/deploy?study=village")
    page.get_by_role("button", name="Export and measure").click()
    expect(page.get_by_role("progressbar")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("It was stopped.")).to_be_visible()
    page.get_by_role("button", name="Export and measure").click()
    expect(page.get_by_role("heading", name="Which network, in which engine?")).to_be_visible()

    known = Deployment.load(study / "deploy")
    assert {form.arm for form in known.forms} == {"teacher", "alone", "distilled"}
    for form in known.forms:
        if form.kind == "onnx":
            assert form.flips is not None
            assert form.flips <= 0.001
    page.locator(CHART).first.wait_for()
    page.get_by_role("button", name="Distilled student, ONNX", exact=True).click()
    with page.expect_download() as network:
        page.get_by_role("button", name="ONNX network").click()
    assert Path(network.value.path()).read_bytes() == (study / "deploy/distilled-s0.onnx").read_bytes()
    assert page.get_by_role("button", name="STAC item").is_visible()
    assert page.get_by_role("button", name="Model card").is_visible()
