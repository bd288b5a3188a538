"""The two real collections: their traps, and whether labels lie on the imagery."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from kdcore.data.collection import Collection
from kdcore.data.facts import mask_facts
from kdcore.data.inspect import inspect_folder
from kdcore.data.scene import Box
from kdcore.data.survey import survey
from kdcore.settings import CollectionSettings, load

SETTINGS = Path(__file__).parents[2] / "benchmarks" / "collections"
COLOURS = ("#8429F6", "#E2A929", "#3C1098", "#FEDD3A", "#6EC1E4")


@pytest.fixture(scope="module")
def banepa(real_data: Path) -> Collection:
    return Collection(load(CollectionSettings, SETTINGS / "banepa.yaml"), real_data / "banepa-buildings")


@pytest.fixture(scope="module")
def dubai(real_data: Path) -> Collection:
    return Collection(load(CollectionSettings, SETTINGS / "dubai.yaml"), real_data / "dubai-landcover")


def test_banepa_has_the_share_of_buildings_that_its_description_says(banepa):
    scene = banepa.scenes[0]
    labels = banepa.reader.read(scene, scene.box).labels
    assert 100 * (labels == 1).mean() == pytest.approx(45.3, abs=0.5)


def test_banepas_outlines_lie_on_the_roofs(banepa):
    """Edges of the imagery are stronger under the outlines than under the same outlines moved by some metres."""
    crop = banepa.reader.read(banepa.scenes[0], Box(300, 300, 800, 800))
    grey = ndimage.gaussian_filter(crop.image.astype(float).mean(axis=0), 1.0)
    strength = ndimage.gaussian_gradient_magnitude(grey, 1.0)
    mask = crop.labels == 1
    outline = mask ^ ndimage.binary_erosion(mask)

    def under(rows: int, columns: int) -> float:
        return float(strength[np.roll(outline, (rows, columns), axis=(0, 1))].mean())

    moved = [under(rows, columns) for rows, columns in ((13, 0), (-13, 0), (0, 13), (0, -13))]  # 4 m
    assert under(0, 0) > 1.05 * max(moved)


def test_banepa_keeps_a_crops_distance_between_train_and_test(banepa):
    crop = 128
    for train in banepa.regions("train", crop):
        for split in ("validation", "test"):
            assert all(train.box.grown(crop).intersection(other.box) is None for other in banepa.regions(split, crop))


def test_dubai_has_six_scenes_of_nine_parts(dubai):
    groups = [scene.group for scene in dubai.scenes]
    assert sorted(set(groups)) == [f"tile{number}" for number in range(1, 7)]
    assert all(groups.count(group) == 9 for group in groups)


@pytest.mark.parametrize("part", ["tile1_part001", "tile2_part001"])  # an RGB mask and a palette mask
def test_rgb_and_palette_masks_give_the_classes_of_their_colours(dubai, real_data, part):
    picture = np.array(Image.open(real_data / f"dubai-landcover/masks/{part}.png").convert("RGB"))
    shares = [np.all(picture == tuple(bytes.fromhex(colour[1:])), axis=-1).mean() for colour in COLOURS]
    scene = next(scene for scene in dubai.scenes if scene.id == part)
    labels = dubai.reader.read(scene, scene.box).labels
    found = [(labels == index).mean() for index in range(len(COLOURS))]
    np.testing.assert_allclose(found, shares, atol=0.01)  # half resolution, nearest pixel


def test_both_kinds_of_masks_are_there(real_data):
    kinds = [mask_facts(real_data / f"dubai-landcover/masks/tile{number}_part001.png").kind for number in range(1, 7)]
    assert kinds == ["rgb", "palette", "rgb", "palette", "rgb", "rgb"]


@pytest.mark.slow  # reads all 54 images and masks, as a user's first look does
def test_a_first_look_at_dubai_proposes_nearly_the_settings_that_the_study_uses(real_data):
    found = inspect_folder(real_data / "dubai-landcover", 128, lambda name: None)
    assert found.proposal is not None
    assert {entry.colour for entry in found.proposal.classes} == set(COLOURS)
    assert set(found.proposal.ignore) == {"#9B9B9B", "#000000"}
    assert found.scenes == {f"tile{number}": 9 for number in range(1, 7)}
    assert found.proposal.split.by == "scene"
    assert any("lists colours that no mask holds" in note for note in found.notes)


def test_every_class_of_dubai_is_in_every_part_of_the_split(dubai):
    found = survey(dubai, 128)
    assert all((pixels > 0).all() for pixels in found.class_pixels.values())


def test_the_amazons_images_open_as_they_are_published(real_data):
    """t_ was the publisher's training part, v_ its validation part: a third of that chooses, the rest tests."""
    found = inspect_folder(real_data / "amazon-forest", 128, lambda name: None)
    assert found.problems == []
    assert found.proposal.split.train == ("t_*",)
    assert (len(found.proposal.split.validation), len(found.proposal.split.test)) == (5, 10)
    assert all(name.startswith("v_") for name in found.proposal.split.validation + found.proposal.split.test)
    assert sum(found.class_pixels["train"].values()) <= 29 * 512 * 512
    shares = {split: pixels["class-2"] / sum(pixels.values()) for split, pixels in found.class_pixels.items()}
    assert abs(shares["validation"] - shares["test"]) < 0.1
