"""Files appear whole or not at all, and what a killed process left is told from what a living one writes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from kdcore.errors import KdcoreError
from kdcore.files import HALF_WRITTEN, LOCK, remove_half_written, replacing, unfinished
from kdcore.ownership import RECORD, is_ours, write_own_text

ROOT = Path(__file__).parents[1]


def killed_in_the_middle(file: Path) -> None:
    """A process that writes a file and is killed before it has its name."""
    code = f"""
import os, signal
from pathlib import Path
from kdcore.files import replacing
with replacing(Path({str(file)!r})) as temporary:
    temporary.write_text("half")
    temporary.with_name("a side file").write_text("of a library")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == -signal.SIGKILL


def hidden(folder: Path) -> list[Path]:
    return sorted(folder.rglob(f"{HALF_WRITTEN}*"))


def test_a_file_is_replaced_in_one_step(tmp_path):
    file = tmp_path / "deep/report.json"
    with replacing(file) as temporary:
        assert (temporary.name, temporary.parent.parent) == ("report.json", file.parent)
        temporary.write_text("new")
        assert not file.exists()
    assert file.read_text() == "new"
    assert oct(file.stat().st_mode & 0o777) == "0o644"
    assert hidden(tmp_path) == []


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("old")

    def write() -> None:
        with replacing(file) as temporary:
            temporary.write_text("new")
            temporary.with_name("a.txt.ovr.tmp").write_text("of a library")
            raise OSError(28, "No space left on device")

    with pytest.raises(KdcoreError, match=r"a\.txt: the disk is full"):
        write()
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert file.read_text() == "old"


def test_what_a_killed_process_left_is_removed_with_its_side_files(tmp_path):
    killed_in_the_middle(tmp_path / "runs/a/report.json")
    (left,) = hidden(tmp_path)
    assert {path.name for path in left.iterdir()} >= {"report.json", "a side file"}
    remove_half_written(tmp_path)
    assert hidden(tmp_path) == []
    assert (tmp_path / "runs/a").is_dir()


def test_what_a_living_one_writes_stays(tmp_path):
    with replacing(tmp_path / "a.txt") as temporary, unfinished(tmp_path / "b") as folder:
        temporary.write_text("mine")
        (folder / "part.tif").write_text("mine")
        remove_half_written(tmp_path)
        assert temporary.read_text() == "mine"
        assert (folder / "part.tif").exists()
        assert (folder / LOCK).exists()
    assert (tmp_path / "a.txt").read_text() == "mine"
    assert hidden(tmp_path) == []


def test_of_an_earlier_version_plain_files_are_removed(tmp_path):
    (tmp_path / f"{HALF_WRITTEN}status-abc123.json").write_text("half")
    (tmp_path / ".kdcore-other").write_text("not of this kind")
    remove_half_written(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".kdcore-other"]


def test_a_result_in_a_persons_folder_removes_what_an_earlier_one_left_there_and_not_below(tmp_path):
    killed_in_the_middle(tmp_path / "report.html")
    killed_in_the_middle(tmp_path / "of somebody/else.html")
    write_own_text(tmp_path / "report.html", "whole")
    assert [path.parent.name for path in hidden(tmp_path)] == ["of somebody"]


def test_a_folder_that_is_taken_for_a_dead_ones_is_made_anew(tmp_path, monkeypatch):
    """In the moment between making it and taking its lock it looks as if its process were dead."""
    made = []
    mkdtemp = __import__("tempfile").mkdtemp

    def make(**options):
        made.append(mkdtemp(**options))
        if len(made) == 1:
            remove_half_written(tmp_path)
            assert not os.path.exists(made[0])
        return made[-1]

    monkeypatch.setattr("kdcore.files.tempfile.mkdtemp", make)
    with unfinished(tmp_path) as folder:
        assert (folder / LOCK).exists()
        remove_half_written(tmp_path)
        assert folder.exists()
    assert hidden(tmp_path) == []


def test_a_half_line_in_the_record_takes_no_other_line_with_it(tmp_path):
    write_own_text(tmp_path / "a.txt", "mine")
    with (tmp_path / RECORD).open("a") as record:
        record.write("0123456789abcdef")  # there the disk was full
    write_own_text(tmp_path / "b.txt", "mine, too")
    assert is_ours(tmp_path / "a.txt")
    assert is_ours(tmp_path / "b.txt")


def test_what_is_removed_cannot_be_taken_by_its_owner_meanwhile(tmp_path, monkeypatch):
    """Between making a hidden folder and taking its lock another process may find it and hold it for a killed one's."""
    half = tmp_path / f"{HALF_WRITTEN}1"
    half.mkdir()
    (half / LOCK).touch()
    tried = []

    def rmtree(folder, **_):
        with pytest.raises(Timeout):
            FileLock(folder / LOCK).acquire(timeout=0)
        tried.append(folder)

    monkeypatch.setattr("kdcore.files.shutil.rmtree", rmtree)
    remove_half_written(tmp_path)
    assert tried == [half]
