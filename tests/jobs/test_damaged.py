"""One damaged study in a workspace is named, and disturbs no other."""

import json
import os

import pytest

from kdcore.cli.runs import costs_in, describe
from kdcore.deploy import folder as deployments
from kdcore.deploy.folder import deployment_folder
from kdcore.deploy.record import Deployment
from kdcore.errors import RunError
from kdcore.jobs.forecast import measured_costs, read_probes
from kdcore.jobs.status import Status
from kdcore.jobs.sweep_claims import Claims
from kdcore.jobs.sweep_folder import list_sweeps
from kdcore.jobs.workspace import Workspace
from kdcore.ui.runs_table import overview
from kdcore.ui.study_picker import example_study
from tests.jobs.studies import put_study
from tests.training.sweeps import put_sweep

DAMAGE = {
    "half": b'{"state": ',
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "a list": b"[1]",
    "a number": b"7",
    "empty": b"",
    "no text": b"\xff\xfe\x00\x01",
    "nulls": b'{"arms": null, "comparison": null, "data": null, "settings": null}',
    "a folder": None,
}
WHOLE = (  # a study's own files, without which nothing can be said of it
    "study.yaml",
    "about.json",
    "job.json",
    "data.json",
    "advantage.json",
    "steps.json",
    "report.json",
)
PARTS = ("runs/alone-s0/status.json", "runs/alone-s0/metrics.jsonl")  # without which the rest can be shown


def finished(workspace: Workspace, name: str):
    study = put_study(workspace.path / name, job=Status(state="finished"))
    (study.path / "runs/alone-s0").mkdir(parents=True)
    arm = {"mean_ap": 0.5}
    report = {
        "arms": dict.fromkeys(("teacher", "alone", "distilled"), arm),
        "comparison": {"verdict": "none", "sentence": "None."},
    }
    (study.path / "report.json").write_text(json.dumps(report | {"data": {}, "settings": {}}))
    return study


def damage(file, content) -> None:
    file.unlink(missing_ok=True)
    if content is None:
        file.mkdir(parents=True)
    else:
        file.write_bytes(content)


@pytest.fixture
def workspace(tmp_path):
    place = Workspace(tmp_path / "studies")
    finished(place, "good")
    return place


@pytest.mark.parametrize("content", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("name", [*WHOLE, *PARTS])
def test_every_reader_of_all_studies_goes_on(workspace, monkeypatch, name, content):
    bad = finished(workspace, "bad")
    damage(bad.path / name, content)
    monkeypatch.setattr("kdcore.jobs.workspace.has_example", lambda: False)
    studies = workspace.studies()
    costs = costs_in(workspace)
    told = {facts["id"]: facts for facts in (describe(study, costs) for study in studies)}
    assert (told["good"]["state"], told["good"]["message"]) == ("finished", "")
    assert len(overview(studies)) == len(studies)
    measured_costs(studies, read_probes(workspace))
    assert example_study(studies) in studies
    listed = {study.id for study in studies if study.finished}
    for study in studies:
        if study.id in listed:
            assert study.report()["comparison"]["verdict"] == "none"
    if "bad" in told and told["bad"]["state"] == "broken":
        assert str(bad.path / name) in told["bad"]["message"]
        assert listed == {"good"}
        bad.delete()
        assert not bad.path.exists()
    else:
        assert name in PARTS or content == DAMAGE["nulls"] or "bad" not in told


@pytest.mark.parametrize("content", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize(
    "name", ["sweep.yaml", "about.json", "journal.log", "workers/0.json", "report.json", "data.hash"]
)
def test_a_damaged_sweep_disturbs_no_other(tmp_path, name, content):
    good, bad = (put_sweep(tmp_path / name) for name in ("good", "bad"))
    for sweep in (good, bad):
        Claims(sweep).next().lock.release()
    (bad.path / name).parent.mkdir(exist_ok=True)
    damage(bad.path / name, content)
    found = {sweep.id: sweep.progress() for sweep in list_sweeps(tmp_path)}
    assert found["good"].state == "stopped"
    if "bad" in found and found["bad"].state == "broken":
        assert name in found["bad"].message


@pytest.mark.parametrize("content", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("name", ["status.json", "deploy.json"])
def test_a_damaged_deployment_is_told_as_one(workspace, name, content):
    folder = deployment_folder(workspace, workspace.study("good"))
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    damage(folder / name, content)
    found = deployments.status(folder)
    assert found is None or found.state == "failed"
    with pytest.raises(RunError, match=r"Nothing of this study|is broken"):
        Deployment.load(folder)
    assert workspace.study("good").finished


def test_a_report_that_was_mended_is_read_again(workspace):
    study = workspace.study("good")
    file = study.path / "report.json"
    whole = file.read_bytes()
    file.write_bytes(b"{}")
    assert study.job.message == f"{file}: lacks the part 'arms'. Remove the file, then resume."
    file.write_bytes(whole)
    os.utime(file, (5, 5))
    assert study.finished
