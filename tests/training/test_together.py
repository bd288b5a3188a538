"""Real processes that share a training's batches: what they compute, and what happens when one of them is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from kdcore.data.batches import Batches
from kdcore.data.collection import Collection
from kdcore.data.survey import survey
from kdcore.evaluation.scores import Scores
from kdcore.evaluation.summary import summarise
from kdcore.inference.evaluate import evaluate
from kdcore.jobs.store import RunDirectory
from kdcore.jobs.study_folder import StudyFolder
from kdcore.models.checkpoint import load_network, load_tensors
from kdcore.models.networks import build_network
from kdcore.settings import Budget, Hardware, Recipe, TeacherSettings, save
from kdcore.training.loop import learning_rate
from kdcore.training.objective import compute_loss
from tests.conftest import SMALL_WINDOWS, run_settings, write_collection
from tests.training.studies import study_settings
from tests.training.test_run import SURVIVOR, leftovers, same_result

ROOT = Path(__file__).parents[2]
TWO = Hardware(device="cpu", devices=2)
SLURM = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
pytestmark = pytest.mark.slow  # three new processes import torch each time: ten seconds and more on two busy cores


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    return write_collection(tmp_path_factory.mktemp("together") / "collection")


def begin(module: str, *arguments: str, **options) -> "subprocess.Popen[str]":
    """Start `python -m MODULE ARGUMENTS` as inside of a Slurm job."""
    environment = os.environ | SLURM | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


def finish(process: "subprocess.Popen[str]", code: int = 0) -> tuple[str, str]:
    output, errors = process.communicate(timeout=600)
    assert process.returncode == code, output + errors
    return output, errors


def train_together(run: RunDirectory) -> list[int]:
    """The steps of which rank 0 told."""
    output, _ = finish(begin("tests.training.together", str(run.path)))
    return [int(line) for line in output.split()]


@pytest.fixture(scope="module")
def undisturbed(collection, tmp_path_factory):
    """A run of two processes that the killed one must end like."""
    settings = run_settings(collection, budget=SURVIVOR, hardware=TWO)
    run = RunDirectory.create(tmp_path_factory.mktemp("whole") / "run", settings)
    assert train_together(run) == list(range(1, SURVIVOR.steps + 1))
    return run


class TestTwoProcesses:
    def test_share_each_batch_and_average_gradients_and_loss(self, collection, tmp_path):
        """Three steps, against the same steps written out with torch: each half of a batch on its own."""
        budget = Budget(steps=3, batch_size=4, crop=64, validate_every=3, save_every=3)
        run = RunDirectory.create(tmp_path / "run", run_settings(collection, budget=budget, hardware=TWO))
        assert train_together(run) == [1, 2, 3]
        assert run.status.state == "finished"

        opened = Collection.open(collection)
        found = survey(opened, 64)
        halves = [Batches(opened, found, seed=0, batch_size=4, crop=64, rank=rank, ranks=2) for rank in range(2)]
        network = run.settings.network
        copies = [build_network(network, 3, 3, found.mean.tolist(), found.std.tolist(), seed=0) for _ in halves]
        optimiser = torch.optim.AdamW(copies[0].parameters(), weight_decay=budget.weight_decay)
        told = []
        for step in range(3):
            optimiser.param_groups[0]["lr"] = learning_rate(budget, step)
            for copy, half in zip(copies, halves, strict=True):
                copy.zero_grad()
                batch = half.batch(step)
                loss = compute_loss(copy(batch.image), None, batch, Recipe(alpha=0))["loss"]
                loss.backward()
                told.append(float(loss.detach()))
            for ours, theirs in zip(copies[0].parameters(), copies[1].parameters(), strict=True):
                ours.grad = (ours.grad + theirs.grad) / 2
            torch.nn.utils.clip_grad_norm_(copies[0].parameters(), budget.clip)
            optimiser.step()
            with torch.no_grad():
                for ours, theirs in zip(copies[0].parameters(), copies[1].parameters(), strict=True):
                    theirs.copy_(ours)
        tensors, _ = load_tensors(run.state)
        for name, parameter in copies[0].named_parameters():
            torch.testing.assert_close(tensors[f"network/{name}"], parameter.detach(), atol=2e-5, rtol=1e-4)
        logged = {line["step"]: line["loss"] for line in run.read_metrics() if "loss" in line}
        assert told[0] != pytest.approx(told[1], rel=1e-3)  # else an average would be no news
        assert logged == {
            1: pytest.approx((told[0] + told[1]) / 2),
            3: pytest.approx((told[4] + told[5]) / 2, rel=1e-4),
        }

    def test_score_the_validation_split_as_one_process_does(self, collection, undisturbed):
        opened = Collection.open(collection)
        network, info = load_network(undisturbed.best)
        buffer = undisturbed.settings.scored_buffer
        alone = evaluate(network, opened, "validation", SMALL_WINDOWS, fill=network.fill, buffer=buffer)
        scores = Scores.load(undisturbed.validation_scores)
        assert scores.tiles == alone.tiles
        for name in ("levels", "probability", "ties", "positives", "negatives", "confusion", "boundary"):
            np.testing.assert_array_equal(getattr(scores, name), getattr(alone, name))
        logged = {line["step"]: line["validation_mean_ap"] for line in undisturbed.read_metrics() if "loss" not in line}
        assert logged[info.step] == summarise(alone)["mean_ap"]


class TestAKilledProcess:
    SEED = int(os.environ.get("KDCORE_TEST_SEED", time.time_ns() % 2**32))

    @pytest.mark.parametrize("rank", [0, 1])
    def test_ends_the_others_and_the_run_ends_as_if_nothing_had_happened(self, collection, tmp_path, undisturbed, rank):
        rng = np.random.default_rng([self.SEED, rank])
        step, delay = int(rng.integers(1, SURVIVOR.steps)), float(rng.uniform(0, 0.05))
        print(f"KDCORE_TEST_SEED={self.SEED}: rank {rank} killed {1000 * delay:.0f} ms after step {step}")
        run = RunDirectory.create(tmp_path / "run", run_settings(collection, budget=SURVIVOR, hardware=TWO))
        process = begin("tests.training.together", str(run.path))
        while int(process.stdout.readline()) < step:
            continue
        time.sleep(delay)
        ranks = ranks_of(run.path)
        assert sorted(ranks) == [0, 1]
        os.kill(ranks[rank], signal.SIGKILL)
        _, errors = finish(process, code=2)
        said = [line for line in errors.splitlines() if line.startswith(("Error", "Traceback"))]
        assert len(said) == 1, errors
        assert f"process {rank} of 2 was ended by the system (SIGKILL)" in said[0]
        assert not ranks_of(run.path)
        assert not run.alive
        if rank == 1:  # rank 0 could still say so
            assert run.status.state == "failed"
            assert "one of the 2 processes was ended" in run.status.message
        assert train_together(run)[-1] == SURVIVOR.steps
        same_result(run, undisturbed)
        assert not leftovers(run.path)


def ranks_of(path: Path) -> dict[int, int]:
    """Process numbers by rank of those that work on a run."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = ((entry / name).read_bytes().split(b"\0") for name in ("cmdline", "environ"))
        except OSError:
            continue
        ranks = [int(value.removeprefix(b"RANK=")) for value in environment if value.startswith(b"RANK=")]
        if ranks and str(path).encode() in command:
            found[ranks[0]] = int(entry.name)
    return found


class TestAStudy:
    def test_that_torchrun_started(self, collection, undisturbed, tmp_path):
        """Without `--devices`: the variables of torchrun say how many there are, and those of Slurm do not matter."""
        teacher = TeacherSettings(network=undisturbed.settings.network, checkpoints=(undisturbed.best,))
        file, out = tmp_path / "settings.yaml", tmp_path / "study"
        save(study_settings(teacher=teacher, seeds=(0,)), file)
        study = ["-m", "kdcore", "study", str(collection), "--out", str(out), "--settings", str(file), "--json"]
        output, _ = finish(begin("torch.distributed.run", "--standalone", "--nproc-per-node", "2", *study))
        assert "verdict" in json.loads(output)["comparison"]  # one process reports
        folder = StudyFolder(out)
        assert folder.finished
        assert folder.settings.hardware.devices == 2
        assert [run.status.state for run in folder.runs()] == ["finished"] * 3
        assert "another process" not in folder.log_tail(1000)

    def test_in_the_background_is_stopped_and_resumed_and_ends_with_its_launcher(
        self, collection, undisturbed, tmp_path, monkeypatch
    ):
        from kdcore.jobs.launch import create
        from kdcore.jobs.workspace import Workspace
        from tests.jobs.studies import processes_of, wait_for

        for name, value in (SLURM | {"PYTHONPATH": str(ROOT)}).items():
            monkeypatch.setenv(name, value)
        teacher = TeacherSettings(network=undisturbed.settings.network, checkpoints=(undisturbed.best,))
        budget = Budget(steps=100_000, batch_size=2, crop=64, validate_every=50_000, save_every=50_000)
        settings = study_settings(teacher=teacher, seeds=(0,), hardware=TWO, budget=budget)
        study = create(Workspace(tmp_path / "studies"), "together", collection, settings, "token")
        study.start()
        run = RunDirectory(study.path / "runs/alone-s0")
        wait_for(lambda: run.status.step >= 10 or study.state == "failed")
        study.stop()
        wait_for(lambda: not study.alive)
        assert study.state == "stopped", study.log_tail()
        _, saved = load_tensors(run.state)
        assert 10 <= saved["step"] < budget.steps
        study.resume()
        wait_for(lambda: run.status.step > saved["step"] or study.state == "failed")
        ranks = ranks_of(study.path)
        assert sorted(ranks) == [0, 1], study.log_tail()
        (launcher,) = set(processes_of(study)) - set(ranks.values())
        os.kill(launcher, signal.SIGKILL)  # nobody is left who could end them, or report them
        wait_for(lambda: study.state == "interrupted")
        assert not processes_of(study)
        assert run.status.step > saved["step"]
        assert not run.alive
