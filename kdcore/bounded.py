"""A bounded memory of what was made before, shared by threads."""

from collections.abc import Callable, Hashable
from contextlib import suppress
from threading import Lock
from typing import Generic, TypeVar

from cachetools import LRUCache

Item = TypeVar("Item")


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
