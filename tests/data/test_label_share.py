"""A share of the labels: how much, which blocks, and that nothing outside of them is learnt from."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from kdcore.data.batches import Batches
from kdcore.data.collection import Collection, Region
from kdcore.data.masks import IGNORE
from kdcore.data.scene import Box
from kdcore.data.survey import choose, cut, survey
from kdcore.errors import DataError
from kdcore.settings import SplitSettings
from tests.conftest import write_raster
from tests.data.test_collection import one_scene


def boxes(height, width, crop):
    return [piece.box for piece in cut([Region(None, Box(10, 20, height, width))], crop)]


def test_blocks_are_two_crops_wide():
    assert boxes(128, 256, 32) == [
        Box(10 + 64 * row, 20 + 64 * column, 64, 64) for row in range(2) for column in range(4)
    ]


def test_what_is_left_over_is_shared():
    # 200 / 64 = 3.1: three blocks of 67, 66 and 67 px; 90 / 64 = 1.4: one of 90.
    assert boxes(90, 200, 32) == [Box(10, 20, 90, 67), Box(10, 87, 90, 66), Box(10, 153, 90, 67)]


@given(st.integers(1, 700), st.integers(1, 700), st.sampled_from([32, 64, 96]))
def test_blocks_cover_the_region_once_and_none_is_smaller_than_a_crop(height, width, crop):
    found = boxes(height, width, crop)
    assert sum(box.area for box in found) == height * width
    assert all(a.intersection(b) is None for a in found for b in found if a is not b)
    assert all(box.height >= min(crop, height) and box.width >= min(crop, width) for box in found)


def chosen(counts, labels):
    counts = np.array(counts)
    return choose(counts, counts.sum(axis=1).astype(float), labels, ["a", "b"], "here").tolist()


@pytest.mark.parametrize(("labels", "blocks"), [(0.1, 2), (0.25, 5), (0.5, 10), (0.62, 12), (0.63, 13)])
def test_as_many_equal_blocks_as_come_nearest(labels, blocks):
    assert len(chosen([[50, 50]] * 20, labels)) == blocks


def test_a_larger_share_holds_the_smaller_one():
    counts = np.random.default_rng(3).integers(1, 100, (30, 2))
    few, more = chosen(counts, 0.1), chosen(counts, 0.5)
    assert len(set(few) & set(more)) >= len(few) - 1


@pytest.mark.parametrize("place", range(20))
def test_a_rare_class_is_always_there(place):
    counts = [[100, 0]] * 20
    counts[place] = [90, 10]
    assert place in chosen(counts, 0.1)
    assert len(chosen(counts, 0.1)) == 2


def test_a_share_too_small_for_every_class_names_one_that_does():
    counts = [[100, 0]] * 5 + [[0, 100]] * 5
    with pytest.raises(DataError, match=r"0\.05 of the labels is too little .* Set labels to 0\.2 or more"):
        chosen(counts, 0.05)
    assert len(chosen(counts, 0.2)) == 2


@pytest.fixture
def halves(tmp_path):
    """384 x 512 px in 12 blocks of 128 to train on, in the upper left; crop 64; the rest validates and tests."""
    split = SplitSettings(by="block", grid=(8, 8), train=("r[1-6]c*",), validation=("r8c[1-4]",), test=("r8c[5-8]",))
    collection = one_scene(tmp_path, split, 512)
    labels = np.indices((512, 512)).sum(axis=0) // 8 % 2  # stripes: both classes everywhere
    write_raster(tmp_path / "big/masks/s.tif", labels.astype(np.uint8))
    return collection


def test_the_survey_keeps_the_share_and_the_statistics(halves):
    whole, part = survey(halves, 64), survey(halves, 64, labels=0.25)
    assert whole.labels == 1
    assert whole.unlabelled == ()
    # 6 rows of blocks of 64 px, and no buffer is cut off, because row 7 belongs to nobody: 384 x 512 px.
    assert whole.class_pixels["train"].sum() == 384 * 512
    assert len(part.regions) == 3
    assert {region.box[2:] for region in part.regions} == {(128, 128)}
    assert part.class_pixels["train"].sum() == 3 * 128 * 128 == part.cell_pixels.sum()
    assert part.labels == pytest.approx(0.25)
    np.testing.assert_allclose(part.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(part.std, whole.std, rtol=1e-12)
    assert part.unlabelled == whole.regions
    for index, row, column in part.cells:
        box = part.regions[index].box
        assert box.row <= row < box.row + box.height
        assert box.column <= column < box.column + box.width


def test_the_whole_share_is_the_plain_survey(halves):
    plain, whole = survey(halves, 64), survey(halves, 64, labels=1.0)
    assert (plain.regions, plain.unlabelled) == (whole.regions, whole.unlabelled)
    np.testing.assert_array_equal(plain.cells, whole.cells)
    np.testing.assert_array_equal(plain.mean, whole.mean)


def test_a_large_collection_of_which_only_places_were_read(tmp_path):
    split = SplitSettings(by="block", grid=(8, 8), train=("r[1-6]c*",), validation=("r8c[1-4]",), test=("r8c[5-8]",))
    collection = one_scene(tmp_path, split, 1024)
    write_raster(tmp_path / "big/masks/s.tif", (np.indices((1024, 1024)).sum(axis=0) // 8 % 2).astype(np.uint8))
    found = survey(collection, 64, most_blocks=12, labels=0.5)  # 48 blocks, of which 12 are read
    assert len(found.regions) == 24
    assert found.labels == pytest.approx(0.5, abs=0.01)


def test_no_label_outside_of_the_blocks_is_ever_seen(halves, tmp_path):
    """Labels and imagery outside of the blocks are changed after the survey: no batch may show it."""
    found = survey(halves, 64, labels=0.25)
    labels = np.zeros((512, 512), dtype=np.uint8)
    for region in found.regions:
        box = region.box
        labels[box.row : box.row + box.height, box.column : box.column + box.width] = 1
    image = np.zeros((3, 512, 512), dtype=np.uint8)
    image[:, labels == 1] = 200
    write_raster(tmp_path / "big/images/s.tif", image)
    write_raster(tmp_path / "big/masks/s.tif", labels)
    made = Batches(
        Collection(halves.settings, halves.root), found, seed=0, batch_size=8, crop=64, rare_classes=0.5, jitter=0
    )
    for step in range(30):
        batch = made.batch(step)
        assert (batch.labels == 1).all()
        assert (batch.image > 199).all()


def test_every_seed_has_the_same_labels(halves):
    """Two surveys of the same files, as two runs make them, choose alike; the run's seed is not asked."""
    again = Collection(halves.settings, halves.root)
    first, second = survey(halves, 64, labels=0.3), survey(again, 64, labels=0.3)
    assert [region.box for region in first.regions] == [region.box for region in second.regions]


@hypothesis_settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**31 - 1), st.integers(0, 10_000), st.sampled_from([32, 64]))
def test_unlabelled_crops_stay_out_of_the_ground_that_is_tested(marked, seed, step, crop):
    found = survey(marked, crop, labels=0.25)
    batch = Batches(marked, found, seed=seed, batch_size=2, crop=crop, jitter=0, unlabelled=4).batch(step)
    assert (batch.labels[2:] == IGNORE).all()
    assert (batch.image < 60).all()
    assert (batch.labels[:2][batch.valid[:2]] != IGNORE).all()


@pytest.fixture
def marked(halves, tmp_path):
    """`halves` with values above 200 on the ground that validates and tests, and on the buffer of 64 px before it."""
    image = np.random.default_rng(0).integers(40, 50, (3, 512, 512)).astype(np.uint8)
    image[:, 384:] = 250
    write_raster(tmp_path / "big/images/s.tif", image)
    return Collection(halves.settings, halves.root)


def test_unlabelled_crops_come_from_the_train_part_and_from_unlabelled_scenes(make_collection):
    collection = Collection.open(make_collection(size=256, unlabelled=True))
    assert [region.scene.id for region in survey(collection, 32).unlabelled] == ["u"]
    assert [region.scene.id for region in survey(collection, 32, labels=0.5).unlabelled] == ["a", "b", "u"]


def test_a_share_of_the_labels_leaves_unlabelled_imagery(make_collection):
    collection = Collection.open(make_collection(size=256))
    found = survey(collection, 32, labels=0.5)
    batch = Batches(collection, found, seed=0, batch_size=2, crop=32, unlabelled=2).batch(0)
    assert torch.equal(batch.labels[2:], torch.full((2, 32, 32), IGNORE, dtype=torch.uint8))
