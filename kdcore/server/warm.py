"""Import what the first page needs while nobody waits for it."""

import importlib
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

# Not streamlit_folium: a component that is imported outside a page is not served.
NEEDED = ("folium", "kdcore.views.maps", "kdcore.inference.layer_index")


@asynccontextmanager
async def warm(app: Any) -> AsyncIterator[None]:
    """Lifespan of the app: imports go on in a thread of their own, and the server answers meanwhile."""
    threading.Thread(target=import_needed, name="warm", daemon=True).start()
    yield


def import_needed() -> None:
    """Import the modules; one that is missing is missed again, and told, where it is used."""
    for name in NEEDED:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
