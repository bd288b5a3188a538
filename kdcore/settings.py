"""What a collection, a run and a study are: typed, frozen, validated; YAML in and out.

Everything else in kdcore receives these. This module never imports torch.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from kdcore.errors import SettingsError
from kdcore.files import write_text
from kdcore.reading import MOST_YAML_BYTES, ReadingError, parse_yaml, read_bytes

SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
MOST_STEP_PIXELS = 2**27  # of a training's batch
MOST_SEEDS = 1000
MOST_CHANNELS = 1024  # of a decoder's step
MOST_PROBLEMS = 20  # that are told at once
COLOUR = re.compile(r"#[0-9A-Fa-f]{6}")
PLACEHOLDER = re.compile(r"\{([A-Za-z]\w*)\}")
Places = str | tuple[str, ...]

Arm = Literal["teacher", "alone", "distilled", "all_labels"]
SplitName = Literal["train", "validation", "test"]
Mix = Literal["none", "cutmix", "mixup"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


class Frozen(BaseModel):
    """Base of all settings: immutable, and an unknown key is an error rather than ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def check_colour(text: str) -> str:
    """Return `text` in upper case if it is '#RRGGBB'."""
    if not COLOUR.fullmatch(text):
        raise ValueError(f"{text!r} is no colour; write it as '#RRGGBB'")
    return text.upper()


class ClassSettings(Frozen):
    """One class: by its value in index masks, by its colour in RGB or palette masks, by its name in polygons.

    With a `value` the masks are read as index masks and the colour only serves to draw.
    """

    name: str = Field(min_length=1, max_length=60)
    value: int | None = None
    colour: str | None = None

    @field_validator("colour")
    @classmethod
    def _colour(cls, colour: str | None) -> str | None:
        return None if colour is None else check_colour(colour)


class SplitSettings(Frozen):
    """Which part of the imagery trains, validates and tests: whole scenes, or blocks of a scene.

    Names are shell patterns ('tile[134]', 'r*c5'). Blocks are cells of `grid` (rows, columns) laid over every scene and
    are called r1c1 ... from the upper left corner. `buffer` is in pixels at the collection's resolution; a study raises it to its crop.
    """

    by: Literal["scene", "block"] = "scene"
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    grid: tuple[int, int] | None = None
    buffer: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.by == "block" and (self.grid is None or min(self.grid) < 1):
            raise ValueError("a split by block needs `grid: [rows, columns]`, for example [4, 6]")
        if self.by == "scene" and self.grid is not None:
            raise ValueError("`grid` only belongs to a split by block; set `by: block` or remove it")
        for name in SPLITS:
            if not getattr(self, name):
                raise ValueError(f"the {name} part of the split is empty; name at least one {self.by}")
        return self


class CollectionSettings(Frozen):
    """The contents of `collection.yaml`: classes, split and how to read the files. See docs/data-format.md.

    `images`, `masks`, `labels` and `unlabelled` are a folder, or a path with `{placeholders}` and `*`, or several of these: see
    `kdcore.data.pairing`.
    """

    name: str
    root: Path | None = None
    images: Places = "images"
    masks: Places = "masks"
    labels: Places = "labels"
    unlabelled: Places = "unlabelled"
    labels_from: Literal["masks", "polygons"] | None = None
    image_field: str | None = None
    classes: tuple[ClassSettings, ...]
    class_field: str | None = None
    ignore: tuple[int | str, ...] = ()
    mask_tolerance: int = Field(default=0, ge=0, le=127)
    area_of_interest: str | None = None
    bands: tuple[int, ...] | None = None
    nodata: float | None = None
    scene: str | None = None
    split: SplitSettings
    metres_per_pixel: float | None = Field(default=None, ge=0.001, le=1_000_000)
    native_metres_per_pixel: float | None = Field(default=None, ge=0.001, le=1_000_000)
    max_declared_gb: float = Field(default=100.0, gt=0)

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        return check_slug(name)

    @field_validator("images", "masks", "labels", "unlabelled", "area_of_interest")
    @classmethod
    def _inside(cls, places: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        for place in (places,) if isinstance(places, str) else places or ():
            if Path(place).is_absolute() or ".." in Path(place).parts:
                raise ValueError(
                    f"{place!r} leads outside the collection's folder; name a folder inside it, or set `root:`"
                )
        return places

    @field_validator("images", "masks", "labels", "unlabelled")
    @classmethod
    def _placeholders(cls, places: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for place in (places,) if isinstance(places, str) else places:
            if re.search(r"[{}]", PLACEHOLDER.sub("", place)):
                raise ValueError(
                    f"{place!r} has a brace that belongs to no placeholder; a placeholder is a word in braces, for example "
                    "'images/{name}_sat'"
                )
        return places

    @field_validator("ignore")
    @classmethod
    def _ignore(cls, ignore: tuple[int | str, ...]) -> tuple[int | str, ...]:
        """Values, colours ('#RRGGBB') or, in a field of polygons, names."""
        return tuple(check_colour(entry) if str(entry).startswith("#") else entry for entry in ignore)  # type: ignore[arg-type]

    @field_validator("scene")
    @classmethod
    def _pattern(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                groups = re.compile(pattern).groupindex
            except re.error as error:
                raise ValueError(f"`scene: {pattern}` is no regular expression: {error}") from error
            if "scene" not in groups:
                raise ValueError(f"`scene: {pattern}` needs a named group, for example 'tile(?P<scene>\\d+)_part\\d+'")
        return pattern

    @model_validator(mode="after")
    def _classes(self) -> Self:
        names = [entry.name for entry in self.classes]
        if len(names) < 2:
            raise ValueError(
                f"one class only ({', '.join(names)}); segmentation needs at least two: add the rest, for example 'background'"
            )
        if len(names) > 200:
            raise ValueError(f"{len(names)} classes; at most 200 are supported")
        for what, values in (
            ("name", names),
            ("value", [str(c.value) for c in self.classes if c.value is not None]),
            ("colour", [c.colour for c in self.classes if c.colour is not None]),
        ):
            repeated = sorted(value for value, times in Counter(values).items() if times > 1)
            if repeated:
                raise ValueError(f"the {what} {repeated[0]!r} belongs to two classes; each needs its own")
        valued = [c.value is not None for c in self.classes]
        if any(valued) and not all(valued):
            raise ValueError(
                "some classes have a `value` and some do not; give every class its value in the masks, or none"
            )
        if self.bands is not None and (not self.bands or min(self.bands) < 1):
            raise ValueError("`bands` are numbered from 1, for example [4, 3, 2]")
        return self

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of all classes in order; the first is the background where labels are polygons or there are two."""
        return tuple(entry.name for entry in self.classes)

    @property
    def binary(self) -> bool:
        """Whether there are two classes: then networks have one logit, for the second class."""
        return len(self.classes) == 2

    @property
    def scored(self) -> tuple[int, ...]:
        """Indices of the classes that get a probability map: the second of two, or all of more."""
        return (1,) if self.binary else tuple(range(len(self.classes)))


class NetworkSettings(Frozen):
    """A segmentation-models-pytorch network by its architecture's and encoder's names."""

    architecture: str = "unet"
    encoder: str = "resnet34"
    depth: int = Field(default=5, ge=3, le=5)
    decoder_channels: tuple[Annotated[int, Field(ge=1, le=MOST_CHANNELS)], ...] | None = Field(
        default=None, max_length=5
    )
    weights: Literal["imagenet"] | None = None

    @field_validator("architecture", "encoder")
    @classmethod
    def _no_address(cls, name: str) -> str:
        """A name, never a place: 'hf-hub:owner/x' would ask a host, 'local-dir:/x' read a folder."""
        if not name or len(name) > 200 or any(letter in name for letter in ":/\\") or not name.isprintable():
            raise ValueError(
                f"{name[:100]!r} is no name of a network; hubs and folders are not opened. "
                "Choose a name of segmentation-models-pytorch or, after 'tu-', of timm, for example 'resnet34' or 'tu-regnetx_002'"
            )
        return name


# Parameters with three bands and five classes, measured by `benchmarks/networks.py`.
PRESETS: dict[str, NetworkSettings] = {
    "large": NetworkSettings(architecture="unetplusplus", encoder="resnet50"),  # 49.0 M
    "base": NetworkSettings(architecture="unet", encoder="resnet34"),  # 24.4 M
    "medium": NetworkSettings(architecture="unet", encoder="resnet18"),  # 14.3 M
    # Learns fastest on a CPU: a teacher for short studies.
    "light": NetworkSettings(encoder="tu-resnet10t", decoder_channels=(128, 64, 48, 32, 16)),  # 6.3 M
    "small": NetworkSettings(encoder="tu-regnetx_002", depth=4, decoder_channels=(96, 64, 32, 16)),  # 0.6 M
    "tiny": NetworkSettings(encoder="tu-regnetx_002", depth=3, decoder_channels=(64, 32, 16)),  # 0.15 M
}


def parse_network(value: Any) -> Any:
    """Turn a preset's name or 'architecture/encoder' into NetworkSettings; leave mappings to pydantic."""
    if not isinstance(value, str):
        return value
    if value in PRESETS:
        return PRESETS[value]
    architecture, separator, encoder = value.partition("/")
    if not separator or not architecture or not encoder:
        raise ValueError(
            f"{value!r} is no network; choose a preset ({', '.join(PRESETS)}) or 'architecture/encoder', for example 'unet/resnet34'"
        )
    return NetworkSettings(architecture=architecture, encoder=encoder)


Network = Annotated[NetworkSettings, BeforeValidator(parse_network)]


# Losses that say nothing about two classes, and why; docs/mathematics.md shows it in numbers.
NOT_OFFERED = {
    "dkd": "beside the true class of two there is one other, and the softmax of one class is always 1",
    "dist": "the correlation of two probabilities is always 1 or -1",
    "logit_standardisation": "two standardised logits are always 1 and -1, however sure the teacher is",
}


# The parts of a recipe that only a teacher gives, as they are where nobody asks one.
FROM_THE_TEACHER = {"unlabelled": 0.0, "channels": 0.0, "features": 0.0}


class Recipe(Frozen):
    """How a student learns: `loss = (1 - alpha) * task + alpha * (T^2 * KL(teacher_T || student_T) + features * F + channels * C)`.

    `unlabelled` is the number of crops without labels added to a batch for each labelled crop; they only serve the
    distillation term, so the labelled crops of a step are the same in every arm.

    `teacher_sees`: 'scene' asks the teacher about the scene itself, with the surroundings of a crop and without the jitter that
    the student's crop has, turned and mirrored as the crop is; such answers are computed once and kept. 'crop' asks it about the
    very input of the student, at every step.
    """

    temperature: float = Field(default=2.0, ge=1, le=20)
    alpha: float = Field(default=0.5, ge=0, le=1)
    task: Literal["cross_entropy", "cross_entropy+dice"] = "cross_entropy"
    distillation: Literal["pixel", "channel"] = "pixel"
    unlabelled: float = Field(default=0.0, ge=0, le=4)
    channels: float = Field(default=0.0, ge=0, le=100, description="weight of an added channel-wise loss on the logits")
    features: float = Field(default=0.0, ge=0, le=100, description="weight of an added loss on the decoders' features")
    mix: Mix = Field(
        default="none", description="crops of a batch mixed with each other, for student and teacher alike"
    )
    teacher_sees: Literal["scene", "crop"] = "scene"

    @model_validator(mode="before")
    @classmethod
    def _sees(cls, values: Any) -> Any:
        """Where nothing is said, a recipe that needs the teacher at every step has it."""
        if isinstance(values, Mapping) and (values.get("features") or values.get("mix") == "mixup"):
            return {"teacher_sees": "crop", **values}
        return values

    @field_validator("distillation", mode="before")
    @classmethod
    def _offered(cls, name: Any) -> Any:
        if isinstance(name, str) and name in NOT_OFFERED:
            raise ValueError(f"{name} is not offered, because {NOT_OFFERED[name]}; choose pixel or channel")
        return name

    @model_validator(mode="after")
    def _used(self) -> Self:
        if self.unlabelled and not self.alpha:
            raise ValueError(
                "`unlabelled` crops have no labels and with alpha = 0 no teacher either; raise alpha or set unlabelled: 0"
            )
        if not self.alpha and (self.channels or self.features):
            raise ValueError(
                "`channels` and `features` come from the teacher, which alpha = 0 never asks; raise alpha or set them to 0"
            )
        if self.distillation == "channel" and self.channels:
            raise ValueError(
                "`distillation: channel` is the channel-wise loss already; set channels: 0, or distillation: pixel"
            )
        if self.teacher_sees == "scene" and self.features:
            raise ValueError("only answers are kept, no features: for `features` set teacher_sees: crop")
        if self.teacher_sees == "scene" and self.mix == "mixup":
            raise ValueError(
                "`mixup` blends two crops, and the teacher must see the blend to answer for it: set teacher_sees: crop, or mix: cutmix"
            )
        return self

    @property
    def alone(self) -> "Recipe":
        """The same without the teacher: that of the student alone."""
        return self.model_copy(update={"alpha": 0.0, **FROM_THE_TEACHER})


RECIPES: dict[str, Recipe] = {
    # Hinton, Vinyals & Dean 2015: labels and softened answers, half and half.
    "classic": Recipe(temperature=2.0, alpha=0.5),
    # Beyer et al. 2022, function matching: the teacher alone, on views stretched by mixing, for long schedules.
    "patient": Recipe(temperature=1.0, alpha=1.0, mix="cutmix"),
    # As many crops without labels as with labels in a batch. The teacher needs none, so it has most of the say.
    "unlabelled": Recipe(temperature=2.0, alpha=0.9, unlabelled=1.0),
    # Shu et al. 2021: the channel-wise loss beside the pixel-wise one, with the paper's weight for logits (temperature 1 to 4).
    "channel-wise": Recipe(temperature=2.0, alpha=0.5, channels=3.0),
}


class Budget(Frozen):
    """What a training may spend, and its optimiser: AdamW, linear warm-up, cosine decay to zero."""

    steps: int = Field(default=1000, ge=1, le=100_000_000)
    batch_size: int = Field(default=8, ge=1, le=4096)
    crop: int = Field(default=256, ge=32, le=8192, multiple_of=32)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    warmup: float = Field(default=0.05, ge=0, lt=1, description="share of the steps")
    clip: float | None = Field(default=1.0, gt=0, description="largest norm of the gradient")
    ema: float | None = Field(default=None, gt=0, lt=1, description="decay of the averaged weights")
    validations: int = Field(
        default=12,
        ge=1,
        description="validations, close together at first; the checkpoint with the best mean AP is kept",
    )
    validate_every: int | None = Field(
        default=None, ge=1, description="steps between validations, instead of their number"
    )
    save_every: int = Field(default=100, ge=1, description="steps between states to resume from")
    rare_classes: float = Field(
        default=0.5, ge=0, le=1, description="share of crops placed by class instead of by area"
    )
    jitter: float = Field(
        default=0.1, ge=0, le=1, description="radiometric jitter: gain and offset, in standard deviations"
    )

    @property
    def validation_steps(self) -> tuple[int, ...]:
        """The steps after which a network is validated: evenly spaced, or in growing distances from early to the last.

        A student with few labels is often best early, and one with many late, so that a fixed distance would give some
        lengths of training few checkpoints to choose from.
        """
        if self.validate_every is not None:
            return (*range(self.validate_every, self.steps, self.validate_every), self.steps)
        first = max(1.0, self.steps / 24)
        growth = (self.steps / first) ** (1 / max(1, self.validations - 1))
        wanted = [round(first * growth**number) for number in range(self.validations - 1)]
        steps = sorted({min(step, self.steps) for step in wanted} | {self.steps})
        return tuple(steps)

    @model_validator(mode="after")
    def _fits_memory(self) -> Self:
        pixels = self.batch_size * self.crop**2
        if pixels > MOST_STEP_PIXELS:
            raise ValueError(
                f"batch_size {self.batch_size} x crop {self.crop} x {self.crop} are {pixels / 1e6:,.0f} million pixels in one step, of which "
                f"every network makes hundreds of numbers each; at most {MOST_STEP_PIXELS / 1e6:,.0f} million are taken. Choose smaller ones"
            )
        return self


class EvaluationSettings(Frozen):
    """Tiles are the unit of the scores and of the bootstrap; windows are what the network sees at once."""

    tile: int = Field(default=128, ge=32, le=8192, multiple_of=32)
    window: int = Field(default=512, ge=32, le=8192, multiple_of=32)
    halo: int = Field(default=32, ge=0, le=2048, multiple_of=32)
    boundary_metres: float = Field(default=2.0, gt=0, le=1000)

    @model_validator(mode="after")
    def _whole_tiles(self) -> Self:
        if self.window % self.tile:
            raise ValueError(f"window ({self.window}) must be a multiple of tile ({self.tile})")
        return self


class Hardware(Frozen):
    """Where and how to compute. On a CPU the defaults are deterministic."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = Field(default=1, ge=1, le=256)
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    channels_last: bool = True
    compile: bool = False
    readers: int = Field(default=2, ge=1, le=64, description="threads that read crops ahead of the network")
    cache_gb: float = Field(
        default=20.0,
        ge=0,
        le=1_000_000,
        description="most disk space for a teacher's kept answers; where they do not fit they are computed live",
    )
    cache_views: Literal["eight", "one"] = Field(
        default="eight",
        description="answers kept for each of the eight turned and mirrored views, or for one, turned to fit the others (an eighth of the space)",
    )


def check_features(members: int, flips: bool, checkpoints: tuple[Path, ...]) -> None:
    """Refuse teachers whose features cannot be compared with a student's.

    Raises:
        ValueError: an average has answers but no features of its own; an ONNX file gives answers only.
    """
    why = (
        f"an ensemble of {members} networks has an average answer, but no features of its own"
        if members > 1
        else "an average over turned views has no features of its own"
        if flips
        else "an ONNX file gives answers only, no features"
        if any(path.suffix.lower() == ".onnx" for path in checkpoints)
        else ""
    )
    if why:
        raise ValueError(f"{why}: set the recipe's features: 0, or let one trained network teach, without flips")


class RunSettings(Frozen):
    """One training: an arm and a seed. `teacher` are the checkpoints whose average teaches a distilled student.

    With `teacher_flips` each of them is itself the average of its answers to the eight turned and mirrored views.
    """

    arm: Arm
    seed: int = Field(ge=0)
    collection: Path
    network: Network
    recipe: Recipe
    budget: Budget
    evaluation: EvaluationSettings = EvaluationSettings()
    hardware: Hardware = Hardware()
    teacher: tuple[Path, ...] = ()
    teacher_flips: bool = False
    labels: float = Field(default=1.0, gt=0, le=1, description="share of the train part whose labels are used")
    buffer: int | None = Field(
        default=None,
        ge=0,
        description="pixels that validation keeps away from test; the crop unless the study has a larger one",
    )
    start: Path | None = Field(default=None, description="checkpoint whose weights the training begins from")

    @model_validator(mode="after")
    def _teacher(self) -> Self:
        if self.recipe.alpha > 0 and not self.teacher:
            raise ValueError("alpha > 0 needs a teacher; name its checkpoint or set alpha: 0")
        if self.recipe.features:
            check_features(len(self.teacher), self.teacher_flips, self.teacher)
        return self

    @property
    def scored_buffer(self) -> int:
        """Pixels that validation keeps away from test where this run is scored."""
        return self.budget.crop if self.buffer is None else self.buffer


class TeacherSettings(Frozen):
    """The teacher: trained here from one seed, or from several as an ensemble, or existing checkpoints.

    With `flips` its answer is the average over the eight turned and mirrored views of an image. With `start` the trainings begin
    from these weights, one file for each seed, instead of random ones: a teacher that is trained on.
    """

    network: Network = PRESETS["base"]
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1, max_length=MOST_SEEDS)
    budget: Budget = Budget()
    checkpoints: tuple[Path, ...] = ()
    flips: bool = False
    start: tuple[Path, ...] = ()

    @model_validator(mode="after")
    def _started(self) -> Self:
        if self.start and self.checkpoints:
            raise ValueError(
                "`checkpoints` teach as they are and `start` are trained on; name the files in one of the two"
            )
        if self.start and len(self.start) != len(self.seeds):
            raise ValueError(
                f"`start` names {len(self.start)} files for {len(self.seeds)} seeds; name one for each seed"
            )
        return self


class StudySettings(Frozen):
    """A controlled experiment: teacher, student alone and distilled student under one budget, for each seed.

    `control: same recipe` trains the distilled arm with alpha = 0 and other seeds (an A/A study): its verdict must be
    'no detectable difference', otherwise the comparison itself is broken.

    `labels` is the share of the train part whose labels the students may use; the teacher has all of them, and the rest counts
    as unlabelled imagery. `match: seconds` gives the student alone as many more steps as the distilled student's take longer.

    With fewer labels a study also trains the student with all labels and no teacher, for each seed and with the steps of the
    student alone: what distillation has to be measured against. `upper_bound: false` leaves it out.
    """

    teacher: TeacherSettings = TeacherSettings()
    student: Network = PRESETS["small"]
    recipe: Recipe = Recipe()
    budget: Budget = Budget()
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1, max_length=MOST_SEEDS)
    control: Literal["alone", "same recipe"] = "alone"
    labels: float = Field(default=1.0, gt=0, le=1)
    match: Literal["steps", "seconds"] = "steps"
    upper_bound: bool = True
    evaluation: EvaluationSettings = EvaluationSettings()
    hardware: Hardware = Hardware()

    @property
    def trains_all_labels(self) -> bool:
        """Whether the student with all labels is one of the arms: where the students have fewer, and nobody left it out."""
        return self.upper_bound and self.labels < 1

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) != len(seeds) or min(seeds) < 0 or max(seeds) >= 2**31:
            raise ValueError(f"seeds must be different whole numbers from 0 up to 2147483647, not {list(seeds)}")
        return seeds

    @model_validator(mode="after")
    def _features(self) -> Self:
        if self.recipe.features:
            teacher = self.teacher
            members = len(teacher.checkpoints or teacher.seeds)
            check_features(members, teacher.flips, teacher.checkpoints)
        return self


STUDY_PRESETS: dict[str, StudySettings] = {
    # Less than five minutes on two CPU cores, on the demo area.
    "demo": StudySettings(
        teacher=TeacherSettings(network=PRESETS["light"], budget=Budget(steps=400, batch_size=4, crop=128)),
        student=PRESETS["tiny"],
        recipe=RECIPES["unlabelled"],  # the area has a district without labels
        budget=Budget(steps=350, batch_size=4, crop=128),
        seeds=(0,),
        hardware=Hardware(cache_views="one"),  # eight would take longer than the student's training
    ),
    # Minutes on two CPU cores: enough to see the whole story, too short to judge a recipe.
    "quick": StudySettings(
        teacher=TeacherSettings(network=PRESETS["light"], budget=Budget(steps=500, crop=128)),
        student=PRESETS["tiny"],
        budget=Budget(steps=400, crop=128),
    ),
    # About an hour a seed on two CPU cores, minutes on a GPU.
    "standard": StudySettings(
        teacher=TeacherSettings(budget=Budget(steps=2000)),
        budget=Budget(steps=2000),
    ),
    # For a GPU.
    "thorough": StudySettings(
        teacher=TeacherSettings(network=PRESETS["large"], seeds=(0, 1, 2), budget=Budget(steps=10000, batch_size=16)),
        budget=Budget(steps=20000, batch_size=16),
        seeds=(0, 1, 2, 3, 4),
        hardware=Hardware(precision="bf16-mixed", compile=True, readers=8),
    ),
}


class Range(Frozen):
    """Numbers between two ends, both included; `log` spreads them evenly over magnitudes."""

    low: float
    high: float
    log: bool = False

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


class SearchSpace(Frozen):
    """What a sweep varies: each entry is one value (not varied), a list to choose from, or a range `{low, high, log}`.

    Students are presets or 'architecture/encoder'. Without `learning_rate` that of the budget is used.
    """

    temperature: Numbers = Range(low=1, high=10, log=True)
    alpha: Numbers = Range(low=0, high=1)
    learning_rate: Numbers | None = None
    student: Names = ("small",)
    task: Annotated[tuple[Literal["cross_entropy", "cross_entropy+dice"], ...], BeforeValidator(as_values)] = (
        "cross_entropy",
    )
    distillation: Annotated[tuple[Literal["pixel", "channel"], ...], BeforeValidator(as_values)] = ("pixel",)

    @field_validator("student")
    @classmethod
    def _networks(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            parse_network(name)
        return names

    @model_validator(mode="after")
    def _usable(self) -> Self:
        limits = {"temperature": (1.0, 20.0), "alpha": (0.0, 1.0), "learning_rate": (1e-8, 10.0)}
        for name, (lowest, highest) in limits.items():
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
        return self

    def entries(self) -> dict[str, Range | tuple[float, ...] | tuple[str, ...]]:
        """Every entry by its name; a learning rate that is left to the budget is left out."""
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


class SweepSettings(Frozen):
    """A search for the temperature and alpha that are worth using, under one budget for every trial.

    Quality is the mean AP on the validation split, size the number of parameters, latency milliseconds a megapixel on this
    device. Every sweep also trains the student alone (alpha = 0) of each size, and repeats the centre of the search space with
    other seeds, so that the luck of training can be set against the settings.
    """

    space: SearchSpace = SearchSpace()
    objectives: tuple[Objective, ...] = ("quality",)
    trials: int = Field(default=24, ge=1, le=10_000, description="in all, with baselines and repeats")
    budget: Budget = Budget(steps=400, crop=128)
    seconds: float | None = Field(
        default=None, gt=0, description="of training a trial; replaces the budget's steps by what was measured to fit"
    )
    pruning: bool = Field(default=True, description="end hopeless trials early; with one objective only")
    repeats: int = Field(default=3, ge=2, le=50, description="trainings of the centre point, each with another seed")
    seed: int = Field(default=0, ge=0, lt=2**30)
    confirm: int = Field(
        default=0, ge=0, le=50, description="fresh seeds with which the best setting meets the default; 0 = not at all"
    )
    teacher: TeacherSettings = TeacherSettings(network=PRESETS["light"], budget=Budget(steps=500, crop=128))
    evaluation: EvaluationSettings = EvaluationSettings()
    hardware: Hardware = Hardware()
    storage: str | None = Field(default=None, description="URL of a database; the folder's journal.log without one")

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
        if self.hardware.devices > 1:
            raise ValueError("a trial uses one device; set hardware.devices: 1 and start more workers instead")
        return self

    @property
    def fixed_trials(self) -> int:
        """Trials that every sweep does first: the student alone of each size, and the repeats of the centre."""
        return len(self.space.student) + self.repeats

    @property
    def prunes(self) -> bool:
        """Whether hopeless trials are ended early: with several objectives no trial is hopeless before its end."""
        return self.pruning and len(self.objectives) == 1


Settings = TypeVar("Settings", bound=Frozen)


def check_slug(text: str) -> str:
    """Return `text` if it is safe as a file name and on a page: letters, digits, '.', '_' and '-'."""
    if not SLUG.fullmatch(text):
        raise ValueError(f"{text!r} is no usable name; use letters, digits, '.', '_' and '-' (at most 100)")
    return text


def validate(kind: type[Settings], values: Mapping[str, Any], where: str) -> Settings:
    """Build settings of `kind` from plain values.

    Raises:
        SettingsError: names `where`, the field and what is wrong with it, for every problem found.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems = []
        for item in error.errors()[:MOST_PROBLEMS]:
            field = ".".join(str(part)[:60] for part in item["loc"])
            message = item["msg"].removeprefix("Value error, ")
            found = "" if item["type"] in ("missing", "value_error") else f" (found {str(item['input'])[:60]!r})"
            if item["type"] == "extra_forbidden":
                message = "is not a setting; check its spelling in docs/settings.md"
            problems.append(f"{field + ': ' if field else ''}{message}{found}")
        more = error.error_count() - len(problems)
        problems += [f"and {more:,} more problems"] if more > 0 else []
        raise SettingsError(f"{where}: " + "; ".join(problems)) from error


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping. Names stay as they are written: a scene called 007 is '007', a class called no is 'no'.

    Raises:
        SettingsError: the file is missing, not UTF-8, no YAML, or not a mapping.
    """
    text = read_utf8(path)
    try:
        values, written = parse_yaml(text, path), yaml.load(text, Loader=yaml.BaseLoader)
    except ReadingError as error:
        tabs = next((number for number, line in enumerate(text.splitlines(), 1) if re.match(r" *\t", line)), None)
        if tabs is not None and isinstance(error.__cause__, yaml.YAMLError):
            raise SettingsError(
                f"{path}: line {tabs} begins with a tab; YAML wants spaces. Replace tabs by spaces."
            ) from error
        raise SettingsError(str(error)) from error
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: should hold `key: value` lines, but holds {type(values).__name__}.")
    found: dict[str, Any] = as_written(values, written, path)
    return found


def read_utf8(path: Path) -> str:
    """The text of a file; Windows' mark at the beginning (BOM) is left out.

    Raises:
        SettingsError: the file is missing or in another encoding.
    """
    try:
        data = read_bytes(path, MOST_YAML_BYTES)
        return data.decode("utf-8-sig")
    except FileNotFoundError as error:
        raise SettingsError(f"{path}: there is no such file.") from error
    except ReadingError as error:
        raise SettingsError(str(error)) from error
    except OSError as error:
        raise SettingsError(f"{path}: could not be read ({error}).") from error
    except UnicodeDecodeError as error:
        start = data[:2]
        kind = "UTF-16" if start in (b"\xff\xfe", b"\xfe\xff") else "an older encoding, such as Windows-1252"
        raise SettingsError(
            f"{path}: is saved in {kind}, not in UTF-8. Open it in your editor and save it with the encoding UTF-8."
        ) from error


def as_written(value: Any, written: Any, where: Path, key: str = "") -> Any:
    """Take back what YAML made of names: numbers, dates, yes and no.

    Args:
        value: as YAML reads it.
        written: the same as text.
        where: the file, for the message.
        key: what it is the value of.

    Raises:
        SettingsError: a colour without quotes, which YAML takes for a comment.
    """
    if isinstance(value, dict):
        if "colour" in value and value["colour"] is None:
            raise SettingsError(
                f"{where}: `colour:` is empty; '#' begins a comment in YAML. Write it in quotes: colour: '#D55E00'."
            )
        if "<<" in written:  # keys merged from elsewhere stay as YAML reads them
            return value
        # The same keys in the same order; some may be read as numbers.
        return {
            name: as_written(entry, text, where, str(name))
            for (name, entry), text in zip(value.items(), written.values(), strict=True)
        }
    if isinstance(value, list):
        return [as_written(entry, text, where, f"{key}[]") for entry, text in zip(value, written, strict=True)]
    single = (key == "name" and written) or (key in ("class_field", "image_field") and value is not None)
    return written if single or key in tuple(f"{name}[]" for name in SPLITS) else value


def load(kind: type[Settings], path: Path) -> Settings:
    """Read settings of `kind` from a YAML file."""
    return validate(kind, read_yaml(path), str(path))


def load_study(path: Path) -> StudySettings:
    """Read the settings that a study was begun with; one from before there was a student with all labels has none."""
    values = read_yaml(path)
    few = isinstance(values.get("labels"), int | float) and values["labels"] < 1
    return validate(StudySettings, ({"upper_bound": False} if few else {}) | values, str(path))


def save(settings: Frozen, path: Path) -> None:
    """Write settings as YAML that `load` gives back unchanged."""
    write_text(path, to_yaml(settings))


def to_yaml(settings: Frozen) -> str:
    """The settings as YAML text; defaults are written out, empty values left away."""
    return yaml.safe_dump(
        settings.model_dump(mode="json", exclude_none=True), sort_keys=False, width=120, allow_unicode=True
    )


def fingerprint(*parts: Any) -> str:
    """A short hash that changes when any of `parts` (settings or JSON values) changes."""
    plain = [part.model_dump(mode="json") if isinstance(part, Frozen) else part for part in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
