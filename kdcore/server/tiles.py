"""Map tiles: `/tiles/STUDY/SCENE/LAYER/Z/X/Y.png`.

LAYER is one of: imagery, truth, mask-RUN, probability-RUN-CLASS, disagreement-RUN-RUN. Query: `threshold` (0 to 1, two
classes only), `hide` (indices of classes, with commas), `bands` (of the imagery: the numbers of three bands, with commas, or of one),
`v` (any text that changes when the files do; the browser may then keep the tile).
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from kdcore.bounded import BoundedCache
from kdcore.data.spectrum import parse_numbers
from kdcore.errors import KdcoreError, RunError, SettingsError
from kdcore.jobs.workspace import Workspace
from kdcore.server.layers import Style, choose
from kdcore.server.lookup import find_scene
from kdcore.server.reading import OutsideTile, Tile

AT_ONCE = 4  # tiles that are drawn at the same time; more would only take processors from trainings
CACHE_BYTES = 16_000_000
DEEPEST = 26  # zoom
KEEP = "private, max-age=604800, immutable"
KEEP_SHORTLY = "private, max-age=10"
EACH = 64  # requests that may wait from one address; a browser opens six connections at a time
ALL = 256  # together
WHOLE = re.compile("[0-9]{1,9}")


class CrowdedError(Exception):
    """Too many wait already."""


class Crowd:
    """How many requests may wait for the few that are drawn at once: who asks for more is told to come back. For the server's one thread.

    Args:
        each: most from one address.
        all: most together.
    """

    def __init__(self, each: int = EACH, all: int = ALL) -> None:
        self.each, self.all = each, all
        self.waiting: Counter[str] = Counter()

    @contextmanager
    def joined(self, address: str) -> Iterator[None]:
        """Be one of them for the time of the block.

        Raises:
            CrowdedError: there are too many.
        """
        if self.waiting[address] >= self.each or self.waiting.total() >= self.all:
            self.forget(address)
            raise CrowdedError
        self.waiting[address] += 1
        try:
            yield
        finally:
            self.waiting[address] -= 1
            self.forget(address)

    def forget(self, address: str) -> None:
        """Keep no address of which nothing waits."""
        if self.waiting[address] <= 0:
            del self.waiting[address]


drawn = BoundedCache[bytes](CACHE_BYTES, lambda png: len(png) + 200)  # an empty one lies outside
limiter = CapacityLimiter(AT_ONCE)
crowd = Crowd()


async def tile(request: Request) -> Response:
    """Answer a request for a tile: 200 with a PNG, 204 outside the raster, 404 or 400 with one sentence."""
    try:
        place = request.path_params
        style = read_style(request.query_params)
        position = read_position(*(read_whole(place[key]) for key in "zxy"))
        with crowd.joined(address_of(request)):
            png = await to_thread.run_sync(
                draw, place["study"], place["scene"], place["layer"], position, style, limiter=limiter
            )
    except KdcoreError as error:
        return refuse(error)
    except CrowdedError:
        return come_back()
    headers = {"Cache-Control": KEEP if request.query_params.get("v") else KEEP_SHORTLY}
    return Response(png, media_type="image/png", headers=headers) if png else Response(status_code=204, headers=headers)


def address_of(request: Request) -> str:
    """Where a request comes from."""
    return request.client.host if request.client else ""


def come_back() -> JSONResponse:
    """One sentence for somebody who asks for more than can be drawn."""
    told = {"error": "Too many tiles are asked for at the same time. Ask again in a second."}
    return JSONResponse(told, status_code=429, headers={"Retry-After": "1"})


def refuse(error: KdcoreError) -> JSONResponse:
    """One sentence: 400 for a value that cannot be, 404 for anything that is not there."""
    told = str(error).replace(f"{Workspace().path}{os.sep}", "")  # where it lies on the disk is nobody's business
    return JSONResponse({"error": told}, status_code=400 if isinstance(error, SettingsError) else 404)


def read_whole(text: str) -> int:
    """A whole number of an address.

    Raises:
        SettingsError: it is none, or far beyond the grid.
    """
    if not WHOLE.fullmatch(text):
        raise SettingsError(
            f"{text[:30]!r} is no place in the grid of tiles; zoom, column and row are whole numbers from 0."
        )
    return int(text)


def read_position(zoom: int, x: int, y: int) -> Tile:
    """A tile that the grid has.

    Raises:
        SettingsError: it has no such tile.
    """
    if zoom > DEEPEST or x >= 2**zoom or y >= 2**zoom:
        raise SettingsError(
            f"Zoom {zoom} has no tile {x}, {y}; zoom goes from 0 to {DEEPEST}, x and y from 0 to 2^zoom - 1."
        )
    return zoom, x, y


def read_style(query: Mapping[str, str]) -> Style:
    """Threshold, hidden classes and bands of a query.

    Raises:
        SettingsError: no numbers, or out of range.
    """
    threshold = read_threshold(query)
    text = query.get("hide", "")
    if not re.fullmatch(r"([0-9]{1,3}(,[0-9]{1,3}){0,254})?", text):
        raise SettingsError("`hide` must be indices of classes with commas between them, for example 0,3.")
    hidden = frozenset(int(index) for index in text.split(",") if index)
    return Style(threshold, hidden, parse_numbers(query.get("bands", "")))


def read_threshold(query: Mapping[str, str]) -> float:
    """The threshold of a query, 0.5 without one.

    Raises:
        SettingsError: no number from 0 to 1.
    """
    try:
        threshold = float(query.get("threshold", "0.5"))
    except ValueError:
        threshold = -1.0
    if not 0 <= threshold <= 1:
        raise SettingsError("`threshold` must be a number from 0 to 1.")
    return threshold


def draw(study: str, scene: str, layer: str, position: Tile, style: Style) -> bytes:
    """A tile as PNG, empty outside the raster.

    Raises:
        RunError: there is no such study, scene, run or class.
    """
    shown = find_scene(study, scene)
    files, drawing = choose(shown, layer)
    key = (study, scene, layer, position, style, *(changed(path) for path in files))
    png = drawn.get(key)
    if png is None:
        try:
            png = drawing(position, style)
        except OutsideTile:
            png = b""
        drawn.put(key, png)
    return png


def changed(path: Path) -> int:
    """When a file was written.

    Raises:
        RunError: it is not there.
    """
    try:
        return path.stat().st_mtime_ns
    except OSError as error:
        raise RunError(
            f"{path.name} of {path.parent.name} is missing. Start the study again to write it anew."
        ) from error
