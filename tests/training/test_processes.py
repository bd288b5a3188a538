"""Several processes of one training: who is who by the variables of torchrun and Slurm, who may write, and who says what went wrong."""

import json
import os
import stat
from types import SimpleNamespace

import pytest
import torch

from kdcore.errors import SettingsError
from kdcore.jobs.quota import thread_count
from kdcore.jobs.store import without_place
from kdcore.jobs.study_folder import StudyFolder
from kdcore.settings import Hardware
from kdcore.training import processes
from kdcore.training.fabric import make_fabric, with_common_statistics
from kdcore.training.processes import as_started, explain, led_by_rank_zero, lost_peer, start, threads, wants_start
from tests.conftest import run_settings
from tests.jobs.studies import put_study, tiny_study

SBATCH = {
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_NAME": "train",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
}
TWO_TASKS = SBATCH | {"SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "1"}
TORCHRUN = {
    "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0",
    "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500",
}  # fmt: skip
TWO = Hardware(device="cpu", devices=2)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Without what the tests' own surroundings say; gives what sets variables."""
    for name in [name for name in os.environ if name.startswith("SLURM_") or name in TORCHRUN]:
        monkeypatch.delenv(name)

    def put(values):
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return put


class TestWhoIsWho:
    @pytest.mark.parametrize("slurm", [SBATCH, TWO_TASKS], ids=["sbatch", "two tasks"])
    def test_one_device_is_one_process_whatever_slurm_says(self, environment, slurm):
        environment(slurm)
        fabric = make_fabric("cpu", 1, "32-true")
        fabric.launch()
        assert (fabric.global_rank, fabric.world_size) == (0, 1)

    @pytest.mark.parametrize("slurm", [{}, SBATCH, TWO_TASKS], ids=["no slurm", "sbatch", "two tasks"])
    def test_torchrun_says_which_process_this_is(self, environment, slurm):
        environment(slurm | TORCHRUN)
        fabric = make_fabric("cpu", 2, "32-true")  # not launched: there is no other process
        assert (fabric.global_rank, fabric.local_rank, fabric.world_size) == (1, 1, 2)
        assert (processes.rank(), processes.world()) == (1, 2)

    def test_half_of_the_variables_say_nothing(self, environment):
        environment({"WORLD_SIZE": "2", "RANK": "1"})
        assert (processes.started(), processes.rank(), processes.world()) == (False, 0, 1)

    def test_several_devices_need_processes_that_were_started(self, environment):
        environment(SBATCH)
        with pytest.raises(
            SettingsError, match=r"hardware\.devices x hardware\.nodes is 2, but .* started is 1\. `kdcore"
        ):
            make_fabric("cpu", 2, "32-true")
        assert wants_start(TWO)
        assert not wants_start(Hardware())

    def test_a_command_that_torchrun_started_has_its_processes(self, environment):
        assert as_started(Hardware()) == Hardware()
        environment(TORCHRUN)
        assert as_started(Hardware(device="cpu")) == TWO
        assert not wants_start(TWO)
        with pytest.raises(SettingsError, match="is 4, but torchrun started 2 processes"):
            as_started(Hardware(devices=4))
        environment({"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"})
        assert as_started(Hardware()) == Hardware(devices=4, nodes=2)
        assert as_started(Hardware(devices=8)) == Hardware(devices=8)

    def test_processes_of_a_machine_share_its_cores(self, environment, monkeypatch):
        monkeypatch.setenv("OMP_NUM_THREADS", "6")
        assert threads() == thread_count() == 6
        environment(TORCHRUN)
        assert threads() == 3

    def test_the_same_processes_on_other_machines_are_the_same_run(self, tmp_path):
        """A training on two machines of four is resumed on one of eight; on four processes it would be another training."""
        spread, together, fewer = (
            run_settings(tmp_path, hardware=Hardware(devices=devices, nodes=nodes))
            for devices, nodes in ((4, 2), (8, 1), (4, 1))
        )
        assert without_place(spread) == without_place(together)
        assert without_place(spread) != without_place(fewer)


class TestRankZero:
    def test_alone_does_the_work(self, environment, monkeypatch):
        """Rank 1 trains what it is told to: it takes no lock and writes no file."""
        environment(TORCHRUN)
        monkeypatch.setattr("kdcore.training.run.follow", lambda: 0)
        done = []
        with pytest.raises(SystemExit) as end:
            led_by_rank_zero(lambda: done.append(1))
        assert end.value.code == 0
        assert done == []

    def test_without_torchrun_there_is_nobody_to_lead(self):
        assert led_by_rank_zero(lambda: "done") == "done"

    def test_dismisses_the_others_however_it_ends(self, environment, monkeypatch, tmp_path):
        environment(TORCHRUN | {"RANK": "0", processes.ERROR_FILE: str(tmp_path / "error.json")})
        given = []
        monkeypatch.setattr(processes, "orders", lambda: SimpleNamespace(give=given.append))
        assert led_by_rank_zero(lambda: "done") == "done"
        assert given == [None]
        with pytest.raises(SettingsError, match="wrong"):
            led_by_rank_zero(lambda: refuse("wrong"))
        assert given == [None, None]
        assert json.loads((tmp_path / "error.json").read_text())["message"] == "wrong"


def refuse(sentence: str):
    raise SettingsError(sentence)


def failure(code: int, signal: str = "") -> SimpleNamespace:
    return SimpleNamespace(exitcode=code, signal_name=lambda: signal)


class TestWhatIsSaid:
    def say(self, folder, failures, said=()) -> int:
        for rank, message in said:
            file = folder / f"ranks/attempt_0/{rank}/error.json"
            file.parent.mkdir(parents=True)
            file.write_text(json.dumps({"message": message, "rank": rank, "timestamp": 1}))
        return explain(SimpleNamespace(failures=failures), folder, 2)

    def test_of_a_process_that_was_killed(self, tmp_path, capsys):
        assert self.say(tmp_path, {1: failure(-9, "SIGKILL")}) == 2
        said = capsys.readouterr().err
        assert said.startswith(
            "Error: process 1 of 2 was ended by the system (SIGKILL), most often for want of memory."
        )
        assert "it goes on from the last saved state" in said
        assert said.count("\n") == 1

    def test_of_a_process_that_said_why(self, tmp_path, capsys):
        assert self.say(tmp_path, {1: failure(2)}, [(1, "scene b cannot be read.")]) == 2
        assert capsys.readouterr().err == "Error: scene b cannot be read.\n"

    def test_is_nothing_more_where_rank_0_said_it(self, tmp_path, capsys):
        assert self.say(tmp_path, {0: failure(2), 1: failure(2)}, [(0, "diverged"), (1, "diverged")]) == 2
        assert capsys.readouterr().err == ""

    def test_what_torch_says_of_a_lost_process_is_understood(self):
        assert lost_peer(RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1234"))
        assert lost_peer(torch.distributed.DistNetworkError("The client socket has failed"))
        assert not lost_peer(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
        assert not lost_peer(ZeroDivisionError("division by zero"))


SCONTROL = """#!/bin/sh
case "$*" in
  "show hostnames n[3-4]") printf "n3\\nn4\\n" ;;
  "--oneliner show node n3") echo "NodeName=n3 Arch=x86_64 NodeAddr=10.0.0.3 NodeHostName=n3 OS=Linux" ;;
  "--oneliner show node n4") echo "NodeName=n4 NodeAddr=n4.cluster NodeHostName=n4" ;;
esac
"""


class TestSeveralMachines:
    def test_need_an_allocation_that_has_them(self, environment):
        with pytest.raises(
            SettingsError, match=r"nodes: 2 needs a Slurm allocation .* is in none\. .*torchrun --nnodes 2"
        ):
            start(Hardware(devices=4, nodes=2), ["-m", "kdcore"])
        environment(SBATCH | {"SLURM_JOB_NUM_NODES": "1"})
        with pytest.raises(SettingsError, match="this process has 1"):
            start(Hardware(devices=4, nodes=2), ["-m", "kdcore"])

    def test_are_reached_with_srun_once_a_node(self, environment, monkeypatch):
        environment(SBATCH | {"SLURM_JOB_NUM_NODES": "2"})
        ran = []
        monkeypatch.setattr(os, "execvp", lambda program, arguments: ran.append((program, arguments)))
        start(Hardware(devices=4, nodes=2), ["-m", "kdcore", "study"])
        ((program, arguments),) = ran
        assert program == arguments[0] == "srun"
        assert {"--nodes=2", "--ntasks=2", "--ntasks-per-node=1"} <= set(arguments)
        assert arguments[-3:] == ["-m", "kdcore", "study"]

    def test_meet_at_the_first_of_them(self, environment, monkeypatch, tmp_path):
        scontrol = tmp_path / "scontrol"
        scontrol.write_text(SCONTROL)
        scontrol.chmod(scontrol.stat().st_mode | stat.S_IXUSR)
        step = {
            "SLURM_STEP_NUM_TASKS": "2",
            "SLURM_STEP_NODELIST": "n[3-4]",
            "SLURM_STEP_ID": "5",
            "SLURMD_NODENAME": "n4",
        }
        environment(SBATCH | step | {"PATH": f"{tmp_path}:{os.environ['PATH']}"})
        met = []
        monkeypatch.setattr(processes, "launch", lambda *arguments: met.append(arguments) or 0)
        hardware = Hardware(devices=4, nodes=2)
        assert start(hardware, ["-m", "kdcore"]) == 0
        assert met == [(hardware, ["-m", "kdcore"], "10.0.0.3:24716", "n4.cluster")]  # 20000 + (4711 + 5) % 10000


def test_a_study_in_the_background_starts_its_processes(tmp_path):
    alone = put_study(tmp_path / "alone")
    several = put_study(tmp_path / "several", tiny_study().model_copy(update={"hardware": TWO}))
    assert StudyFolder(alone.path).program() == "kdcore.jobs.worker"
    assert StudyFolder(several.path).program() == "kdcore.training.rank"


def test_batch_norm_over_processes_is_for_gpus():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    with pytest.raises(SettingsError, match="SyncBatchNorm works on GPUs only"):
        with_common_statistics(network, SimpleNamespace(device=torch.device("cpu")))
    names = list(network.state_dict())
    with_common_statistics(network, SimpleNamespace(device=torch.device("cuda")))
    assert isinstance(network[1], torch.nn.SyncBatchNorm)
    assert list(network.state_dict()) == names  # checkpoints are the same
