"""What this process may use of the machine: cores and memory, as its affinity and its container's quota say.

A container sees the whole machine in /proc; how much of it is its own stands in its control group (cgroup), of version 1 or 2, and
in every group above it. Paths: https://docs.kernel.org/admin-guide/cgroup-v1 and -v2. psutil would not help: it knows no groups (and, of what
other files read from /proc, neither a processor's flags and name nor the most memory that a process held).
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT = Path("/")
PLENTY = 16_000_000_000  # bytes: taken to be free where the system does not tell
NO_LIMIT = 1 << 60  # bytes: version 1 writes a number of this size where there is no limit


def available_cores(root: Path = ROOT) -> int:
    """CPU cores that this process may use, rounded to whole ones; at least one.

    Args:
        root: of the file system.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = float(len(affinity(0)) if affinity else os.cpu_count() or 1)
    for group in groups("cpu", root):
        with suppress(OSError, ValueError, ZeroDivisionError):  # no such file, or 'max'
            quota, period = (int(word) for word in (group / "cpu.max").read_text().split())
            cores = min(cores, quota / period)
        with suppress(OSError, ValueError, ZeroDivisionError):
            quota = int((group / "cpu.cfs_quota_us").read_text())
            if quota > 0:  # -1 where there is no limit
                cores = min(cores, quota / int((group / "cpu.cfs_period_us").read_text()))
    return max(1, round(cores))


def thread_count() -> int:
    """Threads that `OMP_NUM_THREADS` allows, or else all that this process may use."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    return available_cores()


def free_memory(root: Path = ROOT) -> int:
    """Bytes of memory that this process may still use: of the machine, and of its container where there is one.

    Args:
        root: of the file system.
    """
    free = PLENTY
    with suppress(OSError, ValueError, StopIteration):
        lines = (root / "proc/meminfo").read_text().splitlines()
        free = 1024 * int(next(line.split()[1] for line in lines if line.startswith("MemAvailable:")))
    for group in groups("memory", root):
        for limit_name, used_name, cache_name in (
            ("memory.max", "memory.current", "inactive_file "),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "),
        ):
            with suppress(OSError, ValueError):
                limit = int((group / limit_name).read_text())
                if limit < NO_LIMIT:
                    used = int((group / used_name).read_text())
                    free = min(free, max(0, limit - used + reclaimable(group, cache_name)))
    return free


def reclaimable(group: Path, name: str) -> int:
    """Bytes of files that the kernel drops from memory when it needs room."""
    with suppress(OSError, ValueError, StopIteration):
        lines = (group / "memory.stat").read_text().splitlines()
        return int(next(line.removeprefix(name) for line in lines if line.startswith(name)))
    return 0


def groups(controller: str, root: Path) -> Iterator[Path]:
    """The folders of this process's control groups: its own, and those above it; in a container only the mounted ones exist."""
    mounted = root / "sys/fs/cgroup"
    own = {"": "/", controller: "/"}  # version 2, and version 1
    with suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, names, path = line.split(":", 2)
            own |= {name: path for name in names.split(",") if name in own}
    for name, path in own.items():
        top = mounted / name
        group = top / path.lstrip("/")
        if ".." in group.parts:  # a group outside what this container sees
            group = top
        yield from (folder for folder in (group, *group.parents) if folder == top or top in folder.parents)
