"""From what a person chose on the Sweep page to the settings of a sweep. No streamlit here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kdcore.jobs.sweep_trials import TrialRecord
from kdcore.recipes import OWN
from kdcore.settings import ADDED, PRESETS, STUDY_PRESETS, Recipe, SweepSettings, validate
from kdcore.ui import words
from kdcore.ui.choices import EarlierTeacher, network_name
from kdcore.views.sweep_look import NAMES

TEMPERATURES = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0)
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
MORE = {name: NAMES[name] for name in ("learning_rate", "task", "distillation")}
OBJECTIVES = {"quality": "Quality", "size": "Size", "latency": "Latency"}
CONFIRMATIONS = (0, 2, 3, 5, 10)
FEW_CONFIRM = 3  # fresh seeds that the button offers
DEFAULTS = STUDY_PRESETS["demo"]  # whose crops and batches are quick on a CPU
STEPS, TEACHER_STEPS, TRIALS, REPEATS = 100, 300, 24, 3
LOOKS = 5  # validations of a trial, so that a hopeless one can be ended early


@dataclass(frozen=True)
class Space:
    """What is searched.

    Attributes:
        temperature, alpha, learning_rate: both ends; equal ends are one value, which is not searched.
        students: names of `PRESETS`.
        more: what is searched beside temperature and alpha, keys of `MORE`.
    """

    temperature: tuple[float, float]
    alpha: tuple[float, float]
    students: Sequence[str]
    more: Sequence[str]
    learning_rate: tuple[float, float]

    def values(self) -> dict[str, Any]:
        """As `SearchSpace` takes it."""
        space: dict[str, Any] = {
            "temperature": range_or_value(self.temperature, log=True),
            "alpha": range_or_value(self.alpha),
            "student": list(self.students),
        }
        if "learning_rate" in self.more:
            space["learning_rate"] = range_or_value(self.learning_rate, log=True)
        lists = {"task": words.TASKS, "distillation": words.DISTILLATIONS}
        return space | {name: list(values) for name, values in lists.items() if name in self.more}


@dataclass(frozen=True)
class SweepChoices:
    """What was chosen.

    Attributes:
        space: what is searched.
        seconds: of a trial, in place of `steps`; None for steps.
        teacher: a network's name, unless an earlier study's is `reused`.
    """

    space: Space
    objectives: Sequence[str]
    trials: int
    repeats: int
    confirm: int
    steps: int
    seconds: float | None
    batch_size: int
    crop: int
    pruning: bool
    teacher: str
    teacher_steps: int
    storage: str = ""
    reused: EarlierTeacher | None = None

    def settings(self) -> SweepSettings:
        """The sweep's settings.

        Raises:
            SettingsError: what does not fit together.
        """
        budget = {"batch_size": self.batch_size, "crop": self.crop}
        teacher: dict[str, Any] = {"network": self.teacher, "budget": budget_of(self.teacher_steps, budget)}
        if self.reused is not None:
            teacher |= self.reused.settings()
        values = {
            "space": self.space.values(),
            "objectives": list(self.objectives),
            "trials": self.trials,
            "repeats": self.repeats,
            "confirm": self.confirm,
            "budget": budget_of(self.steps, budget),
            "seconds": self.seconds,
            "pruning": self.pruning,
            "teacher": teacher,
            "storage": self.storage or None,
        }
        return validate(SweepSettings, values, "the sweep's settings")


def range_or_value(ends: tuple[float, float], *, log: bool = False) -> dict[str, Any] | float:
    """An entry of the search space: a range, or one value where both ends are the same."""
    low, high = ends
    return low if low == high else {"low": low, "high": high, "log": log}


def budget_of(steps: int, more: dict[str, int]) -> dict[str, Any]:
    """A training's budget, looked at a few times on the way."""
    return {"steps": steps, "validations": LOOKS, **more}


def train_address(settings: SweepSettings, trial: TrialRecord, steps: int, data: str) -> dict[str, str]:
    """The address of the Train page that is filled in with a trial's settings.

    Args:
        settings: of the sweep.
        trial: whose settings are used.
        steps: that it trained.
        data: 'demo' or the path of a collection.
    """
    budget, teacher = settings.budget, settings.teacher
    weights = {name: repr(trial.params[name]) for name in ADDED if trial.params.get(name)}
    return weights | {
        "data": data,
        "preset": "Quick",
        # What a sweep varies stands in the address; the rest of its recipe is the classic one's. Weights are knobs of one's own.
        "recipe": OWN.capitalize() if weights else "Classic",
        "temperature": f"{trial.params.get('temperature', Recipe().temperature):g}",
        "alpha": f"{trial.params['alpha']:g}",
        "student": str(trial.params["student"]),
        "steps": str(steps),
        "teacher_steps": str(teacher.budget.steps),
        "batch_size": str(budget.batch_size),
        "crop": str(budget.crop),
        "learning_rate": repr(trial.params["learning_rate"]),
        "teacher": str(teacher.checkpoints[0]) if teacher.checkpoints else network_name(teacher.network),
        "task": str(trial.params["task"]),
        "distillation": str(trial.params.get("distillation", Recipe().distillation)),
    }


def fits_train(trial: TrialRecord) -> bool:
    """Whether the Train page offers the trial's student."""
    return trial.params.get("student") in PRESETS
