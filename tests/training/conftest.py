"""A collection, and a run on it that several modules look at."""

from pathlib import Path

import pytest

from kdcore.jobs.store import RunDirectory
from kdcore.training.run import execute
from tests.conftest import run_settings, write_collection


@pytest.fixture(scope="session")
def collection(tmp_path_factory) -> Path:
    return write_collection(tmp_path_factory.mktemp("run") / "collection")


@pytest.fixture(scope="session")
def finished(collection, tmp_path_factory) -> RunDirectory:
    """A finished run; it must not be changed."""
    run = RunDirectory.create(tmp_path_factory.mktemp("finished") / "alone-s0", run_settings(collection))
    execute(run)
    return run
