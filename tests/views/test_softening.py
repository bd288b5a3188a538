"""Temperature on stored probabilities is temperature on logits."""

import numpy as np
import pytest
from scipy.special import softmax

from kdcore.views.softening import SURENESS, soften, telling_pixels
from tests.conftest import write_raster


@pytest.mark.parametrize("temperature", [1, 1.5, 4, 20])
def test_softened_probabilities_are_those_of_the_divided_logits(temperature):
    logits = np.array([3.0, 1.0, 0.2, -1.5])
    assert soften(softmax(logits), temperature) == pytest.approx(softmax(logits / temperature), abs=1e-12)


def test_at_temperature_one_nothing_changes():
    assert soften(np.array([0.7, 0.2, 0.1]), 1) == pytest.approx([0.7, 0.2, 0.1])


def test_a_stored_zero_is_half_a_step_and_not_impossible():
    softened = soften(np.array([1.0, 0.0]), 4)
    odds = (0.5 / 254) ** (1 / 4)
    assert softened == pytest.approx([1 / (1 + odds), odds / (1 + odds)])


def levels(*pixels):
    """Maps (classes, 1, pixels) with these probabilities."""
    return np.rint(254 * np.array(pixels)).T[:, None, :].astype(np.uint8)


def test_pixels_are_found_by_how_sure_the_teacher_is(tmp_path):
    stack = levels((0.97, 0.02, 0.01), (0.80, 0.20, 0.0), (0.80, 0.10, 0.10), (0.52, 0.40, 0.08), (0.34, 0.33, 0.33))
    write_raster(tmp_path / "town.tif", stack, nodata=255)
    sure, doubt, torn = telling_pixels(tmp_path)
    assert [pixel.kind for pixel in (sure, doubt, torn)] == list(SURENESS)
    assert (sure.column, torn.column) == (0, 3)
    assert doubt.column == 2  # of two that are as sure, the one whose doubt is spread over more classes
    assert sure.probabilities == pytest.approx([0.97, 0.02, 0.01], abs=0.004)
    assert (sure.scene, sure.row) == ("town", 0)


def test_one_map_stands_for_two_classes_and_nodata_is_left_out(tmp_path):
    stack = levels((0.2,), (0.03,))
    stack[0, 0, 1] = 255
    write_raster(tmp_path / "town.tif", stack, nodata=255)
    (pixel,) = telling_pixels(tmp_path)
    assert pixel.probabilities == pytest.approx([0.8, 0.2], abs=0.004)


def test_where_no_such_pixel_is_none_is_made_up(tmp_path):
    write_raster(tmp_path / "town.tif", levels((1.0, 0.0)), nodata=255)
    assert telling_pixels(tmp_path) == []
    assert telling_pixels(tmp_path / "nothing") == []
