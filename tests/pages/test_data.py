"""Data: what a folder holds, what is wrong with it, and settings that can be edited and kept."""

import shutil

import pytest

from kdcore.jobs.library import Library
from kdcore.jobs.workspace import Workspace
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
    assert len(at.get("plotly_chart")) == 1  # the plan
    assert len(at.get("vega_lite_chart")) == 1  # the shares
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


def test_accepting_writes_the_settings_and_leads_to_the_form(workspace, open_page, bare_folder):
    at = look_at(open_page, bare_folder)
    assert "**4 images** · 4 labelled · 4 classes · a pixel is 0.5 m on the ground" in words_of(at)
    button(at, "Accept and train").click().run()
    assert not at.exception
    assert (bare_folder / "collection.yaml").read_text().startswith("# Proposed by")
    assert at.title[0].value == "Train"
    assert at.selectbox(key="data").value == str(bare_folder)


def test_an_edit_is_looked_at_and_can_be_taken_back(workspace, open_page, bare_folder):
    at = look_at(open_page, bare_folder)
    proposed = at.text_area[0].value
    edited = proposed.replace("name: class-1", "name: building")
    assert edited != proposed
    at.text_area[0].set_value(edited).run()
    assert "building" in at.table[0].value.index
    button(at, "Back to the proposal").click().run()
    assert at.text_area[0].value == proposed
    assert "class\\-1" in at.table[0].value.index


def test_settings_that_leak_or_are_wrong_cannot_be_accepted(workspace, open_page, bare_folder):
    at = look_at(open_page, bare_folder)
    text = at.text_area[0].value
    at.text_area[0].set_value(text.replace("test:\n  - d", "test:\n  - d\n  - a")).run()
    assert "that would leak" in words_of(at)
    assert primary_buttons(at) == ["Look again"]
    at.text_area[0].set_value(text + "\nspelling: mistake\n").run()
    assert primary_buttons(at) == ["Look again"]


def test_a_problem_that_a_split_mends_goes_away(workspace, open_page, bare_folder):
    (bare_folder / "masks/b.tif").unlink()
    at = look_at(open_page, bare_folder)
    assert "1 image has no labels of the same name (images/b.tif)" in words_of(at)
    proposed = at.text_area[0].value
    at.text_area[0].set_value(proposed.replace("  train:\n", "  train:\n  - b\n")).run()
    assert "is in the train part but has no labels" in words_of(at)
    at.text_area[0].set_value(proposed).run()
    assert "is in the train part" not in words_of(at)
    assert "1 image has no labels" in words_of(at)  # true all the same
    assert primary_buttons(at) == ["Accept and train"]


def test_one_goes_down_and_up_through_folders(workspace, open_page, tmp_path, monkeypatch):
    (tmp_path / "home/imagery/town").mkdir(parents=True)
    (tmp_path / "home/.secret").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    at = open_page("data", collection="other")
    assert at.text_input(key="folder").value == str(tmp_path / "home")
    assert at.button_group[0].options == ["imagery"]
    at.button_group[0].set_value("imagery").run()
    assert at.text_input(key="folder").value == str(tmp_path / "home/imagery")
    button(at, "Up").click().run()
    assert at.text_input(key="folder").value == str(tmp_path / "home")
    button(at, "Open").click().run()
    assert "has no images/ folder" in words_of(at) or "holds no imagery" in words_of(at)


def test_an_address_opens_nothing_that_nobody_opened(workspace, open_page, tmp_path):
    secret = tmp_path / "secret.yaml"
    secret.write_text("password: hunter2\n")
    at = open_page("data", collection="other", folder=str(secret))
    assert "hunter2" not in words_of(at)
    assert "password" not in words_of(at)
    assert "open it by hand" in words_of(at)
    assert at.text_input(key="folder").value == str(secret)
    at = open_page("data", collection=str(secret))
    assert "password" not in words_of(at)


def test_an_address_opens_what_the_workspace_knows(workspace, open_page, collection):
    Library(Workspace()).remember(collection)
    at = open_page("data", collection="other", folder=str(collection))
    assert at.metric[0].value == "4"
    assert primary_buttons(at) == ["Train on this"]
