"""Writes docs/settings.md from the settings' models, so that no field, default or range in it can be out of date.

    python docs/write_settings.py

A field without a sentence in `MEANINGS`, or a sentence without its field, is an error.
"""

import re
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from kdcore.settings import (
    PRESETS,
    STUDY_PRESETS,
    Budget,
    EvaluationSettings,
    Frozen,
    Hardware,
    NetworkSettings,
    Range,
    Recipe,
    RunSettings,
    SearchSpace,
    StudySettings,
    SweepSettings,
    TeacherSettings,
)

HERE = Path(__file__).parent
FORMULA = "loss = (1 - alpha) * task + alpha * T^2 * KL(teacher_T || student_T)"

# Each model: its heading and what it is.
MODELS: dict[type[Frozen], tuple[str, str]] = {
    StudySettings: ("The study", "The top level of a study's YAML file."),
    TeacherSettings: (
        "`teacher:`",
        "One network, an ensemble of networks from several seeds, or checkpoints that are there already.",
    ),
    NetworkSettings: (
        "`student:` and `teacher.network:`",
        "A preset's name (`student: tiny`), a pair of names (`student: unet/resnet34`), or these fields. Architectures and encoders "
        "are those of segmentation-models-pytorch; encoders of timm begin with `tu-`.",
    ),
    Recipe: (
        "`recipe:`",
        f"How the distilled student learns: `{FORMULA}`. [What that means](mathematics.md). `kdcore study` and `kdcore runs start` take the "
        "preset's only where something is said about the recipe, else the one that [the evidence](studies.md) supports: `unlabelled` for data "
        "with imagery without labels, or labels that are not used, else `classic`.",
    ),
    Budget: (
        "`budget:` and `teacher.budget:`",
        "What each training may spend. Student alone and distilled student share one, with the same first weights and the same labelled crops.",
    ),
    EvaluationSettings: ("`evaluation:`", "How networks are scored."),
    Hardware: ("`hardware:`", "Where and how to compute. The defaults give the same numbers again on a CPU."),
    RunSettings: (
        "A single run",
        "What a study writes into each run's `settings.yaml`. Nobody needs to write one by hand; it has the sections above and these:",
    ),
    SweepSettings: (
        "A sweep",
        "The file of `kdcore sweep FOLDER --settings sweep.yaml --out sweeps/first`. The sections `teacher:`, `budget:`, `evaluation:` "
        "and `hardware:` are those of a study. Every sweep trains the student alone of each size and repeats the middle of the search "
        "space with other seeds; both count as trials.",
    ),
    SearchSpace: (
        "`space:`",
        "What a sweep varies. Each entry is one value (not varied), a list to choose from, or a range; a file replaces an entry as a whole: "
        "`space: {temperature: {low: 1, high: 10, log: true}, alpha: [0.3, 0.6, 0.9], student: [tiny, small]}`.",
    ),
    Range: ("A range", "Both ends belong to it."),
}

MEANINGS: dict[str, str] = {
    "StudySettings.teacher": "see `teacher:`",
    "StudySettings.student": "network of both students: a preset's name, `architecture/encoder`, or the fields below",
    "StudySettings.recipe": "see `recipe:`",
    "StudySettings.budget": "of each student's training, see `budget:`",
    "StudySettings.seeds": "one pair of students for each: first weights and crops follow from it. A verdict needs two at least",
    "StudySettings.control": "`same recipe`: the distilled arm is trained like the student alone, with other seeds (an A/A study): the verdict "
    "must then be 'no detectable difference'",
    "StudySettings.labels": "share of the train part whose labels the students may use, taken in blocks of two crops' width; the teacher has "
    "all labels, and the rest is unlabelled imagery",
    "StudySettings.match": "`steps`: both students take the same steps; `seconds`: the student alone takes as many more as the teacher's "
    "answers and the unlabelled crops cost time",
    "StudySettings.upper_bound": "with `labels` below 1: also train the student with all labels and no teacher, for each seed, with the steps "
    "of the student alone; the share of the gap is measured with it. `false` leaves it out; it may be changed afterwards",
    "StudySettings.evaluation": "see `evaluation:`",
    "StudySettings.hardware": "see `hardware:`",
    "TeacherSettings.network": "as `student`",
    "TeacherSettings.seeds": "several make an ensemble, whose probabilities are averaged",
    "TeacherSettings.budget": "of each of its trainings",
    "TeacherSettings.checkpoints": "files that teach, so that no teacher is trained: `.safetensors` written by kdcore, or any `.onnx` ([how](teachers.md))",
    "TeacherSettings.flips": "its answer is the average over the eight turned and mirrored views of an image",
    "TeacherSettings.start": "`.safetensors` files of the same network that its trainings begin from, one for each seed",
    "NetworkSettings.architecture": "`unet`, `unetplusplus`, `fpn`, `deeplabv3plus`, `segformer` ...",
    "NetworkSettings.encoder": "`resnet34`, `tu-regnetx_002`, `mobilenet_v2` ...",
    "NetworkSettings.depth": "stages of the encoder; each halves height and width",
    "NetworkSettings.decoder_channels": "channels of the decoder's stages, from the coarsest to the finest; as many as `depth`",
    "NetworkSettings.weights": "`imagenet` starts the encoder from weights that are downloaded once; otherwise weights are random",
    "Recipe.temperature": "T, how much of the teacher's doubt is passed on; 1 is its answer as it is",
    "Recipe.alpha": "the teacher's share of the loss: 0 is labels only (the student alone, bit for bit), 1 the teacher only",
    "Recipe.task": "loss on the labels, in both students; `+dice` adds the soft Dice loss",
    "Recipe.distillation": "`pixel`: each pixel's probabilities are compared; `channel`: where in the crop each class is",
    "Recipe.unlabelled": "crops of `unlabelled/`, and with `labels` below 1 of the whole train part, added to a batch for each labelled one; "
    "they only serve the distillation term",
    "Recipe.channels": "weight of a channel-wise loss on the logits beside the pixel-wise one",
    "Recipe.features": "weight of the distance between the decoders' features, after a projection that is trained and thrown away",
    "Recipe.mix": "`cutmix` pastes a rectangle of another crop, `mixup` blends two crops; labels and teacher's answers follow, in every arm",
    "Recipe.teacher_sees": "`scene`: the teacher answers about the scene, with a crop's surroundings and without its jitter, and the answers are "
    "kept ([why](mathematics.md#what-the-teacher-sees)); `crop`: about the student's very input, at every step, which is the default with "
    "`features` or `mixup`",
    "Budget.steps": "corrections of the network",
    "Budget.batch_size": "labelled crops in a step",
    "Budget.crop": "height and width of a crop, pixels",
    "Budget.learning_rate": "highest one, of AdamW; a linear warm-up leads to it and a cosine from it to 0",
    "Budget.weight_decay": "of AdamW",
    "Budget.warmup": "share of the steps in which the learning rate rises",
    "Budget.clip": "largest norm of the gradient; `null` does not clip",
    "Budget.ema": "decay of averaged weights, for example 0.999: these are then validated and kept; `null` does not average",
    "Budget.validate_every": "steps between validations; the checkpoint with the best mean AP is kept",
    "Budget.save_every": "steps between saved states, from which an interrupted run goes on exactly",
    "Budget.rare_classes": "share of the crops that are placed on a class drawn evenly, so that rare ones are seen; the rest lies anywhere",
    "Budget.jitter": "change of brightness and contrast in training, in standard deviations of a band",
    "EvaluationSettings.tile": "side of a tile, pixels: the unit of evaluation",
    "EvaluationSettings.window": "side of what a network sees at once, pixels; a multiple of `tile`",
    "EvaluationSettings.halo": "imagery around a window that is seen and not scored, pixels",
    "EvaluationSettings.boundary_metres": "width of the band that Boundary IoU looks at (pixels where the resolution is not known)",
    "Hardware.device": "`auto` takes a GPU where there is one",
    "Hardware.devices": "processes that share each batch: several GPUs",
    "Hardware.precision": "`bf16-mixed` is faster on a GPU, and on a CPU that computes with bfloat16 (AVX512-BF16, AMX)",
    "Hardware.channels_last": "memory layout that convolutions are faster in, on a GPU and on a CPU",
    "Hardware.compile": "`torch.compile`: slower to start, then faster; needs a compiler",
    "Hardware.readers": "threads that read crops ahead of the network",
    "Hardware.cache_gb": "most disk space for a teacher's kept answers, beside the studies; where they do not fit they are computed live",
    "Hardware.cache_views": "`eight` keeps the answers to each turned and mirrored view, `one` turns those of the upright view (an eighth of the space)",
    "RunSettings.arm": "which of the four",
    "RunSettings.seed": "of first weights and crops",
    "RunSettings.collection": "path of the `collection.yaml`",
    "RunSettings.network": "as `student`",
    "RunSettings.recipe": "`alpha: 0` in the teacher's and the student alone's runs",
    "RunSettings.budget": "see `budget:`",
    "RunSettings.evaluation": "see `evaluation:`",
    "RunSettings.hardware": "see `hardware:`",
    "RunSettings.teacher": "checkpoints whose average teaches; needed with alpha above 0",
    "RunSettings.teacher_flips": "as `teacher.flips`",
    "RunSettings.labels": "as the study's `labels`",
    "RunSettings.start": "as one of `teacher.start`",
    "SweepSettings.space": "what is varied",
    "SweepSettings.objectives": "`quality` (mean AP on validation), `size` (parameters) and `latency` (milliseconds a megapixel on this "
    "device); the last two need several students",
    "SweepSettings.trials": "in all; more than before extend the sweep",
    "SweepSettings.budget": "of each trial",
    "SweepSettings.seconds": "of training each trial, in place of `budget.steps`: how many steps fit is measured once for each student",
    "SweepSettings.pruning": "a trial that does worse than every finished one did by then is ended early; with one objective only",
    "SweepSettings.repeats": "trainings of the middle of the search space, each with another seed: how much luck decides",
    "SweepSettings.seed": "of all trials but the repeats",
    "SweepSettings.confirm": "fresh seeds with which the best setting meets the default on the test split, once; 0 leaves it away",
    "SweepSettings.teacher": "one for all trials",
    "SweepSettings.evaluation": "as in a study",
    "SweepSettings.hardware": "as in a study, with one device; each worker has one thread",
    "SweepSettings.storage": "URL of a database for the trials (`sqlite:///FILE`, `postgresql://...`); else `journal.log` in the folder. It is kept in "
    "`sweep.yaml` as it is, with a password if it has one",
    "SearchSpace.temperature": "1 to 20",
    "SearchSpace.alpha": "0 to 1",
    "SearchSpace.learning_rate": "without it the budget's",
    "SearchSpace.student": "presets or `architecture/encoder`",
    "SearchSpace.task": "`cross_entropy`, `cross_entropy+dice`",
    "SearchSpace.distillation": "`pixel`, `channel`",
    "Range.low": "the lower end",
    "Range.high": "the upper end",
    "Range.log": "evenly over magnitudes: as many trials between 1 and 3 as between 3 and 9",
}

VARIABLES = {
    "KDCORE_WORKSPACE": "folder of the studies that the dashboard and `kdcore runs` show; else `studies` in the current folder",
    "KDCORE_JOBS_PER_DEVICE": "studies that may train on one device at the same time; else 1, and the others wait",
    "KDCORE_REAL_DATA": "for the tests only: folder of the real imagery that some of them read",
}


def page() -> str:
    """The whole page.

    Raises:
        ValueError: a field has no sentence, or a sentence no field.
    """
    fields = {f"{model.__name__}.{name}" for model in MODELS for name in model.model_fields}
    if fields != MEANINGS.keys():
        raise ValueError(f"docs/write_settings.py, MEANINGS: correct {sorted(fields ^ MEANINGS.keys())}")
    parts = [
        "# Settings of a study and of a sweep",
        "<!-- Written by docs/write_settings.py; change that file and run it. -->",
        "A study's settings come from a preset, then from a YAML file that replaces some of them, then from the command's options:",
        "    kdcore study FOLDER --preset quick --settings study.yaml --alpha 0.5 --temperature 2 --seeds 0,1,2 --out studies/first",
        "Only what differs from the preset needs to stand in the file:",
        "```yaml\n" + EXAMPLE + "```",
        "An unknown name or a value out of range is refused with a sentence that says what is allowed. What was used, defaults "
        "included, is written to the study's `study.yaml`. Classes, bands and the split belong to the data: see [A collection](data-format.md).",
        *(section(model, *words) for model, words in MODELS.items()),
        network_presets(),
        study_presets(),
        "## Environment variables",
        table(("variable", "meaning"), [(f"`{name}`", text) for name, text in VARIABLES.items()]),
    ]
    return "\n\n".join(parts) + "\n"


EXAMPLE = """\
student: tiny
teacher:
  network: unet/resnet34
  budget: {steps: 500, crop: 128}
budget: {steps: 400, crop: 128, validate_every: 100}
recipe: {alpha: 0.7, temperature: 4}
seeds: [0, 1, 2]
"""


def section(model: type[Frozen], heading: str, text: str) -> str:
    """One model: a heading, what it is, and a table of its fields."""
    rows = [
        (f"`{name}`", default(field), allowed(field), MEANINGS[f"{model.__name__}.{name}"])
        for name, field in model.model_fields.items()
    ]
    return f"## {heading}\n\n{text}\n\n" + table(("setting", "default", "allowed", "meaning"), rows)


def default(field: FieldInfo) -> str:
    """The default as it would stand in YAML."""
    value = field.default
    if value is PydanticUndefined:
        return "needed"
    if isinstance(value, NetworkSettings):
        return next(f"`{name}`" for name, preset in PRESETS.items() if preset == value)
    if isinstance(value, Range):
        return f"`{{low: {value.low:g}, high: {value.high:g}, log: {plain(value.log)}}}`"
    if isinstance(value, BaseModel):
        return "below"
    return f"`{plain(value)}`"


def plain(value: Any) -> str:
    """A value as YAML writes it in one line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(plain, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def allowed(field: FieldInfo) -> str:
    """Which values are allowed, in words."""
    words = [kind(field.annotation)]
    signs = {
        "ge": ">= {}",
        "gt": "> {}",
        "le": "<= {}",
        "lt": "< {}",
        "multiple_of": "multiple of {}",
        "min_length": "at least {}",
    }
    for entry in field.metadata:
        words += [
            text.format(plain(getattr(entry, name)))
            for name, text in signs.items()
            if getattr(entry, name, None) is not None
        ]
    return ", ".join(word for word in words if word)


def kind(annotation: Any) -> str:
    """A type in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kind(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is tuple:
        return f"list of {kind(arguments[0])}" + ("" if get_origin(arguments[0]) is Literal else "s")
    if type(None) in arguments:
        return " or ".join([*(kind(a) for a in arguments if a is not NoneType), "`null`"])
    if origin is Union:
        return " or ".join(kind(argument) for argument in arguments)
    names = {Range: "range", int: "whole number", float: "number", bool: "`true` or `false`", Path: "path", str: "name"}
    return names.get(annotation, "preset, pair or fields" if annotation is NetworkSettings else "section")


def parameters() -> dict[str, str]:
    """Parameters in millions of each preset, as `benchmarks/networks.py` measured them."""
    lines = (HERE.parent / "benchmarks/results/networks.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.split("|")] for line in lines if re.match(r"\| [a-z]+ \|", line)]
    return {line[1]: line[2] for line in cells if line[1] in PRESETS}


def network_presets() -> str:
    """The presets of networks with their size."""
    size = parameters()
    rows = [
        (
            f"`{name}`",
            size[name],
            network.architecture,
            network.encoder,
            network.depth,
            plain(network.decoder_channels or "default"),
        )
        for name, network in PRESETS.items()
    ]
    header = ("preset", "parameters", "architecture", "encoder", "depth", "decoder channels")
    text = "Parameters with three bands and five classes, from [a benchmark](../benchmarks/results/networks.md), which also counts operations."
    return f"## Networks\n\n{text}\n\n" + table(header, rows)


def study_presets() -> str:
    """What each preset of studies sets other than the defaults."""
    names = {"teacher.network", "student"}
    rows = []
    for preset, settings in STUDY_PRESETS.items():
        differing = changes(settings, StudySettings())
        known = {
            entry: next((name for name, network in PRESETS.items() if network == value), None)
            for entry, value in differing
            if entry in names
        }
        rows.append(
            (
                f"`{preset}`",
                "; ".join(f"`{entry}: {known.get(entry) or plain(value)}`" for entry, value in differing)
                or "the defaults",
            )
        )
    return "## Presets of a study\n\n" + table(("`--preset`", "sets"), rows)


def changes(settings: Frozen, standard: Frozen, path: str = "") -> list[tuple[str, Any]]:
    """Fields, by dotted name, whose value is not the standard's."""
    found: list[tuple[str, Any]] = []
    for name in type(settings).model_fields:
        value, usual = getattr(settings, name), getattr(standard, name)
        if value == usual:
            continue
        if isinstance(value, Frozen) and not isinstance(value, NetworkSettings):
            found += changes(value, usual, f"{path}{name}.")
        else:
            found.append((f"{path}{name}", value))
    return found


def table(header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """A Markdown table."""
    lines: list[tuple[Any, ...]] = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    (HERE / "settings.md").write_text(page(), encoding="utf-8")
