"""`kdcore teachers`: networks that may teach, by name, checked against data before they do."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from kdcore.cli.output import Bars, JsonOption, console, escape, explained, print_json, say
from kdcore.cli.runs import WorkspaceOption
from kdcore.errors import KdcoreError
from kdcore.imports import large_imports
from kdcore.jobs.shelf import Shelf, Shelved, resolved
from kdcore.jobs.workspace import Workspace

app = typer.Typer(
    help="Networks that may teach, by name: --teacher NAME. See docs/teachers.md.",
    no_args_is_help=True,
)


@app.command("add")
@explained
def add_teacher(
    file: Annotated[Path, typer.Argument(help="A .safetensors file written by kdcore, or an .onnx file.")],
    name: Annotated[str, typer.Option(help="By which studies call it.")],
    description: Annotated[
        Path | None,
        typer.Option(help="The YAML that says what an ONNX file's channels mean; default: the one beside it."),
    ] = None,
    licence: Annotated[str, typer.Option(help="Under which it may be used; default: that of the YAML.")] = "",
    source: Annotated[str, typer.Option(help="Where it is from; default: that of the YAML.")] = "",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy a network, with what describes it, onto the shelf of the workspace."""
    with large_imports():
        from kdcore.training.shelving import add

    entry = add(file, name, Shelf(Workspace(workspace)), description, licence, source)
    if as_json:
        print_json(entry.model_dump(mode="json"))
        return
    say(f"{name} is on the shelf: {facts(entry)}. Check it against your data: kdcore teachers check {name} FOLDER")


@app.command("list")
@explained
def list_teachers(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """List the networks on the shelf."""
    entries = Shelf(Workspace(workspace)).list()
    if as_json:
        print_json([entry.model_dump(mode="json") for entry in entries])
        return
    if not entries:
        say("The shelf is empty. Put a network on it: kdcore teachers add FILE --name NAME")
        return
    table = Table(title="Teachers on the shelf", title_justify="left")
    for column in ("Name", "Network", "Parameters", "Classes", "Bands", "m per pixel", "Licence"):
        table.add_column(column, justify="right" if column == "Parameters" else "left", overflow="fold")
    for entry in entries:
        table.add_row(
            entry.name,
            escape(f"{entry.network.architecture}/{entry.network.encoder}"),
            f"{entry.parameters:,}",
            escape(", ".join(entry.classes)),
            ", ".join(map(str, entry.band_numbers)),
            "" if entry.metres_per_pixel is None else f"{entry.metres_per_pixel:g}",
            escape(entry.licence),
        )
    console.print(table)


@app.command("check")
@explained
def check_teacher(
    name: Annotated[Path, typer.Argument(help="A name on the shelf, or a network's file.")],
    folder: Annotated[Path, typer.Argument(help="A collection: a folder with collection.yaml, or the YAML file.")],
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a network against data before it teaches: classes, bands, type, resolution, scaling, and what it knows of the validation part.

    The exit code is 1 where a check fails.
    """
    with large_imports():
        from kdcore.training.shelving import as_values, check

    file = resolved(name, Shelf(Workspace(workspace)))
    if not file.is_file():
        raise KdcoreError(
            f"{file}: there is no such file, and no teacher of this name on the shelf. See: kdcore teachers list"
        )
    with Bars() as bars:
        findings = check(file, folder, device, bars)
    if as_json:
        print_json(as_values(findings))
    else:
        for finding in findings:
            mark = "[green]ok[/]  " if finding.ok else "[red]look[/]"
            console.print(
                f"{mark} [bold]{finding.check}[/]: {escape(finding.sentence)}", soft_wrap=True, highlight=False
            )
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def facts(entry: Shelved) -> str:
    """'19.5 million parameters, classes a, b; bands 1, 2; licence Apache-2.0'."""
    said = f"{entry.parameters:,} parameters, classes {', '.join(entry.classes)}, bands {', '.join(map(str, entry.band_numbers))}"
    return f"{said}, licence {entry.licence or 'not known'}"
