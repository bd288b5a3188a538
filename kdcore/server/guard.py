"""Asked before every page, tile, file and WebSocket: may this machine, under this name, from this web page, and this person?

And what every answer says to the browser: no other site may frame it, guess its type, or learn its address.
"""

import logging
from collections.abc import Callable, Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kdcore.server.access import Access, host_name, is_among, is_local, is_same_origin

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",  # the map is a frame of the page itself
    "Content-Security-Policy": "frame-ancestors 'self'; base-uri 'self'; form-action 'self'; object-src 'none'",
    "Referrer-Policy": "strict-origin",  # the street map's servers ask for a referrer; studies and paths stay here
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
# What a browser needs before somebody has logged in: code, no contents. All else asks for the identity.
WITHOUT_LOGIN = ("/static/", "/component/", "/_stcore/bidi-components/", "/leaflet/", "/auth/")
ALSO_WITHOUT = ("/_stcore/health", "/_stcore/host-config", "/_stcore/stream")
log = logging.getLogger("kdcore.server")

Identify = Callable[[Mapping[str, str], str], bool]
"""Gets cookies and the `Host` header; tells whether they are those of somebody who may see."""


class Guard:
    """Middleware around everything else.

    Args:
        app: what is guarded.
        access: who may connect.
        identify: tells whether a request comes from somebody who has logged in; asked only where a login is needed.
        base: path under which the dashboard lies, '/name'; empty for a server of its own.
    """

    def __init__(self, app: ASGIApp, access: Access, identify: Identify | None = None, base: str = "") -> None:
        self.app = app
        self.base = base
        self.access = access
        self.identify = identify

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it in one sentence."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refusal = self.refusal(scope)
        if scope["type"] == "websocket":
            if refusal is None:
                await self.app(scope, receive, send)
            else:
                log.warning("A WebSocket was refused: %s", refusal[1])
                await receive()  # 'websocket.connect'
                await send({"type": "websocket.close", "code": 1008, "reason": ""})
            return
        started = False

        async def add_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        if refusal is not None:
            await PlainTextResponse(refusal[1], refusal[0])(scope, receive, add_headers)
            return
        try:
            await self.app(scope, receive, add_headers)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            if started:
                raise
            await PlainTextResponse("This failed; the server's log says why.", 500)(scope, receive, add_headers)

    def refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Status and sentence for a request that is not answered; None for one that is."""
        headers, access = Headers(scope=scope), self.access
        host = headers.get("host", "")
        name = host_name(host)
        here = is_here(scope)
        if not here and not access.remote:
            return 403, "This dashboard answers its own machine only."
        if name is None or not is_among(name, access.hosts):
            return 400, "This server has no such name. Its names are those in server.allowedHosts."
        if not here and is_local(name):
            return 400, "A request from another machine cannot be for localhost."
        origin = headers.get("origin")
        scheme = "https" if scope["scheme"] in ("https", "wss") else "http"
        strange = origin is not None and not is_same_origin(origin, host, scheme)
        if strange and origin not in access.origins:
            return 403, "Another web page may not use this dashboard (server.corsAllowedOrigins names those that may)."
        if origin is None and is_embedded_elsewhere(headers):
            return 403, "Another web page may not show what is served here."
        if access.login and not is_public(scope["path"], self.base) and not self.knows(headers, host):
            return 401, "Log in first."
        return None

    def knows(self, headers: Headers, host: str) -> bool:
        """Whether the cookies are those of somebody who may see."""
        cookies: dict[str, str] = {}
        for text in headers.getlist("cookie"):
            cookies |= cookie_parser(text)
        return self.identify is not None and self.identify(cookies, host)


def is_here(scope: Scope) -> bool:
    """Whether a request comes from this machine; a proxy on this machine tells from where it really comes."""
    client = scope.get("client")
    return not client or not client[0] or is_local(client[0])


def is_embedded_elsewhere(headers: Headers) -> bool:
    """Whether a page of another origin, also of another port of this machine, loads this as a part of itself."""
    site, mode = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-mode")
    return site in ("cross-site", "same-site") and mode != "navigate"


def is_public(path: str, base: str = "") -> bool:
    """Whether a path leads to code alone: a page's empty frame, scripts, the login. A page's contents come by its WebSocket."""
    if base and path.startswith(base + "/"):
        path = path.removeprefix(base)
    return path in ALSO_WITHOUT or path.startswith(WITHOUT_LOGIN) or "/" not in path[1:]
