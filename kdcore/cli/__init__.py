"""The `kdcore` command. Torch is imported only by the commands that compute, and heavy libraries by those that need them."""

import sys

import typer

from kdcore.cli import area, data, export, predict, profile, runs, study, sweep, teachers

app = typer.Typer(
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
