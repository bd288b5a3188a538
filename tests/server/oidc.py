"""A small OpenID Connect provider on this machine: discovery document, keys, login without a question, and tokens (RS256, PKCE)."""

import base64
import hashlib
import json
import secrets
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, CLIENT_SECRET = "kdcore-client", "secret-of-the-client"


@dataclass
class Provider:
    """A running provider.

    Attributes:
        redirect_uri: the only address that it sends people back to.
        person: what it says of whoever comes next: `email`, `email_verified`, `name`.
        forge: signs with a key that it does not publish.
    """

    redirect_uri: str
    person: dict[str, Any] = field(default_factory=dict)
    forge: bool = False
    url: str = ""

    def __post_init__(self) -> None:
        self.key, self.other = (RSAKey.generate_key(2048, {"kid": "one", "use": "sig"}) for _ in range(2))
        self.codes: dict[str, dict[str, Any]] = {}
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.get(self)

            def do_POST(self) -> None:
                provider.token(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def get(self, request: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(request.path)
        if parts.path == "/.well-known/openid-configuration":
            send(request, 200, self.discovery())
        elif parts.path == "/jwks":
            send(request, 200, {"keys": [self.key.as_dict(private=False)]})
        elif parts.path == "/authorize":
            self.authorize(request, dict(parse_qsl(parts.query)))
        else:
            send(request, 404, {})

    def discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
        }

    def authorize(self, request: BaseHTTPRequestHandler, asked: dict[str, str]) -> None:
        if asked.get("client_id") != CLIENT or asked.get("redirect_uri") != self.redirect_uri:
            send(request, 400, {"error": "invalid_request"})
            return
        code = secrets.token_urlsafe(16)
        self.codes[code] = {"nonce": asked["nonce"], "challenge": asked["code_challenge"], "person": dict(self.person)}
        request.send_response(302)
        request.send_header("Location", f"{self.redirect_uri}?{urlencode({'code': code, 'state': asked['state']})}")
        request.send_header("Content-Length", "0")
        request.end_headers()

    def token(self, request: BaseHTTPRequestHandler) -> None:
        body = parse_qs(request.rfile.read(int(request.headers["Content-Length"])).decode())
        known = self.codes.pop(body.get("code", [""])[0], None)
        verifier = body.get("code_verifier", [""])[0]
        digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        basic = request.headers.get("Authorization", "").removeprefix("Basic ")
        pair = tuple(unquote(text) for text in base64.b64decode(basic).decode().partition(":")[::2])
        if known is None or known["challenge"] != digest or pair != (CLIENT, CLIENT_SECRET):
            send(request, 400, {"error": "invalid_grant"})
            return
        now = int(time.time())
        claims = {"iss": self.url, "aud": CLIENT, "sub": "1", "iat": now, "exp": now + 600, "nonce": known["nonce"]}
        key = self.other if self.forge else self.key
        signed = jwt.encode({"alg": "RS256", "kid": "one"}, claims | known["person"], key)
        send(
            request,
            200,
            {"access_token": "secret-access", "token_type": "Bearer", "expires_in": 600, "id_token": signed},
        )


def send(request: BaseHTTPRequestHandler, status: int, values: dict[str, Any]) -> None:
    body = json.dumps(values).encode()
    request.send_response(status)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)
