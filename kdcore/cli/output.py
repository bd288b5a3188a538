"""What all commands share: consoles, errors as sentences, progress bars, how fast a raster is mapped, numbers in words."""

import functools
import io
import json
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, ParamSpec, TypeVar

import rich.progress
import typer
from rich import markup
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from kdcore.errors import KdcoreError, Preempted, Stopped, written_out
from kdcore.jobs import slurm
from kdcore.jobs.lock_check import check_locks
from kdcore.jobs.progress import SCORING, Progress, Report
from kdcore.ui.stages import stage_in_words

P = ParamSpec("P")
R = TypeVar("R")

console = Console()
errors = Console(stderr=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of tables.")]


def escape(text: str) -> str:
    """A person's own words for the console: no markup of ours, no control characters."""
    return markup.escape(written_out(text))


def explained(command: Callable[P, R]) -> Callable[P, R]:
    """Print what the user can mend as one sentence, without a traceback, and exit with code 2."""

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # names that are no UTF-8
        try:
            join_array()
            return command(*args, **kwargs)
        except Preempted as error:
            errors.print("Stopped by the scheduler; the state is saved. A new start goes on there.")
            slurm.start_again()
            raise typer.Exit(slurm.AGAIN) from error
        except (Stopped, KeyboardInterrupt) as error:
            errors.print("Stopped. Start the same command again to go on.")
            raise typer.Exit(130) from error
        except KdcoreError as error:
            errors.print(f"[bold red]Error:[/] {markup.escape(str(error))}", soft_wrap=True, highlight=False)
            raise typer.Exit(2) from error
        except OSError as error:
            if error.filename is None:
                raise
            reason = f"{error.strerror or error}. Check the name and your rights, or choose another one."
            errors.print(
                f"[bold red]Error:[/] {escape(str(KdcoreError(error.filename)))}: {reason}",
                soft_wrap=True,
                highlight=False,
            )
            raise typer.Exit(2) from error

    return wrapper


def join_array() -> None:
    """Where this is one of several processes of a scheduler: answer whoever submitted it, and take SIGTERM for a stop.

    Raises:
        RunError: locks do not reach from machine to machine here.
    """
    folder = slurm.launched()
    if folder is not None:
        signal.signal(signal.SIGTERM, preempt)
        check_locks(folder)


def preempt(number: int, frame: object) -> NoReturn:
    """End at a signal of the scheduler's, for what has no state of its own to save."""
    raise Preempted("stopped by the scheduler")


class Bars:
    """Progress bars on a terminal, one line a stage elsewhere; on standard error, so that --json stays clean."""

    def __init__(self) -> None:
        self.bars = rich.progress.Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=errors,
        )
        self.last: Progress | None = None
        self.task: Any = None

    def __call__(self, progress: Progress) -> None:
        """Show how far a stage is; the bar of a scoring goes away with its end."""
        if self.last is None or replace(progress, done=self.last.done) != self.last:
            if self.last is not None:
                self.bars.update(self.task, visible=self.last.stage not in SCORING.values())
            words = escape(stage_in_words(progress))
            self.task = self.bars.add_task(words, total=progress.total)
            if not errors.is_terminal:
                errors.print(words, highlight=False)
        self.last = progress
        self.bars.update(self.task, completed=progress.done, total=progress.total)

    def __enter__(self) -> "Bars":
        if errors.is_terminal:
            self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        if errors.is_terminal:
            self.bars.stop()


def say(text: str) -> None:
    """Print a sentence that may hold a person's own words."""
    console.print(escape(text), soft_wrap=True, highlight=False)


def print_json(values: Any) -> None:
    """Print for programs."""
    print(json.dumps(values, indent=1))  # noqa: T201


def percent(value: float | None) -> str:
    """A share with one decimal, or a dash."""
    return "-" if value is None else f"{100 * value:.1f}"


def duration(seconds: float | None) -> str:
    """Seconds as people say them, or a dash."""
    if seconds is None:
        return "-"
    if seconds < 100:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


if TYPE_CHECKING:
    from kdcore.inference.engines import Engine


class Speed:
    """A bar with MPx/s and the time left; one line every ten seconds where there is no terminal.

    Several processes may map the raster: what is shown is what they reach together.
    """

    def __init__(self, name: str, engine: "Engine") -> None:
        self.name, self.engine = name, engine
        self.progress = rich.progress.Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:.0f} %  {task.fields[speed]:.2f} MPx/s"),
            TimeRemainingColumn(),
            console=errors,
        )
        self.task = self.progress.add_task(f"{escape(name)} ({engine.name})", total=None, speed=0.0)
        self.first: tuple[float, int] | None = None
        self.told = 0.0
        self.facts: dict[str, Any] = {}

    def __call__(self, done: int, total: int) -> None:
        """Show how far it is; speed leaves out what was finished before."""
        now = time.monotonic()
        if self.first is None:
            self.first = now, done
        seconds, pixels = now - self.first[0], done - self.first[1]
        speed = pixels / 1e6 / seconds if seconds > 0 else 0.0
        self.progress.update(self.task, completed=done, total=total, speed=speed)
        if not errors.is_terminal and now - self.told > 10:
            self.told = now
            left = f", {(total - done) / 1e6 / speed:.0f} s left" if speed else ""
            errors.print(f"{escape(self.name)}: {100 * done / total:.0f} %, {speed:.2f} MPx/s{left}", highlight=False)

    def __enter__(self) -> "Speed":
        self.started = time.monotonic()
        if errors.is_terminal:
            self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        if errors.is_terminal:
            self.progress.stop()
        seconds = time.monotonic() - self.started
        pixels = self.progress.tasks[0].completed - (self.first[1] if self.first else 0)
        self.facts = {
            "seconds": round(seconds, 2),
            "megapixels_per_second": round(pixels / 1e6 / max(seconds, 1e-9), 3),
            "device": self.engine.device,
        }


def tell_stages(name: str) -> Report:
    """Names each stage that begins after the network has ended, once."""
    told: list[str] = []

    def tell(progress: Progress) -> None:
        words = stage_in_words(progress)
        if told[-1:] != [words]:
            told.append(words)
            errors.print(f"{escape(name)}: {escape(words)}", highlight=False)

    return tell
