"""Losses against hand-computed numbers, scipy and torch's own; the mistakes of others, each made on purpose."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr
from scipy.special import softmax as softmax64
from scipy.stats import entropy
from torch.nn import functional

from kdcore import losses
from kdcore.errors import KdcoreError, SettingsError

LOG3 = math.log(3)
KL_OF_QUARTERS = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)  # (3/4, 1/4) against (1/2, 1/2), by hand: 0.1308
ROUNDING = 5e-7  # of a KL made of float32 logarithms near 1; T^2 multiplies it with the rest
DISTILLATION = [losses.pixel_kl, losses.bernoulli_kl, losses.channel_kl, losses.distillation]
FEATURES = [losses.feature_mse, losses.hint]
SHAPES = st.tuples(st.integers(1, 3), st.integers(2, 5), st.integers(1, 6), st.integers(1, 6))


def maps(*shape, seed=0, scale=3.0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def numbers(shape, high, seed=0):
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(seed))


def mask(*shape, seed=0):
    return numbers(shape, 4, seed) > 0


def gradient(loss, logits, *rest):
    logits = logits.detach().clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(logits, *rest), logits)
    return found


def pixels(*vectors):
    """Logit vectors as one image of one row: (1, C, 1, W)."""
    return torch.tensor(vectors, dtype=torch.float32).T[None, :, None]


# --- numbers by hand ---


def test_numbers_by_hand():
    label = torch.zeros(1, 1, 1, dtype=torch.long)
    assert losses.cross_entropy(pixels((0, 0)), label).item() == pytest.approx(math.log(2))
    assert losses.binary_cross_entropy(pixels((LOG3,)), label + 1).item() == pytest.approx(math.log(4 / 3))
    assert losses.binary_cross_entropy(pixels((LOG3,)), label).item() == pytest.approx(math.log(4))
    assert losses.dice(pixels((0,), (0,)), torch.tensor([[[1, 0]]])).item() == pytest.approx(0.5)
    assert losses.pixel_kl(pixels((0, 0)), pixels((LOG3, 0)), 1.0).item() == pytest.approx(KL_OF_QUARTERS)
    assert losses.bernoulli_kl(pixels((0,)), pixels((LOG3,)), 1.0).item() == pytest.approx(KL_OF_QUARTERS)
    assert losses.channel_kl(pixels((0,), (0,)), pixels((LOG3,), (0,)), 1.0).item() == pytest.approx(KL_OF_QUARTERS)
    assert losses.feature_mse(pixels((1, 2)), pixels((1, 4))).item() == pytest.approx(2)
    assert losses.combine(torch.tensor(1.0), torch.tensor(3.0), 0.25).item() == 1.5


def test_temperature_divides_logits_and_its_square_multiplies():
    assert losses.pixel_kl(pixels((0, 0)), pixels((2 * LOG3, 0)), 2.0).item() == pytest.approx(4 * KL_OF_QUARTERS)
    assert losses.bernoulli_kl(pixels((0,)), pixels((2 * LOG3,)), 2.0).item() == pytest.approx(4 * KL_OF_QUARTERS)
    two = losses.channel_kl(pixels((0,), (0,)), pixels((2 * LOG3,), (0,)), 2.0)
    assert two.item() == pytest.approx(4 * KL_OF_QUARTERS)


def test_dice_averages_over_the_classes_that_occur():
    # Class 0 on one pixel, class 1 on one, class 2 nowhere; uniform probabilities of 1/3.
    # Each present class: 1 - 2/3 / (2/3 + 1) = 0.6.
    assert losses.dice(torch.zeros(1, 3, 1, 2), torch.tensor([[[0, 1]]])).item() == pytest.approx(0.6)
    assert losses.dice(pixels((50, -50), (-50, 50)), torch.tensor([[[0, 1]]])).item() == pytest.approx(0, abs=1e-6)


def test_dice_masks_ignored_pixels_in_both_terms():
    logits, labels = maps(2, 3, 4, 4), numbers((2, 4, 4), 3)
    labels[0, 0], labels[1] = 255, 255
    kept = logits[:1, :, 1:]
    assert losses.dice(logits, labels).item() == pytest.approx(losses.dice(kept, labels[:1, 1:]).item(), rel=1e-6)


def test_a_hint_of_features_of_length_one_by_hand():
    # (3, 4) / 5 = (0.6, 0.8) against (1, 0): 0.4^2 + 0.8^2; opposite, orthogonal and equal directions of any length.
    assert losses.hint(pixels((3, 4)), pixels((1, 0))).item() == pytest.approx(0.8)
    assert losses.hint(pixels((3, 4)), pixels((-6, -8))).item() == pytest.approx(4)
    assert losses.hint(pixels((0, 2)), pixels((7, 0))).item() == pytest.approx(2)
    assert losses.hint(pixels((3, 4), (0, 2)), pixels((1, 0), (7, 0))).item() == pytest.approx((0.8 + 2) / 2)
    valid = torch.tensor([[[True, False]]])
    assert losses.hint(pixels((3, 4), (0, 2)), pixels((1, 0), (7, 0)), valid).item() == pytest.approx(0.8)


def test_a_hint_is_twice_the_cosine_distance_of_torch():
    student, teacher = maps(2, 6, 5, 4), maps(2, 6, 5, 4, seed=1)
    wanted = 2 - 2 * functional.cosine_similarity(student.double(), teacher.double()).mean()
    assert losses.hint(student, teacher).item() == pytest.approx(wanted.item(), rel=1e-5)


def test_a_hint_of_the_same_features_through_the_identity_is_zero_whatever_their_scale():
    identity = losses.projection(6, 6)
    with torch.no_grad():
        identity.weight.copy_(torch.eye(6)[:, :, None, None])
        identity.bias.zero_()
    teacher = maps(2, 6, 8, 8)
    assert losses.hint(identity(teacher), teacher).item() == 0
    assert losses.hint(identity(40 * teacher), teacher).item() == pytest.approx(0, abs=1e-9)
    # Each position of a grid half as fine stands for four of the teacher's that are the same: nothing to learn there, either.
    coarse = torch.full((1, 6, 2, 2), 0.5)
    assert losses.hint(coarse, torch.full((1, 6, 4, 4), 3.0)).item() == pytest.approx(0, abs=1e-9)


def test_a_hint_of_zeros_has_a_finite_gradient():
    found = gradient(losses.hint, torch.zeros(1, 3, 2, 2), maps(1, 3, 2, 2))
    assert found.isfinite().all()


def test_feature_mse_resizes_the_student_and_trains_the_projection():
    projection = losses.projection(4, 6)
    loss = losses.feature_mse(projection(torch.ones(2, 4, 4, 4)), maps(2, 6, 8, 8))
    loss.backward()
    assert projection.weight.shape == (6, 4, 1, 1)
    assert projection.weight.grad.abs().sum() > 0
    constant = losses.feature_mse(torch.full((1, 2, 3, 3), 2.0), torch.zeros(1, 2, 7, 5))
    assert constant.item() == pytest.approx(4)


# --- independent references ---


@given(shape=SHAPES, temperature=st.floats(1, 20), seed=st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_pixel_kl_is_scipys_relative_entropy(shape, temperature, seed):
    student, teacher, valid = maps(*shape, seed=seed), maps(*shape, seed=seed + 1), mask(shape[0], *shape[2:])
    p, q = (softmax64(z.double().numpy() / temperature, axis=1) for z in (teacher, student))
    each = entropy(p, q, axis=1)[valid.numpy()]
    wanted = temperature**2 * each.mean() if each.size else 0
    found = losses.pixel_kl(student, teacher, temperature, valid).item()
    assert found == pytest.approx(wanted, rel=1e-4, abs=ROUNDING * temperature**2)


@given(shape=SHAPES, temperature=st.floats(1, 20), seed=st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_bernoulli_and_channel_kl_are_scipys(shape, temperature, seed):
    student, teacher, valid = maps(*shape, seed=seed), maps(*shape, seed=seed + 1), mask(shape[0], *shape[2:])
    q, p = (1 / (1 + np.exp(-z.double().numpy() / temperature)) for z in (student, teacher))
    each = (rel_entr(p, q) + rel_entr(1 - p, 1 - q)).transpose(0, 2, 3, 1)[valid.numpy()]
    wanted = temperature**2 * each.mean() if each.size else 0
    found = losses.bernoulli_kl(student, teacher, temperature, valid).item()
    assert found == pytest.approx(wanted, rel=1e-4, abs=ROUNDING * temperature**2)

    total = 0.0
    for n in range(shape[0]):
        at = valid[n].numpy()
        for c in range(shape[1]) if at.any() else ():
            q, p = (softmax64(z[n, c].double().numpy()[at] / temperature) for z in (student, teacher))
            total += entropy(p, q)
    found = losses.channel_kl(student, teacher, temperature, valid).item()
    assert found == pytest.approx(
        temperature**2 * total / (shape[0] * shape[1]), rel=1e-4, abs=ROUNDING * temperature**2
    )


@given(shape=SHAPES, seed=st.integers(0, 999))
@settings(max_examples=30, deadline=None)
def test_task_losses_are_torchs(shape, seed):
    logits, weight = maps(*shape, seed=seed), maps(shape[1], seed=seed).abs() + 0.1
    labels = numbers((shape[0], *shape[2:]), shape[1], seed)
    labels.view(-1)[0] = 0  # one counted pixel at least; torch gives NaN otherwise
    labels.view(-1)[1::3] = 255
    for given_weight in (None, weight):
        wanted = functional.cross_entropy(logits, labels, given_weight, ignore_index=255).item()
        found = losses.cross_entropy(logits, labels.to(torch.uint8), weight=given_weight).item()
        assert found == pytest.approx(wanted, rel=1e-5)
    binary = torch.where(labels == 255, 255, labels % 2)
    one, counted = logits[:, :1], labels != 255
    wanted = functional.binary_cross_entropy_with_logits(one[:, 0][counted], binary[counted].float()).item()
    assert losses.binary_cross_entropy(one, binary.to(torch.uint8)).item() == pytest.approx(wanted, rel=1e-5)


def test_pixel_kl_is_torchs_kl_div_over_rows_of_pixels():
    student, teacher = maps(2, 4, 5, 6), maps(2, 4, 5, 6, seed=1)
    rows = [z.permute(0, 2, 3, 1).reshape(-1, 4) for z in (student, teacher)]
    wanted = 9 * functional.kl_div(
        (rows[0] / 3).log_softmax(1), (rows[1] / 3).log_softmax(1), log_target=True, reduction="batchmean"
    )
    assert losses.pixel_kl(student, teacher, 3.0).item() == pytest.approx(wanted.item(), rel=1e-5)


def test_gradient_of_pixel_kl_is_t_times_the_difference_of_probabilities():
    student, teacher, valid = maps(2, 4, 5, 6), maps(2, 4, 5, 6, seed=1), mask(2, 5, 6)
    q, p = (softmax64(z.double().numpy() / 3, axis=1) for z in (student, teacher))
    wanted = 3 * (q - p) * valid[:, None].numpy() / valid.sum().item()
    np.testing.assert_allclose(gradient(losses.pixel_kl, student, teacher, 3.0, valid), wanted, atol=1e-7)


def test_gradient_of_bernoulli_kl_is_t_times_the_difference_of_probabilities():
    student, teacher, valid = maps(2, 3, 5, 6), maps(2, 3, 5, 6, seed=1), mask(2, 5, 6)
    q, p = (1 / (1 + np.exp(-z.double().numpy() / 3)) for z in (student, teacher))
    wanted = 3 * (q - p) * valid[:, None].numpy() / valid.sum().item() / 3
    np.testing.assert_allclose(gradient(losses.bernoulli_kl, student, teacher, 3.0, valid), wanted, atol=1e-7)


# --- invariants ---


@pytest.mark.parametrize("loss", DISTILLATION)
@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_a_student_that_equals_its_teacher_costs_nothing_and_stays(loss, temperature):
    logits, valid = maps(2, 3, 6, 5), mask(2, 6, 5)
    assert loss(logits, logits, temperature, valid).item() == 0
    assert gradient(loss, logits, logits, temperature, valid).abs().max() < 1e-7


@pytest.mark.parametrize("loss", DISTILLATION)
def test_the_layout_in_memory_does_not_matter(loss):
    student, teacher, valid = maps(2, 3, 6, 5), maps(2, 3, 6, 5, seed=1), mask(2, 6, 5)
    last = [z.contiguous(memory_format=torch.channels_last) for z in (student, teacher)]
    assert loss(*last, 2.0, valid).item() == pytest.approx(loss(student, teacher, 2.0, valid).item(), rel=1e-6)
    assert loss(last[0], student, 2.0, valid).item() == 0


@pytest.mark.parametrize("loss", DISTILLATION)
@pytest.mark.parametrize("axis", [0, 2, 3])
def test_doubling_batch_height_or_width_changes_nothing(loss, axis):
    student, teacher, valid = maps(2, 3, 6, 5), maps(2, 3, 6, 5, seed=1), mask(2, 6, 5)
    once = loss(student, teacher, 2.0, valid).item()
    twice = loss(*(torch.cat([z, z], axis) for z in (student, teacher)), 2.0, torch.cat([valid] * 2, max(axis - 1, 0)))
    assert twice.item() == pytest.approx(once, rel=1e-5)


def test_doubling_changes_no_other_loss():
    logits, labels, features = maps(2, 3, 6, 5), numbers((2, 6, 5), 3), maps(2, 3, 6, 5, seed=1)
    for axis in (0, 2, 3):
        two, two_labels = torch.cat([logits] * 2, axis), torch.cat([labels] * 2, max(axis - 1, 0))
        for loss in (losses.cross_entropy, losses.dice):
            assert loss(two, two_labels).item() == pytest.approx(loss(logits, labels).item(), rel=1e-5)
        for loss in FEATURES:
            wanted = loss(logits, features).item()
            assert loss(two, torch.cat([features] * 2, axis)).item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("loss", [*DISTILLATION, *FEATURES])
@pytest.mark.parametrize("rubbish", [1e4, -7.0, math.inf, -math.inf, math.nan])
def test_what_the_teacher_says_about_nodata_never_matters(loss, rubbish):
    student, teacher, valid = maps(2, 3, 6, 5), maps(2, 3, 6, 5, seed=1), mask(2, 6, 5)
    rest = (valid,) if loss in FEATURES else (2.0, valid)
    spoilt = torch.where(valid[:, None], teacher, rubbish)
    assert loss(student, spoilt, *rest).item() == loss(student, teacher, *rest).item()
    assert torch.equal(gradient(loss, student, spoilt, *rest), gradient(loss, student, teacher, *rest))


@pytest.mark.parametrize("loss", [*DISTILLATION, *FEATURES])
def test_the_mask_is_used_and_the_students_nodata_gets_no_gradient(loss):
    student, teacher, valid = maps(2, 3, 6, 5), maps(2, 3, 6, 5, seed=1), mask(2, 6, 5)
    head = () if loss in FEATURES else (2.0,)
    other = torch.where(valid[:, None], student, 50)
    assert loss(other, teacher, *head, valid).item() == loss(student, teacher, *head, valid).item()
    assert loss(other, teacher, *head).item() != loss(student, teacher, *head).item()
    assert gradient(loss, student, teacher, *head, valid)[~valid[:, None].expand_as(student)].abs().max() == 0


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.binary_cross_entropy, losses.dice])
def test_nodata_and_unlabelled_pixels_are_no_part_of_a_task_loss(loss):
    logits = maps(2, 1 if loss is losses.binary_cross_entropy else 3, 6, 5)
    labels, valid = numbers((2, 6, 5), 2), mask(2, 6, 5)
    hidden = torch.where(valid, labels, 255)
    wanted = loss(logits, hidden).item()
    assert loss(logits, labels, valid).item() == wanted
    assert loss(torch.where(valid[:, None], logits, 50), labels, valid).item() == wanted
    assert loss(logits, labels).item() != wanted


def test_unlabelled_pixels_still_distil():
    student, teacher = maps(1, 2, 4, 4), maps(1, 2, 4, 4, seed=1)
    labels = torch.full((1, 4, 4), 255)
    assert losses.cross_entropy(student, labels).item() == 0
    assert losses.pixel_kl(student, teacher, 2.0, torch.ones(1, 4, 4, dtype=torch.bool)).item() > 0


@pytest.mark.parametrize("channels", [1, 3])
def test_nothing_to_count_gives_zero_and_a_gradient_of_zeros(channels):
    logits, teacher = maps(2, channels, 4, 4), torch.full((2, channels, 4, 4), math.nan)
    labels, nowhere = torch.full((2, 4, 4), 255, dtype=torch.uint8), torch.zeros(2, 4, 4, dtype=torch.bool)
    task = losses.binary_cross_entropy if channels == 1 else losses.cross_entropy
    calls = [(task, labels), (losses.dice, labels)]
    calls += [(loss, teacher, nowhere) for loss in FEATURES]
    calls += [(loss, teacher, 2.0, nowhere) for loss in (losses.distillation, losses.bernoulli_kl, losses.channel_kl)]
    if channels > 1:
        calls.append((losses.cross_entropy, labels, None, torch.ones(3)))
    for loss, *rest in calls:
        assert loss(logits, *rest).item() == 0, loss
        assert torch.equal(gradient(loss, logits, *rest), torch.zeros_like(logits)), loss


def test_an_image_without_data_adds_nothing_to_channel_kl():
    student, teacher, valid = maps(2, 3, 6, 5), maps(2, 3, 6, 5, seed=1), mask(2, 6, 5)
    valid[1], teacher[1] = False, math.nan
    alone = losses.channel_kl(student[:1], teacher[:1], 2.0, valid[:1]).item()
    assert losses.channel_kl(student, teacher, 2.0, valid).item() == pytest.approx(alone / 2, rel=1e-6)
    found = gradient(losses.channel_kl, student, teacher, 2.0, valid)
    assert found.isfinite().all()
    assert found[1].abs().max() == 0


def test_a_large_temperature_compares_centred_logits():
    student, teacher = maps(2, 5, 3, 3, scale=0.5), maps(2, 5, 3, 3, seed=1, scale=0.5)
    gap = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    wanted, wanted_gradient = gap.square().sum(1).mean().item() / (2 * 5), gap / 5 / 18
    errors = []
    for scale in (1, 1 / 8):  # logits an eighth as large at T = 20 are logits of the first size at T = 160
        assert losses.pixel_kl(scale * student, scale * teacher, 20.0).item() / scale**2 == pytest.approx(
            wanted, rel=0.05
        )
        found = gradient(losses.pixel_kl, scale * student, scale * teacher, 20.0) / scale
        errors.append(((found - wanted_gradient).norm() / wanted_gradient.norm()).item())
    assert errors[0] < 0.05
    assert errors[1] < 0.3 * errors[0]


@given(seed=st.integers(0, 999), temperature=st.floats(1, 20), scale=st.floats(0.1, 30))
@settings(max_examples=40, deadline=None)
def test_one_logit_is_two_classes_of_which_one_is_zero(seed, temperature, scale):
    student, teacher, valid = maps(2, 1, 4, 3, seed=seed), maps(2, 1, 4, 3, seed=seed + 1), mask(2, 4, 3)
    student, teacher = student * scale / 3, teacher * scale / 3

    def two_classes(logits):
        return losses.pixel_kl(
            torch.cat([torch.zeros_like(logits), logits], 1),
            torch.cat([torch.zeros_like(teacher), teacher], 1),
            temperature,
            valid,
        )

    one = losses.bernoulli_kl(student, teacher, temperature, valid).item()
    assert one / temperature**2 == pytest.approx(two_classes(student).item() / temperature**2, rel=1e-6, abs=1e-6)
    torch.testing.assert_close(
        gradient(losses.bernoulli_kl, student, teacher, temperature, valid),
        gradient(two_classes, student),
        rtol=1e-5,
        atol=1e-6,
    )


def test_one_logit_keeps_small_divergences_that_cancellation_would_lose():
    # Bernoulli(sigmoid(-20)) against sigmoid(-15), in double precision.
    p, q = 1 / (1 + np.exp(20.0)), 1 / (1 + np.exp(15.0))
    wanted = rel_entr(p, q) + (1 - p) * (np.log1p(-p) - np.log1p(-q))
    assert losses.bernoulli_kl(pixels((-15,)), pixels((-20,)), 1.0).item() == pytest.approx(wanted, rel=1e-4)
    assert losses.bernoulli_kl(pixels((15,)), pixels((20,)), 1.0).item() == pytest.approx(wanted, rel=1e-4)


def test_several_maps_are_averaged():
    student, teacher, valid = maps(2, 3, 4, 4), maps(2, 3, 4, 4, seed=1), mask(2, 4, 4)
    each = [losses.bernoulli_kl(student[:, k, None], teacher[:, k, None], 2.0, valid).item() for k in range(3)]
    assert losses.bernoulli_kl(student, teacher, 2.0, valid).item() == pytest.approx(np.mean(each), rel=1e-6)


def test_distillation_chooses_by_the_number_of_channels():
    student, teacher = maps(2, 3, 4, 4), maps(2, 3, 4, 4, seed=1)
    assert losses.distillation(student, teacher, 2.0) == losses.pixel_kl(student, teacher, 2.0)
    one = student[:, :1], teacher[:, :1], 2.0
    assert losses.distillation(*one) == losses.bernoulli_kl(*one)


@pytest.mark.parametrize("channels", [1, 4])
def test_an_ensemble_teaches_with_the_mean_of_probabilities(channels):
    student, members, t = maps(1, channels, 3, 3), maps(3, channels, 3, 3, seed=1), 2.0
    if channels == 1:
        p = (members / t).sigmoid().mean(0, keepdim=True)
        logits, full = t * p.logit(), np.concatenate([p, 1 - p], 1)
        q = (student / t).sigmoid()
        q = np.concatenate([q, 1 - q], 1)
    else:
        full = (members / t).softmax(1).mean(0, keepdim=True)
        logits, q = t * full.log(), (student / t).softmax(1)
    wanted = t**2 * rel_entr(np.asarray(full), np.asarray(q)).sum(1).mean()
    assert losses.distillation(student, logits, t).item() == pytest.approx(float(wanted), rel=1e-4)
    assert losses.distillation(student, members.mean(0, keepdim=True), t).item() != pytest.approx(
        float(wanted), rel=1e-2
    )


# --- the mistakes of others ---


@pytest.mark.filterwarnings("ignore:reduction")  # torch warns of the very mistake
def test_mistake_1_batchmean_multiplies_by_the_pixels_and_mean_divides_by_the_classes():
    student, teacher = maps(2, 4, 8, 16), maps(2, 4, 8, 16, seed=1)
    ours = losses.pixel_kl(student, teacher, 1.0).item()
    logs = student.log_softmax(1), teacher.log_softmax(1)
    batchmean = functional.kl_div(*logs, log_target=True, reduction="batchmean").item()
    mean = functional.kl_div(*logs, log_target=True, reduction="mean").item()
    assert batchmean / ours == pytest.approx(8 * 16, rel=1e-5)
    assert mean / ours == pytest.approx(1 / 4, rel=1e-5)


def test_mistake_2_the_squared_temperature_stays_at_every_alpha():
    student, teacher = maps(1, 4, 4, 4), maps(1, 4, 4, 4, seed=1)
    p, q = (softmax64(z.double().numpy() / 4, axis=1) for z in (teacher, student))
    wanted = 16 * entropy(p, q, axis=1).mean()
    task, distilled = torch.tensor(0.7), losses.pixel_kl(student, teacher, 4.0)
    assert losses.combine(task, distilled, 1).item() == pytest.approx(wanted, rel=1e-5)
    assert losses.combine(task, distilled, 0.999).item() == pytest.approx(0.0007 + 0.999 * wanted, rel=1e-5)
    assert losses.combine(task, distilled, 1) is distilled


def test_alpha_0_is_the_task_alone_bit_for_bit():
    task, broken = torch.tensor(0.7), torch.tensor(math.nan)
    assert losses.combine(task, broken, 0) is task
    assert losses.combine(task, broken, 0.0) is task
    assert losses.combine(broken, task, 1.0) is task


@pytest.mark.parametrize("alpha", [-0.1, 1.1, math.nan])
def test_alpha_has_bounds(alpha):
    with pytest.raises(SettingsError, match=r"0 .labels only. to 1"):
        losses.combine(torch.tensor(0.7), torch.tensor(1.0), alpha)


def test_mistake_3_a_softmax_over_the_last_axis_is_another_loss():
    student, teacher = maps(2, 4, 4, 4), maps(2, 4, 4, 4, seed=1)
    wrong = (teacher.softmax(-1) * (teacher.log_softmax(-1) - student.log_softmax(-1))).sum(-1).mean().item()
    assert losses.pixel_kl(student, teacher, 1.0).item() != pytest.approx(wrong, rel=1e-2)
    turned = [z.transpose(1, 3) for z in (student, teacher)]
    assert losses.pixel_kl(*turned, 1.0).item() == pytest.approx(wrong, rel=1e-5)


def test_mistake_8_logits_are_resized_before_the_softmax():
    student, teacher = maps(1, 3, 8, 8), maps(1, 3, 4, 4, seed=1)
    grown = functional.interpolate(teacher, (8, 8), mode="bilinear", align_corners=False)
    log_q = student.double().log_softmax(1).numpy()
    wanted = entropy(softmax64(grown.double().numpy(), axis=1), np.exp(log_q), axis=1).mean()
    found = losses.pixel_kl(student, teacher, 1.0).item()
    assert found == pytest.approx(wanted, rel=1e-5)
    late = functional.interpolate(teacher.softmax(1), (8, 8), mode="bilinear", align_corners=False)
    assert found != pytest.approx(rel_entr(late.double().numpy(), np.exp(log_q)).sum(1).mean(), rel=1e-2)
    for loss in (losses.bernoulli_kl, losses.channel_kl):
        assert loss(student, teacher, 2.0) == loss(student, grown, 2.0)


def test_equal_sizes_are_left_alone():
    logits = maps(1, 2, 4, 4)
    assert losses.resize_logits(logits, (4, 4)) is logits
    assert losses.resize_logits(logits, (8, 2)).shape == (1, 2, 8, 2)


@pytest.mark.parametrize("loss", DISTILLATION)
@pytest.mark.parametrize("size", [1e2, 1e4])
def test_mistake_9_a_wide_range_of_logits_stays_finite(loss, size):
    student, teacher = maps(1, 3, 4, 4).sign() * size, maps(1, 3, 4, 4, seed=1).sign() * size
    assert torch.tensor([0.0, -size * 2]).softmax(0).log().isinf().any()
    assert loss(student, teacher, 1.0).isfinite()
    assert gradient(loss, student, teacher, 1.0).isfinite().all()


def test_one_sure_and_wrong_logit_costs_its_size():
    # KL(1 || sigmoid(-z)) = z for large z.
    assert losses.bernoulli_kl(pixels((-1e4,)), pixels((1e4,)), 1.0).item() == pytest.approx(1e4)
    assert losses.bernoulli_kl(pixels((1e4,)), pixels((-1e4,)), 1.0).item() == pytest.approx(1e4)


# --- precision, gradients, waiting ---


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_comes_in_and_float32_comes_out(dtype):
    student, teacher = maps(2, 3, 4, 4).to(dtype), maps(2, 3, 4, 4, seed=1).to(dtype)
    labels = numbers((2, 4, 4), 3)
    calls = [(loss, teacher, 2.0) for loss in DISTILLATION] + [(losses.cross_entropy, labels), (losses.dice, labels)]
    calls += [(loss, teacher) for loss in FEATURES]
    for loss, *rest in calls:
        wide = [value.float() if value is teacher else value for value in rest]
        found = loss(student, *rest)
        assert found.dtype == torch.float32
        assert found == loss(student.float(), *wide)
        assert gradient(loss, student, *rest).dtype == dtype


def test_autocast_does_not_lower_the_precision():
    student, teacher = maps(2, 6, 16, 16), maps(2, 6, 16, 16, seed=1)
    for loss, *rest in (*((loss,) for loss in FEATURES), (losses.pixel_kl, 2.0), (losses.channel_kl, 2.0)):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = loss(student, teacher, *rest)
        assert inside == loss(student, teacher, *rest)


def test_no_gradient_flows_into_the_teacher():
    student, teacher = maps(1, 3, 4, 4).requires_grad_(), maps(1, 3, 4, 4, seed=1).requires_grad_()
    before = teacher.detach().clone()
    total = sum(loss(student, teacher, 2.0, mask(1, 4, 4)) for loss in DISTILLATION)
    (total + sum(loss(student, teacher) for loss in FEATURES)).backward()
    assert teacher.grad is None
    assert student.grad.isfinite().all()
    assert torch.equal(teacher, before)


def test_no_loss_asks_a_tensor_for_its_values():
    """On `meta` there are no values: whatever would wait for a GPU or make a shape depend on data fails."""
    logits, teacher = torch.zeros(2, 3, 8, 8, device="meta", requires_grad=True), torch.zeros(2, 3, 4, 4, device="meta")
    labels = torch.zeros(2, 8, 8, device="meta", dtype=torch.long)
    valid = labels == 0
    with pytest.raises((RuntimeError, NotImplementedError)):
        logits[valid[:, None].expand_as(logits)]
    total = losses.cross_entropy(logits, labels, valid, torch.ones(3, device="meta"))
    total = total + losses.dice(logits, labels, valid) + sum(loss(logits, teacher, valid) for loss in FEATURES)
    total = total + losses.binary_cross_entropy(logits[:, :1], labels, valid)
    for loss in DISTILLATION:
        total = total + losses.combine(total, loss(logits, teacher, 2.0, valid), 0.5)
    total.backward()
    assert logits.grad.shape == logits.shape


def test_one_graph_holds_the_whole_loss():
    """`fullgraph` refuses what reads values."""
    student, teacher, valid = maps(2, 3, 8, 8), maps(2, 3, 4, 4, seed=1), mask(2, 8, 8)
    calls = [(loss, teacher, 2.0, valid) for loss in DISTILLATION]
    calls += [(loss, teacher, valid) for loss in FEATURES]
    for loss, *rest in calls:
        compiled = torch.compile(loss, fullgraph=True, backend="eager")
        assert compiled(student, *rest) == loss(student, *rest)


# --- errors that say what to do ---


@pytest.mark.parametrize("temperature", [0, 0.5, 20.5, math.nan, math.inf])
@pytest.mark.parametrize("loss", DISTILLATION)
def test_temperature_has_bounds(loss, temperature):
    with pytest.raises(SettingsError, match="1 to 20"):
        loss(maps(1, 2, 4, 4), maps(1, 2, 4, 4), temperature)


@pytest.mark.parametrize("loss", DISTILLATION)
def test_other_classes_or_images_are_refused_with_both_shapes(loss):
    for other in ((1, 3, 4, 4), (2, 2, 4, 4)):
        with pytest.raises(KdcoreError, match=r"\(1, 2, 4, 4\).*" + str(other).replace("(", r"\(").replace(")", r"\)")):
            loss(maps(1, 2, 4, 4), maps(*other), 2.0)


def test_wrong_masks_labels_and_features_are_refused():
    logits, labels = maps(1, 2, 4, 4), numbers((1, 4, 4), 2)
    valid = mask(1, 4, 4)
    wrong = [
        (losses.pixel_kl, "use bernoulli_kl", logits[:, :1], logits[:, :1], 2.0),
        (losses.pixel_kl, "four axes", logits[0], logits[0], 2.0),
        (losses.pixel_kl, "bool mask", logits, logits, 2.0, valid.float()),
        (losses.channel_kl, r"bool mask of \(1, 4, 4\)", logits, logits, 2.0, mask(1, 2, 2)),
        (losses.cross_entropy, "use bernoulli_kl or binary", logits[:, :1], labels),
        (losses.cross_entropy, r"\(1, 3, 4\).*\(1, 2, 4, 4\)", logits, labels[:, 1:]),
        (losses.cross_entropy, "give integers", logits, labels.float()),
        (losses.cross_entropy, "one per class", logits, labels, valid, torch.ones(3)),
        (losses.cross_entropy, "bool mask", logits, labels, labels),
        (losses.binary_cross_entropy, "use cross_entropy", logits, labels),
        (losses.dice, "give integers", logits, labels[:, 1:]),
        *((loss, "`projection` in between", logits, maps(1, 3, 4, 4)) for loss in FEATURES),
        *((loss, "bool mask", logits, logits, mask(2, 4, 4)) for loss in FEATURES),
    ]
    for loss, message, *arguments in wrong:
        with pytest.raises(SettingsError, match=message):
            loss(*arguments)


def test_feature_positions_take_the_nearest_value_of_a_finer_mask():
    student, teacher = torch.zeros(1, 2, 2, 2), torch.ones(1, 2, 2, 2)
    teacher[..., 1] = 5
    valid = torch.ones(1, 8, 8, dtype=torch.bool)
    valid[:, :, 4:] = False
    assert losses.feature_mse(student, teacher, valid).item() == 1


class TestPseudoLabels:
    def test_are_the_cross_entropy_with_the_teacher_s_class(self):
        """Three pixels of a student of (log 3, 0): the teacher names class 0, 1, 0, the last of them nodata: (log 4/3 + log 4) / 2."""
        student = torch.tensor([math.log(3), 0.0]).reshape(1, 2, 1, 1).repeat(1, 1, 1, 3)
        teacher = torch.tensor([[9.0, 0.1, math.nan], [0.0, 0.2, 0.0]]).reshape(1, 2, 1, 3)
        valid = torch.tensor([[[True, True, False]]])
        expected = (math.log(4 / 3) + math.log(4)) / 2
        assert float(losses.pseudo_labels(student, teacher, valid)) == pytest.approx(expected)

    def test_of_one_logit(self):
        """A student of log 3, that is 3/4; the teacher says yes, then no."""
        student = torch.full((1, 1, 1, 2), math.log(3))
        teacher = torch.tensor([0.1, -0.1]).reshape(1, 1, 1, 2)
        assert float(losses.pseudo_labels(student, teacher)) == pytest.approx((math.log(4 / 3) + math.log(4)) / 2)

    def test_send_no_gradient_into_the_teacher(self):
        student, teacher = (torch.randn(1, 3, 2, 2, requires_grad=True) for _ in range(2))
        losses.pseudo_labels(student, teacher).backward()
        assert teacher.grad is None
        assert student.grad.abs().sum() > 0

    def test_need_the_same_classes(self):
        with pytest.raises(SettingsError, match="do not fit"):
            losses.pseudo_labels(torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2, 2))


class TestConfidence:
    def test_is_the_highest_probability(self):
        """3/4, 1/2 and, of the other class, 3/4 on nodata: at 0.7 one of two valid pixels."""
        logits = torch.tensor([[math.log(3), 0.0, 0.0], [0.0, 0.0, math.log(3)]]).reshape(1, 2, 1, 3)
        counted, share = losses.confident(logits, 0.7, torch.tensor([[[True, True, False]]]))
        assert counted.flatten().tolist() == [True, False, False]
        assert float(share) == 0.5

    def test_of_one_logit_counts_both_answers(self):
        """log 3 is 3/4 yes, -log 3 is 3/4 no, 0 is neither."""
        logits = torch.tensor([math.log(3), -math.log(3), 0.0]).reshape(1, 1, 1, 3)
        counted, share = losses.confident(logits, 0.7, torch.ones(1, 1, 3, dtype=torch.bool))
        assert counted.flatten().tolist() == [True, True, False]
        assert float(share) == pytest.approx(2 / 3)

    def test_of_nothing_valid_is_no_share(self):
        counted, share = losses.confident(torch.zeros(1, 1, 1, 1), 0.5, torch.zeros(1, 1, 1, dtype=torch.bool))
        assert (counted.any(), float(share)) == (False, 0)
