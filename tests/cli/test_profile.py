"""`kdcore profile`, from the command to its table."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from kdcore.cli import app
from kdcore.cli.profile import network_files
from kdcore.deploy import profile
from kdcore.deploy.profile import Measured, Size
from kdcore.errors import CheckpointError, RunError
from kdcore.jobs.workspace import EXAMPLE_FOLDER
from tests.deployment import speed


@pytest.fixture
def study(tmp_path, monkeypatch):
    """The bundled study's two networks, elsewhere, and quick rounds."""
    monkeypatch.setattr(profile, "ROUND_SECONDS", 0.01)
    monkeypatch.setenv("COLUMNS", "200")
    for run in ("alone-s0", "distilled-s0"):
        target = tmp_path / "town/runs" / run / "checkpoints"
        target.mkdir(parents=True)
        shutil.copy(EXAMPLE_FOLDER / "runs" / run / "checkpoints/best.safetensors", target)
    return tmp_path / "town"


def invoke(*arguments):
    return CliRunner().invoke(app, ["profile", *map(str, arguments)])


def test_a_study_is_measured(study):
    done = invoke(study, "--tile", 64, "--threads", 1)
    assert done.exit_code == 0, done.output
    assert "alone-s0" in done.output
    assert "101,349" in done.output  # parameters of the preset 'fast' with five classes
    assert "Fastest: " in done.output


def test_the_same_for_programs(study):
    done = invoke(study, "--tile", 64, "--engine", "torch", "--json")
    assert done.exit_code == 0, done.output
    values = json.loads(done.stdout[done.stdout.index("{") :])
    assert [row["name"] for row in values["networks"]] == ["alone-s0", "distilled-s0"]
    for row in values["networks"]:
        assert (row["engine"], row["parameters"]) == ("torch", 101_349)
        assert row["megapixels_per_second"] > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--engine", "abacus"], "there is no such engine"),
        (["--tile", "100"], "must be a multiple of 32, for example 96"),
        (["--engine", "openvino"], "is run by torch, but openvino was asked for"),
    ],
)
def test_wrong_options_get_one_sentence(study, arguments, words):
    done = invoke(study, *arguments)
    assert done.exit_code == 2
    assert words in " ".join(done.output.split())


def test_bfloat16_is_left_out_with_a_sentence_where_the_processor_has_none(tmp_path, monkeypatch):
    asked = []

    def measure(jobs, **options):
        asked.extend(job.engine for job in jobs)
        return Measured({job: speed(job.engine, 1.0) for job in jobs}, {})

    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(profile, "measure", measure)
    monkeypatch.setattr(profile, "network_size", lambda file: Size(1, 1.0, 1.0))
    file = tmp_path / "a.onnx"
    file.touch()
    told = ["FP32"]
    monkeypatch.setattr("kdcore.inference.quiet_openvino.capabilities", lambda: told)
    sentence = "this processor does not compute in bfloat16"
    done = invoke(file)
    assert (done.exit_code, asked) == (0, ["onnxruntime", "openvino"]), done.output
    assert f"openvino-bf16 was left out: {sentence}" in " ".join(done.output.split())
    named = invoke(file, "--engine", "openvino-bf16")
    assert named.exit_code == 2
    assert sentence in " ".join(named.output.split())
    told.append("BF16")
    asked.clear()
    assert sentence not in " ".join(invoke(file).output.split())
    assert asked == ["onnxruntime", "openvino", "openvino-bf16"]


def test_paths_without_networks_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        network_files(tmp_path / "nothing.onnx")
    with pytest.raises(RunError, match="holds no study"):
        network_files(tmp_path)
