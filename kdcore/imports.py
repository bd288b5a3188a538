"""Imports of large libraries."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def large_imports() -> Iterator[None]:
    """Import torch and what comes with it in two thirds of the time.

    Nobody looks for garbage among the half a million objects that stay, neither meanwhile nor later nor at the end of the process.
    Where torch is there already, nothing changes.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
