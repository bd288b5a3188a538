"""The line of script that tells Streamlit's browser code where the server is."""

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import HTMLResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from kdcore.server.routes import BackendAddress, map_routes

SCRIPT = '<script>window.__streamlit = { BACKEND_BASE_URL: window.location.origin + "/" }</script>'
PAGE = "<!doctype html><html><head><title>é</title></head>" + "<p>text</p>" * 200 + "</html>"


async def pieces():
    for start in range(0, len(PAGE), 100):
        yield PAGE[start : start + 100].encode()


@pytest.fixture
def client():
    routes = [
        Route("/train", lambda request: HTMLResponse(PAGE)),
        Route("/pieces", lambda request: StreamingResponse(pieces(), media_type="text/html")),
        Route("/gone", lambda request: HTMLResponse(PAGE, status_code=404)),
        Route("/report.html", lambda request: HTMLResponse(PAGE)),
        Route("/words", lambda request: PlainTextResponse("<head>" * 500)),
    ]
    app = Starlette(routes=routes, middleware=[Middleware(GZipMiddleware, minimum_size=100)])
    return TestClient(BackendAddress(app))


@pytest.mark.parametrize("path", ["/train", "/pieces"])
def test_a_page_gets_the_line_and_the_right_length(path, client):
    answer = client.get(path)
    assert answer.text == PAGE.replace("<head>", "<head>" + SCRIPT)
    assert int(answer.headers["content-length"]) == len(answer.content)


@pytest.mark.parametrize("path", ["/gone", "/report.html", "/words"])
def test_everything_else_passes_unchanged(path, client):
    assert "BACKEND_BASE_URL" not in client.get(path).text


def test_other_answers_stay_compressed(client):
    assert client.get("/report.html").headers["content-encoding"] == "gzip"


def test_a_dashboard_under_a_path_is_told_so_and_serves_its_maps_there():
    app = Starlette(routes=[*map_routes("/kd"), Route("/kd/train", lambda request: HTMLResponse(PAGE))])
    client = TestClient(BackendAddress(app, base="/kd"))
    assert 'window.location.origin + "/kd/" }' in client.get("/kd/train").text
    for file in ("kdcore/map.html", "kdcore/map.js", "leaflet.js"):
        assert client.get(f"/kd/leaflet/{file}").status_code == 200
        assert client.get(f"/leaflet/{file}").status_code == 404
