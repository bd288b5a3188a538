"""How the server starts, and what a running one answers: the real command, real sockets."""

import socket
import subprocess
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.server.conftest import ROOT, Served, Tab, command, free_port, surroundings

OTHER_FOLDER = "started from another folder, as people do"


@pytest.fixture(scope="module")
def served(serve, tmp_path_factory) -> Served:
    folder = tmp_path_factory.mktemp(OTHER_FOLDER.split(",")[0].replace(" ", "_"))
    return serve(folder / "studies", folder)


@pytest.mark.slow  # a server starts and ends, three times
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--server.address", "0.0.0.0"), "server.address is 0.0.0.0"),
        (("--server.address", "127.0.0.1", "--server.allowedHosts", "kd.example.org"), "names 'kd.example.org'"),
    ],
)
def test_it_does_not_start_open_by_mistake(tmp_path, arguments, words):
    done = subprocess.run(
        command("--server.port", str(free_port()), *arguments), cwd=tmp_path, env=surroundings(tmp_path),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    told = done.stdout + done.stderr
    assert done.returncode == 1
    assert words in told
    assert "KDCORE_OPEN=1" in told
    assert "Traceback" not in told


def test_a_login_that_would_not_protect_does_not_start(tmp_path):
    (tmp_path / ".streamlit").mkdir()
    (tmp_path / ".streamlit/secrets.toml").write_text('[auth]\ncookie_secret = "short"\nclient_id = "x"\n')
    done = subprocess.run(
        command("--server.port", str(free_port())), cwd=tmp_path, env=surroundings(tmp_path),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "cookie_secret needs 32 random letters" in done.stdout + done.stderr


def test_it_listens_on_this_machine_alone_wherever_it_is_started(served):
    port = int(served.url.rpartition(":")[2])
    addresses = {Path("/proc/net/tcp"), Path("/proc/net/tcp6")}
    listening = [
        line.split()[1].rpartition(":")[0]
        for file in addresses
        if file.exists()
        for line in file.read_text().splitlines()[1:]
        if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"
    ]
    assert listening == ["0100007F"]  # 127.0.0.1


def test_a_running_server_refuses_other_pages_and_names(served):
    port = served.url.rpartition(":")[2]
    stream = f"ws://127.0.0.1:{port}/_stcore/stream"
    refused = [
        ({"origin": f"http://127.0.0.1:{int(port) + 1}"}, {}),  # another local web page
        ({"origin": "http://localhost:3000"}, {}),
        ({"origin": "https://evil.example"}, {}),
        ({"origin": "null"}, {}),
        ({"origin": f"http://evil.example:{port}"}, {"Host": f"evil.example:{port}"}),  # a name that was rebound
    ]
    for options, headers in refused:
        with (
            pytest.raises(InvalidStatus) as caught,
            connect(stream, subprotocols=["streamlit"], additional_headers=headers, proxy=None, **options),
        ):
            pass
        assert caught.value.response.status_code in (403, 400)  # 400: two names in one request
    tab = Tab(served)  # its own page
    assert "script_finished: FINISHED_SUCCESSFULLY" in tab.open("runs")
    tab.close()
    with httpx.Client(base_url=served.url, trust_env=False) as client:
        for path in (
            "/",
            "/runs",
            "/_stcore/health",
            "/_stcore/host-config",
            "/leaflet/leaflet.js",
            "/tiles/a/b/c/1/0/0.png",
        ):
            answer = client.get(path)
            assert answer.headers["x-frame-options"] == "SAMEORIGIN"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert client.get(path, headers={"origin": "http://localhost:3000"}).status_code == 403
            assert client.get(path, headers={"host": "evil.example"}).status_code == 400


def test_a_broken_request_is_no_traceback(served):
    """Bytes that no browser sends; afterwards the server answers as before."""
    port = int(served.url.rpartition(":")[2])
    for request in (
        b"GET /tiles/" + b"9" * 5_000 + b"/b/c/1/0/0.png HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /tiles/a/b/c/" + b"9" * 5_000 + b"/0/0.png HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /%00%00 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: local\xffhost\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://[\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET @evil.example/tiles HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", port), 60) as connection:
            connection.sendall(request)
            answer = b""
            while piece := connection.recv(65_536):
                answer += piece
        assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 404", b"HTTP/1.1 403", b"HTTP/1.1 200")), answer[:200]
        assert b"Traceback" not in answer
    assert httpx.get(f"{served.url}/_stcore/health", trust_env=False).status_code == 200
    assert "Traceback" not in served.log.read_text()


def test_the_configuration_of_the_project_is_what_is_tested():
    text = (ROOT / ".streamlit/config.toml").read_text()
    assert 'address = "127.0.0.1"' in text
    assert "allowedHosts" in text
