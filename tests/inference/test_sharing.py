"""Several processes make one prediction: each part once, whoever makes it, and the maps are put together once."""

import json
from contextlib import ExitStack, contextmanager

import pytest
import rasterio

from kdcore.errors import RunError
from kdcore.inference.merging import merge
from kdcore.inference.parts import something_to_do
from kdcore.inference.prediction import Prediction
from kdcore.jobs.locks import TakenError, holding
from tests.conftest import write_raster
from tests.inference.engines import Known, first_band, predict, stopping_after
from tests.inference.test_prediction import names, noise


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr("kdcore.inference.parts.PART_PIXELS", 1)  # a part for each row of tiles


@contextmanager
def made_elsewhere(raster, prediction, *parts):
    """Hold the locks of parts as another process that makes them does."""
    with pytest.raises(KeyboardInterrupt):
        predict(raster, prediction.folder, stopping_after(0), tile=128)
    with ExitStack() as locks:
        for index in parts:
            locks.enter_context(holding(prediction.part_lock(index), "taken"))
        yield


def test_parts_that_another_process_makes_are_left_to_it(tmp_path):
    values = noise(1, 500, 200)
    raster = write_raster(tmp_path / "in.tif", values)
    prediction = Prediction(tmp_path / "out", "in")
    told = []
    with made_elsewhere(raster, prediction, 1, 3):
        predict(raster, tmp_path / "out", Known(first_band), tile=128, progress=lambda *now: told.append(now))
        assert prediction.finished_parts() == [0, 2, 4, 5, 6]
        assert told[-1] == (
            (500 - 2 * 64) * 200,
            500 * 200,
        )  # two rows of tiles within the raster answer for 64 rows each
        assert not something_to_do(prediction, prediction.plan)
        with pytest.raises(RunError, match=r"2 of 7 parts are missing, the first of rows 96 to 159"):
            merge(prediction)
    assert something_to_do(prediction, prediction.plan)  # the other process was killed
    engine = Known(first_band)
    predict(raster, tmp_path / "out", engine, tile=128)
    assert len(engine.shapes) == 2 * 3
    with rasterio.open(prediction.map("probabilities")) as dataset:
        assert (dataset.read() == values).all()
    assert names(tmp_path / "out") == ["in.classes.tif", "in.json", "in.probabilities.tif"]


def test_one_process_puts_it_together_and_the_others_find_it(tmp_path):
    raster = write_raster(tmp_path / "in.tif", noise(1, 300, 200))
    prediction = Prediction(tmp_path / "out", "in")
    with made_elsewhere(raster, prediction):
        pass
    with prediction.turn():
        with pytest.raises(TakenError, match="another process is putting it together"):
            predict(raster, tmp_path / "out", Known(first_band), tile=128)
        for part in range(len(prediction.plan.parts)):
            prediction.part_manifest(part).touch()
        assert not something_to_do(prediction, prediction.plan)
    assert something_to_do(prediction, prediction.plan)
    for part in range(len(prediction.plan.parts)):
        prediction.part_manifest(part).unlink()
    predict(raster, tmp_path / "out", Known(first_band), tile=128)
    made = prediction.manifest.read_bytes()
    assert merge(prediction) == json.loads(made)  # whoever comes a moment too late
    assert prediction.manifest.read_bytes() == made
    assert names(tmp_path / "out") == ["in.classes.tif", "in.json", "in.probabilities.tif"]


def test_a_process_that_still_looks_for_parts_leaves_no_folder_behind(tmp_path):
    """Another one may put all together between its looks."""
    raster = write_raster(tmp_path / "in.tif", noise(1, 300, 200))
    prediction = Prediction(tmp_path / "out", "in")

    def meanwhile(done, total):
        if not prediction.manifest.exists() and not done:
            predict(raster, tmp_path / "out", Known(first_band), tile=128)

    engine = Known(first_band)
    predict(raster, tmp_path / "out", engine, tile=128, progress=meanwhile)
    assert not engine.shapes
    assert names(tmp_path / "out") == ["in.classes.tif", "in.json", "in.probabilities.tif"]


def test_parts_of_another_prediction_that_are_being_made_are_not_removed(tmp_path):
    raster = write_raster(tmp_path / "in.tif", noise(1, 500, 200))
    prediction = Prediction(tmp_path / "out", "in")
    with made_elsewhere(raster, prediction, 2):
        predict(raster, tmp_path / "out", Known(first_band), tile=128)
        with pytest.raises(RunError, match="another process is making part 2 of another prediction"):
            predict(raster, tmp_path / "out", Known(first_band), tile=160, overwrite=True)
    predict(raster, tmp_path / "out", Known(first_band), tile=160, overwrite=True)
    assert prediction.manifest.exists()
