"""What the dashboard serves besides its pages, and what its pages are served with."""

import json
from collections.abc import Awaitable, Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from anyio import to_thread
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from xstatic.pkg import leaflet

OWN = Path(__file__).parent / "static"


def map_routes(base: str = "") -> list[BaseRoute]:
    """Tiles, points, Leaflet's files and the map's own script: everything that a map needs, so that it works offline.

    Args:
        base: path under which the dashboard lies, '/name'; empty for a server of its own.
    """
    return [
        Route(base + "/tiles/{study}/{scene}/{layer}/{z}/{x}/{y}.png", later("kdcore.server.tiles", "tile")),
        Route(base + "/point/{study}/{scene}", later("kdcore.server.point", "point")),
        Mount(base + "/leaflet/kdcore", StaticFiles(directory=OWN)),
        Mount(base + "/leaflet", StaticFiles(directory=leaflet.BASE_DIR)),
    ]


def later(module: str, name: str) -> Callable[[Request], Awaitable[Response]]:
    """What answers a request, imported when the first one comes: a first page has its numbers before anything reads rasters."""

    async def answer(request: Request) -> Response:
        found = await to_thread.run_sync(import_module, module)
        response: Response = await getattr(found, name)(request)
        return response

    return answer


class BackendAddress:
    """Middleware that tells Streamlit's browser code where the server is, by one line of script; everything else passes through.

    Opened at /train, it otherwise asks for /train/_stcore/health first and for /_stcore/health next: two failed requests, two errors
    in the console and a round trip at every reload of a page.

    Args:
        app: what serves the pages.
        base: path under which the dashboard lies, '/name'; empty for a server of its own.
    """

    def __init__(self, app: ASGIApp, base: str = "") -> None:
        self.app = app
        self.head = f"<head><script>window.__streamlit = {{ BACKEND_BASE_URL: window.location.origin + {json.dumps(base + '/')} }}</script>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and look at the answer if it is a page."""
        if scope["type"] != "http" or "." in scope["path"].rpartition("/")[2] or "/_stcore/" in scope["path"]:
            await self.app(scope, receive, send)
            return
        # Streamlit compresses what it sends; a page of 8 kB travels as it is, so that it can be read here.
        headers = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
        scope = {**scope, "headers": headers}
        held: Message | None = None
        body: list[bytes] = []

        async def insert(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start" and is_page(message):
                held = message
            elif held is not None and message["type"] == "http.response.body":
                body.append(message.get("body", b""))
                if not message.get("more_body"):
                    whole = b"".join(body).replace(b"<head>", self.head.encode(), 1)
                    MutableHeaders(scope=held)["content-length"] = str(len(whole))
                    await send(held)
                    await send({"type": "http.response.body", "body": whole})
            else:
                await send(message)

        await self.app(scope, receive, insert)


def is_page(message: dict[str, Any] | Message) -> bool:
    """Whether an answer is an uncompressed HTML page."""
    headers = Headers(raw=message["headers"])
    return (
        message["status"] == 200
        and headers.get("content-type", "").startswith("text/html")
        and "content-encoding" not in headers
    )
