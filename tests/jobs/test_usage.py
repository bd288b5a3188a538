"""What a job's processes take: of this very process, and of machines that are made up."""

import os
import stat
import subprocess
import sys

import pytest

from kdcore.jobs.locks import holding
from kdcore.jobs.usage import Gpu, below, gpus, holder_of, measure

linux = pytest.mark.skipif(not os.path.exists("/proc/locks"), reason="the system does not tell who holds a lock")


@linux
def test_the_holder_of_a_lock_is_found(tmp_path):
    lock = tmp_path / "alive.lock"
    assert holder_of(lock) is None
    with holding(lock, "taken"):
        assert holder_of(lock) == os.getpid()
        found = measure(lock)
        assert found.memory > 10e6  # a Python with numpy
        assert found.cpu_seconds > 0
    assert measure(lock) is None


@linux
def test_what_it_has_started_belongs_to_it():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert child.pid in below(os.getpid())
    finally:
        child.communicate(b"\n")


def made_up(proc, number, parent, pss, ticks, name="(a) b) c"):
    folder = proc / str(number)
    folder.mkdir(parents=True)
    fields = ["S", parent, *[0] * 9, ticks, 100, *[0] * 5]
    (folder / "stat").write_text(f"{number} ({name}) {' '.join(map(str, fields))}")
    (folder / "smaps_rollup").write_text(f"55 ---p [rollup]\nRss: 999999 kB\nPss: {pss} kB\nPss_Anon: 5 kB\n")


def test_memory_and_time_of_all_generations_add_up(tmp_path):
    lock, proc = tmp_path / "alive.lock", tmp_path / "proc"
    lock.touch()
    made_up(proc, 10, 1, 1000, 200)
    made_up(proc, 11, 10, 200, 50)
    made_up(proc, 12, 11, 30, 25)
    made_up(proc, 13, 1, 7777, 7777)  # somebody else's
    (proc / "locks").write_text(
        f"1: FLOCK ADVISORY READ 13 fe:00:{lock.stat().st_ino} 0 EOF\n"
        f"2: -> FLOCK\n3: FLOCK ADVISORY WRITE 10 fe:00:{lock.stat().st_ino} 0 EOF\n"
    )
    found = measure(lock, proc)
    assert found.memory == 1230 * 1024
    assert found.cpu_seconds == pytest.approx((300 + 150 + 125) / os.sysconf("SC_CLK_TCK"))
    (proc / "12/smaps_rollup").unlink()
    assert measure(lock, proc) is None


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("87, 12300, 80000\n0, 5, 16000", [Gpu(87, 12300, 80000), Gpu(0, 5, 16000)]),
        ("[N/A], 1, 2", []),
        ("1, 2", []),
        ("", []),
    ],
)
def test_gpus_are_told_as_far_as_they_are_known(tmp_path, monkeypatch, said, expected):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\nprintf '{said}'")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert gpus() == expected
