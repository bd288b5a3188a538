"""`kdcore sweep`: search temperature, alpha and more; see what matters."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from kdcore.cli import launching
from kdcore.cli.choices import DeviceOption, TeacherStepsOption, put_flags, replace
from kdcore.cli.launching import LaunchOption, SlurmOption, TasksOption
from kdcore.cli.output import Bars, JsonOption, console, errors, escape, explained, percent, print_json, say
from kdcore.errors import KdcoreError, RunError, SettingsError, Stopped
from kdcore.jobs import sweep_library
from kdcore.jobs.locks import TakenError
from kdcore.jobs.progress import Progress, Stage
from kdcore.jobs.slurm import launched
from kdcore.jobs.study_folder import About
from kdcore.jobs.sweep_folder import SweepFolder, SweepProgress
from kdcore.jobs.sweep_trials import TrialRecord
from kdcore.settings import SweepSettings, read_yaml, sentence, validate

LOOK_EVERY = 0.5  # seconds
PATIENCE = 120.0  # seconds that a stop waits for the workers to save their state
SHOWN = 10  # trials in the table


@explained
def sweep(
    folder: Annotated[
        str, typer.Argument(help="A collection's folder or YAML file, or `demo` for the procedural area.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the sweep. The same command resumes.")],
    trials: Annotated[int | None, typer.Option(help=sentence(SweepSettings, "trials"), min=1)] = None,
    workers: Annotated[int, typer.Option(help="Processes of one thread each.", min=1)] = 2,
    objectives: Annotated[
        str | None, typer.Option(help=f"{sentence(SweepSettings, 'objectives')} Several with commas.")
    ] = None,
    settings: Annotated[Path | None, typer.Option(help="A YAML file: search space, budget, teacher ...")] = None,
    storage: Annotated[str | None, typer.Option(help=sentence(SweepSettings, "storage"))] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of each trial.", min=1)] = None,
    seconds: Annotated[float | None, typer.Option(help=sentence(SweepSettings, "seconds"))] = None,
    teacher_steps: TeacherStepsOption = None,
    confirm: Annotated[int | None, typer.Option(help=sentence(SweepSettings, "confirm"), min=0)] = None,
    device: DeviceOption = None,
    demo_seed: Annotated[int, typer.Option(help="Of the procedural area.", min=0)] = 0,
    launch: LaunchOption = None,
    tasks: TasksOption = 1,
    slurm: SlurmOption = "",
    as_json: JsonOption = False,
) -> None:
    """Search temperature, alpha and more on the validation split, and report whether they matter beside the seed variance.

    loss = (1 - alpha) * task + alpha * T^2 * KL(teacher_T || student_T)

    The workers run on if this terminal is closed. Ctrl-C stops them; the same command goes on, and more --trials extend it.
    Given again on another machine that sees the folder, its workers share the trials. With --launch each process is one worker.
    """
    begun = SweepFolder(out.absolute())
    chosen = sweep_settings(
        begun.settings if begun.settings_file.exists() else SweepSettings(),
        settings,
        {
            "trials": trials,
            "objectives": None if objectives is None else [name.strip() for name in objectives.split(",")],
            "storage": storage,
            "budget.steps": steps,
            "seconds": seconds,
            "teacher.budget.steps": teacher_steps,
            "confirm": confirm,
            "hardware.device": device,
        },
    )
    about = about_data(folder, out, demo_seed)
    if chosen.storage is not None:
        from kdcore.jobs.sweep_storage import open_database

        open_database(chosen.storage)  # a mistyped URL is told before anything is written
    place = SweepFolder.begin(out.absolute(), chosen, about)
    if launch:
        sweep_library.forget_stop(place)
        return launching.launch(launch, "sweep", out, tasks, slurm)
    if launched():
        work_here(place)
    elif place.progress().state != "finished":
        watch(place, workers)
    from kdcore.evaluation.sweep_report import sweep_report

    report = sweep_report(place)
    if as_json:
        print_json(report)
    else:
        show(place, report)


def work_here(place: SweepFolder) -> None:
    """Be one of the sweep's workers, under the first number that is free."""
    from kdcore.jobs.worker import do, named

    while True:
        worker = place.worker(sweep_library.free_workers(place, 1)[0])
        try:
            with Bars() as bars:
                return do(worker, named(worker.WORK), bars)
        except TakenError:
            continue  # another process was faster


def sweep_settings(start: SweepSettings, file: Path | None, flags: Mapping[str, Any]) -> SweepSettings:
    """The defaults or what the sweep began with, then a file's settings, then the command's flags.

    Args:
        start: what holds where nothing else is said.
        file: YAML.
        flags: values by the setting's dotted name; None where the flag was not given.

    Raises:
        SettingsError: a setting that is unknown or out of range.
    """
    values = start.model_dump(mode="json")
    if file is not None:
        found = read_yaml(file)
        space = found.pop("space", {})
        if not isinstance(space, dict):
            raise SettingsError(f"{file}: space: holds {space!r}, but should hold `name: value` lines.")
        values["space"] |= space  # an entry is replaced as a whole: a list in place of a range
        replace(values, found, str(file))
    put_flags(values, flags)
    return validate(SweepSettings, values, str(file) if file else "settings")


def about_data(folder: str, out: Path, demo_seed: int) -> About:
    """What the sweep runs on; a wrong folder is told before anything is written."""
    title = out.name[:200] or "sweep"
    if folder == "demo":
        return About(title=title, demo=demo_seed, created=time.time())
    from kdcore.data.collection import Collection

    return About(title=title, collection=Collection.open(Path(folder)).path, created=time.time())


def watch(place: SweepFolder, workers: int) -> None:
    """Start the workers and show what they do until all is done; Ctrl-C stops them.

    Raises:
        Stopped: by Ctrl-C here, or by somebody else.
        RunError: a worker failed, or all were killed.
    """
    try:
        sweep_library.start(place, workers)
        with Bars() as bars:
            progress = follow(place, bars)
    except KeyboardInterrupt as error:
        stop_and_wait(place)
        raise Stopped(f"{place.path}: was stopped.") from error
    if progress.state == "finished":
        return
    if place.cancel_file.exists():
        raise Stopped(f"{place.path}: was stopped.")
    raise RunError(progress.message or f"{place.path}: its workers were killed. Start the same command again to go on.")


def follow(place: SweepFolder, bars: Bars) -> SweepProgress:
    """Tell of every trial that ends, until no worker lives."""
    told: set[int] = {trial.number for trial in place.trials() if trial.over}
    study = place.study()
    while True:
        trials = place.trials(study)
        progress = place.progress(trials)
        for trial in trials:
            if trial.over and trial.number not in told:
                told.add(trial.number)
                errors.print(escape(in_one_line(trial)), highlight=False, soft_wrap=True)
        told_now = [status.progress for status in place.workers().values()]
        shared = [progress for progress in told_now if progress is not None and progress.trial is None]
        if progress.over or any(trial.state == "running" for trial in trials):
            bars(Progress("", Stage.TRIALS, progress.over, progress.trials))
        elif shared:
            bars(shared[0])
        if progress.state != "running":
            return progress
        time.sleep(LOOK_EVERY)


def stop_and_wait(place: SweepFolder) -> None:
    """Ask the workers to stop and wait until they have saved their state."""
    errors.print("Stopping: the workers save their state.")
    try:
        sweep_library.stop(place)
    except KdcoreError:
        return  # they have just ended
    deadline = time.monotonic() + PATIENCE
    while place.alive and time.monotonic() < deadline:
        time.sleep(0.1)


def in_one_line(trial: TrialRecord) -> str:
    """A trial and what came of it."""
    result = {
        "finished": f"{percent(trial.values.get('quality'))} % mean AP",
        "pruned": "ended early",
        "failed": f"failed: {trial.message}",
    }
    kind = {"search": "", "baseline": " (student alone)", "repeat": f" (repeat, seed {trial.seed})"}[trial.role]
    return f"trial {trial.number}{kind}: {settings_in_words(trial.params)}: {result.get(trial.state, trial.state)}"


def settings_in_words(params: Mapping[str, float | str]) -> str:
    """Temperature and alpha of a trial."""
    shown = (f"{name} {params[name]:.3g}" for name in ("temperature", "alpha") if name in params)
    return ", ".join(shown)


def show(place: SweepFolder, report: dict[str, Any]) -> None:
    """The best trials, and the sentences."""
    finished = [trial for trial in report["trials"] if trial["state"] == "finished"]
    searched = place.settings.space.searched
    table = Table(title=f"Best of {len(finished)} finished trials, validation split", title_justify="left")
    for name in ("Trial", "What", *(entry.replace("_", " ") for entry in searched), "Mean AP", "Parameters", "ms/MPx"):
        table.add_column(name, justify="left" if name == "What" else "right", no_wrap=name == "What")
    for trial in sorted(finished, key=lambda trial: -trial["values"]["quality"])[:SHOWN]:
        params = (trial["params"].get(name, "-") for name in searched)
        table.add_row(
            str(trial["number"]),
            {"search": "", "baseline": "student alone", "repeat": f"repeat, seed {trial['seed']}"}[trial["role"]],
            *(escape(value) if isinstance(value, str) else f"{value:.3g}" for value in params),
            percent(trial["values"]["quality"]),
            f"{trial['values']['size']:,.0f}",
            f"{trial['values']['latency']:.1f}",
        )
    console.print(table)
    say(", ".join(f"{count} {state}" for state, count in report["counts"].items()) + ".")
    say(report["spread"]["sentence"])
    say(report["importance"]["sentence"])
    if report["confirmation"] is not None:
        say(report["confirmation"]["sentence"])
    say(f"Report: {place.report_file}")
