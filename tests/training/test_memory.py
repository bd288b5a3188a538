"""What a step frees is there for the next one."""

import platform
import subprocess
import sys

import pytest

from kdcore.training import run

STEPS = """
import resource, sys
import torch
from kdcore.training.run import keep_freed_memory

if sys.argv[1] == "kept":
    assert keep_freed_memory()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def step():
    for _ in range(2):
        torch.ones(12_500_000)  # 50 MB

for _ in range(5):
    step()
before = faults()
step()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="settings of glibc")
def test_memory_is_not_cleared_again_at_each_step():
    pages = {
        how: int(subprocess.run([sys.executable, "-c", STEPS, how], capture_output=True, text=True, check=True).stdout)
        for how in ("given back", "kept")
    }
    assert pages["kept"] < 10
    assert pages["given back"] > 20  # huge pages of 2 MB at least


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(run.ctypes, "CDLL", lambda name: object())
    assert not run.keep_freed_memory()
