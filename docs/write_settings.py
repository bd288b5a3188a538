"""Writes docs/settings.md, and the table of losses in docs/mathematics.md, from the settings' models and the registry of losses.

python docs/write_settings.py
"""

import re
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from kdcore.settings import (
    DISTILLATIONS,
    FORMULA,
    PRESET_MEANINGS,
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
    meaning,
)

HERE = Path(__file__).parent
BEGIN, END = "<!-- losses, written by docs/write_settings.py -->", "<!-- end of losses -->"

# Each model: its heading, and what the page says of it; None is its own docstring.
MODELS: dict[type[Frozen], tuple[str, str | None]] = {
    StudySettings: ("The study", "The top level of a study's YAML file."),
    TeacherSettings: ("`teacher:`", None),
    NetworkSettings: (
        "`student:` and `teacher.network:`",
        "A preset's name (`student: tiny`), a pair of names (`student: unet/resnet34`), or these fields. Architectures and encoders "
        "are those of segmentation-models-pytorch; encoders of timm begin with `tu-`.",
    ),
    Recipe: (
        "`recipe:`",
        f"How the distilled student learns: `{FORMULA}`. [What that means](mathematics.md). Losses with a weight are added to the teacher's "
        "share, in a file or with `--add hint=0.5`. `kdcore study` and `kdcore runs start` take the "
        "preset's only where something is said about the recipe, else the one that [the evidence](studies.md) supports: `unlabelled` for data "
        "with imagery without labels, or labels that are not used, else `classic`.",
    ),
    Budget: (
        "`budget:` and `teacher.budget:`",
        "What each training may spend. Student alone and distilled student share one, with the same first weights and the same labelled crops.",
    ),
    EvaluationSettings: ("`evaluation:`", None),
    Hardware: ("`hardware:`", None),
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

VARIABLES = {
    "KDCORE_WORKSPACE": "folder of the studies that the dashboard and `kdcore runs` show; else `studies` in the current folder",
    "KDCORE_OPEN": "1: other machines may use the dashboard although nobody logs in ([security](security.md))",
    "KDCORE_TEAM": "file with the roles of a team; else `team.yaml` in the workspace ([security](security.md))",
    "KDCORE_JOBS_PER_DEVICE": "studies that may train on one device at the same time; else 1, and the others wait",
    "KDCORE_REMOTE_HOSTS": "hosts, with commas between them, from which `kdcore predict` and `kdcore data inspect` may fetch rasters; else none "
    "([security](security.md))",
    "KDCORE_SLURM_OPTIONS": "of the dashboard: where it is set, the Train and Sweep pages offer Slurm, with these options of sbatch ([cluster](cluster.md))",
    "KDCORE_LAUNCHED": "set by the script of `--launch`: this is one of several processes of a scheduler ([cluster](cluster.md))",
    "KDCORE_STARTER": "set where kdcore starts the processes of one training: the process with which they end ([processes](several_processes.md))",
    "KDCORE_REAL_DATA": "for the tests only: folder of the real imagery that some of them read",
}


def page() -> str:
    """The whole page of the settings.

    Raises:
        ValueError: a field has no description.
    """
    parts = [
        "# Settings of a study and of a sweep",
        "<!-- Written by docs/write_settings.py from kdcore/settings; change the fields there and run it. -->",
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
budget: {steps: 400, crop: 128}
recipe: {alpha: 0.7, temperature: 4}
seeds: [0, 1, 2]
"""


def section(model: type[Frozen], heading: str, text: str | None) -> str:
    """One model: a heading, what it is, and a table of its fields."""
    rows = [
        (f"`{name}`", default(field), allowed(field), meaning(model, name))
        for name, field in model.model_fields.items()
    ]
    return f"## {heading}\n\n{text or model.__doc__}\n\n" + table(("setting", "default", "allowed", "meaning"), rows)


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


def mathematics() -> str:
    """The page of the mathematics with the table of losses as the registry has it."""
    text = (HERE / "mathematics.md").read_text(encoding="utf-8")
    rows = [
        (
            f"`{name}`",
            loss.formula,
            loss.source,
            "main term" if loss.most is None else f"added with a weight up to {loss.most:g}",
            loss.compares,
        )
        for name, loss in DISTILLATIONS.items()
    ]
    written = table(("loss", "formula", "source", "as", "compares"), rows)
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n\n{written}\n\n{END}{after}"


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
            network.stride,
            network.pretrained_on or "random",
        )
        for name, network in PRESETS.items()
    ]
    header = ("preset", "parameters", "architecture", "encoder", "depth", "decoder channels", "stride", "first weights")
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
                PRESET_MEANINGS[preset],
            )
        )
    return "## Presets of a study\n\n" + table(("`--preset`", "sets", "for"), rows)


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
    (HERE / "mathematics.md").write_text(mathematics(), encoding="utf-8")
