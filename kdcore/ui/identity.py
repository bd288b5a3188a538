"""Who is asking: Streamlit's own login (OIDC), for its pages and for our routes alike."""

import json
import os
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import streamlit as st
from streamlit.auth_util import (
    get_cookie_with_chunks,
    get_secrets_auth_section,
    get_signing_secret,
    is_authlib_installed,
)
from streamlit.web.server.starlette.starlette_app_utils import decode_signed_value
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME

from kdcore.errors import KdcoreError, SettingsError
from kdcore.jobs.team import role_of
from kdcore.jobs.workspace import Workspace
from kdcore.server.access import Access, decide_access

SHORTEST_SECRET = 32  # letters


def login_configured() -> bool:
    """Whether people log in: `.streamlit/secrets.toml` has a section `[auth]`."""
    return bool(get_secrets_auth_section())


def providers() -> list[str]:
    """Names of the providers that people can log in with; 'default' for the one that needs none."""
    section = get_secrets_auth_section()
    named = [name for name, value in section.items() if isinstance(value, Mapping) and "client_id" in value]
    return [*(["default"] if "client_id" in section else []), *named]


def access_or_exit() -> Access:
    """Who may connect, from Streamlit's options; a server that would be open to others by mistake does not start."""
    try:
        login = login_configured()
        if login:
            check_login()
        return decide_access(
            st.get_option("server.address"),
            st.get_option("server.allowedHosts") or (),
            st.get_option("server.corsAllowedOrigins") or (),
            login,
            os.environ,
        )
    except KdcoreError as error:
        sys.exit(f"Error: {error}")


def check_login() -> None:
    """Refuse a login that would not protect.

    Raises:
        SettingsError: a library or a setting is missing.
    """
    if not is_authlib_installed():
        raise SettingsError("A login is set up, and Authlib is missing. Install it with: pip install 'kdcore[team]'")
    if len(str(get_secrets_auth_section().get("cookie_secret", ""))) < SHORTEST_SECRET:
        raise SettingsError(
            f".streamlit/secrets.toml: [auth] cookie_secret needs {SHORTEST_SECRET} random letters or more. "
            'Make one with: python -c "import secrets; print(secrets.token_hex(32))"'
        )
    if not st.get_option("server.enableXsrfProtection"):
        raise SettingsError("server.enableXsrfProtection is off, and a login needs it. Leave the option away.")


def may_see(cookies: Mapping[str, str], host: str) -> bool:
    """Whether a request's cookies are those of a member of the team who has logged in under this name."""
    identity = identity_in(cookies, host)
    return identity is not None and role_of(identity, Workspace()) is not None


def identity_in(cookies: Mapping[str, str], host: str) -> dict[str, Any] | None:
    """What the provider said of the person, from the cookie that Streamlit signed at the login; None without a valid one."""

    def signed(name: str) -> bytes | None:
        text = cookies.get(name)
        if text is None:
            return None
        return decode_signed_value(get_signing_secret(), name, text.encode("latin-1", errors="replace"))

    try:
        values: Any = json.loads(get_cookie_with_chunks(signed, USER_COOKIE_NAME) or b"null")
        if not isinstance(values, dict) or values.get("is_logged_in") is not True:
            return None
        return values if urlsplit(str(values.get("origin"))).netloc == host else None
    except ValueError:
        return None
