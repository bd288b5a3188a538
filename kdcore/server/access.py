"""Who may connect: this machine alone, unless people log in or an open dashboard was asked for in so many words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

from kdcore.errors import SettingsError

OPEN = "KDCORE_OPEN"  # environment variable; 1: other machines may connect and nobody logs in
LOOPBACK = ("127.0.0.1", "localhost", "::1")
HOW = (
    f"Set up a login (docs/security.md), or set the environment variable {OPEN}=1 "
    "if everybody who reaches this machine may start and delete trainings."
)


@dataclass(frozen=True)
class Access:
    """Who may connect.

    Attributes:
        hosts: names in a `Host` header that are this server's; '*.example.org' stands for all below, '*' for all.
        origins: web pages elsewhere that may use it ('https://example.org').
        remote: whether other machines may.
        login: whether nobody sees anything before a login.
    """

    hosts: tuple[str, ...] = LOOPBACK
    origins: tuple[str, ...] = ()
    remote: bool = False
    login: bool = False


def decide_access(
    address: str | None, hosts: Sequence[str], origins: Sequence[str], login: bool, environment: Mapping[str, str]
) -> Access:
    """Who may connect to a server that is about to listen.

    Args:
        address: that it listens on; None for all of this machine's.
        hosts: its names; without any, those of this machine alone.
        origins: other web pages that may use it.
        login: whether people log in.
        environment: variables of this process.

    Raises:
        SettingsError: other machines could connect, and neither a login nor an open dashboard was asked for.
    """
    remote = login or environment.get(OPEN) == "1"
    strange = [host for host in hosts if not is_local(host)]
    if not remote and not is_local(address):
        raise SettingsError(
            f"server.address is {address or 'not set, which means all addresses of this machine'}: whoever reaches it could "
            f"start and delete trainings and read files. Use --server.address=127.0.0.1. {HOW}"
        )
    if not remote and strange:
        raise SettingsError(f"server.allowedHosts names {strange[0]!r}, through which other machines could come. {HOW}")
    return Access(tuple(hosts) or LOOPBACK, tuple(origins), remote, login)


def is_local(address: str | None) -> bool:
    """Whether an address or a host's name stands for this machine alone, whatever a name server says."""
    if address is None:
        return False
    name = address.strip().strip("[]").lower().rstrip(".")
    if name.startswith("unix://") or name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        number = ip_address(name)
    except ValueError:
        return False
    mapped = number.ipv4_mapped if isinstance(number, IPv6Address) else None
    return (mapped or number).is_loopback


def host_name(header: str) -> str | None:
    """The name in a `Host` header, lower case and without the port; None for one that no browser sends."""
    try:
        parts = urlsplit(f"//{header}")
        _ = parts.port  # raises where it is no number
    except ValueError:
        return None
    strange = parts.username is not None or parts.password is not None or parts.path or parts.query or parts.fragment
    return None if strange or not parts.hostname else parts.hostname.lower().rstrip(".")


def is_among(name: str, patterns: Sequence[str]) -> bool:
    """Whether a host's name is one of those, or below one with '*.' in front."""
    for pattern in (text.strip().strip("[]").lower().rstrip(".") for text in patterns):
        if pattern in ("*", name) or (pattern.startswith("*.") and name.endswith(pattern[1:])):
            return True
    return False


def is_same_origin(origin: str, host: str, scheme: str) -> bool:
    """Whether a page's origin is this server under this `Host` header, the port included.

    Args:
        origin: for example 'http://localhost:8501', or 'null'.
        host: as the browser sent it.
        scheme: 'http' or 'https', for the port that is left out.
    """
    try:
        page, own = urlsplit(origin), urlsplit(f"//{host}")
        ports = [parts.port or (443 if kind == "https" else 80) for parts, kind in ((page, page.scheme), (own, scheme))]
    except ValueError:
        return False
    if page.scheme not in ("http", "https") or not page.hostname:
        return False
    behind_proxy = page.scheme == "https" and own.port is None  # which takes TLS off: this server sees http
    return page.hostname == own.hostname and (ports[0] == ports[1] or (behind_proxy and page.port in (None, 443)))
