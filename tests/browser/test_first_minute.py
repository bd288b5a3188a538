"""What a person meets in the first minute: the picture on Start, the way back to a run, the map's frame, mistakes, and text that can be read."""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import Frame, Page, TimeoutError, expect

from kdcore.jobs.locks import holding
from kdcore.jobs.status import Status
from kdcore.jobs.study_folder import About, StudyFolder
from kdcore.settings import STUDY_PRESETS
from tests.browser.conftest import READY, Dashboard
from tests.browser.test_map import clip_edges, frame_of, map_state, settle

LINE = "Swipe between the left and the right layer"
CONTRAST = (Path(__file__).parent / "contrast.js").read_text()


@pytest.fixture
def running(workspace: Path) -> Iterator[StudyFolder]:
    """A study that says that it trains; this process is the one that works on it."""
    study = StudyFolder.begin(workspace / "running", STUDY_PRESETS["quick"], About(title="A long one", demo=0))
    study.write_status(
        Status(state="running", stage="training", run="teacher-s0", done=3, total=300, started=time.time())
    )
    with holding(study.lock, "taken"):
        yield study
    study.write_status(Status(state="stopped"))
    study.delete()


def test_watch_leads_to_the_run_and_a_reload_and_stop_stay_there(visit, running):
    page = visit("/train")
    page.get_by_role("link", name="Watch").click()
    heading = page.get_by_role("heading", name="A long one")
    expect(heading).to_be_visible()
    page.wait_for_url("**/train?study=running")
    page.reload()
    expect(heading).to_be_visible()
    page.get_by_role("button", name="Stop training").click()
    expect(page.get_by_test_id("stProgress")).to_contain_text("Stopping")
    expect(heading).to_be_visible()
    assert running.cancel_file.exists()


def start_frame(page: Page) -> Frame:
    """The picture on Start, once its line stands still."""
    frame = frame_of(page)
    frame.wait_for_function(
        "() => { const now = kdcoreMap.tools().swipe, before = window.before; window.before = now; return now === before; }",
        polling=300,
    )
    return frame


def test_start_shows_photo_and_mask_and_the_whole_line_drags(visit):
    page = visit("/?study=town")
    frame = start_frame(page)
    assert map_state(frame)["left"] == "Photo"
    assert map_state(frame)["right"] == "Apprentice"
    assert map_state(frame)["tools"]["hidden"] == [0]  # the background does not veil the photo
    assert clip_edges(frame) == pytest.approx((0.5, 0.5), abs=0.01)
    box = frame.locator("#map_div").bounding_box()
    middle, high = box["x"] + box["width"] / 2, box["y"] + 0.25 * box["height"]  # far from the knob
    page.mouse.move(middle, high)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.2 * box["width"], high, steps=5)
    page.mouse.up()
    assert clip_edges(frame) == pytest.approx((0.2, 0.2), abs=0.02)
    frame.evaluate("() => { window.kept = true; }")
    page.get_by_role("radio", name="Truth").click()
    frame.wait_for_function("() => kdcoreMap.sides.right.shown.name === 'Truth'")
    assert "picture=Truth" in page.url
    assert frame.evaluate("() => window.kept")  # the picture was not loaded again
    link = page.get_by_role("link", name="See the curves").bounding_box()
    assert link["y"] + link["height"] <= 800  # the next steps are seen without scrolling


@pytest.mark.parametrize(("motion", "moves"), [("no-preference", True), ("reduce", False)])
def test_the_line_moves_once_by_itself_unless_that_is_not_wanted(window, dashboard, motion, moves):
    page = window(reduced_motion=motion)
    page.goto(f"{dashboard.url}/?study=town")
    frame = start_frame(page)
    assert frame.evaluate("() => sessionStorage.getItem('kdcore map town moved')") == ("true" if moves else None)
    assert clip_edges(frame) == pytest.approx((0.5, 0.5), abs=0.01)
    page.context.close()


def test_the_map_fills_its_frame_and_grows_with_the_window(visit):
    page = visit("/map?study=town")
    frame = frame_of(page)

    def shares() -> list[float]:
        return frame.evaluate(
            """() => {
              const map = kdcoreMap.maps.main, size = map.getSize();
              const [[south, west], [north, east]] = kdcoreMap.bounds();
              const a = map.latLngToContainerPoint([north, west]), b = map.latLngToContainerPoint([south, east]);
              return [(b.x - a.x) / size.x, (b.y - a.y) / size.y];
            }"""
        )

    assert min(shares()) > 0.99  # a scene of 4:3 in a flat frame
    height = frame.evaluate("() => innerHeight")
    page.set_viewport_size({"width": 1920, "height": 1080})
    frame.wait_for_function("before => innerHeight >= before + 250", arg=height)
    settle(frame)
    assert min(shares()) > 0.97  # a pixel grows to four times its size at most, and this scene is small
    frame.get_by_role("button", name="Whole scene").click()
    assert max(shares()) == pytest.approx(1, abs=0.02)


def test_the_outlined_tile_does_not_lie_below_the_knob(visit):
    page = visit("/map?study=town")
    frame = frame_of(page)
    zoom = map_state(frame)["zoom"]
    page.get_by_role("button", name="Next worst tile").click()
    expect(page.get_by_text("number 1 of")).to_be_visible()
    frame.wait_for_function("() => document.querySelectorAll('.leaflet-kdcore-outline-pane path').length === 2")
    settle(frame)
    assert map_state(frame)["zoom"] > zoom
    tile = frame.locator(".leaflet-kdcore-outline-pane path").first.bounding_box()
    knob = frame.get_by_role("slider", name=LINE).bounding_box()
    middle = tile["y"] + tile["height"] / 2
    assert not knob["y"] <= middle <= knob["y"] + knob["height"]


def test_mistakes_are_turned_filtered_and_lead_to_the_map(visit):
    page = visit("/mistakes?study=flat")
    pictures = page.locator(".kdcore-tile").first.locator("img")
    expect(pictures).to_have_count(4)
    assert [picture.get_attribute("alt") for picture in pictures.all()] == [
        f"{name} of the tile" for name in ("Photo", "Truth", "Teacher", "Distilled student")
    ]
    expect(page.get_by_text("1 of").first).to_be_visible()
    page.get_by_role("button", name="Next").click()
    page.wait_for_url("**tile=5*")
    expect(page.get_by_text("5 of").first).to_be_visible()
    page.get_by_role("button", name="First").click()
    page.wait_for_url("**tile=1*")
    page.get_by_role("combobox", name="Class").click()
    page.get_by_role("option", name="water").click()
    page.wait_for_url("**class=2*")
    page.get_by_role("link", name="On the map").first.click()
    expect(page.get_by_role("heading", name="Where do they differ?")).to_be_visible()
    expect(page.get_by_text("The outlined tile is number")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "path", ["/", "/train", "/map?study=town", "/mistakes?study=town", "/curves?study=town", "/sweep"]
)
def test_text_stands_out_from_its_ground_and_tabs_and_headings_are_in_order(window, dashboard, scheme, path):
    page = window(viewport={"width": 1280, "height": 1600}, color_scheme=scheme)
    page.goto(dashboard.url + path)
    page.wait_for_selector(READY)
    if "curves" in path:
        page.locator("[data-testid=stEChartsChart] text").first.wait_for()
        page.locator(".js-plotly-plot text").first.wait_for()
    with suppress(TimeoutError):  # colours fade in
        page.wait_for_function(f"() => ({CONTRAST})().length === 0", timeout=15_000)
    assert page.evaluate(CONTRAST) == []
    title = {"": "Start"}.get(name := path.strip("/").partition("?")[0], name.capitalize())
    assert page.title() == f"{title} · kdcore"
    levels = page.locator("h1, h2, h3, h4, h5, h6").evaluate_all("all => all.map(one => Number(one.tagName[1]))")
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    page.context.close()


def test_what_has_the_focus_is_seen(visit):
    page = visit("/train")
    page.get_by_role("button", name="Launch").wait_for()
    page.get_by_role("link", name="Start").focus()
    unseen = []
    for _ in range(14):
        page.keyboard.press("Tab")
        tag, style, width = page.evaluate(
            "() => { const e = document.activeElement, s = getComputedStyle(e); return [e.outerHTML.slice(0, 80), s.outlineStyle, s.outlineWidth]; }"
        )
        if style != "solid" or float(width.removesuffix("px")) < 2:
            unseen.append(tag)
    assert unseen == []


@pytest.mark.parametrize("size", [(1024, 768), (390, 844)])
@pytest.mark.parametrize("path", ["/?study=town", "/mistakes?study=town", "/curves?study=town", "/map?study=town"])
def test_nothing_is_cut_on_small_screens(window: Callable[..., Page], dashboard: Dashboard, size, path):
    page = window(viewport={"width": size[0], "height": size[1]})
    page.goto(dashboard.url + path)
    page.wait_for_selector(READY)
    cut = page.evaluate(
        """() => [...document.querySelectorAll("[data-testid=stMetric] *, h1, [data-testid=stMarkdownContainer] p, [data-testid=stSelectbox] *")]
          .filter(e => e.checkVisibility() && e.scrollWidth > e.clientWidth + 1)
          .filter(e => e.tagName === "INPUT" || getComputedStyle(e).overflowX === "hidden")
          .map(e => e.value || e.textContent)"""
    )
    assert cut == []
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    expect(page.get_by_test_id("stTopNavSection")).to_have_count(0)  # no page hides behind "2 more"
    page.context.close()
