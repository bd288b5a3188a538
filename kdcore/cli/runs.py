"""`kdcore runs`: the studies of the workspace, in a terminal what the dashboard does in a browser."""

import secrets
import time
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
from kdcore.cli.output import Bars, JsonOption, console, duration, escape, explained, print_json, say
from kdcore.cli.study import by_rank_zero, in_processes
from kdcore.errors import KdcoreError
from kdcore.jobs import launch
from kdcore.jobs.forecast import Costs, measured_costs, read_probes
from kdcore.jobs.status import Status
from kdcore.jobs.study_folder import StudyFolder
from kdcore.jobs.workspace import VARIABLE, Workspace
from kdcore.ui.stages import doing, message_of

app = typer.Typer(
    help="Studies of the workspace: start, watch, stop, resume, delete. They run on when the terminal is closed.",
    no_args_is_help=True,
)

WorkspaceOption = Annotated[
    Path | None, typer.Option("--workspace", envvar=VARIABLE, help="Folder of the studies; default: studies.")
]
IdArgument = Annotated[str, typer.Argument(help="A study's id, as `kdcore runs list` shows it.")]


@app.command("list")
@explained
def list_studies(
    workspace: WorkspaceOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Archived studies, too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the studies, newest first."""
    place = Workspace(workspace)
    studies = [study for study in place.studies() if everything or not study.archived]
    costs = costs_in(place)
    if as_json:
        print_json([describe(study, costs) for study in studies])
        return
    table = Table(title=f"Studies in {escape(str(place.path))}", title_justify="left")
    for name in ("Id", "Title", "State", "Steps", "Left", "Device", "Made"):
        table.add_column(name, justify="right" if name in ("Steps", "Left") else "left", overflow="fold")
    for study in studies:
        facts = describe(study, costs)
        table.add_row(
            escape(facts["id"]),
            escape(facts["title"]),
            state_in_words(facts),
            f"{facts['step']:,} of {facts['steps']:,}" if facts["steps"] else "-",
            duration(facts["seconds_left"]) if facts["state"] in ("running", "queued") else "-",
            escape(facts["device"]) or "-",
            time.strftime("%Y-%m-%d %H:%M", time.localtime(facts["created"])),
        )
    console.print(table)
    for study in studies:
        if study.problem:
            say(f"{study.id}: {study.problem}")
    if all(study.read_only for study in studies):
        say("Start a study of your own: kdcore runs start demo")


@app.command("show")
@explained
def show(id: IdArgument, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Show one study: its runs, how long it will take, and why it failed if it did."""
    place = Workspace(workspace)
    study = place.study(id)
    facts = describe(study, costs_in(place))
    runs = [] if study.problem else [run.model_dump() for run in study.progress().runs]
    if as_json:
        settings = None if study.problem else study.settings.model_dump(mode="json")
        print_json(facts | {"runs": runs, "settings": settings, "log": study.log_tail()})
        return
    console.print(f"[bold]{escape(study.title)}[/]", highlight=False)
    say(f"{study.path}: {state_in_words(facts)}")
    if facts["message"]:
        say(facts["message"])
    if facts["state"] == "running":
        say(f"{doing(study.job.progress, 'starting')}; left: {duration(facts['seconds_left'])}")
    if runs:
        table = Table()
        for name in ("Run", "State", "Steps", "Training", "In all"):
            table.add_column(name, justify="left" if name in ("Run", "State") else "right")
        for run in runs:
            steps = f"{run['step']:,} of {run['steps']:,}" if run["steps"] else "scored only"
            table.add_row(run["name"], run["state"], steps, duration(run["seconds"]), duration(run["elapsed"]))
        console.print(table)
    if facts["state"] in ("failed", "interrupted"):
        say(study.log_tail(20))
    if study.finished:
        comparison = study.report()["comparison"]
        say(f"Verdict: {comparison['sentence']}")
        if comparison.get("basis"):
            say(comparison["basis"])
        if study.page.exists():
            say(f"Page: {study.page}")


@app.command("start")
@explained
def start(
    data: Annotated[str, typer.Argument(help="A collection's folder or YAML file, or `demo` for the procedural area.")],
    title: Annotated[str | None, typer.Option(help="What to call it; default: the collection's name.")] = None,
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
    demo_seed: Annotated[int, typer.Option(help="Of the procedural area.", min=0)] = 0,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start a study in the background, in the order of the queue of its device."""
    flags = flags_of(seeds, temperature, alpha, steps, teacher_steps, device, teacher, labels, recipe, upper_bound, add)
    place, token = Workspace(workspace), secrets.token_hex(16)
    if data == "demo":
        chosen = study_settings(preset, settings, flags, unlabelled=True)
        name = title or f"Demo area {demo_seed}"
        study = launch.create(place, name, "demo", chosen, token, demo_seed)
    else:
        from kdcore.data.collection import Collection

        collection = Collection.open(Path(data))
        assert collection.path is not None
        chosen = study_settings(preset, settings, flags, unlabelled=bool(collection.unlabelled))
        check_teacher(chosen, collection)
        study = launch.create(place, title or collection.settings.name, collection.path, chosen, token)
    study.start()
    tell_recipe(chosen.recipe)
    if as_json:
        print_json(describe(study, costs_in(place)))
        return
    say(f"Started {study.id}. Watch it: kdcore runs show {study.id}")


@app.command("work")
@explained
@by_rank_zero
def work_on(id: IdArgument, workspace: WorkspaceOption = None) -> None:
    """Work on a study in this process until it is finished, beside others that do; for schedulers."""
    from kdcore.training.worker import work

    study = Workspace(workspace).study(id)
    study.check_usable()
    in_processes(study.settings)
    with Bars() as bars:
        work(study, bars)
    say(f"{study.id} is finished.")


@app.command("stop")
@explained
def stop(id: IdArgument, workspace: WorkspaceOption = None) -> None:
    """Ask a study to save its state and stop; `resume` goes on exactly there."""
    study = Workspace(workspace).study(id)
    study.stop()
    say(f"{study.id} was asked to stop; it saves its state first.")


@app.command("resume")
@explained
def resume(id: IdArgument, workspace: WorkspaceOption = None) -> None:
    """Let a study that was stopped, interrupted or failed go on from its last saved state."""
    study = Workspace(workspace).study(id)
    if study.finished:
        say(f"{study.id} is finished; there is nothing to resume.")
        return
    launch.resume(study)
    say(f"{study.id} goes on. Watch it: kdcore runs show {study.id}")


@app.command("export")
@explained
def export(
    id: IdArgument,
    mlflow: Annotated[
        str, typer.Option("--mlflow", metavar="URI", help="http://HOST:PORT of an MLflow server, or a folder.")
    ],
    workspace: WorkspaceOption = None,
) -> None:
    """Write a finished study into MLflow: parameters, metrics, precision-recall curves, report and checkpoints."""
    from kdcore.deploy.mlflow import export_study

    study = Workspace(workspace).study(id)
    with Bars() as bars:
        new = export_study(study, mlflow, bars)
    if new:
        say(f"{study.id}: {', '.join(new)} can be seen at {mlflow}, in the experiment {study.id}.")
    else:
        say(f"{study.id}: everything was there already.")


@app.command("delete")
@explained
def delete(
    id: IdArgument,
    workspace: WorkspaceOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove a study with its weights, maps and scores. One that runs or waits is refused."""
    study = Workspace(workspace).study(id)
    study.check_deletable()
    if not yes:
        typer.confirm(f"Delete {study.id} ({study.title}) with everything in it?", abort=True)
    study.delete()
    say(f"{study.id} was deleted.")


def costs_in(place: Workspace) -> Costs:
    """What steps of training cost on this machine, as the workspace's studies and probes found it."""
    return measured_costs(place.studies(), read_probes(place))


def describe(study: StudyFolder, costs: Costs) -> dict[str, Any]:
    """What there is to know about a study, as JSON values; a broken one is described as far as it goes."""
    job = study.job
    facts = {
        "id": study.id,
        "title": study.title,
        "path": str(study.path),
        "created": study.created,
        "archived": study.archived,
        "state": job.state,
        "queue_position": position(study, job),
        "message": message_of(job),
        **job.model_dump(mode="json", include={"run", "stage", "done", "total", "device", "seconds"}),
        "step": 0,
        "steps": 0,
        "seconds_left": None,
    }
    if job.state != "broken":
        facts |= study.progress().model_dump(include={"step", "steps"}) | {"seconds_left": seconds_left(study, costs)}
    return facts


def seconds_left(study: StudyFolder, costs: Costs) -> float | None:
    """Until it is finished, by the forecast that the dashboard shows; None where nothing was measured yet."""
    from kdcore.teacher.cost import extent_of, left_of

    if study.finished:
        return 0.0
    try:
        left = left_of(study, costs, extent_of(study.source, study.settings.budget.crop), time.time())
    except KdcoreError:  # it does not say on which data it is to run
        return None
    return None if left is None else left.seconds


def position(study: StudyFolder, job: Status) -> int | None:
    """The place in the queue, 0 = next; None if it does not wait."""
    try:
        return launch.queue_position(study) if job.state == "queued" else None
    except KdcoreError:
        return None


def state_in_words(facts: dict[str, Any]) -> str:
    """The state, and for a waiting study how many are before it."""
    before = facts["queue_position"]
    if before is None:
        return str(facts["state"])
    return f"queued, {before} before it" if before else "queued, next"
