"""The demo area, written once."""

import pytest

from tests.deploy.networks import demo_area


@pytest.fixture(scope="session")
def area(tmp_path_factory):
    return demo_area(tmp_path_factory.mktemp("demo") / "area")
