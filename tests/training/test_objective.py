"""The terms of the objective by hand: two positions of one class, whose teacher says (log 3, 0) and whose student (0, 0).

At T = 1 the student's probabilities are (1/2, 1/2). Pixel by pixel the teacher's are (3/4, 1/2), so the pixel-wise term is half of
KL(3/4 to 1/2) = 0.1308. Over the two positions the teacher's are (3/4, 1/4): the channel-wise term is 0.1308.
"""

import dataclasses
import math

import pytest
import torch

from kdcore.data.batches import Batch
from kdcore.settings import Recipe
from kdcore.training.objective import compute_loss

KL = 3 / 4 * math.log(3 / 2) + 1 / 4 * math.log(1 / 2)
TEACHER = torch.tensor([math.log(3), 0.0]).reshape(1, 1, 1, 2)
BATCH = Batch(
    torch.zeros(1, 3, 1, 2), torch.tensor([[[1, 0]]], dtype=torch.uint8), torch.ones(1, 1, 2, dtype=torch.bool)
)


def test_channels_are_added_with_their_weight():
    student = torch.zeros(1, 1, 1, 2, requires_grad=True)
    terms = compute_loss(student, TEACHER, BATCH, Recipe(temperature=1, alpha=0.5, channels=3))
    assert set(terms) == {"loss", "task", "distillation", "channels"}
    assert float(terms["task"].detach()) == pytest.approx(math.log(2))
    assert float(terms["distillation"].detach()) == pytest.approx(KL / 2)
    assert float(terms["channels"].detach()) == pytest.approx(KL)
    assert float(terms["loss"].detach()) == pytest.approx(0.5 * math.log(2) + 0.5 * (KL / 2 + 3 * KL))
    terms["loss"].backward()
    # task (q - label) / 2 = (-1/4, 1/4); pixels (q - p) / 2 = (-1/8, 0); channels q - p = (-1/4, 1/4), three times.
    expected = [0.5 * -1 / 4 + 0.5 * (-1 / 8 - 3 / 4), 0.5 * 1 / 4 + 0.5 * 3 / 4]
    assert student.grad.flatten().tolist() == pytest.approx(expected)


def test_features_are_added_with_their_weight():
    """Features of (1, 2) against (1, 4) give 2, and a gradient of 2 * (0, -2) / 2."""
    projected = torch.tensor([1.0, 2.0]).reshape(1, 2, 1, 1).requires_grad_()
    teacher = torch.tensor([1.0, 4.0]).reshape(1, 2, 1, 1)
    recipe = Recipe(temperature=1, alpha=0.5, features=0.25)
    terms = compute_loss(torch.zeros(1, 1, 1, 2), TEACHER, BATCH, recipe, (projected, teacher))
    assert set(terms) == {"loss", "task", "distillation", "features"}
    assert float(terms["features"].detach()) == pytest.approx(2)
    assert float(terms["loss"].detach()) == pytest.approx(0.5 * math.log(2) + 0.5 * (KL / 2 + 0.25 * 2))
    terms["loss"].backward()
    assert projected.grad.flatten().tolist() == pytest.approx([0, 0.5 * 0.25 * -2])


def test_a_hint_is_added_with_its_weight():
    """(3, 4) against (1, 0), both of length 1, give 0.8."""
    features = torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1), torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1)
    recipe = Recipe(temperature=1, alpha=0.5, hint=2)
    terms = compute_loss(torch.zeros(1, 1, 1, 2), TEACHER, BATCH, recipe, features)
    assert set(terms) == {"loss", "task", "distillation", "hint"}
    assert float(terms["hint"]) == pytest.approx(0.8)
    assert float(terms["loss"]) == pytest.approx(0.5 * math.log(2) + 0.5 * (KL / 2 + 2 * 0.8))


def test_both_terms_together_at_alpha_1_leave_labels_out():
    features = (torch.zeros(1, 2, 1, 1), torch.tensor([1.0, 3.0]).reshape(1, 2, 1, 1))
    recipe = Recipe(temperature=1, alpha=1, channels=2, features=0.1)
    terms = compute_loss(torch.zeros(1, 1, 1, 2), TEACHER, BATCH, recipe, features)
    assert float(terms["task"]) == 0
    assert float(terms["loss"]) == pytest.approx(KL / 2 + 2 * KL + 0.1 * (1 + 9) / 2)


@pytest.mark.parametrize("classes", [1, 5])
def test_a_batch_without_nodata_is_not_masked_and_costs_the_same(classes):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, classes, 8, 8, generator=generator) for _ in range(2))
    labels = torch.randint(max(2, classes), (2, 8, 8), generator=generator, dtype=torch.uint8)
    labels[0, :3] = 255
    recipe = Recipe(temperature=2, alpha=0.5, channels=1, task="cross_entropy+dice")
    masked = Batch(torch.zeros(2, 3, 8, 8), labels, torch.ones(2, 8, 8, dtype=torch.bool))
    without = dataclasses.replace(masked, valid=torch.zeros(2, 8, 8, dtype=torch.bool), complete=True)  # not looked at
    for name, value in compute_loss(student, teacher, masked, recipe).items():
        torch.testing.assert_close(compute_loss(student, teacher, without, recipe)[name], value)


@pytest.mark.parametrize("classes", [1, 5])
@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_a_student_that_says_what_the_teacher_says_costs_nothing_and_stays(classes, temperature):
    logits = torch.randn(2, classes, 8, 8, generator=torch.Generator().manual_seed(0))
    batch = Batch(
        torch.zeros(2, 3, 8, 8),
        torch.zeros(2, 8, 8, dtype=torch.uint8),
        torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(1)) < 0.7,
    )
    features = logits.clone()
    student, projected = logits.clone().requires_grad_(), features.clone().requires_grad_()
    recipe = Recipe(temperature=temperature, alpha=1, channels=3, features=1, hint=1)
    terms = compute_loss(student, logits, batch, recipe, (projected, features))
    assert float(terms["loss"].detach()) == pytest.approx(0, abs=1e-5)
    terms["loss"].backward()
    assert student.grad.abs().max() < 1e-5
    assert projected.grad.abs().max() == 0


@pytest.mark.parametrize("classes", [1, 5])
def test_nodata_has_no_part_in_any_term(classes):
    """Whatever teacher, student and features say there, every term is the same."""
    generator = torch.Generator().manual_seed(0)
    valid = torch.rand(2, 8, 8, generator=generator) < 0.6
    labels = torch.randint(0, max(2, classes), (2, 8, 8), generator=generator).to(torch.uint8)
    labels[:, :3] = 255  # not labelled, but seen
    batch = Batch(torch.zeros(2, 3, 8, 8), labels, valid)
    tensors = [torch.randn(2, count, 8, 8, generator=generator) for count in (classes, classes, 4, 4)]
    others = [torch.where(valid[:, None], tensor, 100.0) for tensor in tensors]
    recipe = Recipe(alpha=0.5, channels=3, features=1, hint=1, task="cross_entropy+dice")
    terms, again = (compute_loss(s, t, batch, recipe, (p, f)) for s, t, p, f in (tensors, others))
    assert {name: float(value) for name, value in terms.items()} == pytest.approx(
        {name: float(value) for name, value in again.items()}
    )


def test_a_rare_class_weighs_as_much_as_a_common_one_between_channels():
    """Teachers of one building pixel and of fifty differ from the student by the same divergence: the softmax is over positions."""

    def channel(pixels: int) -> float:
        teacher = torch.zeros(1, 1, 1, 100)
        teacher[..., :pixels] = 50.0
        wrong = torch.zeros(1, 1, 1, 100)
        wrong[..., -pixels:] = 50.0
        batch = Batch(torch.zeros(1, 3, 1, 100), torch.zeros(1, 1, 100, dtype=torch.uint8), torch.ones(1, 1, 100) > 0)
        return float(compute_loss(wrong, teacher, batch, Recipe(temperature=1, alpha=1, channels=1))["channels"])

    assert channel(1) == pytest.approx(50, rel=1e-3)
    assert channel(50) == pytest.approx(50, rel=1e-3)


def test_pseudo_labels_below_the_confidence_count_nothing():
    """Probabilities 3/4 and 1/2: with 0.7 only the first position counts, which costs the student -log 1/2, in a mean over both."""
    recipe = Recipe(alpha=0.5, distillation="hard", confidence=0.7)
    terms = compute_loss(torch.zeros(1, 1, 1, 2), TEACHER, BATCH, recipe)
    assert float(terms["distillation"]) == pytest.approx(math.log(2) / 2)
    assert float(terms["loss"]) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2) / 2)


def test_confidence_leaves_out_soft_labels_as_well():
    """The second position's KL is 0 anyway. With 0.8 neither counts, and nothing is learnt from the teacher."""
    for confidence, expected in ((0.0, KL / 2), (0.7, KL / 2), (0.8, 0.0)):
        recipe = Recipe(alpha=0.5, temperature=1, confidence=confidence, channels=1)
        terms = compute_loss(torch.zeros(1, 1, 1, 2), TEACHER, BATCH, recipe)
        assert float(terms["distillation"]) == pytest.approx(expected)
        assert float(terms["channels"]) == pytest.approx(KL)  # the main term only
