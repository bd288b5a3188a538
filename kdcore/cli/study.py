"""`kdcore demo`, `study`, `report` and `evaluate`: the main job in a terminal."""

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from kdcore.cli.choices import (
    AddOption,
    AlphaOption,
    DeviceOption,
    LabelsOption,
    PresetOption,
    RecipeOption,
    SeedsOption,
    SettingsOption,
    StepsOption,
    TeacherOption,
    TeacherStepsOption,
    TemperatureOption,
    UpperBoundOption,
    check_teacher,
    flags_of,
    study_settings,
    tell_recipe,
)
from kdcore.cli.output import Bars, JsonOption, console, errors, escape, explained, percent, print_json
from kdcore.evaluation.gap import gap_sentence
from kdcore.files import unfinished
from kdcore.jobs.record import record
from kdcore.jobs.study_folder import About, StudyFolder
from kdcore.jobs.workspace import Workspace
from kdcore.ownership import check_replaceable, publish, write_own_json
from kdcore.settings import STUDY_PRESETS

OutOption = Annotated[Path, typer.Option("--out", help="Folder for the study. An unfinished one goes on where it was.")]

OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace whatever has the name of a result, even your own file.")
]


@explained
def demo(
    out: OutOption = Path("studies/demo"),
    seed: Annotated[int, typer.Option(help="Of the procedural area.", min=0)] = 0,
    seeds: Annotated[int, typer.Option(help="Trainings of each student; one gives no verdict.", min=1, max=100)] = 1,
    as_json: JsonOption = False,
    record_into: Annotated[
        Path | None,
        typer.Option("--record", help="Also copy the finished study, as the dashboard's example, into this folder."),
    ] = None,
) -> None:
    """The whole story on a procedural area: teacher, student alone, distilled student, verdict. About five minutes on two cores."""
    about = About(title=f"Demo area {seed}", demo=seed, created=time.time())
    settings = STUDY_PRESETS["demo"].model_copy(update={"seeds": tuple(range(seeds))})
    study = StudyFolder.begin(out.absolute(), settings, about)
    work_in_terminal(study, as_json)
    if record_into is not None:
        size = record(study, record_into.absolute())
        errors.print(f"Recorded {size / 1e6:.1f} MB into {escape(str(record_into))}", soft_wrap=True, highlight=False)


@explained
def study(
    folder: Annotated[Path, typer.Argument(help="A collection: a folder with collection.yaml, or the YAML file.")],
    out: OutOption,
    preset: PresetOption = "quick",
    settings: SettingsOption = None,
    seeds: SeedsOption = None,
    recipe: RecipeOption = None,
    temperature: TemperatureOption = None,
    alpha: AlphaOption = None,
    add: AddOption = None,
    labels: LabelsOption = None,
    upper_bound: UpperBoundOption = None,
    steps: StepsOption = None,
    teacher_steps: TeacherStepsOption = None,
    teacher: TeacherOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train teacher, student alone and distilled student under one budget, for each seed, and compare them.

    With --labels below 1 it also trains the student with all labels and no teacher; --no-upper-bound leaves it out.

    loss = (1 - alpha) * task + alpha * T^2 * KL(teacher_T || student_T); --add gives the teacher's share further terms.

    Ctrl-C saves the state; the same command goes on exactly there. A study in the workspace waits until its device is free.
    """
    from kdcore.data.collection import Collection

    collection = Collection.open(folder)  # a wrong folder is told before anything is written
    flags = flags_of(seeds, temperature, alpha, steps, teacher_steps, device, teacher, labels, recipe, upper_bound, add)
    chosen = study_settings(preset, settings, flags, unlabelled=bool(collection.unlabelled))
    tell_recipe(chosen.recipe)
    if not out.exists():  # a begun study goes on, or is shown, without its teacher's file
        check_teacher(chosen, collection)
    about = About(title=out.name[:200] or "study", collection=collection.path, created=time.time())
    work_in_terminal(StudyFolder.begin(out.absolute(), chosen, about), as_json)


def work_in_terminal(study: StudyFolder, as_json: bool) -> None:
    """Do what a worker does, with bars, and show the report."""
    from kdcore.training.worker import work

    in_workspace = study.path.parent == Workspace().path
    with Bars() as bars:
        values = work(study, bars, in_queue=in_workspace, forget_stop=True)
    show_study(study, values, as_json)


@explained
def report(
    study: Annotated[Path, typer.Argument(help="A study's folder.")],
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare the arms of a finished study, and write one HTML page that opens without a network."""
    from kdcore.evaluation.report import study_report
    from kdcore.views.page import write_page

    files = (study / "report.json", study / "report.html")
    check_replaceable(files, overwrite)
    values = study_report(study)
    write_own_json(files[0], values, overwrite)
    write_page(study, values, overwrite)
    show_study(StudyFolder(study), values, as_json)


def show_study(study: StudyFolder, values: dict[str, Any], as_json: bool) -> None:
    """Print a study's report."""
    if as_json:
        print_json(values)
        return
    table = Table(title=f"Test split of {escape(values['data']['name'])}", title_justify="left")
    for name in ("Arm", "Parameters", "Mean AP", "Mean IoU", "Boundary IoU", "Agrees with teacher", "Steps", "Seconds"):
        table.add_column(name, justify="left" if name == "Arm" else "right")
    for name, arm in values["arms"].items():
        table.add_row(
            {"alone": "student alone", "distilled": "distilled student", "all_labels": "student with all labels"}.get(
                name, name
            ),
            f"{arm['parameters']:,}",
            *(percent(arm.get(key)) for key in ("mean_ap", "mean_iou", "mean_boundary_iou", "agreement_with_teacher")),
            str(arm["steps"]),
            f"{arm['seconds']:.0f}",
        )
    console.print(table)
    alone, distilled = (values["arms"][arm]["steps"] for arm in ("alone", "distilled"))
    if alone != distilled:
        console.print(
            f"The student alone took {alone:,} steps and the distilled one {distilled:,}: both trained for the same time."
        )
    comparison = values["comparison"]
    for key, name in (
        ("mean_ap_points", "mean AP"),
        ("mean_iou_points", "mean IoU"),
        ("boundary_iou_points", "Boundary IoU"),
    ):
        points = comparison[key]
        mean, low, high = ("-" if points[key] is None else f"{points[key]:+.2f}" for key in ("mean", "low", "high"))
        console.print(f"Distilled minus alone, {name}: {mean} points (95 % interval {low} to {high})")
    console.print(f"[bold]{escape(comparison['sentence'])}[/]", soft_wrap=True, highlight=False)
    console.print(escape(gap_sentence(values)), soft_wrap=True, highlight=False)
    console.print(escape(comparison["basis"]), soft_wrap=True, highlight=False)
    advantage = values["teacher_advantage"]
    if advantage is not None and not advantage["clear"]:
        console.print(f"[yellow]{escape(advantage['sentence'])}[/]", soft_wrap=True, highlight=False)
    console.print(f"Page: {escape(str(study.page))}", soft_wrap=True, highlight=False)


@explained
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="A .safetensors file written by kdcore, or an .onnx file.")],
    folder: Annotated[Path, typer.Argument(help="A collection: a folder with collection.yaml, or the YAML file.")],
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    maps: Annotated[Path | None, typer.Option(help="Folder for one GeoTIFF of probabilities a scene.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Score a network on one part of a collection's split."""
    from kdcore.training.run import evaluate_checkpoint

    if maps is not None:
        from kdcore.data.collection import Collection

        scenes = Collection.open(folder).scenes
        check_replaceable((maps / f"{scene.id}.tif" for scene in scenes), overwrite, [scene.image for scene in scenes])
    with Bars() as bars, unfinished(maps) if maps else nullcontext() as place:
        values = evaluate_checkpoint(checkpoint, folder, split, device, place, bars)
        if maps is not None and place is not None:
            publish(((file, maps / file.name) for file in sorted(place.glob("*.tif"))), overwrite)
    if as_json:
        print_json(values)
        return
    table = Table(title=f"{escape(str(checkpoint))} on the {split} part", title_justify="left")
    for name in ("Class", "Share", "AP", "IoU", "F1", "Boundary IoU"):
        table.add_column(name, justify="left" if name == "Class" else "right")
    for name, scores in values["classes"].items():
        table.add_row(
            escape(name), *(percent(scores.get(key)) for key in ("prevalence", "ap", "iou", "f1", "boundary_iou"))
        )
    table.add_row(
        "mean", "", percent(values["mean_ap"]), percent(values["mean_iou"]), "", percent(values["mean_boundary_iou"])
    )
    console.print(table)
