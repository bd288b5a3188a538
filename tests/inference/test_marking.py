"""An uploaded file through a study's networks, from the file to what the map shows."""

import contextlib
import io
import json
import os
import subprocess
import sys

import geopandas
import numpy as np
import pytest
import rasterio
import torch

from kdcore.inference.uploads import Upload, point_at, receive
from kdcore.jobs import worker
from kdcore.jobs.job import NICE
from kdcore.jobs.progress import Stage
from kdcore.jobs.store import RunDirectory
from kdcore.jobs.worker import Session
from kdcore.jobs.workspace import Workspace
from kdcore.models.checkpoint import load_network
from tests.conftest import write_raster
from tests.jobs.studies import processes_of, wait_for
from tests.map_study import METRES, RUNS, give_weights, make_map_study


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A study with small networks."""
    folder = tmp_path_factory.mktemp("marking") / "studies"
    give_weights(make_map_study(folder, "town"))
    return Workspace(folder)


def work(upload: Upload) -> int:
    """What its process does, in this one."""
    return worker.main([upload.KIND, str(upload.path)])


@pytest.fixture
def give(workspace, tmp_path):
    """Upload an array and mark it in this process."""

    def upload(array, name="mine.tif", before=lambda upload: None, **options) -> Upload:
        path = write_raster(tmp_path / "source.tif", array, **({"resolution": METRES} | options))
        received = receive(workspace, "town", name, io.BytesIO(path.read_bytes()))
        before(received)
        priority = os.nice(0)
        work(received)
        assert os.nice(0) == priority  # only a process of its own goes last
        return received

    return upload


def noise(bands=3, size=200, dtype="uint8") -> np.ndarray:
    return np.random.default_rng(1).integers(0, 255, (bands, size, size)).astype(dtype)


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read()


def test_a_file_is_marked_by_every_network(give, workspace):
    values = noise()
    upload = give(values)
    assert (upload.status.state, upload.status.message) == ("finished", "")
    assert sorted(upload.probabilities()) == sorted(RUNS)
    for run in RUNS:
        network, _ = load_network(RunDirectory(workspace.path / "town/runs" / run).best)
        with torch.no_grad():
            expected = network.eval()(torch.from_numpy(values[None].astype(np.float32))).sigmoid()[0, 0].numpy()
        assert np.abs(read(upload.probabilities()[run])[0] / 254 - expected).max() < 0.003
    (scene,) = upload.layers.scenes
    assert (scene.id, scene.name, scene.part, scene.georeferenced) == (upload.id, "mine.tif", (0, 0, 200, 200), True)
    assert upload.layers.classes == ("land", "building")
    assert read(upload.imagery).shape == (3, 200, 200)
    assert not (upload.path / "truth.tif").exists()


def test_bands_that_no_network_sees_can_be_looked_at(give):
    (scene,) = give(noise(bands=5, size=64)).layers.scenes
    assert ([band.number for band in scene.bands], scene.shown) == ([1, 2, 3, 4, 5], (1, 2, 3))


def test_its_maps_and_polygons_can_be_taken_along(give):
    upload = give(noise())
    files = upload.results("distilled-s0")
    assert list(files) == ["Probabilities (GeoTIFF)", "Classes (GeoTIFF)", "Polygons (GeoPackage)"]
    levels, classes = read(files["Probabilities (GeoTIFF)"]), read(files["Classes (GeoTIFF)"])
    assert ((levels >= 127) == classes).mean() > 0.99  # up to rounding at one half
    buildings = geopandas.read_file(files["Polygons (GeoPackage)"])
    assert buildings.area.sum() == pytest.approx(classes.sum() * METRES**2)


def test_a_raster_on_this_machine_of_any_size_stays_where_it_is(workspace, tmp_path, monkeypatch):
    monkeypatch.setattr("kdcore.inference.marking.MOST_PIXELS", 100)
    path = write_raster(tmp_path / "big.tif", noise(), resolution=METRES)
    upload = point_at(workspace, "town", path)
    assert work(upload) == 0, upload.status.message
    assert (upload.status.state, upload.status.name) == ("finished", "big.tif")
    assert sorted(upload.probabilities()) == sorted(RUNS)
    assert not upload.kept.exists()
    upload.delete()
    assert path.exists()


def test_what_was_stopped_goes_on_where_it_was(workspace, tmp_path, monkeypatch):
    path = write_raster(tmp_path / "big.tif", noise(), resolution=METRES)
    upload = point_at(workspace, "town", path)

    def stop_at_the_second(self, progress):
        if progress.run == "distilled-s0":
            upload.stop()
        original(self, progress)

    original = Session.__call__
    monkeypatch.setattr(Session, "__call__", stop_at_the_second)
    work(upload)
    assert upload.status.state == "stopped"
    before = {run: file.stat().st_mtime_ns for run, file in upload.probabilities().items()}
    assert before
    assert "distilled-s0" not in before
    monkeypatch.setattr(Session, "__call__", original)
    monkeypatch.setattr(Upload, "start", work)
    upload.resume()
    assert upload.status.state == "finished"
    after = {run: file.stat().st_mtime_ns for run, file in upload.probabilities().items()}
    assert before.items() <= after.items()
    assert sorted(after) == sorted(RUNS)


def test_another_resolution_is_brought_to_the_networks_own(give):
    upload = give(noise(size=400), resolution=METRES / 2)
    assert read(upload.probabilities()["teacher-s0"]).shape == (1, 200, 200)
    assert upload.layers.scenes[0].metres_per_pixel == pytest.approx(METRES, rel=0.01)
    upload = give(noise(size=60), resolution=METRES * 3)
    assert "3.0 times as large" in upload.status.message


def test_a_file_without_georeference_is_marked_as_it_is_and_says_so(give):
    upload = give(noise(), crs=None)
    assert upload.status.state == "finished"
    assert "does not say how large its pixels are" in upload.status.message
    assert not upload.layers.scenes[0].georeferenced


def test_a_file_of_another_kind_is_refused_in_a_sentence(give):
    upload = give(noise(bands=1), name="grey.tif")
    assert upload.status.state == "failed"
    assert upload.status.message.startswith("grey.tif: has 1 bands, but the networks were trained on bands 1, 2, 3.")
    upload = give(noise(dtype="uint16"), name="deep.tif")
    assert "deep.tif: has values of type uint16, but the networks were trained on uint8" in upload.status.message
    assert not (upload.path / "layers.json").exists()


def test_a_file_that_is_too_large_at_the_networks_resolution_is_refused(give, monkeypatch):
    monkeypatch.setattr("kdcore.inference.marking.MOST_PIXELS", 1_000_000)
    upload = give(noise(size=300), resolution=10 * METRES)
    assert "has 9 million pixels at the networks' resolution of 0.5 m" in upload.status.message


def test_a_person_can_stop_it(give):
    upload = give(noise(), before=Upload.stop)
    assert upload.status.state == "stopped"


def test_without_weights_it_says_so(workspace, tmp_path):
    study = make_map_study(tmp_path / "studies", "bare")
    other = Workspace(study.parent)
    path = write_raster(tmp_path / "a.tif", noise())
    upload = receive(other, "bare", "a.tif", io.BytesIO(path.read_bytes()))
    assert work(upload) == 2
    assert "weights of the study bare are not on this machine" in upload.status.message


def test_the_process_lives_on_its_own_and_is_seen_before_torch_is_there(workspace, tmp_path):
    path = write_raster(tmp_path / "a.tif", noise())
    upload = receive(workspace, "town", "a.tif", io.BytesIO(path.read_bytes()))
    upload.start()
    seen, priorities = set(), set()

    def over() -> bool:
        status = upload.status
        seen.add(status.stage)
        for process in processes_of(upload):
            with contextlib.suppress(ProcessLookupError):
                priorities.add(os.getpriority(os.PRIO_PROCESS, process))
        return status.state not in ("queued", "running")

    wait_for(over)
    assert upload.status.state == "finished", (upload.path / "log.txt").read_text()
    assert Stage.STARTING in seen
    assert max(priorities) == min(19, os.nice(0) + NICE)  # behind trainings and pages
    code = "import kdcore.jobs.worker, kdcore.inference.uploads, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert json.loads((upload.path / "upload.json").read_text())["state"] == "finished"
