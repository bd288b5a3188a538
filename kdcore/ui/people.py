"""Who looks at a page, what they may do, and the log of what they did."""

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import streamlit as st

from kdcore.errors import KdcoreError, RunError
from kdcore.jobs.actions import Action, machine_user, note_action, recent_actions
from kdcore.jobs.team import Role, may_open, role_of, team_file
from kdcore.jobs.workspace import Workspace
from kdcore.ui.formatting import plain, when
from kdcore.ui.identity import login_configured, providers

ONLY_TRAINERS = "Only a trainer of your team may do this; you may look at everything."
SHOWN = 50  # actions


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
