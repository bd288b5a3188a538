"""`kdcore predict`, as a person types it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from typer.testing import CliRunner

import kdcore
from kdcore.cli import app
from kdcore.cli.predict import threshold_of
from kdcore.data.collection import Collection
from kdcore.inference.prediction import Prediction
from kdcore.jobs.locks import held, holding
from kdcore.models.checkpoint import CheckpointInfo, load_network, save_network
from kdcore.models.networks import build_network
from kdcore.ownership import RECORD
from kdcore.settings import ClassSettings, CollectionSettings, load, save
from kdcore.training.work import checkpoint_info
from tests.conftest import TINY, UTM, run_settings, write_collection, write_raster
from tests.inference.engines import same_maps
from tests.jobs.studies import wait_for

EXAMPLE = Path(kdcore.__file__).parent / "example"
IMAGERY = EXAMPLE / "layers/outskirts/imagery.tif"
STUDENT = EXAMPLE / "runs/distilled-s0/checkpoints/best.safetensors"


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def interrupt(*arguments):
    raise KeyboardInterrupt


@pytest.fixture
def model(tmp_path):
    """A small network of two classes that was never trained."""
    info = CheckpointInfo(network=TINY, bands=3, band_numbers=(1, 2, 3), classes=("land", "building"))
    save_network(tmp_path / "model.safetensors", build_network(TINY, 3, 1, [128.0] * 3, [70.0] * 3, seed=0), info)
    return tmp_path / "model.safetensors"


@pytest.fixture
def rasters(tmp_path):
    values = np.random.default_rng(0).integers(1, 254, (3, 200, 300), dtype=np.uint8)
    return [
        write_raster(tmp_path / f"{name}.tif", values, west=500_000 + 1000 * index) for index, name in enumerate("ab")
    ]


def test_the_example_student_maps_its_imagery(tmp_path):
    result = run("predict", STUDENT, IMAGERY, "--out", tmp_path / "maps", "--json")
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)[0]
    assert values["passes"] == 4
    assert sum(facts["pixels"] for facts in values["classes"].values()) == 896 * 896
    assert values["megapixels_per_second"] > 0
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == sorted(
        [*values["files"], "imagery.json", RECORD]
    )


def colours_of(folder, name):
    """The colours of a map's classes and of its polygons."""
    with rasterio.open(folder / f"{name}.classes.tif") as dataset:
        table = dataset.colormap(1)
    objects = geopandas.read_file(folder / f"{name}.gpkg")
    return [table[0][:3], table[1][:3]], set(objects["colour"])


@pytest.mark.parametrize("kind", ["safetensors", "onnx"])
def test_maps_have_the_colours_of_the_collection(tmp_path, rasters, kind):
    """The checkpoint brings them, and so does its export."""
    data = write_collection(tmp_path / "c", classes=2)
    named = (("land", "#102030"), ("building", "#aabbcc"))
    classes = tuple(ClassSettings(name=name, value=value, colour=colour) for value, (name, colour) in enumerate(named))
    save(load(CollectionSettings, data).model_copy(update={"classes": classes}), data)
    settings = run_settings(data)
    info = checkpoint_info(settings, Collection.open(data))
    model = tmp_path / "m.safetensors"
    save_network(model, build_network(TINY, 3, 1, [128.0] * 3, [70.0] * 3, seed=0), info)
    if kind == "onnx":
        assert run("export", model, tmp_path / "m.onnx", "--tile", 128).exit_code == 0
        model = tmp_path / "m.onnx"
    result = run("predict", model, rasters[0], "--out", tmp_path / "maps", "--threshold", 0.01)
    assert result.exit_code == 0, result.output
    assert colours_of(tmp_path / "maps", "a") == ([(0x10, 0x20, 0x30), (0xAA, 0xBB, 0xCC)], {"#AABBCC"})


def test_a_checkpoint_without_colours_still_opens_and_has_the_palettes(tmp_path, model, rasters):
    assert load_network(model)[1].colours == ()
    run("predict", model, rasters[0], "--out", tmp_path / "maps", "--threshold", 0.01)
    assert colours_of(tmp_path / "maps", "a") == ([(0x99, 0x99, 0x99), (0xE6, 0x9F, 0x00)], {"#E69F00"})


def test_several_rasters_and_one_that_does_not_fit(tmp_path, model, rasters):
    wrong = write_raster(tmp_path / "wrong.tif", np.ones((1, 50, 50), np.uint8))
    result = run("predict", model, rasters[0], wrong, rasters[1], "--out", tmp_path / "maps")
    assert result.exit_code == 2
    assert "has 1 bands" in result.stderr
    assert "1 of 3 rasters could not be mapped" in result.stderr
    assert {path.name for path in (tmp_path / "maps").iterdir()} == {
        f"{name}.{end}" for name in "ab" for end in ("probabilities.tif", "classes.tif", "gpkg", "json")
    } | {RECORD}


COMMAND = (
    "from kdcore.imports import large_imports\n"
    "with large_imports():\n"
    "    import kdcore.inference.parts as p\n"
    "p.PART_PIXELS = 1\n"  # a part for each row of tiles
    "from kdcore.cli import app; app(prog_name='kdcore')"
)


def beside(*arguments, **variables):
    """The command in a process of its own, with many small parts."""
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *map(str, arguments)],
        env=os.environ | {name: str(value) for name, value in variables.items()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow  # 20 s: three processes that each import torch
def test_two_identical_commands_share_the_work_and_one_may_be_killed(tmp_path, model, rasters):
    large = write_raster(
        tmp_path / "large.tif", np.random.default_rng(1).integers(1, 254, (3, 3000, 300), dtype=np.uint8)
    )
    rasters = [*rasters, large]
    assert run("predict", model, *rasters, "--out", tmp_path / "alone", "--tile", 128).exit_code == 0
    out, command = tmp_path / "maps", ("predict", model, *rasters, "--out", tmp_path / "maps", "--tile", 128, "--json")
    first = beside(*command)
    wait_for(lambda: len(Prediction(out, "large").finished_parts()) > 2)
    first.kill()
    first.wait()
    processes = [beside(*command), beside(*command)]
    answers = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], answers
    for said, _ in answers:
        assert [values["complete"] for values in json.loads(said)] == [True] * 3
    assert all(same_maps(tmp_path / "alone", out, raster.stem) for raster in rasters)
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in (tmp_path / "alone").iterdir())


def test_a_process_of_a_scheduler_that_is_told_to_end_asks_for_a_new_start(tmp_path, model):
    values = np.random.default_rng(1).integers(1, 254, (3, 20_000, 200), dtype=np.uint8)
    prediction = Prediction(tmp_path / "maps", "large")
    command = (
        "predict",
        model,
        write_raster(tmp_path / "large.tif", values),
        "--out",
        tmp_path / "maps",
        "--tile",
        128,
    )
    process = beside(*command, KDCORE_LAUNCHED=tmp_path / ".slurm")
    wait_for(prediction.finished_parts)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 75, errors
    assert "A new start goes on there" in " ".join(errors.split())
    assert prediction.finished_parts()
    assert not prediction.manifest.exists()


def test_a_raster_that_another_process_has_comes_later(tmp_path, model, rasters, monkeypatch):
    monkeypatch.setattr("kdcore.cli.predict.LOOK_EVERY", 0.01)
    first, second = Prediction(tmp_path / "maps", "a"), Prediction(tmp_path / "maps", "b")
    with monkeypatch.context() as patch:
        patch.setattr("kdcore.inference.parts.make_part", interrupt)
        assert run("predict", model, rasters[0], "--out", tmp_path / "maps").exit_code == 130
    taken = holding(first.part_lock(0), "")
    taken.__enter__()

    def look(path):  # the other process is killed once the second raster is mapped
        if path == first.part_lock(0) and second.manifest.exists():
            taken.__exit__(None, None, None)
        return held(path)

    monkeypatch.setattr("kdcore.inference.parts.held", look)
    result = run("predict", model, *rasters, "--out", tmp_path / "maps", "--json")
    assert result.exit_code == 0, result.output
    assert "1 of 2 rasters are with other processes" in result.stderr
    assert [values["files"][0] for values in json.loads(result.stdout)] == [
        "a.probabilities.tif",
        "b.probabilities.tif",
    ]


def test_a_second_start_says_that_all_is_done(tmp_path, model, rasters):
    run("predict", model, rasters[0], "--out", tmp_path / "maps")
    result = run("predict", model, rasters[0], "--out", tmp_path / "maps")
    assert result.exit_code == 0
    assert "is mapped already" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--bands", "1,x"], "--bands 1,x: should be numbers from 1"),
        (["--bands", "1,2"], "takes 3 bands, but --bands names 2"),
        (["--halo", "256"], "--halo 256: is too wide"),
        (["--tile", "500"], "--tile 500: must be a multiple of 32"),
        (["--engine", "openvino"], "openvino runs ONNX files only. Make one: kdcore export"),
        (["--device", "cuda:9"], "--device cuda:9: cannot be used here"),
    ],
)
def test_what_makes_no_sense_is_told_in_a_sentence(tmp_path, model, rasters, arguments, words):
    result = run("predict", model, rasters[0], "--out", tmp_path / "maps", *arguments)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())
    assert not (tmp_path / "maps").exists()


def test_a_tile_for_which_there_is_no_memory_is_refused_before_anything_is_written(tmp_path, model, monkeypatch):
    monkeypatch.setattr("kdcore.inference.engines.free_memory", lambda: 2_000_000_000)
    profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "tiled": True, "sparse_ok": True, "crs": UTM}
    with rasterio.open(
        tmp_path / "large.tif", "w", width=20_000, height=20_000, transform=from_origin(5e5, 5e6, 1, 1), **profile
    ):
        pass  # no pixel is written
    result = run("predict", model, tmp_path / "large.tif", "--out", tmp_path / "maps", "--tile", 16384)
    assert result.exit_code == 2
    said = " ".join(result.stderr.split())
    assert "--tile 16384: " in said
    assert "for 268 million pixels at once, and 2 GB are free" in said
    assert not (tmp_path / "maps").exists()


def test_two_rasters_of_one_name_are_refused(tmp_path, model, rasters):
    other = write_raster(tmp_path / "other/a.tif", np.ones((3, 50, 50), np.uint8))
    result = run("predict", model, rasters[0], other, "--out", tmp_path / "maps")
    assert result.exit_code == 2
    assert "their maps would have one name" in " ".join(result.stderr.split())


def test_maps_of_what_is_finished_are_made_on_request(tmp_path, model, monkeypatch):
    monkeypatch.setattr("kdcore.inference.parts.PART_PIXELS", 1)
    values = np.random.default_rng(0).integers(1, 254, (3, 1000, 200), dtype=np.uint8)
    raster = write_raster(tmp_path / "a.tif", values, tiled=True, blockxsize=256, blockysize=256)
    os.truncate(raster, raster.stat().st_size // 2 + 1000)
    command = ("predict", model, raster, "--out", tmp_path / "maps", "--tile", 128)
    result = run(*command, "--incomplete")
    assert result.exit_code == 2
    assert "holds no parts of a prediction of a.tif" in " ".join(result.stderr.split())
    result = run(*command)
    assert result.exit_code == 2
    assert "the same command with --incomplete makes a map of them" in " ".join(result.stderr.split())
    result = run(*command, "--incomplete")
    assert result.exit_code == 0, result.output
    assert "INCOMPLETE" in result.stdout
    assert (tmp_path / "maps/a.incomplete.classes.tif").exists()
    assert (tmp_path / "maps/a.parts/plan.json").exists()


def test_a_runs_own_threshold_is_used(tmp_path):
    """It was chosen on the validation split."""

    classes = ("land", "building")
    run_folder = tmp_path / "runs/distilled-s0"
    (run_folder / "checkpoints").mkdir(parents=True)
    (run_folder / "report.json").write_text(
        json.dumps({"parameters": 1, "steps": 1, "seconds": 1.0, "at_threshold": {"building": {"threshold": 0.37}}})
    )
    assert threshold_of(run_folder / "checkpoints/best.safetensors", classes) == 0.37
    assert threshold_of(tmp_path / "elsewhere/best.safetensors", classes) == 0.5
