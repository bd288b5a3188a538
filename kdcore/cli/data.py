"""`kdcore data`: look at imagery and labels before a study."""

import os
import sys
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from kdcore.cli.output import JsonOption, console, errors, escape, explained, print_json
from kdcore.ownership import check_replaceable, is_ours, write_own_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcore.data.facts import Inspection, RasterFacts

app = typer.Typer(help="Look at imagery and labels before a study.", no_args_is_help=True)


@app.command("inspect")
@explained
def data_inspect(
    folder: Annotated[
        str,
        typer.Argument(
            help="A folder with images/ and masks/ or labels/, a collection.yaml, or one file; also one at an address "
            "(https://, s3://, or a STAC item) of the hosts in KDCORE_REMOTE_HOSTS."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Where to write the proposed collection.yaml; default: into the folder if it can be written to.",
        ),
    ] = None,
    crop: Annotated[
        int, typer.Option(help="Crop size in pixels that a split by blocks must leave room for.", min=32)
    ] = 128,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that you wrote or edited, without asking.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Tell what a folder holds and what is wrong with it, and propose a collection.yaml.

    A proposal that nobody edited is replaced. An edited one is not: a terminal is asked first, a script needs --overwrite.
    """
    from kdcore.data.inspect import inspect as inspect_data
    from kdcore.data.remote import fetch, is_address
    from kdcore.jobs.quota import available_cores

    with errors.status("Reading ...") as status, TemporaryDirectory(prefix="kdcore-remote-") as fetched:
        place = Path(folder)
        if is_address(folder):
            status.update(f"Fetching {escape(folder)}")
            place = fetch(folder, Path(fetched))
        found = inspect_data(
            place, crop, lambda name: status.update(f"Reading {escape(name)}"), processes=min(8, available_cores())
        )
    written = write_proposal(found, place, out, overwrite)
    if as_json:
        print_json(found.to_dict() | {"written": None if written is None else str(written)})
        return
    print_inspection(found)
    if written is not None:
        console.print(
            f"\nProposed settings are in [bold]{escape(str(written))}[/]. Read them, then: kdcore study {escape(str(written))}",
            soft_wrap=True,
        )


def write_proposal(found: "Inspection", folder: Path, out: Path | None, overwrite: bool) -> Path | None:
    """Write the proposal where it can be written, with `root:` where that is not the folder itself.

    Raises:
        NotOursError: somebody else's file is there, and nobody says that it may be replaced.
    """
    if found.proposal is None:
        return None
    from kdcore.data.propose import proposal_text

    target = out
    if target is None:
        target = folder / "collection.yaml" if os.access(folder, os.W_OK) else Path(f"{found.proposal.name}.yaml")
    edited = target.is_file() and not is_ours(target)
    if edited and not overwrite and sys.stdin.isatty():
        overwrite = typer.confirm(f"{target} was written or edited by a person. Replace it?", err=True)
    check_replaceable([target], overwrite)
    if target.resolve().parent != Path(found.path).resolve():
        found.proposal = found.proposal.model_copy(update={"root": Path(found.path).resolve()})
    write_own_text(target, proposal_text(found), overwrite)
    return target


def image_rows(images: "Sequence[RasterFacts]") -> list[list[str]]:
    """One row for images that are alike; their pixels may differ by a twentieth on the ground, as they do in degrees."""
    groups: dict[tuple[Any, ...], list[RasterFacts]] = {}
    ends: dict[tuple[Any, ...], tuple[float, int]] = {}
    for facts in sorted(images, key=lambda facts: facts.metres_per_pixel or 0):
        alike = (facts.bands, facts.dtype, facts.driver, facts.crs, facts.nodata)
        size = facts.metres_per_pixel or 0
        smallest, number = ends.get(alike, (size, 0))
        if size > 1.05 * smallest:
            smallest, number = size, number + 1
        ends[alike] = smallest, number
        groups.setdefault((*alike, number), []).append(facts)
    rows = []
    for (bands, dtype, driver, crs, nodata, _), members in groups.items():
        shapes = sorted({f"{facts.width} x {facts.height}" for facts in members})
        shape = shapes[0] if len(shapes) == 1 else f"{shapes[0]} ... ({len(shapes)} sizes)"
        sizes = [f"{facts.metres_per_pixel:.3g}" for facts in members if facts.metres_per_pixel is not None]
        ground = "-" if not sizes else sizes[0] if sizes[0] == sizes[-1] else f"{sizes[0]} to {sizes[-1]}"
        rows.append(
            [
                str(len(members)),
                shape,
                str(bands),
                dtype,
                driver,
                crs or "-",
                ground,
                "-" if nodata is None else str(nodata),
            ]
        )
    return rows


def print_inspection(found: "Inspection") -> None:
    """What was found, as tables and sentences."""
    table = Table(title=f"Images in {escape(found.path)}", title_justify="left")
    for name in ("Images", "Size (px)", "Bands", "Type", "Format", "CRS", "m per pixel", "Nodata"):
        table.add_column(name)
    for row in image_rows(found.images):
        table.add_row(*map(escape, row))
    console.print(table)
    if found.unlabelled:
        console.print(f"{len(found.unlabelled)} more images without labels, which only a teacher can use")
    for polygons in found.polygons:
        fields = f"; classes in field {polygons.class_field!r}: {polygons.values}" if polygons.class_field else ""
        console.print(escape(f"{polygons.file}: {polygons.polygons} polygons, {polygons.crs}{fields}"))
    if found.masks:
        kinds = {kind: sum(mask.kind == kind for mask in found.masks) for kind in ("index", "palette", "rgb")}
        console.print("Masks: " + ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count))
    if len(found.scenes) != len(found.images) and found.scenes:
        console.print(escape(f"Scenes: {', '.join(f'{name} ({count} files)' for name, count in found.scenes.items())}"))
    if found.class_pixels:
        shares = Table(title="Share of labelled pixels", title_justify="left")
        shares.add_column("Class")
        for split in found.class_pixels:
            shares.add_column(split, justify="right")
        totals = {split: max(1, sum(pixels.values())) for split, pixels in found.class_pixels.items()}
        for name in next(iter(found.class_pixels.values())):
            shares.add_row(
                escape(name),
                *(f"{100 * pixels[name] / totals[split]:.2f} %" for split, pixels in found.class_pixels.items()),
            )
        console.print(shares)
    for text in found.notes:
        console.print(f"Note: {escape(text)}", soft_wrap=True, highlight=False)
    for text in found.problems:
        console.print(f"[bold red]Problem:[/] {escape(text)}", soft_wrap=True, highlight=False)
    if not found.problems:
        console.print("No problems found.")


@app.command("next")
@explained
def data_next(
    first: Annotated[Path, typer.Argument(metavar="TEACHER_MAP", help="NAME.classes.tif of one network.")],
    second: Annotated[Path, typer.Argument(metavar="STUDENT_MAP", help="That of another one, of the same raster.")],
    out: Annotated[Path, typer.Argument(help="The GeoPackage to write, .gpkg.")],
    tiles: Annotated[int, typer.Option(help="How many.", min=1, max=10_000)] = 10,
    side: Annotated[int, typer.Option(help="Of a tile, pixels.", min=8, max=8192)] = 256,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace your own file of that name, too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Which tiles to label next: where two networks disagree most, spread over the area."""
    from kdcore.inference.label_next import write_next

    chosen = write_next(first, second, out, tiles, side, overwrite)
    if as_json:
        print_json([{"rank": rank} | asdict(tile) for rank, tile in enumerate(chosen, start=1)])
        return
    table = Table(title=f"Label these next ({escape(str(out))})", title_justify="left")
    for name in ("Rank", "Row", "Column", "Other class"):
        table.add_column(name, justify="right")
    for rank, tile in enumerate(chosen, start=1):
        table.add_row(str(rank), f"{tile.row:,}", f"{tile.column:,}", f"{100 * tile.disagreement:.0f} %")
    console.print(table)
