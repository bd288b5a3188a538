"""What pages open of studies and runs, and what must be the same of them whatever happened on the way."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kdcore.cli.runs import costs_in, describe
from kdcore.deploy import folder as deployments
from kdcore.deploy.folder import DeploymentFolder
from kdcore.jobs.store import RunDirectory
from kdcore.jobs.workspace import Workspace
from kdcore.models.checkpoint import checksum, load_tensors
from kdcore.ui.runs_table import overview
from kdcore.ui.watched import picture

OF_THE_CLOCK = {
    "seconds", "elapsed", "megapixels_per_second", "build_seconds", "finished", "made", "measured", "updated", "latency",
}  # fmt: skip
Facts = dict[str, Any]


def differing(found: Any, calm: Any, name: str = "") -> Iterator[str]:
    """Names of what is not the same."""
    if isinstance(found, dict) and isinstance(calm, dict):
        for key in {**found, **calm}:
            yield from differing(found.get(key), calm.get(key), f"{name}/{key}")
    elif found != calm:
        yield f"{name} is {str(found)[:100]} instead of {str(calm)[:100]}"


def look_at_studies(place: Path) -> None:
    """What the pages Start, Runs, Train and Curves and `kdcore runs` read."""
    workspace = Workspace(place)
    studies, costs = workspace.studies(), costs_in(workspace)
    overview(studies)
    for study in studies:
        facts = describe(study, costs)
        assert facts["state"] != "broken", facts["message"]
        _ = study.advantage, study.log_tail()
        if study.finished:
            study.report()
        for run in study.runs():
            look_at_run(run)
        assert deployments.status(study.path / "deploy") is None or DeploymentFolder(study.path / "deploy").status


def look_at_run(run: RunDirectory) -> None:
    """One run's files: each is there whole or not at all."""
    steps = [line["step"] for line in run.read_metrics()]
    assert steps == sorted(steps)
    _ = run.status, run.settings
    if run.report.exists():
        run.read_report()
    for file in (run.scores, run.validation_scores):
        if file.exists():
            np.load(file).close()
    for file in run.watched.glob("[!.]*"):
        assert picture(file, 0)[0], f"{file} is no picture"


def run_facts(run: RunDirectory) -> Facts:
    """Weights, numbers and maps of a finished run."""
    with np.load(run.scores) as scores:
        sums = {name: hashlib.sha256(scores[name].tobytes()).hexdigest() for name in scores.files if name != "about"}
    return {
        "weights": sum_of(run.best),
        "scores": sums,
        "maps": {file.name: digest(file) for file in sorted(run.maps.glob("*"))},
        "report": timeless(run.read_report(), run.path.parents[2]),
        "metrics": timeless(run.read_metrics(), run.path.parents[2]),
    }


def digest(file: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def sum_of(checkpoint: Path) -> str:
    """Of a checkpoint's weights and settings, checked; safetensors writes the two entries of its header in any order."""
    tensors, values = load_tensors(checkpoint)
    return checksum(tensors, json.dumps(values))


def timeless(value: Any, place: Path) -> Any:
    """A report without what the clock says, and without the folder it lies in."""
    if isinstance(value, dict):
        return {name: timeless(part, place) for name, part in value.items() if name not in OF_THE_CLOCK}
    if isinstance(value, list | tuple):
        return [timeless(part, place) for part in value]
    return value.replace(str(place), "") if isinstance(value, str) else value
