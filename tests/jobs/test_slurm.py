"""What an array is told, and what its processes tell; a real Slurm is in `tests/cluster`."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kdcore.errors import RunError, SettingsError
from kdcore.jobs import lock_check, slurm
from kdcore.jobs.lock_check import FIRST, LOCK, check_locks, submitting
from kdcore.jobs.small_files import read_dict
from tests.jobs.studies import put_study, wait_for


def test_the_script_runs_the_same_command_in_every_process(tmp_path, monkeypatch):
    place = tmp_path / "it's here"
    place.mkdir()
    monkeypatch.chdir(place)
    said = place / "said.txt"
    command = [
        sys.executable,
        "-c",
        f"import os, sys; open({str(said)!r}, 'w').write(os.getcwd() + os.environ['KDCORE_LAUNCHED'] + sys.argv[1])",
        "a b$",
    ]
    text = slurm.script(command, "kdcore-test", place / ".slurm", 32, "--gpus=1 --time=4:00:00")
    assert text.startswith("#!/bin/bash\n#SBATCH ")
    for line in (
        "--array=1-32",
        "--requeue",
        "--signal=B:TERM@120",
        f'--output="{place}/.slurm/%A_%a.log"',
        "--gpus=1 --time=4:00:00",
    ):
        assert f"\n#SBATCH {line}\n" in text
    (tmp_path / "script.sh").write_text(text)
    subprocess.run(["bash", tmp_path / "script.sh"], check=True, cwd="/")
    assert said.read_text() == f"{place}{place / '.slurm'}a b$"


def test_a_training_on_several_nodes_is_told_to_save_in_its_step(tmp_path):
    """The script becomes srun there, which Slurm must not tell: srun ends its processes at once."""
    text = slurm.script(["true"], "kdcore-test", tmp_path, 1, "--gpus=4", nodes=2)
    assert "\n#SBATCH --nodes=2 --ntasks-per-node=1 --gpus=4\n" in text
    assert "\n#SBATCH --signal=TERM@120\n" in text


@pytest.mark.parametrize("options", ["--gpus=1\nrm -rf ~", "--gpus=1\r", "\u2028"])
def test_options_cannot_leave_their_line(tmp_path, options):
    with pytest.raises(SettingsError, match=r"--slurm .* must stand on one line"):
        slurm.script(["true"], "kdcore", tmp_path, 1, options)


@pytest.mark.parametrize(
    "more",
    [
        ["--launch", "slurm", "--tasks", "4", "--slurm", "--gpus=1 -t 4"],
        ["--launch=slurm", "--tasks=4", "--slurm=--gpus=1"],
        [],
    ],
)
def test_a_process_is_not_told_to_launch_again(more):
    command = slurm.command_of(["predict", "a.onnx", *more, "b.tif", "--out", "maps"])
    assert command == [sys.executable, "-m", "kdcore", "predict", "a.onnx", "b.tif", "--out", "maps"]


class TestLocks:
    @pytest.fixture(autouse=True)
    def _quick(self, monkeypatch):
        monkeypatch.setattr(lock_check, "BEAT", 0.02)
        monkeypatch.setattr(lock_check, "PATIENCE", 0.5)

    def test_that_are_seen_are_well(self, tmp_path):
        with submitting(tmp_path):
            check_locks(tmp_path)
            assert read_dict(tmp_path / FIRST)["locks"] is True
        assert not (tmp_path / LOCK).exists()

    def test_of_a_submitter_who_has_gone_are_not_missed(self, tmp_path):
        check_locks(tmp_path)
        (tmp_path / LOCK).write_text("12")  # it was killed
        check_locks(tmp_path)
        assert read_dict(tmp_path / FIRST)["locks"] is True

    def test_that_stay_on_one_machine_are_refused(self, tmp_path):
        """A submitter gives signs of life, but nobody sees its lock: as on Lustre that is mounted without `flock`."""
        over = threading.Event()

        def beat():
            number = 0
            while not over.wait(0.01):
                number += 1
                (tmp_path / LOCK).write_text(str(number))

        thread = threading.Thread(target=beat)
        thread.start()
        try:
            wait_for((tmp_path / LOCK).exists)
            with pytest.raises(RunError, match="locks on this file system do not reach from one machine to another"):
                check_locks(tmp_path)
        finally:
            over.set()
            thread.join()
        assert read_dict(tmp_path / FIRST)["locks"] is False

    def test_that_the_first_process_does_not_see_cancel_the_array(self, tmp_path, monkeypatch):
        asked = pretend(monkeypatch, "PENDING\n")
        (tmp_path / FIRST).write_text('{"host": "n7", "locks": false}')
        with pytest.raises(RunError, match="n7 does not see the submitter's"):
            slurm.wait_for_first(tmp_path, "12", lambda text: None)
        assert ("scancel", "12") in asked


@pytest.mark.parametrize("said", ["", "squeue: error: Invalid job id specified"])
def test_an_array_that_ends_before_it_says_anything_is_told(tmp_path, monkeypatch, said):
    def ask(*command, seconds=60):
        if said:
            raise SettingsError(said)
        return ""

    monkeypatch.setattr(slurm, "ask", ask)
    slurm._states.cache_clear()
    with pytest.raises(RunError, match=r"its processes ended before one of them could say anything\. See .*12_1\.log"):
        slurm.wait_for_first(tmp_path, "12", lambda text: None)


def pretend(monkeypatch, answer):
    """Slurm's commands that answer so; what they were asked."""
    asked = []

    def ask(*command, seconds=60):
        asked.append(command)
        return answer

    monkeypatch.setattr(slurm, "ask", ask)
    slurm._states.cache_clear()
    return asked


def put_array(folder):
    (folder / ".slurm").mkdir(parents=True, exist_ok=True)
    (folder / ".slurm/job.json").write_text('{"job": "12"}')


@pytest.mark.parametrize(("answer", "state"), [("PENDING\n", "queued"), ("", "interrupted")])
def test_a_study_whose_process_is_gone_waits_only_while_slurm_says_so(tmp_path, monkeypatch, answer, state):
    from kdcore.jobs.status import Status

    study = put_study(tmp_path / "one", job=Status(state="running"))
    pretend(monkeypatch, answer)
    put_array(study.path)
    assert study.state == state


@pytest.mark.parametrize(("answer", "again"), [("RUNNING\n", True), ("COMPLETING\n", False), ("", False)])
def test_a_process_that_slurm_ends_for_good_does_not_ask_for_a_new_start(monkeypatch, answer, again):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(slurm.shutil, "which", lambda name: name)
    asked = pretend(monkeypatch, answer)
    slurm.start_again()
    signal.signal(signal.SIGTERM, before)
    assert (("scontrol", "requeue", "7") in asked) is again


def test_without_slurm_a_sentence_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SettingsError, match="there is no sbatch on this machine"):
        slurm.submit("#!/bin/bash\n", tmp_path, 1)


def test_the_script_is_printed_for_other_schedulers(tmp_path):
    command = [
        sys.executable,
        "-m",
        "kdcore",
        "predict",
        "net.onnx",
        "a.tif",
        "--out",
        "maps",
        "--launch",
        "print",
        "--tasks",
        "3",
    ]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    for name in ("net.onnx", "a.tif"):
        (tmp_path / name).touch()
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "#SBATCH --array=1-3\n" in done.stdout
    assert done.stdout.endswith(f"exec {sys.executable} -m kdcore predict net.onnx a.tif --out maps\n")
    refused = subprocess.run(
        [*command, "--overwrite"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert "every process would begin anew" in " ".join(refused.stderr.split())
