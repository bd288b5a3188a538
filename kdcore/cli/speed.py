"""How fast a raster is mapped, on the terminal."""

import time
from typing import TYPE_CHECKING, Any

import rich.progress
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

from kdcore.cli.output import errors, escape
from kdcore.jobs.progress import Progress, Report
from kdcore.ui.stages import stage_in_words

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
