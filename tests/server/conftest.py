"""Dashboards as they are really started, and a browser without a window: requests with cookies, and pages over the WebSocket."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect

from tests.map_study import make_map_study

ROOT = Path(__file__).parents[2]
PATIENCE = 240.0  # seconds: the machine may be busy; a server that ended is noticed at once


@dataclass
class Served:
    """A dashboard of its own.

    Attributes:
        url: without a slash at the end.
        process: of the server.
        log: what it printed.
        workspace: its folder of studies.
    """

    url: str
    process: subprocess.Popen[bytes]
    log: Path
    workspace: Path


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Studies on maps: two classes in UTM, four classes without georeference, and imagery of five bands."""
    folder = tmp_path_factory.mktemp("workspace")
    make_map_study(folder, "town")
    make_map_study(folder, "flat", classes=("land", "building", "water", "wood"), crs=None)
    make_map_study(folder, "wide", bands=("red", "green", "blue", "nir", "swir1"))
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def command(*arguments: str, app: Path = ROOT / "app.py") -> list[str]:
    return [sys.executable, "-m", "streamlit", "run", str(app), *arguments]


def surroundings(workspace: Path, **variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KDCORE_", "STREAMLIT_"))}
    return kept | {"KDCORE_WORKSPACE": str(workspace), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | variables


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Served]]:
    """Start `streamlit run app.py` in a folder of its own, and wait until it answers."""
    started: list[subprocess.Popen[bytes]] = []

    def start(workspace: Path, folder: Path, *arguments: str, port: int | None = None, **variables: str) -> Served:
        port = port or free_port()
        log = tmp_path_factory.mktemp("log") / "log.txt"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command("--server.port", str(port), *arguments), cwd=folder, env=surroundings(workspace, **variables),
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        started.append(process)
        served = Served(f"http://127.0.0.1:{port}", process, log, workspace)
        deadline = time.monotonic() + PATIENCE
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            try:
                if httpx.get(f"{served.url}/_stcore/health", timeout=30, trust_env=False).status_code == 200:
                    return served
            except httpx.TransportError:
                time.sleep(0.1)

    yield start
    for process in started:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Tab:
    """A browser's tab, with the cookies of its client."""

    def __init__(self, served: Served, client: httpx.Client | None = None) -> None:
        self.cookies = {} if client is None else dict(client.cookies.items())
        token = self.cookies.get("_streamlit_xsrf", "")
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        self.socket = connect(
            f"{served.url.replace('http', 'ws')}/_stcore/stream", subprotocols=["streamlit", token or "none"],
            origin=served.url, additional_headers=headers if self.cookies else {}, max_size=None, proxy=None,
        )  # fmt: skip

    def open(self, page: str = "", query: str = "", press: str | None = None) -> str:
        """Run a page, with a button pressed if its id is given; everything that it sends, as text."""
        asked = BackMsg()
        asked.rerun_script.query_string = query
        asked.rerun_script.page_name = page
        if press is not None:
            state = asked.rerun_script.widget_states.widgets.add()
            state.id, state.trigger_value = press, True
        self.socket.send(asked.SerializeToString())
        texts = []
        while True:
            message = ForwardMsg.FromString(self.socket.recv(timeout=PATIENCE))
            texts.append(str(message))
            if message.WhichOneof("type") == "script_finished":
                return "\n".join(texts)

    def close(self) -> None:
        self.socket.close()
