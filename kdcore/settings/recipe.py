"""How a student learns from its teacher: the registry of distillation losses, and the recipe made of them.

A new loss is a function of `kdcore.losses`, an entry of `DISTILLATIONS`, and its tests: settings files, the command, the pages,
the search space of sweeps and the docs take it from its entry.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import Field, create_model, field_validator, model_validator

from kdcore.settings.fields import Described, Frozen

FORMULA = "loss = (1 - alpha) * task + alpha * T^2 * KL(teacher_T || student_T)"
Mix = Literal["none", "cutmix", "mixup"]
Augment = Literal["none", "unlabelled", "all"]
Task = Literal["cross_entropy", "cross_entropy+dice"]
Kind = TypeVar("Kind", bound=Frozen)


@dataclass(frozen=True)
class Method:
    """A distillation loss: one way to compare a student with its teacher.

    Attributes:
        loss: name of its function in `kdcore.losses`. Of logits it takes `(student, teacher, temperature, valid)`, of classes
            `(student, teacher, valid)`, of features `(projected student's, teacher's, valid)`.
        label: its name on a page.
        description: what it compares.
        formula, source: for docs/mathematics.md.
        most: highest weight of a term that is added to the main one; None for a main one, which `distillation:` names.
        compares: 'logits', which every teacher has, asked now or in advance; 'classes', which come from them without a temperature; or
            'features' of the last decoder layer, which one
            trained network has, without flips and asked at each step, but no average and no ONNX file.
    """

    loss: str
    label: str
    description: str
    formula: str
    source: str
    most: float | None = None
    compares: Literal["logits", "classes", "features"] = "logits"


DISTILLATIONS: dict[str, Method] = {
    "pixel": Method(
        loss="distillation",
        label="Pixel by pixel",
        description="each pixel's probabilities are compared",
        formula="`T^2 * mean over V of KL(p to q)`; of one logit z that of the logits (0, z)",
        source="Hinton, Vinyals & Dean 2015",
    ),
    "channel": Method(
        loss="channel_kl",
        label="Channel by channel",
        description="where in the crop each class is",
        formula="softmax over the *positions* of each class's map; `T^2 / (N * C) * sum of KL`",
        source="Shu et al. 2021",
    ),
    "hard": Method(
        loss="pseudo_labels",
        label="Pseudo-labels",
        description="the class that the teacher finds most likely is a label, however sure it is (`confidence` leaves out the unsure)",
        formula="mean over V of `-log q` of the class whose p is largest, both at T = 1",
        source="Lee 2013",
        compares="classes",
    ),
    "channels": Method(
        loss="channel_kl",
        label="Weight of the channel-wise loss",
        description="weight of a channel-wise loss on the logits beside the pixel-wise one; usual is 3, with T from 1 to 4",
        formula="as `distillation: channel`",
        source="Shu et al. 2021",
        most=100,
    ),
    "features": Method(
        loss="feature_mse",
        label="Weight of the distance between features",
        description="weight of the distance between the decoders' features, after a projection that is trained and thrown away",
        formula="mean over positions and channels of `(projected student's - teacher's)^2`",
        source="Romero et al. 2015",
        most=100,
        compares="features",
    ),
    "hint": Method(
        loss="hint",
        label="Weight of the hint of normalised features",
        description="weight of the distance between the decoders' features, each position's scaled to length 1, so that a weight means the same "
        "for every pair of networks; after a projection that is trained and thrown away",
        formula="mean over positions of `2 - 2 * cos(projected student's, teacher's)`, the squared distance of vectors of length 1",
        source="Romero et al. 2015 (FitNets' hint, normalised)",
        most=100,
        compares="features",
    ),
}

CHOICES = {name: method for name, method in DISTILLATIONS.items() if method.most is None}
"""The losses that can be the main term."""
ADDED = {name: method for name, method in DISTILLATIONS.items() if method.most is not None}
"""The losses that are added to it; each has its weight as a field of `Recipe`."""
OF_FEATURES = tuple(name for name, method in ADDED.items() if method.compares == "features")
WITHOUT_FEATURES = (
    f"{', '.join(f'{name}: 0' for name in OF_FEATURES)} and use `channels`, which compares logits, as every teacher has"
)
"""How to do without the losses that compare features."""

# Losses that say nothing about two classes, and why; docs/mathematics.md shows it in numbers.
NOT_OFFERED = {
    "dkd": "beside the true class of two there is one other, and the softmax of one class is always 1",
    "dist": "the correlation of two probabilities is always 1 or -1",
    "logit_standardisation": "two standardised logits are always 1 and -1, however sure the teacher is",
}

# The parts of a recipe that only a teacher gives, as they are where nobody asks one.
FROM_THE_TEACHER = dict.fromkeys(("unlabelled", "confidence", "mean_teacher", *ADDED), 0.0)

if TYPE_CHECKING:
    Choice = str
else:
    Choice = Literal[tuple(CHOICES)]


def for_each_loss(annotation: Any, field: Callable[[str], Any]) -> Callable[[type[Kind]], type[Kind]]:
    """A class decorator that gives a model one more field for each added loss, under the loss's name.

    Args:
        annotation: type of the fields.
        field: a field by the name of its loss.
    """

    def extend(kind: type[Kind]) -> type[Kind]:
        fields: dict[str, Any] = {name: (annotation, field(name)) for name in ADDED}
        return create_model(kind.__name__, __base__=kind, __module__=kind.__module__, __doc__=kind.__doc__, **fields)

    return extend


@for_each_loss(float, lambda name: Field(default=0.0, ge=0, le=ADDED[name].most, description=ADDED[name].description))
class Recipe(Described):
    """How a student learns: `loss = (1 - alpha) * task + alpha * (main term + weight * each added term)`.

    The main term contains T^2. The labelled crops of a step are the same in every arm, whatever is added to them.
    """

    temperature: float = Field(default=2.0, ge=1, le=20)
    """T, how much of the teacher's doubt is passed on; 1 leaves its predictions as they are"""
    alpha: float = Field(default=0.5, ge=0, le=1)
    """the teacher's share of the loss: 0 is labels only (the student alone, bit for bit), 1 the teacher only"""
    task: Task = "cross_entropy"
    """loss on the labels, in both students; `+dice` adds the soft Dice loss"""
    distillation: Choice = Field(
        default="pixel",
        description="; ".join(f"`{name}`: {method.description}" for name, method in CHOICES.items()),
    )
    unlabelled: float = Field(default=0.0, ge=0, le=4)
    """crops of `unlabelled/`, and with `labels` below 1 of the whole train part, added to a batch for each labelled
    one; they only serve the distillation term"""
    mix: Mix = "none"
    """`cutmix` pastes a rectangle of another crop, `mixup` blends two crops; labels and soft labels follow, in every
    arm"""
    augment: Augment = "none"
    """strong augmentation (colour, blur, enlarged parts) of what the student sees, while the teacher predicts the view
    without colour and blur: `unlabelled` of the crops without labels, `all` of every crop, in every arm"""
    confidence: float = Field(default=0.0, ge=0, le=1)
    """pixels for which the teacher's highest probability is lower count 0 in the main term; 0 counts all alike"""
    mean_teacher: float = Field(default=0.0, ge=0, lt=1)
    """decay of averaged weights of the student itself, which predict instead of the study's teacher, for example 0.99,
    and are validated and kept (in place of `budget.ema`); a baseline that needs no teacher. 0 asks the teacher"""
    teacher_sees: Literal["scene", "crop"] = Field(
        default="scene",
        description="`scene`: the teacher predicts the scene, with a crop's surroundings and without its jitter, and its soft labels are "
        "cached ([why](mathematics.md#what-the-teacher-sees)); `crop`: it predicts the student's very input, at every step, which is the default "
        f"with {', '.join(f'`{name}`' for name in OF_FEATURES)}, `mixup` or `mean_teacher`. With `augment` it is the input before colour and blur",
    )

    @model_validator(mode="before")
    @classmethod
    def _sees(cls, values: Any) -> Any:
        """Where nothing is said, a recipe that needs the teacher at every step has it."""
        if isinstance(values, Mapping) and (
            values.get("mix") == "mixup" or any(map(values.get, (*OF_FEATURES, "mean_teacher")))
        ):
            return {"teacher_sees": "crop", **values}
        return values

    @field_validator("distillation", mode="before")
    @classmethod
    def _offered(cls, name: Any) -> Any:
        if isinstance(name, str) and name in NOT_OFFERED:
            raise ValueError(f"{name} is not offered, because {NOT_OFFERED[name]}; choose {' or '.join(CHOICES)}")
        return name

    @model_validator(mode="after")
    def _used(self) -> "Recipe":
        weights, main = self.weights, CHOICES[self.distillation]
        if self.unlabelled and not self.alpha:
            raise ValueError(
                "`unlabelled` crops have no labels and with alpha = 0 no teacher either; raise alpha or set unlabelled: 0"
            )
        if weights and not self.alpha:
            raise ValueError(
                f"the term {', '.join(f'`{name}`' for name in weights)} comes from the teacher, which alpha = 0 never asks; "
                "raise alpha or set its weight to 0"
            )
        for name in ("confidence", "mean_teacher"):
            if getattr(self, name) and not self.alpha:
                raise ValueError(
                    f"`{name}` is of the teacher's term, which alpha = 0 leaves out; raise alpha or set {name}: 0"
                )
        if self.teacher_sees == "scene" and self.mean_teacher:
            raise ValueError(
                "a mean teacher changes at every step, so nothing of it can be cached: set teacher_sees: crop, or mean_teacher: 0"
            )
        for name in weights:
            if ADDED[name].loss == main.loss:
                raise ValueError(
                    f"`distillation: {self.distillation}` is the loss of `{name}` already; set {name}: 0, or distillation: pixel"
                )
        if self.teacher_sees == "scene" and self.compares_features:
            raise ValueError(
                "a soft-label cache holds predictions, no features: set teacher_sees: crop, so that the teacher is asked at each step, or set "
                f"{WITHOUT_FEATURES}"
            )
        if self.teacher_sees == "scene" and self.mix == "mixup":
            raise ValueError(
                "`mixup` blends two crops, and the teacher must see the blend to answer for it: set teacher_sees: crop, or mix: cutmix"
            )
        return self

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each added loss that this recipe has, by its name in `ADDED`."""
        found = {name: float(getattr(self, name)) for name in ADDED}
        return {name: weight for name, weight in found.items() if weight}

    @property
    def formula(self) -> str:
        """The loss with its main and its added terms; a main one that is not pixel by pixel stands by its name in `CHOICES`."""
        added = "".join(f" + {weight:g} * {name}" for name, weight in self.weights.items())
        usual = FORMULA.rpartition("alpha * ")[2]
        main = usual if self.distillation == "pixel" else self.distillation
        return FORMULA.replace(usual, f"({main}{added})" if added else main)

    @property
    def compares_features(self) -> bool:
        """Whether one of its losses compares the decoders' features."""
        return any(name in OF_FEATURES for name in self.weights)

    def to_change(self) -> dict[str, Any]:
        """Plain values to put others over: what the teacher sees follows from those again, unless it is the crop already."""
        return self.model_dump(mode="json", exclude={"teacher_sees"} if self.teacher_sees == "scene" else None)

    @property
    def alone(self) -> "Recipe":
        """The same without the teacher: that of the student alone."""
        return self.model_copy(update={"alpha": 0.0, **FROM_THE_TEACHER})
