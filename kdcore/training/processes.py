"""One training in several processes: torchrun starts them, rank 0 does the command, and the others train the runs that it names.

Which process this is stands in torchrun's variables (`RANK`, `WORLD_SIZE`, `LOCAL_RANK`, `MASTER_ADDR`, `MASTER_PORT`), whoever
set them. Rank 0 alone holds locks and writes files. A process that fails ends the others: it says why in its error file and in
the store that all share. All of them end with the torchrun that started them. Torch is imported only where processes are started
or talk to each other.
"""

import ctypes
import json
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from kdcore.errors import RunError, SettingsError
from kdcore.imports import large_imports
from kdcore.jobs.quota import thread_count
from kdcore.jobs.slurm import ask
from kdcore.settings import Hardware

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
ERROR_FILE = "TORCHELASTIC_ERROR_FILE"
BY_TORCHRUN = "TORCHELASTIC_RUN_ID"  # torchrun sets it, whoever started that
STARTER = "KDCORE_STARTER"  # number of the process that is torchrun, where that is this program
END_WITH_PARENT = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>
FOREVER = timedelta(days=365)  # rank 0 may wait in a queue, or score a test split, while the others wait for it
FIRST_PORT, PORTS = 20_000, 10_000  # of the rendezvous of several machines; told from the job's number
INTERRUPTED = 130  # exit code after Ctrl-C
R = TypeVar("R")


class PeerLostError(RunError):
    """Another process of the training ended; whoever started the processes says which one, and why."""


def world() -> int:
    """How many processes torchrun, or whoever sets its variables, started; 1 where nobody did."""
    return int(os.environ["WORLD_SIZE"]) if all(name in os.environ for name in VARIABLES) else 1


def started() -> bool:
    """Whether this process was started beside others."""
    return world() > 1


def rank() -> int:
    """Which of the processes this is; 0 where there is only one."""
    return int(os.environ["RANK"]) if started() else 0


def processes_here() -> int:
    """How many of them are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", world())) if started() else 1


def threads() -> int:
    """Threads for this process, so that those of this machine share its cores."""
    return max(1, thread_count() // processes_here())


def as_started(hardware: Hardware) -> Hardware:
    """The hardware of a study that torchrun was started for: as many processes as there are, where the settings name one.

    Raises:
        SettingsError: the settings name another number of them.
    """
    if not started():
        return hardware
    if hardware.processes == 1:
        here = processes_here()
        return hardware.model_copy(update={"devices": here, "nodes": world() // here})
    if hardware.processes != world():
        raise SettingsError(
            f"hardware.devices x hardware.nodes is {hardware.processes}, but torchrun started {world()} processes. "
            "Start as many, or leave both out."
        )
    return hardware


def wants_start(hardware: Hardware) -> bool:
    """Whether several processes are wanted and have yet to be started."""
    return hardware.processes > 1 and not started()


def start(hardware: Hardware, command: Sequence[str]) -> int:
    """Start as many processes of `python COMMAND` as the settings name, with torchrun, and wait for them.

    For several machines this process becomes `srun`, which starts the same command on each of them.

    Args:
        hardware: `devices` on each of `nodes` machines.
        command: arguments of Python.

    Returns:
        The exit code: that of rank 0 where it ended by itself.

    Raises:
        SettingsError: several machines outside of a Slurm allocation that has them.
    """
    if hardware.nodes == 1:
        return launch(hardware, command, "localhost:0", "127.0.0.1")
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) == hardware.nodes:
        meeting = f"{address_of(first_node())}:{rendezvous_port()}"
        return launch(hardware, command, meeting, address_of(os.environ["SLURMD_NODENAME"]))
    nodes = int(os.environ.get("SLURM_JOB_NUM_NODES", 0))
    if nodes < hardware.nodes:
        raise SettingsError(
            f"hardware.nodes: {hardware.nodes} needs a Slurm allocation of as many nodes, and this process "
            f"{f'has {nodes}' if nodes else 'is in none'}. Start it with `sbatch --nodes={hardware.nodes}` or `salloc`, or "
            f"start `torchrun --nnodes {hardware.nodes} --nproc-per-node {hardware.devices} ... -m kdcore study ...` on each machine."
        )
    once_a_node = [
        f"--nodes={hardware.nodes}",
        f"--ntasks={hardware.nodes}",
        "--ntasks-per-node=1",
        "--kill-on-bad-exit=1",
    ]
    sys.stdout.flush()
    os.execvp("srun", ["srun", *once_a_node, sys.executable, *command])


def first_node() -> str:
    """The machine of the allocation at which all meet."""
    nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ["SLURM_JOB_NODELIST"]
    return ask("scontrol", "show", "hostnames", nodes).split()[0]


def address_of(node: str) -> str:
    """Where Slurm itself reaches a node, whose name need be known to nobody else."""
    facts = (word.partition("=") for word in ask("scontrol", "--oneliner", "show", "node", node).split())
    return next((value for name, _, value in facts if name == "NodeAddr" and value), node)


def rendezvous_port() -> int:
    """The same on each machine of a job step, and another one for another step."""
    step = int(os.environ["SLURM_JOB_ID"]) + int(os.environ.get("SLURM_STEP_ID", 0))
    return FIRST_PORT + step % PORTS


def launch(hardware: Hardware, command: Sequence[str], endpoint: str, address: str | None) -> int:
    """Be torchrun on this machine: start its processes, and end them all as soon as one fails."""
    with large_imports():
        from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
        from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ[STARTER] = str(os.getpid())
    if hardware.nodes == 1 and sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # nobody else need reach them
    logging.disable()  # one sentence instead of torchrun's tables
    with tempfile.TemporaryDirectory(prefix="kdcore-ranks-") as folder:
        config = LaunchConfig(
            min_nodes=hardware.nodes,
            max_nodes=hardware.nodes,
            nproc_per_node=hardware.devices,
            run_id=os.environ.get("SLURM_JOB_ID", str(os.getpid())),
            rdzv_backend="c10d",
            rdzv_endpoint=endpoint,
            local_addr=address,
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            elastic_launch(config, sys.executable)(*command)
        except ChildFailedError as error:
            return explain(error, Path(folder), hardware.processes)
        except SignalException:
            return INTERRUPTED
    return 0


def explain(error: Any, folder: Path, processes: int) -> int:
    """Say in one sentence which process ended the others, unless rank 0 said why itself; gives the exit code.

    Args:
        error: `ChildFailedError` of torchrun.
        folder: where the processes of this machine left their error files.
        processes: on all machines.
    """
    said = [json.loads(file.read_text()) for file in folder.rglob("error.json")]
    killed = [(number, failure) for number, failure in error.failures.items() if failure.exitcode < 0]
    sentence = said[0]["message"] if said else ""
    if killed:
        number, failure = killed[0]
        sentence = (
            f"process {number} of {processes} was ended by the system ({failure.signal_name()}), most often for want of memory. "
            "Lower batch_size, crop or devices, then start it again: it goes on from the last saved state."
        )
    if sentence and not any(one["rank"] == 0 for one in said):
        print(f"Error: {sentence}", file=sys.stderr, flush=True)  # noqa: T201
    own = error.failures.get(0)
    return own.exitcode if own is not None and own.exitcode > 0 else 2


def visible_gpus() -> dict[str, str]:
    """The GPUs of this machine that rank 0 was given, for `use_gpus`."""
    return {"gpus": os.environ.get("CUDA_VISIBLE_DEVICES", ""), "node": os.environ.get("GROUP_RANK", "0")}


def use_gpus(order: dict[str, str]) -> None:
    """See the same GPUs as rank 0 where it is on this machine; works only before CUDA is used."""
    if order["gpus"] and order["node"] == os.environ.get("GROUP_RANK", "0"):
        os.environ["CUDA_VISIBLE_DEVICES"] = order["gpus"]


class Orders:
    """What rank 0 tells the others, through the store at which the processes met."""

    def __init__(self) -> None:
        from torch._C._distributed_c10d import PrefixStore
        from torch.distributed.rendezvous import rendezvous

        store, _, _ = next(rendezvous("env://", timeout=FOREVER))
        self.store = PrefixStore("kdcore", store)
        self.given = self.taken = 0

    def give(self, order: dict[str, Any] | None) -> None:
        """Say what to do next; None dismisses the others."""
        self.store.set(f"order/{self.given}", json.dumps(order))
        self.given += 1

    def take(self) -> dict[str, Any] | None:
        """Wait for what is to be done next."""
        key = f"order/{self.taken}"
        self.store.wait([key], FOREVER)
        self.taken += 1
        order: dict[str, Any] | None = json.loads(self.store.get(key))
        return order

    def complain(self, sentence: str) -> None:
        """Say why this process ends."""
        self.store.set("complaint", sentence)

    @property
    def complaint(self) -> str:
        """Why another process ended; empty where it could not say so."""
        return str(self.store.get("complaint").decode()) if self.store.check(["complaint"]) else ""


@cache
def orders() -> Orders:
    """Of this process."""
    return Orders()


def led_by_rank_zero(work: Callable[[], R]) -> R:
    """Do a command's work in rank 0 and dismiss the others after it; in those, train what rank 0 orders, and end.

    Raises:
        SystemExit: in the others, and in rank 0 where another process ended: whoever started them says why.
    """
    if not started():
        return work()
    end_with_starter()
    if rank():
        with large_imports():
            from kdcore.training.run import follow
        raise SystemExit(follow())
    try:
        return work()
    except PeerLostError as error:
        signal.signal(
            signal.SIGTERM, signal.SIG_IGN
        )  # torchrun ends all now; that is no scheduler's wish to go on later
        raise SystemExit(2) from error
    except BaseException as error:
        leave_message(str(error))
        raise
    finally:
        with suppress(RuntimeError):  # whoever started the processes is gone, and the others with it
            orders().give(None)


def end_with_starter() -> None:
    """Let the kernel kill this process as soon as torchrun is gone: one that was killed itself can end nobody.

    Without it all would train on, holding locks, and nobody would hear how they end. Torch does the same for processes that it
    starts from a function, and not for those of a command. Linux only.
    """
    if sys.platform != "linux" or BY_TORCHRUN not in os.environ:
        return
    ctypes.CDLL(None).prctl(END_WITH_PARENT, signal.SIGKILL)
    starter = os.environ.get(STARTER, "")
    if starter and os.getppid() != int(starter):  # it was gone before
        os.kill(os.getpid(), signal.SIGKILL)


def leave_message(sentence: str) -> None:
    """Write into this process' error file, as torchrun reads it, why it ends."""
    file = os.environ.get(ERROR_FILE)
    if file:
        Path(file).write_text(json.dumps({"message": sentence, "rank": rank(), "timestamp": int(time.time())}))


def lost_peer(error: Exception) -> bool:
    """Whether an error says that another process is gone."""
    from torch.distributed import DistError

    return isinstance(error, DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


@contextmanager
def missing_peers() -> Iterator[None]:
    """Say in a sentence that another process is gone.

    Raises:
        PeerLostError: with what that process said, where it could.
    """
    try:
        yield
    except Exception as error:
        if not (started() and lost_peer(error)):
            raise
        reason = orders().complaint or (
            f"one of the {world()} processes was ended, most often for want of memory. Lower batch_size, crop or devices."
        )
        raise PeerLostError(f"{reason} Resume to go on from the last saved state.") from error
