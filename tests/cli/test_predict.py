"""`kdcore predict` and `merge`, as a person types them."""

import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from typer.testing import CliRunner

import kdcore
from kdcore.cli import app
from kdcore.cli.predict import threshold_of
from kdcore.data.collection import Collection
from kdcore.models.checkpoint import CheckpointInfo, load_network, save_network
from kdcore.models.networks import build_network
from kdcore.ownership import RECORD
from kdcore.settings import ClassSettings, CollectionSettings, load, save
from kdcore.training.work import checkpoint_info
from tests.conftest import TINY, run_settings, write_collection, write_raster

EXAMPLE = Path(kdcore.__file__).parent / "example"
IMAGERY = EXAMPLE / "layers/outskirts/imagery.tif"
STUDENT = EXAMPLE / "runs/distilled-s0/checkpoints/best.safetensors"


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


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


def test_shares_of_two_processes_are_merged(tmp_path, model, rasters):
    for shard in ("1/2", "2/2"):
        result = run("predict", model, *rasters, "--out", tmp_path / "maps", "--shard", shard, "--tile", 128)
        assert result.exit_code == 0, result.output
    assert "kdcore merge" in result.stderr
    result = run("merge", tmp_path / "maps", "--json")
    assert result.exit_code == 0, result.output
    assert [values["complete"] for values in json.loads(result.stdout)] == [True, True]
    whole = run("predict", model, rasters[0], "--out", tmp_path / "whole", "--tile", 128)
    assert whole.exit_code == 0
    with (
        rasterio.open(tmp_path / "maps/a.classes.tif") as one,
        rasterio.open(tmp_path / "whole/a.classes.tif") as other,
    ):
        assert (one.read() == other.read()).all()


def test_a_second_start_says_that_all_is_done(tmp_path, model, rasters):
    run("predict", model, rasters[0], "--out", tmp_path / "maps")
    result = run("predict", model, rasters[0], "--out", tmp_path / "maps")
    assert result.exit_code == 0
    assert "is mapped already" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--shard", "3/2"], "--shard 3/2: should be i/n"),
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


def test_two_rasters_of_one_name_are_refused(tmp_path, model, rasters):
    other = write_raster(tmp_path / "other/a.tif", np.ones((3, 50, 50), np.uint8))
    result = run("predict", model, rasters[0], other, "--out", tmp_path / "maps")
    assert result.exit_code == 2
    assert "their maps would have one name" in " ".join(result.stderr.split())


def test_merging_a_folder_without_parts_says_so(tmp_path):
    result = run("merge", tmp_path)
    assert result.exit_code == 2
    assert "holds no parts" in " ".join(result.stderr.split())


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
