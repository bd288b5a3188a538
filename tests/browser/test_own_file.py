"""A GeoTIFF of one's own: what is refused in the browser, and the way from the file to the map."""

from contextlib import suppress
from urllib.parse import unquote_plus

import pytest
from playwright.sync_api import Page, TimeoutError, expect

from kdcore.inference.uploads import uploads_of
from kdcore.jobs.workspace import Workspace
from tests.browser.conftest import READY
from tests.browser.test_map import frame_of, map_state
from tests.inference.test_uploads import VRT, declared
from tests.map_study import give_weights


@pytest.fixture(autouse=True)
def no_uploads(workspace):
    """Each test begins with none, and so with a closed form, whatever another one left."""
    for upload, _ in uploads_of(Workspace(workspace), "town"):
        upload.delete()


def unfold(page: Page) -> None:
    """Open the form."""
    frame_of(page)  # the page does not move any more
    page.get_by_text("Map a raster of your own").click()


def open_list(page: Page, name: str, option: str) -> None:
    """Open a list, again if the page was drawn anew meanwhile, which closes it."""
    while True:  # bounded by the test's own time limit
        page.wait_for_selector(READY)
        page.get_by_role("combobox", name=name).click()
        with suppress(TimeoutError):
            page.get_by_role("option", name=option, exact=True).wait_for(timeout=5000)
            return
        page.keyboard.press("Escape")


def give(page: Page, name: str, contents: bytes) -> None:
    """Choose a file and send it."""
    unfold(page)
    page.locator("input[type=file]").first.set_input_files({"name": name, "mimeType": "image/tiff", "buffer": contents})
    expect(page.get_by_text(name).first).to_be_visible()
    page.get_by_role("button", name="Mark it").click()


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("vrt.tif", lambda folder: VRT, "vrt.tif: is no GeoTIFF, whatever its name says."),
        (
            "photo.tiff",
            lambda folder: b"\xff\xd8\xff" + bytes(1000),
            "photo.tiff: is no GeoTIFF, whatever its name says.",
        ),
        (
            "huge.tif",
            lambda folder: declared(folder / "huge.tif", 200_000, 200_000, 3),
            "huge.tif: its header declares 200,000 x 200,000 px x 3 bands (120.0 GB); at most 100 million pixels are marked here.",
        ),
    ],
)
def test_a_file_that_is_no_geotiff_gets_one_clear_sentence(visit, workspace, tmp_path, name, make, words):
    page = visit("/map?study=town")
    give(page, name, make(tmp_path))
    expect(page.get_by_role("alert")).to_contain_text(words)
    assert page.get_by_role("alert").count() == 1
    assert uploads_of(Workspace(workspace), "town") == []


def test_a_file_of_ones_own_is_marked_and_shown(visit, workspace, expected_problems):
    give_weights(workspace / "town")
    page = visit("/map?study=town")
    give(page, "my <b>roofs</b>.tif", (workspace / ".areas/town/images/validation.tif").read_bytes())
    page.get_by_role("button", name="Show").click()
    page.wait_for_function("() => location.search.includes('scene=')")
    assert "scene=Your file: my <b>roofs</b>.tif" in unquote_plus(page.url)
    frame = frame_of(page, "/upload-")
    assert map_state(frame)["left"] == "Teacher"
    frame.locator("#map_div").click(position={"x": 520, "y": 220})
    expect(frame.locator(".kdcore-numbers")).to_contain_text("Truth: not known here.")
    open_list(page, "Left", "Student alone")
    expect(page.get_by_role("option", name="Truth", exact=True)).to_have_count(0)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Download").click()
    with page.expect_download() as polygons:
        page.get_by_role("button", name="Polygons (GeoPackage)").first.click()
    assert polygons.value.suggested_filename.endswith(".gpkg")
    assert polygons.value.path().read_bytes().startswith(b"SQLite format 3")
    page.keyboard.press("Escape")
    expected_problems.append("404")  # tiles that the map still asks for while the raster goes
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_role("button", name="Remove")).to_have_count(0)
    frame_of(page)  # a scene of the study is shown again
    assert uploads_of(Workspace(workspace), "town") == []


def test_a_raster_on_this_machine_is_mapped_where_it_lies(visit, workspace, expected_problems):
    give_weights(workspace / "town")
    page = visit("/map?study=town")
    unfold(page)
    page.get_by_role("tab", name="A raster on this machine").click()
    path = page.get_by_role("textbox", name="Path of a raster")
    path.fill("/no/such/file.tif")
    page.get_by_role("button", name="Map it").click()
    expect(page.get_by_role("alert")).to_contain_text("/no/such/file.tif: there is no such file.")
    path.fill(str(workspace / ".areas/town/images/validation.tif"))
    page.get_by_role("button", name="Map it").click()
    page.get_by_role("button", name="Show").click()
    frame_of(page, "/upload-")
    expected_problems.append("404")  # tiles that the map still asks for while the raster goes
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_role("button", name="Remove")).to_have_count(0)
    assert (workspace / ".areas/town/images/validation.tif").is_file()
