"""Bounded memories of what was made before, shared by threads."""

import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import lru_cache, update_wrapper, wraps
from pathlib import Path
from threading import Lock
from typing import Concatenate, Generic, ParamSpec, TypeVar

from cachetools import LRUCache

SETTLED = 2_000_000_000  # nanoseconds

Item = TypeVar("Item")
Arguments = ParamSpec("Arguments")
OfFile = Callable[Concatenate[Path, Arguments], Item]


class BoundedCache(Generic[Item]):
    """Keeps items until they are too large together; the least recently used is forgotten first.

    Args:
        limit: bytes of all items.
        size: bytes of one.
    """

    def __init__(self, limit: int, size: Callable[[Item], int]) -> None:
        self._kept: LRUCache[Hashable, Item] = LRUCache(limit, getsizeof=size)
        self._lock = Lock()

    def get(self, key: Hashable) -> Item | None:
        """What was kept, or None."""
        with self._lock:
            found: Item | None = self._kept.get(key)
        return found

    def put(self, key: Hashable, item: Item) -> None:
        """Keep an item, unless it is larger than all that may be kept."""
        with self._lock, suppress(ValueError):
            self._kept[key] = item

    @property
    def bytes(self) -> int:
        """Of all items that are kept."""
        return int(self._kept.currsize)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()


def stamp(file: Path) -> tuple[int, ...]:
    """What changes with a file's contents; empty where there is none.

    A file that has just changed may change once more within one tick of the clock: its stamp is another one each time.
    """
    try:
        found = file.stat()
    except OSError:
        return ()
    now = time.time_ns()
    fresh = now - found.st_mtime_ns < SETTLED  # also where the clock was set back
    return (found.st_mtime_ns, found.st_ino, found.st_size, *((now,) if fresh else ()))


def remembered(most: int) -> Callable[[OfFile[Arguments, Item]], OfFile[Arguments, Item]]:
    """Decorate what is read of a file or folder, its first argument: it is read again only when that has changed.

    Args:
        most: results that are kept; the least recently used is forgotten first.
    """

    def decorate(read: OfFile[Arguments, Item]) -> OfFile[Arguments, Item]:
        @lru_cache(maxsize=most)
        @wraps(read)
        def kept(state: tuple[int, ...], file: Path, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Item:
            return read(file, *args, **kwargs)

        def ask(file: Path, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Item:
            return kept(stamp(file), file, *args, **kwargs)  # type: ignore[arg-type]  # whatever is asked for can be hashed

        update_wrapper(ask, kept)
        return ask

    return decorate
