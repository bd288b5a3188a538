"""What keeping soft labels takes, by hand."""

import pytest

from kdcore.data.collection import Extent
from kdcore.jobs.forecast import Costs
from kdcore.settings import PRESETS, Budget, Hardware, Recipe, StudySettings, TeacherSettings
from kdcore.teacher.cost import SoftLabelCost, soft_label_cost

SMALL = Budget(steps=100, batch_size=2, crop=64)
KEPT = Recipe()  # the teacher is asked about the scenes, once
EXTENT = Extent(train=1000, unlabelled=500, logits=1)


def test_what_keeping_soft_labels_takes_is_told_before():
    """Two bytes for each of eight views of each pixel; windows overlap, and a look costs a third of a training step."""
    one_second_a_pixel = Costs(alone={("cpu", PRESETS["base"]): [3.0]})
    looked_at = (512 / 384) ** 2
    kept = soft_label_cost(settings(recipe=KEPT), EXTENT, one_second_a_pixel)
    assert kept == SoftLabelCost(1000 * 8 * 2, 8, pytest.approx(1000 * 8 * looked_at))
    one = Hardware(device="cpu", cache_views="one")  # one window in eight is compared with another view
    kept = soft_label_cost(settings(recipe=KEPT, hardware=one), EXTENT, one_second_a_pixel)
    assert kept == SoftLabelCost(1000 * 2, 1, pytest.approx(1000 * (1 + 1 / 8) * looked_at))
    assert soft_label_cost(settings(recipe=KEPT), EXTENT, Costs()).seconds is None


@pytest.mark.parametrize(
    ("values", "pixels", "each"),
    [
        ({"recipe": Recipe(alpha=0.9, unlabelled=1)}, 1500, 1),
        ({"labels": 0.1, "recipe": Recipe(alpha=0.9, unlabelled=1)}, 1500, 1),
        ({"labels": 0.1, "recipe": KEPT}, 100, 1),
        ({"recipe": KEPT, "teacher": TeacherSettings(seeds=(0, 1, 2), budget=SMALL)}, 1000, 3),
        (
            {
                "recipe": KEPT,
                "teacher": TeacherSettings(flips=True, budget=SMALL),
                "hardware": Hardware(cache_views="one"),
            },
            1000,
            1,
        ),
    ],
)
def test_soft_labels_are_of_what_students_see(values, pixels, each):
    assert soft_label_cost(settings(**values), EXTENT, Costs()).bytes == pixels * each * 8 * 2
    several = Extent(EXTENT.train, EXTENT.unlabelled, 5)  # five logits, kept as six numbers
    assert soft_label_cost(settings(**values), several, Costs()).bytes == pixels * each * 8 * 2 * 6


def test_nothing_is_kept_where_nobody_is_asked_or_at_each_step():
    assert soft_label_cost(settings(recipe=Recipe(alpha=0)), EXTENT, Costs()) is None
    assert soft_label_cost(settings(recipe=Recipe(teacher_sees="crop")), EXTENT, Costs()) is None


def settings(**values) -> StudySettings:
    base = {"teacher": TeacherSettings(network=PRESETS["base"], budget=SMALL), "hardware": Hardware(device="cpu")}
    return StudySettings(**(base | values))
