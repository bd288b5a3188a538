"""Faults put into everything that takes time: processes killed, full disks, other clocks, readers and second commands at the wrong moment.

    OMP_NUM_THREADS=1 python benchmarks/faults.py --save

What is done and what must hold after each: tests/faults. Disks take the rights of root; without them they are left out. The whole takes half an
hour; --folder keeps what was found, so that it can be done in pieces of so many --seconds, and goes on where it was.
"""

import json
import os
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from measuring import ROOT, parser, publish, table

sys.path.insert(0, str(ROOT))
from tests.faults import campaign, server
from tests.faults.campaign import Calm, NoDiskError, Outcome
from tests.faults.kinds import KINDS, Base

KILLS = {"study": (9, 6), "soft-label cache": (4, 5), "prediction": (8, 6), "sweep": (8, 3), "deployment": (5, 3)}
"""Pieces of work, and at most so many kills of each."""
SERVERS = 8
SHARES = (0.0, 0.25, 0.5, 0.75)
DAYS = 10
MOMENTS = (0.05, 0.5, 0.95)


@dataclass
class Campaign:
    """What has been done, and where; `outcomes.jsonl` in the folder has a line for each fault."""

    folder: Path
    seed: int

    def __post_init__(self) -> None:
        self.file = self.folder / "outcomes.jsonl"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.base = Base(self.folder / "base")
        if not (self.folder / "base.done").exists():
            campaign.make_base(self.base.folder)
            (self.folder / "base.done").touch()
        self.known: dict[str, Calm] = {}

    def calm(self, name: str) -> Calm:
        """A kind of work, undisturbed."""
        place, file = self.folder / "calm" / slug(name), self.folder / "calm" / f"{slug(name)}.json"
        if name not in self.known and file.exists():
            kept = json.loads(file.read_text())
            self.known[name] = Calm(KINDS[name](self.base), place, **kept)
        elif name not in self.known:
            calm = self.known[name] = campaign.undisturbed(name, self.base, place)
            file.write_text(json.dumps({"result": calm.result, "operations": calm.operations, "seconds": calm.seconds}))
        return self.known[name]

    def outcomes(self) -> list[dict[str, Any]]:
        """All so far."""
        return [json.loads(line) for line in self.file.read_text().splitlines()] if self.file.exists() else []

    def tasks(self) -> Iterator[tuple[str, Callable[[Path], list[Outcome]]]]:
        """Everything that is to be done, by name."""
        for name, (pieces, most) in KILLS.items():
            for number in range(pieces):
                yield f"{slug(name)}-kill-{number}", partial(self.kill, name, number, most)
        for name in KILLS:
            for share in (None, *SHARES):
                yield f"{slug(name)}-disk-{share}", partial(self.disk, name, share)
            for days in (DAYS, -DAYS):
                yield f"{slug(name)}-clock-{days}", partial(self.clock, name, days)
            for moment in MOMENTS:
                for kill in (True, False):
                    yield f"{slug(name)}-two-{moment}-{kill}", partial(self.two, name, moment, kill)
            yield f"{slug(name)}-read", partial(self.read, name)
        for number in range(2 * SERVERS):
            yield f"server-{number}", partial(self.server, number)

    def kill(self, name: str, number: int, most: int, place: Path) -> list[Outcome]:
        """Of a worker, again and again."""
        return campaign.kill_again_and_again(
            self.calm(name), place, random.Random(f"{self.seed} {name} {number}"), most
        )

    def server(self, number: int, place: Path) -> list[Outcome]:
        """Of a server, and of every second one's worker."""
        chance = random.Random(f"{self.seed} server {number}")
        return [server.kill_server(self.calm("study"), place, chance, worker=number % 2 == 1)]

    def disk(self, name: str, share: float | None, place: Path) -> list[Outcome]:
        """A full disk, or one that cannot be written to."""
        return [campaign.on_a_bad_disk(self.calm(name), place / "disk", share)]

    def clock(self, name: str, days: int, place: Path) -> list[Outcome]:
        """A jump of the clock in a process that goes on, and in one that is killed later."""
        calm = self.calm(name)
        moments = [(calm.operations // 3, None), (calm.operations // 4, calm.operations // 2)]
        return [
            campaign.with_another_clock(calm, place / str(moment), moment, 86400 * days, kill)
            for moment, kill in moments
        ]

    def two(self, name: str, share: float, kill: bool, place: Path) -> list[Outcome]:
        """A second command for the same output."""
        calm = self.calm(name)
        return [campaign.two_at_once(calm, place, max(1, round(share * calm.operations)), kill)]

    def read(self, name: str, place: Path) -> list[Outcome]:
        """At every moment."""
        return campaign.read_at_every_moment(self.calm(name), place, every=10 if name == "sweep" else 1)

    def go_on(self, seconds: float, only: Sequence[str]) -> None:
        """Do what is not done yet, for so long."""
        end, done = time.monotonic() + seconds, {line["task"] for line in self.outcomes()}
        for task, do in self.tasks():
            if task in done or not all(word in task for word in only):
                continue
            if time.monotonic() > end:
                return
            place = Path(tempfile.mkdtemp(prefix=f"{task}-", dir=self.folder)) / "place"
            try:
                found = do(place)
            except NoDiskError as error:
                print(f"{task}: left out: {error}", flush=True)
                continue
            lines = [{"task": task} | outcome.values() for outcome in found] or [{"task": task, "injected": False}]
            with self.file.open("a") as file:
                file.write("".join(json.dumps(line) + "\n" for line in lines))
            wrong = [line for line in lines if line.get("problems")]
            print(f"{task}: {len(found)} faults, {len(wrong)} not survived", *wrong[:3], sep="\n   ", flush=True)


def slug(name: str) -> str:
    """A kind's name as a folder's."""
    return name.replace(" ", "-")


def rows(outcomes: Sequence[dict[str, Any]]) -> list[list[object]]:
    """Injected and survived, by fault and kind."""
    counts: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for outcome in outcomes:
        if outcome["injected"]:
            counted = counts[outcome["fault"], outcome["kind"]]
            counted[0] += 1
            counted[1] += not outcome["problems"]
    parts: list[list[object]] = [[*names, *numbers] for names, numbers in sorted(counts.items())]
    return [*parts, ["all", "", *(sum(numbers[index] for numbers in counts.values()) for index in (0, 1))]]


def main() -> None:
    """Go on, and write the page."""
    arguments = parser(__doc__)
    arguments.add_argument("--folder", type=Path, help="where to keep what was found; default: a temporary one")
    arguments.add_argument("--seconds", type=float, default=1e9, help="after which no new task is begun")
    arguments.add_argument("--seed", type=int, default=0, help="of the random moments")
    arguments.add_argument("--only", nargs="*", default=(), help="words that a task's name must have")
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        whole = Campaign((chosen.folder or Path(temporary)).absolute(), chosen.seed)
        whole.go_on(chosen.seconds, chosen.only)
        found = whole.outcomes()
    wrong = [
        f"- {line['task']}: {line['moment']}: {' '.join(line['problems'])}" for line in found if line.get("problems")
    ]
    left = [task for task, _ in whole.tasks() if task not in {line["task"] for line in found}]
    unhurt = sum(not line["injected"] for line in found)
    body = [
        "Survived: no run is lost, nothing dead is shown alive and nothing living dead, every file can be read, nothing is left over, and once "
        "it has gone on the result is that of an undisturbed one, bit for bit: weights, counts, reports without what the clock says, "
        "metrics, maps, polygons, soft labels, exported networks. The small pieces of work are those of tests/faults/kinds.py, with real "
        "trainings, maps and exports; of a deployment only the measurement of speed is left out. Moments are drawn at random: before an operation on a "
        "file, or at any time. On each disk the work is begun, fails with a sentence, and goes on when there is room.",
        table(("fault", "of", "injected", "survived"), rows([line for line in found if "kind" in line])),
        *([f"Not done yet: {len(left)} pieces of the campaign ({', '.join(left[:5])} ...)."] if left else []),
        f"{unhurt} further faults came after the end of the work, or did not keep it from ending well.",
        "## Not survived",
        "\n".join(wrong) or "None.",
    ]
    publish("faults", "Faults survived", "\n\n".join(body), chosen.save)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
