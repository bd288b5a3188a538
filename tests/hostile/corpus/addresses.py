"""Addresses that somebody sends: of pages (`?study=`, `?folder=`), tiles and points."""

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from tests.hostile.corpus.place import LONG, Case, Place, Right

TILES, PAGES = "addresses of tiles and points", "addresses of pages"
DIGITS = LONG[:5000]
ROOT = Path(__file__).parents[3]
S = "/tiles/example/outskirts"


def asked(address: str, damage: Callable[[Path], None] | None = None) -> Callable[[Place], Callable[[], object]]:
    """Ask the dashboard's own routes; a workspace of the case holds the study 'town', which may be damaged."""

    def make(place: Place) -> Callable[[], object]:
        if damage is not None:
            damage(place.copy("whole", "studies/town"))

        def call() -> object:
            from starlette.applications import Starlette
            from starlette.testclient import TestClient

            from kdcore.errors import KdcoreError
            from kdcore.server.routes import map_routes

            answer = TestClient(Starlette(routes=map_routes())).get(address)
            if answer.status_code in (400, 404):
                raise KdcoreError(answer.json()["error"] if "json" in answer.headers["content-type"] else "Not Found")
            assert answer.status_code in (200, 204), answer.status_code
            return answer.status_code

        return call

    return make


def opened(page: str, **query: str) -> Callable[[Place], Callable[[], object]]:
    """A page in this process with an address; works if it shows no exception."""

    def make(place: Place) -> Callable[[], object]:
        def call() -> object:
            from streamlit.testing.v1 import AppTest

            at = AppTest.from_file(str(ROOT / "pages/frame.py"), default_timeout=600).run()
            at.switch_page(f"{page}.py")
            for key, value in query.items():
                at.query_params[key] = value
            at.run()
            assert not at.exception, at.exception[0].value
            return None

        return call

    return make


def case(name: str, address: str, right: Right = "refused", damage: Callable[[Path], None] | None = None) -> Case:
    return Case(name, "tiles", TILES, asked(address, damage), right)


def layers(change: Callable[[dict], None] | str) -> Callable[[Path], None]:
    def damage(study: Path) -> None:
        path = study / "layers/layers.json"
        values = json.loads(path.read_text())
        path.unlink()
        if isinstance(change, str):
            path.write_text(change)
        else:
            change(values)
            path.write_text(json.dumps(values))

    return damage


def replaced(name: str, data: bytes | None = None, link: str | None = None) -> Callable[[Path], None]:
    def damage(study: Path) -> None:
        path = study / name
        path.unlink()
        if data is not None:
            path.write_bytes(data)
        elif link is not None:
            path.symlink_to(link)

    return damage


def first_scene(**values: object) -> Callable[[Path], None]:
    return layers(lambda held: held["scenes"][0].update(values))


T = "/tiles/town/outskirts"
CASES: list[Case] = [
    case("a sound tile", f"{S}/imagery/0/0/0.png", "works"),
    case("a zoom of 5,000 digits", f"{S}/imagery/{DIGITS}/0/0.png"),
    case("a column of 5,000 digits", f"{S}/imagery/3/{DIGITS}/0.png"),
    case("a row of 5,000 digits", f"{S}/imagery/3/0/{DIGITS}.png"),
    case("a zoom of 4,000 digits", f"{S}/imagery/{DIGITS[:4000]}/0/0.png"),
    case("a zoom below zero", f"{S}/imagery/-1/0/0.png"),
    case("a zoom of other digits", f"{S}/imagery/{quote('٣')}/0/0.png", "either"),
    case("a study that is a path", "/tiles/..%2f..%2fetc/outskirts/imagery/0/0/0.png"),
    case("a study of dots", "/tiles/../outskirts/imagery/0/0/0.png"),
    case("a study of encoded dots", "/tiles/%2e%2e/outskirts/imagery/0/0/0.png"),
    case("a study from right to left", f"/tiles/{quote('a' + chr(0x202E) + 'b')}/outskirts/imagery/0/0/0.png"),
    case("a study with a zero byte", "/tiles/a%00b/outskirts/imagery/0/0/0.png"),
    case("a study that is not UTF-8", "/tiles/%ff%fe/outskirts/imagery/0/0/0.png"),
    case("a study of 5,000 letters", f"/tiles/{'x' * 5_000}/outskirts/imagery/0/0/0.png"),
    case("a scene that is a path", "/tiles/example/..%2f..%2fx/imagery/0/0/0.png"),
    case("a scene of 5,000 letters", f"/tiles/example/{'x' * 5_000}/imagery/0/0/0.png"),
    case("an upload that is a path", "/tiles/example/upload-..%2f..%2fx/imagery/0/0/0.png"),
    case("an upload with a zero byte", "/tiles/example/upload-%00/imagery/0/0/0.png"),
    case("a layer that is a path", f"{S}/mask-..%2f..%2fetc/0/0/0.png"),
    case("a layer with a line break", f"{S}/mask-teacher-s0%0a/0/0/0.png"),
    case("a class of 5,000 digits", f"{S}/probability-teacher-s0-{DIGITS}/0/0/0.png"),
    case("a class below zero", f"{S}/probability-teacher-s0--1/0/0/0.png"),
    case("a class of other digits", f"{S}/probability-teacher-s0-{quote('²')}/0/0/0.png"),
    case("a disagreement of nobody", f"{S}/disagreement-{'-' * 3_000}/0/0/0.png"),
    case("a threshold of 5,000 digits", f"{S}/imagery/0/0/0.png?threshold={DIGITS}"),
    case("a threshold of no number", f"{S}/imagery/0/0/0.png?threshold=nan"),
    case("a threshold of other digits", f"{S}/imagery/0/0/0.png?threshold={quote('٠')}", "either"),
    case("hidden classes of 5,000 digits", f"{S}/imagery/0/0/0.png?hide={DIGITS}"),
    case("hidden classes of other digits", f"{S}/mask-teacher-s0/0/0/0.png?hide={quote('²')}", "either"),
    case("a version of 5,000 letters", f"{S}/imagery/0/0/0.png?v={'x' * 5_000}", "works"),
    case("a point of 5,000 digits", f"/point/example/outskirts?lat={DIGITS}&lng=0"),
    case("a point of no number", "/point/example/outskirts?lat=nan&lng=inf"),
    case("a point at the pole", "/point/example/outskirts?lat=90&lng=0"),
    case("a point without a place", "/point/example/outskirts"),
    case("a point of a study that is a path", "/point/..%2f..%2fx/outskirts?lat=0&lng=0"),
    case("a file above the script's folder", "/leaflet/kdcore/..%2f..%2f..%2fpyproject.toml"),
    case("a file of the system", "/leaflet/..%2f..%2f..%2f..%2f..%2f..%2fetc/passwd"),
    case("a file with a zero byte", "/leaflet/kdcore/a%00b"),
    case("a file of 5,000 letters", "/leaflet/kdcore/" + "x" * 5_000),
    case("layers.json is empty", f"{T}/imagery/0/0/0.png", damage=layers("")),
    case("layers.json is nested", f"{T}/imagery/0/0/0.png", damage=layers("[" * 100_000)),
    case("layers.json is a number of 6,000 digits", f"{T}/imagery/0/0/0.png", damage=layers('{"a": ' + LONG + "}")),
    case("a scene whose folder is a path", f"{T}/imagery/0/0/0.png", "refused", first_scene(id="../../../etc")),
    case("a scene of 10**15 pixels", f"{T}/imagery/0/0/0.png", "either", first_scene(width=10**15, height=10**15)),
    case("a scene at no place", f"{T}/imagery/0/0/0.png", "either", first_scene(transform=[float("nan")] * 6)),
    case("the map's imagery is a text", f"{T}/imagery/0/0/0.png", damage=replaced("layers/outskirts/imagery.tif", b"hello")),
    case("the map's imagery is half", f"{T}/imagery/0/0/0.png", "either", lambda study: replaced("layers/outskirts/imagery.tif", (study / "layers/outskirts/imagery.tif").read_bytes()[:5000])(study)),
    case("the map's imagery is an endless device", f"{T}/imagery/0/0/0.png", damage=replaced("layers/outskirts/imagery.tif", link="/dev/zero")),
    case("the map's imagery is gone", f"{T}/imagery/0/0/0.png", damage=replaced("layers/outskirts/imagery.tif")),
    case("the map's truth is a text", f"{T}/truth/0/0/0.png", damage=replaced("layers/outskirts/truth.tif", b"hello")),
    case("a run's map is a text", f"{T}/mask-teacher-s0/0/0/0.png", damage=replaced("runs/teacher-s0/maps/outskirts.tif", b"hello")),
    case("a run's map is of another number of bands", f"{T}/probability-teacher-s0-2/0/0/0.png", "either", lambda study: replaced("runs/teacher-s0/maps/outskirts.tif", (study / "layers/outskirts/truth.tif").read_bytes())(study)),
    case("a point on a map that is a text", "/point/town/outskirts?lat=0&lng=0", "either", replaced("runs/teacher-s0/maps/outskirts.tif", b"hello")),
    *(Case(f"{page}?{key}={name}", "page", PAGES, opened(page, **{key: value}), "works") for page, key, name, value in (
        ("map", "study", "5,000 digits", DIGITS), ("curves", "study", "a path", "../../etc/passwd"), ("train", "study", "right to left", "a\u202e\x1b[31mb"), ("data", "folder", "/dev/zero", "/dev/zero"),
        ("data", "folder", "5,000 digits", DIGITS), ("data", "folder", "a zero byte", "a\0b"), ("data", "folder", "a user that is not there", "~nobody-of-this-name/x"), ("map", "left", "rubbish", "<img src=x>" * 500), ("deploy", "study", "a zero byte", "a\0b"), ("sweep", "sweep", "a path", "../../x"))),
]  # fmt: skip
