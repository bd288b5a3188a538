"""What existed before a command is there after it, for every command: kdcore replaces only what it wrote itself."""

import json
import shutil
from pathlib import Path

import geopandas
import numpy as np
import pytest
import typer.main
from shapely import box
from typer.testing import CliRunner

import kdcore
from kdcore.cli import app
from kdcore.jobs.status import Status
from kdcore.jobs.study_folder import StudyFolder
from kdcore.models.checkpoint import CheckpointInfo, save_network
from kdcore.models.networks import build_network
from kdcore.ownership import RECORD, is_edited, is_ours
from kdcore.settings import save
from tests.conftest import TINY, UTM, write_collection, write_raster
from tests.training.studies import study_settings

EXAMPLE = Path(kdcore.__file__).parent / "example"


def run(*arguments, code: int | None = None, input: str | None = None):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=input)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    assert code is None or result.exit_code == code, result.output
    return result


def interrupt(*arguments):
    raise KeyboardInterrupt


def said(result) -> str:
    return " ".join(result.stderr.split())


def contents(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file() and not file.is_symlink()}


@pytest.fixture
def model(tmp_path):
    info = CheckpointInfo(network=TINY, bands=3, band_numbers=(1, 2, 3), classes=("land", "building"))
    save_network(tmp_path / "net/m.safetensors", build_network(TINY, 3, 1, [128.0] * 3, [70.0] * 3, seed=0), info)
    return tmp_path / "net/m.safetensors"


@pytest.fixture
def mine(tmp_path):
    """A raster, and a person's own files around it that have the names of what kdcore writes."""
    folder = tmp_path / "mine"
    values = np.random.default_rng(0).integers(1, 254, (3, 96, 128), dtype=np.uint8)
    write_raster(folder / "scene.tif", values)
    drawn = geopandas.GeoDataFrame(
        {"mine": ["hand-drawn"]}, geometry=[box(500_000, 4_999_990, 500_010, 5_000_000)], crs=UTM
    )
    drawn.to_file(folder / "scene.gpkg", layer="my_labels")
    drawn.to_crs(4326).to_file(folder / "scene.geojson")
    (folder / "scene.json").write_text('{"my": "metadata"}')
    write_raster(folder / "scene.classes.tif", np.ones((96, 128), np.uint8))
    write_raster(folder / "scene.probabilities.tif", np.ones((96, 128), np.uint8))
    (folder / "scene.parts").mkdir()
    (folder / "scene.parts/00001.txt").write_text("a part of my scene")
    (folder / ".pre-commit-config.yaml").write_text("mine: true")
    (folder / "notes.md").write_text("mine")
    return folder


RESULTS = ["scene.gpkg", "scene.geojson", "scene.json", "scene.classes.tif", "scene.probabilities.tif"]


class TestPredict:
    @pytest.mark.parametrize("name", ["scene.gpkg", "scene.json", "scene.classes.tif", "scene.probabilities.tif"])
    def test_refuses_before_it_works_and_names_the_file(self, model, mine, name):
        for other in {*RESULTS} - {name}:
            (mine / other).unlink()
        shutil.rmtree(mine / "scene.parts")
        before = contents(mine)
        sentence = said(run("predict", model, mine / "scene.tif", "--out", mine, code=2))
        assert f"{name}: exists already, and was not written by kdcore" in sentence
        assert "--overwrite" in sentence
        assert contents(mine) == before

    def test_what_is_not_written_is_no_obstacle_and_stays(self, model, mine):
        for other in {*RESULTS} - {"scene.geojson"}:
            (mine / other).unlink()
        shutil.rmtree(mine / "scene.parts")
        before = contents(mine)
        run("predict", model, mine / "scene.tif", "--out", mine, code=0)
        assert before.items() <= contents(mine).items()

    def test_a_folder_that_is_called_like_its_parts_is_left_alone(self, model, mine):
        for other in RESULTS:
            (mine / other).unlink()
        before = contents(mine)
        assert "'00001.txt', which is no part of a prediction" in said(
            run("predict", model, mine / "scene.tif", "--out", mine, code=2)
        )
        assert contents(mine) == before

    def test_overwrite_replaces_the_results_and_nothing_else(self, model, mine):
        before = contents(mine)
        run("predict", model, mine / "scene.tif", "--out", mine, "--overwrite", code=0)
        after = contents(mine)
        replaced = {file.name for file in before if after.get(file) != before[file]}
        assert replaced == {"scene.gpkg", "scene.json", "scene.classes.tif", "scene.probabilities.tif"}
        assert json.loads((mine / "scene.json").read_text())["complete"]

    def test_the_raster_itself_is_never_replaced(self, model, tmp_path):
        values = np.random.default_rng(0).integers(1, 254, (3, 64, 64), dtype=np.uint8)
        raster = write_raster(tmp_path / "a.tif", values)
        shutil.copy(raster, tmp_path / "b.tif")
        (tmp_path / "a.classes.tif").hardlink_to(raster)
        before = contents(tmp_path)
        assert "is read here" in said(run("predict", model, raster, "--out", tmp_path, "--overwrite", code=2))
        assert contents(tmp_path) == before

    def test_its_own_results_are_replaced_until_somebody_edits_them(self, model, mine, tmp_path):
        out = tmp_path / "maps"
        run("predict", model, mine / "scene.tif", "--out", out, code=0)
        assert all(is_ours(file) for file in out.iterdir() if file.name != RECORD)
        (out / "scene.json").unlink()  # as if it had been killed before the end
        run("predict", model, mine / "scene.tif", "--out", out, code=0)
        layer = geopandas.read_file(out / "scene.gpkg")
        layer["checked"] = "by me"
        layer.to_file(out / "scene.gpkg", layer="scene")
        (out / "scene.json").unlink()
        before = contents(out)
        assert "scene.gpkg: exists already" in said(run("predict", model, mine / "scene.tif", "--out", out, code=2))
        assert contents(out) == before


class TestMerge:
    def test_keeps_what_a_person_put_there_meanwhile(self, model, mine, tmp_path, monkeypatch):
        command = ("predict", model, mine / "scene.tif", "--out", tmp_path / "maps")
        with monkeypatch.context() as patch:
            patch.setattr("kdcore.inference.merging.merge_in_turn", interrupt)
            run(*command, code=130)
        drawn = tmp_path / "maps/scene.gpkg"
        drawn.write_bytes((mine / "scene.gpkg").read_bytes())
        before = contents(tmp_path / "maps")
        assert "scene.gpkg: exists already" in said(run(*command, code=2))
        assert before.items() <= contents(tmp_path / "maps").items()
        run(*command, "--overwrite", code=0)
        assert drawn.read_bytes() != before[drawn]

    def test_a_folder_of_that_name_is_no_prediction(self, model, mine):
        before = contents(mine)
        command = ("predict", model, mine / "other.tif", "--out", mine, "--incomplete")
        assert "holds no parts" in said(run(*command, code=2))
        assert contents(mine) == before


class TestExport:
    def test_keeps_a_file_of_that_name(self, model, tmp_path):
        (tmp_path / "net.onnx").write_bytes(b"the only copy of a teacher")
        assert "net.onnx: exists already" in said(run("export", model, tmp_path / "net.onnx", "--tile", 64, code=2))
        assert (tmp_path / "net.onnx").read_bytes() == b"the only copy of a teacher"
        run("export", model, tmp_path / "net.onnx", "--tile", 64, "--overwrite", code=0)
        assert is_ours(tmp_path / "net.onnx")
        run("export", model, tmp_path / "net.onnx", "--tile", 96, code=0)

    def test_keeps_an_eight_bit_file_of_that_name(self, model, tmp_path):
        data = write_collection(tmp_path / "c", classes=2)
        (tmp_path / "net-int8.onnx").write_bytes(b"mine")
        result = run("export", model, tmp_path / "net.onnx", "--int8", "--data", data, "--tile", 64, code=2)
        assert "net-int8.onnx: exists already" in said(result)
        assert (tmp_path / "net-int8.onnx").read_bytes() == b"mine"


class TestEvaluate:
    def test_keeps_rasters_in_the_folder_of_maps(self, model, tmp_path):
        data = write_collection(tmp_path / "c", classes=2)
        before = contents(tmp_path / "c")
        result = run("evaluate", model, data, "--maps", tmp_path / "c/images", code=2)
        assert "is read here" in said(result)
        assert contents(tmp_path / "c") == before
        run("evaluate", model, data, "--maps", tmp_path / "maps", code=0)
        run("evaluate", model, data, "--maps", tmp_path / "maps", code=0)
        (tmp_path / "maps/d.tif").write_bytes(b"mine")
        assert "d.tif: exists already" in said(run("evaluate", model, data, "--maps", tmp_path / "maps", code=2))
        assert (tmp_path / "maps/d.tif").read_bytes() == b"mine"
        assert sorted(file.name for file in (tmp_path / "maps").iterdir()) == ["d.tif", RECORD]


class TestReport:
    def test_keeps_an_edited_page(self, tiny_study, tmp_path):
        folder = tmp_path / "study"
        shutil.copytree(tiny_study, folder)
        run("report", folder, code=0)
        run("report", folder, code=0)  # its own page is replaced
        with (folder / "report.html").open("a") as page:
            page.write("<p>What I think of it</p>")
        assert is_edited(folder / "report.html")
        before = contents(folder)
        assert "report.html: exists already" in said(run("report", folder, code=2))
        assert contents(folder) == before
        run("report", folder, "--overwrite", code=0)
        assert "What I think of it" not in (folder / "report.html").read_text()


class TestInspect:
    def test_replaces_its_own_proposal_and_asks_for_an_edited_one(self, tmp_path, monkeypatch):
        write_collection(tmp_path / "c").unlink()
        target = tmp_path / "c.yaml"
        arguments = ("data", "inspect", tmp_path / "c", "--out", target)
        run(*arguments, code=0)
        run(*arguments, code=0)
        proposed = target.read_text()
        target.write_text(proposed.replace("class", "# by me\nclass", 1))
        edited = target.read_text()
        assert "c.yaml: exists already" in said(run(*arguments, code=2))
        assert target.read_text() == edited

        class Terminal:
            @staticmethod
            def isatty() -> bool:
                return True

        for answer, text in ((False, edited), (True, proposed)):
            monkeypatch.setattr("kdcore.cli.data.sys", type("sys", (), {"stdin": Terminal}))
            monkeypatch.setattr("kdcore.cli.data.typer.confirm", lambda question, answer=answer, **more: answer)
            run(*arguments, code=0 if answer else 2)
            assert target.read_text() == text


class TestFoldersOfStudies:
    @pytest.mark.parametrize("command", ["study", "sweep", "demo"])
    def test_a_folder_with_other_files_is_refused(self, mine, tmp_path, command):
        data = write_collection(tmp_path / "c")
        before = contents(mine)
        run(command, *([] if command == "demo" else [data]), "--out", mine, code=2)
        assert contents(mine) == before

    @pytest.mark.parametrize("command", ["study", "sweep"])
    def test_settings_of_a_person_are_not_taken_for_a_study(self, tmp_path, command):
        data = write_collection(tmp_path / "c")
        out = tmp_path / "out"
        save(study_settings(seeds=(0,)), out / "study.yaml")
        text = "# what I tried\n" + (out / "study.yaml").read_text()
        (out / f"{command}.yaml").write_text(text if command == "study" else "# what I tried\ntrials: 3\n")
        before = contents(out)
        more = ["--settings", out / "study.yaml"] if command == "study" else ["--trials", 3]
        run(command, data, "--out", out, *more, code=2)
        assert contents(out) == before

    def test_a_resumed_study_keeps_its_settings_file_as_it_is(self, tmp_path):
        settings = study_settings(seeds=(0,))
        study = StudyFolder.begin(tmp_path / "s", settings)
        study.write_status(Status())
        text = "# why these\n" + study.settings_file.read_text()
        study.settings_file.write_text(text)
        StudyFolder.begin(tmp_path / "s", settings)
        assert study.settings_file.read_text() == text


class TestTheWorkspace:
    """`kdcore runs` in a folder that a person keeps other things in."""

    def test_every_command_leaves_them(self, mine, tmp_path, monkeypatch):
        monkeypatch.setattr(StudyFolder, "start", lambda study: True)
        monkeypatch.setattr(StudyFolder, "resume", lambda study: None)
        (mine / "small").mkdir()
        (mine / "small/notes.txt").write_text("a folder that is called as the study will be")
        data = write_collection(tmp_path / "c")
        before = contents(mine) | contents(tmp_path / "c")
        started = run("runs", "start", data, "--workspace", mine, "--json", code=0)
        id = json.loads(started.stdout)["id"]
        for command in (["list"], ["show", id], ["stop", id], ["resume", id], ["delete", id, "--yes"]):
            run("runs", *command, "--workspace", mine)
        assert before.items() <= (contents(mine) | contents(tmp_path / "c")).items()


def test_profile_writes_nothing(model):
    before = contents(model.parent)
    run("profile", model, "--engine", "torch", "--tile", 64, code=0)
    assert contents(model.parent) == before


class TestWhatIsMadeOfMaps:
    """`kdcore area` and `kdcore data next` beside a layer that somebody drew."""

    @pytest.fixture
    def maps(self, model, mine, tmp_path):
        run("predict", model, mine / "scene.tif", "--out", tmp_path / "maps", "--polygons", "none", code=0)
        return tmp_path / "maps/scene.classes.tif"

    @pytest.mark.parametrize("command", [["area", "sample"], ["data", "next"]])
    def test_a_layer_of_that_name_is_replaced_on_request_only(self, mine, maps, command):
        inputs = [maps] * (1 if command[0] == "area" else 2)
        options = ["--points", 8, "--least", 2] if command[0] == "area" else ["--side", 32]
        before = contents(mine)
        sentence = said(run(*command, *inputs, mine / "scene.gpkg", *options, code=2))
        assert "scene.gpkg: exists already" in sentence
        assert contents(mine) == before
        run(*command, *inputs, mine / "scene.gpkg", *options, "--overwrite", code=0)
        changed = {file.name for file, data in before.items() if contents(mine).get(file) != data}
        assert changed == {"scene.gpkg"}

    def test_an_estimate_writes_nothing(self, mine, maps, tmp_path):
        run("area", "sample", maps, tmp_path / "s.gpkg", "--points", 8, "--least", 2, code=0)
        before = contents(tmp_path)
        assert "have no label" in said(run("area", "estimate", tmp_path / "s.gpkg", "--map", f"a={maps}", code=2))
        assert contents(tmp_path) == before


class TestTheShelf:
    def test_a_teacher_is_copied_and_a_folder_of_that_name_left_alone(self, model, mine, monkeypatch):
        monkeypatch.setenv("KDCORE_WORKSPACE", str(mine))
        before = contents(mine) | contents(model.parent)
        run("teachers", "add", model, "--name", "mine", code=0)
        run("teachers", "list", code=0)
        run("teachers", "check", "mine", mine)
        assert before.items() <= (contents(mine) | contents(model.parent)).items()


def test_an_export_to_mlflow_leaves_the_study_alone(tmp_path, mine, monkeypatch):
    monkeypatch.setenv("KDCORE_WORKSPACE", str(mine))
    before = contents(mine) | contents(EXAMPLE)
    run("runs", "export", "example", "--mlflow", f"file://{tmp_path / 'mlruns'}")  # without MLflow it is a sentence
    assert (contents(mine) | contents(EXAMPLE)) == before


def test_no_command_is_forgotten_here():
    root = typer.main.get_command(app)
    names = {
        f"{name} {below}".strip()
        for name, command in root.commands.items()
        for below in getattr(command, "commands", None) or [""]
    }
    assert names == {
        *("demo", "study", "report", "evaluate", "sweep", "predict", "export", "profile", "data inspect", "data next"),
        *(f"runs {name}" for name in ("list", "show", "start", "work", "stop", "resume", "export", "delete")),
        *(f"area {name}" for name in ("sample", "estimate")),
        *(f"teachers {name}" for name in ("add", "list", "check")),
    }, "a new command: add what it must not lose above"
