"""What is trained, and what is saved of it, so that a resumed training goes on exactly."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from kdcore.errors import TrainingDiverged
from kdcore.models.checkpoint import load_tensors, save_tensors
from kdcore.models.networks import SegmentationNetwork
from kdcore.settings import Budget
from kdcore.training.objective import FeatureStudent


@dataclass
class Progress:
    """Where a training stands; saved with the weights, so that a resumed one goes on exactly."""

    step: int = 0
    seconds: float = 0.0
    best_step: int = 0
    best_score: float = -1.0


@dataclass
class Training:
    """A network in training.

    Attributes:
        network: what is trained.
        learner: the network, or it and the projection of its features where these are compared.
        optimiser: of the learner's weights.
        average: the averaged weights, where the budget or the recipe wants them.
        progress: where it stands.
    """

    network: SegmentationNetwork
    learner: SegmentationNetwork | FeatureStudent
    optimiser: torch.optim.Optimizer
    average: AveragedModel | None
    progress: Progress

    @classmethod
    def begin(
        cls,
        network: SegmentationNetwork,
        learner: SegmentationNetwork | FeatureStudent,
        budget: Budget,
        average: AveragedModel | None,
    ) -> "Training":
        """One at its first step."""
        # The optimiser's state is small beside the activations, and one implementation everywhere keeps resumes exact.
        optimiser = torch.optim.AdamW(learner.parameters(), lr=budget.learning_rate, weight_decay=budget.weight_decay)
        return cls(network, learner, optimiser, average, Progress())

    @property
    def candidate(self) -> SegmentationNetwork:
        """What is validated, and kept as best: the averaged network where there is one."""
        return cast(SegmentationNetwork, self.average.module) if self.average is not None else self.network

    @property
    def parts(self) -> dict[str, nn.Module]:
        """What is trained, by the name that it has in a saved state: the network, and the projection of its features."""
        if isinstance(self.learner, FeatureStudent):
            return {"network": self.learner.network, "projection": self.learner.projection}
        return {"network": self.learner}

    def save(self, file: Path) -> None:
        """Write everything that a resumed training needs: weights, optimiser, averaged weights, progress."""
        tensors = {
            f"{part}/{name}": value
            for part, module in self.parts.items()
            for name, value in module.state_dict().items()
        }
        for index, values in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser/{index}/{name}": torch.as_tensor(value) for name, value in values.items()}
        if self.average is not None:
            tensors |= {f"average/{name}": value for name, value in self.average.state_dict().items()}
        save_tensors(file, tensors, vars(self.progress))

    def load(self, file: Path) -> None:
        """Put a saved state back."""
        tensors, values = load_tensors(file)
        for part, module in self.parts.items():
            module.load_state_dict(below(part, tensors))
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in below("optimiser", tensors).items():
            index, _, key = name.partition("/")
            state.setdefault(int(index), {})[key] = value
        self.optimiser.load_state_dict({"state": state, "param_groups": self.optimiser.state_dict()["param_groups"]})
        if self.average is not None:
            self.average.load_state_dict(below("average", tensors))
        self.progress = Progress(**values)

    def check_weights(self, budget: Budget) -> None:
        """Never save or judge weights that are no numbers.

        Raises:
            TrainingDiverged: they are none.
        """
        values = self.network.state_dict().values()
        if not all(bool(torch.isfinite(value).all()) for value in values if value.is_floating_point()):
            raise TrainingDiverged(diverged_message({"a weight": math.nan}, self.progress, budget))


def below(folder: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those whose names begin with 'FOLDER/', by the rest of their names."""
    start = f"{folder}/"
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """The exponential moving average of a network's weights and statistics; whole numbers (counters, band order) are copied."""
    move: Callable[[Any, Any, Any], None] = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]

    def update(average: Any, current: Any, updates: Any) -> None:
        if average[0].is_floating_point():
            move(average, current, updates)
        else:
            torch._foreach_copy_(average, current)

    return AveragedModel(network, multi_avg_fn=update, use_buffers=True)


def check_loss(terms: Mapping[str, float], progress: Progress, budget: Budget) -> None:
    """End a training whose loss is not a number any more.

    Raises:
        TrainingDiverged: says what happened, what is kept, and what to change.
    """
    if not all(math.isfinite(value) for value in terms.values()):
        raise TrainingDiverged(diverged_message(terms, progress, budget))


def diverged_message(terms: Mapping[str, float], progress: Progress, budget: Budget) -> str:
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
