"""A study launched, watched, stopped and resumed in a browser; a worker of its own does the training."""

import json
import re
import shutil
import signal
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from kdcore.errors import RunError
from kdcore.jobs.library import Library
from kdcore.jobs.study_folder import StudyFolder
from kdcore.jobs.workspace import Workspace
from kdcore.settings import STUDY_PRESETS
from tests.browser.conftest import READY, WAIT, Dashboard
from tests.conftest import write_collection

HOSTILE = "<img src=x onerror=alert(1)>"


@dataclass
class Training:
    """A dashboard with a study that trains and does not end by itself."""

    dashboard: Dashboard
    study: StudyFolder
    studies: int  # that its launch made

    @property
    def address(self) -> str:
        return f"{self.dashboard.url}/train?study={self.study.id}"


def launch_in(page: Page, dashboard: Dashboard, data: Path, title: str, double: bool = False) -> str:
    """Fill in the form of the Train page, launch, and give the study's id once the page watches it."""
    steps = "steps=100000&teacher_steps=100000&batch_size=2&crop=64&seeds=1"
    page.goto(f"{dashboard.url}/train?data={quote(str(data))}&{steps}")
    page.wait_for_selector(READY)
    page.get_by_label("Name of the study").fill(title)
    page.get_by_label("Name of the study").press("Tab")
    button = page.get_by_role("button", name="Launch")
    button.dblclick() if double else button.click()
    page.wait_for_url("**study=*")
    return re.search(r"study=([\w.-]+)", page.url).group(1)


def end(study: StudyFolder) -> None:
    """Stop a study's worker and wait until it is gone."""
    deadline = time.monotonic() + WAIT / 1000
    while study.alive and time.monotonic() < deadline:
        with suppress(RunError):  # it ended by itself, or has been asked already
            study.stop()
        time.sleep(0.5)
    assert not study.alive


def shown_step(page: Page) -> int:
    """The number of steps that the progress bar tells."""
    text = page.get_by_test_id("stProgress").inner_text()
    found = re.search(r"training, ([\d,]+) of", text)
    return int(found.group(1).replace(",", "")) if found else -1


def wait_for_step(page: Page, step: int) -> int:
    """Wait until the page shows more steps than `step`, without touching it."""
    deadline = time.monotonic() + WAIT / 1000
    while time.monotonic() < deadline:
        if (now := shown_step(page)) > step:
            return now
        page.wait_for_timeout(300)
    pytest.fail(f"the page shows no more than step {step}: {page.get_by_test_id('stMain').inner_text()[:400]}")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_collection(tmp_path_factory.mktemp("data") / "collection")


@pytest.fixture(scope="module")
def training(
    window: Callable[..., Page],
    start_dashboard: Callable[..., Dashboard],
    tmp_path_factory: pytest.TempPathFactory,
    data: Path,
) -> Iterator[Training]:
    """Launched by a double click."""
    folder = Workspace(tmp_path_factory.mktemp("training") / "studies")
    Library(folder).remember(data)
    dashboard = start_dashboard(folder.path)
    page = window()
    study = folder.study(launch_in(page, dashboard, data, "A long one", double=True))
    page.wait_for_timeout(3000)
    page.close()
    yield Training(dashboard, study, len(folder.studies()) - sum(s.read_only for s in folder.studies()))
    for one in folder.studies():
        if not one.read_only:
            end(one)


def test_a_double_click_launched_one_study(training):
    assert training.studies == 1
    assert training.study.title == "A long one"
    assert training.study.settings.budget.steps == 100_000


def test_the_study_has_the_values_of_the_address_and_of_the_preset_for_the_rest(training):
    budget = training.study.settings.budget
    assert (budget.steps, budget.batch_size, budget.crop) == (100_000, 2, 64)
    assert (budget.learning_rate, training.study.settings.recipe) == (1e-3, STUDY_PRESETS["quick"].recipe)


def test_a_reload_in_mid_training_finds_the_run(training, page):
    page.goto(training.address)
    first = wait_for_step(page, 0)
    page.reload()
    assert wait_for_step(page, first) > first
    expect(page.get_by_role("heading", name="A long one")).to_be_visible()


def test_a_live_chart_keeps_its_node_and_costs_little(training, page):
    received: list[int] = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda data: received.append(len(data))))
    page.goto(training.address)
    wait_for_step(page, 0)
    chart = page.get_by_test_id("stVegaLiteChart").first
    chart.wait_for()
    chart.evaluate("node => { node.marked = true }")
    step = shown_step(page)
    received.clear()
    started = time.monotonic()
    wait_for_step(page, step + 20)  # at least one more line of metrics
    page.wait_for_timeout(4000)
    ticks = (time.monotonic() - started) / 2
    assert chart.evaluate("node => node.marked === true && node.isConnected")
    assert sum(received) / ticks <= 60_000  # bytes for a look every two seconds


def test_two_tabs_watch_the_same_study(training, page):
    page.goto(training.address)
    other = page.context.new_page()
    other.goto(training.address)
    first, second = wait_for_step(page, 0), wait_for_step(other, 0)
    assert wait_for_step(page, first) > first
    assert wait_for_step(other, second) > second


def test_a_second_study_waits_for_its_turn(training, page, data):
    waiting = Workspace(training.dashboard.workspace).study(launch_in(page, training.dashboard, data, "After it"))
    expect(page.get_by_test_id("stProgress")).to_contain_text("Next in line")
    page.get_by_role("button", name="Stop training").click()
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    assert waiting.state == "stopped"
    assert training.study.state == "running"


def test_the_training_outlives_the_server(training, window, start_dashboard):
    page = window()
    page.goto(training.address)
    step = wait_for_step(page, 0)
    page.close()
    port = int(training.dashboard.url.rpartition(":")[2])
    training.dashboard.process.send_signal(signal.SIGKILL)
    training.dashboard.process.wait()
    assert training.study.alive
    training.dashboard = start_dashboard(training.dashboard.workspace, port=port)
    page = window()
    page.goto(f"{training.dashboard.url}/train")  # without the study in the address
    page.get_by_role("link", name="Watch").first.click()
    assert wait_for_step(page, step) > step
    page.close()


def test_stop_keeps_the_state_and_resume_goes_on_there(training, page):
    page.goto(training.address)
    wait_for_step(page, 0)
    page.get_by_role("button", name="Stop training").click()
    expect(page.get_by_test_id("stProgress")).to_contain_text("Stopped")
    assert not training.study.alive
    stopped = json.loads((training.study.path / "runs/teacher-s0/status.json").read_text())
    assert stopped["state"] == "stopped"
    page.get_by_role("button", name="Resume").click()
    assert wait_for_step(page, stopped["step"]) > stopped["step"]
    metrics = training.study.run("teacher-s0").read_metrics()
    steps = [line["step"] for line in metrics if "loss" in line]
    assert steps == sorted(set(steps))  # nothing was done twice


@pytest.fixture(scope="module")
def hostile(workspace: Path) -> Iterator[str]:
    """A finished study whose title is markup."""
    folder = StudyFolder(workspace / "hostile")
    shutil.copytree(workspace / "town", folder.path)
    folder.write_about(folder.about.model_copy(update={"title": f"{HOSTILE} **bold** [x](javascript:alert(1))"}))
    yield "hostile"
    shutil.rmtree(folder.path)


@pytest.mark.parametrize("path", ["", "train", "map", "curves", "runs?studies=hostile"])
def test_markup_in_a_title_is_inert(path, hostile, visit):
    """The `page` fixture fails on any dialog and on any console error, such as the picture that is not there."""
    page = visit(f"/{path}{'&' if '?' in path else '?'}study={hostile}")
    page.wait_for_timeout(2000)
    for frame in page.frames:
        assert frame.locator("img[src=x]").count() == 0
        assert frame.locator("a[href^=javascript]").count() == 0
    if path in ("train", "runs?studies=hostile"):
        assert page.get_by_role("heading", name=f"{HOSTILE} **bold** [x](javascript:alert(1))").count() == 1


@pytest.fixture
def doomed(workspace: Path) -> Iterator[StudyFolder]:
    """A finished study that a test may do away with."""
    folder = StudyFolder(workspace / "doomed")
    shutil.copytree(workspace / "town", folder.path)
    folder.write_about(folder.about.model_copy(update={"title": "Doomed", "created": 9e9}))
    yield folder
    shutil.rmtree(folder.path, ignore_errors=True)


def test_a_click_on_a_row_chooses_a_study_and_names_it_in_the_address(doomed, visit):
    page = visit("/runs")
    studies = page.get_by_test_id("stDataFrame").first  # others' tables are folded away below
    place, before = studies.bounding_box(), None
    while place != before:  # what stands above may still be moving it
        page.wait_for_timeout(300)
        place, before = studies.bounding_box(), place
    page.mouse.click(place["x"] + 17, place["y"] + 53)  # the box at the left of the first row
    expect(page.get_by_role("heading", name="Doomed")).to_be_visible()
    assert "studies=doomed" in page.url


def test_a_study_is_downloaded_as_a_zip(doomed, visit, tmp_path):
    page = visit("/runs?studies=doomed")
    with page.expect_download() as download:
        page.get_by_role("button", name="Everything").click()
    download.value.save_as(tmp_path / "study.zip")
    assert download.value.suggested_filename == "doomed.zip"
    assert "doomed/report.json" in zipfile.ZipFile(tmp_path / "study.zip").namelist()


def test_deleting_takes_two_clicks(doomed, visit):
    page = visit("/runs?studies=doomed")
    page.get_by_role("button", name="Delete …").click()
    expect(page.get_by_role("dialog")).to_contain_text("This cannot be undone")
    assert doomed.path.exists()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert not doomed.path.exists()


def test_the_form_stands_in_the_address_and_survives_a_reload(visit):
    page = visit("/train")
    slider = page.get_by_role("slider", name="Temperature")
    slider.focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_test_id("stLatex").or_(page.locator(".katex-mathml")).first).to_contain_text("9")  # T = 3
    page.wait_for_url("**temperature=3*")
    page.reload()
    page.wait_for_selector(READY)
    expect(page.locator(".katex-mathml").first).to_contain_text("9")
