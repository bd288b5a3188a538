"""What the benchmarks share: timing in turn, the machine in words, and a result as a page.

Set `OMP_NUM_THREADS=1` before Python starts, as every benchmark's command does. Beside the clock on the wall each
measurement has the processor time of its own thread, which other programs on the machine hardly disturb.
"""

import argparse
import os
import platform
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[1]


@dataclass
class Times:
    """Seconds of one thing, measured again and again: by the clock, and of the calling thread on its processor."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def add(self, wall: float, cpu: float) -> None:
        """Keep one measurement."""
        self.wall.append(wall)
        self.cpu.append(cpu)


@contextmanager
def serving(app: Path, **variables: str) -> Iterator[tuple[str, int, float]]:
    """A Streamlit app in a process of its own: its address, the process's number, and the seconds until it answered."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    command = [sys.executable, "-m", "streamlit", "run", str(app), "--server.port", str(port)]
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.02)
        yield f"http://127.0.0.1:{port}", process.pid, time.perf_counter() - started
    finally:
        process.terminate()
        process.wait()


def now() -> tuple[float, float]:
    """The clock and this thread's processor time, in seconds."""
    return time.perf_counter(), time.thread_time()


def in_turn(jobs: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 3) -> dict[str, Times]:
    """Do all jobs once a round, in an order that turns with each round, so that whatever disturbs one disturbs all."""
    times = {name: Times() for name in jobs}
    names = list(jobs)
    for index in range(warm_up + rounds):
        for name in names if index % 2 else reversed(names):
            wall, cpu = now()
            jobs[name]()
            wall_after, cpu_after = now()
            if index >= warm_up:
                times[name].add(wall_after - wall, cpu_after - cpu)
    return times


def ratio(over: Sequence[float], under: Sequence[float], resamples: int = 1000) -> tuple[float, float, float]:
    """Ratio of two medians with its 95 % bootstrap interval."""
    rng = np.random.default_rng(0)
    drawn = [np.median(rng.choice(np.asarray(values), (resamples, len(values))), axis=1) for values in (over, under)]
    low, high = np.percentile(drawn[0] / drawn[1], [2.5, 97.5])
    return median(over) / median(under), float(low), float(high)


def in_words(values: tuple[float, float, float]) -> str:
    """A ratio with its interval."""
    return f"{values[0]:.3f} ({values[1]:.3f} to {values[2]:.3f})"


def milliseconds(values: Sequence[float]) -> str:
    """The median in milliseconds."""
    return f"{1000 * median(values):.2f}"


def verdict(value: float, limit: float) -> str:
    """Whether a limit is kept."""
    return "kept" if value <= limit else "missed"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; all columns but the first are numbers, to the right."""
    lines = [header, ["---", *("---:" for _ in header[1:])], *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def megabytes(process: int) -> tuple[float, float]:
    """Resident memory of a process on Linux, now and at its largest."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    now_kb, peak_kb = (int(status[name].split()[0]) for name in ("VmRSS", "VmHWM"))
    return now_kb * 1024 / 1e6, peak_kb * 1024 / 1e6


def processor_seconds(process: int) -> float:
    """Processor time that a process has taken so far on Linux."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def machine() -> str:
    """Processor, cores, memory and versions in one line, and how busy others keep it."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    parts = [
        f"{processor()}, {os.cpu_count()} cores, {pages / 2**30:.0f} GiB",
        f"{platform.system()}, Python {platform.python_version()}",
    ]
    if "torch" in sys.modules:
        import torch

        parts.append(f"torch {torch.__version__} with {torch.get_num_threads()} thread(s)")
    parts.append(
        f"load average {os.getloadavg()[0]:.1f} (other programs were running)" if os.getloadavg()[0] > 1.5 else "idle"
    )
    return "; ".join(parts)


def commit() -> str:
    """The commit that was measured, marked where files differ from it."""
    here = {"cwd": RESULTS.parent, "capture_output": True, "text": True, "check": False}
    short = subprocess.run(["git", "rev-parse", "--short", "HEAD"], **here).stdout.strip()
    changed = subprocess.run(["git", "status", "--porcelain", "--untracked-files=no", "--", "../kdcore"], **here).stdout
    return f"{short}{' with changes' if changed else ''}" if short else "no repository"


def parser(description: str | None) -> argparse.ArgumentParser:
    """Arguments that every benchmark has."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--save", action="store_true", help="write benchmarks/results/NAME.md too")
    return made


def publish(name: str, title: str, body: str, save: bool, page: str = "") -> None:
    """Print a result, and write it as a page where asked; the page is called as the script unless `page` says otherwise."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--save"]
    text = "\n\n".join(
        [
            f"# {title}",
            f"    OMP_NUM_THREADS=1 python benchmarks/{shlex.join([f'{name}.py', *arguments])}",
            f"{time.strftime('%Y-%m-%d')}, commit {commit()}. {machine()}.",
            body,
        ]
    )
    print(text)
    if save:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{page or name}.md").write_text(text + "\n", encoding="utf-8")
