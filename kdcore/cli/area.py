"""`kdcore area`: how many hectares of each class there are, with an interval, from points that somebody labels."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from kdcore.cli.output import JsonOption, console, escape, explained, print_json, say
from kdcore.errors import SettingsError

app = typer.Typer(
    help="Areas of classes with confidence intervals, from a sample of points that you label.", no_args_is_help=True
)


@app.command("sample")
@explained
def sample(
    map_file: Annotated[Path, typer.Argument(metavar="MAP", help="NAME.classes.tif that `kdcore predict` wrote.")],
    out: Annotated[Path, typer.Argument(help="The GeoPackage to write, .gpkg.")],
    points: Annotated[int, typer.Option(help="Points to label, in all.", min=2, max=100_000)] = 300,
    least: Annotated[int, typer.Option(help="Points for each class that the map has, at least.", min=2)] = 50,
    seed: Annotated[int, typer.Option(help="Of the draw.", min=0)] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file, even with labels in it.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Draw points from a map, so many in each class, into a GeoPackage for QGIS.

    Give each point its true class in the field `label`, from imagery that is better than the map's, without looking at the map.
    """
    from kdcore.inference.area_sample import draw

    drawn = draw(map_file, out, points, least, seed, overwrite)
    if as_json:
        print_json({"sample": str(out), "strata": drawn})
        return
    say(f"{out}: {sum(entry['points'] for entry in drawn.values())} points in the layer `points`.")
    for name, entry in drawn.items():
        say(f"  {name}: {entry['points']} points of {entry['hectares']:,.2f} ha on the map")
    say(f"Open it in QGIS, give each point its true class in the field `label`, save, then: kdcore area estimate {out}")


@app.command("estimate")
@explained
def estimate(
    sample: Annotated[Path, typer.Argument(help="The GeoPackage with your labels.")],
    maps: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            help="A map of the same ground to judge, as NAME=FILE; again for each, for example teacher and student.",
        ),
    ] = None,
    confidence: Annotated[float, typer.Option(help="Of the intervals.", min=0.5, max=0.999)] = 0.95,
    as_json: JsonOption = False,
) -> None:
    """Estimate each class's area from the labels, and how right maps of the same ground are."""
    from kdcore.inference.area_sample import estimate as estimate_areas

    found = estimate_areas(sample, parse_maps(maps or []), confidence)
    if as_json:
        print_json(found)
        return
    show(found)


def parse_maps(texts: list[str]) -> dict[str, Path]:
    """'student=a.classes.tif' -> {'student': Path}.

    Raises:
        SettingsError: it is something else, or a name comes twice.
    """
    maps: dict[str, Path] = {}
    for text in texts:
        name, separator, file = text.partition("=")
        if not separator or not name or not file or name in maps:
            raise SettingsError(
                f"--map {text}: should be NAME=FILE, each name once, for example student=out/town.classes.tif."
            )
        maps[name] = Path(file)
    return maps


def show(found: dict[str, Any]) -> None:
    """Tables for people."""
    level = f"{100 * found['confidence']:g} %"
    table = Table(title=f"Hectares, from {found['points']} labelled points", title_justify="left")
    for name in ("Class", "Area", f"{level} interval", *(f"pixels counted, {name}" for name in found["counted"])):
        table.add_column(escape(name), justify="left" if name == "Class" else "right", overflow="fold")
    for name, area in found["areas"].items():
        counts = [f"{hectares[name]:,.2f}" for hectares in found["counted"].values()]
        table.add_row(escape(name), f"{area['value']:,.2f}", f"{area['low']:,.2f} to {area['high']:,.2f}", *counts)
    console.print(table)
    for name, map_found in found["maps"].items():
        accuracy = Table(title=f"{escape(name)}: {share(map_found['overall'])} of the area right", title_justify="left")
        for head in ("Class", "User's accuracy (precision)", "Producer's accuracy (recall)"):
            accuracy.add_column(head, justify="left" if head == "Class" else "right")
        for class_name in found["areas"]:
            accuracy.add_row(
                escape(class_name), share(map_found["users"][class_name]), share(map_found["producers"][class_name])
            )
        console.print(accuracy)


def share(value: dict[str, float | None]) -> str:
    """A share with its interval, in per cent."""
    if value["value"] is None or value["low"] is None or value["high"] is None:
        return "not known"
    return f"{100 * value['value']:.1f} % ({100 * value['low']:.1f} to {100 * min(1.0, value['high']):.1f})"
