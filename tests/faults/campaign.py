"""Faults put into a kind of work, and what must hold after each: nothing lost, nothing dead shown alive, every file readable."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from tests.faults.kinds import KINDS, Base, Facts, Kind, put_study
from tests.faults.process import Fault, begin, ended, log_of, operations, stopped

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
    """A kind of work that nobody disturbed: its result, its operations on files, and its seconds."""

    kind: Kind
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
    return Calm(kind, kind.result(place), operations(place), time.perf_counter() - started)


@contextmanager
def later(seconds: float = 120.0) -> Iterator[None]:
    """Some time has passed: whoever was on the way has come."""
    real = time.time
    with mock.patch("time.time", lambda: real() + seconds):
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
    check(problems, "the result is not there", lambda: found.append(calm.kind.result(place)))
    if found:
        problems += calm.kind.differences(found[0], calm.result)
    left = calm.kind.left(place)
    if left:
        problems.append(f"left over: {left}")
    if "Traceback" in log_of(place):
        problems.append(f"a traceback: ...{log_of(place)[-600:]}")
    if set(calm.kind.states(place)) - {"finished", "failed"}:
        problems.append(f"not shown finished: {calm.kind.states(place)}")


def kill_again_and_again(calm: Calm, place: Path, chance: random.Random, most: int) -> list[Outcome]:
    """Kill a piece of work at random moments until it is done: before an operation on a file, or at any time.

    Args:
        calm: the same, undisturbed.
        place: a new folder.
        chance: draws the moments.
        most: kills; then it may end.
    """
    kind, outcomes = calm.kind, list[Outcome]()
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
    last = outcomes[-1].problems if outcomes else list[str]()
    if code:
        last.append(f"ended with code {code}: ...{log_of(place)[-600:]}")
    check_done(calm, place, last)
    return outcomes


def read_at_every_moment(calm: Calm, place: Path) -> list[Outcome]:
    """Stop a process before each of its operations, and open everything as pages do."""
    kind = calm.kind
    kind.prepare(place)
    process = begin(kind.work, place, Fault(1, "stop"))
    outcomes = []
    while stopped(process):
        outcomes.append(Outcome(kind.name, "a reader during a write", f"operation {len(outcomes) + 1}"))
        problems = outcomes[-1].problems
        check(problems, "a file cannot be read", lambda: kind.look(place))
        states: list[str] = []
        check(problems, "a state cannot be read", lambda: states.extend(kind.states(place)))
        if {"broken", "interrupted"} & set(states[:1]):
            problems.append(f"what lives is shown dead: {states}")
        os.kill(process.pid, signal.SIGCONT)
    if ended(process):
        outcomes[-1].problems.append(f"ended: ...{log_of(place)[-600:]}")
    check_done(calm, place, outcomes[-1].problems)
    return outcomes
