"""Addresses: they name ids, never files; whatever stands in them ends in one sentence, and changes nothing."""

import hashlib
import json
import math
import random
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from kdcore.inference.layer_index import StudyLayers
from kdcore.server import reading, tiles
from kdcore.server.access import Access
from kdcore.server.guard import Guard
from kdcore.server.routes import map_routes
from kdcore.server.tiles import Crowd, CrowdedError
from tests.map_study import make_map_study

LONG = "9" * 5_000
TILE = "/tiles/town/test-area/imagery/{}/{}/{}.png"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("addresses") / "studies"
    make_map_study(folder, "town")
    return folder


@pytest.fixture
def workspace(made, tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "studies"
    shutil.copytree(made, folder)
    monkeypatch.setenv("KDCORE_WORKSPACE", str(folder))
    tiles.drawn.clear()
    reading.warped.clear()
    return folder


@pytest.fixture
def client(workspace) -> TestClient:
    app = Starlette(routes=map_routes(), middleware=[Middleware(Guard, access=Access())])
    return TestClient(app, base_url="http://localhost", client=("127.0.0.1", 1), raise_server_exceptions=True)


def contents(folder: Path) -> str:
    """Changes when anything in a folder does, a file's time included."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(f"{path}:{path.lstat().st_mtime_ns}:{path.lstat().st_size}".encode())
    return digest.hexdigest()


ODD = [LONG, "1e5", "-1", "0x10", "1.0", "٣", "1%00", "%20", "NaN", "+1", "1_0", "%F0%9F%98%80"]


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("text", ODD, ids=lambda text: text[:8])
def test_a_tile_that_cannot_be_is_refused_in_one_sentence(client, place, text):
    position = ["1", "0", "0"]
    position[place] = text
    answer = client.get(TILE.format(*position))
    assert answer.status_code in (400, 404)
    assert "error" in answer.text or answer.text in ("Not Found", "Bad Request")
    assert len(answer.text) < 300


@pytest.mark.parametrize(
    "address",
    [
        f"/tiles/{LONG}/test-area/imagery/1/0/0.png",
        f"/tiles/town/{LONG}/imagery/1/0/0.png",
        f"/tiles/town/test-area/{LONG}/1/0/0.png",
        f"/tiles/town/test-area/mask-{LONG}/1/0/0.png",
        f"/tiles/town/test-area/probability-teacher-s0-{LONG}/1/0/0.png",
        f"/tiles/town/test-area/disagreement-{LONG}/1/0/0.png",
        f"/tiles/town/upload-{LONG}/imagery/1/0/0.png",
        f"/tiles/town/test-area/imagery/1/0/0.png?threshold={LONG}",
        f"/tiles/town/test-area/imagery/1/0/0.png?hide={LONG}",
        f"/point/town/test-area?lat={LONG}&lng={LONG}",
        f"/point/town/test-area?lat=1&lng=1&threshold={LONG}",
        f"/point/{LONG}/{LONG}?lat=1&lng=1",
        "/tiles/town/test-area%00/imagery/1/0/0.png",
        "/tiles/town%00/test-area/imagery/1/0/0.png",
        "/tiles/%2e%2e/%2e%2e/imagery/1/0/0.png",
        "/tiles/.collections/test-area/imagery/1/0/0.png",
        "/tiles/town/..%5C..%5Cx/imagery/1/0/0.png",
        "/tiles/town/test-area/mask-%2e%2e/1/0/0.png",
        "/leaflet/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/leaflet/kdcore/%2e%2e/routes.py",
        f"/leaflet/{LONG}",
    ],
    ids=lambda address: address[:40],
)
def test_no_address_ends_in_a_traceback_or_leads_out(client, workspace, address):
    answer = client.get(address)
    assert answer.status_code in (400, 404)
    assert "Traceback" not in answer.text
    assert str(workspace) not in answer.text  # where it lies on the disk is nobody's business
    assert len(answer.text) < 500


def test_a_file_name_with_a_zero_byte_is_no_failure_of_the_server(client):
    assert client.get("/leaflet/a%00b.js").status_code in (400, 404)


def test_a_wrong_name_tells_no_other_study(client, workspace):
    make_map_study(workspace, "secret-plans")
    for address in ("/tiles/tow/test-area/imagery/1/0/0.png", "/point/tow/test-area?lat=1&lng=1"):
        assert "secret" not in client.get(address).text


def test_a_broken_study_tells_no_path(client, workspace):
    (workspace / "town/layers/layers.json").write_text("{")
    answer = client.get(TILE.format(1, 0, 0))
    assert answer.status_code == 404
    assert "town" in answer.text
    assert str(workspace.parent) not in answer.text


@pytest.mark.parametrize("name", ["../../../../secret", "/etc/secret", "../../alone-s0/maps/test_area"])
def test_a_study_that_was_sent_cannot_name_files_elsewhere(client, workspace, name):
    file = workspace / "town/layers/layers.json"
    layers = json.loads(file.read_text())
    layers["scenes"][0]["name"] = name
    file.write_text(json.dumps(layers))
    answer = client.get("/tiles/town/test-area/mask-teacher-s0/1/0/0.png")
    outside = not name.startswith("../../alone")
    assert answer.status_code == 404 if outside else answer.status_code in (200, 204)
    assert ("outside the study" in answer.text) == outside


def test_looking_changes_nothing_and_nothing_else_is_answered(client, workspace):
    scene = StudyLayers.load(workspace / "town").scenes[0]
    before = contents(workspace)
    for address in (TILE.format(scene.zoom, 0, 0), "/point/town/test-area?lat=1&lng=1&delete=1&action=stop", "/leaflet/leaflet.js"):  # fmt: skip
        assert client.get(address).status_code in (200, 204)
        for method in ("post", "put", "patch", "delete"):
            assert getattr(client, method)(address).status_code == 405
    assert contents(workspace) == before


def test_many_different_requests_keep_no_more_than_their_limits(client, workspace):
    """Distinct addresses are what an attacker has plenty of: neither pictures nor numbers are kept for all of them."""
    scene = StudyLayers.load(workspace / "town").scenes[0]
    (south, west), (north, east) = scene.bounds
    draw = random.Random(0)
    limits = {tiles.drawn: 300_000, reading.warped: 500_000}
    kept = [(cache, cache._kept) for cache in limits]
    try:
        for cache, limit in limits.items():
            cache.__init__(limit, cache._kept.getsizeof)
        for number in range(60):
            lat, lng = draw.uniform(south, north), draw.uniform(west, east)
            x, y = tile_of(lat, lng, scene.zoom)
            address = f"/tiles/town/test-area/mask-teacher-s0/{scene.zoom}/{x}/{y}.png"
            assert client.get(address, params={"threshold": number / 100, "v": str(number)}).status_code in (200, 204)
            assert all(cache._kept.currsize <= limit for cache, limit in limits.items())
        assert all(cache._kept.currsize > 0 for cache in limits)
    finally:
        for cache, former in kept:
            cache._kept = former
    assert reading.header_of.__wrapped__.cache_info().maxsize is not None


def tile_of(lat: float, lng: float, zoom: int) -> tuple[int, int]:
    x = (lng + 180) / 360 * 2**zoom
    y = (1 - math.asinh(math.tan(math.radians(lat))) / math.pi) / 2 * 2**zoom
    return int(x), int(y)


def test_who_asks_for_too_many_at_once_is_told_to_come_back(client):
    """64 of one address wait already: the next one is refused, and answered again once they are gone."""
    with waiting(tiles.crowd, "127.0.0.1", 64):
        refused = client.get(TILE.format(1, 0, 0))
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert client.get("/point/town/test-area?lat=1&lng=1").status_code == 429
        assert client.get("/leaflet/leaflet.js").status_code == 200  # files are not drawn
    assert client.get(TILE.format(1, 0, 0)).status_code in (200, 204)


@contextmanager
def waiting(crowd: Crowd, address: str, number: int) -> Iterator[None]:
    """So many requests of one address that wait."""
    with ExitStack() as stack:
        for _ in range(number):
            stack.enter_context(crowd.joined(address))
        yield


def test_a_crowd_counts_each_and_all_and_forgets_who_left():
    crowd = Crowd(each=2, all=3)
    with crowd.joined("a"), crowd.joined("a"):
        with pytest.raises(CrowdedError), crowd.joined("a"):
            pass
        with crowd.joined("b"):
            with pytest.raises(CrowdedError), crowd.joined("c"):
                pass
            assert set(crowd.waiting) == {"a", "b"}
    with pytest.raises(ZeroDivisionError), crowd.joined("a"):
        _ = 1 / 0
    assert not crowd.waiting
