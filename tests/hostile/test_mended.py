"""One test for each kind of input that once ended in a traceback, in a hang, or in silence."""

import json
import os
import shutil
import sqlite3
import struct
import zipfile
from contextlib import closing

import geopandas
import numpy as np
import pytest
from shapely.geometry import box
from starlette.applications import Starlette
from starlette.testclient import TestClient
from typer.testing import CliRunner

from kdcore.cli import app
from kdcore.cli.output import escape
from kdcore.data import vectors
from kdcore.data.inspect import inspect
from kdcore.data.rasters import open_raster
from kdcore.data.unread import explain_unread
from kdcore.errors import CheckpointError, DataError, KdcoreError, RunError, SettingsError, written_out
from kdcore.evaluation.scores import Scores
from kdcore.files import expanded
from kdcore.jobs.library import check_text
from kdcore.jobs.store import RunDirectory, RunStatus
from kdcore.jobs.study_folder import About, StudyFolder
from kdcore.models import memory
from kdcore.models.memory import check_room, numbers_a_pixel
from kdcore.models.onnx_graph import read_graph
from kdcore.reading import MOST_PARTS, ReadingError, parse_json, parse_yaml, read_start
from kdcore.server.routes import map_routes
from kdcore.settings import Budget, StudySettings
from kdcore.training.study import check_memory, run_study
from tests.conftest import TINY, write_raster
from tests.hostile.corpus.onnx import constant_outside
from tests.hostile.corpus.place import EXAMPLE, Place
from tests.hostile.corpus.texts import SOUND


def test_broken_pixels_are_told_by_file_and_place(tmp_path):
    path = write_raster(tmp_path / "a.tif", np.zeros((64, 64), np.uint8))
    path.write_bytes(path.read_bytes()[:-3000])
    with open_raster(path) as dataset, pytest.raises(DataError, match=r"a\.tif: broken .*Make the file anew"):
        dataset.read(1)
    with pytest.raises(DataError, match=r"a\.tif: broken at rows"):
        inspect(path)


class TestFilesThatAreNone:
    def test_the_start_of_a_pipe_is_nothing(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        assert read_start(tmp_path / "pipe", 10) == b""
        assert read_start(tmp_path / "gone", 10) == b""
        (tmp_path / "file").write_bytes(b"abc")
        assert read_start(tmp_path / "file", 2) == b"ab"

    def test_texts_beside_images_are_not_read_without_end(self, tmp_path, make_collection):
        root = make_collection("c").parent
        (root / "collection.yaml").unlink()
        os.mkfifo(root / "colours.json")
        (root / "train.txt").symlink_to("/dev/zero")
        assert len(inspect(root).images) == 4
        (root / "x.json").symlink_to("/dev/zero")
        assert explain_unread(root, ["x.json", "colours.json"], [], "images")[0] == []

    def test_a_run_whose_status_is_a_pipe_is_broken(self, tmp_path):
        os.mkfifo(tmp_path / "status.json")
        with pytest.raises(RunError, match=r"status\.json: cannot be read"):
            _ = RunDirectory(tmp_path).status
        os.mkfifo(tmp_path / "metrics.jsonl")
        assert RunDirectory(tmp_path).read_metrics() == []


class TestNames:
    def test_nothing_moves_the_cursor(self):
        assert written_out("a\x1b[31m\u202e\udcff\x07é ü\n\tb") == "a\\x1b[31m\\u202e\\udcff\\x07é ü\n\tb"
        assert str(KdcoreError("a\x1b[2Jb")) == "a\\x1b[2Jb"
        assert escape("[red]\x9b") == "\\[red]\\x9b"

    def test_a_name_that_is_not_utf8_is_told_and_the_others_are_read(self, make_collection):
        root = make_collection("c").parent
        (root / "collection.yaml").unlink()
        os.rename(os.fsencode(root / "images/a.tif"), os.fsencode(root) + b"/images/a\xff.tif")
        found = inspect(root)
        assert any("a\\udcff.tif: this name is not written in UTF-8" in problem for problem in found.problems)
        assert len(found.images) == 3

    def test_a_name_that_is_too_long_is_one_sentence(self):
        result = CliRunner().invoke(app, ["data", "inspect", "9" * 5_000])
        assert result.exit_code == 2
        assert "File name too long" in result.stderr

    def test_a_home_folder_that_is_not_there(self):
        with pytest.raises(KdcoreError, match="no home folder of this name"):
            expanded("~nobody-of-this-name/x")
        with pytest.raises(SettingsError, match="names a home folder that is not there"):
            check_text(SOUND + "root: ~nobody-of-this-name/x\n")


class TestVectors:
    def write(self, folder, **more):
        square = {"type": "Polygon", "coordinates": [[[0, 0], [0, 1], [1, 1], [0, 0]]]}
        features = [{"type": "Feature", "properties": {}, "geometry": square}]
        path = folder / "x.geojson"
        path.write_text(json.dumps({"type": "FeatureCollection", "features": features} | more))
        return path

    def test_a_file_has_a_size_limit(self, tmp_path, monkeypatch):
        monkeypatch.setattr(vectors, "MOST_GEOJSON_BYTES", 50)
        with pytest.raises(DataError, match=r"is larger than 5e-05 MB.*ogr2ogr new\.gpkg x\.geojson"):
            vectors.read_polygons(self.write(tmp_path))

    def test_lists_and_mappings_are_counted_before_they_are_made(self):
        with pytest.raises(ReadingError, match="holds 8,000,002 lists and mappings"):
            parse_json(b"[" + b"[]," * MOST_PARTS + b"[]]", "x")

    def test_an_unknown_crs_is_told_and_known_ones_are_read(self, tmp_path):
        def crs(name):
            return {"type": "name", "properties": {"name": name}}

        for name in ("urn:ogc:def:crs:EPSG::9999999", "urn:ogc:def:crs:EPSG:6.18:3:3857"):  # GDAL reads both as degrees
            with pytest.raises(DataError, match=rf"its `crs` names '{name}', which is no CRS"):
                vectors.read_polygons(self.write(tmp_path, crs=crs(name)))
        for name, code in (("urn:ogc:def:crs:EPSG::3857", 3857), ("EPSG:32633", 32633)):
            assert vectors.read_polygons(self.write(tmp_path, crs=crs(name))).crs.to_epsg() == code
        assert vectors.read_polygons(self.write(tmp_path, crs=crs("urn:ogc:def:crs:OGC:1.3:CRS84"))).crs.is_geographic

    def geopackage(self, folder, *changes):
        path = folder / "x.gpkg"
        geopandas.GeoDataFrame(geometry=[box(0, 0, 1, 1), box(2, 2, 3, 3)], crs=4326).to_file(path, layer="labels")
        with closing(sqlite3.connect(path)) as database:
            for (trigger,) in database.execute("SELECT name FROM sqlite_master WHERE type='trigger'").fetchall():
                database.execute(f'DROP TRIGGER "{trigger}"')
            for change in changes:
                database.execute(change)
            database.commit()
        return path

    def test_a_layer_that_is_a_view_is_not_run(self, tmp_path):
        view = "CREATE VIEW labels AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS fid, NULL AS geom FROM n"  # fmt: skip
        with pytest.raises(DataError, match="layer 'labels' is a view"):
            vectors.read_polygons(self.geopackage(tmp_path, "DROP TABLE labels", view))

    def test_a_journal_that_is_a_pipe(self, tmp_path):
        path = self.geopackage(tmp_path)
        os.mkfifo(tmp_path / "x.gpkg-journal")
        with pytest.raises(DataError, match=r"x\.gpkg-journal: is no regular file"):
            vectors.read_polygons(path)

    def test_geometry_that_cannot_be_read_does_not_vanish_silently(self, tmp_path):
        path = self.geopackage(tmp_path, "UPDATE labels SET geom = x'00' WHERE fid = 1")
        found = inspect(path)
        assert found.polygons[0].polygons == 1
        assert found.notes == ["x.gpkg: 1 of 2 features have no geometry that can be read, so they are left out."]
        path.unlink()
        path = self.geopackage(tmp_path, "UPDATE labels SET geom = x'00'")
        with pytest.raises(DataError, match="none of its 2 features has a geometry that can be read"):
            inspect(path)


class TestSettings:
    @pytest.mark.parametrize(
        "line", ["nodata: !!bool abc", "nodata: !!int ''", "nodata: !!timestamp abc", "nodata: !!float abc"]
    )
    def test_tags_of_wrong_values(self, line):
        with pytest.raises(ReadingError, match=r"x\.yaml: "):
            parse_yaml(line, "x.yaml")

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            (f"ignore: [{'9' * 200}]", "a whole number of 200 digits"),
            (f"classes: [{{name: a, value: {'9' * 200}}}, {{name: b, value: 1}}]", "a whole number of 200 digits"),
            ("split: {by: block, grid: [30000, 30000], train: [a], validation: [b], test: [c]}", "a grid of 30000 x 30000"),
            (f"scene: '{'(' * 50_000}'", "is no regular expression"),
            ("scene: '(?P<scene>a{4294967296})'", "is no regular expression"),
            (f"bands: {[1] * 5_000}", "names 5,000 bands"),
        ],
    )  # fmt: skip
    def test_values_have_an_end(self, line, words):
        key = line.partition(":")[0]
        kept = "".join(f"{part}\n" for part in SOUND.splitlines() if not part.startswith(f"{key}:"))
        with pytest.raises(SettingsError, match=words):
            check_text(kept + line)

    @pytest.mark.parametrize(
        "options",
        [["--bands", "9" * 6_000], ["--bands", "\u00b2"], ["--threshold", "nan"], ["--simplify", "-1"]],
    )  # fmt: skip
    def test_options_of_predict(self, tmp_path, options):
        model = EXAMPLE / "runs/distilled-s0/checkpoints/best.safetensors"
        raster = write_raster(tmp_path / "a.tif", np.zeros((3, 64, 64), np.uint8))
        result = CliRunner().invoke(app, ["predict", str(model), str(raster), "--out", str(tmp_path / "o"), *options])
        assert result.exit_code == 2, result.output
        assert "Error: " in result.stderr


class TestMemory:
    def test_numbers_a_pixel_are_those_of_the_convolutions(self):
        """Counted by hand on a real image of a size of its own."""
        from kdcore.models.networks import build_network

        network, made = build_network(TINY, 3, 1).eval(), []
        for module in network.modules():
            if type(module).__name__ == "Conv2d":
                module.register_forward_hook(lambda module, taken, given: made.append(given.numel()))
        import torch

        with torch.no_grad():
            network(torch.zeros(1, 3, 64, 64))
        every, largest = numbers_a_pixel(TINY, 3, 1)
        assert every == pytest.approx(sum(made) / 64**2)
        assert largest == pytest.approx(max(made) / 64**2)

    def test_what_does_not_fit_is_refused_with_its_size(self, monkeypatch):
        monkeypatch.setattr(memory, "free_memory", lambda: 10**9)
        check_room(TINY, 3, 1, 64**2, True, "budget")
        with pytest.raises(SettingsError, match=r"budget: .* would need at least \d+ GB .* and 1 GB are free"):
            check_room(TINY, 3, 1, 8192**2, True, "budget")

    def test_a_study_is_refused_before_anything_is_written(self, tmp_path, make_collection, monkeypatch):
        monkeypatch.setattr(memory, "free_memory", lambda: 10**9)
        settings = StudySettings(student=TINY, budget=Budget(crop=4096, batch_size=4))
        with pytest.raises(SettingsError, match="budget: batch_size 4, crop 4096"):
            run_study(make_collection("c"), settings, tmp_path / "study")
        assert not (tmp_path / "study").exists()

    def test_usual_studies_fit(self, make_collection):
        from kdcore.data.collection import Collection
        from kdcore.settings import STUDY_PRESETS

        check_memory(STUDY_PRESETS["demo"], Collection.open(make_collection("c")))


class TestOurOwnFiles:
    def test_a_constant_in_another_file_is_found(self, tmp_path):
        path = constant_outside(Place(tmp_path, tmp_path, tmp_path, ""))
        with pytest.raises(CheckpointError, match="which is not a file beside it"):
            read_graph(path)

    def test_weights_behind_a_link_that_leads_out_are_not_read(self, tmp_path):
        from tests.hostile.corpus.onnx import external, network

        folder = tmp_path / "sent"
        folder.mkdir()
        (tmp_path / "secret").write_bytes(b"x" * 100)
        (folder / "w.bin").symlink_to(tmp_path / "secret")
        path = network(change=external("w.bin"))(Place(folder, folder, folder, ""))
        with pytest.raises(CheckpointError, match="a link that leads out of the folder"):
            read_graph(path)

    def test_scores_that_unpack_without_end(self, tmp_path):
        path = tmp_path / "scores.npz"
        shutil.copy(EXAMPLE / "runs/alone-s0/scores.npz", path)
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            member = archive.open("more.npy", "w", force_zip64=True)
            for _ in range(110):
                member.write(bytes(10_000_000))
            member.close()
        with pytest.raises(DataError, match=r"it unpacks to 1\.1 GB"):
            Scores.load(path)
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(DataError, match="it is no plain file"):
            Scores.load(path)

    @pytest.mark.parametrize("moment", ["1e300", "1e999", "NaN", "-1e300"])
    def test_a_moment_that_no_calendar_has(self, tmp_path, moment):
        study = StudyFolder.begin(tmp_path / "s", StudySettings(), About(title="t", demo=0))
        study.about_file.write_text(f'{{"title": "t", "demo": 0, "created": {moment}}}')
        assert "created" in study.problem
        (tmp_path / "status.json").write_text(f'{{"seconds": {moment}}}')
        with pytest.raises(RunError):
            _ = RunDirectory(tmp_path).status
        assert RunStatus(seconds=5.0).seconds == 5

    @pytest.mark.parametrize("state", ['{"a": 1}', "[1]", "7", "null"])
    def test_a_state_that_is_none(self, tmp_path, state):
        study = StudyFolder.begin(tmp_path / "s", StudySettings(), About(title="t", demo=0))
        (study.path / "job.json").write_text(f'{{"state": {state}}}')
        assert study.state == "broken"
        assert "job.json: cannot be used (state: " in study.problem

    @pytest.mark.parametrize("text", ["{}", '{"arms": 7}', '{"arms": {}, "data": {}, "comparison": []}'])
    def test_a_report_of_another_shape(self, tmp_path, text):
        (tmp_path / "report.json").write_text(text)
        with pytest.raises(RunError, match="lacks the part"):
            StudyFolder(tmp_path).report()
        with pytest.raises(RunError, match="is no report of a run"):
            RunDirectory(tmp_path).read_report()

    def test_checkpoints_of_bands_and_pixels_that_cannot_be(self, tmp_path):
        from kdcore.models.checkpoint import load_network
        from tests.hostile.corpus.networks import settings

        sound = (EXAMPLE / "runs/distilled-s0/checkpoints/best.safetensors").read_bytes()
        for change in ({"metres_per_pixel": -3.0}, {"metres_per_pixel": 1e-9}, {"band_numbers": [-1, -2, -3]}):
            (tmp_path / "m.safetensors").write_bytes(settings(**change)(None, sound))
            with pytest.raises(CheckpointError, match="its settings are not those of a kdcore checkpoint"):
                load_network(tmp_path / "m.safetensors")


class TestAddresses:
    @pytest.fixture
    def client(self, tmp_path, monkeypatch):
        monkeypatch.setenv("KDCORE_WORKSPACE", str(tmp_path))
        shutil.copytree(EXAMPLE, tmp_path / "town")
        return TestClient(Starlette(routes=map_routes()))

    @pytest.mark.parametrize("place", ["{}/0/0", "0/{}/0", "0/0/{}"])
    @pytest.mark.parametrize("number", ["9" * 5_000, "-1", "\u00b2", "1e3", ""])
    def test_numbers_that_are_none(self, client, place, number):
        answer = client.get(f"/tiles/town/outskirts/imagery/{place.format(number)}.png")
        assert answer.status_code in (400, 404)

    @pytest.mark.parametrize("contents", [b"hello", b"II*\0" + struct.pack("<I", 10**9), None])
    def test_a_map_that_is_broken_is_one_sentence(self, client, tmp_path, contents):
        path = tmp_path / "town/layers/outskirts/imagery.tif"
        path.unlink()
        if contents is None:
            os.mkfifo(path)
        else:
            path.write_bytes(contents)
        answer = client.get("/tiles/town/outskirts/imagery/0/0/0.png")
        assert answer.status_code == 404
        assert "outskirts/imagery.tif: is broken" in answer.json()["error"]
