"""The race in a browser: maps are uncovered in step with true time, by itself, by hand and by keyboard."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from kdcore.deploy.race import INDEX, Lane, Race, tiles_over
from kdcore.files import write_json
from tests.browser.conftest import READY


@pytest.fixture(scope="module", autouse=True)
def raced(workspace: Path) -> None:
    """The networks of 'town' raced: the teacher took 0.1 s for each of 20 tiles, the student 0.02 s."""
    tiles = tiles_over((0, 0, 480, 640), 128)
    lanes = {
        name: Lane(
            arm=arm, engine="torch", device="A processor", tiles=tiles, seconds=tuple(each * n for n in range(1, 21))
        )
        for name, arm, each in (("teacher", "teacher", 0.1), ("student", "distilled", 0.02))
    }
    race = Race(scene="test-area", metres_per_pixel=0.5, measured=1.8e9, live=True, **lanes)
    write_json(workspace / "town/race" / INDEX, race.model_dump(mode="json"))


def picture(page: Page, name: str) -> str:
    """What a canvas shows."""
    shown: str = page.get_by_role("region", name=name).locator("canvas").evaluate("canvas => canvas.toDataURL()")
    return shown


def test_it_runs_by_itself_until_both_are_done(visit, page):
    page.emulate_media(reduced_motion="no-preference")
    visit("/race?study=town")
    expert, apprentice = (page.get_by_role("region", name=name) for name in ("Expert", "Apprentice"))
    expect(apprentice).to_contain_text("finished")
    share = expert.locator(".state").inner_text()
    assert share.endswith(" %"), share  # at a fifth of the way
    page.get_by_role("button", name="Pause").click()
    before = picture(page, "Expert")
    page.wait_for_timeout(300)
    assert picture(page, "Expert") == before
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_text("The apprentice needed 0.400 s, the expert 2.00 s.")).to_be_visible()
    expect(expert).to_contain_text("2.00 s")
    expect(expert).to_contain_text("finished")
    assert picture(page, "Expert") != before
    page.get_by_role("button", name="Again").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()


def test_with_reduced_motion_it_stands_still_and_the_slider_moves_it(visit, page):
    page.emulate_media(reduced_motion="reduce")
    visit("/race?study=town")
    expert, apprentice = (page.get_by_role("region", name=name) for name in ("Expert", "Apprentice"))
    expect(page.get_by_role("button", name="Start")).to_be_visible()
    expect(apprentice).to_contain_text("finished")  # it stands where the apprentice is done
    expect(
        expert.get_by_role("img", name="Expert: 21 % of the photo is mapped")
    ).to_be_visible()  # 4 of its 20 tiles, which are no shorter than others
    slider = page.get_by_role("slider", name="Moment of the race")
    expect(slider).to_have_attribute("aria-valuetext", "0.40 seconds: Expert 21 %, Apprentice 100 %")
    slider.press("End")
    expect(expert).to_contain_text("finished")
    done = picture(page, "Expert")
    slider.press("Home")
    expect(slider).to_have_attribute("aria-valuetext", "0.00 seconds: Expert 0 %, Apprentice 0 %")
    assert picture(page, "Expert") == picture(page, "Apprentice") != done  # nothing but the photo
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_selector(READY)
    assert page.locator("[data-testid=stMain]").evaluate("main => main.scrollWidth - main.clientWidth") <= 1
    slider.press("End")
    expect(expert).to_contain_text("finished")
    for lane in (expert, apprentice):
        card, state = lane.bounding_box(), lane.locator(".state").bounding_box()
        assert state["x"] + state["width"] <= card["x"] + card["width"]
