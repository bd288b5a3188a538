"""From what was chosen to settings."""

from dataclasses import replace
from pathlib import Path

import pytest

from kdcore.errors import SettingsError
from kdcore.models.networks import build_network, count_parameters
from kdcore.settings import PRESETS, STUDY_PRESETS
from kdcore.ui import choices
from kdcore.ui.choices import AS_PRESET, Choices, EarlierTeacher


def chosen(preset: str = "quick", **values) -> Choices:
    return Choices(preset=preset, **(choices.preset_values(preset) | values))


@pytest.mark.parametrize("preset", STUDY_PRESETS)
def test_a_preset_left_alone_gives_its_own_settings(preset):
    assert chosen(preset).settings() == STUDY_PRESETS[preset]


def test_what_is_chosen_arrives():
    settings = chosen(
        temperature=8,
        alpha=0.3,
        teacher="large",
        student="small",
        steps=70,
        teacher_steps=90,
        seeds=2,
        batch_size=3,
        crop=96,
    ).settings()
    assert (settings.recipe.temperature, settings.recipe.alpha) == (8, 0.3)
    assert (settings.teacher.network, settings.student) == (PRESETS["large"], PRESETS["small"])
    assert (settings.budget.steps, settings.teacher.budget.steps) == (70, 90)
    assert settings.seeds == (0, 1)
    assert {(b.batch_size, b.crop) for b in (settings.budget, settings.teacher.budget)} == {(3, 96)}


def test_an_earlier_teacher_is_named_instead_of_trained():
    earlier = EarlierTeacher("Before", Path("/studies/before/best.safetensors"), PRESETS["large"], 4, 0.9)
    teacher = replace(chosen(), reused=earlier).settings().teacher
    assert teacher.checkpoints == (Path("/studies/before/best.safetensors"),)
    assert (teacher.network, teacher.seeds) == (PRESETS["large"], (4,))


def test_a_network_of_the_preset_s_own_stays():
    assert chosen(teacher=AS_PRESET, student=AS_PRESET).settings() == STUDY_PRESETS["quick"]


def test_what_does_not_fit_is_refused_by_name():
    with pytest.raises(SettingsError, match=r"budget\.crop"):
        chosen(crop=100).settings()


@pytest.mark.parametrize("name", PRESETS)
def test_the_sizes_on_screen_are_those_of_the_networks(name):
    network = build_network(PRESETS[name], 3, 5, [0.0] * 3, [1.0] * 3, seed=0)
    assert count_parameters(network) == choices.PARAMETERS[name]


def test_a_student_slider_goes_from_small_to_large():
    sizes = [choices.PARAMETERS[name] for name in choices.STUDENTS]
    assert sizes == sorted(sizes)
