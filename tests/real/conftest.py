"""Real imagery, found through the environment variable KDCORE_REAL_DATA; without it these tests are skipped by name."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with banepa-buildings, dubai-landcover and format-traps."""
    folder = os.environ.get("KDCORE_REAL_DATA")
    if not folder:
        pytest.skip("KDCORE_REAL_DATA is not set")
    return Path(folder).resolve()
