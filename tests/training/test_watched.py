"""The crop that people watch: which it is, that its picture is what the network says, and that nothing else changes."""

import numpy as np
import torch
from PIL import Image

from kdcore.data.collection import Collection
from kdcore.data.scene import Box
from kdcore.errors import KdcoreError
from kdcore.jobs.store import RunDirectory
from kdcore.models.checkpoint import load_network, load_tensors
from kdcore.settings import SplitSettings, class_colours
from kdcore.training import watched
from kdcore.training.run import execute
from kdcore.training.state import below
from kdcore.training.watched import choose_crop
from tests.conftest import QUICK, run_settings, write_collection, write_raster
from tests.training.studies import contents, same_weights


def test_the_picture_is_what_the_network_says_of_the_crop(finished, collection):
    """The only validation scene is 128 px wide and tall; the last validation is that of the last step."""
    opened = Collection.open(collection)
    colours = [tuple(bytes.fromhex(text[1:])) for text in class_colours([c.colour for c in opened.settings.classes])]
    network, _ = load_network(finished.best)
    network.load_state_dict(below("network", load_tensors(finished.state)[0]))  # those of the last step
    scene = next(scene for scene in opened.scenes if scene.id == "c")
    with Image.open(finished.watched / "prediction.png") as picture:
        assert picture.info["step"] == str(QUICK.steps)
        shown = np.asarray(picture)
    with Image.open(finished.watched / "truth.png") as picture:
        truth = opened.reader.read(scene, scene.box).labels
        np.testing.assert_array_equal(np.asarray(picture), np.array(colours)[truth])
    with Image.open(finished.watched / "photo.jpg") as picture:
        assert picture.size == (128, 128)
    image = torch.from_numpy(opened.reader.read(scene, scene.box).image[None].astype(np.float32))
    with torch.no_grad():
        said = network.eval()(image)[0].argmax(dim=0).numpy()
    np.testing.assert_array_equal(shown, np.array(colours)[said])


def test_a_training_that_nobody_watches_is_the_same_to_the_bit(finished, collection, tmp_path, monkeypatch):
    monkeypatch.setattr(watched.Watched, "__call__", lambda *given: None)
    run = RunDirectory.create(tmp_path / "alone-s0", run_settings(collection))
    execute(run)
    assert not run.watched.exists()
    assert same_weights(run.best, finished.best)
    assert same_weights(run.state, finished.state)


def test_nothing_is_left_over_and_a_search_draws_nothing(finished, collection, tmp_path):
    assert sorted(name for name in contents(finished.path) if "watched" in name) == [
        "watched/photo.jpg",
        "watched/prediction.png",
        "watched/truth.png",
    ]
    run = RunDirectory.create(tmp_path / "trial", run_settings(collection))
    execute(run, test=False)
    assert not run.watched.exists()


def test_a_picture_that_cannot_be_written_ends_no_training(collection, tmp_path, monkeypatch):
    def full(path):
        raise KdcoreError(f"{path}: the disk is full.")

    monkeypatch.setattr(watched, "replacing", full)
    run = RunDirectory.create(tmp_path / "alone-s0", run_settings(collection))
    execute(run)
    assert run.status.state == "finished"


def test_the_most_varied_crop_of_the_validation_part_is_watched(tmp_path):
    """Scene c is twice as wide as a crop; its right half has all classes, its left half only one."""
    root = tmp_path / "collection"
    path = write_collection(root, split=SplitSettings(train=("a", "b"), validation=("c",), test=("d",)))
    labels = np.zeros((192, 384), dtype=np.uint8)
    labels[:, 192:] = np.arange(192)[None] // 64
    write_raster(root / "images/c.tif", np.zeros((3, 192, 384), dtype=np.uint8), west=502_000)
    write_raster(root / "masks/c.tif", labels, west=502_000)
    opened = Collection.open(path)
    scene, box = choose_crop(opened, 0)
    assert (scene.id, box) == ("c", Box(0, 192, 192, 192))
