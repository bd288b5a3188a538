"""What a browser makes of it: names that are text, a page that no other may frame or use."""

import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Page

from kdcore.jobs.status import Status
from kdcore.jobs.study_folder import About, StudyFolder
from tests.browser.conftest import READY, Dashboard

TURNED = "\u202e"
EVIL = f"<img src=x onerror=alert(1)> **bold**[x](http://y) {TURNED}gpj.exe"
SHOWN = "<img src=x onerror=alert(1)> **bold**[x](http://y) gpj.exe"


@pytest.fixture
def evil_study(workspace: Path) -> Iterator[StudyFolder]:
    """A finished study with a name full of markup, beside the others."""
    shutil.copytree(workspace / "flat", workspace / "evil")
    study = StudyFolder(workspace / "evil")
    study.write_about(About(title=EVIL, collection=workspace / ".areas/flat/collection.yaml", created=3e9))
    study.write_status(Status(state="finished", device="cpu", seconds=1.0))
    yield study
    shutil.rmtree(study.path)


@pytest.mark.slow  # six pages, each with its charts and maps
def test_a_name_full_of_markup_is_text_on_every_page(visit: Callable[[str], Page], evil_study: StudyFolder):
    for path in (
        "/?study=evil",
        "/train?study=evil",
        "/map?study=evil",
        "/curves?study=evil",
        "/runs?studies=evil",
        "/train",
    ):
        page = visit(path)
        text = page.locator("body").inner_text()
        assert TURNED not in page.content()
        assert page.locator("img[src='x'], a[href^='http://y']").count() == 0
        assert page.locator("strong", has_text="bold").count() == 0
        for frame in page.frames:
            assert frame.locator("img[src='x'], a[href^='http://y']").count() == 0
        if path in ("/?study=evil", "/train?study=evil", "/runs?studies=evil"):
            assert SHOWN in text


class Stranger:
    """A web page on another port of this machine, which wants to use the dashboard."""

    def __init__(self, target: str) -> None:
        html = f"""<iframe id=frame src="{target}/runs"></iframe><img id=tile src="{target}/leaflet/images/layers.png">
        <script>
        const socket = new Promise(done => {{ const s = new WebSocket("{target.replace("http", "ws")}/_stcore/stream", ["streamlit"]);
          s.onopen = () => done("open"); s.onerror = () => done("refused"); }});
        const read = fetch("{target}/_stcore/host-config").then(r => r.text()).catch(() => "refused");
        const sent = fetch("{target}/_stcore/upload_file/a/b", {{method: "PUT", body: "x"}}).then(r => r.status).catch(() => "refused");
        window.found = Promise.all([socket, read, sent]);
        </script>""".encode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(html)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def test_another_local_page_can_neither_frame_nor_read_nor_connect(window: Callable[..., Page], dashboard: Dashboard):
    stranger = Stranger(dashboard.url)
    page = window()
    page.goto(stranger.url)
    assert page.evaluate("window.found") == ["refused", "refused", "refused"]
    page.wait_for_function("document.getElementById('tile').complete")
    assert page.evaluate("document.getElementById('tile').naturalWidth") == 0
    frames = [frame for frame in page.frames if frame != page.main_frame]
    assert all(frame.locator(READY).count() == 0 and "Streamlit" not in frame.content() for frame in frames)
    page.goto(f"{dashboard.url}/runs")  # a link still opens
    page.wait_for_selector(READY)
    page.context.close()
    stranger.server.shutdown()
