"""Mixed crops: what is known of a pixel comes from one crop, labels are never lost, and every arm sees the same."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcore.data.batches import Batch
from kdcore.errors import SettingsError
from kdcore.settings import Recipe
from kdcore.training.mixing import Blend, blend, check_crops, choose_partners, mix, paste
from kdcore.training.objective import compute_loss

IGNORE = 255


def coded_batch(crops: int, labelled: int, height: int, width: int, seed: int, answers: tuple[int, ...] = ()) -> Batch:
    """An image and teacher's answers from which the crop and the place of every pixel can be read; labels and gaps at random."""
    rng = np.random.default_rng(seed)
    place = torch.arange(crops * height * width).reshape(crops, height, width)
    labels = torch.from_numpy(rng.choice([0, 1, 2, IGNORE], (crops, height, width)).astype(np.uint8))
    labels[labelled:] = IGNORE
    valid = torch.from_numpy(rng.random((crops, height, width)) < 0.8)
    shape = (crops, *(1 for _ in answers), height, width)
    teacher = (place // (height * width)).half().reshape(shape).repeat(1, *answers, 1, 1) if answers else None
    return Batch(torch.stack([place, -place], dim=1).float(), labels, valid, teacher)


class TestCutmix:
    @given(
        labelled=st.integers(1, 4),
        extra=st.integers(0, 3),
        size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
        seed=st.integers(0, 2**31 - 1),
        step=st.integers(0, 10_000),
    )
    @settings(deadline=None, max_examples=150)
    def test_takes_all_that_is_known_of_a_pixel_from_the_same_place_of_one_crop(
        self, labelled, extra, size, seed, step
    ):
        batch = coded_batch(labelled + extra, labelled, *size, seed=seed, answers=(2, 3))
        mixed = mix(batch, "cutmix", labelled, seed, step)
        crop_of = mixed.image[:, 0].long() // (size[0] * size[1])
        place = torch.arange(size[0] * size[1]).reshape(1, *size).expand(crop_of.shape)
        assert torch.equal(mixed.image[:, 0].long() % (size[0] * size[1]), place)
        assert torch.equal(mixed.image[:, 1], -mixed.image[:, 0])
        assert torch.equal(mixed.valid, batch.valid.gather(0, crop_of))
        assert torch.equal(mixed.labels[:labelled], batch.labels.gather(0, crop_of)[:labelled])
        assert all(torch.equal(mixed.teacher[:, i, j].long(), crop_of) for i in range(2) for j in range(3))
        # Labelled crops are mixed with labelled ones only, and crops without labels gain none.
        assert (crop_of[:labelled] < labelled).all()
        assert (mixed.labels[labelled:] == IGNORE).all()

    @given(seed=st.integers(0, 2**31 - 1), step=st.integers(0, 10_000), labelled=st.integers(2, 4))
    @settings(deadline=None)
    def test_never_takes_the_last_labelled_pixel_from_a_crop(self, seed, step, labelled):
        """Crops with a single labelled pixel each, somewhere."""
        batch = coded_batch(labelled, labelled, 6, 6, seed)
        batch.labels.fill_(IGNORE)
        batch.valid.fill_(True)
        spots = np.random.default_rng(seed).integers(0, 6, (labelled, 2))
        for index, (row, column) in enumerate(spots):
            batch.labels[index, row, column] = 1
        mixed = mix(batch, "cutmix", labelled, seed, step)
        assert (mixed.labels != IGNORE).flatten(1).any(1).all()

    def test_leaves_a_crop_alone_that_would_lose_its_labels(self):
        """The rectangle covers the only labelled pixel of crop 0; crop 1 has its own elsewhere."""
        batch = coded_batch(2, 2, 4, 4, seed=0)
        batch.labels.fill_(IGNORE)
        batch.valid.fill_(True)
        batch.labels[0, 0, 0] = batch.labels[1, 3, 3] = 1
        corner = (slice(0, 2), slice(0, 2))
        mixed = paste(batch, [1, 0], [corner, corner], labelled=2)
        assert torch.equal(mixed.image[0], batch.image[0])
        assert torch.equal(mixed.image[1][:, :2, :2], batch.image[0][:, :2, :2])
        # Nodata counts for nothing: a label there would not have been looked at.
        batch.valid[0, 0, 0] = False
        assert not torch.equal(paste(batch, [1, 0], [corner, corner], labelled=2).image[0], batch.image[0])

    def test_covers_a_third_of_a_crop_in_the_mean(self):
        """A uniform share of the area is 1/2 in the mean; a centre anywhere cuts a part of it off.

        Along one side a rectangle of length s has `s - s^2 / 4` left in the mean, and s is the root of a uniform number u: the
        mean of `(s - s^2 / 4)^2 = u - u^1.5 / 2 + u^2 / 16` is `1/2 - 1/5 + 1/48 = 0.3208`.
        """
        batch = coded_batch(2, 2, 40, 40, seed=0)
        shares = []
        for step in range(1000):
            mixed = mix(Batch(batch.image, batch.labels, batch.valid), "cutmix", 2, 3, step)
            shares += [float((mixed.image[i, 0].long() // 1600 != i).float().mean()) for i in range(2)]
        assert np.mean(shares) == pytest.approx(0.3208, abs=0.02)  # the mean's standard deviation is below 0.006


class TestMixup:
    def test_blends_two_crops_and_keeps_both_labels(self):
        """A quarter of a crop at 10 and three quarters of one at 30 are 25, and the other way round 15."""
        image = torch.tensor([10.0, 30.0]).reshape(2, 1, 1, 1).repeat(1, 1, 1, 2)
        valid = torch.tensor([[[True, True]], [[True, False]]])
        labels = torch.tensor([[[1, 0]], [[0, IGNORE]]], dtype=torch.uint8)
        mixed = blend(Batch(image, labels, valid), [1, 0], 0.25, labelled=2)
        assert mixed.image.flatten().tolist() == [25, 25, 15, 15]
        assert mixed.labels.flatten().tolist() == [1, 0, 0, IGNORE]
        assert mixed.other_labels.flatten().tolist() == [0, IGNORE, 1, 0]
        assert mixed.valid.flatten().tolist() == [True, False, True, False]

    def test_shares_the_task_loss_between_both_labels(self):
        """A logit of log 3 costs log 4/3 on label 1 and log 4 on label 0."""
        one = torch.ones(1, 1, 1, dtype=torch.bool)
        label = torch.ones(1, 1, 1, dtype=torch.uint8)
        batch = Blend(torch.zeros(1, 3, 1, 1), label, one, other_labels=0 * label, share=0.25)
        terms = compute_loss(torch.full((1, 1, 1, 1), math.log(3)), None, batch, Recipe(alpha=0, mix="mixup"))
        assert float(terms["loss"]) == pytest.approx(0.25 * math.log(4 / 3) + 0.75 * math.log(4))

    def test_keeps_a_crop_whose_labels_would_all_be_lost(self):
        """Crop 0 is labelled where crop 1 has no data; blended, no pixel with a label would be left in either."""
        valid = torch.tensor([[[True, False]], [[False, True]]])
        labels = torch.tensor([[[1, IGNORE]], [[IGNORE, IGNORE]]], dtype=torch.uint8)
        image = torch.tensor([10.0, 30.0]).reshape(2, 1, 1, 1).repeat(1, 1, 1, 2)
        mixed = blend(Batch(image, labels, valid), [1, 0], 0.25, labelled=2)
        assert mixed.image[0].flatten().tolist() == [10, 10]
        assert mixed.valid[0].flatten().tolist() == [True, False]
        assert mixed.other_labels[0].flatten().tolist() == [1, IGNORE]
        assert mixed.image[1].flatten().tolist() == [15, 15]  # it had no labels to lose

    def test_gives_crops_without_labels_none(self):
        mixed = mix(coded_batch(5, 2, 4, 4, seed=1), "mixup", 2, 0, 0)
        assert (mixed.other_labels[:2] != IGNORE).any()
        assert (mixed.labels[2:] == IGNORE).all()
        assert (mixed.other_labels[2:] == IGNORE).all()

    def test_refuses_answers_for_single_crops(self):
        """What a teacher says about two crops does not tell what it says about their blend."""
        with pytest.raises(SettingsError, match="set teacher_sees: crop"):
            mix(coded_batch(2, 2, 4, 4, seed=0, answers=(1, 3)), "mixup", 2, 0, 0)

    def test_moves_both_labels_to_a_device(self):
        mixed = mix(coded_batch(2, 2, 4, 4, seed=1), "mixup", 2, 0, 0)
        moved = mixed.map(lambda tensor: tensor.to("meta"))
        assert isinstance(moved, Blend)
        assert {moved.image.device.type, moved.other_labels.device.type} == {"meta"}
        assert moved.share == mixed.share


@pytest.mark.parametrize("kind", ["cutmix", "mixup"])
class TestAMix:
    def test_is_a_function_of_seed_step_and_process(self, kind):
        batch = coded_batch(4, 4, 16, 16, seed=0)
        first = mix(batch, kind, 4, seed=5, step=7, rank=1)
        torch.manual_seed(1)
        assert torch.equal(first.image, mix(batch, kind, 4, seed=5, step=7, rank=1).image)
        for other in ({"seed": 6}, {"step": 8}, {"rank": 0}):
            values = {"seed": 5, "step": 7, "rank": 1} | other
            assert not torch.equal(first.image, mix(batch, kind, 4, **values).image)

    def test_of_labelled_crops_is_the_same_whatever_else_is_in_the_batch(self, kind):
        """The student alone has no crops without labels, and still sees the distilled student's labelled ones."""
        many = coded_batch(5, 3, 16, 16, seed=0)
        few = many.map(lambda tensor: tensor[:3])
        for step in range(20):
            alone, distilled = (mix(batch, kind, 3, seed=2, step=step) for batch in (few, many))
            assert torch.equal(alone.image, distilled.image[:3])
            assert torch.equal(alone.labels, distilled.labels[:3])
            assert torch.equal(alone.valid, distilled.valid[:3])

    def test_leaves_the_batch_itself_as_it_is(self, kind):
        batch, untouched = (coded_batch(3, 3, 8, 8, seed=0) for _ in range(2))
        mixed = mix(batch, kind, 3, 0, 0)
        assert not torch.equal(mixed.image, batch.image)
        assert all(torch.equal(getattr(batch, name), getattr(untouched, name)) for name in ("image", "labels", "valid"))

    def test_needs_two_labelled_crops(self, kind):
        check_crops(kind, 2)
        with pytest.raises(SettingsError, match=f"mix: {kind} .* has 1 only. Raise budget.batch_size"):
            check_crops(kind, 1)


def test_no_mix_is_the_batch_itself():
    batch = coded_batch(2, 2, 4, 4, seed=0)
    assert mix(batch, "none", 2, 0, 0) is batch
    check_crops("none", 1)


@given(labelled=st.integers(2, 6), extra=st.integers(0, 4), seed=st.integers(0, 1000))
def test_partners_are_others(labelled, extra, seed):
    partners = choose_partners(labelled + extra, labelled, np.random.default_rng(seed))
    assert all(partner != index for index, partner in enumerate(partners))
    assert sorted(partners[:labelled]) == list(range(labelled))  # every labelled crop is used once
    assert all(0 <= partner < labelled + extra for partner in partners)
