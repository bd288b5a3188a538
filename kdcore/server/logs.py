"""Logs without secrets: what stands in an address as a code, a token or a state never reaches a log."""

import logging
import re

HIDDEN = "***"
VALUE = r"(=|%3D)([^&;\s'\"#)}]+)"
SECRETS = re.compile(
    rf"(?i)(?<![\w-])([\w-]{{0,60}}?(?:token|secret|password|passwd|api_?key|signature|credential|cookie)[\w-]{{0,40}}){VALUE}"
)
IN_ADDRESS = re.compile(rf"(?i)([?&](?:code|state|nonce|sig|session_id|provider)){VALUE}")  # common words elsewhere
IN_HEADER = re.compile(r"(?i)\b(authorization|cookie|set-cookie)(['\"]?\s*[:=,]\s*['\"]?)([^\r\n'\"]+)")
LOGGED_IN = re.compile(r"(?<![\w-])eyJ[\w-]{8,400}\.[\w-]+\.?[\w-]*")  # a JSON Web Token, wherever it stands
IN_PLACE = re.compile(r"(://[^\s:/@]+:)[^\s/@]+(@)")  # a password before a host


def without_secrets(text: str) -> str:
    """A text with every secret's value replaced by asterisks; the names stay."""
    for pattern in (SECRETS, IN_ADDRESS):
        text = pattern.sub(rf"\1\2{HIDDEN}", text)
    text = IN_HEADER.sub(rf"\1\2{HIDDEN}", text)
    text = IN_PLACE.sub(rf"\1{HIDDEN}\2", text)
    return LOGGED_IN.sub(HIDDEN, text)


def hide_secrets() -> None:
    """Hide secrets in all that this process logs from now on, also where a handler comes later."""
    wrapped = logging.Handler.format
    if getattr(wrapped, "hides_secrets", False):
        return

    def format_hidden(self: logging.Handler, record: logging.LogRecord) -> str:
        return without_secrets(wrapped(self, record))

    format_hidden.hides_secrets = True  # type: ignore[attr-defined]
    logging.Handler.format = format_hidden  # type: ignore[method-assign]
