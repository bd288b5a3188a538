"""Rasters at addresses: fetched whole from hosts that a person has named, and then read like any file.

GDAL never opens an address. A file is fetched once into a folder whose name tells its size and ETag: what has not changed is not
fetched again, and what has changed is another file. Hosts are those of `KDCORE_REMOTE_HOSTS`, without which there are none; a name
is resolved once, its addresses are checked, and the connection goes to the very address that was checked, for each redirect anew.
"""

import hashlib
import http.client
import ipaddress
import json
import os
import re
import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPResponse
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from filelock import FileLock

from kdcore.data.rasters import MAGIC
from kdcore.errors import DataError, SettingsError
from kdcore.files import replacing

VARIABLE = "KDCORE_REMOTE_HOSTS"
SCHEMES = ("https://", "http://", "s3://")
FOLDER = ".remote"  # beside the maps
REDIRECTS, REDIRECTED = 5, (301, 302, 303, 307, 308)
PATIENCE = 30.0  # seconds without a byte
PIECE = 1 << 20  # bytes
LARGEST_ITEM = 10_000_000  # bytes of a STAC item
IMAGE_TYPES = ("image/tiff", "image/vnd.stac.geotiff", "image/jp2", "image/jpeg", "image/png")

Count = Callable[[int, int], None]


def is_address(text: str) -> bool:
    """Whether a raster is named by an address and not by a path."""
    return text.startswith(SCHEMES)


def fetch(address: str, folder: Path, count: Count = lambda done, total: None) -> Path:
    """A raster from an address, as a file; the one that is there where the address still shows the same.

    Args:
        address: `https://HOST/FILE`, `s3://BUCKET/KEY` (public, or behind `AWS_ENDPOINT_URL`), or a STAC item
            `https://HOST/ITEM.json#ASSET`; the asset may be left out where it has one image only.
        folder: of fetched files.
        count: is told bytes done and bytes in all.

    Raises:
        SettingsError: the host is not among those that may be asked.
        DataError: it cannot be reached, does not say how large the file is, or shows no image.
    """
    address, asset = urldefrag(address)
    address = of_bucket(address)
    if urlsplit(address).path.lower().endswith((".json", ".geojson")):
        address = asset_of(address, asset)
    name = unquote(PurePosixPath(urlsplit(address).path).name)
    if not re.fullmatch(r"[\w.\- ]{1,200}", name) or name.startswith("."):
        raise DataError(f"{address}: ends in no file name that can be written here.")
    folder.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(address.encode()).hexdigest()[:12]
    with FileLock(folder / f"{key}.lock"), asking(address) as answer:  # who comes second finds it there
        size, version = identity(answer, address)
        file = folder / f"{key}-{size}-{hashlib.sha256(version.encode()).hexdigest()[:12]}" / name
        if not file.exists():
            receive(answer, file, size, address, count)
    return file


def of_bucket(address: str) -> str:
    """`s3://BUCKET/KEY` as the address at which a store shows it."""
    if not address.startswith("s3://"):
        return address
    parts = urlsplit(address)
    own = os.environ.get("AWS_ENDPOINT_URL", "").rstrip("/")
    return f"{own}/{parts.netloc}{parts.path}" if own else f"https://{parts.netloc}.s3.amazonaws.com{parts.path}"


def asset_of(address: str, asset: str) -> str:
    """The address of an asset of a STAC item.

    Raises:
        DataError: no item, no such asset, or several images and none is named.
    """
    with asking(address) as answer:
        try:
            text = answer.read(LARGEST_ITEM)
        except (OSError, http.client.HTTPException) as error:
            raise unreachable(address, error) from error
    try:
        assets: dict[str, dict[str, str]] = json.loads(text)["assets"]
        images = {
            name: value["href"]
            for name, value in assets.items()
            if name == asset or str(value.get("type", "")).partition(";")[0].strip().lower() in IMAGE_TYPES
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{address}: is no STAC item with assets.") from error
    if asset:
        images = {name: href for name, href in images.items() if name == asset}
    if len(images) != 1:
        known = ", ".join(sorted(map(str, assets))[:20])
        raise DataError(
            f"{address}: name one of its assets behind a #, for example {address}#{known.partition(',')[0]} ({known})."
        )
    found = urljoin(address, str(next(iter(images.values()))))
    return of_bucket(found)


def identity(answer: HTTPResponse, address: str) -> tuple[int, str]:
    """Size in bytes, and the ETag, or else the time of the last change.

    Raises:
        DataError: the server does not say so.
    """
    size = answer.getheader("Content-Length", "")
    version = answer.getheader("ETag") or answer.getheader("Last-Modified") or ""
    if not size.isdigit() or not version:
        raise DataError(
            f"{address}: its server says neither size nor version of the file. Download it and name the file."
        )
    return int(size), version


def receive(answer: HTTPResponse, file: Path, size: int, address: str, count: Count) -> None:
    """Write what a server sends, whole or not at all, as far as it is an image of a format that is read.

    Raises:
        DataError: another format, no room, or the connection broke.
    """
    file.parent.mkdir(exist_ok=True)
    free = shutil.disk_usage(file.parent).free
    if size > free:
        raise DataError(
            f"{address}: has {size / 1e9:.1f} GB, but {file.parent.parent} has room for {free / 1e9:.1f} GB."
        )
    done = 0
    with replacing(file) as temporary, temporary.open("wb") as output:
        while done < size:
            try:
                piece = answer.read(min(PIECE, size - done))
            except (OSError, http.client.HTTPException) as error:
                raise unreachable(address, error) from error
            if not piece:
                raise DataError(
                    f"{address}: the connection ended after {done:,} of {size:,} bytes. Start the command again."
                )
            if not done and not piece.startswith(tuple(MAGIC)):
                raise DataError(f"{address}: is no GeoTIFF, JPEG, PNG or JPEG 2000 image.")
            output.write(piece)
            done += len(piece)
            count(done, size)


@contextmanager
def asking(address: str) -> Iterator[HTTPResponse]:
    """What a server answers, after redirects; each of them is checked like the first address.

    Raises:
        SettingsError: a host that may not be asked.
        DataError: no answer, or not the file.
    """
    for _ in range(REDIRECTS + 1):
        connection = connect(address)
        target = urlsplit(address)._replace(scheme="", netloc="", fragment="").geturl() or "/"
        with closing(connection):
            try:
                connection.request("GET", target, headers={"User-Agent": "kdcore", "Accept-Encoding": "identity"})
                answer = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                raise unreachable(address, error) from error
            if answer.status in REDIRECTED and answer.getheader("Location"):
                address = urljoin(address, str(answer.getheader("Location")))
                continue
            if answer.status != 200:
                raise DataError(f"{address}: the server answers {answer.status} {answer.reason}.")
            yield answer
            return
    raise DataError(f"{address}: is redirected more than {REDIRECTS} times.")


def unreachable(address: str, error: Exception) -> DataError:
    """A connection that broke, in a sentence."""
    reason = getattr(error, "strerror", None) or error
    return DataError(f"{address}: cannot be fetched ({reason}). Start the command again, or download the file.")


def allowed_hosts() -> tuple[str, ...]:
    """The hosts that a person has named, in small letters."""
    return tuple(name.strip().lower() for name in os.environ.get(VARIABLE, "").split(",") if name.strip())


def connect(address: str) -> http.client.HTTPConnection:
    """A connection to the host of an address, at an address of it that was checked.

    Raises:
        SettingsError: the host was not named, or is on a private network.
        DataError: the host has no address.
    """
    parts = urlsplit(address)
    host = (parts.hostname or "").lower()
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise DataError(f"{address}: its port is no number.") from error
    if host not in allowed_hosts():
        raise SettingsError(
            f"{address}: {host or 'it'} is not among the hosts that may be asked. Name it: {VARIABLE}={host or 'HOST'} (several with commas)."
        )
    number = checked_address(host, port, address)
    if parts.scheme == "https":
        return CheckedHTTPS(number, host, port)
    if parts.scheme == "http" and ipaddress.ip_address(number).is_loopback:
        return Checked(number, host, port)
    raise SettingsError(f"{address}: only https:// and s3:// are fetched from other machines.")


def checked_address(host: str, port: int, address: str) -> str:
    """An address of a host, all of whose addresses are public, or which is this machine and was named so.

    Raises:
        SettingsError: one of them is private, link-local or otherwise not public.
        DataError: it has none.
    """
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except OSError as error:
        raise DataError(f"{address}: the host {host} is not known ({error.strerror or error}).") from error
    for number in found:
        place = ipaddress.ip_address(number.partition("%")[0])
        place = getattr(place, "ipv4_mapped", None) or place
        named = host == "localhost" or host == str(place)
        if not (place.is_global and not place.is_multicast) and not (place.is_loopback and named):
            raise SettingsError(
                f"{address}: {host} is at {number}, which is no public address; such hosts are not asked."
            )
    return min(found, key=lambda number: (":" in number, number))


class Checked(http.client.HTTPConnection):
    """A connection to an address that was checked, whatever its host's name is resolved to now."""

    def __init__(self, number: str, host: str, port: int) -> None:
        super().__init__(host, port, timeout=PATIENCE)
        self.number = number

    def connect(self) -> None:
        """See http.client."""
        self.sock = socket.create_connection((self.number, self.port), self.timeout)


class CheckedHTTPS(Checked):
    """The same, encrypted; the certificate must be the host's."""

    def connect(self) -> None:
        """See http.client."""
        super().connect()
        self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)
