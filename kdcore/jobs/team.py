"""Who of a team may do what: `WORKSPACE/team.yaml`, or the file that KDCORE_TEAM names. Never imports torch.

Asked at every request and before every change, so that a line taken out of the file counts at once.
"""

import os
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from kdcore.bounded import remembered, stamp
from kdcore.errors import KdcoreError
from kdcore.jobs.workspace import Workspace
from kdcore.settings import Frozen, load

FILE = "team.yaml"
VARIABLE = "KDCORE_TEAM"


class Role(Enum):
    """What somebody may do: see everything, or also start, stop and delete."""

    VIEWER = "viewer"
    TRAINER = "trainer"


class Team(Frozen):
    """The file's contents.

    Attributes:
        trainers: e-mail addresses of those who may start, stop and delete; '@example.org' stands for all of them there.
        viewers: likewise, of those who may see.
        folders: of this machine, whose data trainers may open; without any, only what the workspace knows already.
    """

    trainers: tuple[str, ...] = ()
    viewers: tuple[str, ...] = ()
    folders: tuple[Path, ...] = ()

    def role(self, email: str) -> Role | None:
        """What somebody may do; None for a stranger."""
        for role, members in ((Role.TRAINER, self.trainers), (Role.VIEWER, self.viewers)):
            if is_member(email, members):
                return role
        return None


def is_member(email: str, members: tuple[str, ...]) -> bool:
    """Whether an address is listed, or all of its domain are."""
    address = email.strip().lower()
    name, at, domain = address.rpartition("@")
    if not name or not at or not domain:
        return False
    return any(member.strip().lower() in (address, f"@{domain}") for member in members)


def team_file(workspace: Workspace) -> Path:
    """Where the roles stand."""
    return Path(os.environ.get(VARIABLE) or workspace.path / FILE).expanduser()


def load_team(workspace: Workspace) -> Team:
    """The team as the file says it now; nobody where there is no file.

    Raises:
        SettingsError: the file is broken; then nobody gets in.
    """
    file = team_file(workspace)
    return read_team(file) if stamp(file) else Team()


@remembered(4)
def read_team(file: Path) -> Team:
    """Read what `team_file` names."""
    return load(Team, file)


def role_of(identity: Mapping[str, Any], workspace: Workspace) -> Role | None:
    """What somebody who has logged in may do.

    Args:
        identity: what the provider says of them: `email`, and `email_verified` where it says that.
        workspace: whose team it is.

    Returns:
        None for somebody without a role, with an address that the provider did not verify, or while the file is broken.
    """
    email = identity.get("email")
    if not isinstance(email, str) or identity.get("email_verified") in (False, "false"):
        return None
    try:
        return load_team(workspace).role(email)
    except KdcoreError:
        return None


def may_open(path: Path, workspace: Workspace) -> bool:
    """Whether a team's trainers may open a path: it lies in the workspace or in one of the team's folders, links followed."""
    try:
        roots = (workspace.path, *load_team(workspace).folders)
        real = path.expanduser().resolve()
        return any(real.is_relative_to(root.expanduser().resolve()) for root in roots)
    except (KdcoreError, OSError, RuntimeError):
        return False
