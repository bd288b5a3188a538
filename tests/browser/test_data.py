"""A folder of one's own in a browser: opened, its split drawn over the imagery, accepted."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from kdcore.settings import CollectionSettings, load
from tests.browser.conftest import READY, Dashboard
from tests.conftest import write_collection


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder with images and masks, without settings."""
    folder = write_collection(tmp_path / "whole").parent
    bare = tmp_path / "imagery/my town"
    shutil.copytree(folder, bare, ignore=shutil.ignore_patterns("collection.yaml"))
    return bare


def open_it(page: Page) -> None:
    """Press Open (the arrow of a select box is called so, too) and wait for the look."""
    page.get_by_test_id("stBaseButton-primary").filter(has_text="Open").click()
    expect(page.get_by_role("button", name="Accept and train")).to_be_visible()


def test_a_folder_is_opened_and_accepted(visit: Callable[[str], Page], dashboard: Dashboard, bare: Path) -> None:
    page = visit(f"/data?collection=other&folder={bare}")
    open_it(page)
    expect(page.get_by_test_id("stVegaLiteChart").first).to_be_visible()
    expect(page.get_by_test_id("stDataFrame").first).to_be_visible()  # its cells are a canvas: tests/pages edits them
    page.get_by_role("button", name="Accept and train").click()
    page.wait_for_url("**/train**")
    assert load(CollectionSettings, bare / "collection.yaml").class_names[0] == "background"


def test_an_address_alone_opens_no_folder(visit: Callable[[str], Page], bare: Path) -> None:
    page = visit(f"/data?collection=other&folder={bare}")
    expect(page.get_by_text("open it by hand")).to_be_visible()
    assert page.get_by_test_id("stVegaLiteChart").count() == 0
    open_it(page)
    page.wait_for_selector(READY)
