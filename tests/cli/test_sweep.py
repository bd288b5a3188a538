"""`kdcore sweep`: from a folder to what matters, with real workers; and a sentence for everything a user can get wrong."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kdcore.cli.sweep import in_one_line, sweep_settings
from kdcore.errors import SettingsError
from kdcore.jobs import sweep_library
from kdcore.jobs.study_folder import About
from kdcore.jobs.sweep_folder import SweepFolder
from kdcore.jobs.sweep_trials import TrialRecord
from kdcore.settings import Range, SweepSettings, save
from tests.cli.test_study import refused, run
from tests.jobs.studies import processes_of, wait_for
from tests.training.sweeps import BUDGET
from tests.training.sweeps import sweep_settings as tiny_sweep

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(tmp_path):
    """A settings file of a sweep of seconds."""
    save(tiny_sweep(), tmp_path / "tiny.yaml")
    return tmp_path / "tiny.yaml"


@pytest.fixture
def out(tmp_path):
    """Where a sweep goes; its workers end with the test."""
    folder = tmp_path / "sweeps" / "first"
    yield folder
    for process in processes_of(SweepFolder(folder)):
        os.kill(process, signal.SIGKILL)


@pytest.mark.slow  # workers import torch, which takes several seconds each
def test_a_sweep_from_a_folder_to_its_sentences_and_on_with_more_trials(make_collection, settings, out):
    collection = make_collection()
    code, told, err = run(
        "sweep", collection, "--out", out, "--settings", settings, "--workers", 2, "--objectives", "quality"
    )
    assert code == 0, told + err
    assert "Best of" in told
    assert "student alone" in told
    assert "importances are told from 10 on" in told
    assert "with different settings spread by" in told
    assert err.count("mean AP") + err.count("ended early") == 6  # a line for each trial
    assert (out / "report.json").exists()

    code, told, err = run("sweep", collection, "--out", out, "--trials", 7, "--confirm", 2, "--json")
    assert code == 0, told + err
    report = json.loads(told)
    assert sum(trial["state"] in ("finished", "pruned") for trial in report["trials"]) == 7
    assert "2 fresh seeds, test split" in report["confirmation"]["sentence"]

    lines = SweepFolder(out).log_file.read_text()
    code, told, err = run("sweep", collection, "--out", out, "--json")  # nothing left to do: no worker is started
    assert code == 0, told + err
    assert json.loads(told) == report
    assert SweepFolder(out).log_file.read_text() == lines


@pytest.mark.slow  # a worker imports torch
def test_ctrl_c_stops_the_workers_and_the_same_command_goes_on(make_collection, tmp_path, out):
    collection = make_collection()
    save(
        tiny_sweep(trials=4, budget=BUDGET.model_copy(update={"steps": 60, "validate_every": 20})), tmp_path / "s.yaml"
    )
    words = ["sweep", str(collection), "--out", str(out), "--settings", str(tmp_path / "s.yaml"), "--workers", "1"]
    command = [sys.executable, "-c", "from kdcore.cli import main; main()", *words]
    terminal = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    sweep = SweepFolder(out)
    wait_for(lambda: (found := sweep.worker(0).said()) and found.trial is not None)
    worker = int(re.search(r"worker 0: started on .* process (\d+)", sweep.log_file.read_text())[1])
    os.kill(worker, signal.SIGSTOP)  # however fast it is, it is in the middle when the keys are pressed
    terminal.send_signal(signal.SIGINT)
    wait_for(sweep.cancel_file.exists)
    os.kill(worker, signal.SIGCONT)
    told, err = terminal.communicate(timeout=800)
    assert terminal.returncode == 130, told + err
    assert "Stopped. Start the same command again to go on." in err
    assert not sweep.alive
    assert sweep.progress().state == "stopped"
    assert run(*words)[0] == 0
    assert len(sweep.trials()) == 4


def test_ctrl_c_while_the_workers_start_stops_them_too(make_collection, settings, out, monkeypatch):
    begun = []

    def start(sweep, workers):
        begun.append(sweep.path)
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep_library, "start", start)
    monkeypatch.setattr(sweep_library, "stop", lambda sweep: begun.remove(sweep.path))
    code, _, err = run("sweep", make_collection(), "--out", out, "--settings", settings)
    assert code == 130
    assert "Stopped. Start the same command again to go on." in err
    assert begun == []


class TestRefusals:
    def test_of_data_that_are_not_there(self, out):
        assert "there is no such folder or file" in refused("sweep", "/nowhere", "--out", out)
        assert not out.exists()

    def test_of_an_empty_search_space(self, make_collection, tmp_path, out):
        (tmp_path / "fixed.yaml").write_text("space: {temperature: 2, alpha: 0.5}")
        sentence = refused("sweep", make_collection(), "--out", out, "--settings", tmp_path / "fixed.yaml")
        assert "the search space is empty" in sentence
        assert not out.exists()

    def test_of_objectives_that_cannot_be_measured(self, make_collection, out):
        collection = make_collection()
        assert "'latency' cannot be measured" in refused(
            "sweep", collection, "--out", out, "--objectives", "quality,latency"
        )
        assert "'beauty'" in refused("sweep", collection, "--out", out, "--objectives", "beauty")
        assert not out.exists()

    def test_of_a_storage_that_does_not_answer(self, make_collection, out, settings):
        url = "postgresql://me:secret@127.0.0.1:1/sweeps"
        sentence = refused("sweep", make_collection(), "--out", out, "--settings", settings, "--storage", url)
        assert "127.0.0.1 does not answer at port 1" in sentence
        assert "secret" not in sentence
        assert not out.exists()  # the next try may name another one

    def test_of_an_old_journal(self, make_collection, out, settings):
        collection = make_collection()
        SweepFolder.begin(out, tiny_sweep(), About(title="first", collection=collection, created=1000.0))
        (out / "journal.log").write_text('{"op_code": 99, "worker_id": "a"}\n')
        assert "cannot be read as a journal of Optuna" in refused("sweep", collection, "--out", out)

    def test_of_too_few_trials(self, make_collection, out):
        assert "2 trials are too few" in refused("sweep", make_collection(), "--out", out, "--trials", 2)

    def test_of_a_folder_that_holds_something_else(self, make_collection, tmp_path):
        collection = make_collection()
        assert "is not empty and holds no sweep" in refused("sweep", collection, "--out", tmp_path)

    @pytest.mark.slow  # a worker imports torch
    def test_of_a_teacher_that_is_not_there(self, make_collection, tmp_path, out):
        file = tmp_path / "teacher.yaml"
        save(tiny_sweep(), file)
        file.write_text(file.read_text().replace("checkpoints: []", "checkpoints: [/nowhere/best.safetensors]"))
        code, told, err = run("sweep", make_collection(), "--out", out, "--settings", file, "--workers", 1)
        assert code == 2, told + err
        assert "/nowhere/best.safetensors" in err


class TestSettings:
    def test_of_a_file_replace_entries_of_the_search_space_as_a_whole(self, tmp_path):
        (tmp_path / "s.yaml").write_text(
            "space: {temperature: [1, 4], learning_rate: {low: 1.0e-4, high: 1.0e-2}}\ntrials: 30"
        )
        chosen = sweep_settings(
            SweepSettings(), tmp_path / "s.yaml", {"trials": 40, "budget.steps": 50, "seconds": None}
        )
        assert chosen.space.temperature == (1, 4)
        assert chosen.space.alpha == Range(low=0, high=1)
        assert chosen.space.learning_rate == Range(low=1e-4, high=1e-2)
        assert (chosen.trials, chosen.budget.steps) == (40, 50)

    def test_with_a_space_that_is_none_are_refused(self, tmp_path):
        (tmp_path / "s.yaml").write_text("space: everything")
        with pytest.raises(SettingsError, match="space: holds 'everything'"):
            sweep_settings(SweepSettings(), tmp_path / "s.yaml", {})


def test_a_trial_in_one_line():
    done = TrialRecord(
        number=3, state="finished", params={"temperature": 3.1623, "alpha": 0.5}, values={"quality": 0.6543}
    )
    assert in_one_line(done) == "trial 3: temperature 3.16, alpha 0.5: 65.4 % mean AP"
    alone = TrialRecord(number=0, role="baseline", state="failed", message="diverged", params={"alpha": 0.0})
    assert in_one_line(alone) == "trial 0 (student alone): alpha 0: failed: diverged"
