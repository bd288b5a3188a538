"""A study in MLflow: found there, by MLflow's own client, with its parameters, histories, curves and checkpoints."""

import csv
import importlib.util
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve
from typer.testing import CliRunner

from kdcore.cli import app
from kdcore.errors import KdcoreError, RunError, SettingsError
from kdcore.evaluation.scores import Scores
from kdcore.jobs.workspace import Workspace

if importlib.util.find_spec("mlflow") is None:
    pytest.skip("MLflow is not installed", allow_module_level=True)

from kdcore.deploy.mlflow import export_study, identity, importable

needs_server = pytest.mark.skipif(
    importlib.util.find_spec("flask") is None, reason="only MLflow's client is installed, not its server"
)


@pytest.fixture(scope="module")
def example():
    return Workspace().example()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """MLflow's own server with SQLite on a port of this machine; gives its address."""
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "files"),
    ]
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    while True:
        assert process.poll() is None, (folder / "log.txt").read_text()
        try:
            urllib.request.urlopen(f"{address}/health", timeout=5).close()
            break
        except OSError:
            time.sleep(0.2)
    yield address
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def files_below(client, run: str, folder: str | None = None) -> set[str]:
    found = set()
    for entry in client.list_artifacts(run, folder):
        found |= files_below(client, run, entry.path) if entry.is_dir else {entry.path}
    return found


@pytest.fixture(
    params=["folder", pytest.param("server", marks=[needs_server, pytest.mark.slow])]
)  # it takes 15 s to start
def uri(request, tmp_path):
    return (tmp_path / "runs").as_uri() if request.param == "folder" else request.getfixturevalue("server")


def test_a_study_is_found_there_with_all_that_it_holds(example, uri, tmp_path):
    names = sorted(run.path.name for run in example.runs())
    assert sorted(export_study(example, uri)) == sorted([*names, example.id])
    client = importable()(tracking_uri=uri)
    experiment = client.get_experiment_by_name(example.id)
    found = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert sorted(found) == sorted([*names, example.id])
    assert {run.info.status for run in found.values()} == {"FINISHED"}

    parent = found[example.id]
    assert parent.data.tags["mlflow.note.content"] == example.report()["comparison"]["sentence"]
    assert files_below(client, parent.info.run_id) >= {"report.json", "study.yaml"}
    assert json.loads(parent.data.params["seeds"]) == [0, 1, 2, 3, 4]

    student = found["distilled-s0"]
    assert student.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert student.data.params["recipe.alpha"] == "0.9"
    assert student.data.params["network.encoder"] == "tu-regnetx_002"
    lines = example.run("distilled-s0").read_metrics()
    history = client.get_metric_history(student.info.run_id, "validation_mean_ap")
    expected = [(line["step"], line["validation_mean_ap"]) for line in lines if "validation_mean_ap" in line]
    assert sorted((metric.step, metric.value) for metric in history) == expected
    losses = client.get_metric_history(student.info.run_id, "loss")
    assert {metric.step: metric.value for metric in losses}[10] == 2.520256757736206  # of metrics.jsonl
    assert student.data.metrics["test.mean_ap"] == example.run("distilled-s0").read_report()["test"]["mean_ap"]
    own = tmp_path / "own"
    own.mkdir()
    checkpoint = client.download_artifacts(student.info.run_id, "checkpoints/best.safetensors", str(own))
    with open(checkpoint, "rb") as file:
        assert file.read() == example.run("distilled-s0").best.read_bytes()

    assert export_study(example, uri) == []  # once more changes nothing
    assert len(client.search_runs([experiment.experiment_id])) == len(found)


def test_its_curves_are_those_of_scikit_learn(example, tmp_path):
    uri = (tmp_path / "runs").as_uri()
    export_study(example, uri)
    client = importable()(tracking_uri=uri)
    experiment = client.get_experiment_by_name(example.id)
    (run,) = client.search_runs([experiment.experiment_id], "tags.`kdcore.run` = 'distilled-s0'")
    scores = Scores.load(example.run("distilled-s0").scores)
    (tmp_path / "own").mkdir()
    with open(
        client.download_artifacts(run.info.run_id, "precision_recall/building.csv", str(tmp_path / "own"))
    ) as file:
        rows = list(csv.DictReader(io.StringIO(file.read())))
    index = scores.classes.index("building")
    positives, negatives = (counts[index] for counts in scores.total())
    levels = np.arange(len(positives))
    values = np.concatenate([np.repeat(levels, positives), np.repeat(levels, negatives)])
    truth = np.repeat([1, 0], [positives.sum(), negatives.sum()])
    precision, recall, _ = precision_recall_curve(truth, values)
    ours = {(float(row["precision"]), float(row["recall"])) for row in rows}
    theirs = {(round(float(p), 6), round(float(r), 6)) for p, r in zip(precision[:-1], recall[:-1], strict=True)}
    assert ours == theirs
    thresholds = [float(row["threshold"]) for row in rows]
    assert thresholds == sorted(thresholds, reverse=True)


def test_an_export_that_broke_off_is_started_again(example, tmp_path):
    uri = (tmp_path / "runs").as_uri()

    def no_more(progress):
        if progress.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_study(example, uri, no_more)
    client = importable()(tracking_uri=uri)
    experiment = client.get_experiment_by_name(example.id).experiment_id
    client.create_run(experiment, tags=identity(example, example.runs()[2].path.name), run_name="half")
    export_study(example, uri)
    names = [run.info.run_name for run in client.search_runs([experiment])]
    assert sorted(names) == sorted([*(run.path.name for run in example.runs()), example.id])


def test_the_command_says_where_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("KDCORE_WORKSPACE", str(tmp_path / "studies"))
    arguments = ["runs", "export", "example", "--mlflow", str(tmp_path / "runs")]
    first, second = (CliRunner().invoke(app, arguments) for _ in range(2))
    assert (first.exit_code, second.exit_code) == (0, 0), first.output
    assert "distilled-s0" in first.stdout
    assert "everything was there already" in second.stdout


def test_a_server_that_is_not_there_is_a_sentence(example):
    with pytest.raises(KdcoreError, match=r"http://127\.0\.0\.1:9: MLflow could not take the study"):
        export_study(example, "http://127.0.0.1:9")


def test_without_mlflow_the_sentence_says_what_to_install(example, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "mlflow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    with pytest.raises(SettingsError, match=r"pip install 'kdcore\[mlflow\]'"):
        export_study(example, "runs")


def test_a_study_that_is_not_finished_is_refused(tmp_path):
    from tests.jobs.studies import put_study

    study = put_study(tmp_path / "studies" / "mine")
    with pytest.raises(RunError, match="is not finished"):
        export_study(study, (tmp_path / "runs").as_uri())
