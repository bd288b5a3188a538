"""The Sweep page in a browser: a real sweep from its button, charts that keep their zoom while trials come in, and the way to Train."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Locator, Page, expect

from kdcore.jobs.library import Library
from kdcore.jobs.locks import holding
from kdcore.jobs.status import Status
from kdcore.jobs.sweep_claims import Claims
from kdcore.jobs.sweep_folder import SweepFolder
from kdcore.jobs.workspace import Workspace
from kdcore.settings import SearchSpace
from tests.browser.conftest import READY, WAIT, Dashboard
from tests.conftest import write_collection
from tests.training.sweeps import put_sweep

CHART = "[data-testid=stPlotlyChart] .js-plotly-plot"


def begin(workspace: Path, name: str) -> SweepFolder:
    return put_sweep(workspace / "sweeps" / name, space=SearchSpace(student="tiny"), trials=12)


def finish(claims: Claims, quality: float) -> None:
    """One more trial with that quality, as a worker tells it."""
    claim = claims.next()
    assert claim is not None
    claims.finish(claim, {"quality": quality, "size": 143_157.0, "latency": 120.0})


def shown(chart: Locator) -> list[float]:
    """Both ends of what a chart shows from left to right."""
    ends: list[float] = chart.evaluate("chart => chart._fullLayout.xaxis.range.map(Number)")
    return ends


def open_sweep(page: Page, dashboard: Dashboard, address: str) -> None:
    page.goto(f"{dashboard.url}/sweep?{address}")
    page.wait_for_selector(READY)
    page.locator(f"{CHART} svg").first.wait_for()
    page.wait_for_timeout(1000)


def test_zoom_and_choice_survive_the_trials_that_come_in(page, dashboard, workspace):
    sweep = begin(workspace, "live")
    claims = Claims(sweep)
    for quality in (0.49, 0.50, 0.52, 0.61, 0.40):
        finish(claims, quality)
    sweep.worker(0).write_status(Status(state="running", stage="trial 5: training", done=1, total=6))
    with holding(sweep.worker(0).lock, "taken"):
        open_sweep(page, dashboard, "sweep=live&trial=4")
        expect(page.get_by_text("5 of 12 trials have ended")).to_be_visible()
        chart = page.locator(CHART).first
        whole = shown(chart)
        box = chart.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + 150, box["y"] + 100)
        page.mouse.down()
        page.mouse.move(box["x"] + 260, box["y"] + 220, steps=5)
        page.mouse.up()
        page.wait_for_timeout(1000)
        zoomed = shown(chart)
        assert whole[0] < zoomed[0] < zoomed[1] < whole[1]
        for quality in (0.55, 0.66):
            finish(claims, quality)
        expect(page.get_by_text("7 of 12 trials have ended")).to_be_visible()
        expect(page.get_by_text("66.00", exact=True)).to_be_visible()  # the new best one
        page.wait_for_timeout(3000)  # more than a tick
        assert shown(chart) == zoomed
        expect(page.get_by_role("heading", name="Trial 4")).to_be_visible()
        page.get_by_role("button", name="2 new trials").click()
        expect(page.get_by_role("button", name="2 new trials")).to_have_count(0)
        page.wait_for_timeout(2000)
        dots = page.locator(CHART).first.evaluate("chart => chart.data[1].ids.length")
        assert dots == 5  # one of the repeats, and four of the search


def test_a_click_on_a_point_shows_its_trial(page, dashboard, workspace):
    claims = Claims(begin(workspace, "clicked"))
    for number in range(12):
        finish(claims, 0.4 + 0.01 * number)
    open_sweep(page, dashboard, "sweep=clicked")
    expect(page.get_by_role("heading", name="Trial 11: the best")).to_be_visible()
    history = page.locator(".st-key-sweep-chart-History .js-plotly-plot")
    history.scroll_into_view_if_needed()
    page.wait_for_timeout(1000)
    box = history.locator(".points path.point").nth(4).bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    number = page.locator(".st-key-sweep-chart-History .js-plotly-plot").evaluate("chart => chart.data[0].ids[4]")
    expect(page.get_by_role("heading", name=f"Trial {number}", exact=True)).to_be_visible()
    assert f"trial={number}" in page.url


def test_the_best_settings_fill_in_the_train_page(page, dashboard, workspace):
    sweep = begin(workspace, "over")
    claims = Claims(sweep)
    for number in range(12):
        finish(claims, 0.4 + 0.01 * number)
    open_sweep(page, dashboard, "sweep=over")
    best = sweep.trials()[11].params
    page.get_by_role("button", name="Use these settings").click()
    page.wait_for_url("**/train?*")
    page.wait_for_selector(READY)
    for name in ("Temperature", "Alpha"):
        value = f"{best[name.lower()]:g}"
        slider = page.get_by_role("slider", name=re.compile(name))
        expect(slider).to_have_attribute("aria-valuetext", value)
        assert f"{name.lower()}={value}" in page.url
    page.reload()
    page.wait_for_selector(READY)
    expect(page.get_by_role("slider", name=re.compile("Temperature"))).to_have_attribute(
        "aria-valuetext", f"{best['temperature']:g}"
    )


@pytest.mark.parametrize("width", [390, 800, 1280])
def test_nothing_sticks_out_of_the_page(page, dashboard, workspace, width):
    sweep = begin(workspace, f"wide-{width}")
    claims = Claims(sweep)
    for number in range(12):
        finish(claims, 0.4 + 0.01 * number)
    page.set_viewport_size({"width": width, "height": 800})
    open_sweep(page, dashboard, f"sweep=wide-{width}")
    main = page.locator("[data-testid=stMain]")
    assert main.evaluate("main => main.scrollWidth - main.clientWidth") <= 1
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_sweep_from_its_button_to_its_result(
    page, start_dashboard: Callable[..., Dashboard], tmp_path_factory: pytest.TempPathFactory
):
    """Real workers train a teacher and five trials of a few steps: they load torch, so this takes most of a minute."""
    folder = Workspace(tmp_path_factory.mktemp("sweeping") / "studies")
    data = write_collection(tmp_path_factory.mktemp("data") / "collection")
    Library(folder).remember(data)
    dashboard = start_dashboard(folder.path)
    budget = "trial_steps=10&sweep_teacher_steps=10&trial_batch=2&trial_crop=64&trials=5&workers=1"
    page.goto(f"{dashboard.url}/sweep?data={quote(str(data))}&{budget}")
    page.wait_for_selector(READY)
    page.get_by_label("Name of the sweep").fill("A short one")
    page.get_by_label("Name of the sweep").press("Tab")
    page.get_by_role("button", name="Start the sweep").dblclick()
    page.wait_for_url("**sweep=a-short-one*")
    expect(page.get_by_text("You can close this page")).to_be_visible()
    page.reload()
    expect(page.get_by_role("button", name="Use these settings")).to_be_visible()
    expect(page.get_by_text("Best trial")).to_be_visible()  # all trials have ended

    sweeps = list((folder.path / "sweeps").glob("*/sweep.yaml"))
    assert len(sweeps) == 1  # of a double click
    sweep = SweepFolder(sweeps[0].parent)
    deadline = time.monotonic() + WAIT / 1000
    while sweep.alive and time.monotonic() < deadline:  # the worker writes its report after the last trial
        page.wait_for_timeout(200)
    assert sweep.progress().state == "finished"
    assert [trial.state for trial in sweep.trials()] == ["finished"] * 5
    assert (sweep.settings.budget.steps, sweep.settings.budget.crop) == (10, 64)
    assert not sweep.alive
