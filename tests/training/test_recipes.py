"""Every recipe on two and on five classes: it learns, leaves its teacher alone, and goes on exactly where it was stopped."""

import itertools

import pytest
import torch

from kdcore.errors import SettingsError
from kdcore.jobs.store import RunDirectory
from kdcore.models.checkpoint import load_network, load_tensors
from kdcore.models.networks import build_network
from kdcore.settings import OF_FEATURES, RECIPES, Budget, Hardware, NetworkSettings, Recipe
from kdcore.teacher.teacher import Teacher
from kdcore.training.run import execute
from tests.conftest import run_settings, write_collection
from tests.training.test_loop import Training, same, snapshot
from tests.training.test_together import train_together

BUDGET = Budget(steps=20, batch_size=2, crop=64, validate_every=20, save_every=20, learning_rate=5e-3)
TEACHER = NetworkSettings(encoder="tu-test_resnet", depth=3, decoder_channels=(24, 16, 12))
OTHERS = {
    "decoder features": Recipe(features=1.0, mix="cutmix"),
    "hint": Recipe(hint=1.0),
    "hint of a mixture": Recipe(hint=0.5, features=0.1, channels=1.0, mix="mixup", unlabelled=1.0),
    "mixup": Recipe(alpha=0.5, mix="mixup", unlabelled=1.0, task="cross_entropy+dice"),
    "strong augmentation, asked at each step": Recipe(
        alpha=0.7, augment="all", mix="mixup", unlabelled=1.5, hint=0.5, task="cross_entropy+dice"
    ),
    "mean teacher of features": Recipe(alpha=0.3, mean_teacher=0.9, features=0.1, unlabelled=1.0, augment="unlabelled"),
    "channels alone": Recipe(distillation="channel", temperature=4, mix="cutmix"),
}
TERMS = {
    "channel-wise": {"channels"},
    "decoder features": {"features"},
    "hint": {"hint"},
    "strong augmentation, asked at each step": {"hint"},
    "mean teacher of features": {"features"},
    "hint of a mixture": {"hint", "features", "channels"},
}


@pytest.fixture(scope="module", params=[2, 5], ids=["one logit", "five classes"])
def collection(request, tmp_path_factory):
    """Scenes of two or five classes, and one without labels."""
    return write_collection(tmp_path_factory.mktemp("recipes") / "collection", classes=request.param, unlabelled=True)


def make_teacher(collection):
    logits = 1 if "name: road" not in collection.read_text() else 5
    return Teacher([build_network(TEACHER, 3, logits, [100.0] * 3, [50.0] * 3, seed=9)])


@pytest.mark.parametrize("name", [*RECIPES, *OTHERS])
def test_a_recipe_learns_and_resumes_exactly(collection, tmp_path, name):
    recipe = (RECIPES | OTHERS)[name]
    teacher = make_teacher(collection)
    before = snapshot(teacher)

    whole = Training(collection, tmp_path, teacher=teacher, recipe=recipe, budget=BUDGET)
    whole.go()
    assert same(snapshot(teacher), before)
    lines = [line for line in whole.run.read_metrics() if "loss" in line]
    assert [line["step"] for line in lines] == [1, 10, 20]
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert lines[0].keys() - {"step", "seconds", "lr", "loss", "task", "distillation"} == TERMS.get(name, set())
    # The student is the network alone: what served to compare features is thrown away.
    best, _ = load_network(whole.run.best)
    assert snapshot(best).keys() == whole.first_weights.keys()

    calls = itertools.count(1)
    first = Training(collection, tmp_path, teacher=teacher, recipe=recipe, budget=BUDGET)
    assert first.go(should_stop=lambda: next(calls) == 7).step == 7
    second = Training(collection, tmp_path, teacher=teacher, recipe=recipe, budget=BUDGET, run=first.run)
    torch.manual_seed(99)
    second.go()
    assert same(snapshot(second.network), snapshot(whole.network))
    ours, theirs = (load_tensors(training.run.state)[0] for training in (second, whole))
    assert same(ours, theirs)
    projected = {"projection/weight", "projection/bias"} & ours.keys()
    assert len(projected) == (2 if recipe.compares_features else 0)


@pytest.mark.parametrize("name", OF_FEATURES)
def test_without_its_teacher_a_recipe_of_features_is_the_student_alone_bit_for_bit(collection, tmp_path, name):
    """Alpha 0 of the recipe, with a teacher at hand: nobody asks it, nothing is projected, every weight and metric is the same."""
    budget = BUDGET.model_copy(update={"steps": 2})
    recipe = Recipe.model_validate({name: 1.0}).alone
    with_teacher = Training(collection, tmp_path, teacher=make_teacher(collection), recipe=recipe, budget=budget)
    alone = Training(collection, tmp_path, recipe=Recipe(alpha=0), budget=budget)
    with_teacher.go()
    alone.go()
    ours, theirs = (load_tensors(training.run.state)[0] for training in (with_teacher, alone))
    assert same(ours, theirs)


@pytest.mark.parametrize("name", OF_FEATURES)
def test_a_weight_of_zero_adds_nothing(collection, tmp_path, name):
    """Two steps with the teacher: weight 0 is the recipe without the loss bit for bit, and any other weight is not."""
    states = []
    for weight in (None, 0.0, 1.0):
        recipe = Recipe.model_validate({"teacher_sees": "crop"} | ({} if weight is None else {name: weight}))
        budget = BUDGET.model_copy(update={"steps": 2})
        training = Training(collection, tmp_path, teacher=make_teacher(collection), recipe=recipe, budget=budget)
        training.go()
        states.append(snapshot(training.network))
    assert same(states[0], states[1])
    assert not same(states[0], states[2])


def test_a_mean_teacher_is_the_average_of_the_student_s_weights(collection, tmp_path):
    """Decay 0.75 by hand, from the weights after each step; nobody asks the study's teacher, and the average is what is kept."""
    budget = BUDGET.model_copy(update={"steps": 3, "validate_every": 3})
    recipe = Recipe(alpha=0.5, mean_teacher=0.75, unlabelled=1.0)
    teacher = make_teacher(collection)
    teacher.register_forward_pre_hook(lambda module, inputs: pytest.fail("asked"))
    training = Training(collection, tmp_path, teacher=teacher, recipe=recipe, budget=budget)
    after = []
    training.go(on_step=lambda step, steps: after.append(snapshot(training.network)))
    best = load_network(training.run.best)[0].state_dict()
    for name, value in best.items():
        if value.is_floating_point():
            first, second, third = (weights[name] for weights in after)
            expected = 0.75 * (0.75 * first + 0.25 * second) + 0.25 * third
            torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)


def test_a_mean_teacher_needs_no_teacher(collection, tmp_path):
    """A run from its settings alone: no file teaches."""
    settings = run_settings(
        collection, "distilled", recipe=Recipe(alpha=0.5, mean_teacher=0.9, unlabelled=1.0), budget=BUDGET, teacher=()
    )
    run = RunDirectory.create(tmp_path / "mean-teacher", settings)
    execute(run)
    assert run.status.state == "finished"
    assert run.read_report()["last_weights"].keys() == {"as_they_are", "averaged"}


@pytest.mark.parametrize("augment", ["unlabelled", "all"])
def test_the_teacher_sees_weak_views_and_the_student_strong_ones(collection, tmp_path, augment):
    teacher = make_teacher(collection)
    recipe = Recipe(teacher_sees="crop", unlabelled=1.0, augment=augment)
    training = Training(collection, tmp_path, teacher=teacher, recipe=recipe, budget=BUDGET)
    seen = {"student": [], "teacher": []}
    teacher.register_forward_pre_hook(lambda module, inputs: seen["teacher"].append(inputs[0].clone()))
    training.network.register_forward_pre_hook(lambda module, inputs: seen["student"].append(inputs[0].clone()))
    training.go()
    alike = [torch.equal(a[:2], b[:2]) for a, b in zip(seen["student"], seen["teacher"], strict=True)]
    assert all(alike) == (augment == "unlabelled")
    assert not any(torch.equal(a[2:], b[2:]) for a, b in zip(seen["student"], seen["teacher"], strict=True))


@pytest.mark.parametrize("mix", ["cutmix", "mixup"])
def test_the_student_alone_sees_the_mixed_images_of_the_distilled_one(collection, tmp_path, mix):
    recipe = Recipe(alpha=0.5, mix=mix, unlabelled=1.0)
    seen = []
    for values in ({"teacher": make_teacher(collection), "recipe": recipe}, {"recipe": recipe.alone}):
        training = Training(collection, tmp_path, budget=BUDGET.model_copy(update={"steps": 5}), **values)
        images = []
        training.network.register_forward_pre_hook(
            lambda module, inputs, images=images: images.append(inputs[0].clone())
        )
        training.go()
        seen.append(images)
        plain = training.batches.batch(0).image
        assert not torch.equal(images[0][:2], plain[:2])
    assert all(torch.equal(distilled[:2], alone) for distilled, alone in zip(*seen, strict=True))


@pytest.mark.parametrize("mix", ["none", "cutmix", "mixup"])
def test_the_teacher_sees_the_mixed_images_of_the_student(collection, tmp_path, mix):
    teacher = make_teacher(collection)
    training = Training(collection, tmp_path, teacher=teacher, recipe=Recipe(mix=mix), budget=BUDGET)
    seen = {"student": [], "teacher": []}
    teacher.register_forward_pre_hook(lambda module, inputs: seen["teacher"].append(inputs[0].clone()))
    training.network.register_forward_pre_hook(lambda module, inputs: seen["student"].append(inputs[0].clone()))
    training.go()
    assert len(seen["student"]) == BUDGET.steps
    assert all(torch.equal(a, b) for a, b in zip(seen["student"], seen["teacher"], strict=True))


@pytest.mark.slow  # two processes have to start and to import torch
def test_two_processes_train_the_projection_together(tmp_path):
    """The convolution is a part of what the processes share: its gradients are averaged as the network's are."""
    collection = write_collection(tmp_path / "collection")
    teacher = Training(collection, tmp_path, budget=BUDGET.model_copy(update={"steps": 2}))
    teacher.go()
    settings = run_settings(
        collection,
        "distilled",
        recipe=Recipe(features=1.0, mix="cutmix"),
        teacher=(teacher.run.best,),
        budget=Budget(steps=3, batch_size=4, crop=64, validate_every=3, save_every=3),
        hardware=Hardware(device="cpu", devices=2),
    )
    run = RunDirectory.create(tmp_path / "run", settings)
    assert train_together(run) == [1, 2, 3]
    assert run.status.state == "finished"
    (line, *_) = run.read_metrics()
    assert line["features"] > 0
    state, _ = load_tensors(run.state)
    first = Training(collection, tmp_path).network.feature_channels
    assert state["projection/weight"].shape == (first, first, 1, 1)


class TestRefusedBeforeAnythingIsTrained:
    def test_one_crop_cannot_be_mixed(self, collection, tmp_path):
        budget = BUDGET.model_copy(update={"batch_size": 1})
        training = Training(collection, tmp_path, recipe=Recipe(alpha=0, mix="cutmix"), budget=budget)
        with pytest.raises(SettingsError, match=r"has 1 only\. Raise budget\.batch_size, or set mix: none"):
            training.go()

    def test_a_teacher_that_is_an_average_has_no_features(self, collection, tmp_path):
        teacher = make_teacher(collection)
        several = Teacher([*teacher.members, *teacher.members])
        training = Training(collection, tmp_path, teacher=several, recipe=Recipe(features=1.0), budget=BUDGET)
        with pytest.raises(SettingsError, match="this teacher is an average or an ONNX file"):
            training.go()
        assert not training.run.state.exists()

    def test_a_single_value_per_channel_cannot_be_normalised(self, tmp_path):
        """A crop of 32 pixels is one value at a stride of 32. With two crops there are two."""
        collection = write_collection(tmp_path / "collection")
        deep = NetworkSettings(encoder="tu-test_resnet", depth=5, decoder_channels=(8, 8, 8, 8, 8))
        for crops in (1, 2):
            budget = Budget(steps=1, batch_size=crops, crop=32)
            training = Training(collection, tmp_path, budget=budget)
            training.network = build_network(deep, 3, 3, seed=0)
            if crops == 2:
                assert training.go().step == 1
                continue
            with pytest.raises(SettingsError, match=r"1 crop of 32 x 32 px .* Raise budget.batch_size \(2 crops"):
                training.go()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("compiled", [False, True])
def test_every_term_on_a_gpu_in_bfloat16(collection, tmp_path, compiled):
    """Compiled or not, channels last and in bfloat16: every term is told, and the loss falls."""
    hardware = Hardware(device="cuda", precision="bf16-mixed", channels_last=True, compile=compiled)
    teacher = RunDirectory.create(
        tmp_path / "teacher", run_settings(collection, "teacher", budget=BUDGET, hardware=hardware)
    )
    execute(teacher)
    settings = run_settings(
        collection,
        "distilled",
        recipe=Recipe(features=1.0, channels=3.0, hint=1.0, mix="mixup"),
        teacher=(teacher.best,),
        budget=BUDGET,
        hardware=hardware,
    )
    run = RunDirectory.create(tmp_path / "run", settings)
    execute(run)
    lines = [line for line in run.read_metrics() if "loss" in line]
    assert {"task", "distillation", "channels", "features", "hint"} <= lines[0].keys()
    assert lines[-1]["loss"] < lines[0]["loss"]
