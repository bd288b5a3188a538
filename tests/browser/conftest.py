"""A running dashboard and a browser without internet.

`visit("/map?study=town")` opens a page and waits until its script has run. Whatever the page says on its console as an error,
and every request to another host, fails the test at its end.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

import pytest
from playwright.sync_api import Browser, Page, Request, Route, expect, sync_playwright

from tests.map_study import make_map_study

ROOT = Path(__file__).parents[2]
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
READY = "[data-testid=stApp][data-test-script-state=notRunning]"
WAIT = 300_000  # milliseconds for whatever a page waits for: how busy a machine is decides nothing
expect.set_options(timeout=WAIT)


@dataclass
class Dashboard:
    """A server of its own for the tests.

    Attributes:
        url: where it answers, without a slash at the end.
        workspace: its folder of studies: 'town' (two classes, UTM), 'flat' (four classes, no georeference).
        process: of the server.
        log: what it printed.
    """

    url: str
    workspace: Path
    process: subprocess.Popen[bytes]
    log: Path


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, without a window."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine; install Debian's package `chromium`")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def window(chromium: Browser) -> Callable[..., Page]:
    """Open a window of 1280 x 800, or as `Browser.new_context` has it, that remembers nothing and is patient."""

    def open_window(**options) -> Page:
        page = chromium.new_context(**{"viewport": {"width": 1280, "height": 800}} | options).new_page()
        page.set_default_timeout(WAIT)
        return page

    return open_window


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished studies that took no training."""
    folder = tmp_path_factory.mktemp("browser") / "studies"
    make_map_study(folder, "town")
    make_map_study(folder, "flat", classes=("land", "<img src=x onerror=alert(1)>", "water", "wood"), crs=None)
    return folder


@pytest.fixture(scope="session")
def start_dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Dashboard]]:
    """Start `streamlit run app.py` on a workspace; a port can be named to start it again where it was."""
    started: list[Dashboard] = []

    def start(workspace: Path, port: int | None = None) -> Dashboard:
        port = port or free_port()
        log = tmp_path_factory.mktemp("dashboard") / "log.txt"
        command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py"), "--server.port", str(port)]
        environment = os.environ | {"KDCORE_WORKSPACE": str(workspace), "OMP_NUM_THREADS": "1"}
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        dashboard = Dashboard(f"http://127.0.0.1:{port}", workspace, process, log)
        started.append(dashboard)
        wait_until_healthy(dashboard)
        return dashboard

    yield start
    for dashboard in started:
        dashboard.process.terminate()
        try:
            dashboard.process.wait(15)
        except subprocess.TimeoutExpired:
            dashboard.process.kill()
            dashboard.process.wait()


@pytest.fixture(scope="session")
def dashboard(start_dashboard: Callable[..., Dashboard], workspace: Path) -> Dashboard:
    """The dashboard on the two studies, shared by all tests that only look."""
    return start_dashboard(workspace)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def wait_until_healthy(dashboard: Dashboard) -> None:
    """Wait for the first answer."""
    end = time.monotonic() + WAIT / 1000  # a server that ended is noticed at once
    while time.monotonic() < end:
        assert dashboard.process.poll() is None, dashboard.log.read_text()
        try:
            with urllib.request.urlopen(f"{dashboard.url}/_stcore/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"the dashboard did not start: {dashboard.log.read_text()}")


@pytest.fixture
def expected_problems() -> list[str]:
    """Words of those errors on the console that a test provokes; empty unless it adds some."""
    return []


@pytest.fixture
def page(window: Callable[..., Page], expected_problems: list[str]) -> Iterator[Page]:
    """A fresh browser window of 1280 x 800 in which other hosts do not exist."""
    page = window()
    problems: list[str] = []

    def only_here(route: Route, request: Request) -> None:
        target = urlparse(request.url)
        if target.hostname in ("127.0.0.1", "localhost", None) or target.scheme in ("data", "blob"):
            route.continue_()
        else:
            problems.append(f"asked {request.url[:120]}")
            route.abort()

    page.context.route("**/*", only_here)
    page.on("console", lambda message: problems.append(message.text[:300]) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)[:300]))
    page.on("dialog", lambda dialog: (problems.append(f"a dialog: {dialog.message}"), dialog.dismiss()))
    yield page
    page.context.close()
    assert [problem for problem in problems if not any(word in problem for word in expected_problems)] == []


@pytest.fixture
def visit(page: Page, dashboard: Dashboard) -> Callable[[str], Page]:
    """Open a path of the dashboard and wait until its script has run without an exception."""

    def open_path(path: str) -> Page:
        page.goto(dashboard.url + path)
        page.wait_for_selector(READY)
        assert page.locator("[data-testid=stException]").count() == 0
        return page

    return open_path
