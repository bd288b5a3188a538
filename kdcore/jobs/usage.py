"""What a job's processes take of this machine now: memory, processor, GPU. On Linux; elsewhere nothing is told. Never imports torch.

The process is the one that holds the job's lock, which the kernel knows (`/proc/locks`): a number in a file could be another process's by now.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
SECONDS = 5.0  # that nvidia-smi may take


class Usage(NamedTuple):
    """Of a process with all that it has started.

    Attributes:
        memory: bytes; what several share counts once.
        cpu_seconds: of the processor since they were started.
    """

    memory: int
    cpu_seconds: float


class Gpu(NamedTuple):
    """A GPU as a whole: per cent of the time that it computes, and megabytes."""

    percent: float
    used: float
    total: float


def measure(lock: Path, proc: Path = PROC) -> Usage | None:
    """What the processes of the job take that holds a lock; None where nobody holds it, or the system does not tell."""
    holder = holder_of(lock, proc)
    if holder is None:
        return None
    try:
        numbers = [holder, *below(holder, proc)]
        return Usage(sum(memory_of(proc / str(n)) for n in numbers), sum(seconds_of(proc / str(n)) for n in numbers))
    except (OSError, ValueError, IndexError):
        return None  # one has just ended, or is another user's


def holder_of(lock: Path, proc: Path = PROC) -> int | None:
    """The process that holds a lock."""
    try:
        inode = lock.stat().st_ino
        lines = (proc / "locks").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        parts = line.split()  # 1: FLOCK ADVISORY WRITE 8732 fe:00:2197823 0 EOF
        if len(parts) >= 6 and parts[3] == "WRITE" and parts[5].rpartition(":")[2] == str(inode) and int(parts[4]) > 0:
            return int(parts[4])
    return None


def below(parent: int, proc: Path = PROC) -> Iterator[int]:
    """The processes that a process has started, and those that these have."""
    children: dict[int, list[int]] = {}
    for entry in proc.iterdir():
        if entry.name.isdecimal():
            try:
                children.setdefault(int(stat_of(entry)[1]), []).append(int(entry.name))
            except (OSError, IndexError):
                continue  # it has just ended
    found = list(children.get(parent, []))
    for number in found:
        found += children.get(number, [])
    yield from found


def stat_of(process: Path) -> list[str]:
    """The fields of `/proc/N/stat` behind the name, which may hold anything: state, parent, ..."""
    return (process / "stat").read_text().rpartition(")")[2].split()


def memory_of(process: Path) -> int:
    """Bytes that a process takes, its share of what it has in common with others (PSS)."""
    for line in (process / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def seconds_of(process: Path) -> float:
    """Seconds of the processor, in the program and in the kernel."""
    fields = stat_of(process)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def gpus() -> list[Gpu]:
    """This machine's GPUs; none where nobody tells."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, "--query-gpu=utilization.gpu,memory.used,memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, check=True, timeout=SECONDS).stdout
        return [Gpu(*(float(part) for part in line.split(","))) for line in told.splitlines() if line.strip()]
    except (OSError, subprocess.SubprocessError, ValueError, TypeError):
        return []
