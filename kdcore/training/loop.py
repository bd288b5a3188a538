"""One training loop for every arm: teacher, student alone, distilled student.

Read it from top to bottom. `alpha = 0` is the student alone: the teacher is then never asked, and the arithmetic is the same.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from lightning.fabric import Fabric
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from kdcore.data.batches import Batch, Batches, read_ahead
from kdcore.errors import SettingsError, TrainingDiverged
from kdcore.jobs.store import RunDirectory, RunStatus
from kdcore.models.checkpoint import CheckpointInfo, load_tensors, save_network, save_tensors
from kdcore.models.networks import SegmentationNetwork
from kdcore.settings import Budget
from kdcore.teacher.soft_labels import kept_logits
from kdcore.teacher.teacher import Teacher
from kdcore.training.augmentation import student_batch
from kdcore.training.features import FeatureStudent, FeatureTeacher
from kdcore.training.mixing import check_crops
from kdcore.training.objective import compute_loss

LOG_EVERY = 10  # steps between lines of metrics


@dataclass
class Progress:
    """Where a training stands; saved with the weights, so that a resumed one goes on exactly."""

    step: int = 0
    seconds: float = 0.0
    best_step: int = 0
    best_score: float = -1.0


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
        should_stop: asked after every step; True saves the state and ends.

    Raises:
        TrainingDiverged: the loss is not a number any more. The best checkpoint so far is kept.
        SettingsError: the recipe wants features of a teacher that has none, or the batch is too small to mix or to normalise.
    """
    settings = run.settings
    budget, recipe, hardware = settings.budget, settings.recipe, settings.hardware
    labelled = batches.batch_size // batches.ranks
    check_crops(recipe.mix, labelled)
    decay = recipe.mean_teacher or budget.ema
    average = averaged(network, decay) if decay else None
    candidate = cast(SegmentationNetwork, average.module) if average is not None else network
    if recipe.alpha == 0:
        teacher = None
    elif recipe.mean_teacher:
        teacher = Teacher([candidate])
    asked: Teacher | FeatureTeacher | None = teacher
    learner: SegmentationNetwork | FeatureStudent = network
    if teacher is not None and recipe.compares_features:
        asked = FeatureTeacher(teacher)
        learner = FeatureStudent(network, asked.channels, settings.seed)

    # The optimiser's state is small beside the activations, and one implementation everywhere keeps resumes exact.
    optimiser = torch.optim.AdamW(learner.parameters(), lr=budget.learning_rate, weight_decay=budget.weight_decay)
    progress = load_state(run, learner, optimiser, average) if run.state.exists() else Progress()
    if fabric.is_global_zero:
        run.forget_metrics_after(progress.step)

    device = fabric.device
    learner.to(device)
    layout = torch.channels_last if hardware.channels_last else torch.contiguous_format
    learner.to(memory_format=layout)
    if average is not None:
        average.to(device)
    if teacher is not None:
        teacher.to(device).to(memory_format=layout)
    ask_teacher = torch.compile(asked) if asked is not None and hardware.compile else asked
    compiled = cast(nn.Module, torch.compile(learner)) if hardware.compile else learner
    model, optimiser = fabric.setup(compiled, optimiser)

    def to_device(tensor: Tensor) -> Tensor:
        return tensor.to(device, non_blocking=True)

    def make(step: int) -> Batch:
        batch = student_batch(batches, recipe, step)
        return batch.map(Tensor.pin_memory) if device.type == "cuda" else batch

    def save_best(score: float) -> None:
        if score > progress.best_score:
            progress.best_score, progress.best_step = score, progress.step
            if fabric.is_global_zero:
                save_network(run.best, candidate, info.model_copy(update={"step": progress.step}))

    validations = frozenset(budget.validation_steps)
    model.train()
    last_terms: dict[str, float] = {}
    for batch in read_ahead(make, range(progress.step, budget.steps), hardware.readers):
        started = time.perf_counter()
        step = progress.step
        # Dropout and the like draw from here: a function of seed and step, as the batch is.
        torch.manual_seed((settings.seed << 32) + step)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(budget, step)
        batch = batch.map(to_device)
        image = batch.image.contiguous(memory_format=layout)

        teacher_logits, features = None, None
        if batch.teacher is not None:
            teacher_logits = kept_logits(batch.teacher, recipe.temperature)
        elif ask_teacher is not None:
            with fabric.autocast():
                seen = image if batch.weak is None else batch.weak.contiguous(memory_format=layout)
                teacher_logits = ask_teacher(seen, recipe.temperature)
        with enough_values(budget, labelled):
            logits = model(image)
        if recipe.compares_features and teacher_logits is not None:
            (logits, projected), (teacher_logits, teacher_features) = logits, teacher_logits
            features = projected, teacher_features
        terms = compute_loss(logits, teacher_logits, batch, recipe, features)
        fabric.backward(terms["loss"])
        if budget.clip is not None:
            fabric.clip_gradients(model, optimiser, max_norm=budget.clip, error_if_nonfinite=False)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if average is not None:
            average.update_parameters(network)
        progress.step += 1

        # Looking at the loss waits for a GPU, so it is not done at every step there.
        logging = progress.step % LOG_EVERY == 0 or progress.step in (1, budget.steps)
        if device.type == "cpu" or logging:
            last_terms = {name: float(value.detach()) for name, value in terms.items()}
            if not all(math.isfinite(value) for value in last_terms.values()):
                raise TrainingDiverged(diverged_message(last_terms, progress, budget))
        progress.seconds += time.perf_counter() - started
        if logging and fabric.is_global_zero:
            seconds = round(progress.seconds, 3)
            run.add_metrics(
                {"step": progress.step, "seconds": seconds, "lr": learning_rate(budget, step), **last_terms}
            )
            run.write_status(RunStatus(state="running", step=progress.step, steps=budget.steps, seconds=seconds))
        if on_step:
            on_step(progress.step, budget.steps)

        last = progress.step == budget.steps
        if progress.step in validations:
            check_weights(network, progress, budget)
            score = validate(candidate)
            model.train()
            if fabric.is_global_zero:
                run.add_metrics(
                    {"step": progress.step, "seconds": round(progress.seconds, 3), "validation_mean_ap": score}
                )
            save_best(score)
            if on_score:
                on_score(progress.step, score)
        stopping = not last and should_stop()
        if progress.step % budget.save_every == 0 or last or stopping:
            check_weights(network, progress, budget)
            if fabric.is_global_zero:
                save_state(run, learner, optimiser, average, progress)
            fabric.barrier()
        if stopping:
            break
    return progress


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """The exponential moving average of a network's weights and statistics; whole numbers (counters, band order) are copied."""
    move: Callable[[Any, Any, Any], None] = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]

    def update(average: Any, current: Any, updates: Any) -> None:
        if average[0].is_floating_point():
            move(average, current, updates)
        else:
            torch._foreach_copy_(average, current)

    return AveragedModel(network, multi_avg_fn=update, use_buffers=True)


def make_fabric(device: str, devices: int, precision: Any) -> Fabric:
    """Fabric for one or several processes; several on a CPU or on several GPUs use DistributedDataParallel.

    Raises:
        SettingsError: there is no such device here.
    """
    try:
        return Fabric(
            accelerator="auto" if device == "auto" else device,
            devices=devices,
            strategy="auto" if devices == 1 else "ddp_spawn",
            precision=precision,
        )
    except (ValueError, RuntimeError, MisconfigurationException) as error:
        reason = " ".join(str(error).split())[:200]
        raise SettingsError(f"device {device!r} cannot be used here ({reason}). Choose auto or cpu.") from error


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


def check_weights(network: nn.Module, progress: Progress, budget: Budget) -> None:
    """Never save or judge weights that are no numbers."""
    if not all(
        bool(torch.isfinite(value).all()) for value in network.state_dict().values() if value.is_floating_point()
    ):
        raise TrainingDiverged(diverged_message({"a weight": math.nan}, progress, budget))


def diverged_message(terms: dict[str, float], progress: Progress, budget: Budget) -> str:
    """What happened, what is kept, and what to change."""
    name = next(name for name, value in terms.items() if not math.isfinite(value))
    kept = (
        f"the best checkpoint (step {progress.best_step}) is kept"
        if progress.best_step
        else "no checkpoint was reached yet"
    )
    return (
        f"{name} became {terms[name]} at step {progress.step}; {kept}. "
        f"Lower the learning rate (now {budget.learning_rate:g}), lengthen the warm-up, or use precision 32-true, and start a new run."
    )


def save_state(
    run: RunDirectory,
    learner: SegmentationNetwork | FeatureStudent,
    optimiser: torch.optim.Optimizer,
    average: AveragedModel | None,
    progress: Progress,
) -> None:
    """Write everything that a resumed training needs: weights, optimiser, averaged weights, progress."""
    tensors = {
        f"{part}/{name}": value
        for part, module in parts(learner).items()
        for name, value in module.state_dict().items()
    }
    for index, values in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{name}": torch.as_tensor(value) for name, value in values.items()}
    if average is not None:
        tensors |= {f"average/{name}": value for name, value in average.state_dict().items()}
    save_tensors(run.state, tensors, vars(progress))


def parts(learner: SegmentationNetwork | FeatureStudent) -> dict[str, nn.Module]:
    """What is trained, by the name that it has in a saved state: the network, and the projection of its features."""
    if isinstance(learner, FeatureStudent):
        return {"network": learner.network, "projection": learner.projection}
    return {"network": learner}


def load_state(
    run: RunDirectory,
    learner: SegmentationNetwork | FeatureStudent,
    optimiser: torch.optim.Optimizer,
    average: AveragedModel | None,
) -> Progress:
    """Put a saved state back."""
    tensors, values = load_tensors(run.state)
    for part, module in parts(learner).items():
        module.load_state_dict(
            {name.removeprefix(f"{part}/"): value for name, value in tensors.items() if name.startswith(f"{part}/")}
        )
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        kind, _, rest = name.partition("/")
        if kind == "optimiser":
            index, _, key = rest.partition("/")
            state.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    if average is not None:
        average.load_state_dict(
            {name.removeprefix("average/"): value for name, value in tensors.items() if name.startswith("average/")}
        )
    return Progress(**values)
