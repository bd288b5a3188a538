import os
import signal
import subprocess
import sys
import threading

import pytest

from kdcore.errors import KdcoreError
from kdcore.jobs.locks import TakenError, held, holding
from tests.jobs.studies import wait_for


def test_a_lock_is_held_during_the_block_only(tmp_path):
    file = tmp_path / "alive.lock"
    assert not held(file)
    with holding(file, "taken"):
        assert held(file)
    assert not held(file)


def test_looking_writes_nothing(tmp_path):
    assert not held(tmp_path / "alive.lock")
    assert list(tmp_path.iterdir()) == []


def test_a_second_holder_is_told_in_our_words(tmp_path, monkeypatch):
    monkeypatch.setattr("kdcore.jobs.locks.PATIENCE", 0.05)
    with (
        holding(tmp_path / "alive.lock", "somebody works on it"),
        pytest.raises(TakenError, match="somebody works on it"),
        holding(tmp_path / "alive.lock", "somebody works on it"),
    ):
        pass


def test_a_killed_process_holds_nothing(tmp_path):
    file = tmp_path / "alive.lock"
    code = f"from kdcore.jobs.locks import *; import time\nwith holding(Path({str(file)!r}), ''): time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        wait_for(lambda: held(file))
    finally:
        os.kill(process.pid, signal.SIGKILL)
    # The process is a zombie until it is waited for: its number still answers, its lock does not.
    wait_for(lambda: not held(file))
    os.kill(process.pid, 0)
    process.wait()


def test_onlookers_never_take_each_other_for_a_holder(tmp_path):
    file = tmp_path / "alive.lock"
    file.touch()
    seen = []

    def look():
        seen.extend(held(file) for _ in range(2000))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(200):  # and a holder gets through
        with holding(file, "taken"):
            pass
    for thread in threads:
        thread.join()
    assert len(seen) == 8000
    seen.clear()
    for thread in (threads := [threading.Thread(target=look) for _ in range(4)]):
        thread.start()
    for thread in threads:
        thread.join()
    assert not any(seen)


def test_a_folder_that_is_a_file_is_a_sentence(tmp_path):
    (tmp_path / "study").touch()
    with pytest.raises(KdcoreError, match="could not be written"), holding(tmp_path / "study/alive.lock", "taken"):
        pass
