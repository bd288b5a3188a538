"""What a sweep searches, and what it may spend."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from kdcore.settings.fields import Described, limits
from kdcore.settings.network import PRESETS, parse_network
from kdcore.settings.recipe import ADDED, CHOICES, OF_FEATURES, Choice, Recipe, Task, for_each_loss
from kdcore.settings.study import Budget, EvaluationSettings, Hardware, TeacherSettings, check_features

LEARNING_RATES = (1e-8, 10.0)


class Range(Described):
    """Numbers between two ends, both included; `log` spreads them evenly over magnitudes."""

    low: float
    """the lower end"""
    high: float
    """the upper end"""
    log: bool = False
    """evenly over magnitudes: as many trials between 1 and 3 as between 3 and 9"""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(
                f"a range from {self.low:g} to {self.high:g} holds nothing to search; low must be below high"
            )
        if self.log and self.low <= 0:
            raise ValueError(f"a range with `log: true` starts above 0, not at {self.low:g}")
        return self

    @property
    def centre(self) -> float:
        """The middle: of the magnitudes where `log` is set."""
        return (self.low * self.high) ** 0.5 if self.log else (self.low + self.high) / 2


def as_values(value: Any) -> Any:
    """One value as a list of one; ranges and lists as they are."""
    return value if value is None or isinstance(value, Range | Mapping | list | tuple) else (value,)


def range_or_values(value: Any) -> str:
    """Which of the two a searched number is given as."""
    return "range" if isinstance(value, Range | Mapping) else "values"


Numbers = Annotated[
    Annotated[Range, Tag("range")] | Annotated[tuple[float, ...], Tag("values")],
    Discriminator(range_or_values),
    BeforeValidator(as_values),
]
Names = Annotated[tuple[str, ...], BeforeValidator(as_values)]


def span(name: str) -> str:
    """The description of a number that the recipe limits."""
    low, high = limits(Recipe, name)
    return f"as `recipe.{name}`: {low:g} to {high:g}"


@for_each_loss(Numbers | None, lambda name: Field(default=None, description=f"{span(name)}; without it 0"))
class SearchSpace(Described):
    """What a sweep varies: each entry is one value (not varied), a list to choose from, or a range `{low, high, log}`."""

    temperature: Numbers = Field(default=Range(low=1, high=10, log=True), description=span("temperature"))
    alpha: Numbers = Field(default=Range(low=0, high=1), description=span("alpha"))
    learning_rate: Numbers | None = None
    """without it the budget's"""
    student: Names = ("small",)
    """presets or `architecture/encoder`"""
    task: Annotated[tuple[Task, ...], BeforeValidator(as_values)] = ("cross_entropy",)
    """as `recipe.task`"""
    distillation: Annotated[tuple[Choice, ...], BeforeValidator(as_values)] = ("pixel",)
    """as `recipe.distillation`"""

    @field_validator("student")
    @classmethod
    def _networks(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            parse_network(name)
        return names

    @model_validator(mode="after")
    def _usable(self) -> Self:
        ends = {name: limits(Recipe, name) for name in ("temperature", "alpha", *ADDED)}
        ends["learning_rate"] = LEARNING_RATES
        for name, (lowest, highest) in ends.items():
            entry = getattr(self, name)
            values = () if entry is None else (entry.low, entry.high) if isinstance(entry, Range) else entry
            wrong = [value for value in values if not lowest <= value <= highest]
            if wrong:
                raise ValueError(f"{name} can be {lowest:g} to {highest:g}, not {wrong[0]:g}")
        for name, entry in self.entries().items():
            if entry == ():
                raise ValueError(f"{name} is empty; give one value, several, or a range")
            if not isinstance(entry, Range) and len(set(entry)) < len(entry):
                raise ValueError(f"{name} lists a value twice: {', '.join(map(str, entry))}")
        main = {CHOICES[name].loss: name for name in self.distillation}
        for name in self.weights:
            if ADDED[name].loss in main:
                raise ValueError(
                    f"{name} is the loss of distillation: {main[ADDED[name].loss]} already; leave out one of them"
                )
        return self

    @property
    def weights(self) -> tuple[str, ...]:
        """The added losses whose weights it names."""
        return tuple(name for name in ADDED if getattr(self, name) is not None)

    def entries(self) -> dict[str, Range | tuple[float, ...] | tuple[str, ...]]:
        """Every entry by its name; what is left to the budget or the recipe is left out."""
        named = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: entry for name, entry in named.items() if entry is not None}

    @property
    def searched(self) -> tuple[str, ...]:
        """Names of what varies."""
        return tuple(name for name, entry in self.entries().items() if isinstance(entry, Range) or len(entry) > 1)

    def centre(self) -> dict[str, float | str]:
        """The middle of every range and list."""
        return {
            name: entry.centre if isinstance(entry, Range) else entry[(len(entry) - 1) // 2]
            for name, entry in self.entries().items()
        }


Objective = Literal["quality", "size", "latency"]


class SweepSettings(Described):
    """A search for the temperature and alpha that are worth using, under one budget for every trial.

    Every sweep also trains the student alone (alpha = 0) of each size, and repeats the centre of the search space with other seeds,
    so that seed-to-seed spread can be set against the settings.
    """

    space: SearchSpace = SearchSpace()
    """what is varied"""
    objectives: tuple[Objective, ...] = ("quality",)
    """`quality` (mean AP on validation), `size` (parameters) and `latency` (milliseconds a megapixel on this device);
    the last two need several students"""
    trials: int = Field(default=24, ge=1, le=10_000)
    """in all, with the student alone and the repeats, which come first; more than before extend the sweep"""
    budget: Budget = Budget(steps=400, crop=128)
    """of each trial"""
    seconds: float | None = Field(default=None, gt=0)
    """seconds of training for each trial, in place of `budget.steps`: how many steps fit is measured once for each
    student"""
    pruning: bool = True
    """a trial that does worse than every finished one did by then is ended early; with one objective only"""
    repeats: int = Field(default=3, ge=2, le=50)
    """trainings of the middle of the search space, each with another seed: they measure the seed-to-seed spread"""
    seed: int = Field(default=0, ge=0, lt=2**30)
    """of all trials but the repeats"""
    confirm: int = Field(default=0, ge=0, le=50)
    """fresh seeds with which the best setting meets the default on the test split, once; 0 disables it, and it can be
    done later"""
    teacher: TeacherSettings = TeacherSettings(network=PRESETS["light"], budget=Budget(steps=500, crop=128))
    """one for all trials"""
    evaluation: EvaluationSettings = EvaluationSettings()
    """as in a study"""
    hardware: Hardware = Hardware()
    """as in a study, with one device; each worker has one thread"""
    storage: str | None = None
    """URL of a database for the trials (`sqlite:///FILE`, `postgresql://...`), on which several machines can work; else
    `journal.log` in the folder. It is kept in `sweep.yaml` as it is, with a password if it has one"""

    @model_validator(mode="after")
    def _measurable(self) -> Self:
        if not self.space.searched:
            raise ValueError(
                "the search space is empty: every entry has one value only. "
                "Give one of them a list or a range, for example `temperature: {low: 1, high: 10, log: true}`"
            )
        if not self.objectives:
            raise ValueError("there is no objective; name quality, size or latency")
        if len(set(self.objectives)) < len(self.objectives):
            raise ValueError(f"objectives names one twice: {', '.join(self.objectives)}")
        for name in self.objectives:
            if name != "quality" and len(self.space.student) == 1:
                raise ValueError(
                    f"the objective {name!r} cannot be measured: every trial has the same student ({self.space.student[0]}). "
                    f"List several under space.student, for example [tiny, small], or leave {name} away"
                )
        if self.trials < self.fixed_trials + 1:
            raise ValueError(
                f"{self.trials} trials are too few: {len(self.space.student)} of the student alone and {self.repeats} repeats "
                f"come first. Give at least {self.fixed_trials + 1}"
            )
        if self.hardware.processes > 1:
            raise ValueError(
                "a trial uses one device; set hardware.devices and hardware.nodes to 1 and start more workers instead"
            )
        return self

    @model_validator(mode="after")
    def _features(self) -> Self:
        if any(name in OF_FEATURES for name in self.space.weights):
            teacher = self.teacher
            check_features(len(teacher.checkpoints or teacher.seeds), teacher.flips, teacher.checkpoints)
            if self.seconds is not None:
                raise ValueError(
                    "how many steps fit is measured with cached soft labels, which hold no features; "
                    f"give budget.steps instead of seconds, or leave out {', '.join(OF_FEATURES)}"
                )
        return self

    @property
    def fixed_trials(self) -> int:
        """Trials that every sweep does first: the student alone of each size, and the repeats of the centre."""
        return len(self.space.student) + self.repeats

    @property
    def prunes(self) -> bool:
        """Whether hopeless trials are ended early: with several objectives no trial is hopeless before its end."""
        return self.pruning and len(self.objectives) == 1
