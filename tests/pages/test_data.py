"""Data: what a folder holds, what is wrong with it, and settings that can be edited and kept."""

import shutil

import pytest

from kdcore.runs.library import Library
from kdcore.runs.workspace import Workspace
from tests.conftest import write_collection
from tests.pages.conftest import primary_buttons, words_of


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """A small collection of four scenes and four classes."""
    return write_collection(tmp_path_factory.mktemp("data") / "my town", classes=4).parent


@pytest.fixture
def bare_folder(collection, tmp_path):
    """The same files without settings."""
    folder = tmp_path / "bare"
    shutil.copytree(collection, folder, ignore=shutil.ignore_patterns("collection.yaml"))
    return folder


def look_at(open_page, path):
    """Type a path into the field of the page, as a person does."""
    at = open_page("data", collection="other")
    at.text_input(key="folder").set_value(str(path)).run()
    assert not at.exception, at.exception[0].value
    return at


def button(at, label):
    return next(button for button in at.button if button.label == label)


def test_a_collection_is_described_and_can_be_trained_on(workspace, open_page, collection):
    at = look_at(open_page, collection)
    facts = {metric.label: (metric.value, metric.delta) for metric in at.metric}
    assert facts["Scenes"] == ("4", "4 images")
    assert facts["Imagery"] == ("0.1 MPx", "1.6 ha of ground")  # 4 x 128 x 128 px of 0.5 m
    assert facts["A pixel is"][0] == "0.5 m"
    assert facts["Bands"] == ("3", "uint8")
    assert at.success[0].value == "No problems found."
    shares = at.table[0].value
    assert list(shares.columns) == ["Train", "Validation", "Test"]
    total = sum(float(share.removesuffix("\u00a0%")) for share in shares["Train"])
    assert total == pytest.approx(100, abs=0.03)
    assert primary_buttons(at) == ["Train on this"]


def test_training_on_it_leads_to_the_form_with_it_chosen(workspace, open_page, collection):
    at = look_at(open_page, collection)
    button(at, "Train on this").click().run()
    assert not at.exception
    assert at.title[0].value == "Train"
    assert at.query_params["data"] == str(collection)
    assert at.selectbox(key="data").value == str(collection)


def test_the_split_is_drawn(workspace, open_page, collection):
    at = look_at(open_page, collection)
    assert len(at.get("vega_lite_chart")) == 2  # the plan, the shares
    assert "Split by whole scenes" in words_of(at)


def test_a_folder_without_settings_gets_a_proposal_to_edit_and_keep(workspace, open_page, bare_folder):
    at = look_at(open_page, bare_folder)
    assert primary_buttons(at) == ["Accept and train"]
    text = at.text_area[0].value
    assert "Proposed by" in text
    at.text_area[0].set_value(text.replace("name: bare", "name: my-town"))
    button(at, "Check and save").click().run()
    assert not at.exception
    saved = workspace / ".collections/my-town.yaml"
    assert at.query_params["collection"] == str(saved)
    assert Library(Workspace()).known()[0].name == "my-town"
    assert at.metric[0].value == "4"  # looked at through the saved settings
    assert primary_buttons(at) == ["Train on this"]


def test_settings_that_are_wrong_are_not_kept(workspace, open_page, bare_folder):
    at = look_at(open_page, bare_folder)
    at.text_area[0].set_value(at.text_area[0].value + "\nspelling: mistake\n")
    button(at, "Check and save").click().run()
    assert "spelling: is not a setting" in words_of(at)
    assert not (workspace / ".collections").exists()


def test_a_problem_is_shown_with_its_mend(workspace, open_page, bare_folder):
    (bare_folder / "masks/c.tif").write_bytes(b"no raster")
    at = look_at(open_page, bare_folder)
    assert any("c.tif" in error.value.replace("\\", "") for error in at.error)
    assert not at.success
    assert at.metric[0].value == "4"  # the rest is shown all the same
    assert not at.status  # it is not still looking


def test_a_folder_that_is_not_there_gets_a_sentence(workspace, open_page):
    assert "there is no such file or folder" in words_of(look_at(open_page, "/no/such/folder"))


@pytest.mark.parametrize("path", ["relative/folder", "http://example.com/a.tif", "/vsicurl/http://example.com/a.tif"])
def test_only_full_paths_on_this_machine_are_opened(path, workspace, open_page):
    at = look_at(open_page, path)
    assert len(at.error) == 1
    assert not at.metric


def test_without_a_path_the_layout_is_explained(workspace, open_page):
    assert "images/" in words_of(open_page("data", collection="other"))


def test_the_demo_area_is_made_only_when_asked_for(workspace, open_page):
    at = open_page("data")
    assert primary_buttons(at) == ["Make the demo area"]
    assert not (workspace / ".areas/demo-0").exists()
