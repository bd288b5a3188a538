"""What a process may use of the machine: written down as the kernel's documents say, in both versions of control groups."""

import os

import pytest

from kdcore.jobs import quota
from kdcore.jobs.quota import available_cores, free_memory

GIB = 1 << 30


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of 64 cores and 8 GiB of free memory; the tests write the files of its control groups."""
    monkeypatch.setattr(quota.os, "sched_getaffinity", lambda process: set(range(64)))

    def write(files):
        for name, text in {"proc/meminfo": f"MemTotal: 9 kB\nMemAvailable: {8 * GIB // 1024} kB\n", **files}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return tmp_path

    return write


def test_cores_are_those_of_this_process():
    everything = os.sched_getaffinity(0)
    assert 1 <= available_cores() <= len(everything)
    try:
        os.sched_setaffinity(0, {min(everything)})
        assert available_cores() == 1
    finally:
        os.sched_setaffinity(0, everything)


@pytest.mark.parametrize(("text", "cores"), [("150000 100000", 2), ("max 100000", 64), ("50000 100000", 1), ("?", 64)])
def test_a_container_with_a_quota_has_fewer_cores(machine, text, cores):
    assert available_cores(machine({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": text})) == cores


@pytest.mark.parametrize(("text", "cores"), [("300000", 3), ("-1", 64)])
def test_cores_of_version_1(machine, text, cores):
    """Docker on an older system: the group's own path is not there in the container, the mounted one is."""
    folder = "sys/fs/cgroup/cpu"
    files = {f"{folder}/cpu.cfs_quota_us": text, f"{folder}/cpu.cfs_period_us": "100000"}
    assert available_cores(machine({"proc/self/cgroup": "4:cpu,cpuacct:/docker/abc\n", **files})) == cores


def test_the_tightest_of_all_groups_above_counts(machine):
    """A service with six cores in a slice of four."""
    files = {
        "proc/self/cgroup": "0::/jobs.slice/mine.service\n",
        "sys/fs/cgroup/jobs.slice/mine.service/cpu.max": "600000 100000",
        "sys/fs/cgroup/jobs.slice/cpu.max": "400000 100000",
        "sys/fs/cgroup/jobs.slice/memory.max": f"{3 * GIB}",
        "sys/fs/cgroup/jobs.slice/memory.current": f"{GIB}",
        "sys/fs/cgroup/jobs.slice/mine.service/memory.max": "max",
    }
    root = machine(files)
    assert available_cores(root) == 4
    assert free_memory(root) == 2 * GIB


def test_nothing_is_read_above_the_mounted_groups(machine):
    root = machine(
        {"proc/self/cgroup": "0::/../../elsewhere\n", "elsewhere/cpu.max": "100000 100000", "cpu.max": "1 1"}
    )
    assert available_cores(root) == 64


def test_without_groups_the_machine_counts(machine, tmp_path):
    assert available_cores(machine({})) == 64
    assert free_memory(machine({})) == 8 * GIB
    assert free_memory(tmp_path / "nothing here") == quota.PLENTY


def test_files_that_can_be_dropped_are_free(machine):
    """2 GiB of a limit of 3 are used; half of that are files that were read."""
    files = {
        "sys/fs/cgroup/memory.max": f"{3 * GIB}",
        "sys/fs/cgroup/memory.current": f"{2 * GIB}",
        "sys/fs/cgroup/memory.stat": f"anon 5\ninactive_file {GIB}\n",
    }
    assert free_memory(machine(files)) == 2 * GIB


@pytest.mark.parametrize(("limit", "free"), [(2 * GIB, GIB // 2), (9223372036854771712, 8 * GIB), (GIB, 0)])
def test_memory_of_version_1(machine, limit, free):
    """The large number is how version 1 says that there is no limit."""
    files = {
        "proc/self/cgroup": "4:memory:/docker/abc\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{limit}\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{3 * GIB // 2}",
    }
    assert free_memory(machine(files)) == free
