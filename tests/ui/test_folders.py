"""Folders of the server's machine."""

import pytest

from kdcore.errors import DataError
from kdcore.ui.folder_browser import first_place, home, nearest_folder, subfolders


def test_only_folders_that_are_not_hidden_are_listed(tmp_path):
    for name in ("Town", "area", ".secret"):
        (tmp_path / name).mkdir()
    (tmp_path / "file.tif").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "Town")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    assert subfolders(tmp_path) == ["area", "link", "Town"]


def test_a_folder_that_cannot_be_read_gets_a_sentence(tmp_path, monkeypatch):
    def refuse(place):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("kdcore.ui.folder_browser.os.scandir", refuse)
    with pytest.raises(DataError, match=r"cannot be read \(Permission denied\)"):
        subfolders(tmp_path)


def test_a_typed_path_leads_to_the_nearest_folder(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"")
    assert nearest_folder(str(tmp_path / "a.tif")) == tmp_path
    assert nearest_folder(str(tmp_path / "gone/deeper")) == tmp_path
    assert nearest_folder("relative") == home()


def test_one_begins_beside_what_was_used_last(tmp_path):
    used = [tmp_path / "older/town", tmp_path / "town", tmp_path / "gone/town"]
    (tmp_path / "older").mkdir()
    assert first_place(used, tmp_path) == tmp_path
    assert first_place([], tmp_path) == home()
