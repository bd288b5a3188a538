"""Who may connect, under which name, from which web page; and what every answer says to the browser."""

import json
from contextlib import suppress

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from kdcore.errors import SettingsError
from kdcore.server.access import LOOPBACK, Access, decide_access, host_name, is_local, is_same_origin
from kdcore.server.guard import HEADERS, Guard

HERE, THERE = ("127.0.0.1", 50_000), ("192.0.2.7", 50_000)
OWN = "http://localhost:8501"


async def answer(request):
    return PlainTextResponse("in")


async def fail(request):
    raise RuntimeError("secret-of-the-program")


async def socket(websocket):
    await websocket.accept()
    await websocket.send_text("in")
    await websocket.close()


def client(access: Access | None = None, peer=HERE, base=OWN, identify=None, path="") -> TestClient:
    routes = [
        Route("/fails", fail),
        WebSocketRoute("/_stcore/stream", socket),
        Route("/{rest:path}", answer, methods=["GET", "POST"]),
    ]
    guard = Middleware(Guard, access=access or Access(), identify=identify, base=path)
    return TestClient(Starlette(routes=routes, middleware=[guard]), base_url=base, client=peer)


def socket_opens(found: TestClient, **headers: str) -> bool:
    with (
        suppress(WebSocketDisconnect),
        found.websocket_connect("/_stcore/stream", headers={"host": "localhost:8501"} | headers) as opened,
    ):
        return opened.receive_text() == "in"
    return False


PATHS = ("/", "/train", "/tiles/a/b/c/1/0/0.png", "/_stcore/health", "/leaflet/leaflet.js", "/media/x.png")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8501", 200),
        ("127.0.0.1", 200),
        ("LOCALHOST.:8501", 200),
        ("[::1]:8501", 200),
        ("evil.example", 400),  # a name that was rebound to this machine
        ("localhost.evil.example", 400),
        ("localhost@evil.example", 400),
        ("evil.example/localhost", 400),
        ("localhost:99999", 400),
        ("", 400),
    ],
)
def test_the_name_is_looked_at_on_every_route_and_the_websocket(path, host, status):
    found = client()
    assert found.get(path, headers={"host": host}).status_code == status
    assert socket_opens(found, host=host) == (status == 200)


def test_another_machine_is_refused_whatever_it_calls_itself():
    found = client(peer=THERE)
    for host in ("localhost:8501", "127.0.0.1:8501", "192.0.2.1:8501"):
        assert found.get("/", headers={"host": host}).status_code == 403
        assert not socket_opens(found, host=host)


def test_an_open_dashboard_still_knows_that_another_machine_is_not_localhost():
    found = client(Access(("kd.example.org", *LOOPBACK), remote=True), peer=THERE)
    assert found.get("/", headers={"host": "kd.example.org:8501"}).status_code == 200
    assert found.get("/", headers={"host": "localhost:8501"}).status_code == 400
    assert not socket_opens(found, host="localhost:8501")
    assert not socket_opens(found, host="evil.example")
    assert socket_opens(found, host="kd.example.org:8501")


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),  # no browser: it could name any origin
        (OWN, True),
        ("http://localhost:9000", False),  # another local web page
        ("http://127.0.0.1:8501", False),
        ("https://localhost:8501", True),
        ("http://evil.example", False),
        ("http://localhost.evil.example:8501", False),
        ("null", False),  # a sandboxed frame, a file
        ("file://localhost:8501", False),
        ("http://localhost:99999", False),
        ("", False),
        ("https://friend.example", True),
    ],
)
def test_another_web_page_may_use_neither_routes_nor_websocket(origin, allowed):
    found = client(Access(origins=("https://friend.example",)))
    headers = {} if origin is None else {"origin": origin}
    assert (found.get("/tiles/a/b/c/1/0/0.png", headers=headers).status_code == 200) == allowed
    assert (found.post("/_stcore/upload_file/x", headers=headers).status_code == 200) == allowed
    assert socket_opens(found, **headers) == allowed


def test_a_proxy_that_takes_tls_off_is_the_same_origin():
    assert is_same_origin("https://kd.example.org", "kd.example.org", "http")
    assert not is_same_origin("https://kd.example.org:444", "kd.example.org", "http")
    assert not is_same_origin("http://kd.example.org:8080", "kd.example.org", "http")


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_page_can_embed_nothing_and_a_link_still_opens(site):
    found = client()
    embedded = {"sec-fetch-site": site, "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}
    assert found.get("/tiles/a/b/c/1/0/0.png", headers=embedded).status_code == 403
    link = {"sec-fetch-site": site, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert found.get("/map?study=town", headers=link).status_code == 200
    own = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "no-cors"}
    assert found.get("/tiles/a/b/c/1/0/0.png", headers=own).status_code == 200


@pytest.mark.parametrize("path", [*PATHS, "/fails", "/refused"])
def test_every_answer_carries_the_headers_also_a_refusal_and_a_failure(path):
    found = client()
    answered = found.get(path, headers={"origin": "http://evil.example"} if path == "/refused" else {})
    for name, value in HEADERS.items():
        assert answered.headers[name] == value
    assert "frame-ancestors 'self'" in answered.headers["content-security-policy"]
    assert answered.status_code == {"/fails": 500, "/refused": 403}.get(path, 200)
    assert "secret-of-the-program" not in answered.text
    assert "Traceback" not in answered.text


@pytest.mark.parametrize("base", ["", "/kd"])
def test_without_a_login_only_code_is_served(base):
    def identify(cookies, host):
        return cookies.get("who") == "ann" and host == "localhost:8501"

    found = client(Access(remote=True, login=True), identify=identify, path=base)
    public = ("/", "/train", "/oauth2callback", "/auth/login", "/static/a.js", "/_stcore/health", "/leaflet/leaflet.js")
    for path in public:
        assert found.get(base + path).status_code == 200
    secret = ("/tiles/a/b/c/1/0/0.png", "/point/a/b", "/media/x.png", "/_stcore/metrics", "/_stcore/upload_file/a/b",
              "/_stcore/agent/interact", "/app/static/x", "/anything/new", "/static/../media/x")  # fmt: skip
    for path in secret:
        assert found.get(base + path).status_code in (401, 400), path
        assert found.get(base + path, headers={"cookie": "who=eve"}).status_code in (401, 400)
    assert found.get("/tiles/a/b/c/1/0/0.png", headers={"cookie": "who=ann"}).status_code == 200
    assert socket_opens(found)  # the page itself asks there: a stranger is shown the way to log in


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1", True), ("127.9.9.9", True), ("localhost", True), ("::1", True), ("[::1]", True),
        ("::ffff:127.0.0.1", True), ("unix:///run/kd.sock", True), ("kd.localhost", True),
        (None, False), ("0.0.0.0", False), ("::", False), ("192.168.0.4", False), ("::ffff:192.168.0.4", False),
        ("localhost.example.org", False), ("", False), ("127.0.0.1.example.org", False),
    ],
)  # fmt: skip
def test_what_is_this_machine_alone(address, local):
    assert is_local(address) is local


def test_it_listens_to_others_only_with_a_login_or_when_told_so():
    def decide(address, *, hosts=(), login=False, environment=None):
        return decide_access(address, hosts, (), login, environment or {})

    assert decide("127.0.0.1") == Access()
    assert not decide("127.0.0.1", environment={"KDCORE_OPEN": "1"}).login
    for address in (None, "0.0.0.0", "192.168.0.4", "::"):
        with pytest.raises(SettingsError, match="KDCORE_OPEN=1"):
            decide(address)
        for value in ("0", "true", ""):  # only the one word, said on purpose
            with pytest.raises(SettingsError, match=r"server\.address"):
                decide(address, environment={"KDCORE_OPEN": value})
        assert decide(address, environment={"KDCORE_OPEN": "1"}).remote
        assert decide(address, login=True) == Access(remote=True, login=True)
    with pytest.raises(SettingsError, match=r"allowedHosts names 'kd\.example\.org'"):  # through a proxy
        decide("127.0.0.1", hosts=("localhost", "kd.example.org"))
    assert decide("127.0.0.1", hosts=("kd.example.org",), login=True).hosts == ("kd.example.org",)


def test_names_of_hosts():
    assert host_name("KD.Example.org.:80") == "kd.example.org"
    assert host_name("[::1]:1") == "::1"
    assert all(host_name(text) is None for text in ("", "a b:x", "user@host", "host/path", "host?x", "host:port"))


def test_a_refusal_says_nothing_of_what_is_here():
    refused = client(peer=THERE).get("/tiles/town/x/imagery/1/0/0.png")
    assert json.dumps(refused.text).count("town") == 0
    assert len(refused.text) < 200
