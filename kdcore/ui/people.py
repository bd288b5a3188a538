"""Who looks at a page or asks one of our routes, by Streamlit's own login (OIDC), what they may do, and the log of what they did."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
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

from kdcore.errors import KdcoreError, RunError, SettingsError
from kdcore.jobs.actions import Action, machine_user, note_action, recent_actions
from kdcore.jobs.team import Role, may_open, role_of, team_file
from kdcore.jobs.workspace import Workspace
from kdcore.server.access import Access, decide_access
from kdcore.ui.formatting import plain, when

ONLY_TRAINERS = "Only a trainer of your team may do this; you may look at everything."
SHOWN = 50  # actions
SHORTEST_SECRET = 32  # letters


class Person(NamedTuple):
    """Somebody who may see: a name for the log, and a role."""

    name: str
    role: Role


class NotAllowedError(RunError):
    """A viewer tried to change something."""


def person() -> Person | None:
    """Who looks at this page; None for somebody who has to log in first, or has no role."""
    if not login_configured():
        address = st.context.ip_address
        return Person(machine_user() if address is None else f"somebody at {address}", Role.TRAINER)
    identity = st.user.to_dict()
    role = role_of(identity, Workspace()) if identity.get("is_logged_in") is True else None
    return None if role is None else Person(str(identity["email"]), role)


def locked() -> bool:
    """Whether what changes something is disabled on this page."""
    found = person()
    return found is None or found.role is not Role.TRAINER


def stop_button(
    key: str, stop: Callable[..., None], subject: Any, stopping: bool = False, help: str | None = None
) -> None:
    """The button that stops what runs, by `stop(subject)`; disabled while it is `stopping`, and for those who may only look."""
    st.button(
        "Stop",
        icon=":material/stop:",
        key=key,
        disabled=stopping or locked(),
        on_click=stop,
        args=(subject,),
        help=help,
    )


def permit(what: str, subject: str) -> None:
    """Called before anything is changed: refuse it, or write down who does it.

    Args:
        what: 'started', 'stopped', 'resumed', 'deleted' and so on.
        subject: what it is done with.

    Raises:
        NotAllowedError: this person may not.
        KdcoreError: the log cannot be written.
    """
    found = person()
    if found is None or found.role is not Role.TRAINER:
        raise NotAllowedError(ONLY_TRAINERS)
    note_action(Workspace(), found.name, what, subject)


def confined(path: Path | None) -> Path | None:
    """The path itself where everybody may open it, or a team's trainer.

    Raises:
        NotAllowedError: somebody of a team wants to open what lies outside the team's folders.
    """
    if path is None or not login_configured() or may_open(path, Workspace()):
        return path
    raise NotAllowedError(
        f"{path}: lies outside the folders that {team_file(Workspace()).name} lists under `folders:`."
    )


def permitted(what: str, subject: str) -> bool:
    """Likewise for a button's callback, where an error would have no place on the page."""
    with suppress(KdcoreError):
        permit(what, subject)
        return True
    return False


def admit() -> bool:
    """Whether the page may be shown; else what stands in its place: the way to log in, or that there is no role."""
    if person() is not None:
        return True
    st.title("kdcore", icon=":material/lock:")
    if st.user.get("is_logged_in") is not True:
        st.markdown("This dashboard belongs to a team.")
        for provider in providers():
            label = "Log in" if provider == "default" else f"Log in with {plain(provider)}"
            if st.button(label, type="primary", icon=":material/login:", key=f"log in with {provider}"):
                st.login(provider)
        return False
    name = plain(str(st.user.get("email", "you")))
    st.warning(
        f"{name} has no role here. Whoever runs this dashboard can add it to {plain(team_file(Workspace()).name)}.",
        icon=":material/person_off:",
    )
    if st.button("Log out", icon=":material/logout:"):
        st.logout()
    return False


def show_person() -> None:
    """Who has logged in, with what role, and the way out; nothing where nobody logs in."""
    found = person()
    if found is None or not login_configured():
        return
    with st.sidebar:
        st.caption(f"{plain(found.name)}, {found.role.value}")
        if st.button("Log out", icon=":material/logout:"):
            st.logout()


def show_actions() -> None:
    """What was started, stopped and deleted, and by whom."""
    actions = recent_actions(Workspace(), SHOWN)
    if not actions:
        return
    with st.expander("Who did what", icon=":material/history:"):
        st.dataframe(
            [row(action) for action in actions],
            hide_index=True,
            height="content" if len(actions) <= 10 else 400,
            alt="What was started, stopped and deleted, and by whom, the latest first",
        )


def row(action: Action) -> dict[str, str]:
    """A line of the table."""
    return {"When": when(action.time), "Who": action.who, "What": action.what, "Subject": action.subject}


def login_configured() -> bool:
    """Whether people log in: `.streamlit/secrets.toml` has a section `[auth]`."""
    return bool(get_secrets_auth_section())


def providers() -> list[str]:
    """Names of the providers that people can log in with; 'default' for the one that needs none."""
    section = get_secrets_auth_section()
    named = [name for name, value in section.items() if isinstance(value, Mapping) and "client_id" in value]
    return [*(["default"] if "client_id" in section else []), *named]


def base_path() -> str:
    """Path under which the dashboard lies on its host, '/name' as `server.baseUrlPath` says; empty where it has the host for itself."""
    name = str(st.get_option("server.baseUrlPath") or "").strip("/")
    return f"/{name}" if name else ""


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
