"""Tells Streamlit's browser code where the server is.

Opened at /train, it otherwise asks for /train/_stcore/health first and for /_stcore/health next: two failed requests, two errors in
the console and a round trip at every reload of a page.
"""

from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SCRIPT = b'<script>window.__streamlit = { BACKEND_BASE_URL: window.location.origin + "/" }</script>'


class BackendAddress:
    """Middleware that puts one line of script into the page that Streamlit serves; everything else passes through."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

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
                    whole = b"".join(body).replace(b"<head>", b"<head>" + SCRIPT, 1)
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
