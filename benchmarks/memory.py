"""How much memory do the commands need at most, on the real imagery?

    OMP_NUM_THREADS=1 python benchmarks/memory.py ../shared/data [--save]        # about ten minutes on two busy cores

Each command runs as a process of its own, and the system tells the largest resident memory of it and of the processes that it
started and waited for. Studies have two steps: memory does not grow with steps, but every part of a study happens (survey,
training, scoring, layers for the map, report). The `standard` preset trains the largest networks meant for a CPU.

Limit: 3 GiB.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import parser, publish, table, verdict

LIMIT = 3.0  # GiB
COLLECTIONS = Path(__file__).parent / "collections"
KDCORE = [sys.executable, "-c", "from kdcore.cli import main; main()"]


def peak(arguments: list[str], folder: Path) -> tuple[float, float]:
    """GiB and seconds of one command.

    Raises:
        SystemExit: the command failed.
    """
    started = time.perf_counter()
    with (folder / "output.txt").open("w+", encoding="utf-8") as output:
        process = subprocess.Popen([*KDCORE, *arguments], stdout=output, stderr=subprocess.STDOUT, cwd=folder)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            raise SystemExit(f"kdcore {' '.join(arguments)} failed:\n{output.read()}")
    return usage.ru_maxrss / 2**20, time.perf_counter() - started


def commands(data: Path, collection: Path, folder: Path, preset: str) -> list[tuple[str, list[str]]]:
    """What is run on one collection, in an order in which each finds what it needs."""
    study = folder / f"{collection.stem}-{preset}"
    few = ["--steps", "2", "--teacher-steps", "2", "--seeds", "0", "--device", "cpu"]
    runs = [("study", ["study", str(collection), "--preset", preset, *few, "--out", str(study)])]
    if preset == "quick":
        checkpoint = study / "runs/teacher-s0/checkpoints/best.safetensors"
        proposal = folder / f"{collection.stem}-proposed.yaml"
        runs = [
            ("data inspect, folder", ["data", "inspect", str(data), "--out", str(proposal)]),
            ("data inspect, collection", ["data", "inspect", str(collection)]),
            *runs,
            ("report", ["report", str(study)]),
            ("evaluate, teacher", ["evaluate", str(checkpoint), str(collection), "--device", "cpu"]),
        ]
    return runs


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("data", type=Path, help="folder with banepa-buildings/ and dubai-landcover/")
    arguments.add_argument("--only", choices=("banepa", "dubai"))
    arguments.add_argument("--presets", nargs="+", default=["quick", "standard"])
    chosen = arguments.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for collection, data in (("banepa", "banepa-buildings"), ("dubai", "dubai-landcover")):
            if chosen.only not in (None, collection):
                continue
            for preset in chosen.presets:
                path = (COLLECTIONS / f"{collection}.yaml").resolve()
                for what, arguments_ in commands((chosen.data / data).resolve(), path, Path(name), preset):
                    size, seconds = peak(arguments_, Path(name))
                    preset_words = f" (`{preset}`)" if what == "study" else ""
                    rows.append(
                        (f"{collection}: {what}{preset_words}", f"{size:.2f}", f"{seconds:.0f}", verdict(size, LIMIT))
                    )
                    print(*rows[-1], file=sys.stderr, flush=True)
    body = table(("command", "largest memory, GiB", "seconds by the clock", f"limit {LIMIT:g} GiB"), rows)
    publish("memory", "Largest memory of each command on real imagery", body, chosen.save)


if __name__ == "__main__":
    main()
