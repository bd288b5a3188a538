"""A real Slurm of two nodes on this host, in a temporary folder: munged, slurmctld and two slurmd, none of which is a service."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.jobs.studies import wait_for
from tests.pages.conftest import open_page  # noqa: F401 - a study in Slurm is watched on a page, too

HOUSE = Path(__file__).parents[2]
PROGRAMS = ("munged", "mungekey", "slurmctld", "slurmd", "sbatch", "srun")
NODES = ("n1", "n2")
CONFIGURATION = """
ClusterName=test
FirstJobId={first}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
SlurmdParameters=config_overrides
SlurmdTimeout=3
KillWait=10
ReturnToService=2
SchedulerParameters=sched_interval=1,bf_interval=1
NodeName=n1 NodeAddr=127.0.0.1 NodeHostname={host} Port={ports[1]} CPUs=2
NodeName=n2 NodeAddr=127.0.0.1 NodeHostname={host} Port={ports[2]} CPUs=2
PartitionName=test Nodes=n1,n2 Default=YES MaxTime=60 State=UP
"""


@dataclass
class Cluster:
    """The running Slurm.

    Attributes:
        folder: of its files.
        daemons: its processes, by name.
    """

    folder: Path
    daemons: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """In which commands find it, and kdcore."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        return kept | {"SLURM_CONF": str(self.folder / "slurm.conf"), "PYTHONPATH": str(HOUSE), "OMP_NUM_THREADS": "1"}

    def start(self, name: str, *command: str) -> None:
        """Start a daemon."""
        with (self.folder / f"{name}.out").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    def start_node(self, name: str) -> None:
        """Start a node, and wait until it takes jobs."""
        self.start(name, "slurmd", "-D", "-N", name)
        wait_for(lambda: self.ask("sinfo", "-h", "-n", name, "-o", "%T").strip() in ("idle", "mixed", "allocated"))

    def start_missing(self) -> None:
        """Start what was killed."""
        for name in NODES:
            if name not in self.daemons:
                self.start_node(name)

    def kill_node(self, name: str) -> None:
        """A machine that loses its power: no process of it says goodbye."""
        daemon = self.daemons.pop(name)
        for process in [daemon.pid, *processes_of(self.folder, name)]:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        daemon.wait()

    def stop(self) -> None:
        """End everything: jobs, then daemons."""
        self.ask("scancel", "--state=PENDING", "-u", "root")
        self.ask("scancel", "-s", "KILL", "-f", "-u", "root")
        self.ask("scancel", "-u", "root")
        for daemon in self.daemons.values():
            daemon.terminate()
        for daemon in self.daemons.values():
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def ask(self, *command: str) -> str:
        """A command of Slurm's, and what it prints."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        return done.stdout

    def queue(self) -> list[list[str]]:
        """What waits or runs: element, state, node and number of the job."""
        return [line.split("|") for line in self.ask("squeue", "-h", "-r", "-o", "%i|%T|%N|%A").splitlines()]

    def kdcore(self, *arguments: object, cwd: Path, before: Path | None = None) -> "subprocess.Popen[str]":
        """The command as in a terminal of its own; programs that lie in `before` are found first."""
        path = {} if before is None else {"PATH": f"{before}:{self.environment['PATH']}"}
        return subprocess.Popen(
            [sys.executable, "-m", "kdcore", *map(str, arguments)],
            env=self.environment | path,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )


def processes_of(folder: Path, node: str) -> list[int]:
    """The processes of a node's jobs: slurmstepd of each, and all below it."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            number, variables = int(entry.name), (entry / "environ").read_bytes().split(b"\0")
            if f"SLURM_CONF={folder / 'slurm.conf'}".encode() in variables and (
                f"SLURMD_NODENAME={node}".encode() in variables or is_step(entry, node, folder)
            ):
                found.append(number)
    return found


def is_step(entry: Path, node: str, folder: Path) -> bool:
    """Whether a process is a slurmstepd that writes this node's log."""
    return b"slurmstepd" in (entry / "cmdline").read_bytes() and any(
        os.readlink(file) == str(folder / f"{node}.log") for file in (entry / "fd").iterdir()
    )


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens at."""
    with ExitStack() as opened:
        sockets = [opened.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in sockets]


@contextmanager
def running_slurm(folder: Path) -> Iterator[Cluster]:
    """Start everything in a folder, and stop it with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)  # munged asks for it
    (folder / "state").mkdir()
    values = {"host": socket.gethostname().partition(".")[0], "folder": folder, "ports": free_ports(3)}
    values["first"] = 10 * os.getpid()  # the port of a rendezvous is made of it: one for each Slurm on this machine
    (folder / "slurm.conf").write_text(CONFIGURATION.format(**values))
    place, key, connection = Cluster(folder), folder / "munge.key", folder / "munge.socket"
    subprocess.run(["mungekey", "--create", f"--keyfile={key}"], check=True)
    files = [f"--{name}-file={folder}/munge.{name}" for name in ("pid", "log", "seed")]
    try:
        place.start(
            "munged", "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={connection}", *files
        )
        wait_for(connection.exists)
        place.start("slurmctld", "slurmctld", "-D", "-i")
        place.start_missing()
        yield place
    finally:
        place.stop()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"needs Slurm ({', '.join(missing)}): apt-get install slurm-wlm munge")
    if os.geteuid():
        pytest.skip("needs root, as Slurm's daemons do")
    with running_slurm(tmp_path_factory.mktemp("slurm")) as place:
        yield place


@pytest.fixture
def nodes(cluster) -> Iterator[Cluster]:
    """The cluster with nothing to do and both nodes, before a test and after it."""
    cluster.start_missing()
    yield cluster
    cluster.ask("scancel", "-s", "KILL", "-f", "-u", "root")
    cluster.ask("scancel", "-u", "root")
    wait_for(lambda: not cluster.queue())
