"""One command many times, as an array of Slurm: locks in the folder decide who does what. Never imports torch.

In the folder that the command works on lies `.slurm/`: `script.sh`, `job.json` (the array's number), a log for each process, and,
while whoever submitted it waits for the first process, `submitter.lock`. What the processes have done is in their folder as ever;
Slurm is asked only what still waits or runs (`squeue`), so no accounting is needed.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from kdcore.errors import KdcoreError, RunError, SettingsError
from kdcore.files import explain_write_error, write_json, write_text
from kdcore.jobs.lock_check import FIRST, no_locks, submitting
from kdcore.jobs.small_files import read_dict

FOLDER = ".slurm"
VARIABLE = "KDCORE_LAUNCHED"  # set by the script: the path of that folder
OPTIONS = "KDCORE_SLURM_OPTIONS"  # set by whoever runs the dashboard: options of sbatch for what is started there
AGAIN = 75  # exit code of a process that was told to end and has more to do: EX_TEMPFAIL of sysexits.h
NOTICE = 120  # seconds before its time is over at which Slurm tells a process
MOST_TASKS = 10_000
ASK_SECONDS, LOOK_SECONDS = 60, 10  # that a command of Slurm's may take, and one that a page waits for
FRESH_SECONDS = 5  # for which an answer of squeue is kept
LOOK_EVERY = 0.5  # seconds between looks for the first process
ENDED = "its processes ended before one of them could say anything"


def launched() -> Path | None:
    """The `.slurm` folder of the array that this process belongs to; None where it was started in another way."""
    value = os.environ.get(VARIABLE)
    return Path(value) if value else None


def offered() -> str | None:
    """The options of sbatch for what is started on a page; None where Slurm is not here, or was not switched on."""
    return os.environ.get(OPTIONS) if shutil.which("sbatch") else None


def script(command: Sequence[str], name: str, folder: Path, tasks: int, options: str, nodes: int = 1) -> str:
    """What `sbatch` is given; a plain bash script for any other scheduler.

    Args:
        command: what each process does.
        name: of the job.
        folder: `.slurm`; logs go there.
        tasks: how many processes.
        options: of sbatch, as a person types them.
        nodes: machines that each process uses; it becomes `srun`, so the processes of its step are told to save the state.

    Raises:
        SettingsError: options or a path that do not stand on one line.
    """
    for what, text in (("--slurm", options), ("--out", str(folder)), ("the name", name)):
        if not text.isprintable():
            raise SettingsError(f"{what} {text!r}: must stand on one line, without control characters.")
    if nodes > 1:
        options = f"--nodes={nodes} --ntasks-per-node=1 {options}".rstrip()
    log = re.sub(r"([\\\"])", r"\\\1", str(folder)).replace("%", "%%")
    return f"""#!/bin/bash
#SBATCH --job-name="{name}"
#SBATCH --array=1-{tasks}
#SBATCH --output="{log}/%A_%a.log"
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal={"" if nodes > 1 else "B:"}TERM@{NOTICE}
{f"#SBATCH {options}" if options else "#"}
# Every process runs the same command: it takes what is free, and whoever ends last puts the results together. SIGTERM
# saves the state; exit code {AGAIN} then asks for a new start, which may be on another machine.
export {VARIABLE}={shlex.quote(str(folder))}
[ -z "$SLURM_CPUS_ON_NODE" ] || export OMP_NUM_THREADS="${{OMP_NUM_THREADS:-$SLURM_CPUS_ON_NODE}}"
cd {shlex.quote(os.getcwd())} || exit 1
exec {shlex.join(command)}
"""


def submit(text: str, folder: Path, tasks: int) -> str:
    """Give a script to Slurm.

    Args:
        text: the script.
        folder: `.slurm`.
        tasks: how many processes it asks for.

    Returns:
        The array's number.

    Raises:
        SettingsError: Slurm is not here, or refuses it.
        KdcoreError: the folder cannot be written to.
    """
    if shutil.which("sbatch") is None:
        raise SettingsError(
            "--launch slurm: there is no sbatch on this machine. Use it where Slurm's commands are, or --launch print for another scheduler."
        )
    write_text(folder / "script.sh", text)
    with suppress(FileNotFoundError):
        (folder / FIRST).unlink()
    number = ask("sbatch", "--parsable", str(folder / "script.sh")).strip().partition(";")[0]
    write_json(folder / "job.json", {"job": number, "tasks": tasks, "submitted": time.time()})
    return number


def ask(*command: str, seconds: float = ASK_SECONDS) -> str:
    """Run a command of Slurm's, for so many seconds at most.

    Returns:
        What it printed.

    Raises:
        SettingsError: it failed; with its own words.
    """
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            start_new_session=True,  # a Ctrl-C is for us: what Slurm has taken in, it must not keep to itself
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SettingsError(f"{command[0]}: cannot be asked ({error}).") from error
    if done.returncode:
        words = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise SettingsError(f"{command[0]}: refuses it ({words}).")
    return done.stdout


def number_of(path: Path) -> str | None:
    """The array that was submitted for a study, sweep or prediction; None where there was none."""
    number = submitted(path).get("job")
    return number if isinstance(number, str) and number.isdigit() else None


def tasks_of(path: Path) -> int | None:
    """How many processes were submitted for a study; None where it has not been in Slurm, or that is not offered here."""
    if offered() is None or number_of(path) is None:
        return None
    tasks = submitted(path).get("tasks")
    return tasks if isinstance(tasks, int) and 1 <= tasks <= MOST_TASKS else 1


def submitted(path: Path) -> dict[str, Any]:
    """What is known of the array of a folder; empty where there was none."""
    try:
        return read_dict(path / FOLDER / "job.json") or {}
    except KdcoreError:
        return {}


def states(number: str) -> list[str] | None:
    """What the processes of an array are doing that have not ended, for example ['RUNNING', 'PENDING']; None if Slurm does not answer."""
    return _states(number, int(time.monotonic() / FRESH_SECONDS))


@lru_cache(maxsize=64)
def _states(number: str, moment: int) -> list[str] | None:
    """As `states`; pages ask often, Slurm is asked every few seconds."""
    try:
        return ask("squeue", "--noheader", "--array", "--format=%T", f"--jobs={number}", seconds=LOOK_SECONDS).split()
    except SettingsError as error:
        return [] if "Invalid job id" in str(error) else None  # it has forgotten an array that ended long ago


def queued(path: Path) -> bool:
    """Whether processes for this folder wait in Slurm's queue, or run."""
    number = number_of(path)
    return number is not None and bool(states(number))


def cancel_waiting(path: Path) -> bool:
    """Take what has not begun out of Slurm's queue; what runs sees the cancel file.

    Returns:
        Whether anything waited.
    """
    number = number_of(path)
    if number is None or "PENDING" not in (states(number) or []):
        return False
    ask("scancel", "--state=PENDING", number)
    return True


def start_again() -> None:
    """Put this process's job back into the queue, unless Slurm is ending it anyway: cancelled, or preempted."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # Slurm ends a job that it starts again
    number = os.environ.get("SLURM_JOB_ID")
    if number and shutil.which("scontrol"):
        with suppress(SettingsError):
            if ask("squeue", "--noheader", "--format=%T", f"--jobs={number}").split() == ["RUNNING"]:
                ask("scontrol", "requeue", number)


def wait_for_first(folder: Path, number: str, tell: Callable[[str], None]) -> str:
    """Wait until the first process runs and sees the submitter's lock.

    Args:
        folder: `.slurm`.
        number: of the array.
        tell: is told what the array's processes do, whenever that changes.

    Returns:
        The machine it runs on.

    Raises:
        RunError: it does not see the lock (the array is then cancelled), or ended without a word.
    """
    last: list[str] | None = None
    while True:
        now = states(number)
        first = read_dict(folder / FIRST)
        if first is not None:
            if not first["locks"]:
                ask("scancel", number)
                raise RunError(no_locks(folder.parent, str(first["host"])))
            return str(first["host"])
        if now == []:
            raise RunError(f"{folder.parent}: {ENDED}. See {folder}/{number}_1.log.")
        if now and sorted(now) != last:
            last = sorted(now)
            tell(", ".join(f"{now.count(state)} {state.lower()}" for state in dict.fromkeys(now)))
        time.sleep(LOOK_EVERY)


def command_of(arguments: Sequence[str]) -> list[str]:
    """The command that a process of the array runs: this one without what says how to launch it."""
    kept: list[str] = []
    left = iter(arguments)
    for argument in left:
        name, equals, _ = argument.partition("=")
        if name in ("--launch", "--tasks", "--slurm"):
            if not equals:
                next(left, None)
            continue
        kept.append(argument)
    return [sys.executable, "-m", "kdcore", *kept]


def start_array(
    path: Path, arguments: Sequence[str], tasks: int, refused: Callable[[str], None], nodes: int = 1
) -> None:
    """Submit a command from a process that goes on with something else, such as the dashboard.

    Args:
        path: the folder that it works on.
        arguments: of `kdcore`.
        tasks: how many processes.
        refused: is told, later and from another thread, why the first process did not begin to work.
        nodes: machines that each process uses.

    Raises:
        SettingsError: it is not switched on, or Slurm refuses it.
        RunError: it is being submitted by somebody else.
    """
    options = offered()
    if options is None:
        raise SettingsError(f"Slurm is not offered here: {OPTIONS} is not set, or there is no sbatch.")
    folder = make_folder(path)
    text = script([sys.executable, "-m", "kdcore", *arguments], f"kdcore-{path.name}", folder, tasks, options, nodes)
    number_given: Future[str] = Future()

    def wait() -> None:
        try:
            with submitting(folder):
                number = submit(text, folder, tasks)
                number_given.set_result(number)
                wait_for_first(folder, number, lambda states: None)
        except KdcoreError as error:
            if number_given.done():
                refused(str(error))
            else:
                number_given.set_exception(error)

    threading.Thread(target=wait, name="first process", daemon=True).start()
    number_given.result()


def make_folder(path: Path) -> Path:
    """The `.slurm` folder of what is worked on.

    Raises:
        KdcoreError: it cannot be made.
    """
    folder = path.absolute() / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_write_error(folder, error) from error
    return folder
