"""The dashboard's server killed after a person started a study on a page, alone or together with the study's process."""

import os
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from kdcore.jobs.status import Status
from tests.faults.campaign import Calm, Outcome, check_dead, check_done
from tests.faults.process import begin, ended, log_of
from tests.jobs.studies import processes_of, wait_for
from tests.server.conftest import Served, Tab, command, free_port, surroundings

SECONDS = 14.0  # after the click: the process imports torch, trains and scores
QUIET = 3.0  # seconds without a process, after which none is on its way
BUTTON = re.compile(r'id: "([^"]*)"[^"]*label: "Resume"')


@contextmanager
def served(workspace: Path) -> Iterator[Served]:
    """`streamlit run app.py`, once it answers."""
    port = free_port()
    with workspace.with_name(f"{workspace.name}.server").open("wb") as log:
        process = subprocess.Popen(
            command("--server.port", str(port)), cwd=workspace.parent, env=surroundings(workspace), stdin=subprocess.DEVNULL,
            stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    server = Served(f"http://127.0.0.1:{port}", process, Path(log.name), workspace)
    try:
        wait_for(lambda: answers(server))
        yield server
    finally:
        process.kill()
        process.wait()


def answers(server: Served) -> bool:
    """Whether it is there; a server that ended is an error."""
    assert server.process.poll() is None, server.log.read_text()
    with suppress(httpx.TransportError):
        return httpx.get(f"{server.url}/_stcore/health", timeout=30, trust_env=False).status_code == 200
    return False


def kill_server(calm: Calm, place: Path, chance: random.Random, worker: bool, seconds: float = SECONDS) -> Outcome:
    """Press 'Resume' on a study's page, and kill the server some time later, and its worker with it if so wished.

    Args:
        calm: a study, undisturbed.
        place: a new folder.
        chance: draws the moment.
        worker: whether the study's process is killed, too.
        seconds: after the click, at most.
    """
    kind, after = calm.kind, chance.uniform(0, seconds)
    fault = "SIGKILL of the server and the worker" if worker else "SIGKILL of the server"
    outcome = Outcome(kind.name, fault, f"{after:.2f} s after the click")
    kind.prepare(place)
    study = kind.study(place)  # type: ignore[attr-defined]
    study.write_status(Status(state="stopped", queued=1000.0, device="cpu"))
    with served(place) as server:
        tab = Tab(server)
        button = BUTTON.search(tab.open("train", "study=town").replace("\n", " "))
        assert button is not None
        click = threading.Thread(
            target=quietly, args=(lambda: tab.open("train", "study=town", button[1]),), daemon=True
        )
        click.start()
        time.sleep(after)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        quiet = time.monotonic() + QUIET
        while worker and time.monotonic() < quiet:  # it may have been on its way, without a name of its own yet
            for process in processes_of(study):
                os.kill(process, signal.SIGKILL)
                quiet = time.monotonic() + QUIET
            time.sleep(0.05)
        click.join()
    if worker:
        wait_for(lambda: not processes_of(study))
        check_dead(kind, place, outcome.problems)
    else:
        wait_for(lambda: not processes_of(study))  # a worker goes on to its end
    place.with_name(f"{place.name}.log").touch()
    if study.state != "finished" and ended(begin(kind.work, place)):
        outcome.problems.append(f"did not go on: ...{log_of(place)[-600:]}")
    check_done(calm, place, outcome.problems)
    return outcome


def quietly(do: Callable[[], object]) -> None:
    """The answer to a click on a page whose server is killed never comes."""
    with suppress(Exception):
        do()
