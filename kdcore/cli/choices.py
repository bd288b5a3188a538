"""The options that say what a study is to do, shared by `kdcore study` and `kdcore runs start`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdcore.cli.output import errors
from kdcore.errors import SettingsError
from kdcore.jobs.shelf import resolved
from kdcore.recipes import EVIDENCE, current_name, name_of, recommended
from kdcore.settings import (
    ADDED,
    FROM_THE_TEACHER,
    RECIPES,
    STUDY_PRESETS,
    Hardware,
    Recipe,
    StudySettings,
    limits,
    read_yaml,
    sentence,
    validate,
)

if TYPE_CHECKING:
    from kdcore.data.collection import Collection


def with_limits(name: str) -> str:
    """The help of a number of the recipe, with its range."""
    low, high = limits(Recipe, name)
    return f"{sentence(Recipe, name)} From {low:g} to {high:g}."


PresetOption = Annotated[str, typer.Option(help=f"Where settings start from: {', '.join(STUDY_PRESETS)}.")]
SettingsOption = Annotated[Path | None, typer.Option(help="A YAML file whose settings replace those of the preset.")]
SeedsOption = Annotated[str | None, typer.Option(help="Seeds of the students, for example 0,1,2.")]
RecipeOption = Annotated[
    str | None,
    typer.Option(
        help=f"How the student learns: {', '.join(RECIPES)}. It replaces the preset's and the file's recipe as a whole."
    ),
]
TemperatureOption = Annotated[float | None, typer.Option(help=with_limits("temperature"))]
AlphaOption = Annotated[float | None, typer.Option(help=with_limits("alpha"))]
AddOption = Annotated[
    list[str] | None,
    typer.Option(
        "--add",
        metavar="LOSS=WEIGHT",
        help=f"Another loss beside the main one, for example channels=3; may be repeated. Losses: {', '.join(ADDED)}.",
    ),
]
TestOnOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--test-on", help="Another collection to test all arms on as well, with the same classes; may be repeated."
    ),
]
StepsOption = Annotated[int | None, typer.Option(help="Steps of each student's training.", min=1)]
LabelsOption = Annotated[float | None, typer.Option(help=sentence(StudySettings, "labels"))]
SharesOption = Annotated[
    str | None,
    typer.Option(
        "--labels",
        help=f"{sentence(StudySettings, 'labels')} Several with commas, for example 0.05,0.1,0.25,0.5,1, give the learning curve: one study for each, "
        "with one teacher.",
    ),
]
UpperBoundOption = Annotated[
    bool | None, typer.Option("--upper-bound/--no-upper-bound", help=sentence(StudySettings, "upper_bound"))
]
TeacherStepsOption = Annotated[int | None, typer.Option(help="Steps of the teacher's training.", min=1)]
TeacherOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--teacher",
        help="A network that teaches as it is, instead of one trained here: its name on the shelf (`kdcore teachers list`), .safetensors, or .onnx "
        "of any framework with a .yaml beside it (docs/teachers.md). Several are averaged.",
    ),
]
DeviceOption = Annotated[str | None, typer.Option(help=f"auto, cpu or cuda. {sentence(Hardware, 'device')}")]

DevicesOption = Annotated[
    int | None, typer.Option(help="Processes that share each batch, one for each GPU; started with torchrun.", min=1)
]
NodesOption = Annotated[
    int | None, typer.Option(help="Machines with so many processes each, inside of one Slurm allocation.", min=1)
]


def study_settings(preset: str, file: Path | None, flags: dict[str, Any], unlabelled: bool = False) -> StudySettings:
    """A preset, then a file's settings, then the command's flags.

    Where neither the file nor a flag says anything about the recipe, it is the recommended one.

    Args:
        preset: key of `STUDY_PRESETS`.
        file: a YAML file of settings.
        flags: values by the setting's dotted name; None where the flag was not given.
        unlabelled: whether the data have imagery without labels.

    Raises:
        SettingsError: no such preset, or a setting that is unknown or out of range.
    """
    if preset not in STUDY_PRESETS:
        raise SettingsError(f"--preset {preset}: there is no such preset; choose one of {', '.join(STUDY_PRESETS)}.")
    values = STUDY_PRESETS[preset].model_dump(mode="json")
    given = {} if file is None else read_yaml(file)
    usual = STUDY_PRESETS[preset].recipe
    said = {name for name, value in flags.items() if value is not None}
    if "recipe" not in given and not any(name.partition(".")[0] == "recipe" for name in said):
        usual = RECIPES.get(recommended(preset, unlabelled), usual)
    values["recipe"] = usual.to_change()
    replace(values, given, str(file))
    named = values["teacher"].get("checkpoints") or []
    values["teacher"]["checkpoints"] = [str(resolved(Path(str(name)))) for name in named]
    put_flags(values, flags)
    if flags.get("recipe.alpha") == 0:  # nobody asks the teacher then, whatever the recipe is
        values["recipe"] |= FROM_THE_TEACHER
    return validate(StudySettings, values, str(file) if file else "settings")


def put_flags(values: dict[str, Any], flags: Mapping[str, Any]) -> None:
    """Put the flags that were given over settings, by the settings' dotted names; None where a flag was not given."""
    for name, value in flags.items():
        if value is not None:
            *path, last = name.split(".")
            place = values
            for part in path:
                place = place[part]
            place[last] = value


def tell_recipe(recipe: Recipe) -> None:
    """Say which recipe is used and what speaks for it."""
    name = name_of(recipe)
    errors.print(f"Recipe: {name}. {EVIDENCE[name]}", soft_wrap=True, highlight=False)


def replace(values: dict[str, Any], others: dict[str, Any], where: str) -> None:
    """Put `others` over `values`, mapping by mapping; a network is replaced as a whole."""
    for key, value in others.items():
        if isinstance(values.get(key), dict) and key not in ("network", "student"):
            if not isinstance(value, dict):
                raise SettingsError(f"{where}: {key}: holds {value!r}, but should hold `name: value` lines.")
            replace(values[key], value, where)
        else:
            values[key] = value


def flags_of(
    seeds: str | None,
    temperature: float | None,
    alpha: float | None,
    steps: int | None,
    teacher_steps: int | None,
    device: str | None,
    teachers: list[Path] | None = None,
    labels: float | None = None,
    recipe: str | None = None,
    upper_bound: bool | None = None,
    added: list[str] | None = None,
) -> dict[str, Any]:
    """The flags by the names of the settings that they set; a recipe comes before the flags that change it.

    Raises:
        KdcoreError: no such recipe or loss, seeds or weights that are no numbers, or a teacher's file that cannot be used.
    """
    if recipe is not None:
        recipe, renamed = current_name(recipe)
        if renamed:
            errors.print(renamed, soft_wrap=True, highlight=False)
    if recipe is not None and recipe not in RECIPES:
        raise SettingsError(f"--recipe {recipe}: there is no such recipe; choose one of {', '.join(RECIPES)}.")
    return teacher_flags(teachers) | {
        "recipe": None if recipe is None else RECIPES[recipe].to_change(),
        "seeds": None if seeds is None else parse_seeds(seeds),
        "recipe.temperature": temperature,
        "recipe.alpha": alpha,
        **weights_of(added or []),
        "budget.steps": steps,
        "teacher.budget.steps": teacher_steps,
        "hardware.device": device,
        "labels": labels,
        "upper_bound": upper_bound,
    }


def weights_of(added: list[str]) -> dict[str, float]:
    """'channels=3' by the setting that it sets.

    Raises:
        SettingsError: no such loss, or no number.
    """
    found = {}
    for text in added:
        name, _, weight = text.partition("=")
        if name not in ADDED:
            raise SettingsError(f"--add {text}: there is no loss {name!r}; choose one of {', '.join(ADDED)}.")
        try:
            found[f"recipe.{name}"] = float(weight)
        except ValueError as error:
            raise SettingsError(f"--add {text}: write a loss and its weight, for example {name}=1.") from error
    return found


def parse_shares(text: str | None) -> list[float]:
    """'0.1' or '0.05,0.1,1' as numbers; none of None.

    Raises:
        SettingsError: something else than numbers.
    """
    try:
        return [] if text is None else [float(part) for part in text.split(",")]
    except ValueError as error:
        raise SettingsError(
            f"--labels {text}: write a share from 0 to 1, or several with commas, for example 0.05,0.1,1."
        ) from error


def parse_seeds(text: str) -> list[int]:
    """'0,1,2' as numbers."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise SettingsError(f"--seeds {text}: write whole numbers with commas, for example 0,1,2.") from error


def teacher_flags(files: list[Path] | None) -> dict[str, Any]:
    """The settings of a teacher that exists already; none without files.

    Raises:
        KdcoreError: a file is missing or broken, or nothing says what an ONNX file's channels mean.
    """
    if not files:
        return {}
    files = [resolved(file) for file in files]
    for file in files:
        if file.suffix.lower() not in (".onnx", ".safetensors"):
            raise SettingsError(f"--teacher {file}: must be a .safetensors file written by kdcore, or an .onnx file.")
    from kdcore.teacher.teacher import read_member_info

    infos = [read_member_info(file) for file in files]
    return {
        "teacher.checkpoints": [str(file.absolute()) for file in files],
        "teacher.network": infos[0].network.model_dump(mode="json"),
    }


def check_teacher(settings: StudySettings, collection: "Collection") -> None:
    """Refuse a teacher that exists already and does not fit the data, before anything is written.

    Raises:
        CheckpointError: other classes or bands.
    """
    if settings.teacher.checkpoints:
        from kdcore.teacher.teacher import check_members

        names, numbers = collection.settings.class_names, collection.scenes[0].bands
        check_members(settings.teacher.checkpoints, names, collection.bands, numbers)
