"""What a study and each of its runs are: who learns, from whom, under which budget."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from kdcore.settings.fields import Described, own_path, validate
from kdcore.settings.files import read_yaml
from kdcore.settings.network import PRESETS, Network
from kdcore.settings.recipe import WITHOUT_FEATURES, Recipe

MOST_STEP_PIXELS = 2**27  # of a training's batch
MOST_SEEDS = 1000

Arm = Literal["teacher", "alone", "distilled", "all_labels"]


class Budget(Described):
    """What a training may spend, and its optimiser: AdamW, linear warm-up, cosine decay to zero."""

    steps: int = Field(default=1000, ge=1, le=100_000_000)
    """corrections of the network"""
    batch_size: int = Field(default=8, ge=1, le=4096)
    """labelled crops in a step"""
    crop: int = Field(default=256, ge=32, le=8192, multiple_of=32)
    """height and width of a crop, pixels"""
    learning_rate: float = Field(default=1e-3, gt=0, le=10)
    """highest one, of AdamW; a linear warm-up leads to it and a cosine from it to 0"""
    weight_decay: float = Field(default=1e-2, ge=0, le=10)
    """of AdamW"""
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """share of the steps in which the learning rate rises"""
    clip: float | None = Field(default=1.0, gt=0)
    """largest norm of the gradient; `null` does not clip"""
    ema: float | None = Field(default=None, gt=0, lt=1)
    """decay of averaged weights, for example 0.999: these are then validated and kept; `null` does not average"""
    validations: int = Field(default=12, ge=1)
    """validations, close together at first and farther apart later; the checkpoint with the best mean AP is kept"""
    validate_every: int | None = Field(default=None, ge=1)
    """steps between validations, instead of their number"""
    save_every: int = Field(default=100, ge=1)
    """steps between saved states, from which an interrupted run resumes exactly"""
    rare_classes: float = Field(default=0.5, ge=0, le=1)
    """share of the crops that are placed on a class drawn evenly, so that rare ones are seen; the rest lies anywhere"""
    jitter: float = Field(default=0.1, ge=0, le=1)
    """change of brightness and contrast in training, in standard deviations of a band"""

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


class EvaluationSettings(Described):
    """How networks are scored."""

    tile: int = Field(default=128, ge=32, le=8192, multiple_of=32)
    """side of a tile, pixels: the unit of evaluation"""
    window: int = Field(default=512, ge=32, le=8192, multiple_of=32)
    """side of what a network sees at once, pixels; a multiple of `tile`"""
    halo: int = Field(default=32, ge=0, le=2048, multiple_of=32)
    """imagery around a window that is seen and not scored, pixels"""
    boundary_metres: float = Field(default=2.0, gt=0, le=1000)
    """width of the band that Boundary IoU looks at (pixels where the resolution is not known)"""

    @model_validator(mode="after")
    def _whole_tiles(self) -> Self:
        if self.window % self.tile:
            raise ValueError(f"window ({self.window}) must be a multiple of tile ({self.tile})")
        return self


class Hardware(Described):
    """Where and how to compute. The defaults give the same numbers again on a CPU."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a GPU where there is one"""
    devices: int = Field(default=1, ge=1, le=256)
    """processes of a machine that share each batch, one for each GPU; started with torchrun
    ([how](several_processes.md))"""
    nodes: int = Field(default=1, ge=1, le=1024)
    """machines that share each batch, with `devices` processes each; inside of one Slurm allocation, or started with
    torchrun on each of them"""
    sync_batch_norm: bool = False
    """with several processes on GPUs: batch norm takes its statistics from the whole batch and not from each process'
    part (SyncBatchNorm)"""
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    """`auto` takes `bf16-mixed` where the device computes with bfloat16 itself (GPUs since 2020, CPUs with AVX512-BF16 or AMX), which is
    faster there, else `32-true`; it is chosen when a study begins, for all of its networks, and written into its settings"""
    channels_last: bool = True
    """memory layout that convolutions are faster in, on a GPU and on a CPU"""
    compile: bool = False
    """`torch.compile`: slower to start, then faster; needs a compiler"""
    readers: int = Field(default=2, ge=1, le=64)
    """threads that read crops ahead of the network"""
    cache_gb: float = Field(default=20.0, ge=0, le=1_000_000)
    """most disk space for the soft-label cache, beside the studies; soft labels that do not fit are computed live"""
    cache_views: Literal["eight", "one"] = "eight"
    """`eight` caches the soft labels of all eight flips and rotations of a crop, `one` turns those of the upright view
    (an eighth of the space), which is a little off wherever the teacher contradicts itself; by how much is measured"""

    def as_begun(self, before: Self) -> Self:
        """With the precision that was chosen when a study began, if this leaves it open."""
        return self.model_copy(update={"precision": before.precision}) if self.precision == "auto" else self

    @property
    def anywhere(self) -> Self:
        """Without what may differ where a training goes on: the device, its readers, and which machines its processes are on."""
        return self.model_copy(update={"device": "auto", "readers": 1, "devices": self.processes, "nodes": 1})

    @property
    def processes(self) -> int:
        """That share each batch, on all machines together."""
        return self.devices * self.nodes


def check_features(members: int, flips: bool, checkpoints: tuple[Path, ...]) -> None:
    """Refuse teachers whose features cannot be compared with a student's.

    Raises:
        ValueError: an average has predictions but no features of its own; an ONNX file gives predictions only.
    """
    why = (
        f"an ensemble of {members} networks has an average answer, but no features of its own"
        if members > 1
        else "an average over turned views has no features of its own"
        if flips
        else "an ONNX file gives predictions only, no features"
        if any(path.suffix.lower() == ".onnx" for path in checkpoints)
        else ""
    )
    if why:
        raise ValueError(f"{why}: set the recipe's {WITHOUT_FEATURES}, or let one trained network teach, without flips")


class RunSettings(Described):
    """One training: an arm and a seed."""

    arm: Arm
    """which of the four"""
    seed: int = Field(ge=0)
    """of first weights and crops"""
    collection: Path
    """path of the `collection.yaml`"""
    network: Network
    """as `student`"""
    recipe: Recipe
    """`alpha: 0` in the teacher's and the student alone's runs"""
    budget: Budget
    """see `budget:`"""
    evaluation: EvaluationSettings = EvaluationSettings()
    """see `evaluation:`"""
    hardware: Hardware = Hardware()
    """see `hardware:`"""
    teacher: tuple[Path, ...] = ()
    """checkpoints whose average teaches; needed with alpha above 0"""
    teacher_flips: bool = False
    """as `teacher.flips`"""
    labels: float = Field(default=1.0, gt=0, le=1)
    """as the study's `labels`; the same share of the validation labels chooses checkpoint and thresholds"""
    buffer: int | None = Field(default=None, ge=0)
    """pixels that validation keeps away from test; the crop, unless the study has a larger one"""
    start: Path | None = None
    """as one of `teacher.start`"""

    @model_validator(mode="after")
    def _teacher(self) -> Self:
        if self.recipe.alpha > 0 and not self.teacher and not self.recipe.mean_teacher:
            raise ValueError("alpha > 0 needs a teacher; name its checkpoint or set alpha: 0")
        if self.recipe.compares_features:
            check_features(len(self.teacher), self.teacher_flips, self.teacher)
        return self

    @property
    def scored_buffer(self) -> int:
        """Pixels that validation keeps away from test where this run is scored."""
        return self.budget.crop if self.buffer is None else self.buffer


class TeacherSettings(Described):
    """One network, an ensemble of networks from several seeds, or checkpoints that are there already."""

    network: Network = PRESETS["base"]
    """as `student`"""
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1, max_length=MOST_SEEDS)
    """several make an ensemble, whose probabilities are averaged: usually better, and as many times the time"""
    budget: Budget = Budget()
    """of each of its trainings"""
    checkpoints: tuple[Path, ...] = ()
    """files that teach, so that no teacher is trained: `.safetensors` written by kdcore, or any `.onnx`
    ([how](teachers.md))"""
    flips: bool = False
    """its predictions are averaged over the eight flips and rotations of an image: usually better, eight times as
    slow"""
    start: tuple[Path, ...] = ()
    """`.safetensors` files of the same network that its trainings begin from, one for each seed"""
    labels: float = Field(default=1.0, gt=0, le=1)
    """share of the train part's labels that it is trained with. With the students' share and crop it has the very same
    labels: what imagery without labels is worth where few exist"""

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


class StudySettings(Described):
    """A controlled experiment: teacher, student alone and distilled student under one budget, for each seed."""

    teacher: TeacherSettings = TeacherSettings()
    """see `teacher:`"""
    student: Network = PRESETS["small"]
    """network of both students: a preset's name, `architecture/encoder`, or the fields below"""
    recipe: Recipe = Recipe()
    """see `recipe:`"""
    budget: Budget = Budget()
    """of each student's training, see `budget:`"""
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1, max_length=MOST_SEEDS)
    """one pair of students for each: first weights and crops follow from it. A verdict needs two at least"""
    control: Literal["alone", "same recipe"] = "alone"
    """`same recipe`: the distilled arm is trained like the student alone, with other seeds (an A/A study): the verdict
    must then be 'no detectable difference'"""
    labels: float = Field(default=1.0, gt=0, le=1)
    """share of the train part's labels that the students may use, taken in blocks of two crops' width, the same for
    all; the teacher has all labels, and the rest is unlabelled imagery. It shows what a teacher is worth whose labels
    one does not have; or set `teacher.labels`, too"""
    match: Literal["steps", "seconds"] = "steps"
    """`steps`: both students take the same steps; `seconds`: the student alone takes as many more as the soft labels
    and the unlabelled crops cost time"""
    upper_bound: bool = True
    """with `labels` below 1: also train the student with all labels and no teacher, for each seed, with the steps of
    the student alone; the share of the gap is measured with it. `false` leaves it out; it may be changed afterwards"""
    test_on: tuple[Path, ...] = Field(default=(), max_length=20)
    """other collections with the same classes, bands and resolution, whose test parts all arms are scored on as well:
    other places, dates or sensors. They choose nothing, and may be added afterwards"""
    evaluation: EvaluationSettings = EvaluationSettings()
    """see `evaluation:`"""
    hardware: Hardware = Hardware()
    """see `hardware:`"""

    @property
    def trains_all_labels(self) -> bool:
        """Whether the student with all labels is one of the arms: where the students have fewer, and nobody left it out."""
        return self.upper_bound and self.labels < 1

    @field_validator("test_on")
    @classmethod
    def _whole_paths(cls, places: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(own_path(place).absolute() for place in places)

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) != len(seeds) or min(seeds) < 0 or max(seeds) >= 2**31:
            raise ValueError(f"seeds must be different whole numbers from 0 up to 2147483647, not {list(seeds)}")
        return seeds

    @model_validator(mode="after")
    def _features(self) -> Self:
        if self.recipe.compares_features:
            teacher = self.teacher
            members = len(teacher.checkpoints or teacher.seeds)
            check_features(members, teacher.flips, teacher.checkpoints)
        return self


def load_study(path: Path) -> StudySettings:
    """Read the settings that a study was begun with; one from before there was a student with all labels has none."""
    values: dict[str, Any] = read_yaml(path)
    few = isinstance(values.get("labels"), int | float) and values["labels"] < 1
    return validate(StudySettings, ({"upper_bound": False} if few else {}) | values, str(path))
