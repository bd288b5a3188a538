"""The same command by several processes of a real Slurm: nothing is lost, nothing is done twice, however they end."""

import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from kdcore.inference.prediction import Prediction
from kdcore.jobs import launch, slurm
from kdcore.jobs.study_folder import StudyFolder
from kdcore.jobs.sweep_folder import SweepFolder
from kdcore.jobs.workspace import Workspace
from kdcore.models.checkpoint import CheckpointInfo, load_tensors, save_network
from kdcore.models.networks import build_network
from kdcore.settings import Budget, TeacherSettings, save
from kdcore.training.study import run_study
from tests.conftest import TINY, write_collection, write_raster
from tests.inference.engines import same_maps
from tests.jobs.studies import tiny_study, wait_for
from tests.pages.test_train import button
from tests.training.studies import same_weights
from tests.training.sweeps import BUDGET, sweep_settings

pytestmark = (
    pytest.mark.slow
)  # 30 to 90 s each: six to ten processes, each of which imports torch, on two simulated machines


def process_of(job: str, *more: str) -> int:
    """The kdcore process of a job, in whose surroundings more is said."""
    wanted = {variable.encode() for variable in (f"SLURM_JOB_ID={job}", *more)}
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            variables, words = ((entry / name).read_bytes().split(b"\0") for name in ("environ", "cmdline"))
            if wanted <= set(variables) and b"kdcore" in words:
                return int(entry.name)
    raise AssertionError(f"job {job} has no process with {more}")


def step_of(study, run):
    """How far a run of a study is."""
    return study.run(run).status.step if (study.path / "runs" / run / "settings.yaml").exists() else 0


def finish(process, code=0):
    """What a command printed, once it has ended."""
    out, errors = process.communicate(timeout=800)
    assert process.returncode == code, out + errors
    return out, " ".join(errors.split())


def test_an_array_maps_everything_though_one_process_is_killed(nodes, tmp_path):
    info = CheckpointInfo(network=TINY, bands=3, band_numbers=(1, 2, 3), classes=("land", "building"))
    save_network(tmp_path / "model.safetensors", build_network(TINY, 3, 1, [128.0] * 3, [70.0] * 3, seed=0), info)
    rng = np.random.default_rng(0)
    for index in range(10):
        write_raster(tmp_path / f"small{index}.tif", rng.integers(1, 254, (3, 100 + index, 120), dtype=np.uint8))
    write_raster(tmp_path / "large.tif", rng.integers(1, 254, (3, 5000, 5000), dtype=np.uint8), tiled=True)
    rasters = sorted(file.name for file in tmp_path.glob("*.tif"))
    command = ("predict", "model.safetensors", *rasters, "--threshold", 0.01, "--min-area", 20)
    out, _ = finish(
        nodes.kdcore(
            *command, "--out", "maps", "--launch", "slurm", "--tasks", 2, "--slurm", "--exclusive", cwd=tmp_path
        )
    )
    assert "Submitted: job" in out
    assert "and sees this one's lock" in out
    wait_for(lambda: [state for _, state, _, _ in nodes.queue()] == ["RUNNING"] * 2)
    large = Prediction(tmp_path / "maps", "large")
    wait_for(large.finished_parts)
    victim = nodes.queue()[0][3]
    os.kill(process_of(victim), signal.SIGKILL)
    wait_for(lambda: not nodes.queue())
    finish(nodes.kdcore(*command, "--out", "alone", cwd=tmp_path))
    for raster in rasters:
        assert same_maps(tmp_path / "alone", tmp_path / "maps", raster.removesuffix(".tif"))
    kept = {".slurm"} | {path.name for path in (tmp_path / "alone").iterdir()}
    assert {path.name for path in (tmp_path / "maps").iterdir()} == kept


def test_a_local_worker_and_an_array_share_a_sweep_though_one_is_killed(nodes, tmp_path):
    collection = write_collection(tmp_path / "data")
    budget = BUDGET.model_copy(update={"steps": 150, "validate_every": 50, "save_every": 50})
    save(sweep_settings(budget=budget, pruning=False), tmp_path / "sweep.yaml")
    command = ("sweep", collection, "--out", "sweep", "--settings", "sweep.yaml")
    out, _ = finish(nodes.kdcore(*command, "--launch", "slurm", "--tasks", 2, "--slurm", "--exclusive", cwd=tmp_path))
    assert "2 processes" in out
    local = nodes.kdcore(*command, "--workers", 1, cwd=tmp_path)
    sweep = SweepFolder(tmp_path / "sweep")

    def at_work():
        """A worker of the array that is in a trial."""
        for status in sweep.workers().values():
            if "-job-" in status.host and status.trial is not None and status.done:
                return status
        return None

    status = wait_for(at_work)
    job = status.host.rpartition("-")[2]
    os.kill(process_of(job), signal.SIGKILL)
    finish(local)
    wait_for(lambda: not nodes.queue())
    counted = [trial for trial in sweep.trials() if trial.retried_as is None]
    assert [trial.state for trial in counted] == ["finished"] * 6
    assert sorted(trial.role for trial in counted) == ["baseline", "repeat", "repeat", "search", "search", "search"]
    machines = {status.host for status in sweep.workers().values()}
    assert len(machines) == 3  # this one and two allocations
    assert sweep.progress().state == "finished"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A study that those of Slurm must end like: its folder. Beside it lie its data and its settings."""
    folder = tmp_path_factory.mktemp("undisturbed")
    budget = Budget(steps=250, batch_size=2, crop=64, validate_every=50, save_every=20)
    settings = tiny_study(budget, teacher=TeacherSettings(network=TINY, budget=budget))
    save(settings, folder / "settings.yaml")
    run_study(write_collection(folder / "collection"), settings, folder / "alone/one")
    return StudyFolder(folder / "alone/one")


def same_study(one, other):
    """Whether two studies ended with the same checkpoints."""
    pairs = [(run.best, other.run(run.path.name).best) for run in one.runs()]
    return len(pairs) == 3 and all(same_weights(*pair) for pair in pairs)


def kill_machine_of(nodes, study):
    """Kill the machine on which the one process of a study works, and wait until Slurm has started it on the other one."""
    node = nodes.queue()[0][2]
    nodes.kill_node(node)
    wait_for(lambda: not study.alive)
    wait_for(lambda: study.alive)
    assert [entry[2] for entry in nodes.queue()] == [{"n1": "n2", "n2": "n1"}[node]]


def test_a_study_is_preempted_loses_its_machine_is_cancelled_and_resumed(nodes, undisturbed, tmp_path):
    data = undisturbed.path.parents[1]
    command = ("study", data / "collection", "--out", "studies/one", "--settings", data / "settings.yaml")
    command += ("--launch", "slurm")
    finish(nodes.kdcore(*command, cwd=tmp_path))
    study = Workspace(tmp_path / "studies").study("one")
    wait_for(lambda: step_of(study, "teacher-s0") >= 20)
    nodes.ask("scancel", "--batch", "--signal=TERM", nodes.queue()[0][3])  # as before the end of its time
    wait_for(lambda: not study.alive)
    assert step_of(study, "teacher-s0") < 250
    assert study.state == "queued"
    wait_for(lambda: study.state == "running")
    before = step_of(study, "teacher-s0")
    assert before >= 20
    wait_for(lambda: step_of(study, "teacher-s0") > before)
    kill_machine_of(nodes, study)
    wait_for(lambda: step_of(study, "alone-s0") >= 20)
    finish(nodes.kdcore("runs", "stop", "one", cwd=tmp_path))
    wait_for(lambda: study.state == "stopped")
    wait_for(lambda: not nodes.queue())
    assert step_of(study, "distilled-s0") == 0
    nodes.start_missing()
    finish(nodes.kdcore(*command, "--tasks", 2, "--slurm", "--exclusive", cwd=tmp_path))
    wait_for(lambda: study.state == "finished")
    assert same_study(study, undisturbed)


SEED = int(os.environ.get("KDCORE_TEST_SEED", time.time_ns() % 2**32))


def test_a_training_on_two_nodes_ends_as_on_one_machine(nodes, tmp_path):
    """The teacher's training loses a process, that of the student alone is told to end, and the distilled student's is left alone."""
    rng = np.random.default_rng(SEED)
    rank, step, delay = int(rng.integers(2)), int(rng.integers(1, 80)), float(rng.uniform(0, 0.1))
    print(f"KDCORE_TEST_SEED={SEED}: rank {rank} killed {1000 * delay:.0f} ms after step {step}")
    collection = write_collection(tmp_path / "collection")
    budgets = [Budget(steps=steps, batch_size=2, crop=64, validate_every=steps, save_every=20) for steps in (160, 80)]
    save(tiny_study(budgets[1], teacher=TeacherSettings(network=TINY, budget=budgets[0])), tmp_path / "settings.yaml")
    command = ("study", collection, "--settings", "settings.yaml", "--device", "cpu", "--devices")
    finish(nodes.kdcore(*command, 2, "--out", "together/one", cwd=tmp_path))
    command += (1, "--nodes", 2, "--out", "studies/one", "--launch", "slurm")
    finish(nodes.kdcore(*command, cwd=tmp_path))
    study = Workspace(tmp_path / "studies").study("one")
    wait_for(lambda: step_of(study, "teacher-s0") >= step)
    time.sleep(delay)
    os.kill(process_of(nodes.queue()[0][3], f"RANK={rank}"), signal.SIGKILL)
    wait_for(lambda: not nodes.queue())
    assert study.state == ("failed" if rank else "interrupted")  # rank 0 could still say so
    assert not study.run("teacher-s0").report.exists()
    finish(nodes.kdcore(*command, cwd=tmp_path))
    wait_for(lambda: step_of(study, "alone-s0") >= 10)
    nodes.ask("scancel", "--signal=TERM", nodes.queue()[0][3])  # the job's step, as before the end of its time
    wait_for(lambda: not study.alive)
    assert study.state == "queued"
    assert 10 <= load_tensors(study.run("alone-s0").state)[1]["step"] < 80
    wait_for(lambda: study.state == "finished")
    assert same_study(study, StudyFolder(tmp_path / "together/one"))


def test_scores_of_an_evaluation_stand_in_its_log(nodes, tmp_path):
    collection = write_collection(tmp_path / "collection", classes=2)
    info = CheckpointInfo(network=TINY, bands=3, band_numbers=(1, 2, 3), classes=("land", "building"))
    save_network(tmp_path / "model.safetensors", build_network(TINY, 3, 1, [128.0] * 3, [70.0] * 3, seed=0), info)
    finish(nodes.kdcore("evaluate", "model.safetensors", collection, "--launch", "slurm", cwd=tmp_path))
    wait_for(lambda: not nodes.queue())
    (log,) = (tmp_path / ".slurm").glob("*_1.log")
    assert "Boundary IoU" in log.read_text()


def test_a_study_from_a_page_loses_its_machine_is_stopped_and_resumed(
    nodes, undisturbed, tmp_path, monkeypatch, open_page
):
    """What a click on Launch submits is in `tests/pages/test_slurm.py`."""
    workspace = Workspace(tmp_path / "studies")
    variables = {"KDCORE_SLURM_OPTIONS": "--exclusive", "KDCORE_WORKSPACE": str(workspace.path)}
    for name, value in (nodes.environment | variables).items():
        monkeypatch.setenv(name, value)
    data = undisturbed.path.parents[1] / "collection/collection.yaml"
    study = launch.create(workspace, "One", data, undisturbed.settings, "token")
    for _ in range(2):  # a double click
        launch.start_in_slurm(study, 1)
    assert study.state == "queued"
    assert len(nodes.queue()) == 1
    wait_for(lambda: step_of(study, "teacher-s0") >= 20)
    kill_machine_of(nodes, study)
    page, before = open_page("train", study=study.id), step_of(study, "teacher-s0")
    wait_for(lambda: step_of(study, "teacher-s0") > before)
    button(page, "Stop training").click().run()
    wait_for(lambda: study.state == "stopped")
    before = {entry[3] for entry in nodes.queue()}  # it may still be about to end
    button(open_page("train", study=study.id), "Resume").click().run()
    assert len({entry[3] for entry in nodes.queue()} - before) == 1  # not on the dashboard's machine
    wait_for(lambda: study.state == "finished")
    assert same_study(study, undisturbed)
    wait_for(lambda: not nodes.queue())
    assert not list((study.path / ".slurm").glob("*.lock"))


def test_what_waits_is_taken_out_of_the_queue_by_a_stop(nodes, tmp_path):
    collection = write_collection(tmp_path / "collection")
    save(tiny_study(), tmp_path / "settings.yaml")
    command = ("study", collection, "--out", "studies/one", "--settings", "settings.yaml", "--launch", "slurm")
    waiting = nodes.kdcore(*command, "--slurm", "--hold", cwd=tmp_path)
    wait_for(lambda: [entry[1] for entry in nodes.queue()] == ["PENDING"])
    waiting.send_signal(signal.SIGINT)
    assert "It stays in the queue" in finish(waiting)[1]
    study = Workspace(tmp_path / "studies").study("one")
    assert study.state == "queued"
    finish(nodes.kdcore("runs", "stop", "one", cwd=tmp_path))
    assert not nodes.queue()
    assert study.state == "stopped"


def test_a_stop_while_sbatch_is_asked_keeps_the_jobs_number(nodes, tmp_path):
    """Ctrl-C goes to all processes of a terminal, sbatch among them, at a moment at which Slurm may have taken the job in."""
    write_collection(tmp_path / "collection")
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "sbatch").write_text(f'#!/bin/sh\necho asked > {slow}/asked\nsleep 2\nexec {shutil.which("sbatch")} "$@"\n')
    (slow / "sbatch").chmod(0o755)
    command = ("study", tmp_path / "collection", "--out", "studies/one", "--preset", "demo", "--launch", "slurm")
    asking = nodes.kdcore(*command, "--slurm", "--hold", cwd=tmp_path, before=slow)
    wait_for((slow / "asked").exists)
    os.killpg(asking.pid, signal.SIGINT)
    errors = finish(asking)[1]
    number = slurm.number_of(tmp_path / "studies/one")
    assert [entry[1] for entry in nodes.queue()] == ["PENDING"]
    assert f"scancel {number}" in errors
    finish(nodes.kdcore("runs", "stop", "one", cwd=tmp_path))
    assert not nodes.queue()


def test_options_that_slurm_refuses_are_told_in_its_words(nodes, tmp_path):
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "a.tif").touch()
    command = (
        "predict",
        "model.safetensors",
        "a.tif",
        "--out",
        "maps",
        "--launch",
        "slurm",
        "--slurm",
        "--partition=none",
    )
    _, errors = finish(nodes.kdcore(*command, cwd=tmp_path), 2)
    assert "sbatch: refuses it (sbatch: error: invalid partition specified: none" in errors
