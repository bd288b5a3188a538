"""Collections that a workspace knows."""

import pytest

from kdcore.errors import SettingsError
from kdcore.jobs.library import Library
from kdcore.jobs.workspace import Workspace
from kdcore.ownership import NotOursError
from kdcore.settings import CollectionSettings, load

TEXT = """name: my-town
classes: [{name: land}, {name: building}]
split: {train: [a], validation: [b], test: [c]}
"""


@pytest.fixture
def library(tmp_path):
    return Library(Workspace(tmp_path / "studies"))


def test_saved_settings_name_the_folder_of_their_files(library, tmp_path):
    file = library.save(TEXT, tmp_path)
    assert file.name == "my-town.yaml"
    assert load(CollectionSettings, file).root == tmp_path.resolve()
    assert [entry.name for entry in library.known()] == ["my-town"]


def test_a_root_that_is_named_is_kept(library, tmp_path):
    file = library.save(f"root: {tmp_path}/elsewhere\n{TEXT}", tmp_path)
    assert load(CollectionSettings, file).root == tmp_path / "elsewhere"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name: [", "no valid YAML"),
        ("just words", "key: value"),
        (TEXT + "colour: red\n", "colour: is not a setting"),
        (TEXT.replace("my-town", "../../etc/town"), "no usable name"),
        ("root: images\n" + TEXT, "full path"),
    ],
)
def test_wrong_settings_are_refused_and_nothing_is_written(text, problem, library, tmp_path):
    with pytest.raises(SettingsError, match=problem):
        library.save(text, tmp_path)
    assert not library.folder.exists()


def test_a_folder_that_was_looked_at_is_remembered_once(library, tmp_path):
    folder = tmp_path / "town"
    folder.mkdir()
    (folder / "collection.yaml").write_text(TEXT)
    library.remember(folder)
    library.remember(folder)
    assert [(entry.name, entry.path) for entry in library.known()] == [("my-town", folder)]
    (folder / "collection.yaml").unlink()
    assert library.known() == []  # gone for now


def test_a_broken_list_is_written_anew(library, tmp_path):
    library.folder.mkdir(parents=True)
    library.list_file.write_text("{")
    assert library.known() == []
    library.remember(tmp_path)
    assert library.remembered() == [str(tmp_path)]


def test_what_was_looked_at_last_comes_last(library, tmp_path):
    for name in ("a", "b", "a"):
        library.remember(tmp_path / name)
    assert library.remembered() == [str(tmp_path / "b"), str(tmp_path / "a")]


def test_another_folder_s_settings_of_the_same_name_stay(library, tmp_path):
    first, second = library.save(TEXT, tmp_path / "one"), library.save(TEXT, tmp_path / "two")
    assert (first.name, second.name) == ("my-town.yaml", "my-town-2.yaml")
    assert load(CollectionSettings, first).root == tmp_path / "one"
    assert library.save(TEXT, tmp_path / "two") == second  # the same again


def test_accepted_settings_go_into_their_folder(library, tmp_path):
    folder = tmp_path / "town"
    folder.mkdir()
    assert library.accept(TEXT, folder) == folder
    assert (folder / "collection.yaml").read_text() == TEXT
    assert [entry.path for entry in library.known()] == [folder]


def test_a_person_s_file_is_never_replaced(library, tmp_path):
    (tmp_path / "collection.yaml").write_text("mine")
    with pytest.raises(NotOursError, match="exists already"):
        library.accept(TEXT, tmp_path)
    assert (tmp_path / "collection.yaml").read_text() == "mine"


def test_of_a_folder_that_cannot_be_written_to_they_go_into_the_workspace(library, tmp_path, monkeypatch):
    monkeypatch.setattr("kdcore.jobs.library.os.access", lambda path, mode: False)
    file = library.accept(TEXT, tmp_path)
    assert file == library.folder / "my-town.yaml"
    assert load(CollectionSettings, file).root == tmp_path
    assert not (tmp_path / "collection.yaml").exists()
