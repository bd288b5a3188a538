"""Hostile and malformed files over all doors, each through the real command in a process of its own with limits.

    OMP_NUM_THREADS=1 python benchmarks/hostile.py --save

The inputs are made by code: tests/hostile/corpus. How they are run and judged: tests/hostile/nursery.py. A run keeps its outcomes with --out FILE, a
line of JSON each; --found FILE writes the page of them, and --before FILE shows those of another commit beside.
"""

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measuring import parser, publish, table

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

ENDS = ("traceback", "hang", "overrun", "unclear")
HEADER = (
    "",
    "inputs",
    "right",
    "refused",
    "worked",
    "tracebacks",
    "hangs",
    "memory overruns",
    "unclear refusals",
    "requests",
    "written elsewhere",
)
Outcomes = Sequence[dict[str, Any]]


def run(names: Sequence[str], workers: int, folder: Path) -> list[dict[str, Any]]:
    """Outcomes of the cases, from several nurseries."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.nursery", str(folder / str(index)), "-"],
            stdin=subprocess.PIPE,
            stdout=(folder / f"{index}.jsonl").open("w"),
            cwd=ROOT,
            text=True,
        )
        for index in range(workers)
    ]
    for index, process in enumerate(processes):
        assert process.stdin is not None
        json.dump(names[index::workers], process.stdin)
        process.stdin.close()
    codes = [process.wait() for process in processes]
    if any(codes):
        raise SystemExit(f"a nursery ended with code {max(codes)}")
    lines = [line for index in range(workers) for line in (folder / f"{index}.jsonl").read_text().splitlines()]
    return [json.loads(line) for line in lines]


def read(file: Path) -> list[dict[str, Any]]:
    """Outcomes that an earlier run kept."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def row(name: str, found: Outcomes) -> list[object]:
    """One line of a table."""
    came = Counter(outcome["came"] for outcome in found)
    return [
        name,
        len(found),
        sum(outcome["right"] for outcome in found),
        came["refused"],
        came["works"],
        *(came[end] for end in ENDS),
        sum(outcome["requests"] for outcome in found),
        sum(bool(outcome["written"]) for outcome in found),
    ]


def rows(found: Outcomes, key: str) -> list[list[object]]:
    """A line for each door or kind, and one for all."""
    names = sorted({outcome[key] for outcome in found})
    parts = [row(name, [outcome for outcome in found if outcome[key] == name]) for name in names]
    return [*parts, row("all", found)]


def wrong(found: Outcomes) -> str:
    """What is not right, by name."""
    lines = [f"- {outcome['name']}: {outcome['came']}" for outcome in found if not outcome["right"]]
    return "\n".join(lines) or "None."


def main() -> None:
    """Run all, and write the page."""
    arguments = parser(__doc__)
    arguments.add_argument("--workers", type=int, default=1, help="nurseries that work at the same time")
    arguments.add_argument("--found", type=Path, help="outcomes of a run that is finished, to write the page of")
    arguments.add_argument("--before", type=Path, help="outcomes of an earlier run")
    arguments.add_argument("--out", type=Path, help="where to keep the outcomes, a line of JSON each")
    chosen = arguments.parse_args()
    from tests.hostile.corpus import CASES

    if chosen.found:
        found = read(chosen.found)
    else:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o755)  # cases without root's rights must reach their files
            found = run(list(CASES), chosen.workers, Path(folder))
    if chosen.out:
        chosen.out.write_text("".join(json.dumps(outcome) + "\n" for outcome in found))
    body = [
        "Right: it works or is refused in one clear sentence, as the corpus says, within 10 s of processor time and 1.5 GiB of resident "
        "memory (the libraries, imported beforehand, are 0.65 GiB of these), without a request and without a file written outside of the "
        "output folder.",
        table(HEADER, rows(found, "door")),
        table(HEADER, rows(found, "kind")),
        f"Slowest: {max(outcome['cpu'] for outcome in found):.1f} s of processor time. "
        f"Largest: {max(outcome['megabytes'] for outcome in found):,} MiB.",
    ]
    if chosen.before:
        before = read(chosen.before)
        body += ["## The same inputs before the mends", table(HEADER, rows(before, "door"))]
    body += ["## Not right", wrong(found)]
    publish("hostile", "Hostile and malformed files", "\n\n".join(body), chosen.save)


if __name__ == "__main__":
    main()
