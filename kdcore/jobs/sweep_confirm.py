"""Which settings meet each other in a sweep's confirmation; decided once, when the trials have ended. Never imports torch."""

from kdcore.files import write_json
from kdcore.jobs.small_files import read_json
from kdcore.jobs.sweep_folder import SweepFolder
from kdcore.jobs.sweep_trials import TrialRecord
from kdcore.settings import Frozen, Recipe, SweepSettings

FRESH = 10_000  # added to the sweep's seed: seeds that no trial had


class ConfirmationPlan(Frozen):
    """What is trained.

    Attributes:
        trial: the best one.
        best, default: settings by name; the same student in both.
        seeds: fresh ones.
    """

    trial: int
    best: dict[str, float | str]
    default: dict[str, float | str]
    seeds: tuple[int, ...]


def planned_confirmation(sweep: SweepFolder) -> ConfirmationPlan | None:
    """The plan that was made, or one made now and kept: the test split is read for one best setting, not for a later one, too.

    Returns:
        None where no trial has finished.
    """
    file = sweep.path / "confirm" / "plan.json"
    plan = read_json(ConfirmationPlan, file)
    if plan is not None:
        return plan
    settings = sweep.settings
    best = best_trial(sweep.trials(), settings)
    if best is None:
        return None
    default = default_params(settings, str(best.params["student"]))
    seeds = tuple(range(settings.seed + FRESH, settings.seed + FRESH + settings.confirm))
    plan = ConfirmationPlan(trial=best.number, best={**default, **best.params}, default=default, seeds=seeds)
    write_json(file, plan.model_dump(mode="json"))
    return plan


def best_trial(trials: list[TrialRecord], settings: SweepSettings) -> TrialRecord | None:
    """The finished trial with the highest quality among those with the sweep's own seed; the first of equals."""
    finished = [trial for trial in trials if trial.state == "finished" and trial.seed == settings.seed]
    return max(finished, key=lambda trial: trial.values["quality"], default=None)


def default_params(settings: SweepSettings, student: str) -> dict[str, float | str]:
    """What somebody uses who never heard of the sweep: the recipe's defaults and the budget's learning rate."""
    recipe = Recipe()
    weights: dict[str, float | str] = {name: float(getattr(recipe, name)) for name in settings.space.weights}
    return weights | {
        "temperature": recipe.temperature,
        "alpha": recipe.alpha,
        "learning_rate": settings.budget.learning_rate,
        "student": student,
        "task": recipe.task,
        "distillation": recipe.distillation,
    }
