"""Distilling beside torchdistill and a plain PyTorch loop: seconds for 1,000 steps, memory, and whether the loss is right.

    OMP_NUM_THREADS=1 python benchmarks/distillation_contenders.py speed --pairs base:tiny light:tiny [--peers PEERS/bin/python] [--save]
    OMP_NUM_THREADS=1 python benchmarks/distillation_contenders.py speed --collection benchmarks/collections/banepa.yaml [--save]
    OMP_NUM_THREADS=1 python benchmarks/distillation_contenders.py right --peers PEERS/bin/python [--save]

torchdistill is asked for with `--peers`, the Python of an environment that has it beside what this project has:

    python -m venv PEERS && PEERS/bin/pip install torchdistill
    PEERS/bin/pip install -e .        # or put the path of this project's site-packages into a .pth file of PEERS

A library that cannot be imported there is left out, by name.

Speed: each way is a process of its own (`distillation_peers.py`) with one thread for the network and two that read crops; all see the
same crops and begin with the same weights. Step by step in turn: while one does `--turn` steps the others wait, round after round.
*alone* is this project's student without a teacher, *live* asks the teacher about each batch, *cached* reads answers that were computed
once before (`teacher_sees: scene`), by a process whose seconds and memory have a row of their own. *plain* is a loop as a careful
engineer writes it, *torchdistill* its `DistillationBox` with `KDLoss` in the loop of its own example. The teacher is not trained, only
its batch-norm statistics are those of the data: weights do not change what a step costs. The loss of the first step stands beside:
*live* and *plain* must agree.

The demo area is used where no `--collection` is named. `--save` keeps the tables of other collections and pairs that the page has.

Limits: a cached step takes at most 1.02 of a step alone; the online ways take at least 3 times as long with a large teacher.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from measuring import RESULTS, Times, commit, in_words, parser, publish, ratio, table, verdict

from kdcore.data.batches import Batches
from kdcore.data.collection import Collection
from kdcore.data.demo import write_demo
from kdcore.data.survey import survey
from kdcore.jobs.progress import Stage
from kdcore.models.checkpoint import CheckpointInfo, save_network
from kdcore.models.networks import build_network, count_parameters
from kdcore.settings import PRESETS

CACHED_LIMIT, ONLINE_LIMIT = 1.02, 3.0
NAMES = ("alone", "cached", "live", "plain", "torchdistill")
ONLINE = ("live", "plain", "torchdistill")
SETTLING = 8  # batches that the teacher's statistics are taken from
HERE = Path(__file__).parent
TITLE = "Distilling beside torchdistill and a plain loop"


class Peer:
    """One way of distilling, in its process.

    Raises:
        SystemExit: it ended by itself.
    """

    def __init__(self, name: str, python: str, arguments: Sequence[str], errors: Path) -> None:
        self.name, self.errors = name, errors
        command = [python, str(HERE / "distillation_peers.py"), name, *arguments]
        environment = os.environ | {"PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1"}
        with errors.open("w") as file:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True, env=environment
            )
        self.first = self.answer()

    def answer(self) -> dict[str, Any]:
        """What it says next."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} failed:\n{self.errors.read_text()[-3000:]}")
        found: dict[str, Any] = json.loads(line)
        return found

    def do(self, steps: int) -> dict[str, Any]:
        """Let it do some steps."""
        assert self.process.stdin is not None
        print(steps, file=self.process.stdin, flush=True)
        return self.answer()

    def end(self) -> None:
        """Let it end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def write_teacher(preset: str, path: Path, crop: int, out: Path) -> float:
    """A teacher with fresh weights and the data's statistics; returns millions of parameters."""
    collection = Collection.open(path)
    found = survey(collection, crop)
    names = collection.settings.class_names
    info = CheckpointInfo(
        network=PRESETS[preset], bands=collection.bands, band_numbers=collection.scenes[0].bands, classes=names
    )
    network = build_network(
        PRESETS[preset], collection.bands, info.logits, found.mean.tolist(), found.std.tolist(), seed=0
    )
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the plain mean over what is seen
    batches = Batches(collection, found, seed=1, batch_size=4, crop=crop)
    with torch.no_grad():
        for step in range(SETTLING):
            network.train()(batches.batch(step).image)
    save_network(out, network, info)
    return count_parameters(network) / 1e6


def has_torchdistill(python: str) -> bool:
    """Whether that environment has the library."""
    asked = [python, "-c", "import torchdistill"]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


def measure(path: Path, teacher: str, student: str, chosen: Any, folder: Path) -> str:
    """The table of one teacher and student."""
    weights = folder / f"{teacher}.safetensors"
    millions = write_teacher(teacher, path, chosen.crop, weights)
    place = [str(path.resolve()), str(weights), student, str(folder)]
    sizes = ["--crop", str(chosen.crop), "--batch", str(chosen.batch), "--views", chosen.views]
    names = [name for name in NAMES if name != "torchdistill" or has_torchdistill(chosen.peers)]

    def start(name: str) -> Peer:
        python = chosen.peers if name == "torchdistill" else sys.executable
        return Peer(name, python, [*place, *sizes], folder / f"{name}.txt")

    started = time.perf_counter()
    builder = start("build")
    building, building_mb = time.perf_counter() - started, builder.first["peak_mb"]
    builder.end()
    peers = [start(name) for name in names]
    times = {name: Times() for name in names}
    whole: dict[str, list[float]] = {name: [] for name in names}
    peaks: dict[str, float] = {}
    for turn in range(-1, round(chosen.steps / chosen.turn)):
        for peer in peers if turn % 2 else reversed(peers):
            told = peer.do(chosen.turn)
            peaks[peer.name] = told["peak_mb"]
            if turn >= 0:  # the first round warms up
                times[peer.name].add(told["wall"] / chosen.turn, told["thread"] / chosen.turn)
                whole[peer.name].append(told["process"] / chosen.turn)
        print(f"{teacher}, {student}: round {turn + 2}", file=sys.stderr, flush=True)
    losses = {peer.name: peer.first["first_loss"] for peer in peers}
    for peer in peers:
        peer.end()
    header = (
        "",
        "s for 1,000 steps, by the clock",
        "processor time of the thread",
        "of all threads",
        "over *alone*",
        "over *cached*",
        "largest memory, MB",
        "loss of the first step",
    )
    rows = [
        (
            name,
            f"{1000 * median(times[name].wall):.0f}",
            f"{1000 * median(times[name].cpu):.0f}",
            f"{1000 * median(whole[name]):.0f}",
            in_words(ratio(times[name].cpu, times["alone"].cpu)),
            in_words(ratio(times[name].cpu, times["cached"].cpu)),
            f"{peaks[name]:.0f}",
            f"{losses[name]:.4f}",
        )
        for name in names
    ]
    cached = ratio(times["cached"].cpu, times["alone"].cpu)[0]
    online = min(ratio(times[name].cpu, times["cached"].cpu)[0] for name in ONLINE if name in names)
    answers = sum(seconds for name, seconds in builder.first["stages"].items() if name == Stage.SOFT_LABELS.value)
    saved = median(times["live"].wall) - median(times["cached"].wall)
    pays = "it does not pay"
    if saved > 0:
        pays = (
            f"paid back after {answers / saved:.0f} steps against *live*, of all seeds and students of a study together"
        )
    judged = f", aim {ONLINE_LIMIT:g}: {verdict(ONLINE_LIMIT, online)}" if teacher == "large" else ""
    return "\n\n".join(
        [
            f"Teacher {teacher} ({millions:.1f} M parameters), student {student}; medians of {chosen.steps} steps in turns of {chosen.turn}; "
            "ratios of the thread's processor time with 95 % intervals.",
            table(header, rows),
            f"Cached over alone: {cached:.3f}, limit {CACHED_LIMIT}: {verdict(cached, CACHED_LIMIT)}. Slowest advantage over an online way: "
            f"{online:.2f}{judged}.",
            f"Computing the answers to {chosen.views} view{'s' if chosen.views == 'eight' else ''}: {answers:.0f} s of {building:.0f} s from "
            f"starting Python to the first step, {building_mb:.0f} MB at most; {pays}.",
        ]
    )


def check(peers: str) -> str:
    """The table of the loss.

    Raises:
        SystemExit: the library is not there, or a call failed.
    """
    environment = os.environ | {"PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1"}
    found = subprocess.run(
        [peers, str(HERE / "distillation_losses.py")], capture_output=True, text=True, env=environment, check=False
    )
    if found.returncode:
        raise SystemExit(f"torchdistill could not be asked:\n{found.stderr[-3000:]}")
    told = json.loads(found.stdout.strip().splitlines()[-1])
    return (
        table(("", "by the formula", f"torchdistill {told['version']}", "ours"), told["lines"])
        + "\n\nThe plain loop above uses the same formula as ours; that their first losses agree is the check."
    )


def keep(section: str, body: str) -> str:
    """The page's sections with this one put in or replaced."""
    page = RESULTS / "distillation_contenders.md"
    sections: dict[str, str] = {}
    if page.exists():
        parts = re.split(r"^## (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
        sections = dict(zip(parts[1::2], (part.strip() for part in parts[2::2]), strict=True))
    sections[section] = body
    return "\n\n".join(f"## {name}\n\n{text}" for name, text in sections.items())


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("what", choices=("speed", "right"))
    arguments.add_argument("--collection", type=Path, help="a collection.yaml; else the demo area")
    arguments.add_argument("--pairs", nargs="+", default=["base:tiny"], help="TEACHER:STUDENT, by their presets")
    arguments.add_argument("--peers", default=sys.executable, help="Python that has torchdistill")
    arguments.add_argument("--steps", type=int, default=40)
    arguments.add_argument("--turn", type=int, default=4)
    arguments.add_argument("--crop", type=int, default=128)
    arguments.add_argument("--batch", type=int, default=8)
    arguments.add_argument("--views", choices=("eight", "one"), default="eight")
    arguments.add_argument("--size", type=int, default=384, help="of a district of the demo area, in pixels")
    chosen = arguments.parse_args()
    sys.argv = ["PEERS/bin/python" if word == chosen.peers else word for word in sys.argv]
    command = f"`benchmarks/distillation_contenders.py {' '.join(sys.argv[1:])}`, {time.strftime('%Y-%m-%d')}, commit {commit()}.\n\n"
    if chosen.what == "right":
        bodies = {"Is the loss right?": command + check(chosen.peers)}
    else:
        bodies = {}
        for pair in chosen.pairs:
            teacher, student = pair.split(":")
            with tempfile.TemporaryDirectory() as name:
                path = chosen.collection or write_demo(Path(name) / "area", size=chosen.size)
                title = f"{Collection.open(path).settings.name}: {teacher} teaches {student}"
                bodies[title] = command + measure(path, teacher, student, chosen, Path(name))
    for section, body in bodies.items():
        publish("distillation_contenders", TITLE, keep(section, body) if chosen.save else body, chosen.save)


if __name__ == "__main__":
    main()
