"""From what was chosen to settings."""

from dataclasses import replace
from pathlib import Path

import pytest

from kdcore.errors import SettingsError
from kdcore.models.networks import build_network, count_parameters
from kdcore.recipes import name_of
from kdcore.settings import PRESETS, RECIPES, STUDY_PRESETS
from kdcore.ui import choices
from kdcore.ui.choices import AS_PRESET, Choices, EarlierTeacher, has_unlabelled
from tests.conftest import write_collection


def chosen(preset: str = "quick", **values) -> Choices:
    everything = choices.preset_values(preset) | values
    own = {name: everything.pop(name) for name in choices.OWN_PARTS}
    return Choices(preset=preset, own=own, **everything)


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


@pytest.mark.parametrize("name", RECIPES)
def test_a_named_recipe_left_alone_is_that_recipe(name):
    assert chosen(recipe=name, **choices.recipe_values(RECIPES[name])).settings().recipe == RECIPES[name]
    assert name_of(RECIPES[name]) == name


def test_a_named_recipe_brings_what_has_no_knob_and_the_knobs_come_over_it():
    recipe = chosen(recipe="patient", temperature=4, alpha=0.9).settings().recipe
    assert recipe == RECIPES["patient"].model_copy(update={"temperature": 4, "alpha": 0.9})


def test_one_s_own_recipe_is_what_every_knob_says():
    recipe = chosen(recipe="own", alpha=0.8, unlabelled=2.0, channels=3.0, mix="cutmix").settings().recipe
    assert (recipe.alpha, recipe.unlabelled, recipe.channels, recipe.mix) == (0.8, 2, 3, "cutmix")
    assert name_of(recipe) == "own"
    assert chosen(recipe="own", mix="mixup").settings().recipe.teacher_sees == "crop"


@pytest.mark.parametrize("name", RECIPES)
def test_with_alpha_zero_every_recipe_is_without_its_teacher(name):
    values = choices.recipe_values(RECIPES[name]) | {"alpha": 0.0}
    recipe = chosen(recipe=name, **values).settings().recipe
    assert (recipe.alpha, recipe.unlabelled, recipe.channels, recipe.features) == (0, 0, 0, 0)


def test_a_share_of_the_labels_equal_time_and_a_stronger_teacher_arrive():
    settings = chosen(labels=10, match="seconds", teacher_seeds=3, teacher_flips=True, views="one").settings()
    assert (settings.labels, settings.match) == (0.1, "seconds")
    assert settings.trains_all_labels
    assert not chosen(labels=10, upper_bound=False).settings().trains_all_labels
    assert settings.hardware.cache_views == "one"
    assert (settings.teacher.seeds, settings.teacher.flips) == ((0, 1, 2), True)


def test_imagery_without_labels_is_looked_for(tmp_path):
    path = write_collection(tmp_path / "without")
    assert not has_unlabelled(str(path))
    assert has_unlabelled(str(write_collection(tmp_path / "with", unlabelled=True).parent))
    assert has_unlabelled("demo")
    assert not has_unlabelled("/nowhere")
    path.write_text("[")
    assert not has_unlabelled(str(path))


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
