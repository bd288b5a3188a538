"""`kdcore demo`, `study`, `report` and `evaluate`: the main job in a terminal."""

import functools
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from rich.table import Table

from kdcore.cli import launching
from kdcore.cli.choices import (
    AddOption,
    AlphaOption,
    DeviceOption,
    DevicesOption,
    NodesOption,
    PresetOption,
    RecipeOption,
    SeedsOption,
    SettingsOption,
    SharesOption,
    StepsOption,
    TeacherOption,
    TeacherStepsOption,
    TemperatureOption,
    TestOnOption,
    UpperBoundOption,
    check_teacher,
    flags_of,
    parse_shares,
    put_flags,
    study_settings,
    tell_recipe,
)
from kdcore.cli.launching import LaunchOption, SlurmOption, TasksOption, check_overwrite
from kdcore.cli.output import Bars, JsonOption, console, errors, escape, explained, percent, print_json
from kdcore.deploy.folder import DeploymentFolder, deployment_folder
from kdcore.errors import SettingsError
from kdcore.evaluation.gap import gap_sentence
from kdcore.files import unfinished
from kdcore.imports import large_imports
from kdcore.jobs.launch import wait_for_slurm
from kdcore.jobs.naming import begin_study
from kdcore.jobs.record import record
from kdcore.jobs.slurm import launched
from kdcore.jobs.study_folder import About, StudyFolder
from kdcore.jobs.worker import do
from kdcore.jobs.workspace import Workspace
from kdcore.ownership import check_replaceable, publish, write_own_json
from kdcore.settings import STUDY_PRESETS, StudySettings
from kdcore.training.processes import as_started, led_by_rank_zero, start, wants_start

P = ParamSpec("P")
R = TypeVar("R")

OutOption = Annotated[Path, typer.Option("--out", help="Folder for the study. An unfinished one resumes.")]

OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace whatever has the name of a result, even your own file.")
]


def by_rank_zero(command: Callable[P, R]) -> Callable[P, R]:
    """Where torchrun started several processes, do a command in the first of them; the others train with it."""

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        return led_by_rank_zero(lambda: command(*args, **kwargs))

    return wrapper


@explained
@by_rank_zero
def demo(
    out: OutOption = Path("studies/demo"),
    seed: Annotated[int, typer.Option(help="Of the procedural area.", min=0)] = 0,
    seeds: Annotated[int, typer.Option(help="Trainings of each student; one gives no verdict.", min=1, max=100)] = 1,
    as_json: JsonOption = False,
    steps: StepsOption = None,
    teacher_steps: TeacherStepsOption = None,
    record_into: Annotated[
        Path | None,
        typer.Option(
            "--record",
            help="Also export and measure the networks, and copy the finished study, as the dashboard's example, into this folder.",
        ),
    ] = None,
) -> None:
    """The whole story on a procedural area: teacher, student alone, distilled student, verdict. About five minutes on two cores."""
    about = About(title=f"Demo area {seed}", demo=seed, created=time.time())
    values = STUDY_PRESETS["demo"].model_dump()
    put_flags(values, {"seeds": tuple(range(seeds)), "budget.steps": steps, "teacher.budget.steps": teacher_steps})
    settings = in_processes(StudySettings.model_validate(values))
    study = begin_study(out.absolute(), settings, about)
    work_in_terminal(study, as_json)
    if record_into is not None:
        measure_in_terminal(study)
        size = record(study, record_into.absolute())
        errors.print(f"Recorded {size / 1e6:.1f} MB into {escape(str(record_into))}", soft_wrap=True, highlight=False)


@explained
@by_rank_zero
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
    labels: SharesOption = None,
    upper_bound: UpperBoundOption = None,
    steps: StepsOption = None,
    teacher_steps: TeacherStepsOption = None,
    teacher: TeacherOption = None,
    test_on: TestOnOption = None,
    device: DeviceOption = None,
    devices: DevicesOption = None,
    nodes: NodesOption = None,
    launch: LaunchOption = None,
    tasks: TasksOption = 1,
    slurm: SlurmOption = "",
    as_json: JsonOption = False,
) -> None:
    """Train teacher, student alone and distilled student under one budget, for each seed, and compare them.

    With --labels below 1 it also trains the student with all labels and no teacher; --no-upper-bound leaves it out. With several shares, for example
    --labels 0.05,0.1,0.25,0.5,1, it draws the learning curve and says how many labels the teacher is worth.

    loss = (1 - alpha) * task + alpha * T^2 * KL(teacher_T || student_T); --add gives the teacher's share further terms.

    Ctrl-C saves the state; the same command goes on exactly there. A study in the workspace waits until its device is free.
    Given again while it runs, in another terminal or on another machine that sees the folder, it takes runs that are free.
    """
    from kdcore.data.collection import Collection

    collection = Collection.open(folder)  # a wrong folder is told before anything is written
    shares = parse_shares(labels)
    share = shares[0] if len(shares) == 1 else None
    flags = flags_of(seeds, temperature, alpha, steps, teacher_steps, device, teacher, share, recipe, upper_bound, add)
    flags["test_on"] = [str(place) for place in test_on] if test_on else None
    flags |= {"hardware.devices": devices, "hardware.nodes": nodes}
    chosen = study_settings(preset, settings, flags, unlabelled=bool(collection.unlabelled))
    chosen = chosen if launch else in_processes(chosen)
    tell_recipe(chosen.recipe)
    if not out.exists():  # a begun study goes on, or is shown, without its teacher's file
        check_teacher(chosen, collection)
    about = About(title=out.name[:200] or "study", collection=collection.path, created=time.time())
    if len(shares) > 1:
        if launch:
            raise SettingsError(
                "--launch: works with one share of the labels. Give the shares one at a time, or leave out --launch."
            )
        label_curve_in_terminal(out.absolute(), chosen, shares, about, bool(collection.unlabelled), as_json)
        return None
    begun = begin_study(out.absolute(), chosen, about)
    if launch:
        wait_for_slurm(begun)
        return launching.launch(launch, "study", out, tasks, slurm, chosen.hardware.nodes)
    work_in_terminal(begun, as_json)


def in_processes(settings: StudySettings) -> StudySettings:
    """The settings as this process computes them; starts the same command in several processes where they want that.

    Raises:
        typer.Exit: those processes have ended.
    """
    hardware = as_started(settings.hardware)
    if wants_start(hardware):
        raise typer.Exit(start(hardware, ["-m", "kdcore", *sys.argv[1:]]))
    return settings.model_copy(update={"hardware": hardware})


def label_curve_in_terminal(
    out: Path, chosen: StudySettings, shares: list[float], about: About, unlabelled: bool, as_json: bool
) -> None:
    """Train with each share of the labels, with bars, and show the learning curve."""
    with large_imports():
        from kdcore.training.label_curve import run_label_curve
    from kdcore.views.label_curve import label_curve_rows

    with Bars() as bars:
        values = run_label_curve(out, chosen, shares, about, unlabelled, bars)
    if as_json:
        print_json(values)
        return
    rows = label_curve_rows(values)
    table = Table(title="Mean AP on the test split", title_justify="left")
    names = [name for name in rows[0] if name != "Worth"]
    for name in names:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(row[name] for name in names))
    console.print(table)
    for row in rows:
        console.print(f"[bold]{escape(row['Worth'])}[/]", soft_wrap=True, highlight=False)
    console.print(escape(values["basis"]), soft_wrap=True, highlight=False)
    console.print(f"Page: {escape(str(out / 'labels.html'))}", soft_wrap=True, highlight=False)


def work_in_terminal(study: StudyFolder, as_json: bool) -> None:
    """Do what a worker does, with bars, and show the report."""
    from kdcore.training.worker import work

    in_workspace = study.path.parent == Workspace().path
    with Bars() as bars:
        values = work(study, bars, in_queue=in_workspace, forget_stop=launched() is None)
    show_study(study, values, as_json)


def measure_in_terminal(study: StudyFolder) -> None:
    """Export and measure a study's networks, as the Deploy page does, with bars."""
    with large_imports():
        from kdcore.deploy.make import make
    deployment = DeploymentFolder(deployment_folder(Workspace(study.path.parent), study))
    with Bars() as bars:
        do(deployment, make, bars, forget_stop=True)


@explained
def report(
    study: Annotated[Path, typer.Argument(help="A study's folder.")],
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare the arms of a finished study, and write one HTML page that opens offline."""
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
    show_places(values)
    console.print(f"Page: {escape(str(study.page))}", soft_wrap=True, highlight=False)


def show_places(values: dict[str, Any]) -> None:
    """Print mean AP by scene, where there are several, and in the other places that the study was tested on."""
    scenes = [("", scene) for scene in values["scenes"]] if len(values["scenes"]) > 1 else []
    scenes += [(place["name"], scene) for place in values["places"] for scene in place["scenes"]]
    if not scenes:
        return
    arms = list(values["arms"])
    table = Table(title="Mean AP by scene", title_justify="left")
    for name in ("Place", "Scene", "Tiles", *(arm.replace("_", " ") for arm in arms)):
        table.add_column(name, justify="left" if name in ("Place", "Scene") else "right")
    for place, scene in scenes:
        table.add_row(
            escape(place or values["data"]["name"]),
            escape(scene["scene"]),
            str(scene["tiles"]),
            *(percent(scene["mean_ap"].get(arm)) for arm in arms),
        )
    console.print(table)
    for place in values["places"]:
        console.print(
            f"[bold]In {escape(place['name'])}: {escape(place['comparison']['sentence'])}[/]",
            soft_wrap=True,
            highlight=False,
        )


@explained
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="A .safetensors file written by kdcore, or an .onnx file.")],
    folder: Annotated[Path, typer.Argument(help="A collection: a folder with collection.yaml, or the YAML file.")],
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    maps: Annotated[Path | None, typer.Option(help="Folder for one GeoTIFF of probabilities a scene.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    overwrite: OverwriteOption = False,
    launch: LaunchOption = None,
    slurm: SlurmOption = "",
    as_json: JsonOption = False,
) -> None:
    """Score a network on one part of a collection's split."""
    if launch:
        check_overwrite(overwrite)
        return launching.launch(launch, "evaluate", maps or Path(), 1, slurm)
    with large_imports():
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
