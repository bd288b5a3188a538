"""Crops: a pure function of (collection, seed, step) that never sees another part of the split."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcore.data.batches import Batches, read_ahead, turn
from kdcore.data.collection import Collection
from kdcore.data.survey import survey
from kdcore.errors import DataError
from kdcore.settings import SplitSettings
from tests.conftest import paint, write_raster
from tests.data.test_collection import one_scene


def batches(collection, crop=64, seed=0, batch_size=4, **options):
    return Batches(collection, survey(collection, crop), seed=seed, batch_size=batch_size, crop=crop, **options)


def same(first, second):
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in ("image", "labels", "valid"))


def test_a_step_is_always_the_same(make_collection):
    path = make_collection()
    first, second = batches(Collection.open(path)), batches(Collection.open(path))
    forward = [first.batch(step) for step in range(6)]
    backward = [second.batch(step) for step in reversed(range(6))][::-1]
    assert all(same(a, b) for a, b in zip(forward, backward, strict=True))
    assert not same(forward[0], forward[1])
    assert not same(forward[0], batches(Collection.open(path), seed=1).batch(0))


def test_reading_ahead_keeps_the_order(make_collection):
    made = batches(Collection.open(make_collection()))
    ahead = list(read_ahead(made.batch, range(3, 12), readers=3))
    assert all(same(batch, made.batch(step)) for step, batch in zip(range(3, 12), ahead, strict=True))


def test_reading_ahead_passes_errors_on():
    def make(step):
        if step == 2:
            raise DataError("broken")
        return step

    with pytest.raises(DataError, match="broken"):
        list(read_ahead(make, range(5), readers=2))


def test_processes_share_a_batch(make_collection):
    collection = Collection.open(make_collection())
    whole = batches(collection).batch(5)
    parts = [batches(collection, rank=rank, ranks=2).batch(5) for rank in range(2)]
    assert torch.equal(whole.image, torch.cat([part.image for part in parts]))
    with pytest.raises(DataError, match="cannot be shared by 3"):
        batches(collection, rank=0, ranks=3)


def test_unlabelled_crops_come_on_top_and_leave_the_others_alone(make_collection):
    collection = Collection.open(make_collection(unlabelled=True))
    plain, more = batches(collection).batch(2), batches(collection, unlabelled=3).batch(2)
    assert torch.equal(plain.image, more.image[:4])
    assert (more.labels[4:] == 255).all()
    assert more.valid[4:].all()
    assert more.complete


def test_unlabelled_crops_need_unlabelled_imagery(make_collection):
    with pytest.raises(DataError, match="holds no images"):
        batches(Collection.open(make_collection()), unlabelled=1)


def test_training_never_sees_what_is_tested(tmp_path):
    """Pixels of the test and validation blocks, and of the buffer, carry their own value: it must never turn up."""
    split = SplitSettings(by="block", grid=(4, 4), train=("r*c[12]",), validation=("r1c[34]",), test=("r[234]c[34]",))
    collection = one_scene(tmp_path, split, 512)
    crop = 64
    with_marks = np.full((3, 512, 512), 250, dtype=np.uint8)
    with_marks[:, :, : 256 - crop] = 50
    with_marks[0, :, : 256 - crop] += np.arange(512, dtype=np.uint8)[:, None] % 7  # a band of one value is refused
    with_marks[1:, ::2, : 256 - crop] += 3
    write_raster(tmp_path / "big/images/s.tif", with_marks)
    collection = Collection(collection.settings, collection.root)
    made = batches(collection, crop=crop, jitter=0.0)
    values = torch.stack([made.batch(step).image for step in range(100)])
    assert values.max() < 60


@pytest.mark.parametrize("crop", [64, 128, 160])
def test_scenes_smaller_than_a_crop_are_padded_with_nothing(make_collection, crop):
    collection = Collection.open(make_collection(size=96))
    batch = batches(collection, crop=crop).batch(0)
    assert batch.image.shape[-2:] == (crop, crop)
    seen = batch.valid.sum(dim=(1, 2))
    assert (seen == min(crop, 96) ** 2).all()
    assert (batch.labels[~batch.valid] == 255).all()


def test_rare_classes_are_seen_more_often(tmp_path, make_collection):
    path = make_collection(size=256)
    labels = np.zeros((256, 256), dtype=np.uint8)
    labels[200:204, 200:204] = 1
    labels[100:102, 50:52] = 2
    for name in "ab":
        write_raster(path.parent / f"masks/{name}.tif", labels, west=500_000 + 1000 * "ab".index(name))
    collection = Collection.open(path)

    def share(rare):
        made = batches(collection, crop=32, rare_classes=rare, batch_size=8)
        return np.mean([(made.batch(step).labels == 2).any(dim=(1, 2)).float().mean() for step in range(80)])

    # By area a crop meets the class in (32 / 225)^2 = 2 %; aimed at its cell of 64 px in (32 / 64)^2 / 3 = 8 %.
    assert share(1.0) > 2 * share(0.0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 3), st.booleans())
def test_image_and_labels_turn_together(turns, flip):
    array = np.arange(2 * 5 * 5).reshape(2, 5, 5)
    turned = turn(array, turns, flip)
    np.testing.assert_array_equal(turned[1] - turned[0], np.full((5, 5), 25))


def test_the_eight_views_differ():
    array = np.arange(9).reshape(3, 3)
    views = {turn(array, turns, flip).tobytes() for turns in range(4) for flip in (False, True)}
    assert len(views) == 8


def test_nodata_is_filled_with_the_train_mean(make_collection):
    path = make_collection()
    for name, index in (("a", 0), ("b", 1)):
        image, _ = paint(np.random.default_rng(index), 128, 3)
        image = np.maximum(image, 1)
        image[:, :, 64:] = 0
        write_raster(path.parent / f"images/{name}.tif", image, west=500_000 + 1000 * index, nodata=0)
    made = batches(Collection.open(path), crop=96)
    batch = made.batch(0)
    assert (~batch.valid).any()
    assert not batch.complete
    mean = torch.tensor(made.survey.mean, dtype=torch.float32)
    for image, valid in zip(batch.image, batch.valid, strict=True):
        torch.testing.assert_close(image[:, ~valid], mean[:, None].expand(3, int((~valid).sum())))
