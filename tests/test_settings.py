"""Settings: YAML in and out unchanged, and wrong values named with their mend."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdcore import losses
from kdcore.errors import SettingsError
from kdcore.recipes import current_name, name_of
from kdcore.settings import (
    ADDED,
    CHOICES,
    DISTILLATIONS,
    NOT_OFFERED,
    OF_FEATURES,
    PRESETS,
    RECIPES,
    STUDY_PRESETS,
    Budget,
    CollectionSettings,
    Hardware,
    Recipe,
    RunSettings,
    SearchSpace,
    StudySettings,
    SweepSettings,
    TeacherSettings,
    fingerprint,
    limits,
    load,
    load_study,
    save,
    sentence,
    validate,
)


@pytest.mark.parametrize("name", STUDY_PRESETS)
def test_presets_survive_yaml(tmp_path, name):
    save(STUDY_PRESETS[name], tmp_path / "study.yaml")
    assert load(StudySettings, tmp_path / "study.yaml") == STUDY_PRESETS[name]


@given(st.floats(1, 20), st.floats(0, 1))
def test_every_temperature_and_alpha_in_range_is_accepted(temperature, alpha):
    recipe = Recipe(temperature=temperature, alpha=alpha)
    assert (recipe.temperature, recipe.alpha) == (temperature, alpha)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"recipe": {"alpha": 1.2}}, "recipe.alpha.*less than or equal to 1.*found '1.2'"),
        ({"recipe": {"alpha": -0.1}}, "recipe.alpha"),
        ({"recipe": {"temperature": 0.5}}, "recipe.temperature.*greater than or equal to 1"),
        ({"recipe": {"temperature": 21}}, "recipe.temperature"),
        ({"recipe": {"temprature": 2}}, "recipe.temprature: is not a setting"),
        ({"budget": {"crop": 100}}, "budget.crop.*multiple of 32"),
        ({"seeds": [0, 0]}, "seeds must be different"),
        ({"seeds": []}, "seeds"),
        ({"student": "huge"}, "choose a preset"),
        ({"recipe": {"alpha": 0, "unlabelled": 1}}, "no teacher either"),
        ({"recipe": {"distillation": "dkd"}}, "recipe.distillation: dkd is not offered.*one class is always 1"),
        ({"recipe": {"distillation": ["dkd"]}}, "'pixel', 'channel' or 'hard'"),
        ({"recipe": {"mix": "blur"}}, "recipe.mix"),
        (
            {"recipe": {"features": 1}, "teacher": {"seeds": [0, 1]}},
            "an ensemble of 2 networks .* set the recipe's features: 0",
        ),
        ({"recipe": {"features": 1}, "teacher": {"flips": True}}, "turned views has no features"),
        ({"recipe": {"features": 1}, "teacher": {"checkpoints": ["a.onnx"]}}, "an ONNX file gives predictions only"),
    ],
)
def test_wrong_study_settings_are_named(values, words):
    with pytest.raises(SettingsError, match=words):
        validate(StudySettings, values, "study.yaml")


COLLECTION = {
    "name": "x",
    "classes": [{"name": "a", "value": 0}, {"name": "b", "value": 1}],
    "split": {"train": ["a"], "validation": ["b"], "test": ["c"]},
}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"classes": [{"name": "a"}]}, "one class only"),
        ({"classes": [{"name": "a"}, {"name": "a"}]}, "'a' belongs to two classes"),
        ({"classes": [{"name": "a", "value": 1}, {"name": "b"}]}, "every class its value|every class its `value`"),
        ({"classes": [{"name": "a", "colour": "red"}, {"name": "b"}]}, "'red' is no colour"),
        ({"name": "../x"}, "no usable name"),
        ({"images": "/etc"}, "outside the collection's folder"),
        ({"scene": "tile(.*"}, "no regular expression"),
        ({"scene": "tile(.*)"}, "named group"),
        ({"split": {"by": "block", "train": ["a"], "validation": ["b"], "test": ["c"]}}, "needs `grid"),
        ({"split": {"train": [], "validation": ["b"], "test": ["c"]}}, "train part of the split is empty"),
        ({"bands": [0, 1]}, "numbered from 1"),
    ],
)
def test_wrong_collection_settings_are_named(values, words):
    with pytest.raises(SettingsError, match=words):
        validate(CollectionSettings, COLLECTION | values, "collection.yaml")


def test_alpha_needs_a_teacher():
    values = {
        "arm": "distilled",
        "seed": 0,
        "collection": "c",
        "network": "tiny",
        "recipe": {"alpha": 0.5},
        "budget": {},
    }
    with pytest.raises(SettingsError, match="needs a teacher"):
        validate(RunSettings, values, "run")


def test_networks_by_name():
    values = {"student": "tiny", "teacher": {"network": "fpn/resnet18"}}
    settings = validate(StudySettings, values, "study.yaml")
    assert settings.student == PRESETS["tiny"]
    assert (settings.teacher.network.architecture, settings.teacher.network.encoder) == ("fpn", "resnet18")


def test_one_trained_network_can_teach_with_its_features():
    settings = validate(StudySettings, {"recipe": {"features": 1}, "teacher": {"checkpoints": ["a.safetensors"]}}, "s")
    assert settings.recipe.features == 1


def test_a_run_refuses_features_of_a_teacher_that_has_none():
    values = {"arm": "distilled", "seed": 0, "collection": "c", "network": "tiny", "budget": {}}
    values |= {"recipe": {"features": 0.5}, "teacher": ["a.safetensors", "b.safetensors"]}
    with pytest.raises(SettingsError, match="an ensemble of 2 networks"):
        validate(RunSettings, values, "run")


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_settings_that_a_file_can_hold(name):
    recipe = RECIPES[name]
    assert validate(Recipe, recipe.model_dump(mode="json"), "recipe") == recipe
    # What the recipe asks of the student alone is the same crops, mixed alike, without the teacher.
    assert recipe.alone.mix == recipe.mix
    assert validate(Recipe, recipe.alone.model_dump(mode="json"), "recipe").alpha == 0


# As the version before the registry of losses wrote it.
FORMER_RECIPE = """\
temperature: 2.0
alpha: 0.5
task: cross_entropy
distillation: pixel
unlabelled: 0.0
channels: 3.0
features: 0.0
mix: none
teacher_sees: scene
"""


def test_a_recipe_written_before_there_was_a_registry_is_the_same_recipe(tmp_path):
    (tmp_path / "recipe.yaml").write_text(FORMER_RECIPE)
    assert load(Recipe, tmp_path / "recipe.yaml") == RECIPES["channel-wise"]
    (tmp_path / "recipe.yaml").write_text(
        FORMER_RECIPE.replace("features: 0.0", "features: 0.3").replace("scene", "crop")
    )
    assert load(Recipe, tmp_path / "recipe.yaml") == Recipe(channels=3.0, features=0.3)


class TestLosses:
    @pytest.mark.parametrize("name", DISTILLATIONS)
    def test_that_are_offered_exist_and_have_a_label_of_their_own(self, name):
        assert callable(getattr(losses, DISTILLATIONS[name].loss))
        assert [method.label for method in DISTILLATIONS.values()].count(DISTILLATIONS[name].label) == 1

    @pytest.mark.parametrize("name", ADDED)
    def test_that_are_added_have_a_weight_from_0_to_their_most(self, name):
        assert getattr(Recipe(), name) == 0
        assert Recipe.model_validate({name: 0.5}).weights == {name: 0.5}
        for weight in (-0.1, ADDED[name].most + 1):
            with pytest.raises(SettingsError, match=f"recipe.{name}: Input should be .* than or equal to"):
                validate(StudySettings, {"recipe": {name: weight}}, "study.yaml")

    @pytest.mark.parametrize("name", ADDED)
    def test_that_are_added_need_a_teacher(self, name):
        with pytest.raises(
            SettingsError, match=f"`{name}` comes from the teacher, which alpha = 0 never asks; raise alpha"
        ):
            validate(Recipe, {"alpha": 0, name: 1}, "recipe")
        assert Recipe.model_validate({name: 1}).alone.weights == {}

    @pytest.mark.parametrize("name", CHOICES)
    def test_that_can_be_the_main_term_are_also_searched_by_a_sweep(self, name):
        assert validate(Recipe, {"distillation": name}, "recipe").distillation == name
        assert SearchSpace(distillation=name).distillation == (name,)

    def test_that_are_added_stand_in_the_formula(self):
        plain = "loss = (1 - alpha) * task + alpha * T^2 * KL(teacher_T || student_T)"
        assert Recipe().formula == plain
        assert Recipe(distillation="hard", channels=2).formula == (
            "loss = (1 - alpha) * task + alpha * (hard + 2 * channels)"
        )
        assert Recipe(channels=3, hint=0.5).formula == (
            "loss = (1 - alpha) * task + alpha * (T^2 * KL(teacher_T || student_T) + 3 * channels + 0.5 * hint)"
        )

    def test_are_not_counted_twice(self):
        with pytest.raises(
            SettingsError, match="`distillation: channel` is the loss of `channels` already; set channels: 0"
        ):
            validate(Recipe, {"distillation": "channel", "channels": 3}, "recipe")

    @pytest.mark.parametrize("name", OF_FEATURES)
    @pytest.mark.parametrize(
        ("teacher", "why"),
        [
            ({"seeds": [0, 1]}, "an ensemble of 2 networks"),
            ({"flips": True}, "an average over turned views"),
            ({"checkpoints": ["a.onnx"]}, "an ONNX file gives predictions only"),
        ],
    )
    def test_of_features_say_what_to_use_with_a_teacher_that_has_none(self, name, teacher, why):
        instead = (
            f"set the recipe's .*{name}: 0.*and use `channels`, which compares logits.*or let one trained network teach"
        )
        with pytest.raises(SettingsError, match=f"{why}.*{instead}"):
            validate(StudySettings, {"recipe": {name: 1}, "teacher": teacher}, "study.yaml")

    @pytest.mark.parametrize("name", OF_FEATURES)
    def test_of_features_ask_the_teacher_at_each_step(self, name):
        assert Recipe.model_validate({name: 1}).teacher_sees == "crop"
        with pytest.raises(SettingsError, match=f"soft-label cache .* no features: set teacher_sees: crop.*{name}: 0"):
            validate(Recipe, {name: 1, "teacher_sees": "scene"}, "recipe")


def test_what_was_called_features_is_channel_wise_in_studies_of_both_times():
    saved = {"temperature": 2.0, "alpha": 0.5, "task": "cross_entropy", "channels": 3.0, "features": 0.0}
    assert name_of(validate(Recipe, saved, "recipe")) == "channel-wise"
    assert current_name("features")[0] == "channel-wise"
    assert current_name("classic") == ("classic", "")


def test_a_study_from_before_there_was_a_student_with_all_labels_has_none(tmp_path):
    (tmp_path / "study.yaml").write_text("labels: 0.25\n")
    assert not load_study(tmp_path / "study.yaml").trains_all_labels
    save(StudySettings(labels=0.25), tmp_path / "study.yaml")
    assert load_study(tmp_path / "study.yaml").trains_all_labels
    (tmp_path / "study.yaml").write_text("labels: 1.0\n")
    assert load_study(tmp_path / "study.yaml") == StudySettings()


@pytest.mark.parametrize("name", NOT_OFFERED)
def test_a_loss_that_is_dead_for_two_classes_is_refused_with_the_reason(name):
    with pytest.raises(SettingsError, match=NOT_OFFERED[name]):
        validate(Recipe, {"distillation": name}, "recipe")


@pytest.mark.parametrize(
    "model", [StudySettings, TeacherSettings, RunSettings, Recipe, Budget, Hardware, SweepSettings]
)
def test_every_setting_is_described_by_a_sentence_without_markup(model):
    for name in model.model_fields:
        text = sentence(model, name)
        assert text.endswith(".")
        assert text[0] == text[0].upper()
        assert not any(mark in text for mark in ("`", "](", "\n"))


def test_a_setting_has_the_limits_of_its_field():
    assert limits(Recipe, "temperature") == (1, 20)
    assert limits(Recipe, "hint") == (0, 100)
    with pytest.raises(ValueError, match="has no 'ge'"):
        limits(Budget, "learning_rate")


@pytest.mark.parametrize(
    ("text", "words"), [("a: [", "no valid YAML"), ("- a", "`key: value` lines"), (None, "no such file")]
)
def test_unreadable_files(tmp_path, text, words):
    if text is not None:
        (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(SettingsError, match=words):
        load(StudySettings, tmp_path / "x.yaml")


def test_a_fingerprint_changes_with_any_value():
    assert fingerprint(Recipe(), 1) == fingerprint(Recipe(), 1)
    assert fingerprint(Recipe(), 1) != fingerprint(Recipe(alpha=0.4), 1)


def test_a_teacher_is_started_from_one_file_a_seed_or_given():
    with pytest.raises(SettingsError, match="1 files for 2 seeds"):
        validate(StudySettings, {"teacher": {"seeds": [0, 1], "start": ["a.safetensors"]}}, "study.yaml")
    with pytest.raises(SettingsError, match="in one of the two"):
        validate(
            StudySettings, {"teacher": {"start": ["a.safetensors"], "checkpoints": ["b.safetensors"]}}, "study.yaml"
        )


class TestATeacherOfItsOwn:
    """What a mean teacher and a lowest confidence need."""

    def test_a_mean_teacher_is_asked_at_every_step(self):
        assert Recipe(mean_teacher=0.99).teacher_sees == "crop"
        with pytest.raises(SettingsError, match="set teacher_sees: crop, or mean_teacher: 0"):
            validate(Recipe, {"mean_teacher": 0.9, "teacher_sees": "scene"}, "recipe")

    @pytest.mark.parametrize("name", ["mean_teacher", "confidence"])
    def test_without_the_teacher_s_term_there_is_nothing_for_it(self, name):
        with pytest.raises(SettingsError, match=f"raise alpha or set {name}: 0"):
            validate(Recipe, {"alpha": 0, name: 0.5, "teacher_sees": "crop"}, "recipe")
        assert getattr(Recipe.model_validate({name: 0.5}).alone, name) == 0

    def test_the_student_alone_keeps_a_strong_augmentation_of_labelled_crops(self):
        assert Recipe(augment="all", unlabelled=1.0).alone.augment == "all"


def test_other_places_are_named_by_whole_paths(tmp_path, monkeypatch):
    """A study that goes on in another folder still finds them."""
    monkeypatch.chdir(tmp_path)
    settings = validate(StudySettings, {"test_on": ["other", "~/third"]}, "study")
    assert settings.test_on == (tmp_path / "other", Path("~/third").expanduser())
