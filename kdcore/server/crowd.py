"""How many requests may wait for the few that are drawn at once: who asks for more is told to come back."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

EACH = 64  # from one address; a browser opens six connections at a time
ALL = 256


class CrowdedError(Exception):
    """Too many wait already."""


class Crowd:
    """Counts requests that are being answered; used by the server's one thread.

    Args:
        each: most from one address.
        all: most together.
    """

    def __init__(self, each: int = EACH, all: int = ALL) -> None:
        self.each, self.all = each, all
        self.waiting: Counter[str] = Counter()

    @contextmanager
    def joined(self, address: str) -> Iterator[None]:
        """Be one of them for the time of the block.

        Raises:
            CrowdedError: there are too many.
        """
        if self.waiting[address] >= self.each or self.waiting.total() >= self.all:
            self.forget(address)
            raise CrowdedError
        self.waiting[address] += 1
        try:
            yield
        finally:
            self.waiting[address] -= 1
            self.forget(address)

    def forget(self, address: str) -> None:
        """Keep no address of which nothing waits."""
        if self.waiting[address] <= 0:
            del self.waiting[address]
