"""Recording a finished demo study as the example."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from kdcore.deploy.record import Deployment
from kdcore.errors import RunError
from kdcore.evaluation.scores import Scores
from kdcore.evaluation.stored_curves import fingerprint
from kdcore.jobs.record import record
from kdcore.jobs.study_folder import About, StudyFolder
from kdcore.jobs.workspace import Workspace
from tests.deployment import make_deployment, write_deployment
from tests.map_study import make_map_study


@pytest.fixture(scope="module")
def town(tmp_path_factory) -> Path:
    """It is copied, never changed."""
    return make_map_study(tmp_path_factory.mktemp("recorded") / "workspace", "town")


def finished_demo(town: Path, workspace: Path) -> StudyFolder:
    made = StudyFolder(shutil.copytree(town, workspace / "town"))
    made.write_about(About(title="Demo area 0", demo=0))
    for run in made.runs():
        run.checkpoints.mkdir(exist_ok=True)
        run.best.write_bytes(b"weights")
        for file in ("status.json", "metrics.jsonl", "scores-validation.npz"):
            if not (run.path / file).exists():
                shutil.copy(run.scores, run.path / file)
    return made


@pytest.fixture
def study(town: Path, tmp_path: Path) -> StudyFolder:
    return finished_demo(town, tmp_path / "workspace")


@pytest.fixture(scope="module")
def recorded(town: Path) -> tuple[StudyFolder, Path, int]:
    """A study that was measured, its example and that one's bytes: the maps are packed so tightly that it takes ten seconds."""
    study = finished_demo(town, town.parents[1] / "measured")
    write_deployment(study.path / "deploy", make_deployment("town"))
    example = town.parents[1] / "example"
    return study, example, record(study, example)


def test_the_copy_is_a_finished_study_without_the_teachers_weights(recorded):
    study, example, size = recorded
    copied = StudyFolder(example, read_only=True)
    assert copied.finished
    assert size == sum(file.stat().st_size for file in copied.path.rglob("*") if file.is_file())
    assert [run.best.exists() for run in copied.runs()] == [run.settings.arm != "teacher" for run in copied.runs()]
    assert copied.report()["arms"] == study.report()["arms"]
    for before, after in zip(study.runs(), copied.runs(), strict=True):
        assert after.scores.read_bytes() != before.scores.read_bytes()  # packed more tightly
        assert np.array_equal(Scores.load(after.scores).positives, Scores.load(before.scores).positives)
    assert fingerprint({"alone": [copied.run("alone-s0").scores]}) == fingerprint(
        {"alone": [study.run("alone-s0").scores]}
    )


def test_what_was_measured_stays_without_the_networks_files(recorded):
    example = recorded[1]
    assert [file.name for file in (example / "deploy").iterdir()] == ["deploy.json"]
    known = Deployment.load(example / "deploy")
    assert known == make_deployment("example")


def test_no_text_file_names_the_place_it_came_from(recorded, town):
    study, example, _ = recorded
    for file in example.rglob("*"):
        if file.suffix in (".json", ".yaml"):
            text = file.read_text()
            assert str(study.path.parent) not in text
            assert str(town.parent) not in text


def test_an_example_is_replaced_and_another_folder_is_not(recorded, study, tmp_path):
    shutil.copytree(recorded[1], tmp_path / "example")
    record(study, tmp_path / "example")
    assert not (tmp_path / "example/deploy").exists()  # of the one before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match="holds no example"):
        record(study, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_what_is_no_finished_demo_study_is_refused(study, tmp_path):
    study.write_about(About(title="Banepa", collection=Path("banepa.yaml")))
    with pytest.raises(RunError, match="demo area"):
        record(study, tmp_path / "example")
    assert not (tmp_path / "example").exists()


def test_the_limit_on_size_drops_nothing_silently(study, tmp_path, monkeypatch):
    monkeypatch.setattr("kdcore.jobs.record.LARGEST", 10)
    with pytest.raises(RunError, match="MB are allowed"):
        record(study, tmp_path / "example")
    assert not list(tmp_path.glob(".example*"))


def test_the_workspace_lists_the_bundled_one():
    assert Workspace().study("example").read_only
