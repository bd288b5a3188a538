"""The Curves page in a browser: the slider moves the markers without drawing anew, and the address keeps the view."""

from urllib.parse import quote

from playwright.sync_api import Page, expect

CHART = "[data-testid=stEChartsChart] svg[baseProfile]"
TEACHER = "#0072B2"


def marker(page: Page) -> tuple[float, float]:
    """Where the teacher's marker is on the screen: the filled circle with a white edge."""
    box = page.locator(f"{CHART} path[fill='{TEACHER}'][stroke='#fff']").last.bounding_box()
    assert box is not None
    return box["x"], box["y"]


def settled(page: Page) -> tuple[float, float]:
    """The same once it does not move any more."""
    before = marker(page)
    for _ in range(50):
        page.wait_for_timeout(300)
        if (now := marker(page)) == before:
            return now
        before = now
    raise AssertionError("the marker does not come to rest")


def press(page: Page, key: str, times: int) -> None:
    """Move the slider by keyboard."""
    slider = page.get_by_role("slider")
    slider.focus()
    for _ in range(times):
        slider.press(key)


def open_curves(visit, address: str) -> Page:
    page = visit(f"/curves?{address}")
    page.locator(f"{CHART} path[fill='{TEACHER}']").first.wait_for()
    return page


def test_slider_moves_the_markers_and_the_address_keeps_it(visit):
    page = open_curves(visit, "study=town")
    page.locator(CHART).evaluate("chart => { chart.dataset.kept = 'yes' }")
    before = settled(page)
    press(page, "ArrowLeft", 20)
    expect(page.get_by_text("threshold 30 %")).to_have_count(3)
    expect(page.get_by_role("switch")).not_to_be_checked()
    after = settled(page)
    assert after[0] > before[0] + 5  # a lower threshold finds more
    assert page.locator(CHART).get_attribute("data-kept") == "yes"  # the chart was not drawn anew
    assert "threshold=30" in page.url
    assert "validated=false" in page.url
    page.reload()
    expect(page.get_by_text("threshold 30 %")).to_have_count(3)
    assert settled(page)[0] > before[0] + 5
    page.get_by_role("switch").press("Space")
    expect(page.get_by_text("threshold 30 %")).to_have_count(0)
    assert "validated" not in page.url


def test_on_a_phone_the_sentences_at_the_axes_leave_room_for_the_curves(visit, page):
    page.set_viewport_size({"width": 390, "height": 844})
    open_curves(visit, f"study=flat&class={quote('<img src=x onerror=alert(1)>')}")  # a name as long as they come
    widths = page.locator(f"{CHART} path").evaluate_all(
        "lines => lines.map(line => line.getBoundingClientRect().width)"
    )
    assert max(widths) > 240  # of 358: the lines at 0, 20, ..., 100 %


def test_classes_with_hostile_names_can_be_chosen_and_stand_in_the_address(visit):
    page = open_curves(visit, "study=flat")
    page.get_by_role("combobox").nth(1).click()
    page.get_by_role("option", name="<img src=x onerror=alert(1)>").click()
    expect(page.get_by_text("how much it found").first).to_contain_text("<img src=x onerror=alert(1)>")
    assert "class=" in page.url
    assert page.locator("img[src=x]").count() == 0
