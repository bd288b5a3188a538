"""`kdcore export` from the outside: files, numbers, refusals and exit codes."""

import json

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from kdcore.cli import app
from kdcore.models.onnx import read_info
from kdcore.ownership import RECORD, write_own_text
from tests.deploy.networks import demo_area, example_checkpoint

runner = CliRunner()
STUDENT = str(example_checkpoint())


@pytest.fixture(scope="module")
def area(tmp_path_factory):
    return demo_area(tmp_path_factory.mktemp("demo") / "area").root


def run(*arguments):
    return runner.invoke(app, ["export", *map(str, arguments)])


def test_float_export_without_data(tmp_path):
    done = run(STUDENT, tmp_path / "student.onnx", "--tile", 128)
    assert done.exit_code == 0, done.output
    assert "101,349 parameters, tile 128" in done.output
    info = read_info(tmp_path / "student.onnx")
    assert (info.tile, info.arm) == (128, "distilled")
    metadata = {entry.key: entry.value for entry in onnx.load(str(tmp_path / "student.onnx")).metadata_props}
    assert json.loads(metadata["tile_size"]) == 128  # what QGIS reads
    assert {file.name for file in tmp_path.iterdir()} == {"student.onnx", RECORD}


def test_eight_bits_and_bfloat16_with_their_numbers(tmp_path, area, monkeypatch):
    monkeypatch.setattr("kdcore.inference.quiet_openvino.capabilities", lambda: ["BF16"])
    done = run(STUDENT, tmp_path / "s.onnx", "--int8", "--bf16", "--data", area, "--tile", 256, "--margin", 3, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["problems"] == []
    assert set(found["parity"]) == {"onnxruntime", "openvino"}
    for same in found["parity"].values():
        assert same["flips"] <= 0.001
        assert same["pixels"] == 4 * 256**2
    coarse = found["bf16"]
    assert (coarse["engine"], coarse["passes"]) == ("openvino-bf16", True)
    assert coarse["flips"] < 0.05
    assert coarse["verdict"].startswith("The bfloat16 form loses less than 3 points: ")
    small = found["int8"]
    assert small["file"] == str(tmp_path / "s-int8.onnx")
    assert small["bytes"] == (tmp_path / "s-int8.onnx").stat().st_size < found["bytes"] / 2
    assert small["calibration_tiles"] == 16  # four train scenes of 384 px, two by two
    assert small["difference"]["low"] > -3
    assert read_info(tmp_path / "s-int8.onnx").classes == read_info(tmp_path / "s.onnx").classes


def test_a_refusal_names_the_numbers_and_keeps_the_float_file(tmp_path, area, monkeypatch):
    """With a margin of nothing any loss is too much; an older 8-bit file is not left to be taken for a new one."""
    monkeypatch.setattr("kdcore.inference.quiet_openvino.capabilities", lambda: ["BF16"])
    write_own_text(tmp_path / "s-int8.onnx", "of an earlier export")
    done = run(STUDENT, tmp_path / "s.onnx", "--int8", "--bf16", "--data", area, "--tile", 256, "--margin", 0)
    assert done.exit_code == 1
    text = " ".join(done.output.split())
    assert "The 8-bit form was refused, because it may lose 0 points or more" in text
    assert "The bfloat16 form was refused, because it may lose 0 points or more" in text
    assert "95 % interval" in text
    assert "9 tiles" in text
    assert {file.name for file in tmp_path.iterdir()} == {"s.onnx", RECORD}


@pytest.mark.parametrize("option", ["--int8", "--bf16"])
def test_what_is_judged_needs_data(tmp_path, option):
    done = run(STUDENT, tmp_path / "s.onnx", option)
    assert done.exit_code == 2
    assert "--data" in done.output
    assert list(tmp_path.iterdir()) == []


def test_bfloat16_is_refused_before_anything_is_written_where_the_processor_has_none(tmp_path, area, monkeypatch):
    monkeypatch.setattr("kdcore.inference.quiet_openvino.capabilities", lambda: ["FP32"])
    done = run(STUDENT, tmp_path / "s.onnx", "--bf16", "--data", area)
    assert done.exit_code == 2
    assert "this processor does not compute in bfloat16" in " ".join(done.output.split())
    assert list(tmp_path.iterdir()) == []


def test_data_of_other_classes_is_told_before_anything_is_written(tmp_path, make_collection):
    done = run(STUDENT, tmp_path / "out/s.onnx", "--data", make_collection())
    assert done.exit_code == 2
    assert "land, building, water" in " ".join(done.output.split())
    assert not (tmp_path / "out").exists()


def test_flips_are_told_as_a_refusal(tmp_path, area, monkeypatch):
    """An engine that answers otherwise on real tiles, as bfloat16 does."""
    from kdcore.inference import engines

    class Coarse:
        def __init__(self, engine):
            self.engine = engine

        def __call__(self, images):
            return np.round(self.engine(images), 1)

    right = engines.open_engine
    monkeypatch.setattr(
        engines,
        "open_engine",
        lambda path, engine="auto", **options: (
            Coarse(right(path, engine, **options)) if engine == "openvino" else right(path, engine, **options)
        ),
    )
    done = run(STUDENT, tmp_path / "s.onnx", "--data", area, "--tile", 256)
    assert done.exit_code == 1
    assert "openvino labels" in done.output
    assert "more than 0.1 %" in " ".join(done.output.split())
    assert "onnxruntime labels" not in done.output
