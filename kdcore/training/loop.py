"""One training loop for every arm: teacher, student alone, distilled student.

Read it from top to bottom. `alpha = 0` is the student alone: the teacher is then never asked, and the arithmetic is the same.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from kdcore.data.batches import Batch, Batches, read_ahead
from kdcore.errors import SettingsError
from kdcore.jobs.store import RunDirectory, RunStatus
from kdcore.models.checkpoint import CheckpointInfo, save_network
from kdcore.models.networks import SegmentationNetwork
from kdcore.settings import Budget, RunSettings
from kdcore.teacher.soft_labels import kept_logits
from kdcore.teacher.teacher import Teacher
from kdcore.training.augmentation import student_batch
from kdcore.training.fabric import mean_over_ranks, with_common_statistics
from kdcore.training.mixing import check_crops
from kdcore.training.objective import FeatureStudent, FeatureTeacher, compute_loss
from kdcore.training.state import Progress, Training, averaged, check_loss

LOG_EVERY = 10  # steps between lines of metrics


def learning_rate(budget: Budget, step: int) -> float:
    """Linear warm-up, then a cosine down to zero at the last step."""
    warmup = max(1, round(budget.warmup * budget.steps))
    if step < warmup:
        return budget.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, budget.steps - warmup)
    return budget.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def train(
    run: RunDirectory,
    network: SegmentationNetwork,
    info: CheckpointInfo,
    batches: Batches,
    teacher: Teacher | None,
    *,
    fabric: Fabric,
    validate: Callable[[nn.Module], float],
    on_step: Callable[[int, int], None] | None = None,
    on_score: Callable[[int, float], None] | None = None,
    watch: Callable[[SegmentationNetwork, int], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Progress:
    """Train until the budget is spent, from the saved state where there is one.

    Args:
        run: where settings come from and where state, best checkpoint and metrics go.
        network: initial weights; it holds the last weights afterwards.
        info: what to write into checkpoints.
        batches: gives the batch of every step.
        teacher: of a distilled student; not used with alpha = 0, nor where the batches bring its soft labels, nor
            with a mean teacher, which is the student's own average.
        fabric: device, precision and processes; already launched.
        validate: mean AP of a network on the validation split; the highest decides which checkpoint is kept as best.
        on_step: is told steps done and steps in all.
        on_score: is told the step and mean AP of each validation.
        watch: is given the network, which it must not change, and the step of each validation.
        should_stop: asked after every step; True saves the state and ends.

    Raises:
        TrainingDiverged: the loss is not a number any more. The best checkpoint so far is kept.
        SettingsError: the recipe wants features of a teacher that has none, or the batch is too small to mix or to normalise.
    """
    settings = run.settings
    budget = settings.budget
    labelled = batches.batch_size // batches.ranks
    check_crops(settings.recipe.mix, labelled)
    step = Step(fabric, settings, run.state, network, teacher, labelled)
    training, progress = step.training, step.training.progress
    if fabric.is_global_zero:
        run.forget_metrics_after(progress.step)

    def make(number: int) -> Batch:
        batch = student_batch(batches, settings.recipe, number)
        return batch.map(Tensor.pin_memory) if fabric.device.type == "cuda" else batch

    validations = frozenset(budget.validation_steps)
    for batch in read_ahead(make, range(progress.step, budget.steps), settings.hardware.readers):
        started = time.perf_counter()
        terms = step(batch)
        progress.step += 1
        # Looking at the loss waits for a GPU, so it is not done at every step there.
        logging = progress.step % LOG_EVERY == 0 or progress.step in (1, budget.steps)
        if fabric.device.type == "cpu" or logging:
            values = mean_over_ranks(fabric, terms)
            check_loss(values, progress, budget)
        progress.seconds += time.perf_counter() - started
        if logging and fabric.is_global_zero:
            note(run, budget, progress, values)
        if on_step:
            on_step(progress.step, budget.steps)

        last = progress.step == budget.steps
        if progress.step in validations:
            training.check_weights(budget)
            score = validate(training.candidate)
            if watch:
                watch(training.candidate, progress.step)
            step.model.train()
            judge(run, training, info, score, writes=fabric.is_global_zero)
            if on_score:
                on_score(progress.step, score)
        stopping = not last and should_stop()
        if progress.step % budget.save_every == 0 or last or stopping:
            training.check_weights(budget)
            if fabric.is_global_zero:
                training.save(run.state)
            fabric.barrier()
        if stopping:
            break
    return progress


class Step:
    """One step: what the teacher says, what the student says, the loss, and the correction of the weights.

    Args:
        fabric: device, precision and processes; already launched.
        settings: of the run.
        state: file with the saved state, from which it goes on where there is one.
        network: initial weights.
        teacher: of a distilled student; not asked with alpha = 0.
        labelled: crops with labels in this process' part of a batch.
    """

    def __init__(
        self,
        fabric: Fabric,
        settings: RunSettings,
        state: Path,
        network: SegmentationNetwork,
        teacher: Teacher | None,
        labelled: int,
    ) -> None:
        self.fabric, self.settings, self.labelled = fabric, settings, labelled
        hardware, device = settings.hardware, fabric.device
        decay = settings.recipe.mean_teacher or settings.budget.ema
        average = averaged(network, decay) if decay else None
        if settings.recipe.mean_teacher and average is not None:
            teacher = Teacher([cast(SegmentationNetwork, average.module)])
        teacher, asked, learner = who_learns(settings, network, teacher)
        self.training = Training.begin(network, learner, settings.budget, average)
        if state.exists():
            self.training.load(state)
        if hardware.sync_batch_norm and fabric.world_size > 1:
            with_common_statistics(learner, fabric)
        self.layout = torch.channels_last if hardware.channels_last else torch.contiguous_format
        learner.to(device).to(memory_format=self.layout)
        if self.training.average is not None:
            self.training.average.to(device)
        if teacher is not None:
            teacher.to(device).to(memory_format=self.layout)
        self.ask_teacher = torch.compile(asked) if asked is not None and hardware.compile else asked
        compiled = cast(nn.Module, torch.compile(learner)) if hardware.compile else learner
        self.model, self.training.optimiser = fabric.setup(compiled, self.training.optimiser)
        self.model.train()

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Do the step that comes next with its batch; gives the terms of the loss."""
        budget, recipe, training = self.settings.budget, self.settings.recipe, self.training
        number = training.progress.step
        seed_draws((self.settings.seed << 32) + number, self.fabric.device)
        for group in training.optimiser.param_groups:
            group["lr"] = learning_rate(budget, number)
        batch = batch.map(lambda tensor: tensor.to(self.fabric.device, non_blocking=True))
        image = batch.image.contiguous(memory_format=self.layout)

        teacher_logits, features = None, None
        if batch.teacher is not None:
            teacher_logits = kept_logits(batch.teacher, recipe.temperature)
        elif self.ask_teacher is not None:
            with self.fabric.autocast():
                seen = image if batch.weak is None else batch.weak.contiguous(memory_format=self.layout)
                teacher_logits = self.ask_teacher(seen, recipe.temperature)
        with enough_values(budget, self.labelled):
            logits = self.model(image)
        if recipe.compares_features and teacher_logits is not None:
            (logits, projected), (teacher_logits, teacher_features) = logits, teacher_logits
            features = projected, teacher_features
        terms = compute_loss(logits, teacher_logits, batch, recipe, features)
        self.fabric.backward(terms["loss"])
        if budget.clip is not None:
            self.fabric.clip_gradients(self.model, training.optimiser, max_norm=budget.clip, error_if_nonfinite=False)
        training.optimiser.step()
        training.optimiser.zero_grad(set_to_none=True)
        if training.average is not None:
            training.average.update_parameters(training.network)
        return terms


def seed_draws(seed: int, device: torch.device) -> None:
    """Make what dropout and the like draw a function of seed and step, as the batch is.

    `torch.manual_seed` also notes the call and its stack for each kind of device that may be used later, which takes most of a millisecond.
    """
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def who_learns(
    settings: RunSettings, network: SegmentationNetwork, teacher: Teacher | None
) -> tuple[Teacher | None, Teacher | FeatureTeacher | None, SegmentationNetwork | FeatureStudent]:
    """The teacher where it has a share of the loss, what is asked of it, and what is trained."""
    if settings.recipe.alpha == 0:
        teacher = None
    if teacher is None or not settings.recipe.compares_features:
        return teacher, teacher, network
    asked = FeatureTeacher(teacher)
    return teacher, asked, FeatureStudent(network, asked.channels, settings.seed)


def note(run: RunDirectory, budget: Budget, progress: Progress, terms: dict[str, float]) -> None:
    """Write a line of metrics, and how far the run is."""
    seconds = round(progress.seconds, 3)
    rate = learning_rate(budget, progress.step - 1)
    run.add_metrics({"step": progress.step, "seconds": seconds, "lr": rate, **terms})
    run.write_status(RunStatus(state="running", step=progress.step, steps=budget.steps, seconds=seconds))


def judge(run: RunDirectory, training: Training, info: CheckpointInfo, score: float, writes: bool) -> None:
    """Note the score of a validation, and keep the checkpoint where it is the best so far; one process of several writes."""
    progress = training.progress
    if writes:
        seconds = round(progress.seconds, 3)
        run.add_metrics({"step": progress.step, "seconds": seconds, "validation_mean_ap": score})
    if score > progress.best_score:
        progress.best_score, progress.best_step = score, progress.step
        if writes:
            save_network(run.best, training.candidate, info.model_copy(update={"step": progress.step}))


@contextmanager
def enough_values(budget: Budget, crops: int) -> Iterator[None]:
    """Say in a sentence that batch norm has nothing to take statistics from; torch says it in its own words.

    Raises:
        SettingsError: one crop, and the network leaves one value of each channel in it.
    """
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise SettingsError(
            f"{crops} crop of {budget.crop} x {budget.crop} px leaves this network's batch norm a single value per channel, "
            "from which no spread can be told. Raise budget.batch_size (2 crops are enough), or budget.crop."
        ) from error
