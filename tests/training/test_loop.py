"""The loop: what a loss is, what never changes, what is exactly repeated, and how a training ends."""

import itertools

import pytest
import torch
from torch.nn import functional

from kdcore import losses
from kdcore.data.batches import Batch, Batches
from kdcore.data.collection import Collection
from kdcore.data.survey import survey
from kdcore.errors import TrainingDiverged
from kdcore.jobs.store import RunDirectory
from kdcore.models.checkpoint import load_network, load_tensors
from kdcore.models.networks import build_network
from kdcore.settings import Budget, Recipe
from kdcore.teacher.teacher import Teacher
from kdcore.training.fabric import make_fabric
from kdcore.training.loop import learning_rate, train
from kdcore.training.objective import compute_loss
from kdcore.training.state import averaged
from kdcore.training.work import checkpoint_info
from tests.conftest import QUICK, TINY, run_settings, write_collection


def with_dropout(network):
    """The same network with dropout before its last layer: its forward depends on the mode and on random numbers."""

    def drop(module, inputs, output):
        return functional.dropout(output, 0.3, module.training)

    network.inner.decoder.register_forward_hook(drop)
    return network


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    return write_collection(tmp_path_factory.mktemp("loop") / "collection", unlabelled=True)


@pytest.fixture(scope="module")
def binary_collection(tmp_path_factory):
    return write_collection(tmp_path_factory.mktemp("binary") / "collection", classes=2)


class Training:
    """One training with everything that it needs, started by `go`."""

    ids = itertools.count()

    def __init__(self, collection, folder, *, teacher=None, dropout=False, run=None, **values) -> None:
        if teacher is not None:
            values["teacher"] = (folder / "teacher.safetensors",)  # settings ask for a path; the object is what is used
        settings = run_settings(collection, "alone" if teacher is None else "distilled", **values)
        self.run = run or RunDirectory.create(folder / f"run-{next(self.ids)}", settings)
        opened = Collection.open(collection)
        found = survey(opened, settings.budget.crop)
        logits = 1 if opened.settings.binary else len(opened.settings.classes)
        self.network = build_network(TINY, 3, logits, found.mean.tolist(), found.std.tolist(), seed=settings.seed)
        if dropout:
            with_dropout(self.network)
        self.first_weights = snapshot(self.network)
        self.teacher = teacher
        self.info = checkpoint_info(settings, opened)
        self.batches = Batches(
            opened,
            found,
            seed=settings.seed,
            batch_size=settings.budget.batch_size,
            crop=settings.budget.crop,
            unlabelled=round(settings.recipe.unlabelled * settings.budget.batch_size),
        )

    def go(self, validate=None, on_step=None, should_stop=lambda: False):
        """Train; the validation score is 0.5 unless given."""
        fabric = make_fabric("cpu", 1, "32-true")
        return train(
            self.run,
            self.network,
            self.info,
            self.batches,
            self.teacher,
            fabric=fabric,
            validate=validate or (lambda candidate: 0.5),
            on_step=on_step,
            should_stop=should_stop,
        )


def snapshot(module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def fake_batch(classes: int, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (2, 8, 8), generator=generator).to(torch.uint8)
    labels[:, 0] = 255  # unlabelled, but seen
    valid = torch.ones(2, 8, 8, dtype=torch.bool)
    valid[:, :, 0] = False  # nodata
    labels[~valid] = 255
    return Batch(torch.randn(2, 3, 8, 8, generator=generator), labels, valid)


class TestLearningRate:
    def test_rises_in_a_line_and_falls_as_a_cosine(self):
        budget = Budget(steps=100, learning_rate=2.0, warmup=0.1)
        assert [learning_rate(budget, step) for step in (0, 4, 9)] == pytest.approx([0.2, 1.0, 2.0])
        # Half of the way down after half of the 90 steps, a quarter of it (1 + cos 120 degrees) / 2 after two thirds.
        assert [learning_rate(budget, step) for step in (10, 55, 70)] == pytest.approx([2.0, 1.0, 0.5])
        assert learning_rate(budget, 99) < 0.002

    @pytest.mark.parametrize("steps", [1, 2, 3, 10])
    def test_of_short_trainings_is_positive_and_never_above_the_setting(self, steps):
        budget = Budget(steps=steps, learning_rate=1.0)
        assert all(0 < learning_rate(budget, step) <= 1.0 for step in range(steps))


class TestLoss:
    """Against torch's own functions, pixel by pixel selected by hand."""

    @pytest.mark.parametrize("alpha", [0.25, 0.5, 0.9])
    def test_of_several_classes(self, alpha):
        batch, temperature = fake_batch(4), 3.0
        student, teacher = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
        terms = compute_loss(student, teacher, batch, Recipe(alpha=alpha, temperature=temperature))
        task = functional.cross_entropy(student, batch.labels.long(), ignore_index=255)
        pixels, targets = (t.permute(0, 2, 3, 1)[batch.valid] / temperature for t in (student, teacher))
        kl = temperature**2 * functional.kl_div(
            pixels.log_softmax(1), targets.log_softmax(1), reduction="batchmean", log_target=True
        )
        torch.testing.assert_close(terms["task"], task)
        torch.testing.assert_close(terms["distillation"], kl)
        torch.testing.assert_close(terms["loss"], (1 - alpha) * task + alpha * kl)

    def test_of_two_classes(self):
        batch, temperature = fake_batch(2), 2.0
        student, teacher = torch.randn(2, 1, 8, 8), torch.randn(2, 1, 8, 8)
        terms = compute_loss(student, teacher, batch, Recipe(alpha=0.5, temperature=temperature))
        labelled = batch.labels != 255
        task = functional.binary_cross_entropy_with_logits(student[:, 0][labelled], batch.labels[labelled].float())
        both = [
            torch.stack([torch.zeros_like(z), z], dim=-1)[batch.valid] / temperature
            for z in (student[:, 0], teacher[:, 0])
        ]
        kl = temperature**2 * functional.kl_div(
            both[0].log_softmax(1), both[1].log_softmax(1), reduction="batchmean", log_target=True
        )
        torch.testing.assert_close(terms["task"], task)
        torch.testing.assert_close(terms["distillation"], kl)

    def test_channels_are_compared_where_the_recipe_says_so(self):
        batch = fake_batch(4)
        student, teacher = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
        terms = compute_loss(student, teacher, batch, Recipe(alpha=0.5, temperature=4.0, distillation="channel"))
        torch.testing.assert_close(terms["distillation"], losses.channel_kl(student, teacher, 4.0, batch.valid))

    def test_dice_is_added_where_the_recipe_says_so(self):
        batch, logits = fake_batch(4), torch.randn(2, 4, 8, 8)
        plain, more = (
            compute_loss(logits, None, batch, Recipe(alpha=0, task=task))
            for task in ("cross_entropy", "cross_entropy+dice")
        )
        torch.testing.assert_close(more["loss"] - plain["loss"], losses.dice(logits, batch.labels, batch.valid))

    def test_of_the_teacher_alone_does_not_look_at_labels(self):
        batch, teacher = fake_batch(4), torch.randn(2, 4, 8, 8)
        other = Batch(batch.image, fake_batch(4, seed=1).labels, batch.valid)
        gradients = []
        for labels in (batch, other):
            student = torch.ones(2, 4, 8, 8, requires_grad=True)
            compute_loss(student, teacher, labels, Recipe(alpha=1))["loss"].backward()
            gradients.append(student.grad)
        assert torch.equal(*gradients)
        assert gradients[0].abs().sum() > 0

    def test_without_a_teacher_is_the_task_itself(self):
        terms = compute_loss(torch.randn(2, 4, 8, 8), None, fake_batch(4), Recipe(alpha=0))
        assert terms["loss"] is terms["task"]
        assert set(terms) == {"loss", "task"}


class TestTheTeacher:
    def test_is_bit_identical_after_training(self, collection, tmp_path):
        """Parameters and buffers (the statistics of batch norm), although the student's own have moved."""
        teacher = Teacher([with_dropout(build_network(TINY, 3, 3, [100.0] * 3, [40.0] * 3, seed=9))])
        before = snapshot(teacher)
        training = Training(collection, tmp_path, teacher=teacher, recipe=Recipe(alpha=0.5))

        def wake(step, steps):
            teacher.train()
            teacher.members.train()

        training.go(on_step=wake)
        assert same(snapshot(teacher), before)
        moved = [
            name
            for name, value in training.network.state_dict().items()
            if not torch.equal(value, training.first_weights[name])
        ]
        assert any("running_mean" in name for name in moved)
        assert any(name.endswith("weight") for name in moved)

    def test_answers_in_evaluation_mode_at_every_step(self, collection, tmp_path):
        teacher = Teacher([with_dropout(build_network(TINY, 3, 3, seed=9))])
        modes = []
        for module in teacher.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.register_forward_hook(lambda module, inputs, output: modes.append(module.training))
        training = Training(collection, tmp_path, teacher=teacher, recipe=Recipe(alpha=0.5))
        training.go(on_step=lambda step, steps: teacher.members.train())
        assert len(modes) >= 2 * QUICK.steps
        assert not any(modes)

    def test_sees_the_view_that_the_student_sees(self, collection, tmp_path):
        teacher = Teacher([build_network(TINY, 3, 3, seed=9)])
        seen = {"student": [], "teacher": []}
        training = Training(collection, tmp_path, teacher=teacher, recipe=Recipe(alpha=0.5))
        teacher.register_forward_pre_hook(lambda module, inputs: seen["teacher"].append(inputs[0].clone()))
        training.network.register_forward_pre_hook(lambda module, inputs: seen["student"].append(inputs[0].clone()))
        training.go()
        assert len(seen["student"]) == QUICK.steps
        assert all(torch.equal(a, b) for a, b in zip(seen["student"], seen["teacher"], strict=True))

    def test_with_no_share_of_the_loss_is_never_asked_and_changes_nothing(self, collection, tmp_path):
        """alpha = 0 with a teacher is the student alone, bit for bit: weights, buffers and best checkpoint."""
        teacher = Teacher([build_network(TINY, 3, 3, seed=9)])
        asked = []
        teacher.register_forward_pre_hook(lambda module, inputs: asked.append(1))
        arms = [
            Training(collection, tmp_path, dropout=True, budget=QUICK.model_copy(update={"ema": 0.9})),
            Training(
                collection,
                tmp_path,
                dropout=True,
                budget=QUICK.model_copy(update={"ema": 0.9}),
                teacher=teacher,
                recipe=Recipe(alpha=0, temperature=7),
            ),
        ]
        for arm in arms:
            arm.go()
        assert not asked
        assert same(*(snapshot(arm.network) for arm in arms))
        assert same(*(load_tensors(arm.run.best)[0] for arm in arms))
        assert not same(snapshot(arms[0].network), arms[0].first_weights)

    def test_with_a_share_of_the_loss_does_change_the_student(self, collection, tmp_path):
        """The statement above would be empty if a teacher never changed anything."""
        teacher = Teacher([build_network(TINY, 3, 3, seed=9)])
        arms = [
            Training(collection, tmp_path),
            Training(collection, tmp_path, teacher=teacher, recipe=Recipe(alpha=0.01)),
        ]
        for arm in arms:
            arm.go()
        assert same(*(arm.first_weights for arm in arms))
        assert not same(*(snapshot(arm.network) for arm in arms))

    def test_alone_teaches_on_unlabelled_imagery(self, collection, tmp_path):
        """alpha = 1: the student nears the teacher; the labels are not looked at."""
        teacher = Teacher([build_network(TINY, 3, 3, [100.0] * 3, [50.0] * 3, seed=9)])
        budget = QUICK.model_copy(update={"steps": 40, "validate_every": 40, "learning_rate": 3e-3})
        training = Training(
            collection, tmp_path, teacher=teacher, recipe=Recipe(alpha=1, unlabelled=1.0), budget=budget
        )
        training.go()
        lines = [line for line in training.run.read_metrics() if "loss" in line]
        assert lines[-1]["distillation"] < 0.5 * lines[0]["distillation"]
        assert all(line["task"] == 0 for line in lines)
        assert training.batches.batch(0).image.shape[0] == 4


def step_with_torch(network, batch, budget, step, optimiser):
    """One step written out with torch alone."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate(budget, step)
    optimiser.zero_grad()
    loss = functional.cross_entropy(network(batch.image), batch.labels.long(), ignore_index=255)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), budget.clip)
    optimiser.step()
    return float(loss.detach())


class TestTraining:
    def test_is_what_torch_says(self, collection, tmp_path):
        """Six steps of the loop are six steps of AdamW on the same batches, written out by hand."""
        training = Training(collection, tmp_path)
        training.go()
        network = build_network(TINY, 3, 3, seed=0)
        network.load_state_dict(training.first_weights)
        network.train()
        optimiser = torch.optim.AdamW(network.parameters(), weight_decay=QUICK.weight_decay)
        told = [step_with_torch(network, training.batches.batch(step), QUICK, step, optimiser) for step in range(6)]
        assert same(snapshot(network), snapshot(training.network))
        first = training.run.read_metrics()[0]
        assert first["loss"] == pytest.approx(told[0])
        assert first["lr"] == pytest.approx(learning_rate(QUICK, 0))

    def test_is_repeated_exactly_whatever_else_drew_random_numbers(self, collection, tmp_path):
        ends = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            training = Training(collection, tmp_path, dropout=True)
            training.go(on_step=lambda step, steps: torch.rand(7))
            ends.append(snapshot(training.network))
        assert same(*ends)

    def test_differs_between_seeds(self, collection, tmp_path):
        ends = []
        for seed in (1, 2):
            training = Training(collection, tmp_path, seed=seed)
            training.go()
            ends.append(snapshot(training.network))
        assert not same(*ends)

    @pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
    def test_averages_weights_and_statistics(self, collection, tmp_path, decay):
        """The average starts as the weights of the first step and then moves by 1 - decay towards those of each step."""
        training = Training(collection, tmp_path, budget=QUICK.model_copy(update={"ema": decay}))
        weights = []
        training.go(on_step=lambda step, steps: weights.append(snapshot(training.network)))
        average = {name: value.double() for name, value in weights[0].items()}
        for later in weights[1:]:
            average = {name: decay * value + (1 - decay) * later[name].double() for name, value in average.items()}
        best, values = load_tensors(training.run.best)
        assert values["step"] == 3  # both validations gave 0.5: the first one stays the best
        state = {
            name.removeprefix("average/module."): value
            for name, value in load_tensors(training.run.state)[0].items()
            if name.startswith("average/module.")
        }
        floating = [name for name, value in state.items() if value.is_floating_point()]
        assert any("running_mean" in name for name in floating)
        for name in floating:
            torch.testing.assert_close(state[name], average[name].float(), atol=1e-6, rtol=1e-5)
        for name in ("mean", "std", "band_order"):  # constants stay what they are, to the bit
            assert torch.equal(state[name], training.first_weights[name])
            assert torch.equal(best[name], training.first_weights[name])

    @pytest.mark.parametrize("decay", [0.9, 0.95, 0.9999])
    def test_does_not_average_whole_numbers(self, decay):
        """0.9 * 3 + 0.1 * 3 is a little less than 3 and would be cut to 2: band 3 would be read twice."""
        network = build_network(TINY, 13, 3)
        counter = next(value for name, value in network.named_buffers() if name.endswith("num_batches_tracked"))
        average = averaged(network, decay)
        for _ in range(30):
            counter += 1
            average.update_parameters(network)
        assert average.module.band_order.tolist() == list(range(13))
        assert all(int(v) in (0, 30) for n, v in average.module.named_buffers() if n.endswith("num_batches_tracked"))

    def test_keeps_the_checkpoint_of_the_best_validation(self, collection, tmp_path):
        budget = QUICK.model_copy(update={"steps": 8, "validate_every": 2})
        training = Training(collection, tmp_path, budget=budget)
        scores, weights = iter([0.3, 0.6, 0.6, 0.5]), []

        def validate(candidate):
            weights.append(snapshot(candidate))
            return next(scores)

        progress = training.go(validate)
        assert (progress.best_step, progress.best_score) == (4, 0.6)
        network, info = load_network(training.run.best)
        assert same(snapshot(network), weights[1])
        assert info.step == 4
        told = {
            line["step"]: line["validation_mean_ap"]
            for line in training.run.read_metrics()
            if "validation_mean_ap" in line
        }
        assert told == {2: 0.3, 4: 0.6, 6: 0.6, 8: 0.5}

    def test_goes_on_in_training_mode_after_a_validation(self, collection, tmp_path):
        training = Training(collection, tmp_path)
        modes = []
        training.network.register_forward_pre_hook(lambda module, inputs: modes.append(module.training))
        training.go(validate=lambda candidate: float(candidate.eval().training))
        assert modes == [True] * QUICK.steps


class TestResuming:
    @pytest.mark.parametrize("ema", [None, 0.9])
    @pytest.mark.parametrize("stop", [1, 3, 5])
    def test_ends_where_an_undisturbed_training_ends(self, collection, tmp_path, ema, stop):
        budget = QUICK.model_copy(update={"ema": ema})

        judged = []

        def score(candidate):
            judged.append(snapshot(candidate))
            return float(next(candidate.parameters()).detach().abs().mean())

        whole = Training(collection, tmp_path, dropout=True, budget=budget)
        whole.go(score)
        expected_last = judged[-1]
        first = Training(collection, tmp_path, dropout=True, budget=budget)
        calls = itertools.count(1)
        assert first.go(score, should_stop=lambda: next(calls) == stop).step == stop
        second = Training(collection, tmp_path, dropout=True, budget=budget, run=first.run)
        torch.manual_seed(99)
        second.go(score)
        assert same(judged[-1], expected_last)
        assert same(judged[-1], snapshot(second.network)) == (ema is None)
        assert same(snapshot(second.network), snapshot(whole.network))
        assert same(load_tensors(second.run.best)[0], load_tensors(whole.run.best)[0])
        (ours, told), (theirs, expected) = (load_tensors(training.run.state) for training in (second, whole))
        assert same(ours, theirs)
        assert {**told, "seconds": 0} == {**expected, "seconds": 0}
        lines = [
            [{key: value for key, value in line.items() if key != "seconds"} for line in training.run.read_metrics()]
            for training in (second, whole)
        ]
        # A line of losses is written at steps 1, 6 and where the resumed part began; the values at the same step agree.
        assert [line for line in lines[0] if line in lines[1]] == lines[1]

    def test_adds_up_the_seconds(self, collection, tmp_path):
        calls = itertools.count(1)
        first = Training(collection, tmp_path)
        spent = first.go(should_stop=lambda: next(calls) == 3).seconds
        second = Training(collection, tmp_path, run=first.run)
        assert second.go().seconds > spent > 0


class TestDivergence:
    def test_stops_with_a_sentence_that_says_what_to_change(self, collection, tmp_path):
        budget = QUICK.model_copy(
            update={"learning_rate": 10.0, "weight_decay": 1.0, "clip": None, "steps": 60, "validate_every": 60}
        )
        training = Training(collection, tmp_path, budget=budget)
        with pytest.raises(TrainingDiverged, match=r"became (nan|inf) at step \d.*Lower the learning rate \(now 10\)"):
            training.go()
        assert not training.run.best.exists()

    def test_keeps_the_last_good_checkpoint(self, collection, tmp_path):
        """The learning rate turns absurd after a good validation at step 3."""
        training = Training(collection, tmp_path, budget=QUICK.model_copy(update={"steps": 60}))
        best = []

        def spoil(step, steps):
            if step == 4:
                best.append(training.run.best.read_bytes())
                with torch.no_grad():
                    for parameter in training.network.parameters():
                        parameter.mul_(1e30)

        with pytest.raises(TrainingDiverged, match=r"the best checkpoint \(step 3\) is kept"):
            training.go(on_step=spoil)
        assert training.run.best.read_bytes() == best[0]
        network, info = load_network(training.run.best)
        assert info.step == 3
        assert all(torch.isfinite(value).all() for value in network.state_dict().values())
        state, _ = load_tensors(training.run.state)
        assert all(torch.isfinite(value).all() for value in state.values())

    def test_of_a_weight_is_seen_before_it_is_saved(self, collection, tmp_path):
        """A statistic of batch norm that is no number leaves the training loss alone and spoils every evaluation."""
        training = Training(collection, tmp_path)

        def spoil(step, steps):
            if step == 2:
                next(value for name, value in training.network.named_buffers() if "running_mean" in name).fill_(
                    torch.nan
                )

        with pytest.raises(TrainingDiverged, match="a weight became nan at step 2"):
            training.go(on_step=spoil)
        assert not training.run.state.exists()


def test_one_logit_is_trained_for_two_classes(binary_collection, tmp_path):
    teacher = Teacher([build_network(TINY, 3, 1, seed=9)])
    training = Training(binary_collection, tmp_path, teacher=teacher, recipe=Recipe(alpha=0.5))
    training.go()
    assert load_network(training.run.best)[0](torch.zeros(1, 3, 64, 64)).shape == (1, 1, 64, 64)
    assert {"loss", "task", "distillation"} <= set(training.run.read_metrics()[0])
