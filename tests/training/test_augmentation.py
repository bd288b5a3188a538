"""Strong augmentation by hand: what moves pixels moves all that is known of them, and colour stays with the student."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from kdcore.data.batches import Batch
from kdcore.data.scene import Box
from kdcore.settings import Recipe
from kdcore.training import augmentation
from kdcore.training.augmentation import augment, blur, draw_part, enlarge, saturate, student_batch
from tests.training.test_mixing import coded_batch

IGNORE = 255


def source(seed=0, rank=0, ranks=1, bands=2, batch=None):
    """What augmentation asks of batches: their seed, and bands with a mean of 10 and a spread of 4."""
    survey = SimpleNamespace(mean=np.full(bands, 10.0), std=np.full(bands, 4.0))
    size = 0 if batch is None else 2
    return SimpleNamespace(seed=seed, rank=rank, ranks=ranks, survey=survey, batch_size=size, batch=lambda step: batch)


def imagery(crops: int, labelled: int, side: int = 16, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (crops, side, side), generator=generator, dtype=torch.uint8)
    labels[labelled:] = IGNORE
    image = 10 + 4 * torch.randn(crops, 2, side, side, generator=generator)
    return Batch(image, labels, torch.ones(crops, side, side, dtype=torch.bool), complete=True)


class TestEnlarging:
    def test_shows_a_part_at_the_size_of_the_whole(self):
        """Columns 0, 4 of a part of 1 x 2 pixels at four columns, pixel centres at -1/4, 1/4, 3/4 and 5/4 of a pixel: 0, 1, 3, 4."""
        image = torch.tensor([[[[0.0, 4.0, 9.0, 9.0], [0.0, 4.0, 9.0, 9.0]]]])
        labels = torch.tensor([[[1, 2, 0, 0], [1, 2, 0, 0]]], dtype=torch.uint8)
        batch = Batch(image, labels, torch.ones(1, 2, 4, dtype=torch.bool), teacher=image.half()[:, None])
        enlarge(batch, 0, Box(0, 0, 1, 2))
        assert batch.image[0, 0].tolist() == [[0, 1, 3, 4]] * 2
        assert batch.labels[0].tolist() == [[1, 1, 2, 2]] * 2
        assert batch.teacher[0, 0, 0].tolist() == [[0, 1, 3, 4]] * 2
        assert batch.teacher.dtype == torch.float16

    def test_a_pixel_made_of_an_invalid_one_is_invalid(self):
        """The second column has no data: only what lies at or before the centre of the first is made of that alone."""
        valid = torch.tensor([[[True, False, True, True]]])
        batch = Batch(torch.zeros(1, 1, 1, 4), torch.zeros(1, 1, 4, dtype=torch.uint8), valid)
        enlarge(batch, 0, Box(0, 0, 1, 2))
        assert batch.valid[0, 0].tolist() == [True, False, False, False]

    def test_keeps_a_crop_whose_labels_would_all_be_lost(self):
        labels = torch.tensor([[[IGNORE, IGNORE, 1, IGNORE]]], dtype=torch.uint8)
        image = torch.arange(4.0).reshape(1, 1, 1, 4)
        batch = Batch(image.clone(), labels.clone(), torch.ones(1, 1, 4, dtype=torch.bool))
        enlarge(batch, 0, Box(0, 0, 1, 2))
        assert torch.equal(batch.image, image)
        assert torch.equal(batch.labels, labels)

    def test_takes_a_part_inside_the_crop_of_half_its_side_at_least(self):
        rng = np.random.default_rng(0)
        for _ in range(200):
            part = draw_part(20, 40, rng)
            assert Box(0, 0, 20, 40).intersection(part) == part
            assert part.height >= 10
            assert part.width == pytest.approx(2 * part.height, abs=1)


class TestColour:
    def test_saturation_moves_bands_from_their_mean(self):
        """1 and 5 have a mean of 3: half as far are 2 and 4, not at all is 3, half again as far are 0 and 6."""
        image = torch.tensor([1.0, 5.0]).reshape(2, 1, 1)
        for factor, expected in ((0.5, [2, 4]), (0.0, [3, 3]), (1.5, [0, 6])):
            assert saturate(image, factor).flatten().tolist() == expected

    @pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
    def test_a_blur_is_scipy_s(self, sigma):
        image = torch.randn(3, 24, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        radius = max(1, round(2 * sigma))
        for ours, band in zip(blur(image, sigma), image.numpy(), strict=True):
            theirs = gaussian_filter(band, sigma, radius=radius, mode="mirror")
            assert ours.numpy() == pytest.approx(theirs, abs=1e-9)

    def test_a_blur_of_a_small_crop_reaches_no_farther_than_it(self):
        assert blur(torch.ones(1, 2, 2), 2.0).flatten().tolist() == pytest.approx([1] * 4)

    def test_everything_at_once_by_hand(self, monkeypatch):
        """Always coloured, never grey nor blurred. Bands of (0, 2): contrast 1.5 about their means changes nothing of flat bands,
        brightness adds 0.5, the bands' own offsets are 0.25 and -0.25, which makes (0.75, 2.25) of mean 1.5; saturation 1.5 gives
        (0.375, 2.625)."""
        monkeypatch.setattr(augmentation, "COLOURED", 1.1)
        monkeypatch.setattr(augmentation, "GREY", 0.0)
        monkeypatch.setattr(augmentation, "BLURRED", 0.0)

        class Rng:
            def random(self, count):
                return np.full(count, 0.5)

            def uniform(self, low, high, count=None):
                return 1.0 if count is None else np.ones(count) if count == 3 else np.array([1.0, -1.0])

        image = torch.tensor([0.0, 2.0]).reshape(2, 1, 1).repeat(1, 2, 2)
        changed = augmentation.distort(image, Rng())
        assert changed[:, 0, 0].tolist() == pytest.approx([0.375, 2.625])


class TestABatch:
    @pytest.mark.parametrize(("which", "changed"), [("unlabelled", [False] * 2 + [True] * 3), ("all", [True] * 5)])
    def test_of_which_crops_are_augmented(self, which, changed):
        batch, untouched = (imagery(5, 2) for _ in range(2))
        seen = [augment(source(), batch, which, 2, step) for step in range(30)]
        assert torch.equal(batch.image, untouched.image)
        found = torch.stack([(one.image != batch.image).flatten(1).any(1) for one in seen]).any(0)
        assert found.tolist() == changed

    def test_none_is_the_batch_itself(self):
        batch = imagery(3, 2)
        assert augment(source(), batch, "none", 2, 0) is batch
        assert augment(source(), imagery(2, 2), "unlabelled", 2, 0).weak is None  # the student alone

    def test_the_teacher_sees_no_colour_and_no_blur(self, monkeypatch):
        monkeypatch.setattr(augmentation, "ENLARGED", 0.0)
        batch = imagery(4, 2)
        seen = augment(source(), batch, "all", 2, step=3)
        assert torch.equal(seen.weak, batch.image)
        assert not torch.equal(seen.image, batch.image)

    def test_labels_and_soft_labels_go_where_the_pixels_go(self, monkeypatch):
        """Labels and soft labels are the image itself; without colour they still are, but between two pixels."""
        for name in ("COLOURED", "GREY", "BLURRED"):
            monkeypatch.setattr(augmentation, name, 0.0)
        monkeypatch.setattr(augmentation, "ENLARGED", 1.1)
        batch = coded_batch(3, 3, 12, 12, seed=0)
        batch.image = torch.arange(144.0).reshape(1, 1, 12, 12).repeat(3, 2, 1, 1)
        batch.labels = batch.image[:, 0].to(torch.uint8)
        batch.valid.fill_(True)
        batch.teacher = batch.image[:, None, :1].half()
        seen = augment(source(), batch, "all", 3, step=1)
        assert seen.teacher[:, 0, 0].float().numpy() == pytest.approx(seen.weak[:, 0].numpy(), abs=0.1)
        assert (seen.labels.float() - seen.weak[:, 0]).abs().max() <= 6.5  # half a row and half a column
        assert not torch.equal(seen.weak, batch.image)

    def test_nodata_stays_the_mean(self):
        batch = imagery(4, 2)
        batch.valid[:, :8] = False
        seen = augment(source(), batch, "all", 2, step=0)
        hidden = ~seen.valid[:, None].expand_as(seen.image)
        assert hidden.any()
        assert seen.image[hidden].unique().tolist() == [10.0]

    def test_is_a_function_of_seed_step_and_process(self):
        batch = imagery(3, 2)
        first = augment(source(seed=5, rank=1), batch, "all", 2, step=7)
        torch.manual_seed(1)
        assert torch.equal(first.image, augment(source(seed=5, rank=1), batch, "all", 2, step=7).image)
        for values, step in (({"seed": 6, "rank": 1}, 7), ({"seed": 5, "rank": 1}, 8), ({"seed": 5}, 7)):
            assert not torch.equal(first.image, augment(source(**values), batch, "all", 2, step).image)

    def test_labelled_crops_are_the_same_whatever_else_is_in_the_batch(self):
        many = imagery(5, 2)
        few = many.map(lambda tensor: tensor[:2])
        for step in range(10):
            alone, distilled = (augment(source(), batch, "all", 2, step) for batch in (few, many))
            assert torch.equal(alone.image, distilled.image[:2])
            assert torch.equal(alone.labels, distilled.labels[:2])

    def test_is_mixed_after_it_was_augmented_and_so_is_the_teacher_s_view(self):
        """Where a crop was pasted, both views are the partner's: colours apart, the places are the same."""
        batch = coded_batch(5, 2, 16, 16, seed=0)
        batch.image = batch.image.clone()
        batch.valid.fill_(True)
        recipe = Recipe(alpha=0.5, unlabelled=1.5, mix="cutmix", augment="unlabelled")
        seen = student_batch(source(batch=batch), recipe, step=4)
        assert seen.weak.shape == seen.image.shape
        assert torch.equal(seen.weak[:2], seen.image[:2])
        assert not torch.equal(seen.weak[2:], seen.image[2:])
        plain = student_batch(source(batch=batch), recipe.model_copy(update={"augment": "none"}), step=4)
        assert torch.equal(seen.image[:2], plain.image[:2])
