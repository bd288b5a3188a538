"""`kdcore study`, `report` and `evaluate`: the main job, and a sentence with exit code 2 for everything a user can get wrong."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import yaml
from safetensors.torch import load_file
from shapely import box
from typer.testing import CliRunner

from kdcore.cli import app
from kdcore.cli.choices import flags_of
from kdcore.cli.choices import study_settings as chosen_settings
from kdcore.deploy.folder import DeploymentFolder
from kdcore.evaluation.gap import gap_sentence
from kdcore.evaluation.scores import Scores
from kdcore.jobs.study_folder import StudyFolder
from kdcore.models.checkpoint import load_network
from kdcore.models.networks import count_parameters
from kdcore.settings import ADDED, RECIPES, STUDY_PRESETS, ClassSettings, Recipe, save
from tests.conftest import paint, write_collection, write_raster
from tests.disks import mounted, small_disk
from tests.onnx_files import write_pixelwise
from tests.synthetic_study import make_study
from tests.training.studies import contents, study_settings


def run(*arguments) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `kdcore ARGUMENTS`; a traceback is a failure."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "Traceback" not in result.output
    return result.exit_code, result.stdout, result.stderr


def refused(*arguments) -> str:
    """The one sentence with which a command refuses, on standard error, without markup; nothing else is printed."""
    code, out, err = run(*arguments)
    assert code == 2, out + err
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, err
    sentence = lines[0].removeprefix("Error: ")
    assert len(sentence) < 600
    return sentence


def nothing_half_written(folder: Path) -> None:
    """No file that was being written is left, and what is there can be read."""
    for file in folder.rglob("*"):
        assert not (file.is_file() and file.name.startswith(".")), file
        if file.suffix == ".json":
            json.loads(file.read_text())
        elif file.suffix == ".yaml":
            yaml.safe_load(file.read_text())
        elif file.suffix == ".safetensors":
            load_file(file)


@pytest.fixture
def settings(tmp_path):
    """A settings file of a study of seconds."""
    save(study_settings(seeds=(0,)), tmp_path / "settings.yaml")
    return tmp_path / "settings.yaml"


@pytest.fixture
def study(tmp_path, settings):
    """Starts `kdcore study`, which must refuse and leave nothing half-written."""

    def start(collection, *more) -> str:
        sentence = refused("study", collection, "--out", tmp_path / "out", "--settings", settings, *more)
        nothing_half_written(tmp_path / "out")
        assert not (tmp_path / "out/runs").exists()
        return sentence

    return start


class TestAStudy:
    def test_goes_from_a_folder_to_a_verdict_and_is_never_overwritten(self, tmp_path, settings):
        path = write_collection(tmp_path / "collection")
        arguments = ("study", path, "--out", tmp_path / "out", "--settings", settings, "--temperature", 4, "--json")
        code, out, err = run(*arguments)
        assert code == 0
        report = json.loads(out)
        assert report["settings"]["recipe"]["temperature"] == 4
        assert report["settings"]["recipe"]["alpha"] == 0.5
        assert set(report["arms"]) == {"teacher", "alone", "distilled"}
        assert "distilled student, seed 0: training" in err  # progress does not stand in the way of the JSON
        assert json.loads((tmp_path / "out/report.json").read_text()) == report
        page = (tmp_path / "out/report.html").read_text()
        assert report["comparison"]["sentence"] in page

        runs = contents(tmp_path / "out/runs")
        assert json.loads(run(*arguments)[1]) == report
        assert contents(tmp_path / "out/runs") == runs
        for other in (("--seeds", "5"), ("--alpha", "0.9"), ("--steps", "7")):
            assert "holds a study with other settings; a study is never overwritten" in refused(*arguments[:-1], *other)
        assert contents(tmp_path / "out/runs") == runs

    @pytest.mark.slow  # three whole studies, and what the first command left is taken up by the second
    def test_with_several_shares_is_a_learning_curve(self, tmp_path):
        """Two shares at first and a third one afterwards: the teacher is trained once, and what is finished is never trained again."""
        path, out = write_collection(tmp_path / "collection", size=256), tmp_path / "curve"
        save(study_settings(recipe=Recipe(alpha=0.5, unlabelled=1.0)), tmp_path / "settings.yaml")
        arguments = ("study", path, "--out", out, "--settings", tmp_path / "settings.yaml", "--json", "--labels")
        code, printed, _ = run(*arguments, "0.3,1")
        assert code == 0
        report = json.loads(printed)
        assert [point["wanted"] for point in report["points"]] == [0.3, 1.0]
        assert report["points"][0]["labels"] == 0.25  # two of eight blocks
        assert (report["points"][1]["labels"], report["seeds"]) == (1.0, 2)
        assert json.loads((out / "labels.json").read_text()) == report
        page = (out / "labels.html").read_text()
        assert all(point["worth"]["sentence"] in page for point in report["points"])
        assert "<script src" not in page  # it opens without a network

        logs = {share: (out / f"labels-{share}/runs/teacher-s0/log.txt").read_text() for share in ("0.3", "1")}
        assert ["reused from" in logs[share] for share in ("0.3", "1")] == [False, True]
        before = contents(out)
        code, printed, _ = run(*arguments, "0.3,0.6,1")
        assert [point["wanted"] for point in json.loads(printed)["points"]] == [0.3, 0.6, 1.0]
        after = contents(out)
        trained = [name for name in before if name.startswith("labels-") and "/runs/" in name]
        assert len(trained) > 20
        assert all(after[name] == before[name] for name in trained)

    def test_is_tested_on_other_places_and_says_what_came_out_there(self, tmp_path, settings):
        path = write_collection(tmp_path / "collection")
        place = write_collection(tmp_path / "elsewhere", name="elsewhere")
        arguments = ("study", path, "--out", tmp_path / "out", "--settings", settings, "--test-on", place)
        code, out, err = run(*arguments)
        assert code == 0, err
        assert StudyFolder(tmp_path / "out").settings.test_on == (place,)
        assert "In elsewhere: " in out
        assert re.search(r"elsewhere\s+│ d\s+│\s+16 │", out)

    def test_refuses_shares_of_which_there_is_no_curve(self, study, tmp_path):
        path = write_collection(tmp_path / "collection")
        assert "write a share from 0 to 1, or several with commas" in study(path, "--labels", "ten")
        assert "give one share of the labels, or two or more different ones" in study(path, "--labels", "0.5,2")

    def test_takes_flags_before_the_file_and_the_file_before_the_preset(self, tmp_path):
        file = tmp_path / "settings.yaml"
        file.write_text("recipe: {temperature: 3}\nbudget: {steps: 11}\n")
        chosen = chosen_settings("quick", file, {"recipe.temperature": 5.0, "recipe.alpha": None})
        assert chosen.recipe.temperature == 5
        assert chosen.budget.steps == 11
        assert chosen.recipe.alpha == chosen_settings("quick", None, {}).recipe.alpha

    def test_leaves_the_student_with_all_labels_out_where_that_is_said(self, tmp_path):
        assert chosen_settings("quick", None, {"labels": 0.1}).trains_all_labels
        assert not chosen_settings("quick", None, {}).trains_all_labels
        assert not chosen_settings("quick", None, {"labels": 0.1, "upper_bound": False}).trains_all_labels
        file = tmp_path / "settings.yaml"
        file.write_text("labels: 0.1\nupper_bound: false\n")
        assert not chosen_settings("quick", file, {}).trains_all_labels
        assert chosen_settings("quick", file, {"upper_bound": True}).trains_all_labels

    def test_takes_a_recipe_as_a_whole_and_the_flags_over_it(self, tmp_path):
        """What the file's recipe says does not get mixed up with another one; only flags change it."""
        file = tmp_path / "settings.yaml"
        file.write_text("recipe: {temperature: 3, task: cross_entropy+dice}\nbudget: {steps: 11}\n")
        flags = flags_of(None, None, 0.8, None, None, None, recipe="patient")
        chosen = chosen_settings("quick", file, flags)
        assert chosen.recipe == RECIPES["patient"].model_copy(update={"alpha": 0.8})
        assert chosen.budget.steps == 11

    def test_without_a_word_about_the_recipe_takes_the_recommended_one(self, tmp_path):
        """Any word about it, in the file or as a flag, is about the preset's own."""
        assert chosen_settings("quick", None, {}).recipe == RECIPES["classic"]
        assert chosen_settings("quick", None, {}, unlabelled=True).recipe == RECIPES["unlabelled"]
        # Labels that are left unused are no imagery without labels: using them is as good.
        assert chosen_settings("quick", None, {"labels": 0.1}).recipe == RECIPES["classic"]
        assert chosen_settings("quick", None, {"recipe.alpha": 0.0}, unlabelled=True).recipe.unlabelled == 0
        file = tmp_path / "settings.yaml"
        file.write_text("recipe: {temperature: 3}\n")
        chosen = chosen_settings("quick", file, {}, unlabelled=True).recipe
        assert chosen == RECIPES["classic"].model_copy(update={"temperature": 3})

    @pytest.mark.parametrize("name", RECIPES)
    def test_with_alpha_zero_every_recipe_leaves_the_teacher_out(self, name):
        recipe = chosen_settings("demo", None, flags_of(None, None, 0.0, None, None, None, recipe=name)).recipe
        assert (recipe.alpha, recipe.unlabelled, recipe.channels, recipe.features) == (0, 0, 0, 0)

    @pytest.mark.parametrize("name", ADDED)
    def test_adds_every_loss_with_its_weight(self, name):
        """Whatever the recipe: where the loss needs the teacher at each step, the teacher sees the crops."""
        for recipe in (None, "patient"):
            flags = flags_of(None, None, None, None, None, None, recipe=recipe, added=[f"{name}=0.5"])
            chosen = chosen_settings("quick", None, flags).recipe
            assert chosen.weights == {name: 0.5}
            assert chosen.teacher_sees == ("crop" if ADDED[name].compares == "features" else "scene")

    def test_refuses_a_loss_that_there_is_not_and_a_weight_that_is_no_number(self, study, tmp_path):
        path = write_collection(tmp_path / "collection")
        assert (
            study(path, "--add", "dkd=1") == f"--add dkd=1: there is no loss 'dkd'; choose one of {', '.join(ADDED)}."
        )
        assert study(path, "--add", "hint") == "--add hint: write a loss and its weight, for example hint=1."
        assert "recipe.hint" in study(path, "--add", "hint=1000")

    def test_blends_crops_for_a_teacher_that_sees_them(self, tmp_path):
        """A file need not say what follows: only a teacher that is asked at each step can see a blend."""
        file = tmp_path / "settings.yaml"
        file.write_text("recipe: {mix: mixup}\n")
        assert chosen_settings("quick", file, {}).recipe.teacher_sees == "crop"

    def test_knows_its_recipes(self, study, tmp_path):
        path = write_collection(tmp_path / "collection")
        assert study(path, "--recipe", "best") == (
            "--recipe best: there is no such recipe; choose one of classic, patient, unlabelled, channel-wise, "
            "augmented, pseudo-labels, mean-teacher."
        )

    def test_knows_the_former_name_of_a_recipe_and_says_the_present_one(self, capsys):
        flags = flags_of(None, None, None, None, None, None, recipe="features")
        assert chosen_settings("quick", None, flags).recipe == RECIPES["channel-wise"]
        said = (
            "The recipe 'features' is called 'channel-wise' now: it distils logits channel by channel, and no features."
        )
        assert said in capsys.readouterr().err

    def test_whose_data_was_mended_can_be_started_again(self, tmp_path, settings):
        """Nothing was trained on the wrong data, so the same command must do."""
        path = write_collection(tmp_path / "collection")
        good = (path.parent / "masks/d.tif").read_bytes()
        write_raster(path.parent / "masks/d.tif", np.full((128, 128), 77, np.uint8), west=503_000)
        arguments = ("study", path, "--out", tmp_path / "out", "--settings", settings)
        assert "value 77" in refused(*arguments)
        (path.parent / "masks/d.tif").write_bytes(good)
        assert run(*arguments)[0] == 0


class TestAReport:
    def test_prints_json_for_programs(self, tiny_study):
        code, out, err = run("report", tiny_study, "--json")
        assert (code, err) == (0, "")
        assert json.loads(out) == json.loads((tiny_study / "report.json").read_text())

    def test_prints_a_table_and_the_verdict_for_people(self, tiny_study, tmp_path, monkeypatch):
        monkeypatch.setenv("COLUMNS", "200")
        study = shutil.copytree(tiny_study, tmp_path / "study")
        code, out, _ = run("report", study)
        report = json.loads((study / "report.json").read_text())
        assert code == 0
        assert report["comparison"]["sentence"] in " ".join(out.split())
        for words in (
            "student alone",
            "distilled student",
            "teacher",
            f"{100 * report['arms']['alone']['mean_ap']:.1f}",
        ):
            assert words in out
        assert str(study / "report.html") in out.replace("\n", "")

    def test_has_the_student_with_all_labels_and_says_what_else_the_teacher_had(self, tmp_path, monkeypatch):
        monkeypatch.setenv("COLUMNS", "200")
        study = make_study(tmp_path / "study", classes=("land", "building"), seeds=1, scenes=1, labels=0.25)
        code, out, _ = run("report", study, "--overwrite")
        report = json.loads((study / "report.json").read_text())
        assert code == 0
        (line,) = [line for line in out.splitlines() if "student with all labels" in line and "600,000" in line]
        assert f"{100 * report['arms']['all_labels']['mean_ap']:.1f}" in line
        assert gap_sentence(report) in " ".join(out.split())

    def test_of_a_single_tile_has_no_interval_and_is_printed_all_the_same(self, tiny_study, tmp_path):
        study = shutil.copytree(tiny_study, tmp_path / "study")
        for one in (study / "runs").iterdir():
            for name in ("scores.npz", "scores-validation.npz"):
                Scores.load(one / name).select([5]).save(one / name)
        code, out, _ = run("report", study)
        assert code == 0
        assert "one test tile is too few" in " ".join(out.split())

    def test_of_what_is_no_study(self, tmp_path):
        assert "holds no study" in refused("report", tmp_path)
        assert "holds no study" in refused("report", tmp_path / "nowhere")

    def test_of_an_unfinished_study(self, tiny_study, tmp_path):
        study = shutil.copytree(tiny_study, tmp_path / "study")
        (study / "runs/distilled-s1/report.json").unlink()
        assert "distilled-s1 is not finished" in refused("report", study)


class TestAnEvaluation:
    def test_gives_the_numbers_of_the_run(self, tiny_study):
        best = tiny_study / "runs/alone-s0/checkpoints/best.safetensors"
        code, out, _ = run("evaluate", best, tiny_study.parent / "collection", "--device", "cpu", "--json")
        told = json.loads((tiny_study / "runs/alone-s0/report.json").read_text())["test"]
        assert code == 0
        assert json.loads(out)["mean_iou"] == pytest.approx(told["mean_iou"], abs=0.02)

    def test_writes_maps_where_asked(self, tiny_study, tmp_path):
        best = tiny_study / "runs/alone-s0/checkpoints/best.safetensors"
        arguments = ("--split", "validation", "--maps", tmp_path / "maps", "--device", "cpu")
        code, out, _ = run("evaluate", best, tiny_study.parent / "collection", *arguments)
        assert code == 0
        assert "validation part" in " ".join(out.split())  # lines break within long paths
        with rasterio.open(tmp_path / "maps/c.tif") as map_:
            assert map_.count == 3

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("--split", "all"), "--split all: there is no such part; choose one of train, validation, test"),
            (("--device", "device 'tpu9' cannot be used here"), "device 'tpu9' cannot be used here"),
        ],
    )
    def test_with_wrong_options(self, tiny_study, arguments, words):
        best = tiny_study / "runs/alone-s0/checkpoints/best.safetensors"
        assert words in refused("evaluate", best, tiny_study.parent / "collection", *arguments)

    def test_of_a_checkpoint_of_another_class_list(self, tiny_study, tmp_path):
        best = tiny_study / "runs/alone-s0/checkpoints/best.safetensors"
        other = write_collection(tmp_path / "other", classes=4)
        sentence = refused("evaluate", best, other)
        assert (
            f"{best}: was trained for the classes land, building, water, but the collection has land, building"
            in sentence
        )
        assert "Use a checkpoint of the same class list" in sentence

    def test_of_a_file_that_is_no_checkpoint(self, tiny_study, tmp_path):
        (tmp_path / "x.safetensors").write_bytes(b"PK\3\4 something else")
        assert "x.safetensors: is broken or no safetensors file" in refused(
            "evaluate", tmp_path / "x.safetensors", tiny_study.parent / "collection"
        )
        assert "there is no such file" in refused("evaluate", tmp_path / "none", tiny_study.parent / "collection")


class TestBadData:
    """Each is found before anything is trained, and named with its file, its place and its mend."""

    @pytest.fixture
    def collection(self, tmp_path):
        return write_collection(tmp_path / "collection").parent

    def test_image_and_mask_of_different_size(self, collection, study):
        write_raster(collection / "masks/b.tif", np.zeros((64, 100), np.uint8), west=501_000)
        sentence = study(collection)
        assert "masks/b.tif: the mask is 100 x 64 px but its image is 128 x 128 px" in sentence
        assert "Export the mask on the image's grid" in sentence

    def test_a_mask_value_that_is_no_class(self, collection, study):
        labels = np.zeros((128, 128), np.uint8)
        labels[40, 77] = 9
        write_raster(collection / "masks/c.tif", labels, west=502_000)
        sentence = study(collection)
        assert "masks/c.tif: value 9 at row 40, column 77 is no class" in sentence
        assert "Add it to `classes` or to `ignore` in collection.yaml" in sentence

    def test_a_mask_colour_that_is_no_class(self, tmp_path, study):
        classes = tuple(ClassSettings(name=n, colour=c) for n, c in (("land", "#000000"), ("water", "#0000FF")))
        path = self.coloured(tmp_path, classes)
        with rasterio.open(path.parent / "masks/a.tif", "r+") as mask:
            mask.write(np.array([[[0x12]], [[0x34]], [[0x56]]], np.uint8), window=rasterio.windows.Window(5, 6, 1, 1))
        assert "masks/a.tif: colour #123456 at row 6, column 5 is no class" in study(path)

    def coloured(self, tmp_path, classes):
        path = write_collection(tmp_path / "coloured", classes=2)
        table = np.array([[int(entry.colour[i : i + 2], 16) for i in (1, 3, 5)] for entry in classes], np.uint8)
        for index, name in enumerate("abcd"):
            with rasterio.open(path.parent / f"masks/{name}.tif") as mask:
                labels = mask.read(1)
            write_raster(
                path.parent / f"masks/{name}.tif", np.moveaxis(table[labels], -1, 0), west=500_000 + 1000 * index
            )
        settings = yaml.safe_load(path.read_text())
        settings["classes"] = [entry.model_dump(exclude_none=True) for entry in classes]
        path.write_text(yaml.safe_dump(settings))
        return path

    def test_a_folder_that_is_not_there(self, tmp_path, study):
        assert "nowhere: there is no such folder or file" in study(tmp_path / "nowhere")

    def test_a_folder_without_settings(self, collection, study):
        (collection / "collection.yaml").unlink()
        assert f"has no collection.yaml. Run `kdcore data inspect {collection}`, which proposes one" in study(
            collection
        )

    def test_settings_that_are_no_yaml(self, collection, study):
        (collection / "collection.yaml").write_text("name: [unclosed\n")
        assert "collection.yaml: is no valid YAML" in study(collection)

    def test_a_misspelt_setting(self, collection, study):
        file = collection / "collection.yaml"
        file.write_text(file.read_text() + "nodota: 0\n")
        assert "nodota: is not a setting; check its spelling" in study(collection)

    def test_an_unreadable_image(self, collection, study):
        (collection / "images/b.tif").write_bytes(b"II*\0" + bytes(100))
        assert "images/b.tif: looks like GTiff but cannot be read" in study(collection)

    def test_an_image_that_is_something_else(self, collection, study):
        (collection / "images/b.tif").write_text("<html>Not found</html>")
        assert "images/b.tif: is no GeoTIFF, JPEG, PNG or JPEG 2000 image. Convert it" in study(collection)

    @pytest.mark.parametrize("folder", ["images", "masks"])
    def test_a_file_that_was_not_copied_whole(self, collection, study, folder):
        file = collection / folder / "b.tif"
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        sentence = study(collection)
        assert f"{folder}/b.tif" in sentence
        assert "broken" in sentence or "cannot be read" in sentence

    def test_a_mask_that_is_not_there(self, collection, study):
        (collection / "masks/b.tif").unlink()
        sentence = study(collection)
        assert "images/b.tif: is in the train part but has no labels" in sentence
        assert "move the image to unlabelled/" in sentence

    def test_labels_without_a_crs(self, collection, study):
        """GeoPackage: a GeoJSON without a CRS is in degrees by its standard."""
        (collection / "masks/b.tif").unlink()
        (collection / "labels").mkdir()
        frame = geopandas.GeoDataFrame(geometry=[box(501_000, 4_999_990, 501_010, 5_000_000)])
        with pytest.warns(UserWarning, match="'crs' was not provided"):
            frame.to_file(collection / "labels/b.gpkg")
        file = collection / "collection.yaml"
        settings = yaml.safe_load(file.read_text())
        settings["class_field"] = "class"
        file.write_text(yaml.safe_dump(settings))
        sentence = study(collection)
        assert "labels/b.gpkg: these polygons have no CRS. Assign the one that they were drawn in" in sentence
        assert "ogr2ogr -a_srs EPSG:... new.gpkg b.gpkg" in sentence

    def test_a_class_that_the_train_part_lacks(self, collection, study):
        for index, name in enumerate("ab"):
            labels = np.indices((128, 128)).sum(axis=0).astype(np.uint8) % 2
            write_raster(collection / f"masks/{name}.tif", labels, west=500_000 + 1000 * index)
        sentence = study(collection)
        assert "the train part has no pixel of class 'water'" in sentence
        assert "Choose another split, or remove the class" in sentence

    def test_one_class_only(self, collection, study):
        file = collection / "collection.yaml"
        settings = yaml.safe_load(file.read_text())
        settings["classes"] = settings["classes"][1:2]
        file.write_text(yaml.safe_dump(settings))
        sentence = study(collection)
        assert "one class only (building)" in sentence
        assert "add the rest, for example 'background'" in sentence

    def test_one_class_only_in_the_test_part(self, tmp_path, study):
        path = write_collection(tmp_path / "binary", classes=2)
        write_raster(path.parent / "masks/d.tif", np.zeros((128, 128), np.uint8), west=503_000)
        assert "the test part has no pixel of class 'building'" in study(path)

    def test_imagery_that_is_all_nodata(self, collection, study):
        for index, name in enumerate("ab"):
            nothing = np.zeros((3, 128, 128), np.uint8)
            write_raster(collection / f"images/{name}.tif", nothing, west=500_000 + 1000 * index, nodata=0)
        assert "the train imagery is all nodata. Check `nodata` in collection.yaml" in study(collection)

    @pytest.mark.parametrize("folder", ["images", "masks"])
    def test_a_header_that_declares_120_gb(self, collection, study, folder):
        file = collection / folder / "b.tif"
        profile = {"width": 200_000, "height": 200_000, "count": 3, "dtype": "uint8", "compress": "deflate"}
        options = {"tiled": True, "sparse_ok": True, "BIGTIFF": "YES"}
        with rasterio.open(
            file,
            "w",
            driver="GTiff",
            crs="EPSG:32633",
            transform=rasterio.Affine(1, 0, 0, 0, -1, 0),
            **profile,
            **options,
        ):
            pass
        sentence = study(collection)
        assert f"{folder}/b.tif: its header declares 200000 x 200000 px x 3 bands (120 GB)" in sentence
        assert "Make the file anew, or raise `max_declared_gb`" in sentence

    @pytest.mark.parametrize("value", ["../../etc", "/etc"])
    def test_a_path_outside_the_folder(self, collection, study, value):
        file = collection / "collection.yaml"
        file.write_text(file.read_text().replace("images: images", f"images: {value}"))
        sentence = study(collection)
        assert f"'{value}' leads outside the collection's folder; name a folder inside it" in sentence

    def test_a_split_that_leaks(self, collection, study):
        file = collection / "collection.yaml"
        file.write_text(file.read_text().replace("  test:\n  - d", "  test:\n  - d\n  - a"))
        assert "scene 'a' is both in test and in train; that would leak" in study(collection)

    def test_images_of_a_type_that_is_not_supported(self, collection, study):
        write_raster(collection / "images/b.tif", np.ones((3, 128, 128), np.float64), west=501_000)
        sentence = study(collection)
        assert "images/b.tif: has values of type float64; supported are uint8, uint16, int16, float32" in sentence


class TestBadSettings:
    @pytest.fixture
    def collection(self, tmp_path):
        return write_collection(tmp_path / "collection")

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("--alpha", "1.5"), "recipe.alpha: Input should be less than or equal to 1 (found '1.5')"),
            (("--alpha", "-0.1"), "recipe.alpha: Input should be greater than or equal to 0 (found '-0.1')"),
            (("--alpha", "nan"), "recipe.alpha"),
            (("--temperature", "0.5"), "recipe.temperature: Input should be greater than or equal to 1 (found '0.5')"),
            (("--temperature", "21"), "recipe.temperature: Input should be less than or equal to 20 (found '21.0')"),
            (("--seeds", "0,zero"), "--seeds 0,zero: write whole numbers with commas, for example 0,1,2"),
            (("--seeds", "1,1"), "seeds must be different whole numbers from 0 up"),
            (("--seeds", str(2**70)), "seeds"),
            (("--preset", "fast"), "--preset fast: there is no such preset; choose one of"),
            (("--settings", "nowhere.yaml"), "nowhere.yaml: there is no such file"),
            (("--device", "tpu"), "hardware.device"),
        ],
    )
    def test_are_refused(self, collection, tmp_path, arguments, words):
        sentence = refused("study", collection, "--out", tmp_path / "out", *arguments)
        assert words in sentence
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("text", ["recipe: 3\n", "- a list\n", "budget: {crop: many}\n", "studnet: tiny\n"])
    def test_in_a_file_are_refused(self, collection, tmp_path, text):
        (tmp_path / "settings.yaml").write_text(text)
        arguments = ("--settings", tmp_path / "settings.yaml", "--alpha", "0.5", "--steps", "3")
        assert "settings.yaml: " in refused("study", collection, "--out", tmp_path / "out", *arguments)
        assert not (tmp_path / "out").exists()

    def test_that_name_no_network(self, collection, tmp_path):
        file = tmp_path / "settings.yaml"
        file.write_text("student: gigantic\n")
        sentence = refused("study", collection, "--out", tmp_path / "out", "--settings", file)
        assert "'gigantic' is no network; choose a preset (large, base, medium," in sentence

    def test_of_a_teacher_of_another_class_list(self, tiny_study, tmp_path):
        best = tiny_study / "runs/teacher-s0/checkpoints/best.safetensors"
        other = write_collection(tmp_path / "other", classes=4)
        settings = study_settings(seeds=(0,)).model_dump(mode="json", exclude_none=True)
        settings["teacher"]["checkpoints"] = [str(best)]
        (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings))
        sentence = refused("study", other, "--out", tmp_path / "out", "--settings", tmp_path / "settings.yaml")
        assert f"{best}: was trained for the classes land, building, water" in sentence
        nothing_half_written(tmp_path / "out")


class TestTheFolder:
    @pytest.mark.parametrize("what", ["a file", "something else"])
    def test_of_the_study_is_not_taken_from_others(self, tmp_path, settings, what):
        out = tmp_path / "out"
        if what == "a file":
            out.write_text("mine")
        else:
            out.mkdir()
            (out / "thesis.txt").write_text("mine")
        path = write_collection(tmp_path / "collection")
        assert "Choose another --out" in refused("study", path, "--out", out, "--settings", settings)
        assert (out if what == "a file" else out / "thesis.txt").read_text() == "mine"
        assert what == "a file" or [file.name for file in out.iterdir()] == ["thesis.txt"]

    def test_on_a_full_disk(self, tmp_path, settings):
        """Full while the teacher is trained; with more space the same command goes on."""
        path = write_collection(tmp_path / "collection")
        with small_disk(tmp_path / "disk", kilobytes=700) as disk:
            arguments = ("study", path, "--out", disk / "out", "--settings", settings)
            sentence = refused(*arguments)
            assert "the disk is full" in sentence
            assert "Free space, then resume" in sentence
            nothing_half_written(disk / "out")
            mounted(disk, kilobytes=60_000)
            code, out, _ = run(*arguments)
            assert code == 0
            assert "Page: " in out

    def test_on_a_disk_without_any_space(self, tmp_path, settings):
        path = write_collection(tmp_path / "collection")
        with small_disk(tmp_path / "disk", kilobytes=4) as disk:
            assert "the disk is full" in refused("study", path, "--out", disk / "out", "--settings", settings)
            nothing_half_written(disk)


# --- a teacher that exists already


def write_colours(path, **options):
    """An ONNX file that knows the colours of the small collection's three classes."""
    colours = np.array([[90, 110, 60], [180, 120, 110], [60, 70, 120]])
    text = options.pop("yaml", "classes: {land: 0, building: 1, water: 2}\noutput: logits\n")
    return write_pixelwise(path, colours / 144, -(colours**2).sum(axis=1) / 288, yaml=text, **options)


def test_any_onnx_file_teaches(tmp_path, settings, make_collection):
    file = write_colours(tmp_path / "colours.onnx", size=64)
    code, out, err = run(
        "study", make_collection(), "--out", tmp_path / "study", "--settings", settings, "--teacher", file, "--json"
    )
    assert code == 0, err
    report = json.loads(out)
    assert report["arms"]["teacher"]["parameters"] == 12
    assert report["arms"]["teacher"]["mean_iou"] > 0.9
    saved = StudyFolder(tmp_path / "study").settings.teacher
    assert saved.checkpoints == (file,)
    assert (saved.network.architecture, saved.network.encoder) == ("onnx", "colours")


def test_teachers_are_checked_before_anything_is_written(tmp_path, settings, make_collection, tiny_study):
    place, study = make_collection(), tmp_path / "study"
    command = ("study", place, "--out", study, "--settings", settings, "--teacher")
    assert "no such file" in refused(*command, tmp_path / "absent.onnx")
    (tmp_path / "weights.pt").write_bytes(b"")
    assert ".safetensors file written by kdcore, or an .onnx file" in refused(*command, tmp_path / "weights.pt")
    plain = write_colours(tmp_path / "plain.onnx", yaml=None)
    assert "plain.yaml" in refused(*command, plain)
    other = write_colours(tmp_path / "other.onnx", yaml="classes: {land: 0, house: 1, water: 2}\noutput: logits\n")
    assert "lacks building and names house" in refused(*command, other)
    trained = tiny_study / "runs/teacher-s0/checkpoints/best.safetensors"
    two = make_collection("two", classes=2)
    assert "land, building" in refused("study", two, "--out", study, "--settings", settings, "--teacher", trained)
    assert not study.exists()


def test_several_teachers_of_both_kinds_are_averaged(tmp_path, settings, make_collection, tiny_study):
    trained = tiny_study / "runs/teacher-s0/checkpoints/best.safetensors"
    file = write_colours(tmp_path / "colours.onnx")
    code, out, err = run(
        *("study", make_collection(), "--out", tmp_path / "study", "--settings", settings),
        *("--teacher", trained, "--teacher", file, "--json"),
    )
    assert code == 0, err
    arms = json.loads(out)["arms"]
    assert arms["teacher"]["parameters"] == 12 + count_parameters(load_network(trained)[0])
    network = StudyFolder(tmp_path / "study").settings.teacher.network
    assert network == load_network(trained)[1].network  # as the teacher's own, so that what it costs is told


def test_an_onnx_file_can_be_scored_by_itself(tmp_path, make_collection):
    """Red and blue exchanged, which only its YAML knows; with the wrong lines it is no good, and the score says so."""
    path, place = tmp_path / "colours.onnx", make_collection()
    text = "classes: {land: 0, building: 1, water: 2}\noutput: logits\n"
    colours = np.array([[60, 110, 90], [110, 120, 180], [120, 70, 60]])
    write_pixelwise(path, colours / 144, -(colours**2).sum(axis=1) / 288, yaml=text + "bands: [3, 2, 1]\n")
    code, out, err = run("evaluate", path, place, "--device", "cpu", "--json")
    assert code == 0, err
    assert json.loads(out)["mean_iou"] > 0.9
    path.with_suffix(".yaml").write_text(text)
    _, out, _ = run("evaluate", path, place, "--device", "cpu", "--json")
    assert json.loads(out)["mean_iou"] < 0.5
    path.with_suffix(".yaml").write_text(text + "metres_per_pixel: 3\n")
    assert "was trained at 3 m per pixel" in refused("evaluate", path, place)


def test_evaluate_refuses_what_predict_refuses(tmp_path, make_collection, tiny_study):
    """Imagery of another type: what the network says of it would mean nothing."""
    trained = tiny_study / "runs/teacher-s0/checkpoints/best.safetensors"
    place = make_collection("wide")
    for index, name in enumerate("abcd"):
        image = paint(np.random.default_rng(index), 128, 3)[0].astype(np.uint16) * 16
        write_raster(place.parent / f"images/{name}.tif", image, west=500_000 + 1000 * index)
    words = "has values of type uint16, but the networks were trained on uint8"
    assert words in refused("evaluate", trained, place, "--device", "cpu")
    assert words in refused("predict", trained, place.parent / "images/d.tif", "--out", tmp_path / "maps")


def test_the_package_is_the_command():
    shown = [
        subprocess.run([*command, "data", "--help"], capture_output=True, text=True, check=True).stdout
        for command in ([sys.executable, "-m", "kdcore"], [Path(sys.executable).parent / "kdcore"])
    ]
    assert "Usage: kdcore data" in shown[0]
    assert shown[0] == shown[1]


@pytest.mark.parametrize("name", ["example", "Sweeps"])
def test_no_study_gets_a_name_by_which_the_dashboard_finds_something_else(tmp_path, name):
    assert "finds something else by the name" in refused("demo", "--out", tmp_path / name)
    assert not (tmp_path / name).exists()


def test_demo_measures_its_networks_before_it_records_them(tmp_path, monkeypatch):
    from kdcore.cli import study as command

    order: list[str] = []
    monkeypatch.setattr(command, "work_in_terminal", lambda study, as_json: order.append("study"))
    monkeypatch.setattr("kdcore.deploy.make.make", lambda deployment, report: order.append(deployment.path.name))
    monkeypatch.setattr(command, "record", lambda study, folder: order.append("record") or 1)
    longer = ["--seeds", 2, "--steps", 1000, "--teacher-steps", 1500]
    assert run("demo", "--out", tmp_path / "demo", *longer, "--record", tmp_path / "example")[0] == 0
    settings = StudyFolder(tmp_path / "demo").settings
    assert (settings.seeds, settings.budget.steps, settings.teacher.budget.steps) == ((0, 1), 1000, 1500)
    assert settings.recipe == STUDY_PRESETS["demo"].recipe
    assert order == ["study", "deploy", "record"]
    assert DeploymentFolder(tmp_path / "demo/deploy").status.state == "finished"
