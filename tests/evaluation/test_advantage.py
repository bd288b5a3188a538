"""Whether a teacher can teach: the sentence that follows from points and interval."""

import numpy as np
import pytest

from kdcore.evaluation.advantage import in_words, teacher_advantage
from kdcore.evaluation.summary import means
from tests.evaluation.test_compare import network, scores_from, some_labels


@pytest.fixture
def trained():
    """Scores on the same labels of networks of any skill."""
    labels = some_labels(np.random.default_rng(3))
    return lambda skill, seed: scores_from(network(np.random.default_rng(seed), labels, skill), labels)


def test_a_teacher_that_is_clearly_better(trained):
    teacher, alone = trained(90, 1), [trained(40, 2), trained(40, 3)]
    found = teacher_advantage(teacher, alone)
    expected = 100 * (means(teacher)["mean_ap"] - np.mean([means(scores)["mean_ap"] for scores in alone]))
    assert found["points"]["mean"] == pytest.approx(float(expected))
    assert found["points"]["low"] > 0
    assert found["clear"]
    assert found["seeds"] == 2
    assert "it can hardly teach" not in found["sentence"]


def test_a_teacher_that_is_the_student_is_no_better(trained):
    same = trained(50, 5)
    found = teacher_advantage(same, [same])
    assert found["points"] == {"mean": 0, "low": 0, "high": 0}
    assert not found["clear"]
    assert found["sentence"].startswith("The teacher is only 0.0 points better")


@pytest.mark.parametrize(
    ("points", "clear", "sentence"),
    [
        (
            (0.8, -0.5, 2.1),
            False,
            "The teacher is only 0.8 points better than the student alone on validation (-0.5 to +2.1): it can hardly teach anything. "
            "Continue to train it before you judge distillation.",
        ),
        (
            (-1.24, -2, -0.4),
            False,
            "The teacher is 1.2 points worse than the student alone on validation (-2.0 to -0.4): it can hardly teach anything. "
            "Continue to train it before you judge distillation.",
        ),
        (
            (2.6, -0.3, 5.5),
            False,
            "The teacher is 2.6 points better than the student alone on validation (-0.3 to +5.5), but that is uncertain: label more of "
            "the validation part, or continue to train the teacher, before you judge distillation.",
        ),
        (
            (5.0, 3.1, 7.2),
            True,
            "The teacher is 5.0 points better than the student alone on validation (+3.1 to +7.2).",
        ),
        ((5.0, np.nan, np.nan), True, "The teacher is 5.0 points better than the student alone on validation."),
    ],
)
def test_the_words(points, clear, sentence):
    assert in_words(*points, clear) == sentence
