"""`--launch`: the same command by many processes of a scheduler instead of here."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Literal

import typer

from kdcore.cli.output import errors, escape, say
from kdcore.errors import SettingsError
from kdcore.jobs import slurm
from kdcore.jobs.lock_check import submitting

Launch = Literal["slurm", "print"]
LaunchOption = Annotated[
    Launch | None,
    typer.Option(
        "--launch",
        help="slurm: let Slurm run this command as an array of --tasks processes. print: show the script, for another scheduler.",
    ),
]
TasksOption = Annotated[
    int, typer.Option("--tasks", help="Processes that share the work of --launch.", min=1, max=slurm.MOST_TASKS)
]
SlurmOption = Annotated[
    str,
    typer.Option(
        "--slurm", metavar="OPTIONS", help="Of sbatch, for example '--partition=gpu --gpus=1 --time=4:00:00'."
    ),
]


def launch(how: Launch, name: str, path: Path, tasks: int, options: str, nodes: int = 1) -> None:
    """Submit this command, or print the script that does.

    Args:
        how: which of both.
        name: of the command, for Slurm's list.
        path: the folder that all processes work on.
        tasks: how many there are to be.
        options: of sbatch.
        nodes: machines that each process uses.

    Raises:
        SettingsError: Slurm is not here, or refuses the options.
        RunError: the first process does not see this one's lock, or ended without a word.
    """
    folder = slurm.make_folder(path)
    text = slurm.script(slurm.command_of(sys.argv[1:]), f"kdcore-{name}", folder, tasks, options, nodes)
    if how == "print":
        print(text, end="")  # noqa: T201
        return
    with submitting(folder), ThreadPoolExecutor(1) as pool:  # a Ctrl-C does not reach it: a job's number is not lost
        submission = pool.submit(slurm.submit, text, folder, tasks)
        try:
            number = submission.result()
            say(
                f"Submitted: job {number}, {tasks} processes. They need no terminal. Logs: {folder}. Cancel: scancel {number}"
            )
            errors.print(
                "Waiting for the first process, to see whether it sees this one's lock (Ctrl-C: leave it in the queue)"
            )
            machine = slurm.wait_for_first(folder, number, lambda text: errors.print(escape(text), highlight=False))
        except KeyboardInterrupt:
            errors.print(f"It stays in the queue. Cancel: scancel {submission.result()}")
            return
    say(f"The first process runs on {machine}, and sees this one's lock.")


def check_overwrite(overwrite: bool) -> None:
    """Refuse what would let every process, and every new start of one, begin anew.

    Raises:
        SettingsError: always, where it was asked for.
    """
    if overwrite:
        raise SettingsError(
            "--overwrite: every process would begin anew. Remove the earlier results, then use --launch."
        )
