"""A study in MLflow: settings as parameters, metrics step by step, precision-recall curves, report and checkpoints as artifacts.

The study becomes an experiment of its name. In it one run stands for the study, with its report, and below it one for each
finished run. What was exported before is left as it is, so an export that broke off is simply started again.
"""

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcore.errors import KdcoreError, SettingsError, in_short
from kdcore.evaluation.curves import precision_recall
from kdcore.evaluation.scores import Scores
from kdcore.jobs.progress import Progress, Report, Stage, ignore
from kdcore.jobs.store import RunDirectory
from kdcore.jobs.study_folder import StudyFolder

if TYPE_CHECKING:
    from mlflow.entities import Experiment
    from mlflow.tracking import MlflowClient

MOST_METRICS, MOST_PARAMETERS = 1000, 100  # that MLflow takes at once
LONGEST = 6000  # letters of a parameter
STUDY, RUN, PARENT = "kdcore.study", "kdcore.run", "mlflow.parentRunId"  # tags


def export_study(study: StudyFolder, uri: str, report: Report = ignore) -> list[str]:
    """Write a finished study into an MLflow store.

    Args:
        study: its report is there.
        uri: of the store: `http://HOST:PORT` of a running server, or a folder (`file:///...` or a path).
        report: is told runs done and runs in all.

    Returns:
        The names of the runs that were not there yet.

    Raises:
        RunError: the study is not finished.
        SettingsError: MLflow is not installed.
        KdcoreError: the store cannot be reached, or refuses something.
    """
    values = study.report()
    client_of = importable()
    from mlflow.exceptions import MlflowException

    runs = [run for run in study.runs() if run.report.exists()]
    new = []
    try:
        client = client_of(tracking_uri=uri)
        experiment = experiment_of(client, study)
        parent = find(client, experiment, study, "")
        if parent is None:
            parent = export_report(client, experiment, study, values)
            new.append(study.id)
        for number, run in enumerate(runs):
            report(Progress(run.path.name, Stage.EXPORTING, number, len(runs)))
            if find(client, experiment, study, run.path.name) is None:
                export_run(client, experiment, study, run, parent)
                new.append(run.path.name)
        report(Progress("", Stage.EXPORTING, len(runs), len(runs)))
    except (MlflowException, OSError) as error:
        raise KdcoreError(f"{uri}: MLflow could not take the study ({in_short(error, 400)}).") from error
    return new


def importable() -> "type[MlflowClient]":
    """MLflow's client; it tells MLflow's own servers nothing, and takes folders, too.

    Raises:
        SettingsError: MLflow is not installed.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # a server that is not there is told in seconds
    try:
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise SettingsError(
            "The export to MLflow needs the package mlflow-skinny. Install it: pip install 'kdcore[mlflow]'"
        ) from error
    client: type[MlflowClient] = MlflowClient
    return client


def experiment_of(client: "MlflowClient", study: StudyFolder) -> "Experiment":
    """The experiment of a study's name, made where it is not there."""
    found = client.get_experiment_by_name(study.id)
    return found or client.get_experiment(client.create_experiment(study.id))


def identity(study: StudyFolder, name: str) -> dict[str, str]:
    """The tags by which a run is found again; `name` is empty for the study itself."""
    data = study.data or {}
    return {STUDY: f"{study.id} {data.get('hash', '')} {study.created:.0f}", RUN: name or "study"}


def find(client: "MlflowClient", experiment: "Experiment", study: StudyFolder, name: str) -> str | None:
    """The id of a run that was exported whole; one that broke off is removed."""
    wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in identity(study, name).items())
    whole = None
    for found in client.search_runs([experiment.experiment_id], wanted):
        if found.info.status == "FINISHED":
            whole = found.info.run_id
        else:
            client.delete_run(found.info.run_id)
    return whole


def export_report(client: "MlflowClient", experiment: "Experiment", study: StudyFolder, values: dict[str, Any]) -> str:
    """The run that stands for the study: its settings, what the report says, the report itself; gives its id."""
    tags = identity(study, "") | {"mlflow.note.content": values["comparison"]["sentence"]}
    started = milliseconds(study.created)
    made = client.create_run(experiment.experiment_id, started, tags=tags, run_name=study.id)
    id = made.info.run_id
    log_parameters(client, id, study.settings.model_dump(mode="json"))
    log_metrics(client, id, [(key, value, 0, started) for key, value in numbers(values["comparison"])])
    for file in (study.path / "report.json", study.page, study.settings_file):
        if file.exists():
            client.log_artifact(id, str(file))
    client.set_terminated(id, "FINISHED")
    return str(id)


def export_run(
    client: "MlflowClient", experiment: "Experiment", study: StudyFolder, run: RunDirectory, parent: str
) -> None:
    """One training: its settings, the history of its metrics, its scores, its curves and its checkpoint."""
    values, status, name = run.read_report(), run.status, run.path.name
    began = status.updated - status.elapsed
    tags = identity(study, name) | {PARENT: parent, "arm": values["arm"], "seed": str(values["seed"])}
    made = client.create_run(experiment.experiment_id, milliseconds(began), tags=tags, run_name=name)
    id = made.info.run_id
    log_parameters(client, id, run.settings.model_dump(mode="json"))
    history = [
        (key, value, line["step"], milliseconds(began + line.get("seconds", 0)))
        for line in run.read_metrics()
        for key, value in numbers({key: value for key, value in line.items() if key not in ("step", "seconds")})
    ]
    ended, step = milliseconds(status.updated), values["steps"]
    final = [
        (key, value, step, ended)
        for key, value in numbers({key: value for key, value in values.items() if key != "seed"})
    ]
    log_metrics(client, id, history + final)
    if run.scores.exists():
        for scored, text in curves(Scores.load(run.scores)):
            client.log_text(id, text, f"precision_recall/{scored}.csv")
    for file in (run.report, run.scores, run.best):
        if file.exists():
            client.log_artifact(id, str(file), "checkpoints" if file == run.best else None)
    client.set_terminated(id, "FINISHED", ended)


def curves(scores: Scores) -> Iterator[tuple[str, str]]:
    """For each scored class its name and its precision-recall curve on the split, as CSV from the strictest threshold on."""
    positives, negatives = scores.total()
    found = precision_recall(positives, negatives)
    for index, number in enumerate(scores.scored):
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("threshold", "precision", "recall"))
        rows = zip(scores.probability[index][::-1], *(values[index] for values in found), strict=True)
        writer.writerows([round(float(value), 6) for value in row] for row in rows if np.isfinite(row).all())
        yield scores.classes[number].replace("/", "-"), text.getvalue()


def log_parameters(client: "MlflowClient", id: str, settings: Mapping[str, Any]) -> None:
    """Settings by their dotted names."""
    from mlflow.entities import Param

    found = [Param(key, str(value)[:LONGEST]) for key, value in flat(settings)]
    for first in range(0, len(found), MOST_PARAMETERS):
        client.log_batch(id, params=found[first : first + MOST_PARAMETERS])


def log_metrics(client: "MlflowClient", id: str, values: list[tuple[str, float, int, int]]) -> None:
    """Numbers, each with its name, value, step and time in ms."""
    from mlflow.entities import Metric

    found = [Metric(key, value, time, step) for key, value, step, time in values]
    for first in range(0, len(found), MOST_METRICS):
        client.log_batch(id, metrics=found[first : first + MOST_METRICS])


def flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Nested values by dotted names; a list stays one value, as JSON."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", json.dumps(value) if isinstance(value, list) else value


def numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The finite numbers among nested values, by names that MLflow takes."""
    for key, value in flat(values):
        if isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value):
            yield "".join(letter if letter.isalnum() or letter in "_-. /" else "_" for letter in key), float(value)


def milliseconds(seconds: float) -> int:
    """Since 1970, as MLflow counts."""
    return int(1000 * seconds)
