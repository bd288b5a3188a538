"""`kdcore profile`: what networks cost to run on this machine."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from kdcore.cli.output import Bars, JsonOption, console, escape, explained, print_json, say
from kdcore.errors import CheckpointError, RunError, SettingsError
from kdcore.imports import large_imports
from kdcore.jobs.progress import Stage, counting


@explained
def profile(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Checkpoints (.safetensors), ONNX files, or a study's folder.", show_default=False),
    ],
    engine: Annotated[
        list[str] | None,
        typer.Option(help="torch, onnxruntime, openvino or openvino-bf16; can be repeated. Default: all at hand."),
    ] = None,
    tile: Annotated[int, typer.Option(help="Side of the tiles in pixels.", min=32)] = 512,
    threads: Annotated[int | None, typer.Option(help="Of the processor; default: all.", min=1)] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure size, speed and memory of networks in every engine, in turn, and name the fastest."""
    with large_imports():
        from kdcore.deploy.profile import fastest, jobs_for, measure, network_size
        from kdcore.inference.engines import BFLOAT16, ENGINES
        from kdcore.inference.quiet_openvino import NO_BFLOAT16, has_bfloat16

    known = (*ENGINES, BFLOAT16)
    unknown = [name for name in engine or () if name not in known]
    if unknown:
        raise SettingsError(f"--engine {unknown[0]}: there is no such engine; choose {', '.join(known)}.")
    chosen = [name for name in known if name in (engine or known)]
    if tile % 32:
        raise SettingsError(f"--tile {tile}: must be a multiple of 32, for example {max(32, tile // 32 * 32)}.")
    files = [file for path in paths for file in network_files(path)]
    left_out = ""
    if BFLOAT16 in chosen and any(file.suffix.lower() == ".onnx" for file in files) and not has_bfloat16():
        if engine:
            raise SettingsError(f"--engine {BFLOAT16}: {NO_BFLOAT16}.")
        chosen.remove(BFLOAT16)
        left_out = f"{BFLOAT16} was left out: {NO_BFLOAT16}."
    sizes = {file: network_size(file) for file in files}
    jobs = [job for file in files for job in jobs_for(file, chosen)]
    with Bars() as bars:
        measured = measure(jobs, tile=tile, threads=threads, progress=counting(bars, Stage.MEASURING_SPEED))
    rows = [
        describe(job.path, sizes[job.path]._asdict(), measured.speeds[job]) for job in jobs if job in measured.speeds
    ]
    if as_json:
        print_json({"tile": tile, "networks": rows, "failed": list(measured.failed.values())})
        return
    table = Table(title=f"On tiles of {tile} px, reading and writing left out", title_justify="left")
    for name in ("Network", "Engine", "Parameters", "MACs/px", "MB", "ms/tile", "MPx/s", "Peak MB", "W"):
        table.add_column(name, justify="left" if name in ("Network", "Engine") else "right", overflow="fold")
    for row in rows:
        table.add_row(
            escape(row["name"]),
            row["engine"],
            f"{row['parameters']:,}",
            f"{row['macs_per_pixel']:,.0f}",
            f"{row['megabytes']:.2f}",
            f"{row['milliseconds']:.1f}",
            f"{row['megapixels_per_second']:.2f}",
            f"{row['peak_mb']:.0f}",
            "-" if row["watts"] is None else f"{row['watts']:.0f}",
        )
    console.print(table)
    for sentence in filter(None, (left_out, *measured.failed.values())):
        say(sentence)
    if not rows:
        raise CheckpointError("Nothing could be measured; see above.")
    best = fastest(list(measured.speeds.values()))[0]
    name = next(row["name"] for row in rows if row["megapixels_per_second"] == best.megapixels_per_second)
    say(f"Fastest: {name} in {best.engine}, {best.megapixels_per_second:.2f} MPx/s on {best.device}.")


def describe(path: Path, size: dict[str, Any], speed: Any) -> dict[str, Any]:
    """One row: names, sizes and what was measured."""
    return {"path": str(path), "name": short_name(path), **size, **speed.model_dump()}


def network_files(path: Path) -> list[Path]:
    """The networks that a path stands for: itself, or those of a study's folder, exported ones too.

    Raises:
        CheckpointError: there is no such file.
        RunError: a folder without networks.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise CheckpointError(f"{path}: there is no such file or folder.")
    found = sorted(path.glob("runs/*/checkpoints/best.safetensors")) + sorted(path.glob("deploy/*.onnx"))
    if not found:
        raise RunError(f"{path}: holds no study with networks. Name checkpoints, ONNX files, or a study's folder.")
    return found


def short_name(path: Path) -> str:
    """A run's name for its checkpoint, else the file's."""
    return path.parents[1].name if path.name == "best.safetensors" and len(path.parents) > 1 else path.name
