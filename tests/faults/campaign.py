"""Faults put into a kind of work, and what must hold after each: nothing lost, nothing dead shown alive, every file readable."""

import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from kdcore.jobs.job import ALREADY_WORKED_ON
from tests.faults.facts import Facts
from tests.faults.kinds import KINDS, Base, Kind, put_study
from tests.faults.process import Fault, begin, ended, log_of, operations, stopped

ROOM = 4_000_000  # kilobytes of a disk that is not full; memory that is taken only where it is used
PATIENCE = 2.0  # seconds, after which who waits is taken to wait for somebody that is stopped
MOST_ROUNDS = 40  # of one piece of work: more means that it does not get on


@dataclass
class Outcome:
    """What came of one fault.

    Attributes:
        kind, fault: what was disturbed, and how.
        moment: when, in words.
        injected: whether it happened; a process may have ended before.
        problems: what did not hold.
    """

    kind: str
    fault: str
    moment: str
    injected: bool = True
    problems: list[str] = field(default_factory=list)

    def values(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


@dataclass
class Calm:
    """A kind of work that nobody disturbed: its folder, its result, its operations on files, and its seconds."""

    kind: Kind
    place: Path
    result: Facts
    operations: int
    seconds: float


def make_base(folder: Path) -> Base:
    """Data and a finished study, which takes a process of its own."""
    base = Base.make(folder)
    put_study(base, base.study)
    process = begin(KINDS["study"](base).work, base.study.parent)
    assert ended(process) == 0, log_of(base.study.parent)
    return base


def undisturbed(name: str, base: Base, place: Path) -> Calm:
    """Do a kind of work without a fault."""
    kind = KINDS[name](base)
    kind.prepare(place)
    kind.more(place)
    started = time.perf_counter()
    process = begin(kind.work, place)
    assert ended(process) == 0, log_of(place)
    return Calm(kind, place, plain(kind.result(place)), operations(place), time.perf_counter() - started)


def plain(facts: Facts) -> Facts:
    """As JSON has them: lists for tuples, names for numbers."""
    values: Facts = json.loads(json.dumps(facts))
    return values


@contextmanager
def later(seconds: float = 120.0) -> Iterator[None]:
    """Some time has passed: whoever was on the way has come."""
    real = time.time
    with mock.patch("time.time", side_effect=lambda: real() + seconds):
        yield


def check(problems: list[str], what: str, look: Callable[[], object]) -> None:
    """Note what does not hold."""
    try:
        look()
    except Exception as error:
        problems.append(f"{what}: {type(error).__name__}: {str(error)[:600]}")


def check_dead(kind: Kind, place: Path, problems: list[str]) -> None:
    """After the death of all processes: every file is readable, and nothing is shown alive."""
    check(problems, "a file cannot be read", lambda: kind.look(place))
    if kind.alive(place):
        problems.append("a lock is held by nobody")
    with later():
        found: list[str] = []
        check(problems, "a state cannot be read", lambda: found.extend(kind.states(place)))
        if {"running", "queued"} & set(found[:1]) or "running" in found:
            problems.append(f"what is dead is shown alive: {found}")


def check_done(calm: Calm, place: Path, problems: list[str]) -> None:
    """After the end: the result of an undisturbed run, and nothing left over."""
    found: list[Facts] = []
    check(problems, "the result is not there", lambda: found.append(plain(calm.kind.result(place))))
    if found:
        problems += calm.kind.differences(found[0], calm.result)
    left = calm.kind.left(place)
    if left:
        problems.append(f"left over: {left}")
    if "Traceback" in log_of(place):
        problems.append(f"a traceback: ...{log_of(place)[-600:]}")
    if set(calm.kind.states(place)) - {"finished", "failed"}:
        problems.append(f"not shown finished: {calm.kind.states(place)}")


def kill_again_and_again(
    calm: Calm, place: Path, chance: random.Random, most: int, begun: bool = False
) -> list[Outcome]:
    """Kill a piece of work at random moments until it is done: before an operation on a file, or at any time.

    Args:
        calm: the same, undisturbed.
        place: a new folder.
        chance: draws the moments.
        most: kills; then it may end.
        begun: the folder is one in which the work was begun before.
    """
    kind, outcomes = calm.kind, list[Outcome]()
    if not begun:
        kind.prepare(place)
    for _ in range(MOST_ROUNDS):
        kills = len(outcomes) < most and kind.bears_a_kill(place)
        moment = chance.randint(1, max(1, calm.operations // (1 + len(outcomes))))
        seconds = chance.uniform(0, calm.seconds / (1 + len(outcomes)))
        by_operation = chance.random() < 0.6
        process = begin(kind.work, place, Fault(moment if kills and by_operation else None))
        if kills and not by_operation:
            process.join(seconds)
            if process.exitcode is None:
                os.kill(process.pid, signal.SIGKILL)
        code = ended(process)
        if code != -signal.SIGKILL:
            break
        words = f"before operation {moment}" if by_operation else f"after {seconds:.2f} s"
        outcomes.append(Outcome(kind.name, "SIGKILL of the worker", words))
        check_dead(kind, place, outcomes[-1].problems)
    if not outcomes:
        outcomes.append(Outcome(kind.name, "SIGKILL of the worker", "after its end", injected=False))
    last = outcomes[-1].problems
    if code:
        last.append(f"ended with code {code}: ...{log_of(place)[-600:]}")
    check_done(calm, place, last)
    return outcomes


def read_at_every_moment(calm: Calm, place: Path, every: int = 1) -> list[Outcome]:
    """Stop a process before each of its operations, or every second and so on, and open everything as pages do."""
    kind = calm.kind
    kind.prepare(place)
    process = begin(kind.work, place, Fault(1, "stop", every=every))
    outcomes = []
    while stopped(process):
        outcomes.append(Outcome(kind.name, "a reader during a write", f"operation {1 + len(outcomes) * every}"))
        problems = outcomes[-1].problems
        reader = threading.Thread(target=read_living, args=(kind, place, problems))
        reader.start()
        reader.join(PATIENCE / 5)
        while reader.is_alive() and process.exitcode is None:  # it waits for a lock that the stopped process holds
            os.kill(process.pid, signal.SIGCONT)
            reader.join(PATIENCE / 5)
        reader.join()
        os.kill(process.pid, signal.SIGCONT)
    if ended(process):
        outcomes[-1].problems.append(f"ended: ...{log_of(place)[-600:]}")
    check_done(calm, place, outcomes[-1].problems)
    return outcomes


def read_living(kind: Kind, place: Path, problems: list[str]) -> None:
    """What pages and commands see of a process that lives."""
    check(problems, "a file cannot be read", lambda: kind.look(place))
    states = list[str]()
    check(problems, "a state cannot be read", lambda: states.extend(kind.states(place)))
    if {"broken", "interrupted"} & set(states[:1]):
        problems.append(f"what lives is shown dead: {states}")


@contextmanager
def disk(folder: Path) -> Iterator[Callable[..., None]]:
    """A disk of its own; gives what changes its size in kilobytes, and whether it can be written to.

    Raises:
        NoDiskError: none can be mounted here, which takes the rights of root.
    """
    folder.mkdir(parents=True)

    def change(options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        try:
            subprocess.run(command, capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise NoDiskError("no disk can be mounted here, which takes the rights of root") from error

    change(f"size={ROOM}k")
    try:
        yield lambda kilobytes=ROOM, writable=True: change(f"remount,size={kilobytes}k,{'rw' if writable else 'ro'}")
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


class NoDiskError(Exception):
    """A test of disks cannot be done here."""


def used(folder: Path) -> int:
    """Kilobytes of what lies in a folder, in pages of 4 KiB."""
    return sum(4 * -(-file.stat().st_size // 4096) for file in folder.rglob("*") if file.is_file())


def on_a_bad_disk(calm: Calm, place: Path, share: float | None) -> Outcome:
    """Work on a disk with too little room, or that cannot be written to; then there is room, and it goes on.

    Args:
        calm: the same, undisturbed.
        place: a new folder in a folder of its own.
        share: of the space that the work takes which is there; None where the disk cannot be written to.
    """
    kind = calm.kind
    fault = "a disk that cannot be written to" if share is None else "a full disk"
    outcome = Outcome(kind.name, fault, "from the beginning" if share is None else f"with {share:.0%} of the room")
    with disk(place.parent) as change:
        kind.prepare(place)
        place.mkdir(exist_ok=True)
        begin(kind.work, place, Fault(10)).join()  # it has begun, and there is a log
        there = shutil.disk_usage(place).used // 1024
        room = there + round((share or 0.0) * max(0, used(calm.place) - there))
        change(**({"writable": False} if share is None else {"kilobytes": max(4, room)}))
        log = place.with_name(f"{place.name}.log")
        process = begin(kind.work, place, log=place.parents[1] / f"{place.parent.name}.log")
        code = ended(process)
        said = (place.parents[1] / f"{place.parent.name}.log").read_text() + " ".join(kind.messages(place))
        outcome.injected = code != 0
        if code and not any(
            words in said for words in ("the disk is full", "cannot be written to", "are free on the disk")
        ):
            outcome.problems.append(f"no sentence: ...{said[-600:]}")
        if "Traceback" in said:
            outcome.problems.append(f"a traceback: ...{said[-900:]}")
        check_dead(kind, place, outcome.problems)
        change()
        log.unlink(missing_ok=True)
        process = begin(kind.work, place)
        if ended(process):
            outcome.problems.append(f"did not go on: ...{log_of(place)[-600:]}")
        check_done(calm, place, outcome.problems)
    return outcome


def with_another_clock(calm: Calm, place: Path, moment: int, seconds: float, kill: int | None = None) -> Outcome:
    """The clock jumps while the work goes on, which is killed later if so wished; then it goes on with the right time."""
    kind = calm.kind
    words = f"{seconds / 86400:+g} days before operation {moment}" + (
        f", killed before operation {kill}" if kill else ""
    )
    outcome = Outcome(kind.name, "a jump of the clock", words)
    kind.prepare(place)
    process = begin(kind.work, place, Fault(kill or moment, "kill" if kill else "clock", seconds, clock_before=moment))
    code = ended(process)
    if kill and code == -signal.SIGKILL:
        check_dead(kind, place, outcome.problems)
        code = ended(begin(kind.work, place))
    if code:
        outcome.problems.append(f"ended with code {code}: ...{log_of(place)[-600:]}")
    check_done(calm, place, outcome.problems)
    return outcome


def two_at_once(calm: Calm, place: Path, moment: int, kill: bool) -> Outcome:
    """A second command for the same output comes while the first one is at work, which then goes on or is killed."""
    kind = calm.kind
    words = f"the first at operation {moment}, then {'killed' if kill else 'going on'}"
    outcome = Outcome(kind.name, "two commands for one output", words)
    kind.prepare(place)
    first = begin(kind.work, place, Fault(moment, "pause"))
    outcome.injected = stopped(first)
    second = begin(kind.work, place)
    second.join(PATIENCE)  # it refuses, or waits
    if outcome.injected:
        os.kill(first.pid, signal.SIGKILL if kill else signal.SIGCONT)
    codes = [ended(first), ended(second)]
    if not set(codes) <= {0, 2, ALREADY_WORKED_ON, -signal.SIGKILL}:
        outcome.problems.append(f"ended with codes {codes}: ...{log_of(place)[-600:]}")
    if kill or (codes[0] and codes[1]):  # the next command removes what the killed one left
        code = ended(begin(kind.work, place))
        if code:
            outcome.problems.append(f"did not go on: ...{log_of(place)[-600:]}")
    check_done(calm, place, outcome.problems)
    return outcome
