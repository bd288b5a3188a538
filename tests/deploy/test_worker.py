"""A study's deployment from its folder to its record: what is written, kept, refused and told."""

import hashlib
import json
import shutil
import subprocess
import sys
import time

import numpy as np
import onnx
import pytest
from filelock import FileLock

from kdcore.deploy import folder as deployments
from kdcore.deploy import forms, make
from kdcore.deploy.descriptions import mean_ap_interval
from kdcore.deploy.folder import DeploymentFolder, deployment_folder
from kdcore.deploy.forms import Network, original
from kdcore.deploy.gate import Gate
from kdcore.deploy.make import jobs_of, one_after_another
from kdcore.deploy.profile import Job, Measured
from kdcore.deploy.record import Deployment, Difference, EngineSpeed
from kdcore.errors import RunError
from kdcore.evaluation.scores import Scores
from kdcore.files import write_json
from kdcore.jobs import worker
from kdcore.jobs.status import Status
from kdcore.jobs.workspace import Workspace
from kdcore.models.onnx import read_info
from tests.jobs.studies import wait_for
from tests.training.studies import contents

TILE = 64
CAPABILITIES = "kdcore.inference.quiet_openvino.capabilities"


def speed(engine="torch", megapixels=1.0, watts=None) -> EngineSpeed:
    return EngineSpeed(
        engine=engine,
        device="x",
        milliseconds=1 / megapixels,
        megapixels_per_second=megapixels,
        peak_mb=100 * megapixels,
        watts=watts,
    )


def copy_of(study, folder) -> Workspace:
    """A workspace with a copy of the small study."""
    shutil.copytree(study, folder / "studies/town")
    return Workspace(folder / "studies")


def waiting(workspace) -> DeploymentFolder:
    """A deployment that waits to be worked on."""
    place = DeploymentFolder(deployment_folder(workspace, workspace.study("town")))
    place.write_status(Status(queued=time.time()))
    return place


def without_measuring(patch) -> list[Job]:
    """Let speeds be made up; gives the jobs that will have been asked for."""
    asked = []

    def measure(jobs, **options):
        asked.extend(jobs)
        return Measured({job: speed(job.engine, 1.0 + index) for index, job in enumerate(jobs)}, {})

    patch.setattr(make, "measure", measure)
    return asked


@pytest.fixture(autouse=True)
def capabilities(monkeypatch) -> list[str]:
    """What OpenVINO is taken to say of the processor, so that the forms are the same on every machine."""
    told = ["FP32", "BF16"]
    monkeypatch.setattr(CAPABILITIES, lambda: told)
    return told


@pytest.fixture
def workspace(tiny_study, tmp_path) -> Workspace:
    return copy_of(tiny_study, tmp_path)


@pytest.fixture
def deployment(workspace) -> DeploymentFolder:
    return waiting(workspace)


@pytest.fixture
def pretend_measure(monkeypatch):
    return without_measuring(monkeypatch)


@pytest.fixture(scope="module")
def finished(tiny_study, tmp_path_factory) -> tuple[DeploymentFolder, list[Job]]:
    """A deployment with three exports, compared and scored for real, and what was to be measured; only the clock is left out."""
    place = waiting(copy_of(tiny_study, tmp_path_factory.mktemp("finished")))
    with pytest.MonkeyPatch.context() as patch:
        asked = without_measuring(patch)
        patch.setattr(CAPABILITIES, lambda: ["FP32", "BF16"])
        assert work(place) == 0
    return place, asked


@pytest.fixture
def export_again(finished):
    """What an export of the same study gives, from the finished deployment."""

    def export(checkpoint, out, **options):
        shutil.copy(finished[0].path / out.name, out)
        return read_info(out)

    return export


class Killed(BaseException):
    """What no code expects."""


def work(deployment) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "LOOK_EVERY", 0.0)  # not a moment after the last look
        patch.setattr(make, "TILE", TILE)
        return worker.main([deployment.KIND, str(deployment.path)])


def by_kind(deployment) -> dict:
    return {(form.run, form.kind): form for form in Deployment.load(deployment.path).forms}


def test_every_network_in_every_form(finished):
    deployment, asked = finished
    record, found = Deployment.load(deployment.path), by_kind(deployment)
    study = deployment.study
    assert (record.study, record.tile, record.metres_per_pixel) == ("town", TILE, pytest.approx(0.5, rel=0.01))
    runs = ("teacher-s0", "alone-s0", "distilled-s0")
    assert list(found) == [(run, kind) for run in runs for kind in ("torch", "onnx", "bf16", "int8")]
    for run in runs:
        checkpoint, plain, small = (found[run, kind] for kind in ("torch", "onnx", "int8"))
        test = study.run(run).read_report()["test"]
        assert (checkpoint.mean_ap, checkpoint.mean_iou) == (test["mean_ap"], test["mean_iou"])
        assert checkpoint.difference is None
        assert plain.flips <= 0.001
        assert plain.largest_difference < 1e-3
        assert plain.mean_ap == pytest.approx(checkpoint.mean_ap, abs=2e-3)
        assert abs(plain.difference.points) < 0.2
        assert plain.parameters == small.parameters == checkpoint.parameters
        assert bool(small.file) != bool(small.refused)
        coarse = found[run, "bf16"]
        assert coarse.megabytes == plain.megabytes
        assert coarse.file == ("" if coarse.refused else plain.file)
        assert [each.engine for each in coarse.speeds] == ([] if coarse.refused else ["openvino-bf16"])
        card = (deployment.path / f"{run}.md").read_text()
        assert card.count("INFERENCE_PRECISION_HINT: bf16") == 1
        assert ("Do not run it so." in card) == bool(coarse.refused)
        for form in (plain, small):
            if form.file:
                check_files(deployment, form)
    assert {job.engine for job in asked} - {"openvino-bf16"} == {"torch", "onnxruntime", "openvino"}
    assert [each.engine for each in found["distilled-s0", "onnx"].speeds] == [
        "openvino",
        "onnxruntime",
    ]  # fastest first
    assert deployment.status.state == "finished"


def check_files(deployment, form) -> None:
    """The network carries what other programs read, and its descriptions fit it."""
    path = deployment.path / form.file
    assert path.stat().st_size / 1e6 == form.megabytes
    keys = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert json.loads(keys["model_type"]) == "Segmentor"
    assert json.loads(keys["kdcore"])["tile"] == TILE
    item = json.loads((deployment.path / f"{path.stem}.stac.json").read_text())
    assert item["assets"]["model"]["file:checksum"] == "1220" + hashlib.sha256(path.read_bytes()).hexdigest()
    assert item["assets"]["card"]["href"] == f"./{path.stem}.md"
    assert item["properties"]["mlm:total_parameters"] == form.parameters
    assert f"{form.file} (ONNX" in (deployment.path / f"{path.stem}.md").read_text()


def test_what_is_finished_is_not_done_again_until_its_inputs_change(
    deployment, pretend_measure, monkeypatch, export_again
):
    exports = []

    def counting(checkpoint, out, **options):
        exports.append(out.name)
        if len(exports) == 3:  # killed while it exported the last network
            raise Killed
        return export_again(checkpoint, out, **options)

    monkeypatch.setattr(forms, "export_onnx", counting)
    with pytest.raises(Killed):
        work(deployment)
    assert not (deployment.path / "deploy.json").exists()
    assert deployment.status.state == "interrupted"
    assert work(deployment) == 0
    assert exports == ["teacher-s0.onnx", "alone-s0.onnx", "distilled-s0.onnx", "distilled-s0.onnx"]
    first = by_kind(deployment)
    (deployment.path / "alone-s0.onnx").write_bytes(b"someone wrote over it")
    assert work(deployment) == 0
    assert exports[4:] == ["alone-s0.onnx"]
    assert by_kind(deployment) == first


def test_a_form_that_may_lose_too_much_is_refused_with_the_numbers(
    deployment, pretend_measure, monkeypatch, export_again
):
    monkeypatch.setattr(forms, "export_onnx", export_again)

    def judge(reference, candidate, kind):
        return Gate(0.7, 0.68, Difference(points=-2.0, low=-2.5, high=-1.5), 9, kind)

    monkeypatch.setattr(forms, "judge", judge)
    assert work(deployment) == 0
    refused = by_kind(deployment)["distilled-s0", "int8"]
    assert refused.file == ""
    assert "-2.00 points of mean AP (95 % interval -2.50 to -1.50, 9 tiles" in refused.refused
    assert refused.speeds == ()
    assert refused.megabytes > 0
    assert refused.refused in deployment.status.message
    assert [path.name for path in deployment.path.glob("*int8*")] == []
    assert (deployment.path / "distilled-s0.onnx").exists()
    coarse = by_kind(deployment)["distilled-s0", "bf16"]
    assert (coarse.file, coarse.speeds) == ("", ())
    assert coarse.refused.startswith(
        "The bfloat16 form was refused, because it may lose 1 points or more: -2.00 points of mean AP (95 %"
    )
    assert coarse.refused.endswith("9 tiles; 70.00 in float32, 68.00 in bfloat16).")
    assert {job.engine for job in pretend_measure} == {"torch", "onnxruntime", "openvino"}


def test_a_person_can_stop_it_within_a_stage(deployment, pretend_measure, monkeypatch, export_again):
    monkeypatch.setattr(forms, "export_onnx", export_again)
    quantise = forms.quantise_onnx

    def stopping(model, out, calibration):
        deployment.stop()
        quantise(model, out, calibration)

    monkeypatch.setattr(forms, "quantise_onnx", stopping)
    assert work(deployment) == 0
    assert deployment.status.state == "stopped"
    assert not (deployment.path / "deploy.json").exists()
    assert list(deployment.path.glob("*int8*")) == []


def test_data_that_have_changed_are_refused(deployment, pretend_measure):
    study = deployment.study
    write_json(study.path / "data.json", study.data | {"hash": "0" * 16})
    assert work(deployment) == 2
    assert "the data have changed since the study town" in deployment.status.message


def test_without_weights_it_says_so(deployment, pretend_measure):
    for checkpoints in deployment.study.path.glob("runs/*/checkpoints"):
        shutil.rmtree(checkpoints)
    assert work(deployment) == 2
    assert "weights of the study town are not on this machine" in deployment.status.message


def test_the_bundled_example_is_only_read(tmp_path, pretend_measure, monkeypatch):
    workspace = Workspace(tmp_path / "studies")
    example = workspace.example()
    before = contents(example.path)
    made = []
    monkeypatch.setattr(make, "forms_of", lambda network, *rest: [original(network)])
    monkeypatch.setattr(make, "write_demo", lambda folder, seed, progress: made.append(folder) or folder)
    monkeypatch.setattr(make.Collection, "open", lambda path: Area(example.data["hash"]))
    place = DeploymentFolder(deployment_folder(workspace, example))
    place.write_status(Status(queued=time.time()))
    assert work(place) == 0, place.status.message
    assert made == [workspace.path / ".areas/demo-0"]
    assert contents(example.path) == before
    assert list(by_kind(place)) == [("alone-s0", "torch"), ("distilled-s0", "torch")]
    assert "The teacher's weights are not on this machine" in place.status.message


class Area:
    """Stands for the demo area, which takes a while to make."""

    metres_per_pixel = 0.5

    def __init__(self, content_hash):
        self.content_hash = content_hash


def test_an_ensemble_takes_the_time_of_all_its_members(workspace):
    study = workspace.study("town")
    run = study.run("teacher-s0")
    ensemble = Network(run, "teacher", (run.best, study.run("alone-s0").best))
    form = original(ensemble)
    sizes = [(path.stat().st_size) / 1e6 for path in ensemble.files]
    assert form.megabytes == pytest.approx(sum(sizes))
    ways = jobs_of(ensemble, form, workspace.path)
    assert ways[0] == [Job(path, "torch") for path in ensemble.files]
    both = one_after_another([speed(megapixels=2.0, watts=50), speed(megapixels=1.0, watts=70)])
    assert both.megapixels_per_second == pytest.approx(2 / 3)  # 0.5 s and 1 s a megapixel
    assert (both.milliseconds, both.peak_mb, both.watts) == (1.5, 200, 60)


def test_without_bfloat16_in_the_processor_that_form_is_left_out_with_a_sentence(
    deployment, pretend_measure, monkeypatch, export_again, capabilities
):
    """Its emulation would say nothing about speed."""
    monkeypatch.setattr(forms, "export_onnx", export_again)
    capabilities.remove("BF16")
    assert work(deployment) == 0
    assert {kind for _, kind in by_kind(deployment)} == {"torch", "onnx", "int8"}
    assert "OpenVINO in bfloat16 was left out: this processor does not compute in bfloat16" in deployment.status.message
    assert "bf16" not in (deployment.path / "distilled-s0.md").read_text()


def test_a_teacher_that_is_onnx_only_is_measured_as_it_is(workspace, finished):
    deployment = finished[0]
    exported = deployment.path / "teacher-s0.onnx"
    foreign = Network(workspace.study("town").run("teacher-s0"), "teacher", (exported,))
    form = original(foreign)
    assert (form.kind, form.file, foreign.exportable) == ("onnx", "", False)
    assert form.macs_per_pixel == pytest.approx(by_kind(deployment)["teacher-s0", "torch"].macs_per_pixel)
    ways = jobs_of(foreign, form, deployment.path)
    assert [way[0].engine for way in ways if way[0].device == "cpu"] == ["onnxruntime", "openvino"]


def test_the_interval_of_a_runs_mean_ap_holds_it(workspace):
    scores = Scores.load(workspace.study("town").run("teacher-s0").scores)
    found = mean_ap_interval(scores)
    assert found.low <= found.points <= found.high
    assert found.points == pytest.approx(
        100 * workspace.study("town").run("teacher-s0").read_report()["test"]["mean_ap"]
    )
    assert mean_ap_interval(scores.select(np.array([0]))) is None


def test_one_process_at_a_time_and_no_torch_before_its_lock(deployment):
    with FileLock(deployment.lock):
        assert worker.main([deployment.KIND, str(deployment.path)]) == worker.ALREADY_WORKED_ON
    code = "import kdcore.jobs.worker, kdcore.deploy.folder, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_process_is_started_and_told_to_stop(workspace):
    study = workspace.study("town")
    place = deployments.start(workspace, study)
    deployments.stop(place.path)
    with pytest.raises(RunError, match="already"):
        deployments.start(workspace, study)
    wait_for(lambda: deployments.status(place.path).over)
    assert deployments.status(place.path).state == "stopped", place.log_tail()
