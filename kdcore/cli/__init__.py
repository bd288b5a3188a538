"""The `kdcore` command. Torch is imported only by the commands that compute, and heavy libraries by those that need them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from kdcore.cli import area, data, export, predict, profile, runs, study, sweep, teachers
from kdcore.errors import shortened

UsageError: Any = typer.BadParameter.__base__  # of click, which typer has inside


@contextmanager
def short_errors() -> Iterator[None]:
    """Cut what a usage error echoes, as `KdcoreError` does."""
    try:
        yield
    except UsageError as error:
        error.message = shortened(error.message)
        raise


class Commands(TyperGroup):
    """The commands, whose usage errors are short whatever was typed."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Read what was typed before a command."""
        with short_errors():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        """Read the rest, and do it."""
        with short_errors():
            return super().invoke(ctx)


app = typer.Typer(
    cls=Commands,
    help="Shrink a satellite-image segmentation network by knowledge distillation, and see honestly what the small one kept.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(study.demo)
app.command()(study.study)
app.command()(study.report)
app.command()(study.evaluate)
app.command()(sweep.sweep)
app.command()(predict.predict)
app.command()(export.export)
app.command()(profile.profile)
app.add_typer(data.app, name="data")
app.add_typer(area.app, name="area")
app.add_typer(runs.app, name="runs")
app.add_typer(teachers.app, name="teachers")


def main() -> None:
    """Entry point of the command."""
    sys.exit(app())
