"""What is logged holds no secret: of an address, a header or a traceback."""

import io
import logging

import pytest

from kdcore.server.logs import hide_secrets, without_secrets

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJwcm92aWRlciI6ImRlZmF1bHQifQ.c2lnbmF0dXJl"


@pytest.fixture
def logged(monkeypatch):
    monkeypatch.setattr(logging.Handler, "format", logging.Handler.format)  # put back at the end
    hide_secrets()
    hide_secrets()  # twice changes nothing
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    log = logging.getLogger("tests.secrets")
    log.addHandler(handler)
    log.propagate = False
    yield log, stream
    log.removeHandler(handler)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET /oauth2callback?code=4%2F0Ab&state=xyz HTTP/1.1", "GET /oauth2callback?code=***&state=*** HTTP/1.1"),
        ("/auth/login?provider=abc", "/auth/login?provider=***"),
        ("/x?access_token=abc#top", "/x?access_token=***#top"),
        ("/x?ID_Token=abc&study=town", "/x?ID_Token=***&study=town"),
        ("client_secret=s3cret", "client_secret=***"),
        ("Cookie: _streamlit_user=abc; other=1", "Cookie: ***"),
        ("{'authorization': 'Bearer abc def'}", "{'authorization': '***'}"),
        (f"a token {JWT} somewhere", "a token *** somewhere"),
        ("postgresql://ann:s3cret@db.example.org/x", "postgresql://ann:***@db.example.org/x"),
        ("/map?study=town&threshold=0.5", "/map?study=town&threshold=0.5"),
        ("worker ended: code=3, state=failed", "worker ended: code=3, state=failed"),
        ("town: step 5 of 10, mean AP 0.5", "town: step 5 of 10, mean AP 0.5"),
    ],
)
def test_values_are_hidden_and_names_stay(text, shown):
    assert without_secrets(text) == shown


def test_messages_arguments_and_tracebacks_are_covered(logged):
    log, stream = logged
    log.warning("GET %s", "/oauth2callback?code=s3cret")
    try:
        raise ValueError("/x?access_token=s3cret")
    except ValueError:
        log.exception("failed")
    text = stream.getvalue()
    assert "s3cret" not in text
    assert "Traceback" in text  # the log itself may hold one
    assert text.count("***") == 3  # the message, and the traceback with the line that raised it
