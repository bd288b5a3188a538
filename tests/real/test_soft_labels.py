"""Kept answers of a teacher on real imagery: what the network itself says about each of the eight views of a crop."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kdcore.data.batches import VIEWS, turn, turn_back
from kdcore.data.collection import Collection, Region
from kdcore.data.scene import Box
from kdcore.models.checkpoint import CheckpointInfo, save_network
from kdcore.models.networks import build_network, probabilities
from kdcore.settings import CollectionSettings, Hardware, load
from kdcore.teacher.soft_labels import open_soft_labels
from kdcore.teacher.teacher import Teacher
from kdcore.teacher.views import unpack
from tests.conftest import TINY

SETTINGS = Path(__file__).parents[2] / "benchmarks" / "collections"
FOLDERS = {"banepa": "banepa-buildings", "dubai": "dubai-landcover"}


@pytest.mark.parametrize("name", FOLDERS)
def test_kept_answers_are_those_of_the_live_teacher_in_every_view(real_data, tmp_path, name):
    collection = Collection(load(CollectionSettings, SETTINGS / f"{name}.yaml"), real_data / FOLDERS[name])
    scene = collection.regions("train")[0].scene
    frame = Box(64, 32, 256, 320)  # one window, so that the whole of it can be turned by hand
    seen = collection.reader.read(scene, frame)
    pixels = seen.image[:, seen.valid].astype(float)
    classes = collection.settings.class_names
    network = build_network(
        TINY,
        3,
        1 if len(classes) == 2 else len(classes),
        pixels.mean(axis=1).tolist(),
        pixels.std(axis=1).tolist(),
        seed=4,
    ).eval()
    torch.nn.init.normal_(network.inner.segmentation_head[0].weight, std=2.0)  # as decided as a trained network
    info = CheckpointInfo(
        network=TINY,
        bands=3,
        band_numbers=(1, 2, 3),
        classes=classes,
        metres_per_pixel=collection.metres_per_pixel,
        dtype="uint8",
    )
    checkpoint = tmp_path / "teacher.safetensors"
    save_network(checkpoint, network, info)
    region, crop = Region(scene, frame), Box(100, 90, 128, 128)
    image = np.where(seen.valid, seen.image, network.mean.numpy()[:, None, None]).astype(np.float32)
    rows, columns = slice(crop.row - 64, crop.row + 64), slice(crop.column - 32, crop.column + 96)
    with open_soft_labels(
        tmp_path / "answers", collection, [region], Teacher.load([checkpoint], classes, 3), [checkpoint], Hardware()
    ) as served:
        assert served.served == "cache"
        for view in VIEWS:
            with torch.no_grad():
                logits = network(torch.from_numpy(turn(image, *view).copy())[None])[0].numpy()
            live = turn(turn_back(logits, *view)[:, rows, columns], *view).copy()
            kept = unpack(torch.from_numpy(served.soft_labels.crop(region, crop, *view)))
            difference = probabilities(kept) - probabilities(torch.from_numpy(live)[None])
            assert float(difference.abs().max()) <= 1e-3
